"""Find images and masks of one's own: a folder with `images/`, `masks/` and classes.yaml.

    images/{train,val,test}/NAME.jpg   masks/{train,val,test}/NAME.png   classes.yaml
    {train,val,test}/images/NAME.jpg   {train,val,test}/masks/NAME.png   classes.yaml
    images/NAME.jpg                    masks/NAME.png                    classes.yaml

Folders may have other common names, listed below, in upper or lower case. A mask has its image's name, or that name
with one of `MASK_SUFFIXES`. Whatever is left out is named.
"""

import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .class_file import CLASS_FILE, read_classes
from .labels import DataError, LabelInfo
from .listing import IMAGE_SUFFIXES, MOST_NAMES, list_images, name_key, note, refuse_folder, some, visible_files
from .reader import FORMATS

IMAGES, MASKS = ("images",), ("masks", "labels", "annotations")
SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
MASK_SUFFIXES = ("_mask", "_gt", "_label")
# Images and masks of VOC, KITTI and Cityscapes.
OTHER_PAIRS = {"jpegimages": "segmentationclass", "image_2": "semantic", "leftimg8bit": "gtfine"}
Row = tuple[str, Path, Path | None, None]  # name, image, mask, no instance map


def prepare_command(root: Path | str) -> str:
    """Return the command that makes a folder of this layout out of another one, or of a data set on the hub."""
    there = Path(root)
    if there.name in ("", ".."):  # the folder that one is in, or one above it
        prepared = there / ".." / f"{there.resolve().name}_prepared"
    else:
        prepared = (there.parent if there.exists() else Path()) / f"{there.name}_prepared"
    return f"python -m data_scripts.prepare {shlex.quote(str(there))} {shlex.quote(str(prepared))}"


def looks_like_folder(root: Path) -> bool:
    """Return whether `root` has folders of images and masks."""
    return any(masks is not None for _, masks in _places(root).values())


def images_alone(root: Path) -> str:
    """Return what to do about a folder that has images, and masks only in a folder of an unknown name, or ""."""
    images = _children(root, IMAGES)
    if not images or _children(root, MASKS):
        return ""
    known = (*IMAGES, *(name for names in SPLIT_FOLDERS.values() for name in names))
    others = [path for path in sorted(root.iterdir()) if path.is_dir() and path.name.casefold() not in known]
    others = [path.name for path in others if _holds_images(path) or any(map(_holds_images, path.glob("*/")))]
    rename = f"rename {others[0]}/ to masks/" if len(others) == 1 else "put the masks into masks/"
    return f"{root} has {images[0].name}/ but no masks/ beside it: {rename}"


def photos_beside_masks(root: Path) -> Path | None:
    """Return the first folder of images in `root`, or in its folders of splits, that has masks beside it.

    Also those of VOC, KITTI and Cityscapes. Labels that are no images, as in exports of YOLO and COCO, do not count.
    """
    splits = [folder for names in SPLIT_FOLDERS.values() for folder in _children(root, names)]
    for folder in (root, *splits):
        for images, masks in OTHER_PAIRS.items():
            if _children(folder, (masks,)) and (found := _children(folder, (images,))):
                return found[0]
    for folder in (root, *splits):
        images = _children(folder, IMAGES)
        beside = (path for masks in _children(folder, MASKS) for path in masks.rglob("*"))
        if images and any(path.suffix.lower() in IMAGE_SUFFIXES for path in beside):
            return images[0]
    return None


def masks_among(photos: Sequence[Path]) -> list[Path]:
    """Return the photos that are masks of others: NAME_mask.png beside NAME.jpg, if most of the others have one."""
    stems = {photo.with_suffix("") for photo in photos}
    masks = {stem.with_name(stem.name + suffix) for stem in stems for suffix in MASK_SUFFIXES} & stems
    found = [photo for photo in photos if photo.with_suffix("") in masks]
    return found if 2 * len(found) > len(photos) - len(found) else []


def load_folder(root: Path, flag: str) -> tuple[dict[str, list[Row]], LabelInfo]:
    """Return rows for `sources.from_files` by split, and the label set of classes.yaml.

    The splits are "train", and "validation" and "test" if there are such folders. Prints what was found and what is
    left out. Raises `DataError`, which names the `flag` that gave `root`, if something is missing.
    """
    places = _places(root)
    if places and "train" not in places:
        raise DataError(
            f"{root} ({flag}) has no images for training, only for {' and '.join(sorted(places))}: put some into "
            "images/train and masks/train"
        )
    if "train" not in places:
        raise DataError(
            f"{root} ({flag}) has no images/ with masks/ beside it: make such a folder with {prepare_command(root)}"
        )
    if not (root / CLASS_FILE).is_file():
        if (other := (root / CLASS_FILE).with_suffix(".yml")).is_file():
            raise DataError(f"{root} ({flag}) has {other.name}: rename it to {CLASS_FILE}")
        raise DataError(
            f"{root} ({flag}) has no {CLASS_FILE}, which says what the ids in its masks mean: make a folder "
            f"that has one with {prepare_command(root)}"
        )
    labels, _ = read_classes(root / CLASS_FILE)
    _name_others(root, places)
    found = {split: _pair(split, *folders) for split, folders in places.items()}
    note(f"{root} has {', '.join(f'{len(rows)} {split}' for split, rows in found.items())} images")
    command = prepare_command(root)
    remedies = {
        "colors": f"write the colour of each class in {root / CLASS_FILE} (color: [r, g, b]), then run {command}",
        "values": f"convert the masks with {command}",
        "id": "add a class with that id, or add it to ignore",
    }
    return found, replace(labels, remedies=remedies)


def _places(root: Path) -> dict[str, tuple[Path, Path | None]]:
    """Return the folders of images and masks by split. Without folders of splits, all images are "train"."""
    images = _child(root, IMAGES)
    above = {}
    below = {}
    for split, names in SPLIT_FOLDERS.items():
        folder = _one_of([path for path in _children(root, names) if _children(path, IMAGES)])
        if folder is not None:
            above[split] = (_child(folder, IMAGES), _child(folder, MASKS))
        if images is not None and (folder := _child(images, names)) is not None:
            masks = _child(root, MASKS)
            below[split] = (folder, masks and _child(masks, names))
    if above and images is not None:
        raise DataError(f"{root} has both {images} and {next(iter(above.values()))[0]}: keep one arrangement of splits")
    if above or below or images is None:
        return above or below
    return {"train": (images, _child(root, MASKS))}


def _children(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the subfolders with one of `names`, in upper or lower case, in the order of `names`."""
    try:
        children = [path for path in sorted(folder.iterdir()) if path.name.casefold() in names and path.is_dir()]
    except OSError as error:
        refuse_folder(error)
    return sorted(children, key=lambda path: names.index(path.name.casefold()))


def _child(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the subfolder with one of `names`, or None. Raises `DataError` if several hold images."""
    return _one_of(_children(folder, names))


def _one_of(folders: Sequence[Path]) -> Path | None:
    """Return the only one of `folders`, or of several the only one that holds images, or None without any."""
    if len(folders) < 2:
        return folders[0] if folders else None
    filled = [folder for folder in folders if _holds_images(folder)]
    if len(filled) > 1:
        both = " and in ".join(folder.name for folder in filled)
        raise DataError(f"{filled[0].parent} has files in {both}: merge these folders, or rename all but one")
    return (filled or folders)[0]


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in visible_files(folder))


def _name_others(root: Path, places: dict[str, tuple[Path, Path | None]]) -> None:
    """Name the images and masks beside the folders of the splits: in `images/extra`, or in `extra/images`."""
    parts = [folder for pair in places.values() for folder in pair if folder is not None]
    beside = [path for path in sorted(root.iterdir()) if path.is_dir() and path.name.casefold() not in IMAGES + MASKS]
    for kind, names in (("images", IMAGES), ("masks", MASKS)):
        for folder in [path for place in (root, *beside) for path in _children(place, names) if path not in parts]:
            others = [path for path in list_images(folder) if not any(part in path.parents for part in parts)]
            if others:
                note(f"{kind} of {folder} in no split are left out ({len(others)}): {_names(others, folder)}")


def _pair(split: str, images: Path, masks: Path | None) -> list[Row]:
    """Return a row for each image that has one mask. Test images may all lack masks."""
    photos = list_images(images)
    found = list_images(masks) if masks is not None else []
    by_stem = defaultdict(list)
    for mask in found:
        by_stem[_stem(mask, masks)].append(mask)
    stems = {_stem(photo, images) for photo in photos}
    pairs = {}
    for photo in photos:
        stem = _stem(photo, images)
        longer = [stem + suffix for suffix in MASK_SUFFIXES if stem + suffix not in stems]
        pairs[photo] = [mask for key in (stem, *longer) for mask in by_stem.get(key, ())]
    if split == "test" and not found:
        pairs = {photo: [None] for photo in photos}
    rows = [(photo, fitting[0]) for photo, fitting in pairs.items() if len(fitting) == 1]
    if not rows:
        raise DataError(_no_pair(images, masks, photos, found))
    for kind, left_out, folder in (
        ("images of {} without a mask", [photo for photo, fitting in pairs.items() if not fitting], images),
        ("images of {} with several masks", [photo for photo, fitting in pairs.items() if len(fitting) > 1], images),
        ("masks of {} without an image", sorted({*found} - {mask for fit in pairs.values() for mask in fit}), masks),
    ):
        if left_out:
            note(f"{kind.format(folder)} are left out ({len(left_out)}): {_names(left_out, folder)}")
    names = [photo.stem for photo, _ in rows]
    if len({name_key(name) for name in names}) < len(names):  # the same name in two subfolders
        names = [photo.relative_to(images).with_suffix("").as_posix() for photo, _ in rows]
    return [(name, photo, mask, None) for name, (photo, mask) in zip(names, rows, strict=True)]


def _stem(path: Path, folder: Path) -> str:
    """Return the key by which images and masks belong together: the path in the folder, without suffix."""
    return name_key(path.relative_to(folder).with_suffix("").as_posix())


def _no_pair(images: Path, masks: Path | None, photos: Sequence[Path], found: Sequence[Path]) -> str:
    if not photos:
        return f"no image in {images}: put images there, as {', '.join(FORMATS)} files"
    if not found:
        return f"no mask for the {len(photos)} images of {images}: put masks into a folder masks/ of the same names"
    return (
        f"no image of {images} has a mask in {masks}: {photos[0].name} is an image and {found[0].name} a mask, but a "
        f"mask needs the name of its image, at most with {', '.join(MASK_SUFFIXES)} at the end"
    )


def _names(paths: Sequence[Path], folder: Path) -> str:
    return some([path.relative_to(folder).as_posix() for path in paths], MOST_NAMES)
