"""Where images and labels lie on disk: each source becomes a `datasets.DatasetDict` and its `LabelInfo`.

    data, labels = load_source("minicity", "./minicity")
    data["train"][0]  # {"index": 0, "image": {"path": ...}, "label": {"path": ...}, "name": ...}

Images are not decoded here: `datasets` would turn photos by their EXIF tag but not their masks (see `reader.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, DatasetDict, Features, Image, Value

from .labels import CAMVID, CITYSCAPES, DataError, LabelInfo

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"}
SPLITS = {"train": "train", "val": "validation", "test": "test"}  # name of the folder: name of the split


@dataclass(frozen=True)
class Source:
    """A data set that `--dataset` can name.

    files      (root, folder of a split) -> [(name, image, label or None, instance or None)], None without such a folder
    crop_size  (H, W) of training crops unless `--crop_size` is given, or the image where that is smaller
    help       what to do when the folder is missing
    """

    files: Callable[[Path, str], list[tuple[str, Path, Path | None, Path | None]] | None]
    labels: LabelInfo
    crop_size: tuple[int, int]
    help: str


def list_images(folder: Path) -> list[Path]:
    """Image files below `folder`, at any depth, sorted; hidden files are passed over."""
    files = (p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    return sorted(files)


def cityscapes_files(root: Path, split: str):
    """leftImg8bit/SPLIT/[CITY/]*_leftImg8bit.png with gtFine/SPLIT/[CITY/]*_gtFine_{labelIds,instanceIds}.png.

    MiniCity's flat folders and Cityscapes' folders by city differ in nothing else.
    """
    images, truth = root / "leftImg8bit" / split, root / "gtFine" / split
    if not images.is_dir():
        return None
    rows = []
    for image in list_images(images):
        stem = image.stem.removesuffix("_leftImg8bit")
        folder = truth / image.parent.relative_to(images)
        label, instance = (folder / f"{stem}_gtFine_{kind}.png" for kind in ("labelIds", "instanceIds"))
        rows.append((image.stem, image, _if_there(label, split), instance if instance.exists() else None))
    return rows


def camvid_files(root: Path, split: str):
    """SPLIT/NAME.* with SPLITannot/NAME.png."""
    if not (root / split).is_dir():
        return None
    annotations = root / f"{split}annot"
    return [
        (image.stem, image, _if_there(annotations / f"{image.stem}.png", split), None)
        for image in list_images(root / split)
    ]


def _if_there(label: Path, split: str) -> Path | None:
    if label.exists():
        return label
    if split == "test":
        return None
    raise DataError(f"no label {label} for its image in split {split}: add it or take the image away")


TOYCITY_COMMAND = "python -m data_scripts.toycity toycity"

DATASETS = {
    "minicity": Source(
        cityscapes_files,
        CITYSCAPES,
        (576, 1152),
        "get MiniCity (link and rules: https://vipriors.github.io) and unpack it so that ./minicity/leftImg8bit and "
        f"./minicity/gtFine exist, or make a stand-in, {TOYCITY_COMMAND}, and train with --dataset toycity",
    ),
    "cityscapes": Source(
        cityscapes_files,
        CITYSCAPES,
        (576, 1152),
        "unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from https://www.cityscapes-dataset.com there",
    ),
    "camvid": Source(
        camvid_files,
        CAMVID,
        (360, 480),
        "it needs the folders train, trainannot, val, valannot (and test) of SegNet's CamVid",
    ),
    "toycity": Source(cityscapes_files, CITYSCAPES, (256, 512), f"make it: {TOYCITY_COMMAND}"),
}


def source_of(dataset: str) -> Source:
    if dataset not in DATASETS:
        raise DataError(f"--dataset {dataset} is not known: choose one of {', '.join(DATASETS)}")
    return DATASETS[dataset]


def load_source(dataset: str, path: str | None = None) -> tuple[DatasetDict, LabelInfo]:
    """The splits of a data set and what its ids mean. `path` is ./NAME-OF-THE-DATASET when None.

    Splits are "train", "validation" and, where it exists, "test", which may lack labels. Raises `DataError`.
    """
    source = source_of(dataset)
    root = Path(path or dataset)
    if not root.is_dir():
        raise DataError(f"no folder {root} (--dataset_path): {source.help}")
    splits = {}
    for folder, split in SPLITS.items():
        rows = source.files(root, folder)
        if rows is None and split == "test":
            continue
        if rows is None:
            raise DataError(f"{root} (--dataset_path) has no {folder} folder of a {dataset} data set: {source.help}")
        if not rows:
            raise DataError(f"split {folder} of {root} (--dataset_path) is empty: no image found there")
        splits[split] = from_files(rows, f"split {folder} of {root}")
    return DatasetDict(splits), source.labels


def from_files(rows: list[tuple[str, Path, Path | None, Path | None]], where: str) -> Dataset:
    """One split from (name, image, label or None, instance or None); a column exists when every row has it."""
    names, images, labels, instances = zip(*rows, strict=True)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{where} has several images named {twice}: their predictions would overwrite each other")
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


def folder_of_images(path: str) -> Dataset:
    """The images directly or anywhere below a folder, without labels: a split to predict."""
    if not Path(path).is_dir():
        raise DataError(f"no folder {path} (--input)")
    images = list_images(Path(path))
    if not images:
        raise DataError(f"no image in {path} (--input)")
    return from_files([(image.stem, image, None, None) for image in images], path)
