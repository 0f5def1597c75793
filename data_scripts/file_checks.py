"""Check every file of a split before any long work starts, and count the pixels of each class."""

from collections.abc import Sequence

import numpy as np
from datasets import Dataset, DatasetDict

from .cache import mapped
from .findings import SMOOTHED, rare_classes
from .labels import BLACK_AND_WHITE, IGNORE_INDEX, DataError, LabelInfo, MaskError
from .near_duplicates import equal_files
from .reader import content_of, decoding, describe, open_image, read_label, stored_size, upright_size

_ONLY = f"holds only 0 and {IGNORE_INDEX}, and {IGNORE_INDEX} always means ignored"


def check_data(
    data: DatasetDict,
    labels: LabelInfo,
    train_on: Sequence[str],
    validation_labels: LabelInfo | None = None,
    command: str = "python -m data_scripts.check",
) -> tuple[np.ndarray, np.ndarray]:
    """Check every file that training will read, and print what stands out. Raises `DataError` for the first bad one.

    Returns, for the training images, pixels of each train id, int64 (N, C), and heights and widths, int (N, 2).
    `train_on` names the splits to train on, in order. `validation_labels` is the label set of the validation images, if
    it is another one than `labels`. `command` looks at the same data.
    """
    label_sets = {"train": labels, "validation": validation_labels or labels}
    checked = {name: _check_rows(data[name], known, name, True) for name, known in label_sets.items()}
    counts, sizes = (np.concatenate([checked[name][i] for name in train_on]) for i in (0, 1))
    if np.count_nonzero(counts.sum(0)) < 2:
        raise DataError(_nothing_to_learn([(data[name], label_sets[name]) for name in train_on], counts, command))
    validation = None if "validation" in train_on else checked["validation"][0]
    same_labels = validation_labels is None or validation_labels == labels
    lines = [finding.title for finding in rare_classes(labels.names, counts, validation if same_labels else None)]
    if validation is not None:
        lines += _known_images(data)
    for line in [*lines, *([f"{command} says more"] if lines else [])]:
        print(f"note: {line}")
    return counts, sizes


def _nothing_to_learn(splits: Sequence[tuple[Dataset, LabelInfo]], counts: np.ndarray, command: str) -> str:
    """Return why training pixels of fewer than two classes cannot be trained on. `counts` (N, C) are those pixels."""
    labels = splits[0][1]
    for row, known in ((row, known) for split, known in splits for row in split):
        ids = read_label(row["label"], row["image"], known.colors_of(row["label"]))
        if {*np.unique(ids)} == BLACK_AND_WHITE:
            return f"mask {describe(row['label'])} {_ONLY}{_remedy(labels, 'values')}"
    shown = [labels.names[i] for i in np.flatnonzero(counts.sum(0))]
    what = f"{shown[0]} or ignored, so there is nothing to learn" if shown else "ignored: no mask holds a class's id"
    return f"every training pixel is {what}: label at least two classes; {command} says more"


def _remedy(labels: LabelInfo, kind: str) -> str:
    return f": {labels.remedies[kind]}" if kind in labels.remedies else ""


def _known_images(data: DatasetDict) -> list[str]:
    """Return a line if validation images equal training images, byte for byte."""
    train, validation = list(data["train"]["image"]), list(data["validation"]["image"])
    sets = [alike for alike in equal_files(train + validation) if alike[0] < len(train) <= alike[-1]]
    if not sets:
        return []
    number = sum(index >= len(train) for alike in sets for index in alike)
    first, same = ((train + validation)[sets[0][i]] for i in (0, -1))
    return [
        f"{number} of {len(validation)} validation images are training images too, such as {describe(same)} = "
        f"{describe(first)}: a score on them says nothing about new images"
    ]


def check_split(
    split: Dataset, labels: LabelInfo, name: str, progress: bool = True
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return pixels of each train id per image, int64 (N, C), and the smallest height and width over all images.

    Labels are decoded. PNG and WebP images are only checked for completeness, because a 2-megapixel photo takes 50 ms
    to decode and 3 ms to check; other formats are decoded. Without a label column, the counts are zero. Raises
    `DataError` for the first bad file: truncated, of another size than its image, or with an id that the label set does
    not know.
    """
    counts, sizes = _check_rows(split, labels, name, progress)
    return counts, tuple(sizes.min(axis=0).tolist())


def _check_rows(split: Dataset, labels: LabelInfo, name: str, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    counts, sizes = zip(*mapped(lambda row: _check_row(row, labels), split, f"Checking {name}", progress), strict=True)
    return np.stack(counts), np.array(sizes)


def _check_row(row: dict, labels: LabelInfo) -> tuple[np.ndarray, tuple[int, int]]:
    check_whole(row["image"])
    size = upright_size(row["image"])
    if "label" not in row:
        return np.zeros(len(labels.names), np.int64), size
    try:
        ids = read_label(row["label"], row["image"], labels.colors_of(row["label"]))
    except MaskError as error:
        raise DataError(f"{error}{_remedy(labels, error.kind)}") from error
    where = f"mask {describe(row['label'])}"
    if ids.shape != size:
        raise DataError(
            f"{where} is {_by(ids.shape)} (height x width), but its image {describe(row['image'])} is {_by(size)}: "
            "use the photo that was labelled, or export the mask at its size"
        )
    if "instance" in row:
        check_whole(row["instance"], "instance map")
        shape = open_image(row["instance"], "instance map").size[::-1]
        if shape not in (size, stored_size(open_image(row["image"]))[::-1]):
            raise DataError(f"instance map {describe(row['instance'])} is {_by(shape)} but its {where} is {_by(size)}")
    histogram = np.bincount(ids.reshape(-1), minlength=256)
    unknown = np.flatnonzero((histogram > 0) & ~labels.known_ids)
    if len(unknown) and {*np.flatnonzero(histogram)} == BLACK_AND_WHITE:
        raise DataError(f"{where} {_ONLY}{_remedy(labels, 'values')}")
    if len(unknown):
        others = f" and {len(unknown) - 1} others" if len(unknown) > 1 else ""
        kind = "id" if len(unknown) <= SMOOTHED else "values"
        raise DataError(
            f"{where} holds id {unknown[0]}{others}, which {labels.name} does not list{_remedy(labels, kind)}"
        )
    return histogram[list(labels.source_ids)], size


def fit_crop(
    asked: Sequence[int] | None, default: tuple[int, int], sizes: Sequence[Sequence[int]], largest_scale: float
) -> tuple[int, int]:
    """Return the crop size (H, W) for images of `sizes` (N, 2). Smaller images are padded.

    `asked` is `--crop_size`. Raises `DataError` if it exceeds the largest height or width at the largest scale. If it
    is None, the crop size is `default`, but at most the median height and width.
    """
    if asked is None:
        return tuple(map(min, default, np.percentile(sizes, 50, axis=0, method="lower").tolist()))
    largest = np.max(sizes, axis=0).tolist()
    if any(crop > side * largest_scale for crop, side in zip(asked, largest, strict=True)):
        raise DataError(
            f"--crop_size {asked[0]} {asked[1]} does not fit: at the largest scale ({largest_scale}) the training "
            f"images are at most {largest[0] * largest_scale:.0f}x{largest[1] * largest_scale:.0f}: "
            "give a smaller --crop_size"
        )
    return tuple(asked)


def upright_and_wide(sizes: Sequence[Sequence[int]]) -> bool:
    """Return whether at least a fifth of the images of `sizes` (N, 2) are upright, and at least a fifth wide."""
    heights, widths = np.transpose(sizes)
    return min((heights > widths).mean(), (widths > heights).mean()) >= 0.2


def check_whole(file: dict, what: str = "image") -> None:
    """Raise `DataError` if an image file is truncated or damaged. PNG and WebP are checked without decoding."""
    image = open_image(file, what)
    with decoding(file, what):
        if image.format == "PNG":
            image.verify()  # walks the chunks and compares their checksums
        elif image.format == "WEBP":
            data = content_of(file)
            if len(data) < 8 + int.from_bytes(data[4:8], "little"):
                raise OSError("it has fewer bytes than its header says")
        else:
            image.load()


def _by(size: tuple[int, ...]) -> str:
    return f"{size[0]}x{size[1]}"
