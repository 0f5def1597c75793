"""Flags that select the data and augment the training images.

`seg_runs.parsing` reads the metadata of each field. Its docstring lists the keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from transformers.hf_argparser import HfArg

from .catalog import DATASETS, SPLITS, TRAIN_ON
from .labels import DataError

COPYBLOB = ("bank", "tutorial", "none")
SAMPLING = ("shuffle", "rare", "balanced")
SHARE = {"least": 0, "most": 1}
READ = (
    "data set to read; folder means your own images/, masks/ and classes.yaml, hub means --dataset_name (default: the "
    "one that --dataset_path holds, or {})"
)


@dataclass(frozen=True)
class SourceOptions:
    """Which images and labels are read."""

    dataset: str | None = HfArg(
        default=None,
        help=READ.format("minicity without a path"),
        metadata={"choices": tuple(DATASETS), "instead": "your own folder goes to --dataset_path"},
    )
    dataset_path: str | None = HfArg(
        default=None, help="folder of the data set (default: ./NAME-OF-THE-DATASET)", metadata={"may_change": True}
    )
    dataset_name: str | None = HfArg(
        default=None,
        help="data set of the Hugging Face datasets library, instead of --dataset: a hub id (USER/NAME), or a folder "
        "written by save_to_disk or of Parquet files",
        metadata={"metavar": "ID", "may_change": True, "added": "2026-11-26 06:36"},
    )
    image_column: str | None = HfArg(
        default=None,
        help="column of images in --dataset_name (default: the one with a usual name such as image, or the only one)",
        metadata={"needs_one_of": ("dataset_name",), "metavar": "NAME", "added": "2026-11-26 06:36"},
    )
    label_column: str | None = HfArg(
        default=None,
        help="column of masks in --dataset_name (default: the one with a usual name such as mask, or the only other)",
        metadata={"needs_one_of": ("dataset_name",), "metavar": "NAME", "added": "2026-11-26 06:36"},
    )
    folds: str | None = HfArg(
        default=None,
        help="JSON file that maps the name of each fold to the names of its held-out images",
        metadata={"metavar": "FILE", "may_change": True, "added": "2026-11-25 22:04"},
    )
    fold: str | None = HfArg(
        default=None,
        help="fold of --folds whose images are the validation split; the others are for training",
        metadata={"added": "2026-11-25 22:04"},
    )

    @property
    def path(self) -> str | None:
        """What `load_source` takes as the path."""
        return self.dataset_path if self.dataset_name is None else self.dataset_name

    def __post_init__(self):
        if self.dataset_name is None and self.dataset == "hub":
            raise DataError(f"--dataset hub needs --dataset_name: {DATASETS['hub'].help}")
        if self.dataset_name is not None:
            other = "--dataset_path" if self.dataset_path is not None else f"--dataset {self.dataset}"
            if self.dataset_path is not None or self.dataset not in (None, "hub"):
                raise DataError(f"--dataset_name and {other} exclude each other: both say what to read")
        if (self.folds is None) != (self.fold is None):
            given, missing = ("--folds", "--fold") if self.folds else ("--fold", "--folds")
            raise DataError(
                f"{given} needs {missing}: name both the file of folds and the fold to hold out "
                "(python -m data_scripts.folds writes the file)"
            )


@dataclass(frozen=True)
class ScoringOptions(SourceOptions):
    """Which images and labels are read, and those of which data set are scored."""

    eval_dataset: list[str] | None = HfArg(
        default=None,
        help="another data set and its folder: validate and score on its validation images",
        metadata={
            "takes": "a data set and its folder, such as kitti ./kitti",
            "metavar": ("NAME", "PATH"),
            "may_change": True,
            "added": "2026-11-26 05:45",
        },
    )
    class_map: str | None = HfArg(
        default=None,
        help="YAML file that maps classes of the network to classes of --eval_dataset (default: by name)",
        metadata={"metavar": "FILE", "added": "2026-11-26 05:45"},
    )
    num_workers: int = HfArg(
        default=2,
        help="data loading workers per process",
        metadata={"least": 0, "most": 1024, "may_change": True, "no_score": True},
    )

    @property
    def scored_dataset(self) -> str | None:
        """Name of the data set whose images are scored."""
        return self.eval_dataset[0] if self.eval_dataset else self.dataset

    def __post_init__(self):
        super().__post_init__()
        if self.class_map is not None and self.eval_dataset is None:
            raise DataError("--class_map needs --eval_dataset: it maps the network's classes to that data set's")
        if self.eval_dataset is None:
            return
        if self.eval_dataset[0] not in DATASETS:
            known = ", ".join(DATASETS)
            raise DataError(
                f"--eval_dataset {self.eval_dataset[0]} is not known: choose one of {known}, and its folder"
            )
        if self.fold is not None:
            raise DataError("--fold and --eval_dataset exclude each other: both say which images to score on")


@dataclass(frozen=True)
class DivisionOptions(SourceOptions):
    """Which images and labels are read, and how they are divided into those to train and those to validate on."""

    _argument_group_name: ClassVar[str] = "Data"

    train_on: str = HfArg(
        default="train",
        help="splits to train on; train+val leaves no validation images unless --fold or --eval_dataset names some",
        metadata={"choices": tuple(TRAIN_ON), "added": "2026-11-21 14:48"},
    )
    val_share: float | None = HfArg(
        default=None,
        help="share of the training images to validate on, if there are no validation images (default: 0.2 for "
        "your own data; a benchmark without validation images needs it)",
        metadata={"above": 0, "below": 1, "added": "2026-11-26 05:00"},
    )
    group_by: str | None = HfArg(
        default=None,
        help="regular expression for --val_share: images with the same first group in their names, such as the frames "
        "of a video, stay together",
        metadata={"metavar": "REGEX", "added": "2026-11-26 05:00"},
    )


@dataclass(frozen=True)
class DataOptions(DivisionOptions, ScoringOptions):
    """Which images training reads, and how often."""

    train_size: list[int] | None = HfArg(
        default=None,
        help="resize training images to exactly this height and width before augmentation; give --test_size too "
        "(default: do not resize)",
        metadata={"kind": "size"},
    )
    sampling: str = HfArg(
        default="shuffle",
        help="draw each image once per epoch (shuffle), or draw a class, by inverse frequency (rare) or in turn "
        "(balanced), and then an image that shows it",
        metadata={"choices": SAMPLING, "added": "2026-11-21 14:48"},
    )
    cache: bool = HfArg(
        default=True,
        help="decode images once and keep them in $MINICITY_SEG_CACHE or ~/.cache/minicity-seg, if they fit into half "
        "of the free memory and half of the free disk space",
        metadata={
            "negated": "decode images each time they are read",
            "may_change": True,
            "no_score": True,
            "added": "2026-11-21 15:36",
        },
    )

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits of `load_training_data` to train on. With a fold or --eval_dataset, "train" already holds them all."""
        divided = self.fold is not None or self.eval_dataset is not None
        return ("train",) if divided else TRAIN_ON[self.train_on]

    def __post_init__(self):
        super().__post_init__()
        if self.eval_dataset is not None and (self.val_share is not None or self.group_by is not None):
            given = "--val_share" if self.val_share is not None else "--group_by"
            raise DataError(f"{given} and --eval_dataset exclude each other: both say which images to score on")


@dataclass(frozen=True)
class AugmentOptions:
    """Augmentations of a training image. `transforms.TrainTransform` applies them, in an order of its own."""

    _argument_group_name: ClassVar[str] = "Augmentation"

    crop_size: list[int] | None = HfArg(
        default=None,
        help="height and width of training crops (default: the data set's, reduced for smaller images)",
        metadata={"kind": "size"},
    )
    scale_range: list[float] = HfArg(
        default_factory=lambda: [0.75, 2.0],
        help="lowest and highest factor of the random scale",
        metadata={
            "most": 100,
            "metavar": ("LOW", "HIGH"),
            "takes": "the lowest and the highest scale",
            "null_in_older": True,
        },
    )
    rotation: float = HfArg(
        default=0.0,
        help="largest random rotation in degrees, in either direction",
        metadata={"least": 0, "most": 180, "added": "2026-11-21 14:48"},
    )
    hflip: bool = HfArg(
        default=True,
        help="flip half of the training images horizontally",
        metadata={"negated": "do not flip training images"},
    )
    class_crop_prob: float = HfArg(
        default=0.0,
        help="probability of placing a crop on a class that is drawn by inverse frequency",
        metadata={**SHARE, "added": "2026-11-21 14:48"},
    )
    copyblob: str = HfArg(
        default="none",
        help="paste objects of rare classes onto matching ground; bank takes objects from all training images and "
        "scales them to the perspective, tutorial takes unscaled objects from the same batch; --copyblob without a "
        "value means bank",
        metadata={"nargs": "?", "const": "bank", "choices": COPYBLOB, "added": "2026-11-21 12:12"},
    )
    copyblob_rules: list[str] | None = HfArg(
        default=None,
        help="OBJECT:GROUND pairs of classes for --copyblob, such as fence:sidewalk (default: the data set's)",
        metadata={"needs": {"copyblob": ("bank", "tutorial")}, "metavar": "OBJECT:GROUND", "added": "2026-11-21 14:48"},
    )
    copyblob_prob: float = HfArg(
        default=0.5,
        help="with --copyblob bank, probability of each of an image's three pastes",
        metadata={"needs": {"copyblob": ("bank",)}, **SHARE, "added": "2026-11-21 14:48"},
    )
    colorjitter_factor: float = HfArg(
        default=0.3,
        help="strength of brightness, contrast, saturation and hue jitter; 0 turns it off",
        metadata={"needs": {"photometric": (False,)}, **SHARE},
    )
    photometric: bool = HfArg(
        default=False,
        help="use SSD's photometric distortion instead of colour jitter",
        metadata={"added": "2026-11-21 14:48"},
    )
    cutmix: bool = HfArg(
        default=False,
        help="replace boxes in each image with the same boxes of another",
        metadata={"added": "2026-11-21 12:12"},
    )
    cutmix_prob: float = HfArg(
        default=1.0,
        help="probability of applying CutMix to an image",
        metadata={"needs": {"cutmix": (True,)}, **SHARE, "added": "2026-11-21 14:48"},
    )
    cutmix_boxes: int = HfArg(
        default=1,
        help="boxes per image",
        metadata={"needs": {"cutmix": (True,)}, "least": 1, "most": 1000, "added": "2026-11-21 14:48"},
    )
    cutmix_beta: float = HfArg(
        default=1.0,
        help="draw the boxes' share of the image from Beta(B, B), where B is this value",
        metadata={"needs": {"cutmix": (True,)}, "above": 0, "added": "2026-11-21 14:48"},
    )

    def __post_init__(self):
        lowest, highest = self.scale_range
        if not 0 < lowest <= highest:
            raise DataError(f"--scale_range takes the lowest and the highest scale, above 0, not {lowest} {highest}")


@dataclass(frozen=True)
class InputOptions(ScoringOptions):
    """Images to predict."""

    _argument_group_name: ClassVar[str] = "Images"

    dataset: str | None = HfArg(
        default=None,
        help=READ.format("the one the model was trained on"),
        metadata={"choices": tuple(DATASETS), "instead": "your own folder goes to --dataset_path"},
    )
    dataset_path: str | None = HfArg(
        default=None,
        help="folder of the data set (default: the one that the model's run read, or ./NAME-OF-THE-DATASET)",
    )
    splits: list[str] | None = HfArg(
        default=None,
        help=f"splits to predict, out of {', '.join(SPLITS)} (default: val and test, if the data set has them; "
        "val alone with --eval_dataset)",
        metadata={"choices": tuple(SPLITS), "metavar": "SPLIT"},
    )
    input: str | None = HfArg(
        default=None,
        help="photo, folder of photos, or video (with --output) to predict instead of splits",
        metadata={"metavar": "PATH"},
    )

    def __post_init__(self):
        super().__post_init__()
        if self.dataset_path is not None and self.input is not None:
            raise DataError(
                f"--dataset_path {self.dataset_path} and --input exclude each other: a data set, or a folder of images"
            )
        if self.dataset_name is not None and self.input is not None:
            raise DataError(
                "--dataset_name and --input exclude each other: splits of a data set, or a folder of images"
            )
        if self.eval_dataset is not None and self.input is not None:
            raise DataError("--eval_dataset and --input exclude each other: images with labels, or any images")
        if self.fold is not None and self.input is not None:
            raise DataError("--fold and --input exclude each other: a fold of the data set, or a folder of images")
        if self.splits and self.input is not None:
            raise DataError("--splits and --input exclude each other: splits of the data set, or a folder of images")


def with_folder(argv: Sequence[str]) -> list[str]:
    """Return a command line in which a first argument without dashes is the value of --dataset_path."""
    return ["--dataset_path", *argv] if argv and not argv[0].startswith("-") else list(argv)
