"""A data set of the `datasets` library: a folder of `save_to_disk` or of Parquet files, or an id on the hub."""

import io
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, load_dataset, load_from_disk
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RemoteEntryNotFoundError
from PIL import Image as Picture

from ..labels import DataError
from ..listing import note
from .annotated import Annotated, File, Options
from .class_lists import ClassList, find_class_list, read_id2label
from .found import Found, some, splits_in, words
from .masks import from_files

READS = ("mask_values", "image_column", "label_column")
PHOTOS = ("image", "img", "photo", "picture", "pixel_values", "rgb", "jpg")
MASKS = tuple(
    """
    label mask annotation labels masks annotations segmentation_mask semantic_segmentation segmentation semantic_mask
    seg gt target label_bitmap semantic_class png
    """.split()
)
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
SAVED = {"dataset_dict.json", "state.json"}
ROWS = 1000  # at a time, where only the names of photos are read


def looks_like(found: Found) -> bool:
    return any(path.name in SAVED or path.suffix == ".parquet" for path in found.files)


def read(found: Found, options: Options) -> Annotated:
    """Return what a folder of `save_to_disk`, or of Parquet files, holds."""
    return _read(load_folder(found), str(found.root), options, find_class_list(found))


def read_id(name: str, options: Options) -> Annotated:
    """Return what a data set on the hub holds."""
    return _read(load_id(name), name, options, class_list_of_id(name))


def load_folder(found: Found) -> dict[str, Dataset]:
    """Return the rows of a folder of `save_to_disk`, or of Parquet files, by split; "" stands for rows of no split."""
    saved = any(path.name in SAVED for path in found.files)
    root = str(found.root)
    return _loaded(lambda: load_from_disk(root) if saved else load_dataset(root), root)


def load_id(name: str) -> dict[str, Dataset]:
    """Return the rows of a data set on the hub by split."""
    return _loaded(lambda: load_dataset(name), f"{name} from the hub (no folder has this name)")


def class_list_of_id(name: str) -> ClassList | None:
    """Return the classes in id2label.json beside a data set on the hub, or None if there is no such file.

    Prints a note if the hub does not answer, because then the file, and the names in it, may be missed.
    """
    try:
        return read_id2label(Path(hf_hub_download(name, "id2label.json", repo_type="dataset")))
    except RemoteEntryNotFoundError:
        return None
    except (LocalEntryNotFoundError, HfHubHTTPError) as error:
        note(f"cannot ask the hub for id2label.json of {name}: {' '.join(str(error).split()):.200}")
        return None


def _loaded(load: Callable[[], Dataset | DatasetDict], where: str) -> dict[str, Dataset]:
    try:
        loaded = load()
    except Exception as error:  # a loader raises almost anything
        raise DataError(f"cannot load the data set {where}: {' '.join(str(error).split())[:300]}") from error
    return dict(loaded) if isinstance(loaded, DatasetDict) else {"": loaded}


def _read(splits: dict[str, Dataset], where: str, options: Options, listed: ClassList | None) -> Annotated:
    if not splits or not any(len(split) for split in splits.values()):
        raise DataError(f"the data set {where} has no rows")
    kept = split_names(splits)
    first = min(splits, key=lambda name: (kept[name] is None, kept[name] == "test"))  # test rows may lack masks
    features = splits[first].features
    photo, mask = find_columns(features, options, where)
    names = class_names(features[mask])
    listed = listed or (ClassList(f"the column {mask}", dict(enumerate(names)), {}) if names else None)
    if any(kept.values()):
        kept = {name: split for name, split in kept.items() if split}
    files = []
    for name, split in kept.items():
        rows = splits[name]
        labelled = split != "test" or _has_masks(rows, mask)
        if missing := {photo, *([mask] if labelled else [])} - {*rows.features}:
            raise DataError(
                f"split {name} of {where} has no column {some(sorted(missing))}: its columns are {some(rows.features)}"
            )
        if labelled and isinstance(rows.features[mask], Image):
            rows = rows.cast_column(mask, Image(decode=False))
        rows = rows.cast_column(photo, Image(decode=False))
        files += [
            (
                row_name,
                split,
                cell_of(rows, number, photo, name),
                cell_of(rows, number, mask, name) if labelled else None,
            )
            for number, row_name in enumerate(names_of(rows, photo, name))
        ]
    if not any(cell for *_, cell in files):
        raise DataError(f"{where} has no masks in the column {mask}: label its images, or name another column")
    annotated = from_files(options, "datasets", files, listed)
    annotated.facts.insert(0, f"photos are in the column {photo}, masks in {mask}")
    annotated.pass_over("splits of other names", [name for name in splits if name not in kept])
    return annotated


def split_names(names: Iterable[str]) -> dict[str, str | None]:
    """Return the split that each name in a data set says, or None: "train" for `training`, `train_a` and `train_b`.

    Beside `train`, `train_small` says none, because it may have the same rows. Names of two, such as `train_val`, say
    none either.
    """
    told = {name: set(splits_in(name)) for name in names}
    said = {name: min(splits) if len(splits) == 1 else None for name, splits in told.items()}
    whole = {name: split for name, split in said.items() if split and len(words(name)) == 1}
    return {name: split if name in whole or split not in whole.values() else None for name, split in said.items()}


def _has_masks(rows: Dataset, mask: str) -> bool:
    """Return whether a row has a mask. Reads no further than the first."""
    if mask not in rows.features:
        return False
    cells = rows.select_columns([mask])
    if isinstance(rows.features[mask], Image):
        cells = cells.cast_column(mask, Image(decode=False))
    found = (row[mask] for row in cells)
    return any(any(cell.values()) if isinstance(cell, dict) else cell is not None for cell in found)


def find_columns(features: Features, options: Options, where: str) -> tuple[str, str]:
    """Return the names of the columns of photos and masks: those asked for, those of usual names, the only ones."""
    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    arrays = [name for name, feature in features.items() if _is_array(feature)]
    photo = options.image_column or _usual(images, PHOTOS)
    others = [name for name in images if name != photo]
    mask = options.label_column or _usual([name for name in others + arrays if name != photo], MASKS)
    if photo is None and mask is not None:
        rest = [name for name in images if name != mask]
        photo = rest[0] if len(rest) == 1 else None
    if mask is None and len(others) == 1:
        mask = others[0]
    for flag, name, usable in (("--image_column", photo, images), ("--label_column", mask, images + arrays)):
        if name not in features or name not in usable:
            what = f"has no column {name} of images" if name else "does not say which column"
            raise DataError(f"{where} {what}: give {flag}, one of {some(usable) or 'no column of images'}")
    if photo == mask:
        raise DataError(f"{where}: --image_column and --label_column are both {photo}: name the column of masks")
    return photo, mask


def _usual(columns: list[str], usual: tuple[str, ...]) -> str | None:
    lower = {name.lower(): name for name in columns}
    return next((lower[name] for name in usual if name in lower), None)


def _is_array(feature: object) -> bool:
    """Return whether a column holds a list of lists, or an array of two dimensions."""
    if len(getattr(feature, "shape", None) or ()) == 2:
        return True
    inner = getattr(feature, "feature", None)
    return getattr(inner, "feature", None) is not None


def class_names(feature: object) -> list[str]:
    while getattr(feature, "feature", None) is not None:
        feature = feature.feature
    return list(feature.names) if isinstance(feature, ClassLabel) else []


def names_of(rows: Dataset, photo: str, split: str) -> list[str]:
    """Return the photos' file names, or numbers for all if one has none or two share one."""
    names = []
    for batch in rows.select_columns([photo]).with_format("arrow").iter(ROWS):
        cells = batch[photo].combine_chunks()
        names += [Path(path).name if path else "" for path in cells.field("path").to_pylist()]
    if all(names) and len({*names}) == len(names):
        return names
    return [f"{split or 'row'}_{number:06d}" for number in range(len(names))]


def cell_of(rows: Dataset, number: int, column: str, split: str) -> File:
    """Return a function that reads a photo or mask. Arrays become PNG files in memory."""

    def read_file() -> dict:
        content = rows[number][column]
        where = place_of(number, column, split)
        if isinstance(content, dict):
            return {"path": content["path"] if content["bytes"] is None else where, "bytes": content["bytes"]}
        if content is None:
            raise DataError(f"{where} is empty")
        try:
            ids = np.asarray(content)
        except ValueError:  # rows of several lengths
            ids = np.empty(0)
        whole = ids.ndim == 2 and ids.size and ids.dtype.kind in "biuf" and not (ids % 1).any()
        if not whole or ids.min() < 0 or ids.max() > 65535:
            raise DataError(f"{where} is no array (height, width) of ids from 0 to 65535")
        file = io.BytesIO()
        Picture.fromarray(ids.astype(np.uint8 if ids.max() < 256 else np.uint16)).save(file, "PNG")
        return {"path": where, "bytes": file.getvalue()}

    return read_file


def place_of(number: int, column: str, split: str) -> str:
    """Return what messages call a photo or mask that has no file of its own."""
    return f"row {number} of split {split or 'train'}, column {column}"
