"""Read and write classes.yaml: what the ids in the masks of one's own data set mean.

    title: Road damage          # optional, for the model card
    classes:                    # in the order of the network's outputs
      - name: road
        id: 1                   # value in the masks, 0 to 254
        color: [128, 64, 128]   # optional: in pictures
        weight: 1.2             # optional: in the loss; for all classes or for none
        ground: true            # optional: CopyBlob takes it as ground, which hides nothing
    ignore: [0, 255]            # values in the masks that belong to no class; 255 always is one
    copyblob: ["pothole:road"]  # optional: OBJECT:GROUND
    things: [[car], [rider, bicycle]]  # optional: CopyBlob treats what touches within a group as one object
    licence: CC BY 4.0          # optional, for the model card, as are link and note

Anything else in the file is refused with one line that names the file and the key.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import yaml

from .catalog import UNNAMED, DataNote, unknown_data
from .files import write_whole
from .labels import IGNORE_INDEX, DataError, LabelInfo
from .text_yaml import load_text_yaml, read_start

CLASS_FILE = "classes.yaml"
KEYS = ("title", "classes", "ignore", "copyblob", "things", "licence", "link", "note")
CLASS_KEYS = ("name", "id", "color", "weight", "ground")
LONGEST_NAME, LONGEST_TEXT = 100, 2000  # characters
LARGEST_WEIGHT = 1e6
DARKEST, BRIGHTEST, MOST_VIVID = 30, 92, 90  # lightness (CIELAB L) and chroma of default colours
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_ -]*[A-Za-z0-9]|[A-Za-z]")  # text that needs no quotes


@dataclass(frozen=True)
class About:
    """What the owner of a data set says about it, for model cards. None: not said."""

    title: str | None = None
    licence: str | None = None
    link: str | None = None
    note: str | None = None

    def data_note(self) -> DataNote:
        """Return the text for a card. It claims nothing that the owner did not say."""
        note = unknown_data(self.title or UNNAMED)
        terms = note.note
        if self.licence:
            terms = f"The owner of the images names this licence: {self.licence}. Keep to it for these weights too."
        if self.note:
            terms += f" {self.note}"
        return replace(note, link=self.link, note=terms)


def read_classes(path: Path | str) -> tuple[LabelInfo, About]:
    """Return the label set that a classes.yaml describes, named after the file, and what it says for model cards.

    Classes without a color get one from `default_palette`. Raises `DataError` for anything wrong, in one line that
    names the file, the key and the remedy.
    """
    path = Path(path)
    return parse_classes(read_start(path, f"{path}"), path)


def parse_classes(content: bytes, path: Path | str) -> tuple[LabelInfo, About]:
    """Do what `read_classes` does, from the content of a file. `path` names it in messages."""
    entries = load_text_yaml(content, path)
    if not isinstance(entries, dict):
        raise DataError(f"{path} is not a list of 'key: value' lines: it needs classes, each with a name and an id")
    _check_keys(entries, KEYS, f"{path}")
    classes = entries.get("classes")
    if not classes:
        raise DataError(f"{path}: classes is missing or empty: list each class with its name and id")
    if not isinstance(classes, list):
        raise DataError(f"{path}: classes is not a list: give each class a line such as '- {{name: road, id: 1}}'")
    if len(classes) == 1:
        raise DataError(f"{path}: classes has one class, but a network needs two to choose from: add the background")
    if len(classes) > IGNORE_INDEX:
        raise DataError(f"{path}: classes has {len(classes)} classes: at most {IGNORE_INDEX} are possible")
    rows = [_read_class(entry, number, path) for number, entry in enumerate(classes, start=1)]
    names, ids = [row["name"] for row in rows], [row["id"] for row in rows]
    for key, values in (("name", names), ("id", ids)):
        if twice := _twice(values):
            merging = "; to make one class of two names, run data_scripts.prepare again" if key == "name" else ""
            raise DataError(f"{path}: classes: {key} {twice[0]} is there twice: each class needs its own{merging}")
    return LabelInfo(
        name=str(path),
        names=tuple(names),
        source_ids=tuple(ids),
        palette=_palette(rows, path),
        void_ids=_ignored(entries.get("ignore", []), ids, names, path),
        class_weights=_weights(rows, path),
        copyblob=_rules(entries.get("copyblob", []), names, path),
        ground=tuple(row["name"] for row in rows if row.get("ground")),
        things=_things(entries.get("things", []), names, path),
    ), About(**{key: _text(entries[key], key, path) for key in asdict(About()) if key in entries})


def stated_colors(path: Path | str) -> dict[int, tuple[int, int, int]]:
    """Return {id: colour} of the classes that state one in a classes.yaml that `read_classes` accepts."""
    classes = load_text_yaml(Path(path).read_bytes(), path)["classes"]
    return {int(row["id"]): tuple(map(int, row["color"])) for row in classes if "color" in row}


def _check_keys(entries: dict, known: Sequence[str], where: str) -> None:
    for key in entries:
        if key not in known:
            raise DataError(f"{where}: {key!r:.80} is not a known key: use {', '.join(known)}")


def _read_class(entry: object, number: int, path: Path | str) -> dict:
    """Return the checked values of one entry of `classes`, by key."""
    where = f"{path}: class {number}"
    if not isinstance(entry, dict):
        raise DataError(f"{where} is {entry!r:.80}: give it as 'name: ...' and 'id: ...'")
    _check_keys(entry, CLASS_KEYS, where)
    for key in ("name", "id"):
        if key not in entry:
            raise DataError(f"{where} has no {key}: each class needs a name and an id")
    row = {"name": _line(entry["name"], f"{where}: name", LONGEST_NAME)}
    where += f" ({row['name']})"
    row["id"] = _integer(entry["id"], f"{where}: id")
    if row["id"] == IGNORE_INDEX:
        raise DataError(
            f"{where}: id {IGNORE_INDEX} always means ignored: give the class another id, such as 1; if the masks hold "
            f"only 0 and {IGNORE_INDEX}, python -m data_scripts.prepare then converts them"
        )
    if "color" in entry:
        color = entry["color"]
        if not isinstance(color, list) or len(color) != 3:
            raise DataError(f"{where}: color is {color!r:.80}: give red, green and blue, such as [128, 64, 128]")
        row["color"] = tuple(_integer(value, f"{where}: color") for value in color)
    if "weight" in entry:
        row["weight"] = _weight(entry["weight"], where)
    if "ground" in entry:
        if entry["ground"] not in ("true", "false"):
            raise DataError(f"{where}: ground is {entry['ground']!r:.80}: write true or false")
        row["ground"] = entry["ground"] == "true"
    return row


def _integer(value: object, where: str) -> int:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,3}", value) or int(value) > IGNORE_INDEX:
        raise DataError(f"{where} is {value!r:.80}: give a whole number from 0 to {IGNORE_INDEX}")
    return int(value)


def _weight(value: object, where: str) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = -1.0
    if not 0 < weight <= LARGEST_WEIGHT:
        raise DataError(f"{where}: weight is {value!r:.80}: give a number above 0, such as 1.5")
    return weight


def _line(value: object, where: str, longest: int) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if not text or len(text) > longest or not text.isprintable():
        raise DataError(f"{where} is {value!r:.80}: give one line of text, at most {longest} characters")
    return text


def _text(value: object, key: str, path: Path | str) -> str:
    text = _line(" ".join(value.split()) if isinstance(value, str) else value, f"{path}: {key}", LONGEST_TEXT)
    if key == "link" and not re.fullmatch(r"https?://[^\s()<>\"]+", text):
        raise DataError(f"{path}: link is {text!r:.80}: give an address that begins with https://")
    return text


def _twice(values: Sequence) -> list:
    return [value for i, value in enumerate(values) if value in values[:i]]


def _palette(rows: list[dict], path: Path | str) -> tuple[tuple[int, int, int], ...]:
    given = [row["color"] for row in rows if "color" in row]
    if twice := _twice(given):
        raise DataError(f"{path}: classes: color {list(twice[0])} is there twice: each class needs its own")
    others = iter(color for color in default_palette(IGNORE_INDEX + len(given)) if color not in given)
    return tuple(row["color"] if "color" in row else next(others) for row in rows)


def _weights(rows: list[dict], path: Path | str) -> tuple[float, ...]:
    without = [row["name"] for row in rows if "weight" not in row]
    if without and len(without) < len(rows):
        raise DataError(f"{path}: classes: {without[0]} has no weight, but others have: give one to all or to none")
    return () if without else tuple(row["weight"] for row in rows)


def _ignored(value: object, ids: Sequence[int], names: Sequence[str], path: Path | str) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise DataError(f"{path}: ignore is {value!r:.80}: give a list of ids, such as [0, 255]")
    ignored = [_integer(item, f"{path}: ignore") for item in value]
    if both := sorted({*ids} & {*ignored}):
        raise DataError(f"{path}: ignore: {both[0]} is the id of class {names[ids.index(both[0])]}: remove one of them")
    return tuple(dict.fromkeys([*ignored, IGNORE_INDEX]))


def _rules(value: object, names: Sequence[str], path: Path | str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise DataError(f'{path}: copyblob is {value!r:.80}: give a list of rules, such as ["pothole:road"]')
    for rule in value:
        parts = [part.strip() for part in rule.split(":")] if isinstance(rule, str) else []
        if len(parts) != 2 or not {*parts} <= {*names}:
            raise DataError(f'{path}: copyblob: {rule!r:.80} is not "OBJECT:GROUND" with two names of classes')
    return tuple(value)


def _things(value: object, names: Sequence[str], path: Path | str) -> tuple[tuple[str, ...], ...]:
    example = "give lists of names of classes, such as [[car], [rider, bicycle]]"
    if not isinstance(value, list) or not all(isinstance(group, list) and group for group in value):
        raise DataError(f"{path}: things is {value!r:.80}: {example}")
    members = [name for group in value for name in group]
    for name in members:
        if name not in names:
            raise DataError(f"{path}: things: there is no class {name!r:.80}: {example}")
    if twice := _twice(members):
        raise DataError(f"{path}: things: {twice[0]} is there twice: a class belongs to one group")
    return tuple(map(tuple, value))


@lru_cache(maxsize=4)
def default_palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """Return `count` colours (R, G, B) that are easy to tell apart. Class i has colour i, whatever the count.

    Each colour is, of a grid of 16 levels of red, green and blue, the one that differs most from all before it and
    from black, which marks ignored pixels. The difference is the distance in CIELAB (CIE, 1976). Very dark, very
    bright and glaring colours are left out.
    """
    levels = np.arange(0, 256, 17)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _cielab(grid)
    usable = (lab[:, 0] >= DARKEST) & (lab[:, 0] <= BRIGHTEST) & (np.hypot(lab[:, 1], lab[:, 2]) <= MOST_VIVID)
    grid, lab = grid[usable], lab[usable]
    nearest = np.linalg.norm(lab, axis=1)  # black is the origin of CIELAB
    chosen = []
    for _ in range(count):
        best = int(np.argmax(nearest.round(6)))  # rounded: ties are the same on every machine
        chosen.append(tuple(grid[best].tolist()))
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[best], axis=1))
    return tuple(chosen)


def _cielab(colors: np.ndarray) -> np.ndarray:
    """Return CIELAB coordinates (N, 3) of sRGB colours (N, 3), 0 to 255, for the white of daylight (D65)."""
    values = colors / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # IEC 61966-2-1
    x, y, z = (linear @ to_xyz.T / to_xyz.sum(axis=1)).T
    fx, fy, fz = (np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116) for t in (x, y, z))
    return np.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], axis=1)


def write_classes(
    path: Path | str,
    labels: LabelInfo,
    about: About = About(),
    head: Sequence[str] = (),
) -> None:
    """Write a classes.yaml for the user to read and correct. Replaces the file atomically.

    labels  of these, names, ids, colours, ignored ids, weights, CopyBlob's rules, ground and things are written
    head    lines of comment at the top

    Raises `DataError` if the file cannot be written, or if `read_classes` would refuse it or read something else.
    """
    path = Path(path)
    content = format_classes(labels, about, head).encode(errors="replace")
    read, said = parse_classes(content, path)
    written = ("names", "source_ids", "palette", "class_weights", "copyblob", "things")
    same = all(getattr(read, key) == getattr(labels, key) for key in written)
    sets = {*read.ground} == {*labels.ground} and {*read.void_ids} == {*labels.void_ids, IGNORE_INDEX}
    if not (same and sets and said == about):
        raise DataError(f"{path}: these classes cannot be written to a file: their names or texts would change")
    write_whole(
        path,
        lambda temporary: temporary.write_bytes(content),
        "make room or allow writing there, or choose another folder",
    )


def format_classes(labels: LabelInfo, about: About, head: Sequence[str]) -> str:
    """Return the text of a classes.yaml, one line for each class."""
    lines = [f"# {' '.join(line.split())}" for line in head]
    lines += [f"{key}: {_scalar(value)}" for key, value in asdict(about).items() if value is not None]
    lines += ["classes:  # in the order of the network's outputs; id is the value in the masks, color is for pictures"]
    for i, name in enumerate(labels.names):
        fields = [f"name: {_scalar(name)}", f"id: {labels.source_ids[i]}", f"color: {list(labels.palette[i])}"]
        fields += [f"weight: {labels.class_weights[i]}"] if labels.class_weights else []
        fields += ["ground: true"] if name in labels.ground else []
        lines.append(f"  - {{{', '.join(fields)}}}")
    lines.append(f"ignore: {list(labels.void_ids)}  # values in the masks that belong to no class")
    if labels.copyblob:
        lines.append(f"copyblob: [{', '.join(json.dumps(rule, ensure_ascii=False) for rule in labels.copyblob)}]")
    if labels.things:
        groups = (f"[{', '.join(map(_scalar, group))}]" for group in labels.things)
        lines.append(f"things: [{', '.join(groups)}]")
    return "\n".join(lines) + "\n"


def _scalar(text: str) -> str:
    """Return text in YAML, quoted if any reader could take it for something else."""
    plain = PLAIN.fullmatch(text) and yaml.safe_load(text) == text
    return text if plain else json.dumps(text, ensure_ascii=False)
