"""Which images a model may have learnt from, itself or through its sources, by the entries of its configuration.

Its sources are its teachers, the models that its weights started from, and the sources of both.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .errors import RunError
from .files import read_json

KEPT = ("dataset", "trained_on", "fold", "held_out", "pretrained")  # what an entry on a source says, besides its name


@dataclass(frozen=True)
class Start:
    """The initial weights of a run.

    name    to be published; "none": they are random
    models  entries of config.json on the model that they come from and on its sources
    """

    name: str = "none"
    models: list[dict] = field(default_factory=list)


def may_have_seen(entries: dict, split: str, held_out: str | None) -> bool:
    """Whether a model may have been trained on images of a split of its data set.

    entries   the model's config.json, or an entry on a source
    split     "train", "val" or "test"
    held_out  which labelled images are the split "val" (`Division.held_out`); None: those that the data set has for it
    """
    if split == "val" and held_out is not None:
        return held_out != entries.get("held_out")
    return split in (entries.get("trained_on") or "train").split("+")


def sources_that_may_have_seen(config: dict, dataset: str | None, split: str, held_out: str | None) -> list[str]:
    """Return the names of a model's sources that may have been trained on images of a split of `dataset`.

    For `split` and `held_out` see `may_have_seen`.
    """
    sources = [*_entries(config, "teachers"), *_entries(config, "started_from")]
    known = (
        entries["name"]
        for entries in sources
        if entries.get("dataset") == dataset and may_have_seen(entries, split, held_out)
    )
    return list(dict.fromkeys(known))


def sources_note(names: list[str]) -> str:
    """Return what to say of scores on images that these sources may know."""
    return (
        f"this model builds on {' and '.join(names)}, which may have been trained on the images that are scored: these "
        "scores say little about new images"
    )


def entry_on(name: str, config: dict) -> dict:
    """Return the entry on a source: its `name`, and what its configuration says of its training."""
    return {"name": name} | {key: config.get(key) for key in KEPT}


def models_behind(start: str, name: str) -> list[dict]:
    """Return entries on the model whose weights a run starts from, and on its sources.

    start  run or model folder; a model on a hub, or a file without a configuration, is not looked into
    name   its name, to be published
    """
    found = [path for path in (Path(start, "best", "config.json"), Path(start, "config.json")) if path.is_file()]
    if not found:
        return []
    config = read_json(found[0])
    for key in ("started_from", "teachers"):
        if not are_entries(_entries(config, key)):
            raise RunError(f"{found[0]}: {key} is {config[key]!r:.80}")
    return each_once([entry_on(name, config), *_entries(config, "started_from"), *_entries(config, "teachers")])


def are_entries(value: object) -> bool:
    """Return whether `value`, read from a file, is a list of entries on sources."""
    if not isinstance(value, list) or not all(isinstance(entry, dict) and "name" in entry for entry in value):
        return False
    return all(isinstance(item, str | None) for entry in value for item in entry.values())


def each_once(entries: Iterable[dict]) -> list[dict]:
    """Return the entries without repetitions, in their order."""
    found = []
    for entry in entries:
        if entry not in found:
            found.append(entry)
    return found


def _entries(config: dict, key: str) -> list[dict]:
    return config.get(key) or []
