"""Find and read the files in which tools list classes beside masks, by id or by colour."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..class_file import read_classes, stated_colors
from ..labels import CITYSCAPES, IGNORE_INDEX, DataError
from .annotated import BACKGROUND, is_background
from .found import Found, by_id, read_json, read_lines, read_text

Color = tuple[int, int, int]
# Forms of lines: the one that most lines of a file have counts, and of several, the first. Names may hold numbers.
COLOR_LINES = [
    re.compile(form.replace("COLOR", r"(?P<color>\d+ \d+ \d+)").replace("NAME", r"(?P<name>(?=[\d ]*[^\d ]).+)"))
    for form in (r"(?P<id>\d{1,5}) COLOR NAME", "COLOR NAME", r"(?P<id>\d{1,5}) NAME COLOR", "NAME COLOR")
]
NUMBERED_LINE = re.compile(r"(\d{1,5})(?:\s*[:=,\t]\s*|\s+)(\S.*)")
LARGEST_ID = 65535


@dataclass(frozen=True)
class ClassList:
    """Names of classes by id and, if the file says so, colours.

    where     the file
    names     {id: name}; ids are the values of index masks, or just the order if `colors` says what the masks hold
    colors    {id: (R, G, B)}
    numbered  whether the file says the ids; if not, they are the order of its lines
    """

    where: str
    names: dict[int, str]
    colors: dict[int, Color]
    numbered: bool = True


def find_class_list(found: Found) -> ClassList | None:
    """Return the list of classes that the source has, or None. Of several kinds, the first in `READERS` counts.

    Lists of one kind that contradict each other are an error.
    """
    for names, read in READERS:
        lists = [read(found.root / path) for path in found.named(*names)]
        for other in lists[1:]:
            if (other.names, other.colors) != (lists[0].names, lists[0].colors):
                raise DataError(f"{lists[0].where} and {other.where} list different classes: make them equal")
        if lists:
            return lists[0]
    return None


def cityscapes_list(where: str) -> ClassList:
    """Return the classes of Cityscapes' label ids. Other ids are called void, which is ignored."""
    names = dict.fromkeys(CITYSCAPES.void_ids, "void")
    names |= dict(zip(CITYSCAPES.source_ids, CITYSCAPES.names, strict=True))
    return ClassList(where, names, dict(zip(CITYSCAPES.source_ids, CITYSCAPES.palette, strict=True)))


def cityscapes_train_list(where: str) -> ClassList:
    """Return the classes of Cityscapes' training ids, which count the classes from 0."""
    return ClassList(where, dict(enumerate(CITYSCAPES.names)), dict(enumerate(CITYSCAPES.palette)))


def _read_labelmap(path: Path) -> ClassList:
    """Read CVAT's labelmap.txt: lines of name:r,g,b:parts:actions."""
    names, colors = {}, {}
    for number, line in enumerate(read_lines(path)):
        name, color, *_ = [*line.split(":"), ""]
        names[number] = name.strip()
        if color.strip():
            colors[number] = _color(color.split(","), path, line)
    return _checked(path, names, colors, numbered=False)


def _read_colors(path: Path) -> ClassList:
    """Read lines with a name and three numbers, in either order, and perhaps ids before them. A header is skipped."""
    lines = [" ".join(re.split(r"[\s,;:]+", line.strip(" \t,;:"))) for line in read_lines(path)]
    while lines and not re.search(r"\d", lines[0]):  # the header
        del lines[0]
    best = max(COLOR_LINES, key=lambda form: sum(bool(form.fullmatch(line)) for line in lines))
    matches = [best.fullmatch(line) for line in lines]
    if None in matches:
        line = lines[matches.index(None)]
        raise DataError(f"{path}: {line!r:.80} is not a name with red, green and blue, written as the other lines")
    rows = [(match["name"], _color(match["color"].split(), path, match[0])) for match in matches]
    ids = [int(match["id"]) for match in matches] if "id" in best.groupindex else []
    return _in_order(path, rows, ids if len({*ids}) == len(ids) else [])


def _read_class_dict(path: Path) -> ClassList:
    """Read a CSV with the columns name, r, g, b, and perhaps id (or index, or value)."""
    rows, ids = [], []
    table = _rows(path)
    column = next((key for key in ("id", "index", "value") if table and key in table[0]), None)
    for row in table:
        name = row.get("name") or row.get("class") or row.get("class_name") or row.get("label") or ""
        rgb = [row.get(short) or row.get(long) or "" for short, long in (("r", "red"), ("g", "green"), ("b", "blue"))]
        rows.append((name, _color(rgb, path, str(row))))
        if column:
            ids.append(_id(row.get(column, ""), path, column))
    return _in_order(path, rows, ids)


def _in_order(path: Path, rows: Sequence[tuple[str, Color]], ids: Sequence[int]) -> ClassList:
    """Return the list of rows (name, colour) with their ids or, without ids, with their places."""
    entries = dict(sorted(by_id(zip(ids, rows, strict=True), path).items())) if ids else dict(enumerate(rows))
    names = {number: name for number, (name, _) in entries.items()}
    return _checked(path, names, {number: color for number, (_, color) in entries.items()}, bool(ids))


def _id(text: str, path: Path, what: str) -> int:
    if not text.isdecimal() or int(text) > LARGEST_ID:
        raise DataError(f"{path}: {what} {text!r:.80} is not a whole number from 0 to {LARGEST_ID}")
    return int(text)


def read_roboflow(path: Path) -> ClassList:
    """Read Roboflow's _classes.csv: the columns Pixel Value and Class."""
    names = []
    for row in _rows(path):
        value, name = row.get("pixel value"), row.get("class")
        if value is None or name is None:
            raise DataError(f"{path} has no columns 'Pixel Value' and 'Class': export 'Semantic Segmentation Masks'")
        names.append((_id(value, path, "pixel value"), name))
    return _checked(path, by_id(names, path), {})


def read_names(path: Path) -> ClassList:
    """Read one name a line. labelme's __ignore__, as the first line, is left out.

    If each line begins with another number and the rest is another name, the numbers are the ids, else the places are.
    """
    lines = read_lines(path)
    if lines and lines[0].lower() == "__ignore__":
        del lines[0]
    numbered = [match.groups() for match in map(NUMBERED_LINE.fullmatch, lines) if match]
    names = {int(number): name for number, name in numbered}
    if len({*names.values()}) < len(lines):
        return _checked(path, dict(enumerate(lines)), {}, numbered=False)
    return _checked(path, dict(sorted(names.items())), {})


def read_id2label(path: Path) -> ClassList:
    """Read {"0": "background", ...}, {"background": 0, ...} or [{"id": 0, "name": ..., "color": [r, g, b]}, ...].

    The entries of the last form may also be values of {"0": ...}.
    """
    content = read_json(path)
    if isinstance(content, dict) and isinstance(content.get("id2label"), dict):
        content = content["id2label"]
    try:
        if isinstance(content, dict):
            ids_first = all(str(key).isdigit() for key in content)
            entries = [(int(key), value) if ids_first else (int(value), key) for key, value in content.items()]
        else:
            entries = [(int(entry.get("id", number)), entry) for number, entry in enumerate(content)]
        names = [(number, _name(entry)) for number, entry in entries]
        colors = {
            number: _color(entry["color"], path, str(entry))
            for number, entry in entries
            if isinstance(entry, dict) and entry.get("color")
        }
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise DataError(f'{path} does not list classes: write {{"0": "background", "1": "road"}}') from error
    numbered = isinstance(content, dict) or all("id" in entry for entry in content)
    return _checked(path, by_id(names, path), colors, numbered)


def _name(entry: object) -> str:
    name = entry["name"] if isinstance(entry, dict) else entry
    if not isinstance(name, (str, int, float)):
        raise TypeError("a name is text")
    return str(name)


def _read_class_file(path: Path) -> ClassList:
    """Read a classes.yaml of our own. 255, which it always ignores, and default colours are not in the list."""
    labels, _ = read_classes(path)
    names = dict(zip(labels.source_ids, labels.names, strict=True)) | dict.fromkeys(labels.void_ids, "void")
    names.pop(IGNORE_INDEX)
    return ClassList(str(path), names, stated_colors(path))


def _rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV as {name of the column in lower case: text}; also with semicolons or tabs."""
    text = read_text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(",;\t", key=first.count)
    lines = io.StringIO("\n".join(text.splitlines()))
    try:
        rows = list(csv.DictReader(lines, delimiter=separator, skipinitialspace=True))
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from error
    return [
        {(key or "").strip().lower(): (value or "").strip() for key, value in row.items() if isinstance(value, str)}
        for row in rows
        if any(value for value in row.values())
    ]


def _color(numbers: Sequence[object], path: Path, line: str) -> Color:
    text = [str(number).strip() for number in numbers]
    if len(text) != 3 or not all(number.isdigit() and int(number) < 256 for number in text):
        raise DataError(f"{path}: {line!r:.80} has no colour of three numbers from 0 to 255")
    return tuple(int(number) for number in text)


def _checked(path: Path, names: dict[int, str], colors: dict[int, Color], numbered: bool = True) -> ClassList:
    if not names:
        raise DataError(f"{path} lists no class: add the classes, or remove the file")
    if nameless := [number for number, name in names.items() if not name.strip()]:
        raise DataError(f"{path}: class {nameless[0]} has no name")
    seen = {}
    for number, color in colors.items():
        if (other := seen.setdefault(color, names[number])) != names[number]:
            raise DataError(f"{path}: {other} and {names[number]} have the same colour {color}: change one")
    return ClassList(str(path), {number: _plain(name) for number, name in names.items()}, colors, numbered)


def _plain(name: str) -> str:
    """Return a name without the underscores that tools put around their own words."""
    return BACKGROUND if is_background(name) and "_" in name else name.strip()


READERS = (
    (("classes.yaml", "classes.yml"), _read_class_file),
    (("labelmap.txt",), _read_labelmap),
    (("class_dict.csv",), _read_class_dict),
    (("_classes.csv",), read_roboflow),
    (("label_colors.txt", "colors.txt"), _read_colors),
    (("id2label.json", "classes.json", "class_names.json", "label_map.json"), read_id2label),
    (("class_names.txt", "classes.txt", "labels.txt", "names.txt", "obj.names", "codes.txt"), read_names),
)
