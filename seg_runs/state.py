"""The state of a run: its progress and its conditions. A checkpoint stores it in state.json."""

import math
import secrets
from dataclasses import asdict, dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

from .errors import RunError
from .files import read_json
from .lineage import are_entries


def new_tracking_id() -> str:
    """Return a random id, whatever the seed: a run that is repeated is another run."""
    return secrets.token_hex(6)


class Totals(NamedTuple):
    """Sums over all processes, for one step or for the steps of an epoch."""

    loss: float = 0.0
    weight: float = 0.0  # denominator of the mean loss
    correct: float = 0.0  # correctly classified pixels
    pixels: float = 0.0  # labelled pixels

    def plus(self, other: "Totals") -> "Totals":
        return Totals(*(mine + its for mine, its in zip(self, other, strict=True)))

    @property
    def mean_loss(self) -> float | None:
        """Mean loss per unit of weight, or None if the weight is 0."""
        return self.loss / self.weight if self.weight else None

    @property
    def accuracy(self) -> float | None:
        """Share of labelled pixels that are correct, or None without labelled pixels."""
        return self.correct / self.pixels if self.pixels else None


@dataclass(frozen=True)
class Conditions:
    """Conditions of a run. When it resumes, changes are reported or refused.

    steps            optimizer steps of the whole run
    steps_per_epoch  optimizer steps of one epoch
    precision        mixed precision of the launch
    processes        number of processes of the launch
    data             fingerprint from `data_scripts.fingerprint`, or None in older runs that did not store it
    teachers         fingerprints of the models that the network learns from
    accumulation     micro-batches per optimizer step of a process, or None in older runs that did not store it
    """

    steps: int
    steps_per_epoch: int
    precision: str
    processes: int
    data: dict | None = None
    teachers: list[str] = field(default_factory=list)
    accumulation: int | None = None


@dataclass
class RunState:
    """Progress of a run.

    pretrained     name of the initial weights, or "none"
    started_from   entries of config.json on the models that they come from
    epoch, step    numbers of completed epochs and optimizer steps
    skipped        how many steps in a row, up to the latest, had no finite gradient
    totals         sums over the current epoch so far
    seconds        time that the steps of the current epoch took so far
    best_mean_iou  validation mIoU of the weights in best/; None without validation, and before the first one
    best_epoch     epoch of the weights in best/; None before they are saved
    unlogged       values of the last step of an unfinished epoch; trackers get them in one row with the epoch's scores
    tracking_id    identifies the run to trackers, also after it is resumed
    changes        conditions that changed when the run resumed, and from which step on
    """

    conditions: Conditions
    pretrained: str = "none"
    started_from: list[dict] = field(default_factory=list)
    epoch: int = 0
    step: int = 0
    skipped: int = 0
    totals: Totals = Totals()
    seconds: float = 0.0
    best_mean_iou: float | None = None
    best_epoch: int | None = None
    unlogged: dict[str, float] = field(default_factory=dict)
    tracking_id: str = field(default_factory=new_tracking_id)
    changes: list[str] = field(default_factory=list)

    def count_step(self, totals: Totals) -> None:
        """Count a step that changed the weights."""
        self.step += 1
        self.skipped = 0
        self.totals = self.totals.plus(totals)

    def skip_step(self) -> None:
        """Count a step that changed nothing, because its gradient was not finite."""
        self.step += 1
        self.skipped += 1

    def end_epoch(self) -> None:
        self.epoch += 1
        self.totals = Totals()
        self.seconds = 0.0
        self.unlogged = {}

    def improves(self, scores: dict | None, select: str) -> bool:
        """Return whether weights with these scores replace those in best/.

        scores  `mean_iou` and `val_loss`; None without validation images, when the newest weights count as the best
        select  "best" or "last"; weights whose loss is not finite never replace others
        """
        if scores is None:
            return True
        if not math.isfinite(scores["val_loss"]):
            return False
        return select == "last" or self.best_mean_iou is None or scores["mean_iou"] > self.best_mean_iou

    def keep_best(self, epoch: int, mean_iou: float | None) -> None:
        """Note that best/ now holds the weights of `epoch`."""
        self.best_epoch, self.best_mean_iou = epoch, mean_iou

    def lose_best(self) -> None:
        """Note that best/ is damaged, so that the next validation replaces it."""
        self.best_epoch = self.best_mean_iou = None

    def results(self) -> dict:
        """Return the content of results.json."""
        return {"step": self.step, "best_mean_iou": self.best_mean_iou, "best_epoch": self.best_epoch}

    def to_json(self) -> dict:
        """Return the content of state.json, a flat dict."""
        entries = asdict(self)
        conditions = entries.pop("conditions")
        return {**entries, "totals": list(self.totals), **conditions}

    @classmethod
    def from_json(cls, entries: dict, path: Path) -> "RunState":
        """Return the state from `entries`, the content of `path`. Raises RunError if an entry is missing or invalid."""
        entries = {**MISSING, "tracking_id": new_tracking_id(), **entries}
        found = {key: entries.get(key, "missing") for key in SOUND}
        wrong = next((key for key, value in found.items() if not SOUND[key](value)), None)
        if wrong:
            raise RunError(f"cannot read {path}: {wrong} is {found[wrong]!r:.80}")
        conditions = Conditions(**{key: found.pop(key) for key in Conditions.__dataclass_fields__})
        state = cls(conditions, **{**found, "totals": Totals(*found["totals"])})
        if not 0 <= state.step - state.epoch * conditions.steps_per_epoch <= conditions.steps_per_epoch:
            raise RunError(f"cannot read {path}: step {state.step} does not belong to epoch {state.epoch}")
        return state


def read_state(checkpoint: Path) -> RunState:
    """Return the state stored in a checkpoint. Raises RunError if its state.json is damaged."""
    path = checkpoint / "state.json"
    return RunState.from_json(read_json(path), path)


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and abs(value) < 1e300 and math.isfinite(value)


def is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


PRECISIONS = ("no", "fp16", "bf16", "fp8")  # accelerate's
# Values of entries that the state of older runs lacks.
MISSING = {
    "pretrained": "none",
    "started_from": [],
    "data": None,
    "teachers": [],
    "accumulation": None,
    "unlogged": {},
    "changes": [],
}
SOUND = {  # entry of state.json -> whether a value is valid
    "epoch": is_count,
    "step": is_count,
    "skipped": is_count,
    "totals": lambda value: isinstance(value, list) and len(value) == 4 and all(map(is_number, value)),
    "seconds": is_number,
    "best_mean_iou": lambda value: value is None or is_number(value),
    "best_epoch": lambda value: value is None or is_count(value),
    "unlogged": lambda value: isinstance(value, dict) and all(map(is_number, value.values())),
    "tracking_id": lambda value: isinstance(value, str) and value.isalnum() and len(value) <= 64,
    "changes": is_list_of_text,
    "pretrained": lambda value: isinstance(value, str),
    "started_from": are_entries,
    "steps": is_count,
    "steps_per_epoch": lambda value: is_count(value) and value > 0,
    "precision": lambda value: value in PRECISIONS,
    "processes": is_count,
    "data": lambda value: value is None or isinstance(value, dict),
    "teachers": is_list_of_text,
    "accumulation": lambda value: value is None or is_count(value),
}
