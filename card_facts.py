"""What the card of a model takes from the rooms of data and networks. Light: nothing here loads torch."""

from data_scripts.catalog import data_note
from script_arguments import TrainArguments
from seg_models.names import OWN_TYPES
from seg_runs.card import CardFacts
from seg_runs.parsing import flat, recipe_of


def card_facts() -> CardFacts:
    """What `seg_runs.card.make_card` asks for."""
    arguments = TrainArguments()
    values = flat(arguments)
    return CardFacts({name: values[name] for name in recipe_of(arguments)}, data_note, OWN_TYPES)
