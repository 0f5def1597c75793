"""How fast a run goes: how long it takes, how many steps fit into a given time, and how long it still takes.

Nothing here reads a clock. `seg_jobs/dry_run.py` measures a run before it begins, and the training loop while it runs.
"""

import math
import re
from dataclasses import dataclass

from .errors import RunError

UNITS = {"h": 3600, "m": 60, "s": 1}
LONGEST = 10_000 * 3600  # seconds: longer times are typing errors
SMOOTHING = 0.02  # least share of the newest step in the mean: it follows a machine that becomes busy within 50 steps


@dataclass(frozen=True)
class Calendar:
    """When a run is validated.

    steps            optimizer steps of the run
    steps_per_epoch  optimizer steps of an epoch; the last one may be incomplete
    eval_every       epochs from one validation to the next; the last epoch ends with one too
    """

    steps: int
    steps_per_epoch: int
    eval_every: int

    @property
    def epochs(self) -> int:
        return math.ceil(self.steps / self.steps_per_epoch)

    @property
    def validations(self) -> int:
        return math.ceil(self.epochs / self.eval_every)

    def validations_left(self, epoch: int) -> int:
        """Return the number of validations after `epoch` completed epochs."""
        return self.validations - epoch // self.eval_every


@dataclass
class Pace:
    """Mean seconds of the parts of a run, as far as they are known.

    step        an optimizer step, with everything between it and the next one
    validation  a validation, with the files that are written then
    count       how many steps the mean is over
    """

    step: float | None = None
    validation: float | None = None
    count: int = 0

    def add_step(self, seconds: float) -> None:
        """Take the time of a step into the mean."""
        self.count += 1
        before = seconds if self.step is None else self.step
        self.step = before + max(1 / self.count, SMOOTHING) * (seconds - before)

    def add_validation(self, seconds: float) -> None:
        """Take the time of a validation. All validations see the same images, so the last one counts."""
        self.validation = seconds

    def seconds(self, steps: int, validations: int) -> float | None:
        """Return how long that many steps and validations take, or None if no step is known.

        Until a validation is known, the time does not include them.
        """
        return None if self.step is None else steps * self.step + validations * (self.validation or 0.0)


def steps_within(seconds: float, pace: Pace, steps_per_epoch: int, eval_every: int) -> int:
    """Return the largest number of optimizer steps that fit into `seconds` together with their validations, or 0."""
    validation = pace.validation or 0.0
    between = steps_per_epoch * eval_every
    rounds = max(0, math.floor(seconds / (between * pace.step + validation)))  # from one validation to the next
    rest = seconds - rounds * (between * pace.step + validation) - validation  # the last epoch ends with one too
    return rounds * between + max(0, math.floor(rest / pace.step))


def seconds_of(flag: str, text: str) -> int:
    """Return the seconds of a time such as 2h, 90m, 1h30m or 45s. Raises RunError that names `flag` for other texts."""
    found = re.fullmatch(r"(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?", text.strip().lower())
    if not text.strip() or not found:
        raise RunError(f"{flag} {text!r:.40} is not a time: give hours, minutes and seconds, as in 2h, 90m, 1h30m, 45s")
    seconds = sum(int(number or 0) * unit for number, unit in zip(found.groups(), UNITS.values(), strict=True))
    if not 0 < seconds <= LONGEST:
        raise RunError(f"{flag} {text:.40} is out of range: give more than 0s and at most {LONGEST // 3600}h")
    return seconds


def in_words(seconds: float) -> str:
    """Return a duration as precisely as a reader needs it: 0.35 s, 7.2 s, 48 s, 3 min 20 s, 2 h 05 min, 3 d 4 h."""
    if seconds < 59.5:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s" if whole < 600 else f"{round(seconds / 60)} min"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"
