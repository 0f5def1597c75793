"""YOLO segmentation (Ultralytics, Roboflow, CVAT): a text file for each photo, and data.yaml with names and splits.

A line is the id of a class and the corners x, y of a polygon, in shares of the photo's width and height. In the path of
a text file, `labels` takes the place of the last `images` in its photo's path, or it lies beside the photo.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..labels import DataError
from ..listing import name_key
from ..text_yaml import load_text_yaml
from .annotated import GIVE_NAMES, Annotated, Item, Options, as_file
from .class_lists import find_class_list
from .drawing import Sheet, choose_overlap, explain_rest, left_out, number_classes
from .found import SPLITS, Found, as_written_by, count, read_lines, read_text, split_of
from .regions import Region, Shape, polygon

READS = ("overlap", "empty")
OUTLINE = re.compile(r"^[ \t]*\d+(\.0*)?([ \t]+-?[\d.]+(e[-+]?\d+)?){6,}[ \t\r]*$", re.IGNORECASE | re.MULTILINE)
NAMES = re.compile(r"^names\s*:", re.MULTILINE)
SLACK = 0.01  # of width and height: tools round, and Ultralytics takes as much
Line = tuple[int, int, np.ndarray | None]  # its number, the class, and the corners (N, 2), or None for a box


def looks_like(found: Found) -> bool:
    return any(_has(OUTLINE, found.root / path) for path in _label_files(found).values())


def _has(form: re.Pattern, path: Path) -> bool:
    """Return whether a text file has a line of a form. One that cannot be read has none: it may be of another tool."""
    try:
        return bool(form.search(read_text(path)))
    except DataError:
        return False


def _label_files(found: Found) -> dict[Path, Path]:
    """Return {photo: text file} of the photos that have one."""
    texts = {name_key(path.as_posix()): path for path in found.files if path.suffix.lower() == ".txt"}
    files = {}
    for photo in found.images:
        beside = photo.with_suffix(".txt").as_posix()
        for path in (re.sub(r"(.*/|^)images/", r"\1labels/", beside, count=1, flags=re.IGNORECASE), beside):
            if name_key(path) in texts:
                files.setdefault(photo, texts[name_key(path)])
    return files


def read(found: Found, options: Options) -> Annotated:
    annotated = Annotated("YOLO segmentation", [], [])
    config, content = _config(found)
    splits = _splits(found, config, content, annotated)
    files = _label_files(found)
    lines = {}
    for photo in sorted(splits.keys() & files.keys()):
        try:
            lines[photo] = _lines(found.root / files[photo])
        except DataError as error:
            annotated.errors.append(str(error))
    names, where = _names(found, config, content)
    if not names:
        names = {number: f"class_{number}" for number in sorted({line[1] for each in lines.values() for line in each})}
        annotated.guesses.append(f"no data.yaml and no classes.txt names the classes: {GIVE_NAMES}")
    ids, annotated.classes = number_classes([*names.values()], where)
    annotated.guesses += explain_rest(ids)
    sheets = {}
    for photo, rows in lines.items():
        path = found.root / files[photo]
        own = [line for line in rows if line[2] is not None]
        boxes = [f"{files[photo]}: line {number}" for number, _, corners in rows if corners is None]
        annotated.pass_over("boxes, which have no outline", boxes)
        if wrong := [(number, value) for number, value, _ in own if value not in names]:
            annotated.errors.append(f"{path}: line {wrong[0][0]} has class {wrong[0][1]}, which {where} does not name")
        elif boxes and not own:
            annotated.pass_over("photos of which only boxes are labelled", [photo])
        else:
            regions = [Region(ids[names[value]], _shape(corners)) for _, value, corners in own]
            sheets[photo] = Sheet(as_file(found.root / photo), regions, None, str(path))
    _without_outlines(found, options, annotated, sheets, splits, {*files})
    overlap, guesses = choose_overlap([*sheets.values()], options.overlap)
    annotated.guesses += guesses
    number = sum(len(sheet.regions) for sheet in sheets.values())
    if not number:
        annotated.refuse_bad()
        raise DataError(f"no photo that {config} names has outlines: correct its paths")
    annotated.facts.insert(0, f"{number} regions" + (f", classes are those of {where}" if where else ""))
    if isinstance(about := content.get("roboflow"), dict) and isinstance(about.get("license"), str):
        annotated.licence = about["license"] or None
    annotated.items += [
        Item(photo.as_posix(), splits[photo], sheet.image, sheet.maker(overlap)) for photo, sheet in sheets.items()
    ]
    annotated.items.sort(key=lambda item: item.name)
    used = {*files.values()}
    strays = [path for path in found.files if "labels" in path.parts[:-1] and path.suffix == ".txt"]
    annotated.pass_over("label files without a photo", [path for path in strays if path not in used])
    return annotated


def _without_outlines(
    found: Found,
    options: Options,
    annotated: Annotated,
    sheets: dict[Path, Sheet],
    splits: dict[Path, str | None],
    labelled: set[Path],
) -> None:
    """Decide about photos with an empty label file, and about those with none: they are probably not labelled yet."""
    empty = [photo for photo, sheet in sheets.items() if not sheet.regions]
    for photo in left_out(empty, "with an empty label file", options, annotated):
        del sheets[photo]
    alone = [photo for photo in splits if photo not in labelled]
    tests = [photo for photo in alone if splits[photo] == "test"]
    if tests and not any(splits.get(photo) == "test" for photo in labelled):
        annotated.facts.append(f"test photos without labels, which get no masks: {count(tests)}")
        annotated.items += [Item(photo.as_posix(), "test", as_file(found.root / photo), None) for photo in tests]
        alone = [photo for photo in alone if splits[photo] != "test"]
    if options.empty != "background":
        annotated.pass_over("photos without a label file (--empty background: keep them, all background)", alone)
    elif alone:
        sheets |= {photo: Sheet(as_file(found.root / photo), [], None, "YOLO") for photo in alone}
        annotated.guesses.append(f"photos without a label file are all background: {count(alone)}")


def _config(found: Found) -> tuple[Path | None, dict]:
    """Return data.yaml, which may have another name, and its content; None and {} if there is none."""
    configs = {}
    for path in found.files:
        if path.suffix.lower() in (".yaml", ".yml") and _has(NAMES, found.root / path):
            configs[path] = load_text_yaml((found.root / path).read_bytes(), found.root / path)
    configs = {path: content for path, content in configs.items() if isinstance(content, dict)}
    first = min(configs, key=lambda path: len(path.parts), default=None)
    for path, content in configs.items():
        if any(content.get(key) != configs[first].get(key) for key in ("names", *SPLITS)):
            raise DataError(f"{found.root} has {first} and {path}, which differ: name the folder of one data set")
        if "kpt_shape" in content:
            raise DataError(f"{found.root / path} is of keypoints (kpt_shape), not of outlines: export those")
    return first, configs.get(first, {})


def _names(found: Found, config: Path | None, content: dict) -> tuple[dict[int, str], str]:
    """Return {id: name} and the file that lists them; {} and "" if there is none."""
    if config is None:
        listed = find_class_list(found)
        return (listed.names, listed.where) if listed else ({}, "")
    names = content["names"]
    where = f"{found.root / config}"
    rows = names.items() if isinstance(names, dict) else enumerate(names if isinstance(names, list) else ())
    with as_written_by("YOLO", f"{where}: names"):
        by_id = dict(sorted((int(number), name.strip()) for number, name in rows))
    if not by_id or not all(by_id.values()):
        raise DataError(f"{where}: names is {names!r:.80}: give each class a name, such as [road, car]")
    return by_id, where


def _splits(found: Found, config: Path | None, content: dict, annotated: Annotated) -> dict[Path, str | None]:
    """Return {photo: split}, as data.yaml says. The names of folders tell the splits that it lacks."""
    known = {parent for path in found.images for parent in path.parents} | {*found.files}
    splits: dict[Path, str | None] = {}
    for key in (key for key in SPLITS if key in content):
        for value in [content[key]] if isinstance(content[key], str) else content[key]:
            place = _place(str(value), config, known, str(content.get("path", ""))) if value else None
            if place is None:
                annotated.guesses += [f"{config} names {value} ({key}), which is not there"] if value else []
                continue
            photos = {path for path in found.images if place in path.parents}
            if place in found.files:  # a list of photos
                listed = {line: _place(line, place, known) for line in read_lines(found.root / place)}
                photos = {*listed.values()} & {*found.images}
                missing = [line for line, path in listed.items() if path not in photos]
                annotated.pass_over(f"photos that {place} names and are missing", missing)
            for photo in sorted(photos):
                if splits.setdefault(photo, SPLITS[key]) != SPLITS[key]:
                    raise DataError(
                        f"{found.root / config}: {photo} is in {splits[photo]} and in {SPLITS[key]}: remove one of "
                        "them; without val, training holds out a fifth of the photos"
                    )
    given = {*splits.values()}
    for photo in found.images:
        if photo not in splits and (not given or split_of(photo.parent) not in {None, *given}):
            splits[photo] = split_of(photo.parent)
    annotated.pass_over(f"photos that {config} does not name", [path for path in found.images if path not in splits])
    return splits


def _place(name: str, config: Path, known: set[Path], above: str = "") -> Path | None:
    """Return the longest ending of the path `name` below `above` that is there, beside `config` or below the source.

    The beginning is often that of another computer or, as Roboflow's `../train/images`, of another folder. So `images`
    counts alone only if it is all that `name` says.
    """
    own = _parts(name)
    parts = _parts(above) + own
    endings = [Path(*parts[start:]) for start in range(len(parts)) if len(own) < 2 or parts[start:] != ["images"]]
    return next((path for each in endings for path in (config.parent / each, each) if path in known), None)


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"[/\\]+", name.strip()) if part not in ("", ".", "..")]


def _lines(path: Path) -> list[Line]:
    """Return the lines of a label file. Raises `DataError` for the first that is wrong."""
    lines = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if words := line.split():
            try:
                value, *numbers = map(float, words)
            except ValueError as error:
                raise DataError(f"{path}: line {number} is not a class and coordinates: {line!r:.60}") from error
            try:
                lines.append((number, _class(value), _corners(numbers)))
            except ValueError as error:
                raise DataError(f"{path}: line {number} {error}") from error
    return lines


def _class(value: float) -> int:
    if not value.is_integer() or value < 0:
        raise ValueError(f"has the class {value}, which is not a whole number")
    return int(value)


def _corners(numbers: Sequence[float]) -> np.ndarray | None:
    if len(numbers) == 4:
        return None
    if len(numbers) % 2:
        raise ValueError(f"has {len(numbers)} coordinates, which are not pairs of x and y")
    if len(numbers) < 6:
        raise ValueError(f"has {len(numbers) // 2} points: an outline needs 3")
    if outside := [number for number in numbers if not -SLACK <= number <= 1 + SLACK]:
        raise ValueError(f"has the coordinate {outside[0]}: give shares of width and height, from 0 to 1")
    return np.array(numbers).reshape(-1, 2)


def _shape(corners: np.ndarray) -> Shape:
    return lambda height, width: polygon([corners * (width, height)])(height, width)
