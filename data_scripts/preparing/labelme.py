"""labelme: a JSON file for each photo, with the photo in it or beside it, and perhaps labels.txt.

Later shapes are on top, as on labelme's screen. Lines and points get the widths with which labelme itself draws masks.
"""

import base64
import binascii
import math
from pathlib import Path

import numpy as np

from ..labels import DataError
from ..reader import read_mask_ids
from .annotated import Annotated, File, Item, Options, as_file
from .class_lists import read_names
from .drawing import Sheet, explain_rest, left_out, number_classes
from .found import SEVERAL, Found, as_written_by, count, json_head, read_json, refuse_several, some, split_of
from .regions import Region, Shape, ellipse, line, pixels, points_of, polygon, rectangle

READS = ("overlap", "empty")
LINE_WIDTH, POINT_WIDTH = 10, 10  # pixels, as in labelme's shape_to_mask
LISTS = ("labels.txt", "class_names.txt", "classes.txt")
FEWEST = {"polygon": 3, "rectangle": 2, "circle": 2, "line": 2, "linestrip": 2, "point": 1, "mask": 2}


def looks_like(found: Found) -> bool:
    return any(_is_labelme(found, path) for path in found.json_files)


def _is_labelme(found: Found, path: Path) -> bool:
    head = json_head(found.root / path)
    return (
        head.startswith("{")
        and '"shapes"' in head
        and ('"version"' in head or '"imagePath"' in head or '"flags"' in head)
    )


def read(found: Found, options: Options) -> Annotated:
    annotated = Annotated("labelme files", [], [])
    files = [path for path in found.json_files if _is_labelme(found, path)]
    annotated.pass_over("JSON files that are not labelme's", sorted({*found.json_files} - {*files}))
    contents = {}
    bad = []
    for path in files:
        try:
            contents[path] = _read(found, path)
        except DataError as error:
            annotated.errors.append(str(error))
            bad.append(path)
    labels = sorted({shape["label"] for content in contents.values() for shape in content["shapes"]} - {""})
    if not labels:
        annotated.refuse_bad()
        raise DataError(f"{some(files)} outline no object: draw polygons in labelme, then run this again")
    listed = [read_names(found.root / path) for path in found.named(*LISTS)[:1]]
    names = list(listed[0].names.values()) if listed else []
    if listed:
        annotated.facts.append(f"classes are those of {listed[0].where}")
        if new := [name for name in labels if name not in names and name != "__ignore__"]:
            annotated.guesses.append(f"{listed[0].where} does not list {some(new)}: added at the end")
    ids, annotated.classes = number_classes([*names, *labels], "labelme")
    annotated.guesses += explain_rest(ids)
    annotated.facts.append("where shapes overlap, the later one is on top, as in labelme")
    sheets: dict[str, Sheet] = {}
    used = {}
    for path, content in contents.items():
        name, image = content["photo"]
        if image is None and (several := found.images_called(name, path)):
            annotated.pass_over(SEVERAL, [f"{path} ({some(several)})"])
            continue
        if image is None:
            annotated.pass_over("files whose photo is missing", [f"{path} ({content.get('imagePath')})"])
            continue
        if name in used:
            raise DataError(f"{found.root / path} and {found.root / used[name]} both annotate {name}: remove one")
        used[name] = path
        try:
            regions = _regions(content, ids, path, found.root, annotated)
            sheets[name] = Sheet(image, regions, content["size"], str(found.root / path))
        except DataError as error:
            annotated.errors.append(str(error))
    omitted = left_out([name for name in sheets if not sheets[name].regions], "without shapes", options, annotated)
    for name, sheet in sheets.items():
        if name not in omitted:
            split = split_of(Path(name).parent) or split_of(used[name].parent)
            annotated.items.append(Item(name, split, sheet.image, sheet.maker(options.overlap or "later")))
    stems = {path.stem for path in bad}  # their photos are not known
    of_bad = {path.as_posix() for path in found.images if path.stem in stems}
    _without_file(found, options, annotated, {*used} | of_bad)
    if not annotated.items:
        annotated.refuse_bad()
        refuse_several(annotated.passed_over)
        raise DataError(f"the photos of the labelme files in {found.root} are missing: put them beside the files")
    annotated.items.sort(key=lambda item: item.name)
    return annotated


def _without_file(found: Found, options: Options, annotated: Annotated, used: set[str]) -> None:
    """Leave out the photos that have no file: they are probably not labelled yet. Or make them all background."""
    alone = [path for path in found.images if path.as_posix() not in used]
    if options.empty != "background":
        annotated.pass_over("photos without a JSON file (--empty background: keep them, all background)", alone)
        return
    for path in alone:
        sheet = Sheet(as_file(found.root / path), [], None, "labelme")
        annotated.items.append(Item(path.as_posix(), split_of(path.parent), sheet.image, sheet.maker("later")))
    if alone:
        annotated.guesses.append(f"photos without a JSON file are all background: {count(alone)}")


def _read(found: Found, path: Path) -> dict:
    """Return a labelme file with checked shapes, "size" (height, width) or None, and "photo" (see `_photo`).

    "photo" replaces "imageData", which takes much memory.
    """
    content = read_json(found.root / path)
    where = found.root / path
    with as_written_by("labelme", where):
        for shape in content["shapes"]:
            label = shape["label"]
            shape["label"] = "" if label is None else str(label).strip()
            shape["shape_type"] = str(shape.get("shape_type") or "polygon")
            shape["points"] = points_of(shape["points"])
        size = int(content.get("imageHeight") or 0), int(content.get("imageWidth") or 0)
        content["size"] = size if all(size) else None
    content["photo"] = _photo(found, path, content)
    content.pop("imageData", None)
    return content


def _photo(found: Found, path: Path, content: dict) -> tuple[str, File | None]:
    """Return the photo's name and file: the one that imagePath names, else the one in imageData, else None."""
    name = str(content.get("imagePath") or "")
    photo = found.image(name, path) if name else None
    if photo is None:
        beside = [each for each in found.images if each.parent == path.parent and each.stem == path.stem]
        photo = beside[0] if len(beside) == 1 else None
    if photo is not None:
        return photo.as_posix(), as_file(found.root / photo)
    if not content.get("imageData"):
        return name, None
    try:
        data = base64.b64decode(content["imageData"], validate=False)
    except (binascii.Error, TypeError, ValueError) as error:
        raise DataError(f"{found.root / path}: its imageData is damaged") from error
    image = {"path": f"imageData of {found.root / path}", "bytes": data}
    return path.with_suffix("").as_posix(), lambda: image


def _regions(content: dict, ids: dict[str, int], path: Path, root: Path, annotated: Annotated) -> list[Region]:
    regions = []
    for number, shape in enumerate(content["shapes"], start=1):
        kind = shape["shape_type"]
        points = shape["points"]
        name = f"{path}: shape {number} ({shape['label']:.40})"
        if not shape["label"]:
            annotated.pass_over("shapes without a label", [name])
        elif kind not in FEWEST:
            annotated.pass_over(f"shapes of the type {kind:.40}", [name])
        elif len(points) < FEWEST[kind]:
            annotated.pass_over("shapes with too few points", [name])
        else:
            with as_written_by("labelme", root / name):
                regions.append(Region(ids[shape["label"]], _shape(kind, points, shape, name)))
    return regions


def _shape(kind: str, points: np.ndarray, shape: dict, name: str) -> Shape:
    if kind == "polygon":
        return polygon([points])
    if kind == "rectangle":
        (left, top), (right, bottom) = points.min(0), points.max(0)  # two opposite corners, or all four
        return rectangle(left, top, right - left, bottom - top)
    if kind == "circle":
        radius = math.dist(points[0], points[1])
        return ellipse(*points[0], radius, radius)
    if kind == "mask":
        return pixels(lambda: _bitmap(shape.get("mask"), name), *points[0])
    return line(points, POINT_WIDTH if kind == "point" else LINE_WIDTH)


def _bitmap(text: object, name: str) -> np.ndarray:
    """Return the pixels of a shape that is stored as an image, in base64."""
    try:
        data = base64.b64decode(text)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} has a damaged mask") from error
    return read_mask_ids({"path": name, "bytes": data}) > 0
