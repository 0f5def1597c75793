"""Optimizers, learning rate schedules, and the moving average of the weights."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from .arguments import OptimizationOptions
from .errors import RunError

if TYPE_CHECKING:
    from timm.utils import ModelEmaV3
    from torch.nn import Module
    from torch.optim import Optimizer

Value = TypeVar("Value")
POLYNOMIAL = ("poly", "poly_with_restarts")
WEIGHT_DECAY = {"sgd": 1e-4, "adamw": 1e-2}  # with another optimizer than the model's own
POLY_POWER = 0.9  # Chen et al., 2017, arXiv 1606.00915, section 4.1


@dataclass(frozen=True)
class Learner:
    """The network of a run and what updates it."""

    model: "Module"
    ema: "ModelEmaV3 | None"  # timm's moving average; the averaged model is its `module`
    wrapped: "Module"  # `model`, wrapped to average gradients if there are several processes
    optimizer: "Optimizer"

    @property
    def scored(self) -> "Module":
        """The network to validate: the moving average if there is one."""
        return self.model if self.ema is None else self.ema.module


def total_steps(steps_per_epoch: int, epochs: int, max_train_steps: int | None) -> int:
    """Return the number of optimizer steps of the whole run."""
    return max_train_steps or steps_per_epoch * epochs


@dataclass(frozen=True)
class Schedule:
    """Learning rate schedule: `schedule(step)` is the factor on the initial learning rate.

    The factor depends on the step alone, so there is no state to save.

    kind          one of `arguments.SCHEDULES`. With restarts, each cycle begins at 1 again (Loshchilov and Hutter,
                  2017, arXiv 1608.03983). All cycles have the same length.
    steps         optimizer steps of the run
    warmup_steps  steps of linear warm-up, from 1 / (warmup_steps + 1), before the decay begins
    cycles        number of cycles of `poly_with_restarts`
    power         of the polynomial
    """

    kind: str
    steps: int
    warmup_steps: int = 0
    cycles: int = 1
    power: float = POLY_POWER

    def __call__(self, step: int) -> float:
        """Return the factor at `step`, which counts from 0 to steps - 1."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        done, length = step - self.warmup_steps, self.steps - self.warmup_steps
        if self.kind == "poly_with_restarts":
            done = done * self.cycles % length
        progress = min(done / length, 1.0)
        if self.kind == "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress))
        if self.kind in POLYNOMIAL:
            return (1 - progress) ** self.power
        return 1.0


def optimizer_from_flags(
    options: OptimizationOptions, defaults: Any, model: "Module", in_head: Callable[[str], bool]
) -> "Optimizer":
    """Return the optimizer of a run.

    options   flags; a flag that is None takes its value from `defaults`
    defaults  training defaults of the model
    in_head   returns whether the parameter with a given name belongs to the head

    Raises RunError for flags that do not fit the optimizer.
    """
    kind = options.optimizer or defaults.optimizer
    if options.momentum is not None and kind != "sgd":
        raise RunError(f"--momentum needs --optimizer sgd, not {kind}")
    if options.learning_rate is None and kind != defaults.optimizer:
        raise RunError(f"--optimizer {kind} is not the default of this model: give a --learning_rate for it")
    decay = defaults.weight_decay if kind == defaults.optimizer else WEIGHT_DECAY[kind]
    return make_optimizer(
        model,
        kind,
        learning_rate=chosen(options.learning_rate, defaults.learning_rate),
        momentum=chosen(options.momentum, defaults.momentum),
        weight_decay=chosen(options.weight_decay, decay),
        head_factor=chosen(options.head_lr_factor, defaults.head_factor),
        in_head=in_head,
    )


def make_schedule(options: OptimizationOptions, defaults: Any, steps: int) -> Schedule:
    """Return the learning rate schedule of a run of `steps` optimizer steps; see `optimizer_from_flags`.

    Raises RunError for flags that do not fit the schedule or the length of the run.
    """
    kind = options.lr_scheduler_type or defaults.lr_scheduler_type
    cycles = options.lr_num_cycles
    if cycles > 1 and kind != "poly_with_restarts":
        raise RunError(f"--lr_num_cycles needs --lr_scheduler_type poly_with_restarts, not {kind}")
    if options.lr_power is not None and kind not in POLYNOMIAL:
        raise RunError(f"--lr_power needs --lr_scheduler_type {' or '.join(POLYNOMIAL)}, not {kind}")
    warmup = chosen(options.warmup_steps, round(defaults.warmup * steps))
    if warmup >= steps:
        raise RunError(f"--warmup_steps {warmup} must be less than the {steps} steps of this run")
    if cycles > max(1, (steps - warmup) // 2):
        raise RunError(f"--lr_num_cycles {cycles} is too many for the {steps - warmup} steps after warm-up")
    return Schedule(kind, steps, warmup, cycles, chosen(options.lr_power, POLY_POWER))


def chosen(given: Value | None, default: Value) -> Value:
    """Return `given`, or `default` if it is None."""
    return default if given is None else given


def make_optimizer(
    model: "Module",
    kind: str,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    head_factor: float = 1.0,
    in_head: Callable[[str], bool] = lambda name: False,
) -> "Optimizer":
    """Return SGD or AdamW over the parameters of `model`.

    SGD decays every parameter, as torchvision's recipes do. AdamW does not decay norms and biases. Parameters for whose
    name `in_head` is true have `head_factor` times the learning rate.
    """
    from torch.optim import SGD, AdamW

    groups = []
    for head in (False, True):
        for spared in (False, True):
            parameters = [
                parameter
                for name, parameter in model.named_parameters()
                if (head_factor != 1 and in_head(name)) == head and (kind == "adamw" and parameter.ndim < 2) == spared
            ]
            rate = learning_rate * (head_factor if head else 1.0)
            if parameters:
                decay = 0.0 if spared else weight_decay
                groups.append({"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay})
    if kind == "sgd":
        return SGD(groups, learning_rate, momentum=momentum)
    return AdamW(groups, learning_rate)


def set_learning_rate(optimizer: "Optimizer", factor: float) -> float:
    """Set each parameter group to `factor` times its initial learning rate. Returns that of the first group."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    return optimizer.param_groups[0]["lr"]


def make_ema(model: "Module", decay: float) -> "ModelEmaV3":
    """Return a moving average of weights and buffers, whose decay warms up until it reaches `decay`.

    The decay is 0.97 after 100 steps, 0.994 after 1,000 and 0.999 after 10,000. `.update(model, step=n)` adds the
    current weights. `.module` is the averaged model.
    """
    from timm.utils import ModelEmaV3

    return ModelEmaV3(model, decay, use_warmup=True, warmup_power=0.75)
