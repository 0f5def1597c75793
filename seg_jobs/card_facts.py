"""Facts about data sets and networks for model cards. This module does not load torch."""

from dataclasses import asdict

from data_scripts.saved_classes import note_of
from seg_models.names import OWN_TYPES
from seg_runs.card import CardFacts
from seg_runs.parsing import flat, recipe_of

from .arguments import TrainArguments


def card_facts() -> CardFacts:
    """Return the facts that `seg_runs.card.make_card` needs: default flags, notes on data sets, our model types."""
    arguments = TrainArguments()
    values = flat(arguments)
    defaults = {name: values[name] for name in recipe_of(arguments)}
    return CardFacts(defaults, lambda config: asdict(note_of(config)), OWN_TYPES)
