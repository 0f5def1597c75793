"""The temperatures of a saved model, in its calibration.json: one for each way in which it sees an image."""

from pathlib import Path

from .errors import RunError
from .files import read_json, write_json, writing
from .state import is_number

FILE = "calibration.json"
IRRELEVANT = ("model", "precision", "turn")  # settings of a prediction that do not tell how a model sees an image


def stored_temperature(folder: Path, settings: dict) -> float | None:
    """Return the temperature of the model in `folder` for a prediction with `settings`, or None if there is none.

    Raises RunError if the file is not valid.
    """
    for entry in read_temperatures(folder):
        if relevant(entry["settings"]) == relevant(settings):
            return entry["temperature"]
    return None


def store_temperature(folder: Path, settings: dict, entry: dict) -> Path:
    """Store a temperature for a prediction with `settings`, in place of an earlier one. Returns the file's path.

    entry  has "temperature", and what else is worth knowing about it
    """
    entry = {"settings": relevant(settings), **entry}
    others = [other for other in read_temperatures(folder) if relevant(other["settings"]) != entry["settings"]]
    path = folder / FILE
    with writing(path):
        write_json(path, {"temperatures": [*others, entry]})
    return path


def read_temperatures(folder: Path) -> list[dict]:
    """Return the entries of the file, [] if there is none. Raises RunError if it is not valid."""
    path = folder / FILE
    if not path.exists():
        return []
    entries = read_json(path).get("temperatures")
    if not isinstance(entries, list) or not all(map(is_entry, entries)):
        raise RunError(f"{path} is damaged: delete it, and fit the temperature again with --calibrate")
    return entries


def is_entry(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("settings"), dict):
        return False
    temperature = entry.get("temperature")
    return is_number(temperature) and temperature > 0


def relevant(settings: dict) -> dict:
    """Return the settings that temperatures and scores depend on, as JSON gives them back: lists, no tuples.

    Scales are sorted, because the mean over them does not depend on their order.
    """
    kept = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in settings.items()
        if key not in IRRELEVANT
    }
    scales = kept.get("scales")
    if isinstance(scales, list) and all(map(is_number, scales)):
        kept["scales"] = sorted(scales)
    return kept
