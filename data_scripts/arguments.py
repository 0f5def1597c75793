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
SIZE = {"least": 1, "most": 2**16, "length": 2, "takes": "a height and a width", "metavar": "N"}
SHARE = {"least": 0, "most": 1}


@dataclass(frozen=True)
class SourceOptions:
    """Where to find images and labels, for training and for prediction."""

    dataset: str | None = HfArg(
        default=None,
        help="data set to read (default: the one that --dataset_path holds, or minicity without a path)",
        metadata={"choices": tuple(DATASETS)},
    )
    dataset_path: str | None = HfArg(
        default=None, help="folder of the data set (default: ./NAME-OF-THE-DATASET)", metadata={"may_change": True}
    )
    folds: str | None = HfArg(
        default=None,
        help="JSON file that maps the name of each fold to the names of its held-out images",
        metadata={"may_change": True, "added": True},
    )
    fold: str | None = HfArg(
        default=None,
        help="fold of --folds to validate on; training uses the other images",
        metadata={"added": True},
    )
    num_workers: int = HfArg(
        default=2,
        help="data loading workers per process",
        metadata={"least": 0, "most": 1024, "may_change": True},
    )

    def __post_init__(self):
        if (self.folds is None) != (self.fold is None):
            given, missing = ("--folds", "--fold") if self.folds else ("--fold", "--folds")
            raise DataError(f"{given} needs {missing}: name both the file of folds and the fold to hold out")


@dataclass(frozen=True)
class DataOptions(SourceOptions):
    """Which images training reads, and how often."""

    _argument_group_name: ClassVar[str] = "Data"

    train_on: str = HfArg(
        default="train",
        help="splits to train on; train+val leaves no validation images, unless --fold holds some out",
        metadata={"choices": tuple(TRAIN_ON), "added": True},
    )
    val_share: float | None = HfArg(
        default=None,
        help="share of the training images to validate on, if --dataset folder has no validation images (default: 0.2)",
        metadata={"above": 0, "below": 1, "added": True},
    )
    group_by: str | None = HfArg(
        default=None,
        help="regular expression for --val_share: images with the same first group in their names, such as the frames "
        "of a video, stay together",
        metadata={"added": True},
    )
    train_size: list[int] | None = HfArg(
        default=None,
        help="resize training images to this height and width before augmentation (default: do not resize)",
        metadata={**SIZE},
    )
    sampling: str = HfArg(
        default="shuffle",
        help="draw each image once per epoch (shuffle), or draw a class, by inverse frequency (rare) or in turn "
        "(balanced), and then an image that shows it",
        metadata={"choices": SAMPLING, "added": True},
    )
    cache: bool = HfArg(
        default=True,
        help="decode images once and keep them in $MINICITY_SEG_CACHE or ~/.cache/minicity-seg, if they fit into half "
        "of the free memory and half of the free disk space",
        metadata={"negated": "decode images each time they are read", "may_change": True, "added": True},
    )

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits of `load_data` to train on. With a fold, its "train" split already leaves out the held-out images."""
        return ("train",) if self.fold is not None else TRAIN_ON[self.train_on]


@dataclass(frozen=True)
class AugmentOptions:
    """Augmentations of a training image. `transforms.TrainTransform` applies them, in an order of its own."""

    _argument_group_name: ClassVar[str] = "Augmentation"

    crop_size: list[int] | None = HfArg(
        default=None,
        help="height and width of training crops (default: the data set's, reduced for smaller images)",
        metadata={**SIZE},
    )
    scale_range: list[float] = HfArg(
        default_factory=lambda: [0.75, 2.0],
        help="range of the random scale: lowest and highest factor",
        metadata={"most": 100, "length": 2, "takes": "the lowest and the highest scale", "metavar": "X"},
    )
    rotation: float = HfArg(
        default=0.0,
        help="largest random rotation in degrees, in either direction",
        metadata={"least": 0, "most": 180, "added": True},
    )
    hflip: bool = HfArg(
        default=True,
        help="flip half of the training images horizontally",
        metadata={"negated": "do not flip training images"},
    )
    class_crop_prob: float = HfArg(
        default=0.0,
        help="probability of placing a crop on a class that is drawn by inverse frequency",
        metadata={**SHARE, "added": True},
    )
    copyblob: str = HfArg(
        default="none",
        help="paste objects of rare classes onto matching ground; bank takes objects from all training images and "
        "scales them to the perspective, tutorial takes unscaled objects from the same batch; --copyblob without a "
        "value means bank",
        metadata={"nargs": "?", "const": "bank", "choices": COPYBLOB, "added": True},
    )
    copyblob_rules: list[str] | None = HfArg(
        default=None,
        help="OBJECT:GROUND pairs of classes for --copyblob, such as fence:sidewalk (default: the data set's)",
        metadata={"needs": {"copyblob": ("bank", "tutorial")}, "metavar": "CLASS:CLASS", "added": True},
    )
    copyblob_prob: float = HfArg(
        default=0.5,
        help="probability of each of an image's three pastes (bank only)",
        metadata={"needs": {"copyblob": ("bank",)}, **SHARE, "added": True},
    )
    colorjitter_factor: float = HfArg(
        default=0.3,
        help="strength of brightness, contrast, saturation and hue jitter; 0 turns it off",
        metadata={"needs": {"photometric": (False,)}, **SHARE},
    )
    photometric: bool = HfArg(
        default=False, help="use SSD's photometric distortion instead of colour jitter", metadata={"added": True}
    )
    cutmix: bool = HfArg(
        default=False, help="replace boxes in each image with the same boxes of another", metadata={"added": True}
    )
    cutmix_prob: float = HfArg(
        default=1.0,
        help="probability of applying CutMix to an image",
        metadata={"needs": {"cutmix": (True,)}, **SHARE, "added": True},
    )
    cutmix_boxes: int = HfArg(
        default=1,
        help="boxes per image",
        metadata={"needs": {"cutmix": (True,)}, "least": 1, "most": 1000, "added": True},
    )
    cutmix_beta: float = HfArg(
        default=1.0,
        help="draw the boxes' share of the image from Beta(B, B), where B is this value",
        metadata={"needs": {"cutmix": (True,)}, "above": 0, "added": True},
    )

    def __post_init__(self):
        lowest, highest = self.scale_range
        if not 0 < lowest <= highest:
            raise DataError(f"--scale_range takes the lowest and the highest scale, above 0, not {lowest} {highest}")


@dataclass(frozen=True)
class InputOptions(SourceOptions):
    """Images to predict."""

    _argument_group_name: ClassVar[str] = "Images"

    dataset: str | None = HfArg(
        default=None,
        help="data set to read (default: the one that --dataset_path holds, or the one the model was trained on)",
        metadata={"choices": tuple(DATASETS)},
    )
    splits: list[str] | None = HfArg(
        default=None,
        help="splits to predict (default: val and test, as far as the data set has them)",
        metadata={"choices": tuple(SPLITS)},
    )
    input: str | None = HfArg(default=None, help="photo or folder of photos to predict instead of splits")

    def __post_init__(self):
        super().__post_init__()
        if self.fold is not None and self.input:
            raise DataError("--fold and --input exclude each other: a fold of the data set, or a folder of images")
        if self.splits and self.input:
            raise DataError("--splits and --input exclude each other: splits of the data set, or a folder of images")


def with_folder(argv: Sequence[str]) -> list[str]:
    """Return a command line in which a first argument without dashes is the value of --dataset_path."""
    return ["--dataset_path", *argv] if argv and not argv[0].startswith("-") else list(argv)
