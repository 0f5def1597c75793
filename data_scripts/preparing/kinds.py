"""The kinds of sources that `data_scripts.prepare` reads, in the order in which they are tried."""

from dataclasses import asdict
from types import ModuleType

from ..labels import DataError
from . import coco, hub, label_studio, labelme, masks, roboflow, voc, yolo
from .annotated import Annotated, Options
from .found import Found, some

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
    if any(item.split for item in annotated.items):
        annotated.pass_over(
            "photos that are in no split", [item.name for item in annotated.items if item.split is None]
        )
        annotated.items = [item for item in annotated.items if item.split]
    annotated.pass_over("files in formats that cannot be read (save them as PNG or JPEG)", found.unreadable)
    return annotated


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
