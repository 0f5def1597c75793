"""Hold a share of the training images out for validation, where a data set brings no validation images.

The division depends on the images alone, so training and prediction find the same one. It spreads each class evenly
(`splitting.divide`). Near-duplicates (`near_duplicates.groups`) and frames of a sequence (`--group_by`) stay together,
because a score on an image that training has almost seen says nothing.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict

from . import near_duplicates
from .cache import cached_folder, names_of
from .file_checks import check_split
from .labels import DataError, LabelInfo
from .listing import note
from .sampling import training_split
from .splitting import divide

VAL_SHARE = 0.2  # of the images, without --val_share
VERSION = 1  # of the cached facts: raise it when counting or hashing changes


def hold_share_out(
    split: Dataset, labels: LabelInfo, share: float, group_by: str | None, say: bool = True
) -> DatasetDict:
    """Return the images of `split` as "train" and "validation". Decodes every file, and keeps the result in the cache.

    share     share of the images for validation
    group_by  regular expression whose first group, in the name of an image, names its sequence
    say       whether to print how many images are held out

    Raises `DataError` for a damaged file, a wrong expression, or if the images cannot be divided.
    """
    counts, groups = counts_and_groups(split, labels, group_by)
    number = len(np.unique(groups))
    if number < 2:
        alike = f"all {len(split)} images look alike or are one sequence"
        what = alike if len(split) > 1 else "there is only one image"
        raise DataError(f"--val_share: {what}, so none can be held out: add a folder val of other images")
    part = divide(counts, groups, (1 - share, share))
    held_out = int((part == 1).sum())
    form = f", which form {number} groups," if number < len(split) else ""
    if say:
        note(f"{held_out} of {len(split)} images{form} are held out for validation (--val_share)")
    parts = {name: split.select(np.flatnonzero(part == i)) for i, name in enumerate(("train", "validation"))}
    return DatasetDict({name: training_split(rows) for name, rows in parts.items()})


def counts_and_groups(split: Dataset, labels: LabelInfo, group_by: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Return what `divide` needs: pixels of each class in each image, (N, C), and the group of each image, (N,).

    Decodes every file, and keeps the result in the cache. For `group_by` and errors see `hold_share_out`.
    """
    sequences = None if group_by is None else sequences_of(split["name"], group_by)
    counts, alike = _facts(split, labels)
    return counts, alike if sequences is None else joined(alike, sequences)


def sequences_of(names: Sequence[str], pattern: str) -> np.ndarray:
    """Return the number of each image's sequence, int (N,)."""
    try:
        found = [re.search(pattern, name) for name in names]
    except re.error as error:
        raise DataError(f"--group_by {pattern} is not a regular expression: {error}") from error
    for name, match in zip(names, found, strict=True):
        if match is None:
            raise DataError(f"--group_by {pattern} does not match the image {name}: every image needs a sequence")
        if not match.groups() or match[1] is None:
            raise DataError(
                f"--group_by {pattern} has no group that names the sequence of {name}: put parentheses around it, as "
                "in '(.*)_[0-9]+'"
            )
    return np.unique([match[1] for match in found], return_inverse=True)[1].reshape(-1)


def joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return groups (N,) that keep together what either of two groupings (N,), numbered from 0, keeps together."""
    group = np.arange(len(first))
    while True:
        before = group
        for other in (first, second):
            least = np.full(other.max() + 1, len(group))
            np.minimum.at(least, other, group)
            group = least[other]
        if (group == before).all():
            return group


def _facts(split: Dataset, labels: LabelInfo) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels of each class in each image, (N, C), and the group of near-duplicates of each image, (N,)."""
    progress = os.environ.get("RANK", "0") == "0"

    def build(folder: Path) -> None:
        counts, _ = check_split(split, labels, "images to divide", progress)
        np.save(folder / "counts.npy", counts)
        np.save(folder / "alike.npy", near_duplicates.groups(split["image"], progress))

    files = [file for row in split.select_columns(["image", "label"]) for file in (row["image"], row["label"])]
    settings = (VERSION, near_duplicates.NEAR, *labels.cache_key, labels.void_ids)
    folder = cached_folder(*names_of("facts", files, *settings), build)
    return np.load(folder / "counts.npy"), np.load(folder / "alike.npy")
