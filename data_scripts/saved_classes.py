"""What a saved model knows of its user's classes and data, so that it is understood where the data are not.

Two entries of config.json, for data sets whose classes are not in `catalog.py`:

    label_set       source_ids, palette and void_ids of the classes in id2label
    training_data   what classes.yaml or the data set says about the data, and the number of images of each split
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from datasets import DatasetDict

from . import hub_data
from .arguments import SourceOptions
from .catalog import DataNote, data_note, source_of
from .class_file import CLASS_FILE, About, default_palette, read_classes
from .labels import IGNORE_INDEX, DataError, LabelInfo


def describe_data(options: SourceOptions, data: DatasetDict, labels: LabelInfo) -> dict:
    """Return the entries of config.json for a data set with classes of its own; {} for any other."""
    if source_of(options.dataset).labels is not None:
        return {}
    if options.dataset_name is not None:
        about = hub_data.about(options.dataset_name, data)
    else:
        _, about = read_classes(Path(options.dataset_path or options.dataset) / CLASS_FILE)
    facts = {key: value for key, value in asdict(about).items() if value is not None}
    facts["images"] = {split: len(rows) for split, rows in data.items()}
    return {
        "label_set": {
            "source_ids": list(labels.source_ids),
            "palette": [list(color) for color in labels.palette],
            "void_ids": list(labels.void_ids),
        },
        "training_data": facts,
    }


def saved_labels(config: Mapping) -> LabelInfo:
    """Return the label set that a configuration describes. Raises `DataError` if its entries do not fit together.

    A configuration without a `label_set` gets default colours, and its classes are their own ids. So does one whose
    `label_set` is for another number of classes: that of a network fine-tuned elsewhere, from the one it started from.
    """
    names = [name for _, name in sorted((int(i), name) for i, name in config["id2label"].items())]
    saved = config.get("label_set")
    plain = LabelInfo("model", tuple(names), tuple(range(len(names))), default_palette(len(names)), (IGNORE_INDEX,))
    if saved is None:
        return plain
    try:
        ids, void = (tuple(map(_byte, saved[key])) for key in ("source_ids", "void_ids"))
        palette = tuple(tuple(map(_byte, color)) for color in saved["palette"])
        fits = len(ids) == len({*ids}) == len(palette) and {len(color) for color in palette} == {3}
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits or not void or {*ids} & {*void}:
        raise DataError(f"config.json: label_set does not describe the {len(names)} classes of id2label: {saved!r:.80}")
    return LabelInfo("model", tuple(names), ids, palette, void) if len(ids) == len(names) else plain


def _byte(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 255:
        raise ValueError(value)
    return value


def note_of(config: Mapping) -> DataNote:
    """Return what a card says about the data of a model, from its configuration."""
    facts = config.get("training_data")
    if not isinstance(facts, dict):
        return data_note(config.get("dataset"))
    return About(**{key: facts[key] for key in asdict(About()) if isinstance(facts.get(key), str)}).data_note()
