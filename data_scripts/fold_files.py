"""Folds: hold labelled images out of training, and validate on them instead.

A folds file is JSON. It maps the name of each fold to the names of the images that it holds out.

    {"T": ["0006R0_f00930", "0006R0_f00960"], "U": ["0016E5_00390"]}

`--folds FILE --fold T` validates on the images of T and trains on the others.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict

from .catalog import TRAIN_ON, source_of
from .hub_data import Columns
from .labels import DataError, LabelInfo
from .sampling import training_split
from .sources import load_source
from .val_share import VAL_SHARE, hold_share_out


@dataclass(frozen=True)
class Division:
    """How images are divided into those to train on and those to validate on: the values of these flags."""

    folds: str | None = None
    fold: str | None = None
    train_on: str = "train"
    val_share: float | None = None
    group_by: str | None = None

    def refuse_unused(self, data: DatasetDict, where: str) -> None:
        """Raise `DataError` if `val_share` or `group_by` has no effect on `data`, which lie in `where`."""
        flags = {"--val_share": self.val_share, "--group_by": self.group_by}
        given = next((flag for flag, value in flags.items() if value is not None), None)
        if given and "validation" in data:
            raise DataError(f"{given} has no effect, because {where} has validation images: leave it out")
        if given and self.fold is not None:
            raise DataError(f"{given} has no effect, because --fold names the images to hold out: leave it out")
        if given and self.trains_on_all:
            raise DataError(f"{given} has no effect, because --train_on train+val holds no images out: leave it out")

    @property
    def trains_on_all(self) -> bool:
        """Whether a run trains on its validation images too."""
        return self.train_on != "train" and self.fold is None

    def share_of(self, dataset: str, data: DatasetDict) -> float | None:
        """Return the share of the training images that `divided` holds out, or None if it holds no share out."""
        if "validation" in data or self.fold is not None:
            return None
        is_own = source_of(dataset).labels is None
        return VAL_SHARE if self.val_share is None and is_own else self.val_share

    def held_out(self, dataset: str, data: DatasetDict, parts: DatasetDict) -> str | None:
        """Return a digest of the names of the images that `divided` took out of training, or None if it took none.

        Models with the same digest were trained without the same images.

        data   the splits before the division
        parts  the splits after it
        """
        if self.fold is None and self.share_of(dataset, data) is None:
            return None
        return hashlib.sha256("\n".join(sorted(parts["validation"]["name"])).encode()).hexdigest()[:16]


def load_data(
    dataset: str, path: str | None, division: Division | None = None, columns: Columns = (None, None)
) -> tuple[DatasetDict, LabelInfo]:
    """Call `load_source`, and return splits that include "train" and "validation", as `divided` makes them.

    Raises `DataError` if `val_share` or `group_by` would have no effect.
    """
    division = division or Division()
    data, labels = load_source(dataset, path, columns)
    division.refuse_unused(data, path or dataset)
    return divided(data, labels, division, dataset, path), labels


def divided(data: DatasetDict, labels: LabelInfo, division: Division, dataset: str, path: str | None) -> DatasetDict:
    """Return the splits of `load_source(dataset, path)` with "train" and "validation".

    With a fold, the images of `train_on` are divided into these two. Without a fold, data without validation images
    give `val_share` of their training images for them (see `val_share.py`). One's own data do so without that flag
    too. Raises `DataError` if a benchmark's validation images are missing and no share is given.
    """
    if division.fold is not None:
        splits = tuple(split for split in TRAIN_ON[division.train_on] if split in data)
        names = read_fold(division.folds, division.fold)
        return hold_out(data, splits, names, f"fold {division.fold} of --folds {division.folds}")
    if "validation" in data:
        return data
    share = division.share_of(dataset, data)
    if share is None:
        remedy = f"train with {'--train_on train ' if division.trains_on_all else ''}--val_share {VAL_SHARE}"
        raise DataError(
            f"{path or dataset} (--dataset_path) has no validation images of a {dataset} data set (val): "
            f"{source_of(dataset).help}; or hold some of its training images out: {remedy}"
        )
    parts = hold_share_out(data["train"], labels, share, division.group_by, say=not division.trains_on_all)
    return DatasetDict({**data, **parts})


def read_fold(path: str, fold: str) -> list[str]:
    """Return the names of the images that `fold` of the folds file `path` holds out.

    Raises DataError if the file cannot be read or has no such fold.
    """
    try:
        folds = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read --folds {path}: {error}") from error
    if not isinstance(folds, dict) or not folds:
        raise DataError(f"--folds {path} is not a JSON object of folds, each with a list of image names")
    if fold not in folds:
        raise DataError(f"--fold {fold} is not in {path}: choose one of {', '.join(folds)}")
    names = folds[fold]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"fold {fold} of --folds {path} is not a list of image names")
    return names


def hold_out(data: DatasetDict, train_on: tuple[str, ...], names: list[str], where: str) -> DatasetDict:
    """Return new splits: the images of `train_on` in `names` become "validation", the others "train".

    data      splits with the columns of `load_source`; a "test" split stays as it is
    train_on  the splits of `data` to divide; labelled images of other splits are left out
    names     names of the images to hold out
    where     name of the fold in errors

    Raises DataError if a name is unknown or ambiguous, or if no training image remains.
    """
    pool = training_split(*(data[split] for split in train_on))
    known, held_out = set(pool["name"]), set(names)
    if len(known) < len(pool):
        twice = next(name for name in pool["name"] if pool["name"].count(name) > 1)
        raise DataError(
            f"{where}: image {twice} is in both {' and '.join(train_on)}, so it cannot be held out: rename one"
        )
    if unknown := sorted(held_out - known):
        splits = " and ".join(train_on)
        raise DataError(
            f"{where} names {unknown[0]}: there is no such image in {splits} ({len(unknown)} unknown names)"
        )
    if known == held_out:
        raise DataError(f"{where} holds out all {len(known)} images and leaves none to train on")
    is_held_out = np.array([name in held_out for name in pool["name"]])
    rest = {name: split for name, split in data.items() if name not in ("train", "validation")}
    parts = {"train": _rows(pool, ~is_held_out), "validation": _rows(pool, is_held_out)}
    return DatasetDict(parts | rest)


def _rows(pool: Dataset, chosen: np.ndarray) -> Dataset:
    """Return the rows of `pool` where `chosen` is true, with a new `index`."""
    return training_split(pool.select(np.flatnonzero(chosen)))
