"""Prepare the data of a training run: check the files, decode them once if there is room, and make items of them."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from datasets import Dataset, DatasetDict

from .arguments import AugmentOptions, DataOptions, DivisionOptions
from .catalog import TRAIN_ON, source_of
from .copyblob import BlobBank, build_bank, parse_rules
from .evaluation import Scoring, load_evaluation
from .file_checks import check_data, fit_crop, upright_and_wide
from .fold_files import Division, divided
from .hub_data import columns_of
from .labels import DataError, LabelInfo
from .listing import note
from .loading import Order
from .pixels import Pixels, build_decoded
from .sampling import inverse_frequency, make_order, repeated, training_split
from .sources import load_source
from .transforms import EvalTransform, RareClasses, SharedEpoch, TrainTransform
from .val_share import sequences_of

STRETCHED = 1.2  # change of an image's shape that the user should know of


@dataclass
class TrainingData:
    """The data of a training run.

    train       augmented items with `pixel_values` and `labels`
    order       order of an epoch's items, for `TrainBatches`; None: a permutation of the images
    validation  evaluation items, or None if the run trains on them
    transform   the transform of `train`
    counts      (N, C): pixels of each train id in each training image
    """

    train: Dataset
    order: Order | None
    validation: Dataset | None
    transform: TrainTransform
    counts: np.ndarray


def load_training_data(options: DataOptions) -> tuple[DatasetDict, Scoring, dict]:
    """Return the splits of a run, how its validation images are scored, and entries of config.json on their division.

    The entries are the share of the training images that is held out (`val_share`), and which images are (`held_out`);
    each is None if there are none. Opens the files only if a share is held out. With --eval_dataset, "train" holds all
    images to train on, and "validation" those of the other data set.
    """
    data, labels = load_source(options.dataset, options.path, columns_of(options))
    entries = {"val_share": None, "held_out": None}
    if options.eval_dataset is None:
        division = division_of(options)
        division.refuse_unused(data, options.path or options.dataset)
        parts = divided(data, labels, division, options.dataset, options.path)
        if not division.trains_on_all:
            entries["val_share"] = division.share_of(options.dataset, data)
            entries["held_out"] = division.held_out(options.dataset, data, parts)
        return parts, Scoring(labels, labels), entries
    train = training_split(*(data[name] for name in TRAIN_ON[options.train_on] if name in data))
    other, scoring = load_evaluation(options, labels)
    note(f"{len(other['validation'])} images of {' in '.join(options.eval_dataset)} are {scoring.explain()}")
    return DatasetDict({"train": train, "validation": other["validation"]}), scoring, entries


def division_of(options: DivisionOptions) -> Division:
    """Return how the flags divide the images."""
    return Division(options.folds, options.fold, options.train_on, options.val_share, options.group_by)


def load_to_look_at(options: DivisionOptions) -> tuple[DatasetDict, LabelInfo, str]:
    """Return the splits of a data set to look at, their label set, and an empty string.

    If a bad file prevents the division into training and validation images, return the splits as they are in the
    folder, and the reason. So each file can still be looked at. Raises `DataError`, before any image is read, if a flag
    is wrong or has no effect.
    """
    if options.train_on != "train" and options.fold is None:
        raise DataError(f"--train_on {options.train_on} has no effect without --fold: every split is looked at anyway")
    data, labels = load_source(options.dataset, options.path, columns_of(options))
    division = division_of(options)
    division.refuse_unused(data, options.path or options.dataset)
    if division.group_by is not None:
        sequences_of(data["train"]["name"], division.group_by)
    try:
        return divided(data, labels, division, options.dataset, options.path), labels, ""
    except DataError as error:
        if division.fold is not None:  # which reads no image
            raise
        return data, labels, str(error)


def check_command(options: DivisionOptions) -> str:
    """Return the command that looks at every file of the data set."""
    flags = ["--dataset_name", options.dataset_name] if options.dataset_name else ["--dataset", options.dataset]
    if options.dataset_path is not None:
        flags = [options.dataset_path, *(flags if options.dataset != "folder" else [])]
    return shlex.join(["python", "-m", "data_scripts.check", *flags])


def count_images(options: DataOptions, data: DatasetDict) -> int:
    """Return the number of training images."""
    return sum(len(data[name]) for name in options.splits)


def make_training_data(
    options: DataOptions,
    augmentation: AugmentOptions,
    data: DatasetDict,
    scoring: Scoring,
    epoch: SharedEpoch,
    seed: int,
    once: Callable,
) -> TrainingData:
    """Check every file, fill the cache, and return the items of a training run.

    once  `once(function, *args)` calls a function in one process of each machine and returns its result, or raises its
          error, in all
    """
    labels = scoring.labels
    rules = ()
    if augmentation.copyblob != "none":  # refuse wrong rules before the long check of the files
        rules = parse_rules(augmentation.copyblob_rules or labels.copyblob, labels)
    counts, sizes = once(check_data, data, labels, options.splits, scoring.files, check_command(options))
    if options.train_size:
        note_on_shape(options.train_size, sizes)
    images = training_split(*(data[name] for name in options.splits))
    pixels = pixels_of(images, labels, options.train_size, "training", options.cache, once)
    weights = inverse_frequency(counts.sum(0))
    blobs = None
    if augmentation.copyblob == "bank":
        blobs = BlobBank(once(build_bank, pixels, labels, rules, counts, True), weights, labels)
    rare = RareClasses(weights, blobs, rules if augmentation.copyblob == "tutorial" else ())
    fitted = fit_crop(
        augmentation.crop_size,
        source_of(options.dataset).crop_size,
        [options.train_size] if options.train_size else sizes,
        augmentation.scale_range[1],
    )
    augmentation = replace(augmentation, crop_size=fitted)
    transform = TrainTransform(pixels, seed, epoch, augmentation, rare)
    items = images
    order = None
    if options.sampling != "shuffle":
        items = repeated(len(images))
        order = make_order(options.sampling, counts)
    validation = None
    if "validation" not in options.splits:
        split = data["validation"]
        seen = pixels_of(split, scoring.files, None, "validation", options.cache, once)
        validation = split.with_transform(EvalTransform(seen, table=scoring.table))
    return TrainingData(items.with_transform(transform), order, validation, transform, counts)


def note_on_shape(size: Sequence[int], sizes: np.ndarray) -> None:
    """Print a note if resizing images of `sizes` (N, 2) to `size` (H, W) makes some visibly wider or narrower."""
    factors = sizes[:, 0] / sizes[:, 1] * size[1] / size[0]
    stretched = (np.maximum(factors, 1 / factors) > STRETCHED).sum()
    if stretched:
        advice = "choose the shape of your images"
        if upright_and_wide(sizes):
            advice = "upright and wide images have no shape in common, and a square changes both alike"
        note(
            f"--train_size {size[0]} {size[1]} (height, width) changes the shape of {stretched} of {len(sizes)} "
            f"training images by more than a fifth: {advice}"
        )


def pixels_of(
    split: Dataset, labels: LabelInfo, size: Sequence[int] | None, name: str, cache: bool, once: Callable
) -> Pixels:
    """Return the pixels of `split`, resized to `size` (H, W) if given, and cached if `cache` is set and they fit."""
    folder, refusal = once(build_decoded, split, labels, size, name, True) if cache else (None, "")
    if refusal:
        note(refusal)
    return Pixels(split, labels, size, folder)
