"""Label Studio's JSON export (also JSON-MIN): polygons, brushes, boxes and ellipses, in percent of the photo's size.

Later regions are on top, as on its screen. Of several annotations of a photo that were not cancelled, the one marked as
ground truth counts, or else the latest.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from ..labels import DataError
from ..listing import name_key
from .annotated import Annotated, Item, Options, as_file
from .drawing import Sheet, explain_rest, left_out, number_classes
from .found import SEVERAL, Found, as_written_by, json_head, read_json, refuse_several, some, split_of
from .other_tools import CREATE_ML
from .photo_names import find_photos
from .regions import Region, Shape, ellipse, pixels, points_of, polygon, rectangle
from .rle import decode_label_studio

READS = ("overlap", "empty")
UPLOADS = "/data/upload/"
UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # Label Studio puts this before the names of uploaded files
LABELS = ("polygonlabels", "brushlabels", "rectanglelabels", "ellipselabels")
SHAPES = {"points", "rle", "height", "radiusX"}  # keys of the shapes that <Labels>, also for text and sound, may label
WEB_IMAGE = re.compile(r"\.(jpe?g|png|webp|bmp|tiff?|gif|avif|heic)(\?.*)?$", re.IGNORECASE)


def looks_like(found: Found) -> bool:
    return bool(_files(found))


def _files(found: Found) -> list[Path]:
    heads = {path: json_head(found.root / path) for path in found.json_files}
    marks = ('"annotations":', '"completions":', '"original_width":', '"annotator":', '"annotation_id":')
    heads = {path: head for path, head in heads.items() if head.startswith("[{") and CREATE_ML not in head}
    return [path for path, head in heads.items() if any(mark in head for mark in marks)]


def read(found: Found, options: Options) -> Annotated:
    files = _files(found)
    annotated = Annotated("Label Studio export", [], [], facts=[f"annotations are in {some(files)}"])
    annotated.facts.append("where regions overlap, the later one is on top, as in Label Studio")
    tasks = [(path, task) for path in files for task in _tasks(found.root / path)]
    sheets, others = _read_tasks(tasks, found, annotated)
    if not sheets:
        annotated.refuse_bad()
        refuse_several(annotated.passed_over)
        names = [*filter(None, (_image_name(task) for _, task in tasks))]
        if not names:
            raise DataError(f"the tasks of {some(files)} name no photo: export tasks of one image each")
        raise DataError(
            f"none of the photos in {some(files)} is in {found.root}: put them beside the file; it names "
            f"{some(names, 2)}"
        )
    labels = sorted({label for results, _ in sheets.values() for result in results for label in _labels(result)[:1]})
    ids, annotated.classes = number_classes(labels, "Label Studio")
    annotated.guesses += explain_rest(ids)
    drawn: dict[Path, Sheet] = {}
    for photo, (results, path) in sorted(sheets.items()):
        try:
            regions, size = _regions(results, ids, f"{found.root / path}: {photo.name}", annotated)
            drawn[photo] = Sheet(as_file(found.root / photo), regions, size, str(found.root / path))
        except DataError as error:
            annotated.errors.append(str(error))
    omitted = left_out([photo for photo in drawn if not drawn[photo].regions], "without regions", options, annotated)
    annotated.items = [
        Item(photo.as_posix(), split_of(photo.parent), sheet.image, sheet.maker(options.overlap or "later"))
        for photo, sheet in drawn.items()
        if photo not in omitted
    ]
    if not labels:
        annotated.refuse_bad()
        raise DataError(f"{some(files)} has no polygon, brush, rectangle or ellipse with a label")
    annotated.pass_over("photos in no task", [path for path in found.images if path not in sheets.keys() | others])
    return annotated


def _read_tasks(
    tasks: Sequence[tuple[Path, dict]], found: Found, annotated: Annotated
) -> tuple[dict[Path, tuple[list[dict], Path]], set[Path]]:
    """Return {photo: (results, file)} of the annotated tasks, and the photos of the others.

    tasks  (file, task) in the order of the files
    """
    rows, bad = [], []
    for path, task in tasks:
        name = ""
        try:
            with as_written_by("Label Studio", f"task {task.get('id')!r:.40} of {found.root / path}"):
                name = _image_name(task)
                results = _results(task, annotated)
                for result in results or ():
                    _labels(result)
                rows.append((name, path, results))
        except DataError as error:
            annotated.errors.append(str(error))
            bad.append((name, path))
    called = _photos(found, [row[:2] for row in rows] + bad)
    sheets = {}
    waiting = []
    for (name, path, results), photos in zip(rows, called[: len(rows)], strict=True):
        if len(photos) > 1:
            annotated.pass_over(SEVERAL, [f"{name} ({some(photos)})"])
        elif not photos:
            annotated.pass_over("photos that are missing", [name])
        elif results is None:
            waiting += photos
        elif photos[0] in sheets:
            raise DataError(f"{found.root / path} has two tasks for the photo {photos[0]}: keep one")
        else:
            sheets[photos[0]] = (results, path)
    annotated.pass_over("photos that nobody has annotated yet", waiting)
    return sheets, {*waiting, *(photos[0] for photos in called[len(rows) :] if len(photos) == 1)}


def _tasks(path: Path) -> list[dict]:
    content = read_json(path)
    if not isinstance(content, list) or not all(isinstance(task, dict) for task in content):
        raise DataError(f"{path} is not a list of tasks: export JSON from Label Studio")
    return content


def _image_name(task: dict) -> str:
    """Return the value of the task's data that names an image."""
    data = task.get("data", task)
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    images = [value for value in texts.values() if WEB_IMAGE.search(value)]
    name = texts.get("image") or (images[0] if images else "")
    return unquote(name.split("?d=")[-1].split("?")[0])


def _photos(found: Found, names: Sequence[tuple[str, Path]]) -> list[list[Path]]:
    """Return what `find_photos` does, of the names that tasks of (name, file) have.

    Uploads have no folders of their own, and so tell nothing about those of other photos.
    """
    known = {name_key(image.name) for image in found.images}
    stored = defaultdict(set)
    for image in found.images:
        stored[_stored(image.name)].add(image.name)
    groups: dict[tuple[Path, bool], dict[int, str]] = defaultdict(dict)
    for number, (name, path) in enumerate(names):
        *folders, last = name.split("://")[-1].replace("\\", "/").split("/")
        original = UPLOADED.sub("", last)
        if name_key(last) not in known and name_key(original) in known:
            last = original
        elif name_key(last) not in known and len(stored[original]) == 1:
            (last,) = stored[original]
        is_upload = UPLOADS in name
        groups[path, is_upload][number] = last if is_upload else "/".join([*folders, last])
    photos = {}
    for (path, _), group in groups.items():
        photos |= zip(group, find_photos(found, [(name, path) for name in group.values()]), strict=True)
    return [photos[number] for number in range(len(names))]


def _stored(name: str) -> str:
    """Return the name under which Label Studio (that is, Django) stores an uploaded file, without its prefix."""
    return re.sub(r"[^-\w.]", "", name.replace(" ", "_"))


def _results(task: dict, annotated: Annotated) -> list[dict] | None:
    """Return the results of the annotation that counts, or None if there is none."""
    if "data" not in task:  # JSON-MIN has the regions in lists under the names of the tags
        lists = [value for value in task.values() if isinstance(value, list)]
        return [entry for each in lists for entry in each if isinstance(entry, dict)]
    annotations = task.get("annotations", task.get("completions")) or []
    valid = [each for each in annotations if not each.get("was_cancelled")]
    if len(valid) > 1:
        annotated.pass_over(
            "older annotations of photos that have several", [f"task {task.get('id')}"] * (len(valid) - 1)
        )
    best = [each for each in valid if each.get("ground_truth")] or valid
    return max(best, key=lambda each: str(each.get("updated_at", "")))["result"] if best else None


def _labels(result: dict) -> list[str]:
    value = result.get("value", result)
    keys = (*LABELS, "labels") if SHAPES & value.keys() else LABELS
    labels = next((value[key] for key in keys if value.get(key)), [])
    return [labels] if isinstance(labels, str) else [str(label) for label in labels]


def _regions(
    results: list[dict], ids: dict[str, int], where: str, annotated: Annotated
) -> tuple[list[Region], tuple[int, int] | None]:
    """Return the regions and the (height, width) of the photo that they were drawn on."""
    regions = []
    size = None
    skipped = defaultdict(int)
    labelled = {str(result["id"]) for result in results if "id" in result and _labels(result)}
    for result in results:
        value = result.get("value", result)
        labels = _labels(result)
        if not labels:  # <Labels> writes a shape twice: without its labels, then with them
            is_other = "choices" in value or "text" in value or str(result.get("id")) in labelled
            skipped[result.get("type", "?")] += not is_other
            continue
        with as_written_by("Label Studio", f"{where}: region {result.get('id')!r:.40}"):
            own = (int(result["original_height"]), int(result["original_width"]))
            if own != (size := size or own):
                sizes = f"{own[0]}x{own[1]} (height x width), other regions on {size[0]}x{size[1]}"
                raise ValueError(f"it was drawn on a photo of {sizes}")
            if len(labels) > 1:
                skipped["further labels of one region"] += 1
            if shape := _shape(value, size):
                regions.append(Region(ids[labels[0]], shape))
            else:
                skipped["polygons of fewer than 3 points"] += 1
    for kind, number in skipped.items():
        annotated.pass_over(f"results without a labelled region ({kind})", [where] * number)
    return regions, size


def _shape(value: dict, size: tuple[int, int]) -> Shape | None:
    height, width = size
    percent = np.array([width, height]) / 100
    if "points" in value:
        points = points_of(value["points"]) * percent
        return polygon([points]) if len(points) >= 3 else None
    if "rle" in value:
        return pixels(lambda: decode_label_studio(value["rle"], height, width), whole=True)
    x, y = np.array([value["x"], value["y"]]) * percent
    if "radiusX" in value:
        radii = np.array([value["radiusX"], value["radiusY"]]) * percent
        return ellipse(x, y, *radii, value.get("rotation") or 0)
    return rectangle(x, y, value["width"] * percent[0], value["height"] * percent[1], value.get("rotation") or 0)
