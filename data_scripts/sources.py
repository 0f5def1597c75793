"""Find the images and labels of a data set on disk, and return them as a `datasets.DatasetDict` with its `LabelInfo`.

    data, labels = load_source("minicity", "./minicity")
    data["train"][0]  # {"index": 0, "image": {"path": ...}, "label": {"path": ...}, "name": ...}

Images are not decoded here: `datasets` would rotate photos by their EXIF tag, but not their masks (see `reader.py`).
"""

import errno
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from datasets import Dataset, DatasetDict, Features, Image, Value

from .catalog import SPLITS, source_of
from .files import UNFINISHED
from .labels import DataError, LabelInfo
from .reader import FORMATS, PLUGIN

IMAGE_SUFFIXES = {suffix for suffixes in FORMATS.values() for suffix in suffixes}
# Picture and video formats that this installation may not be able to read. A note names the files that are skipped.
OTHER_SUFFIXES = set(
    """
    .heic .heif .hif .avif .avifs .jxl .jxr .wdp .jp2 .j2k .jpf .jpx .jpc .bpg .svg .svgz .pdf .eps .ps .ai .psd .psb
    .xcf .kra .exr .hdr .pfm .dds .ico .icns .cur .tga .pcx .qoi .sgi .fits .fit .dcm .nii .wmf .emf .npy .npz .mat
    .dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .orf .rw2 .raf .pef .srw .x3f .raw .rwl .3fr .iiq .kdc .dcr .mrw .erf
    .mef .mos .insp .mp4 .mov .avi .mkv .webm .m4v .mpg .mpeg .wmv .mts .m2ts .3gp .ogv
    """.split()
)
MOST_NAMES = 20  # of skipped files in one note
# Folders that systems and archives create beside the pictures. Hidden folders are skipped too.
FOLDERS_OF_SYSTEMS = {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"}


def list_images(folder: Path, leave_out: Callable[[Path], bool] | None = None) -> list[Path]:
    """Return the image files below `folder`, at any depth, sorted.

    Links are followed, but no folder is read twice. Hidden files and folders are skipped, as are those that systems and
    archives create. Pictures in other formats are skipped with a note. So is each subfolder for which `leave_out`
    returns True.
    """
    found, others = [], defaultdict(list)
    for path in visible_files(folder, leave_out):
        suffix = path.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            found.append(path)
        elif suffix in OTHER_SUFFIXES:
            others[suffix].append(path.name)
    for suffix, names in sorted(others.items()):
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        remedy = f"pip install {PLUGIN[suffix]}, or save" if suffix in PLUGIN else "save"
        note(
            f"{suffix} files in {folder} are skipped: {', '.join(sorted(names)[:MOST_NAMES])}{more}; "
            f"{remedy} them as PNG or JPEG"
        )
    return sorted(found)


def visible_files(folder: Path, leave_out: Callable[[Path], bool] | None = None) -> Iterator[Path]:
    """Yield the visible files below `folder`. Links come last, so that a folder is found under its own name."""
    seen, waiting = set(), [folder]
    for start in waiting:  # the loop appends to it
        for place, folders, files in os.walk(start, onerror=_refuse):
            here = Path(place)
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            below = [here / name for name in sorted(folders) if name[0] != "." and name not in FOLDERS_OF_SYSTEMS]
            left_out = [path for path in below if leave_out is not None and leave_out(path)]
            for path in left_out:
                note(f"{path} is skipped: a prediction or a training run wrote it")
            below = [path for path in below if path not in left_out]
            waiting += [path for path in below if path.is_symlink()]
            folders[:] = [path.name for path in below if not path.is_symlink()]
            for path in (here / name for name in files if name[0] != "."):
                if path.is_file() or not path.exists():  # a broken link is reported when it is read
                    yield path


def _refuse(error: OSError) -> None:
    remedy = "name another" if error.errno in (errno.ENOENT, errno.ENOTDIR) else "make it readable, or remove it"
    raise DataError(f"cannot read folder {error.filename}: {error.strerror}; {remedy}")


def note(line: str) -> None:
    """Print a note, from the first process only."""
    if os.environ.get("RANK", "0") == "0":
        print(f"note: {line}", flush=True)


def cityscapes_files(root: Path, split: str):
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
        rows.append((image.stem, image, _if_there(label, split), instance if instance.exists() else None))
    return rows


def camvid_files(root: Path, split: str):
    """Match SPLIT/NAME.* with SPLITannot/NAME.png."""
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
    raise DataError(f"no label {label} for its image in split {split}: add it or remove the image")


LAYOUTS = {"cityscapes": cityscapes_files, "camvid": camvid_files}


def load_source(dataset: str, path: str | None = None) -> tuple[DatasetDict, LabelInfo]:
    """Return the splits of a data set and its label set.

    The splits are "train", "validation" and, if it exists, "test", which may lack labels. `path` defaults to the data
    set's name. Raises `DataError` if folders or files are missing.
    """
    source = source_of(dataset)
    root = Path(path or dataset)
    if not root.is_dir():
        raise DataError(f"no folder {root} (--dataset_path): {source.help}")
    if (root / UNFINISHED).exists():
        raise DataError(f"{root} (--dataset_path) is incomplete: {(root / UNFINISHED).read_text().strip()}")
    splits = {}
    for folder, split in SPLITS.items():
        rows = LAYOUTS[source.layout](root, folder)
        if rows is None and split == "test":
            continue
        if rows is None:
            raise DataError(f"{root} (--dataset_path) lacks the {folder} folder of a {dataset} data set: {source.help}")
        if not rows:
            raise DataError(f"split {folder} of {root} (--dataset_path) is empty: no image found there")
        splits[split] = from_files(rows, f"split {folder} of {root}")
    return DatasetDict(splits), source.labels


def from_files(rows: list[tuple[str, Path, Path | None, Path | None]], where: str) -> Dataset:
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
        other = first.setdefault(_as_file(name), image)
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


def is_text(name: str) -> bool:
    """Return whether a file name is valid UTF-8. Python turns other bytes into surrogates, which cannot be encoded."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def folder_of_images(path: str, leave_out: Callable[[Path], bool] | None = None) -> Dataset:
    """Return the images at any depth below a folder, or a single image, as a split without labels.

    Images are named after their files, without suffix. If two would share a name, all names include the folders below
    `path`. For `leave_out` see `list_images`. Raises `DataError` if there is no image.
    """
    root = Path(path)
    if root.is_file():
        return from_files([(root.stem, root, None, None)], path)
    if not root.is_dir():
        raise DataError(f"no folder and no image {path} (--input)")
    images = list_images(root, leave_out)
    if not images:
        raise DataError(f"no image in {path} (--input)")
    names = [image.stem for image in images]
    if len({_as_file(name) for name in names}) < len(names):
        names = [image.relative_to(root).with_suffix("").as_posix() for image in images]
    return from_files([(name, image, None, None) for name, image in zip(names, images, strict=True)], path)


def _as_file(name: str) -> str:
    """Return a key that is equal for names that some file systems confuse: case and Unicode normal form."""
    return unicodedata.normalize("NFC", name).casefold()
