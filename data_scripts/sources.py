"""Find the images and labels of a data set on disk, and return them as a `datasets.DatasetDict` with its `LabelInfo`.

    data, labels = load_source("minicity", "./minicity")
    data["train"][0]  # {"index": 0, "image": {"path": ...}, "label": {"path": ...}, "name": ...}

Images are not decoded here: `datasets` would rotate photos by their EXIF tag, but not their masks (see `reader.py`).
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from datasets import Dataset, DatasetDict, Features, Image, Value

from .camvid import camvid_colors, camvid_files
from .catalog import SPLITS, source_of
from .files import UNFINISHED, refuse_nowhere
from .hub_data import Columns, load_hub
from .kitti import kitti_files
from .labels import DataError, LabelInfo
from .listing import IMAGE_SUFFIXES, OTHER_SUFFIXES, is_text, label_of, list_images, name_key
from .own_folder import load_folder, masks_among, photos_beside_masks
from .reader import FORMATS, open_photo
from .virtual_kitti import virtual_kitti_colors, virtual_kitti_files

Row = tuple[str, Path, Path | None, Path | None]  # name, image, label, instance map


def cityscapes_files(root: Path, split: str) -> list[Row] | None:
    """Match leftImg8bit/SPLIT/NAME[_leftImg8bit].* with gtFine/SPLIT/NAME_gtFine_{labelIds,instanceIds}.png.

    NAME may begin with folders: Cityscapes has one for each city, MiniCity none. Images may have any readable format.
    """
    images, truth = root / "leftImg8bit" / split, root / "gtFine" / split
    if not images.is_dir():
        return None
    rows = []
    for image in list_images(images):
        stem = image.stem.removesuffix("_leftImg8bit")
        folder = truth / image.parent.relative_to(images)
        label, instance = (folder / f"{stem}_gtFine_{kind}.png" for kind in ("labelIds", "instanceIds"))
        rows.append((image.stem, image, label_of(label, split), instance if instance.exists() else None))
    return rows


def looks_like_toycity(root: Path) -> bool:
    """Return whether `root` holds images that `data_scripts.toycity` drew."""
    return next((root / "leftImg8bit" / "train").glob("toycity_*"), None) is not None


def looks_like_cities(root: Path) -> bool:
    """Return whether `root` has a folder of training images for each city, as Cityscapes does."""
    train = root / "leftImg8bit" / "train"
    inside = [path for path in train.iterdir() if path.name[0] != "."] if train.is_dir() else []
    return bool(inside) and all(path.is_dir() for path in inside)


def looks_like_cityscapes(root: Path) -> bool:
    """Return whether `root` is arranged as MiniCity and Cityscapes are."""
    return (root / "leftImg8bit").is_dir()


LAYOUTS = {
    "cityscapes": cityscapes_files,
    "camvid": camvid_files,
    "kitti": kitti_files,
    "virtual_kitti": virtual_kitti_files,
}
COLORS = {"camvid": camvid_colors, "virtual_kitti": virtual_kitti_colors}  # layouts whose labels may be colours


def load_source(
    dataset: str, path: str | None = None, columns: Columns = (None, None), flag: str | None = None
) -> tuple[DatasetDict, LabelInfo]:
    """Return the splits of a data set and its label set.

    The splits are "train" and, if they exist, "validation" and "test", which may lack labels (`fold_files.load_data`
    sees to it that there are validation images). `path` defaults to the data set's name; of "hub" it is the
    --dataset_name, and `columns` are those of images and masks. `flag` is where the path was given, for errors
    (default: --dataset_path, of "hub" --dataset_name). Raises `DataError` if folders or files are missing.
    """
    source = source_of(dataset)
    if source.layout == "hub":
        return load_hub(None if path is None else str(path), columns, flag or "--dataset_name")
    flag = flag or "--dataset_path"
    root = Path(path or dataset)
    if not root.is_dir():
        if path:
            raise DataError(f"no folder {root} ({flag}): {source.help}")
        own = "for your own photos, give --dataset_path to train, or --input to predict"
        raise DataError(f"no folder ./{root}, and no {flag} was given: {source.help}; {own}")
    if (root / UNFINISHED).exists():
        why = (root / UNFINISHED).read_text(encoding="utf-8").strip()
        raise DataError(f"{root} ({flag}) is incomplete: {why}")
    if source.labels is None:
        found, labels = load_folder(root, flag)
        return DatasetDict({split: from_files(rows, f"{split} of {root}") for split, rows in found.items()}), labels
    splits = {}
    for folder, split in SPLITS.items():
        rows = LAYOUTS[source.layout](root, folder)
        if rows is None and split == "train":
            raise DataError(f"{root} ({flag}) lacks the {folder} folder of a {dataset} data set: {source.help}")
        if rows is None or (split == "validation" and not rows):
            continue
        if not rows:
            raise DataError(f"split {folder} of {root} ({flag}) is empty: no image found there")
        splits[split] = from_files(rows, f"split {folder} of {root}")
    if source.layout in COLORS:
        return DatasetDict(splits), replace(source.labels, colors=COLORS[source.layout](root, source.labels))
    return DatasetDict(splits), source.labels


def from_files(rows: list[Row], where: str) -> Dataset:
    """Make a split of (name, image, label or None, instance or None) rows.

    The split gets a label or instance column if every row has one. Raises `DataError` if only some rows have labels, if
    two images would get one name, or if a file name is not UTF-8. `where` names the split in these messages.
    """
    names, images, labels, instances = zip(*rows, strict=True)
    for path in filter(None, (*images, *labels, *instances)):
        if not is_text(str(path)):
            raise DataError(f"the file name {os.fsencode(path)!r} is not UTF-8, as in old archives: rename it")
    first = {}
    for name, image in zip(names, images, strict=True):
        other = first.setdefault(name_key(name), image)
        if other is not image:
            raise DataError(
                f"{where} has several images named {name}, {other} and {image}: their predictions would overwrite each "
                "other, so rename one"
            )
    columns = {"index": list(range(len(names))), "image": images, "name": list(names)}
    if None not in labels:
        columns["label"] = labels
    elif set(labels) != {None}:
        missing = names[labels.index(None)]
        raise DataError(f"{where} has labels for some images but none for {missing}: label all or none")
    if None not in instances:
        columns["instance"] = instances
    features = {"index": Value("int64"), "name": Value("string")}
    for column in ("image", "label", "instance"):
        if column in columns:
            columns[column] = [str(path) for path in columns[column]]
            features[column] = Image(decode=False)
    return Dataset.from_dict(columns, features=Features(features))


def _refuse_other_file(path: str, flag: str) -> None:
    """Raise `DataError` if a file is no image. A photo may have any name: its content tells."""
    try:
        open_photo(path)
    except DataError as error:
        if Path(path).suffix.lower() in OTHER_SUFFIXES:
            raise  # it names what reads the file
        kinds = ", ".join(FORMATS)
        raise DataError(
            f"{flag} {path} is no image ({kinds}): name one or a folder of them, and unpack an archive first"
        ) from error


def folder_of_images(path: str, leave_out: Callable[[Path], bool] | None = None, flag: str = "--input") -> Dataset:
    """Return the images at any depth below a folder, or a single image, as a split without labels.

    Images are named after their files, without suffix. If two would share a name, all names include the folders below
    `path`. For `leave_out` see `list_images`. Raises `DataError`, which names `flag`, if there is no image.
    """
    root = Path(path)
    if root.is_file() and root.suffix.lower() not in IMAGE_SUFFIXES:
        _refuse_other_file(path, flag)
    if root.is_file():
        return from_files([(root.stem, root, None, None)], path)
    refuse_nowhere(path, flag)
    if photos := photos_beside_masks(root):
        raise DataError(
            f"{flag} {path} is a data set, and its masks are no photos: give {flag} {photos}, or --dataset_path {path}"
        )
    images = list_images(root, leave_out)
    if masks := masks_among(images):
        raise DataError(
            f"{flag} {path} holds masks beside the photos, such as {masks[0].relative_to(root)} ({len(masks)} of "
            f"{len(images)} images), and they are no photos: put them into another folder"
        )
    if not images:
        raise DataError(f"no image in {path} ({flag}): images are {', '.join(FORMATS)} files")
    names = [image.stem for image in images]
    if len({name_key(name) for name in names}) < len(names):
        names = [image.relative_to(root).with_suffix("").as_posix() for image in images]
    return from_files([(name, image, None, None) for name, image in zip(names, images, strict=True)], path)
