"""The flags of the data: what is read, and what is done to training images.

Field metadata are plain facts, which `seg_runs.parsing` reads; its docstring lists them.
"""

from dataclasses import dataclass
from typing import ClassVar

from transformers.hf_argparser import HfArg

from .catalog import DATASETS, SPLITS, TRAIN_ON
from .labels import DataError

COPYBLOB = ("bank", "tutorial", "none")
SAMPLING = ("shuffle", "rare", "balanced")
SIZE = {"least": 1, "length": 2, "takes": "a height and a width", "metavar": "N"}
SHARE = {"least": 0, "most": 1}


@dataclass(frozen=True)
class SourceOptions:
    """Where images and labels are: the same for training and prediction."""

    dataset: str = HfArg(default="minicity", help="whose files and classes", metadata={"choices": tuple(DATASETS)})
    dataset_path: str | None = HfArg(
        default=None, help="its folder; ./NAME-OF-THE-DATASET if not given", metadata={"may_change": True}
    )
    folds: str | None = HfArg(
        default=None,
        help="a JSON file of folds, each with the names of the images that it holds out of training",
        metadata={"may_change": True, "added": True},
    )
    fold: str | None = HfArg(
        default=None,
        help="of --folds: validate on this fold, train on the other images",
        metadata={"added": True},
    )
    num_workers: int = HfArg(
        default=2,
        help="worker processes that prepare data, per training process",
        metadata={"least": 0, "may_change": True},
    )

    def __post_init__(self):
        if (self.folds is None) != (self.fold is None):
            given, missing = ("--folds", "--fold") if self.folds else ("--fold", "--folds")
            raise DataError(f"{given} needs {missing}: a file of folds, and the fold of it that is held out")


@dataclass(frozen=True)
class DataOptions(SourceOptions):
    """What a training reads, and how often."""

    _argument_group_name: ClassVar[str] = "Data"

    train_on: str = HfArg(
        default="train",
        help="train+val is for a final run without validation (a fold is held out of these)",
        metadata={"choices": tuple(TRAIN_ON), "added": True},
    )
    train_size: list[int] | None = HfArg(
        default=None,
        help="height and width that training images are resized to before augmentation; their own if not given",
        metadata={**SIZE},
    )
    sampling: str = HfArg(
        default="shuffle",
        help="of images: each once an epoch (shuffle), classes drawn by inverse frequency (rare) or in turn (balanced)",
        metadata={"choices": SAMPLING, "added": True},
    )
    cache: bool = HfArg(
        default=True,
        help="decode images once, into files below $MINICITY_SEG_CACHE or ~/.cache/minicity-seg, if they take at most "
        "half of the free memory and disk",
        metadata={"negated": "decode images each time that they are seen", "may_change": True, "added": True},
    )

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits of `load_data` that are trained on: a fold is held out of its "train" already."""
        return ("train",) if self.fold is not None else TRAIN_ON[self.train_on]


@dataclass(frozen=True)
class AugmentOptions:
    """What is done to a training image, in the order in which it is done."""

    _argument_group_name: ClassVar[str] = "Augmentation"

    crop_size: list[int] | None = HfArg(
        default=None,
        help="height and width of training crops; by default the data set's, or the image where that is smaller",
        metadata={**SIZE},
    )
    scale_range: list[float] = HfArg(
        default_factory=lambda: [0.75, 2.0],
        help="random scale: lowest highest",
        metadata={"length": 2, "takes": "the lowest and the highest scale", "metavar": "X"},
    )
    rotation: float = HfArg(
        default=0.0,
        help="random rotation by up to this many degrees either way",
        metadata={"least": 0, "most": 180, "added": True},
    )
    hflip: bool = HfArg(
        default=True,
        help="mirror half of the training images",
        metadata={"negated": "do not mirror training images"},
    )
    class_crop_prob: float = HfArg(
        default=0.0,
        help="share of crops that contain a pixel of a class drawn by inverse frequency",
        metadata={**SHARE, "added": True},
    )
    copyblob: str = HfArg(
        default="none",
        help="paste objects of rare classes where they belong: from all training images and in perspective (bank, "
        "which --copyblob alone means), or from the images of the batch and as they are (tutorial)",
        metadata={"nargs": "?", "const": "bank", "choices": COPYBLOB, "added": True},
    )
    copyblob_rules: list[str] | None = HfArg(
        default=None,
        help="what is pasted and what it stands on, as in fence:sidewalk; the data set's if not given",
        metadata={"needs": {"copyblob": ("bank", "tutorial")}, "metavar": "CLASS:CLASS", "added": True},
    )
    copyblob_prob: float = HfArg(
        default=0.5,
        help="probability of each of an image's three pastes (tutorial pastes whatever it can)",
        metadata={"needs": {"copyblob": ("bank",)}, **SHARE, "added": True},
    )
    colorjitter_factor: float = HfArg(
        default=0.3,
        help="brightness, contrast, saturation and hue jitter; 0 is none",
        metadata={"needs": {"photometric": (False,)}, **SHARE},
    )
    photometric: bool = HfArg(
        default=False, help="SSD's photometric distortion instead of colour jitter", metadata={"added": True}
    )
    cutmix: bool = HfArg(
        default=False, help="replace boxes of each training image by another's", metadata={"added": True}
    )
    cutmix_prob: float = HfArg(
        default=1.0,
        help="share of images that are mixed",
        metadata={"needs": {"cutmix": (True,)}, **SHARE, "added": True},
    )
    cutmix_boxes: int = HfArg(
        default=1, help="how many boxes", metadata={"needs": {"cutmix": (True,)}, "least": 1, "added": True}
    )
    cutmix_beta: float = HfArg(
        default=1.0,
        help="the boxes' share of the image is drawn from Beta(B, B)",
        metadata={"needs": {"cutmix": (True,)}, "above": 0, "added": True},
    )

    def __post_init__(self):
        lowest, highest = self.scale_range
        if not 0 < lowest <= highest:
            raise DataError(f"--scale_range takes the lowest and the highest scale, above 0, not {lowest} {highest}")


@dataclass(frozen=True)
class InputOptions(SourceOptions):
    """What is predicted."""

    _argument_group_name: ClassVar[str] = "Images"

    dataset: str | None = HfArg(
        default=None,
        help="by default the one that the run was trained on",
        metadata={"choices": tuple(DATASETS)},
    )
    splits: list[str] | None = HfArg(
        default=None,
        help="val and, where there is one, test if not given",
        metadata={"choices": tuple(SPLITS)},
    )
    input: str | None = HfArg(default=None, help="a photo, or a folder of them, to predict instead of splits")

    def __post_init__(self):
        super().__post_init__()
        if self.fold is not None and self.input:
            raise DataError("--fold and --input exclude each other: a fold of the data set, or a folder of images")
        if self.splits and self.input:
            raise DataError("--splits and --input exclude each other: splits of the data set, or a folder of images")
