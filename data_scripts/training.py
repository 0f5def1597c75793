"""The data of a training run: files are checked, decoded once if there is room, and become items."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from datasets import Dataset, DatasetDict

from .check import check_data, fit_crop
from .copyblob import BlobBank, build_bank, parse_rules
from .folds import TRAIN_ON
from .labels import LabelInfo
from .pixels import Pixels, build_decoded
from .sampling import inverse_frequency, repeated, training_split
from .sources import source_of
from .transforms import AugmentOptions, EvalTransform, SharedEpoch, TrainTransform


@dataclass
class TrainingData:
    """train       `pixel_values` and `labels` of augmented items, see `transform`
    validation  items in evaluation, None when they are trained on
    counts      (N, C): pixels of each train id in each training image
    """

    train: Dataset
    validation: Dataset | None
    transform: TrainTransform
    counts: np.ndarray


def trained_splits(args) -> tuple[str, ...]:
    """The splits of `load_data` that are trained on: a fold is held out of its "train" already."""
    return ("train",) if args.fold is not None else TRAIN_ON[args.train_on]


def count_images(args, data: DatasetDict) -> int:
    return sum(len(data[name]) for name in trained_splits(args))


def make_training_data(
    args, data: DatasetDict, labels: LabelInfo, epoch: SharedEpoch, once: Callable, speaks: bool
) -> TrainingData:
    """Look at every file, build what is kept in the cache, and say how items are made.

    args    the training flags
    once    `once(function, *args)`: the result, or the error, of a call in one of several processes
    speaks  whether this process shows progress
    """
    train_on = trained_splits(args)
    rules = parse_rules(args.copyblob_rules or labels.copyblob, labels) if args.copyblob != "none" else ()
    counts, sizes = once(check_data, data, labels, train_on, speaks)
    images = training_split(*(data[name] for name in train_on))

    def pixels_of(split: Dataset, size, name: str) -> Pixels:
        folder, refusal = once(build_decoded, split, labels, size, name, speaks) if args.cache else (None, "")
        if refusal and speaks:
            print(f"note: {refusal}", flush=True)
        return Pixels(split, labels, size, folder)

    pixels, weights, blobs = pixels_of(images, args.train_size, "training"), inverse_frequency(counts.sum(0)), None
    if args.copyblob == "bank":
        blobs = BlobBank(once(build_bank, pixels, labels, rules, counts, speaks), weights, labels)
    default_size, scales = source_of(args.dataset).crop_size, args.scale_range or AugmentOptions.scale_range
    chosen = {
        "crop_size": fit_crop(args.crop_size, default_size, [args.train_size] if args.train_size else sizes, scales[1]),
        "scale_range": scales,
        "hflip": args.hflip,
        "rotation": args.rotation,
        "jitter": args.colorjitter_factor,
        "photometric": args.photometric,
        "class_crop_prob": args.class_crop_prob,
        "class_weights": weights,
        "cutmix": args.cutmix,
        "cutmix_prob": args.cutmix_prob,
        "cutmix_boxes": args.cutmix_boxes,
        "cutmix_beta": args.cutmix_beta,
        "blobs": blobs,
        "copyblob_prob": args.copyblob_prob,
        "batch_rules": rules if args.copyblob == "tutorial" else (),
    }
    options = AugmentOptions(**{name: value for name, value in chosen.items() if value is not None})
    transform = TrainTransform(pixels, labels.ignore_index, args.seed, epoch, options)
    items = images if args.sampling == "shuffle" else repeated(len(images))
    validation = None
    if "validation" not in train_on:
        split = data["validation"]
        validation = split.with_transform(EvalTransform(pixels_of(split, None, "validation")))
    return TrainingData(items.with_transform(transform), validation, transform, counts)
