"""Which images a model may have learnt from, itself or through its teachers, by the entries of its configuration."""

from pathlib import Path

from .files import read_json


def may_have_seen(entries: dict, split: str, fold: str | None) -> bool:
    """Whether a model may have been trained on images of a split of its data set.

    entries  the model's config.json, or an entry of its `teachers`
    split    "train", "val" or "test"
    fold     the held-out fold that is the validation split, or None
    """
    if split == "val" and fold is not None:
        return fold != entries.get("fold")
    return split in (entries.get("trained_on") or "train").split("+")


def teachers_that_may_have_seen(config: dict, dataset: str | None, split: str, fold: str | None) -> list[str]:
    """Return the names of a model's teachers that may have been trained on images of a split of `dataset`."""
    return [
        entries["name"]
        for entries in config.get("teachers") or ()
        if entries.get("dataset") == dataset and may_have_seen(entries, split, fold)
    ]


def teachers_note(names: list[str]) -> str:
    """Return what to say of scores on images that these teachers may know."""
    return (
        f"this model learns from {' and '.join(names)}, which may have been trained on the images that are scored: "
        "these scores say little about new images"
    )


def start_note(start: str, dataset: str | None, fold: str | None) -> str | None:
    """Return a warning if the initial weights of a run may know its validation images, else None.

    start    run or model folder; a model on a hub, or a file without a configuration, is not looked into
    dataset  data set of the validation images
    fold     the held-out fold that they are, or None
    """
    found = [path for path in (Path(start, "best", "config.json"), Path(start, "config.json")) if path.is_file()]
    config = read_json(found[0]) if found else {}
    seen = config.get("dataset") == dataset and may_have_seen(config, "val", fold)
    if not seen and not teachers_that_may_have_seen(config, dataset, "val", fold):
        return None
    which = start if seen else f"a teacher of {start}"
    return f"{which} may have been trained on the validation images: the scores of this run say little about new images"
