"""The flags of a run: how it is optimised, where it lies, and where it is published.

Field metadata are plain facts, which `parsing.py` reads; its docstring lists them.
"""

from dataclasses import dataclass
from typing import ClassVar

from huggingface_hub.utils import HFValidationError, validate_repo_id
from transformers.hf_argparser import HfArg

from .launch import RunError

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("cosine", "poly", "poly_with_restarts", "constant")
TRACKERS = ("tensorboard", "wandb", "trackio", "none")
SELECT = ("best", "last")
HUB_STRATEGIES = ("end", "every_save")
PUSHED = {"needs": {"push_to_hub": (True,)}, "of_launch": True}  # whoever repeats a run pushes elsewhere


@dataclass(frozen=True)
class OptimizationOptions:
    """Steps, and what each does to the weights."""

    _argument_group_name: ClassVar[str] = "Optimisation"

    batch_size: int = HfArg(
        default=8,
        help="images per optimizer step, over all processes and accumulation steps",
        metadata={"least": 1},
    )
    gradient_accumulation_steps: int = HfArg(
        default=1, help="parts that a step is split into, to save memory", metadata={"least": 1, "may_change": True}
    )
    epochs: int = HfArg(default=200, help="passes over the training images", metadata={"least": 1, "may_change": True})
    max_train_steps: int | None = HfArg(
        default=None, help="optimizer steps in all; overrides --epochs", metadata={"least": 1, "may_change": True}
    )
    optimizer: str | None = HfArg(default=None, help="by default the model's", metadata={"choices": OPTIMIZERS})
    learning_rate: float | None = HfArg(
        default=None, help="by default the model's", aliases=["--lr_init"], metadata={"least": 0}
    )
    momentum: float | None = HfArg(
        default=None, help="of sgd; by default the model's", aliases=["--lr_momentum"], metadata={"least": 0}
    )
    weight_decay: float | None = HfArg(
        default=None, help="by default the model's", aliases=["--lr_weight_decay"], metadata={"least": 0}
    )
    lr_scheduler_type: str | None = HfArg(default=None, help="by default the model's", metadata={"choices": SCHEDULES})
    lr_num_cycles: int = HfArg(default=1, help="cycles of poly_with_restarts", metadata={"least": 1})
    warmup_steps: int | None = HfArg(
        default=None,
        help="optimizer steps over which the learning rate rises, before it falls; by default the model's",
        metadata={"least": 0},
    )
    max_grad_norm: float | None = HfArg(
        default=None, help="clip the gradient at this norm; not clipped if not given", metadata={"above": 0}
    )
    ema_decay: float | None = HfArg(
        default=None,
        help="evaluate and save a moving average of the weights, for example 0.999; none if not given",
        metadata={"above": 0, "below": 1},
    )


@dataclass(frozen=True)
class RunOptions:
    """Where a run lies, what it keeps, and what decides its random numbers."""

    _argument_group_name: ClassVar[str] = "Run"

    output_dir: str | None = HfArg(
        default=None,
        help="run folder; runs/DATASET_MODEL_NORM_TIME if not given",
        aliases=["--save_path"],
        metadata={"of_launch": True},
    )
    overwrite_output_dir: bool = HfArg(
        default=False, help="delete the run that --output_dir holds", metadata={"of_launch": True}
    )
    resume_from_checkpoint: str | None = HfArg(
        default=None,
        help="a checkpoint, or a run folder for its newest one; the run goes on there",
        aliases=["--weights"],
        metadata={"of_launch": True},
    )
    seed: int = HfArg(default=0, help="of weights, order and augmentation", metadata={"least": 0, "most": 2**32 - 1})
    deterministic: bool = HfArg(default=False, help="only deterministic GPU kernels; a CPU has no others")
    eval_every: int = HfArg(
        default=1,
        help="epochs between validations, each with a checkpoint; the last epoch always has both",
        metadata={"least": 1, "may_change": True},
    )
    select: str = HfArg(
        default="best",
        help="weights that best/ holds: of all validations the one with the best mIoU, or the last one",
        metadata={"choices": SELECT, "added": True},
    )
    checkpointing_steps: int | None = HfArg(
        default=None,
        help="optimizer steps between further checkpoints, besides those of --eval_every",
        metadata={"least": 1, "may_change": True},
    )
    keep_checkpoints: int = HfArg(
        default=2,
        help="newest checkpoints that are kept: with 2, a damaged one has one before it",
        metadata={"least": 1, "may_change": True},
    )
    report_to: list[str] = HfArg(
        default_factory=lambda: ["tensorboard"],
        help="where numbers go besides log_epoch.csv: some of tensorboard, wandb and trackio, or none",
        metadata={"choices": TRACKERS, "metavar": "TRACKER", "may_change": True},
    )
    preview: int | None = HfArg(
        default=None,
        help="first write preview.png: this many augmented training images with their labels",
        metadata={"least": 1, "of_launch": True},
    )
    predict: bool = HfArg(
        default=False,
        help="do not train: predict_seg.py on --output_dir, or the newest run",
        metadata={"of_launch": True},
    )
    mst: bool = HfArg(
        default=False,
        help="average over scales and flips, as predict_seg.py --mst does",
        metadata={"needs": {"predict": (True,)}, "of_launch": True},
    )

    def __post_init__(self):
        if self.overwrite_output_dir and self.resume_from_checkpoint:
            raise RunError("--overwrite_output_dir would delete the run that --resume_from_checkpoint goes on with")
        if self.overwrite_output_dir and not self.output_dir:
            raise RunError("--overwrite_output_dir needs --output_dir: a run folder named by itself is always new")
        if len(set(self.report_to)) < len(self.report_to):
            raise RunError(f"--report_to {' '.join(self.report_to)} names a tracker twice")
        if "none" in self.report_to and len(self.report_to) > 1:
            raise RunError(f"--report_to {' '.join(self.report_to)}: none stands alone")


@dataclass(frozen=True)
class HubOptions:
    """Where a model is published."""

    _argument_group_name: ClassVar[str] = "Hub"

    push_to_hub: bool = HfArg(
        default=False, help="upload model, card, logs and pictures to a hub", metadata={"of_launch": True}
    )
    hub_model_id: str | None = HfArg(
        default=None, help="where to, USER/NAME; made if it is not there", metadata={**PUSHED}
    )
    hub_private: bool = HfArg(
        default=False, help="only for those who may see it, if it is made anew", metadata={**PUSHED}
    )
    hub_strategy: str = HfArg(
        default="end", help="every_save uploads each new best model too", metadata={"choices": HUB_STRATEGIES, **PUSHED}
    )

    def __post_init__(self):
        if self.push_to_hub and not self.hub_model_id:
            raise RunError("--push_to_hub needs --hub_model_id")
        check_hub_id("--hub_model_id", self.hub_model_id)


@dataclass(frozen=True)
class ResultOptions:
    """Which trained model predicts, and where its results go."""

    _argument_group_name: ClassVar[str] = "Model and results"

    model_name_or_path: str | None = HfArg(
        default=None,
        help="a run folder, a saved model or a hub id, with @REVISION if need be; the newest complete run below runs/ "
        "if not given",
        aliases=["--save_path"],
    )
    trust_remote_code: bool = HfArg(default=False, help="run the code that lies beside another's model")
    output_dir: str | None = HfArg(default=None, help="where results_SPLIT and scores go; the run folder if not given")
    zip: bool = HfArg(default=False, help="check the id images and pack them for a challenge's server")


def check_hub_id(flag: str, value: str | None) -> None:
    """Raise RunError for a text that cannot be the id of a model on a hub."""
    try:
        if value is not None:
            validate_repo_id(value)
    except HFValidationError as error:
        raise RunError(f"{flag} {value!r} is no id of a model on a hub, USER/NAME: {error}") from error
