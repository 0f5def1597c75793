"""labelme: a JSON file for each photo, with the photo in it or beside it, and perhaps labels.txt.

Later shapes are on top, as on labelme's screen. Lines and points get the widths with which labelme itself draws masks.
"""

import base64
import binascii
import math
from collections import defaultdict
from os.path import normpath
from pathlib import Path

import numpy as np

from ..labels import DataError
from ..reader import read_mask_ids
from .annotated import Annotated, File, Item, Options, as_file
from .class_lists import read_names
from .drawing import Sheet, explain_rest, left_out, number_classes
from .found import SEVERAL, Found, as_written_by, count, json_head, read_json, refuse_several, some, split_of
from .photo_names import find_photos
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
    sheets, used = _sheets(found, contents, ids, annotated)
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


def _sheets(
    found: Found, contents: dict[Path, dict], ids: dict[str, int], annotated: Annotated
) -> tuple[dict[str, Sheet], dict[str, Path]]:
    """Return {photo: regions} and {photo: file}, which has those with wrong regions too."""
    sheets: dict[str, Sheet] = {}
    used: dict[str, Path] = {}
    for (path, content), photos in zip(contents.items(), _photos(found, contents), strict=True):
        where = found.root / path
        if len(photos) == 1:
            name, image = photos[0].as_posix(), as_file(found.root / photos[0])
        elif content["imageData"]:
            name, image = path.with_suffix("").as_posix(), None
        elif photos:
            annotated.pass_over(SEVERAL, [f"{path} ({some(photos)})"])
            continue
        else:
            annotated.pass_over("files whose photo is missing", [f"{path} ({content.get('imagePath')})"])
            continue
        if name in used:
            raise DataError(f"{where} and {found.root / used[name]} both annotate {name}: remove one")
        used[name] = path
        try:
            regions = _regions(content, ids, path, found.root, annotated)
            sheets[name] = Sheet(image or _inside(where), regions, content["size"], str(where))
        except DataError as error:
            annotated.errors.append(str(error))
    return sheets, used


def _photos(found: Found, contents: dict[Path, dict]) -> list[list[Path]]:
    """Return what `find_photos` does, of each file's imagePath.

    If that is not there, the photo beside the file that has its name comes first: people rename both, and imagePath
    stays what it was.
    """
    images = {*found.images}
    beside = defaultdict(list)
    for image in images:
        beside[image.with_suffix("")].append(image)
    names = []
    for path, content in contents.items():
        name = str(content.get("imagePath") or "")
        own = beside[path.with_suffix("")]
        is_there = Path(normpath(path.parent / name.replace("\\", "/"))) in images
        names.append((own[0].name if len(own) == 1 and not is_there else name, path))
    return find_photos(found, names)


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
    """Return a labelme file with checked shapes, and "size", (height, width) or None.

    "imageData", which takes much memory, becomes True or False.
    """
    content = read_json(found.root / path)
    with as_written_by("labelme", found.root / path):
        for shape in content["shapes"]:
            label = shape["label"]
            shape["label"] = "" if label is None else str(label).strip()
            shape["shape_type"] = str(shape.get("shape_type") or "polygon")
            shape["points"] = points_of(shape["points"])
        size = int(content.get("imageHeight") or 0), int(content.get("imageWidth") or 0)
        content["size"] = size if all(size) else None
    content["imageData"] = bool(content.get("imageData"))
    return content


def _inside(path: Path) -> File:
    """Return the photo in a labelme file. Each call reads it anew, because all of them may not fit into memory."""

    def read_photo() -> dict:
        try:
            data = base64.b64decode(read_json(path)["imageData"], validate=False)
        except (binascii.Error, TypeError, ValueError) as error:
            raise DataError(f"{path}: its imageData is damaged") from error
        return {"path": f"imageData of {path}", "bytes": data}

    read_photo()  # a damaged one is an error of this file
    return read_photo


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
