"""What a run knows of itself: where it stands, and under which conditions. A checkpoint keeps it in state.json."""

import math
import secrets
from dataclasses import asdict, dataclass, field
from numbers import Real
from pathlib import Path
from typing import NamedTuple

from .files import read_json
from .launch import RunError


def new_tracking_id() -> str:
    """Return a random id, whatever the seed: a run that is repeated is another run."""
    return secrets.token_hex(6)


class Totals(NamedTuple):
    """Sums over the steps of an epoch, or of one step, and over all processes."""

    loss: float = 0.0
    weight: float = 0.0  # of the loss
    correct: float = 0.0  # pixels
    pixels: float = 0.0  # with a label

    def plus(self, other: "Totals") -> "Totals":
        return Totals(*(mine + its for mine, its in zip(self, other, strict=True)))

    @property
    def mean_loss(self) -> float | None:
        """None if no step counted."""
        return self.loss / self.weight if self.weight else None

    @property
    def accuracy(self) -> float | None:
        """Share of the labelled pixels that are correct; None if there are none."""
        return self.correct / self.pixels if self.pixels else None


@dataclass(frozen=True)
class Conditions:
    """Under which a run goes on: kept so that a change can be said or refused.

    steps, steps_per_epoch  optimizer steps of the whole run, and of an epoch
    precision, processes    of the launch
    data                    the fingerprint of `data_scripts.fingerprint`; None in runs that did not note it
    """

    steps: int
    steps_per_epoch: int
    precision: str
    processes: int
    data: dict | None = None


@dataclass
class RunState:
    """Where a run stands.

    pretrained     name of the weights that it began with
    epoch, step    how many are complete
    skipped        steps in a row, up to now, without a finite gradient
    totals         of the epoch so far, and the `seconds` that its steps took
    best_mean_iou, best_epoch  of the weights in best/; None without validation, and before the first one
    unlogged       values of the last step of an epoch that has not ended; trackers get them in one row with its scores
    tracking_id    identifies the run to trackers, also after it is resumed
    """

    conditions: Conditions
    pretrained: str = "none"
    epoch: int = 0
    step: int = 0
    skipped: int = 0
    totals: Totals = Totals()
    seconds: float = 0.0
    best_mean_iou: float | None = None
    best_epoch: int | None = None
    unlogged: dict[str, float] = field(default_factory=dict)
    tracking_id: str = field(default_factory=new_tracking_id)

    def count_step(self, totals: Totals) -> None:
        """A step has changed the weights."""
        self.step, self.skipped = self.step + 1, 0
        self.totals = self.totals.plus(totals)

    def skip_step(self) -> None:
        """A step had no finite gradient, and has changed nothing."""
        self.step, self.skipped = self.step + 1, self.skipped + 1

    def end_epoch(self) -> None:
        self.epoch, self.totals, self.seconds = self.epoch + 1, Totals(), 0.0
        self.unlogged = {}

    def keep_best(self, epoch: int, mean_iou: float | None) -> None:
        """best/ holds the weights of `epoch` from now on."""
        self.best_epoch, self.best_mean_iou = epoch, mean_iou

    def lose_best(self) -> None:
        """What best/ holds cannot be trusted."""
        self.best_epoch = self.best_mean_iou = None

    def results(self) -> dict:
        """What results.json holds."""
        return {"step": self.step, "best_mean_iou": self.best_mean_iou, "best_epoch": self.best_epoch}

    def to_json(self) -> dict:
        """One level of keys, as in state.json."""
        entries = asdict(self)
        conditions = entries.pop("conditions")
        return {**entries, "totals": list(self.totals), **conditions}

    @classmethod
    def from_json(cls, entries: dict, path: Path) -> "RunState":
        """What `to_json` has written to `path`. Raises RunError for anything else."""
        entries = {**OLDER, "tracking_id": new_tracking_id(), **entries}
        found = {key: entries.get(key, "missing") for key in SOUND}
        wrong = next((key for key, value in found.items() if not SOUND[key](value)), None)
        if wrong:
            raise RunError(f"cannot read {path}: {wrong} is {found[wrong]!r:.80}")
        conditions = Conditions(**{key: found.pop(key) for key in Conditions.__dataclass_fields__})
        state = cls(conditions, **{**found, "totals": Totals(*found["totals"])})
        if not 0 <= state.step - state.epoch * conditions.steps_per_epoch <= conditions.steps_per_epoch:
            raise RunError(f"cannot read {path}: step {state.step} is not of epoch {state.epoch}")
        return state


def read_state(checkpoint: Path) -> RunState:
    """The state that a checkpoint keeps. Raises RunError if it is not what a run writes."""
    path = checkpoint / "state.json"
    return RunState.from_json(read_json(path), path)


def is_count(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def is_number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and abs(value) < 1e300 and math.isfinite(value)


PRECISIONS = ("no", "fp16", "bf16", "fp8")  # accelerate's
OLDER = {"pretrained": "none", "data": None, "unlogged": {}}  # what the state of older runs lacks
SOUND = {  # how each entry of state.json looks
    "epoch": is_count,
    "step": is_count,
    "skipped": is_count,
    "totals": lambda value: isinstance(value, list) and len(value) == 4 and all(map(is_number, value)),
    "seconds": is_number,
    "best_mean_iou": lambda value: value is None or is_number(value),
    "best_epoch": lambda value: value is None or is_count(value),
    "unlogged": lambda value: isinstance(value, dict) and all(map(is_number, value.values())),
    "tracking_id": lambda value: isinstance(value, str) and value.isalnum() and len(value) <= 64,
    "pretrained": lambda value: isinstance(value, str),
    "steps": is_count,
    "steps_per_epoch": lambda value: is_count(value) and value > 0,
    "precision": lambda value: value in PRECISIONS,
    "processes": is_count,
    "data": lambda value: value is None or isinstance(value, dict),
}
