"""Flags of a run: its optimisation, its folder, and its publication.

`parsing.py` reads the metadata of each field; the docstring of `parsing.py` lists the keys.
"""

from dataclasses import dataclass
from typing import ClassVar

from huggingface_hub.utils import HFValidationError, validate_repo_id
from transformers.hf_argparser import HfArg

from .errors import RunError
from .pace import seconds_of

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("cosine", "poly", "poly_with_restarts", "constant")
TRACKERS = ("tensorboard", "wandb", "trackio", "none")
SELECT = ("best", "last")
BATCH_SIZE = 8  # without --batch_size
PICTURES = ("color", "overlay", "train_ids", "confidence", "entropy")  # of a prediction, besides the ids
HUB_STRATEGIES = ("end", "every_save")
ADDED_RATES = {"added": "2026-11-26 10:10"}
VIDEO_ONLY = {name: "a video shows overlays, and nothing else is written" for name in ("save", "output_dir", "zip")}
# A repeated run must not push to the same place. Copied where it is used: HfArg writes into the metadata that it gets.
PUSHED = {"needs": {"push_to_hub": (True,)}, "of_launch": True}


@dataclass(frozen=True)
class OptimizationOptions:
    """The optimizer, its schedule, and the length of the run."""

    _argument_group_name: ClassVar[str] = "Optimisation"

    batch_size: int | None = HfArg(
        default=None,
        help="images per optimizer step, over all processes and accumulation steps "
        f"(default: {BATCH_SIZE}, or fewer if there are fewer training images)",
        metadata={"least": 1},
    )
    gradient_accumulation_steps: int = HfArg(
        default=1,
        help="micro-batches per optimizer step, to save memory",
        metadata={"least": 1, "may_change": True},
    )
    epochs: int = HfArg(
        default=200,
        help="passes over the training images",
        metadata={"least": 1, "may_change": True, "overridden_by": "max_train_steps"},
    )
    max_train_steps: int | None = HfArg(
        default=None, help="total optimizer steps; overrides --epochs", metadata={"least": 1, "may_change": True}
    )
    max_train_time: str | None = HfArg(
        default=None,
        help="train as many steps as fit into this time, validations included, such as 2h, 90m, 1h30m or 45s; "
        "measured once, and recorded as --max_train_steps",
        metadata={
            "excludes": {
                "epochs": "both set the length of the run",
                "max_train_steps": "both set the length of the run",
                "resume_from_checkpoint": "a resumed run keeps its number of steps, which --max_train_steps changes",
            },
            "of_launch": True,
        },
    )
    optimizer: str | None = HfArg(
        default=None,
        help="optimizer (default: adamw for StreetNet and SegFormer, else sgd)",
        metadata={"choices": OPTIMIZERS},
    )
    learning_rate: float | None = HfArg(
        default=None,
        help="learning rate that the schedule scales (default: 1e-3 for StreetNet, 6e-5 for SegFormer, else 1e-2; "
        "needed with another --optimizer than the model's)",
        aliases=["--lr_init"],
        metadata={"least": 0},
    )
    head_lr_factor: float | None = HfArg(
        default=None,
        help="learning rate of the heads, relative to that of the encoder (default: 10 for SegFormer, else 1)",
        metadata={"above": 0, **ADDED_RATES},
    )
    momentum: float | None = HfArg(
        default=None, help="momentum of sgd (default: 0.9)", aliases=["--lr_momentum"], metadata={"least": 0}
    )
    weight_decay: float | None = HfArg(
        default=None,
        help="weight decay (default: 5e-2 for StreetNet, 1e-2 for SegFormer, else 1e-4; with another --optimizer than "
        "theirs, 1e-2 for adamw and 1e-4 for sgd)",
        aliases=["--lr_weight_decay"],
        metadata={"least": 0},
    )
    lr_scheduler_type: str | None = HfArg(
        default=None,
        help="learning rate schedule (default: poly for StreetNet and SegFormer, else cosine)",
        metadata={"choices": SCHEDULES},
    )
    lr_power: float | None = HfArg(
        default=None,
        help="power of poly and poly_with_restarts, for example 1.0 (default: 0.9)",
        metadata={"above": 0, **ADDED_RATES},
    )
    lr_num_cycles: int = HfArg(default=1, help="cycles of poly_with_restarts", metadata={"least": 1})
    warmup_steps: int | None = HfArg(
        default=None,
        help="optimizer steps of linear learning rate warm-up (default: 5 % of the run for SegFormer, else 0)",
        metadata={"least": 0},
    )
    max_grad_norm: float | None = HfArg(
        default=None, help="clip the gradient norm at this value (default: do not clip)", metadata={"above": 0}
    )
    ema_decay: float | None = HfArg(
        default=None,
        help="evaluate and save a moving average of the weights with this decay, such as 0.999 (default: no average)",
        metadata={"above": 0, "below": 1},
    )

    def __post_init__(self):
        if self.max_train_time is not None:
            seconds_of("--max_train_time", self.max_train_time)


@dataclass(frozen=True)
class RunOptions:
    """The run folder, what it keeps, and the random seed."""

    _argument_group_name: ClassVar[str] = "Run"

    output_dir: str | None = HfArg(
        default=None,
        help="run folder (default: runs/DATASET_MODEL_NORM_TIME, with --encoder after MODEL)",
        aliases=["--save_path"],
        metadata={"of_launch": True},
    )
    overwrite_output_dir: bool = HfArg(
        default=False,
        help="start a new run in --output_dir, delete the one in it",
        metadata={"of_launch": True},
    )
    resume_from_checkpoint: str | None = HfArg(
        default=None,
        help="checkpoint to continue from, or a run folder for its newest checkpoint",
        aliases=["--weights"],
        metadata={"of_launch": True},
    )
    seed: int = HfArg(
        default=0, help="random seed of weights, data order and augmentation", metadata={"least": 0, "most": 2**32 - 1}
    )
    deterministic: bool = HfArg(default=False, help="use only deterministic GPU kernels (CPU kernels always are)")
    eval_every: int = HfArg(
        default=1,
        help="validate and save a checkpoint every N epochs, and after the last one",
        metadata={"least": 1, "may_change": True},
    )
    select: str = HfArg(
        default="best",
        help="weights to keep in best/: those with the highest validation mIoU (best), or those of the last validation "
        "(last)",
        metadata={"choices": SELECT, "added": "2026-11-25 22:04"},
    )
    checkpointing_steps: int | None = HfArg(
        default=None,
        help="also save a checkpoint every N optimizer steps",
        metadata={"least": 1, "may_change": True, "no_score": True},
    )
    keep_checkpoints: int = HfArg(
        default=2,
        help="number of newest checkpoints to keep; with 2, one is left if the newest is damaged",
        metadata={"least": 1, "may_change": True, "no_score": True},
    )
    report_to: list[str] = HfArg(
        default_factory=lambda: ["tensorboard"],
        help="where numbers go besides log_epoch.csv: some of tensorboard, wandb and trackio, or none",
        metadata={"choices": TRACKERS, "metavar": "TRACKER", "may_change": True, "no_score": True},
    )
    preview: int | None = HfArg(
        default=None,
        help="before training, draw N augmented training images and their labels in preview.png",
        metadata={"least": 1, "most": 100, "needs": {"dry_run": (False,)}, "of_launch": True},
    )
    dry_run: bool = HfArg(
        default=False,
        help="measure a few steps, print crop, batch, steps, time and memory of the run, and stop",
        metadata={
            "needs": {"push_to_hub": (False,), "predict": (False,)},
            "of_launch": True,
        },
    )
    predict: bool = HfArg(
        default=False,
        help="do not train: run predict_seg.py on --output_dir (default: the newest finished run)",
        metadata={"excludes": {"resume_from_checkpoint": "name the run with --output_dir"}, "of_launch": True},
    )
    mst: bool = HfArg(
        default=False,
        help="with --predict, average over scales and flips as predict_seg.py --mst does",
        metadata={"needs": {"predict": (True,)}, "of_launch": True},
    )

    def __post_init__(self):
        if self.overwrite_output_dir and self.resume_from_checkpoint:
            raise RunError("--overwrite_output_dir would delete the run that --resume_from_checkpoint continues")
        if self.overwrite_output_dir and not self.output_dir:
            raise RunError("--overwrite_output_dir needs --output_dir: the default run folder is always new")
        if len(set(self.report_to)) < len(self.report_to):
            raise RunError(f"--report_to {' '.join(self.report_to)} names a tracker twice")
        if "none" in self.report_to and len(self.report_to) > 1:
            raise RunError(f"--report_to {' '.join(self.report_to)}: give none without other trackers")


@dataclass(frozen=True)
class HubOptions:
    """Where to publish the model."""

    _argument_group_name: ClassVar[str] = "Hub"

    push_to_hub: bool = HfArg(
        default=False,
        help="upload model, card, logs and pictures to the Hugging Face Hub",
        metadata={"of_launch": True},
    )
    hub_model_id: str | None = HfArg(
        default=None,
        help="repository to upload to; created if it does not exist",
        metadata={"metavar": "USER/NAME", **PUSHED},
    )
    hub_private: bool = HfArg(default=False, help="use a private repository; refuse a public one", metadata={**PUSHED})
    hub_strategy: str = HfArg(
        default="end",
        help="upload when training ends, or also after each new best model (every_save)",
        metadata={"choices": HUB_STRATEGIES, **PUSHED},
    )

    def __post_init__(self):
        if self.push_to_hub and not self.hub_model_id:
            raise RunError("--push_to_hub needs --hub_model_id")
        check_hub_id(self.hub_model_id)


@dataclass(frozen=True)
class ResultOptions:
    """The trained model, and the folder of its results."""

    _argument_group_name: ClassVar[str] = "Model and results"

    model_name_or_path: list[str] | None = HfArg(
        default=None,
        help="run folder, saved model, or Hugging Face Hub id with optional @REVISION; several make an ensemble, which "
        "averages their probabilities (default: the newest finished run in runs/, else the network that comes with "
        "the project)",
        aliases=["--save_path"],
        metadata={"metavar": "MODEL"},
    )
    trust_remote_code: bool = HfArg(default=False, help="run the Python code that comes with the model")
    output_dir: str | None = HfArg(
        default=None,
        help="folder for results_SPLIT and scores (default: the folder of the run or of the saved model; "
        "predictions/NAME for a hub id or a model in checkpoints/, predictions/A+B for an ensemble)",
    )
    save: list[str] = HfArg(
        default_factory=lambda: ["color"],
        help="what to write besides the ids: pictures in colours (color) or over the image (overlay), train ids from "
        "0 (train_ids), the probability of the chosen class (confidence, 255 for 1), how undecided the network is "
        "(entropy, 255 for equal probabilities), the classes' shares of the pixels (shares, JSON), the classes' "
        "colours (legend)",
        metadata={"choices": (*PICTURES, "shares", "legend"), "metavar": "KIND"},
    )
    output: str | None = HfArg(
        default=None,
        help="video to write, if --input is one: its frames with the overlay, and its sound",
        metadata={"needs_one_of": ("input",), "excludes": VIDEO_ONLY, "metavar": "FILE"},
    )
    zip: bool = HfArg(default=False, help="check the id images and pack them into a zip file for a challenge server")
    calibrate: bool = HfArg(
        default=False,
        help="fit a temperature on the validation images, so that a confidence of 0.8 is right in 8 of 10 cases, and "
        "store it with the model for confidence and entropy",
    )


def check_hub_id(value: str | None) -> None:
    """Raise RunError if `value`, given with --hub_model_id, is not a valid hub id."""
    try:
        if value is not None:
            validate_repo_id(value)
    except HFValidationError as error:
        raise RunError(f"--hub_model_id {value!r} is not a hub id of the form USER/NAME: {error}") from error
