"""COCO's annotation files: polygons and run lengths, one file for each split or one for all.

Categories of the same name are one class, across and within files. COCO's own tools know no order of regions.
"""

from collections import Counter, defaultdict
from pathlib import Path

from ..labels import DataError
from .annotated import Annotated, Item, Options, as_file
from .drawing import Sheet, choose_overlap, explain_rest, left_out, number_classes
from .found import EXPORT, SEVERAL, Found, as_written_by, by_id, count, json_head, refuse_several, some, split_of
from .photo_names import find_photos
from .regions import Region, Shape, pixels, points_of, polygon
from .rle import decode_coco

READS = ("overlap", "empty")
KEYS = ("images", "annotations", "categories")
OTHER_KEYS = ('"shapes"', '"imagePath"', '"imgHeight"')  # of labelme and Cityscapes, which have a file for each photo
NO_OUTLINES = {"segments_info", "caption"}  # keys of annotations in panoptic files and in captions
NO_OUTLINE = "annotations without an outline (boxes only)"
STRAY = "annotations of images that the file does not list"
TOO_FEW = "polygons of fewer than 3 points"


def looks_like(found: Found) -> bool:
    return bool(_files(found))


def _files(found: Found) -> dict[Path, dict]:
    """Return {file: content} of the COCO files. Files that clearly are of another tool are not read."""
    heads = {path: json_head(found.root / path) for path in found.json_files}
    paths = {
        path for path, head in heads.items() if head.startswith("{") and not any(key in head for key in OTHER_KEYS)
    }
    paths = [path for path in found.json_files if path in paths and _instances(path) not in paths]
    return {path: content for path in paths if _is_coco(content := found.json(path))}


def _instances(path: Path) -> Path | None:
    """Return the file whose persons a file of COCO's keypoints repeats, or None if it is no such file."""
    name = path.name.removeprefix("person_keypoints_")
    return path.with_name(f"instances_{name}") if name != path.name else None


def _is_coco(content: object) -> bool:
    """Return whether a file has COCO's lists, and annotations that may have outlines: not captions, not panoptic."""
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in KEYS):
        return False
    return not any(isinstance(entry, dict) and NO_OUTLINES & entry.keys() for entry in content["annotations"][:1])


def read(found: Found, options: Options) -> Annotated:
    files = _files(found)
    annotated = Annotated("COCO annotations", [], [])
    repeated = [path for path in found.json_files if _instances(path) in files]
    annotated.pass_over("keypoints of persons that are in the instances file", repeated)
    names = _names(files, found, annotated)
    ids, annotated.classes = number_classes(
        list(dict.fromkeys(name for each in names.values() for name in each.values())), "COCO"
    )
    annotated.guesses += explain_rest(ids)
    sheets: dict[Path, tuple[Sheet, str | None]] = {}
    bad: set[Path] = set()
    for path, content in files.items():
        numbers = {key: ids[name] for key, name in names[path].items()}
        bad |= _read_file(path, content, numbers, found, annotated, sheets)
    sheets = {path: row for path, row in sheets.items() if path not in bad}
    if not sheets:
        annotated.refuse_bad()
        refuse_several(annotated.passed_over)
        raise DataError(_no_photo(files, found))
    without = {str(found.root / path) for path, content in files.items() if not content["annotations"]}
    unlabelled = {path for path, (sheet, split) in sheets.items() if split == "test" and sheet.where in without}
    empty = [path for path, (sheet, _) in sheets.items() if not sheet.regions and path not in unlabelled]
    if not any(sheet.regions for sheet, _ in sheets.values()):
        annotated.refuse_bad()
        if strays := annotated.passed_over.get(STRAY):
            raise DataError(f"no annotation has the image_id of a photo, but {count(strays)}: correct these ids")
        raise DataError(
            f"{some(files)} outline no object in a photo: export polygons or masks"
            + (", not boxes" if NO_OUTLINE in annotated.passed_over else "")
        )
    omitted = left_out(empty, "without annotations", options, annotated)
    sheets = {path: row for path, row in sheets.items() if path not in omitted}
    number = sum(len(sheet.regions) for sheet, _ in sheets.values())
    annotated.facts = [f"{number} regions in {some(files)}"]
    annotated.licence = _licence(files)
    overlap, lines = choose_overlap([sheet for sheet, _ in sheets.values()], options.overlap)
    annotated.guesses += lines
    if unlabelled:
        annotated.facts.append(f"test photos without annotations, which get no masks: {count(unlabelled)}")
    annotated.items = [
        Item(path.as_posix(), split, sheet.image, None if path in unlabelled else sheet.maker(overlap))
        for path, (sheet, split) in sorted(sheets.items())
    ]
    known = {*sheets, *bad, *omitted}
    annotated.pass_over("photos that no annotation file lists", [path for path in found.images if path not in known])
    return annotated


def _no_photo(files: dict[Path, dict], found: Found) -> str:
    """Return that no photo has a name that the files give, and what to do."""
    names = [str(entry["file_name"]) for content in files.values() for entry in content["images"]]
    if not names:
        return f"{some(files)} names no photo: export it again, with images"
    beginning = f"{some(files)} names none of the photos in {found.root}"
    if not found.images:
        return f"{beginning}, which has none: put {some(names, 2)} beside the file or in images/"
    return f"{beginning}: it names {some(names, 2)}, the folder has {some(found.images, 2)}: give them equal names"


def _licence(files: dict[Path, dict]) -> str | None:
    """Return the name of the licence, if the files state one, and only one."""
    lists = [content.get("licenses") for content in files.values()]
    entries = [entry for each in lists if isinstance(each, list) for entry in each if isinstance(entry, dict)]
    names = {" ".join(str(entry.get("name") or "").split())[:100] for entry in entries}
    name = names.pop() if len(names) == 1 else ""
    return name if name and name.isprintable() else None


def _names(files: dict[Path, dict], found: Found, annotated: Annotated) -> dict[Path, dict[object, str]]:
    """Return {file: {category id: name}}, without the empty category that Roboflow puts above the others."""
    names, twice = {}, {}
    for path, content in files.items():
        with as_written_by("COCO", f"categories or annotations of {found.root / path}"):
            rows = [(entry["id"], entry["name"]) for entry in content["categories"]]
            rows = [(number, "" if name is None else str(name).strip()) for number, name in rows]
            categories = by_id(rows, f"categories of {found.root / path}")
            used = [entry.get("category_id") for entry in content["annotations"] if isinstance(entry, dict)]
            groups = {entry.get("supercategory") for entry in content["categories"]}
            top = [entry["id"] for entry in content["categories"] if entry.get("supercategory") in ("none", None, "")]
        for key in top:
            if key not in used and categories[key] in groups and len(categories) > 1:
                name = categories.pop(key)
                if name not in categories.values():
                    annotated.pass_over("categories above others, without annotations", [name])
                else:
                    twice[name] = None
        if nameless := [number for number, name in categories.items() if not name]:
            raise DataError(f"categories of {found.root / path}: {nameless[0]!r:.40} has no name: give it one")
        twice |= {name: None for name, number in Counter(categories.values()).items() if number > 1}
        names[path] = categories
    if twice:
        annotated.guesses.append(f"categories of the same name are one class: {some(twice)}")
    return names


def _read_file(
    path: Path,
    content: dict,
    ids: dict[object, int],
    found: Found,
    annotated: Annotated,
    sheets: dict[Path, tuple[Sheet, str | None]],
) -> set[Path]:
    """Add the photos of an annotation file to `sheets`, {photo: (sheet, split)}. Return those with bad annotations."""
    regions, wrong = _regions(path, content, ids, found, annotated)
    where = str(found.root / path)
    split = split_of(path.with_suffix(""))
    rows = []
    bad = set()
    for entry in content["images"]:
        try:
            with as_written_by("COCO", f"{where}: image {entry!r:.80}"):
                size = (int(entry.get("height") or 0), int(entry.get("width") or 0))
                rows.append((entry["id"], str(entry["file_name"]), regions.get(entry["id"], []), size))
        except DataError as error:
            annotated.errors.append(str(error))
    called = find_photos(found, [(name, path) for _, name, _, _ in rows])
    for (image, name, own, size), photos in zip(rows, called, strict=True):
        if len(photos) > 1:
            annotated.pass_over(SEVERAL, [f"{name} ({some(photos)})"])
        elif not photos:
            annotated.pass_over("photos that are missing", [f"{name} ({len(own)} annotation{'s' * (len(own) != 1)})"])
        elif image in wrong:
            bad.add(photos[0])
        else:
            sheet = Sheet(as_file(found.root / photos[0]), own, size if all(size) else None, where)
            _add(sheet, photos[0], split or split_of(photos[0].parent), sheets)
    known = by_id([row[:2] for row in rows], f"images of {where}")
    strays = [f"{path}: image_id {image!r:.40}" for image, own in regions.items() if image not in known for _ in own]
    annotated.pass_over(STRAY, strays)
    return bad


def _regions(
    path: Path, content: dict, ids: dict[object, int], found: Found, annotated: Annotated
) -> tuple[dict[object, list[Region]], set[object]]:
    """Return {image id: regions} of an annotation file, and the ids of images with bad annotations."""
    regions = defaultdict(list)
    wrong = set()
    for number, entry in enumerate(content["annotations"]):
        name = f"{path}: annotation {entry.get('id', number) if isinstance(entry, dict) else number}"
        image = None
        try:
            with as_written_by("COCO", found.root / name):
                image, own = entry["image_id"], regions[entry["image_id"]]
                if entry["category_id"] not in ids:
                    raise DataError(
                        f"{found.root / name} has category {entry['category_id']!r:.40}, which categories does not "
                        f"list: {EXPORT}"
                    )
                shape, reason = _shape(entry.get("segmentation"))
                if shape is None:
                    annotated.pass_over(reason, [name])
                else:
                    own.append(Region(ids[entry["category_id"]], shape))
        except DataError as error:
            if image is None or image not in wrong:  # a line for each photo
                annotated.errors.append(str(error))
            wrong.add(image)
    return regions, wrong


def _add(sheet: Sheet, photo: Path, split: str | None, sheets: dict[Path, tuple[Sheet, str | None]]) -> None:
    """Add the sheet of a photo to `sheets`. Of two, the one with regions counts. Raises DataError if both have some."""
    if photo in sheets:
        other, _ = sheets[photo]
        if other.regions and sheet.regions:
            both = f"lists {photo} twice" if other.where == sheet.where else f"and {other.where} both annotate {photo}"
            raise DataError(f"{sheet.where} {both}: keep one of them")
        sheet = max(other, sheet, key=lambda each: len(each.regions))
    sheets[photo] = (sheet, split)


def _shape(segmentation: object) -> tuple[Shape | None, str]:
    """Return the shape of an annotation, or None and why it has none."""
    if isinstance(segmentation, dict):
        return pixels(lambda: decode_coco(segmentation), whole=True), ""
    if not segmentation:
        return None, NO_OUTLINE
    rings = [ring for ring in map(points_of, segmentation) if len(ring) >= 3]
    if not rings:
        return None, TOO_FEW
    return polygon(rings), ""
