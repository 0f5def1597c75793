"""Decide which classes the written masks hold: those that were found, or those of a corrected classes.yaml.

A first run writes classes.yaml. From the moment that the user changes it, it is the user's: later runs keep it, and the
ids in the masks stay what they were. Only if two of its classes have the same name is it written again, with one class
in their place: its id is that of the first, in the masks too. To start anew, the user deletes classes.yaml.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import yaml

from ..class_file import CLASS_FILE, LONGEST_NAME, About, default_palette, parse_classes
from ..labels import IGNORE_INDEX, DataError, LabelInfo
from .annotated import Annotated, FoundClass, is_background
from .destination import Destination


@dataclass(frozen=True)
class Plan:
    """What is written for each id that a kind's reader gives.

    table      uint8 (256,): id as read -> id in the written masks
    names      {id in the masks, before the user's merging: name in the source}
    merged     {id: id that replaces it}
    labels     the classes for classes.yaml
    about      title and so on of a corrected classes.yaml, else None
    corrected  whether the user has corrected classes.yaml
    rewrite    whether classes.yaml is to be written
    notes      what to tell the user
    """

    table: np.ndarray
    names: dict[int, str]
    merged: dict[int, int]
    labels: LabelInfo
    about: About | None
    corrected: bool
    rewrite: bool
    notes: list[str] = field(default_factory=list)


def plan(annotated: Annotated, destination: Destination, ignore_background: bool) -> Plan:
    """Return what to write. Raises `DataError` if too few classes are left or classes.yaml is wrong."""
    classes = [FoundClass(_clean(entry.name), entry.id, entry.color, entry.ignored) for entry in annotated.classes]
    if ignore_background and not any(is_background(entry.name) for entry in classes if not entry.ignored):
        raise DataError(
            "--ignore_background: no class is called background: leave the flag out, or correct classes.yaml"
        )
    content = destination.corrected_classes()
    if content is None:
        return _fresh(classes, ignore_background)
    return _corrected(classes, destination, content, ignore_background)


def _clean(name: str) -> str:
    """Return a name as classes.yaml can hold it: one line of at most `LONGEST_NAME` characters."""
    printable = "".join(letter if letter.isprintable() else " " for letter in name)
    return " ".join(printable.split())[:LONGEST_NAME].strip() or "unnamed"


def _fresh(classes: Sequence[FoundClass], ignore_background: bool) -> Plan:
    table = np.arange(256, dtype=np.uint8)
    first = {}
    notes = []
    for entry in classes:
        if not entry.ignored and (same := first.setdefault(entry.name, entry)) is not entry:
            table[entry.id] = same.id
            notes.append(f"ids {same.id} and {entry.id} are both called {entry.name}: they are one class, {same.id}")
    kept = [entry for entry in first.values() if not (ignore_background and is_background(entry.name))]
    if len(kept) < 2:
        what = f"only the class {kept[0].name}" if kept else "no class"
        remedy = "leave out --ignore_background" if ignore_background else "label the background, or a second class"
        raise DataError(f"the masks hold {what}, but a network needs two to choose from: {remedy}")
    lower: dict[str, str] = {}
    for name in first:
        if (other := lower.setdefault(name.lower(), name)) != name:
            notes.append(f"{other} and {name} differ only in case: give both one name if they are one class")
    ignored = [entry.id for entry in classes if entry.ignored]
    ignored += [entry.id for entry in first.values() if entry not in kept]
    labels = LabelInfo(
        name=CLASS_FILE,
        names=tuple(entry.name for entry in kept),
        source_ids=tuple(entry.id for entry in kept),
        palette=_palette(kept),
        void_ids=tuple(sorted({*ignored, IGNORE_INDEX})),
    )
    names = {entry.id: entry.name for entry in classes}
    return Plan(table, names, {}, labels, None, False, True, notes)


def _palette(classes: Sequence[FoundClass]) -> tuple[tuple[int, int, int], ...]:
    """Return the given colours, black for a background, and default ones for the rest and for repeated ones."""
    wanted = [entry.color or ((0, 0, 0) if is_background(entry.name) else None) for entry in classes]
    given = {color for color in wanted if color}
    others = iter([color for color in default_palette(len(classes) + len(given)) if color not in given])
    palette: list[tuple[int, int, int]] = []
    for color in wanted:
        palette.append(next(others) if color is None or color in palette else color)
    return tuple(palette)


def _corrected(
    classes: Sequence[FoundClass], destination: Destination, content: bytes, ignore_background: bool
) -> Plan:
    path = destination.root / CLASS_FILE
    content, again = _merge(content)
    labels, about = parse_classes(content, path)
    names = {int(number): name for number, name in destination.record["names"].items()}
    for name, number in zip(labels.names, labels.source_ids, strict=True):
        if ignore_background and is_background(names.get(number, name)):
            raise DataError(
                f"--ignore_background: {path} was corrected and is kept: move id {number} ({name}) to ignore there, or "
                "leave the flag out"
            )
    merged = {int(old): int(new) for old, new in destination.record["merged"].items()} | again
    merged = {old: merged.get(new, new) for old, new in merged.items()}
    table = np.arange(256, dtype=np.uint8)
    ids = {name: number for number, name in reversed(names.items())}
    for entry in classes:
        if entry.ignored and names.get(entry.id) == entry.name:  # several ids may be void, and stay apart
            continue
        if entry.name not in ids:  # new in the source since the first run
            free = [number for number in (entry.id, *range(IGNORE_INDEX)) if number not in names]
            ids[entry.name] = free[0]
            names[free[0]] = entry.name
        table[entry.id] = ids[entry.name]
    for old, new in merged.items():
        table[table == old] = new
    notes = [f"{CLASS_FILE} was corrected, and is kept as it is"]
    if again:
        pairs = ", ".join(f"id {old} became {new}" for old, new in again.items())
        notes = [f"{CLASS_FILE} was corrected: classes of the same name are one class now ({pairs})"]
    return Plan(table, names, merged, labels, about, True, bool(again), notes)


def _merge(content: bytes) -> tuple[bytes, dict[int, int]]:
    """Return a classes.yaml in which classes of the same name are one, and {id: id that replaces it}.

    Anything that is wrong with the file is left for `parse_classes` to report.
    """
    try:
        entries = yaml.load(content.decode("utf-8-sig"), yaml.BaseLoader)  # it makes only text, lists and dicts
        first, moved = {}, {}
        for entry in entries["classes"]:
            same = first.setdefault(entry["name"].strip(), entry)
            if same is not entry:
                moved[int(entry["id"])] = int(same["id"])
    except (yaml.YAMLError, UnicodeError, TypeError, KeyError, ValueError, AttributeError, RecursionError):
        return content, {}
    if not moved:
        return content, {}
    merged = entries | {"classes": list(first.values())}
    return yaml.safe_dump(merged, allow_unicode=True, sort_keys=False).encode(), moved


def unknown_ids(plan: Plan, counts: np.ndarray) -> list[str]:
    """Return a line for each id that the masks hold, int64 (256,) pixels, and classes.yaml does not mention."""
    missing = np.flatnonzero((counts > 0) & ~plan.labels.known_ids).tolist()
    return [
        f"{CLASS_FILE} does not mention id {number} ({plan.names.get(number, 'unnamed')}, {counts[number]} pixels): "
        "add it to classes, or to ignore"
        for number in missing
    ]
