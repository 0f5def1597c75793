"""Facts about data sets and networks for model cards. This module does not load torch."""

from data_scripts.saved_classes import note_of
from script_arguments import TrainArguments
from seg_models.names import OWN_TYPES
from seg_runs.card import CardFacts
from seg_runs.parsing import flat, recipe_of


def card_facts() -> CardFacts:
    """Return the facts that `seg_runs.card.make_card` needs: default flags, notes on data sets, our model types."""
    arguments = TrainArguments()
    values = flat(arguments)
    return CardFacts({name: values[name] for name in recipe_of(arguments)}, note_of, OWN_TYPES)
