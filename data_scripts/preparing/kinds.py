"""The kinds of sources that `data_scripts.prepare` reads, in the order in which they are tried."""

from dataclasses import asdict, replace
from types import ModuleType

from ..labels import DataError
from . import coco, hub, label_studio, labelme, masks, roboflow, voc, yolo
from .annotated import Annotated, Options
from .found import Found, count, some

KINDS: dict[str, ModuleType] = {
    "datasets": hub,
    "label_studio": label_studio,
    "labelme": labelme,
    "coco": coco,
    "yolo": yolo,
    "voc": voc,
    "roboflow": roboflow,
    "masks": masks,
}


def read(found: Found, kind: str | None, options: Options) -> Annotated:
    """Return what a source holds, as the kind that was asked for or as the first that recognises it."""
    looks = [name for name, module in KINDS.items() if (kind is None or name == kind) and module.looks_like(found)]
    if not looks and kind:
        raise DataError(f"--kind {kind}: {found.root} has no files of that kind: leave it out to have it recognised")
    if not looks and not found.files:
        raise DataError(f"{found.root} is an empty folder: name the folder that holds your photos and masks")
    if not looks:
        holds = f"it has {some(path.name for path in found.files)}"
        if any(path.name.lower().endswith((".nii.gz", ".nii", ".h5", ".tfrecord")) for path in found.files):
            holds += "; save photos and masks as PNG"
        elif any(path.suffix.lower() in (".zip", ".tar", ".gz", ".7z", ".rar") for path in found.files):
            holds += "; unpack the archive first"
        raise DataError(f"{found.root} holds no images and no annotations of a known kind: {holds}")
    _refuse_unread(looks[0], options)
    annotated = KINDS[looks[0]].read(found, options)
    if others := [name for name in looks[1:] if name != "masks"]:
        annotated.guesses.append(f"it also looks like {some(others)} (--kind {others[0]}: read that instead)")
    _settle_splits(annotated)
    annotated.pass_over("files in formats that cannot be read (save them as PNG or JPEG)", found.unreadable)
    return annotated


def _settle_splits(annotated: Annotated) -> None:
    """Decide about photos that are in no split, although others are.

    If the others are all in one, a word in the names of their folders was no split: `train station` beside `harbour`.
    """
    inside = [item for item in annotated.items if item.split]
    outside = [item for item in annotated.items if not item.split]
    if not inside or not outside:
        return
    splits = {item.split for item in inside}
    names, others = (count(item.name for item in items) for items in (outside, inside))
    if "train" not in splits and (len(splits) == 2 or any(item.mask is None for item in inside)):
        annotated.guesses.append(f"photos in no split are the training split: {names}")
        annotated.items = [replace(item, split=item.split or "train") for item in annotated.items]
    elif len(splits) == 1:
        annotated.guesses.append(
            f"photos are not divided into splits: folders say {splits.pop()} for {others}, and "
            f"nothing for {names} (to divide them, put all into folders train, val and test)"
        )
        annotated.items = [replace(item, split=None) for item in annotated.items]
    else:
        annotated.pass_over("photos that are in no split", [item.name for item in outside])
        annotated.items = inside


def read_id(name: str, kind: str | None, options: Options) -> Annotated:
    """Return what a data set on the hub holds."""
    if kind not in (None, "datasets"):
        raise DataError(f"--kind {kind} is for folders, and {name} is an id on the hub: leave it out")
    _refuse_unread("datasets", options)
    return hub.read_id(name, options)


def _refuse_unread(kind: str, options: Options) -> None:
    """Raise `DataError` if an option was given that a kind does not read."""
    for option, value in asdict(options).items():
        if value is not None and option not in KINDS[kind].READS:
            others = ", ".join(name for name, module in KINDS.items() if option in module.READS)
            raise DataError(f"--{option} has no effect, because SOURCE is read as {kind}: it is for {others}")
