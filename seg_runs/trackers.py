"""Send the numbers of a run to accelerate's trackers: TensorBoard, wandb and trackio.

TensorBoard's files lie in RUN/tensorboard and wandb's in RUN/wandb. trackio has its own folder, which `trackio show`
reads. All of them number rows by optimizer step. Each step is logged once, because wandb accepts no step twice.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import RunOptions
from .errors import RunError, os_line, os_reason
from .files import writing
from .state import RunState

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.tracking import GeneralTracker

PROJECT = "minicity-seg"  # at wandb and trackio


def tracker_names(options: RunOptions) -> list[str]:
    """Return the trackers that `--report_to` names."""
    return [name for name in options.report_to if name != "none"]


def refuse_missing_trackers(options: RunOptions) -> None:
    """Raise RunError if a tracker is not installed: accelerate would drop it silently."""
    from accelerate.tracking import get_available_trackers

    available = [str(name) for name in get_available_trackers()]
    missing = [name for name in tracker_names(options) if name not in available]
    if missing:
        raise RunError(f"--report_to {missing[0]}: it is not installed: pip install {missing[0]}")


class Trackers:
    """The trackers that `accelerator` was made with."""

    def __init__(self, accelerator: "Accelerator", run: Path):
        self.accelerator = accelerator
        self.board = run / "tensorboard"
        self.run = run
        self.active = []

    def start(self, state: RunState, flags: dict) -> None:
        """Start the trackers on the first process. Raises RunError if one cannot start.

        A killed run may have logged steps after its checkpoint, which a resumed run logs again. TensorBoard shows the
        new values, wandb the old ones, trackio both.

        flags  the run's, which wandb and trackio show
        """
        accelerator = self.accelerator
        name = self.run.resolve().name
        if not accelerator.log_with:
            return
        accelerator.project_configuration.logging_dir = str(self.board)  # the run has a folder only now
        settings = {
            "tensorboard": {"purge_step": state.step + (0 if state.unlogged else 1)},
            "wandb": {"dir": self.run, "name": name, "id": state.tracking_id, "resume": "allow", "config": flags},
            "trackio": {"name": f"{name}-{state.tracking_id}", "resume": "allow", "config": flags},  # resumes by name
        }
        with writing(self.board):
            put_before(self.board / PROJECT, int(time.time()))
        try:  # without `config`, for which TensorBoard's tracker would make a further folder
            accelerator.init_trackers(PROJECT, init_kwargs=settings)
        except Exception as error:  # no key, no server, no disk: each package has its own errors
            reason = os_line(error) if isinstance(error, OSError) else os_reason(error)
            raise RunError(f"--report_to {' '.join(map(str, accelerator.log_with))} cannot start: {reason}") from error
        self.active = list(accelerator.trackers)

    def log(self, step: int, values: dict[str, float | None]) -> None:
        """Log the row of a step, on the first process. Values that are None are left out."""
        known = {key: value for key, value in values.items() if value is not None}
        for tracker in list(self.active):  # `accelerator.log` would stop at the first that fails
            with self._going_on_without(tracker):
                tracker.log(known, step=step)

    def end_training(self) -> None:
        """Call accelerate's `end_training`, on every process. An error becomes a note: the run is complete."""
        try:
            self.accelerator.end_training()
        except Exception as error:
            print(f"note: a tracker did not end cleanly: {os_reason(error)}", flush=True)

    @contextmanager
    def _going_on_without(self, tracker: "GeneralTracker") -> Iterator[None]:
        """Turn a disk error of TensorBoard into a one-line error, which ends the run; it can be resumed.

        Any other tracker that fails, for example because its server is gone, is left out from then on.
        """
        if tracker.name == "tensorboard":
            with writing(self.board):  # errors of its thread are raised here
                yield
            return
        try:
            yield
        except Exception as error:
            self.active.remove(tracker)
            print(f"note: nothing goes to {tracker.name} from now on: {os_reason(error)}", flush=True)


def put_before(folder: Path, second: int) -> None:
    """Rename TensorBoard's files of a run, keeping their order, so that a file begun in `second` sorts after them.

    TensorBoard reads the files in the order of their names, which contain the second in which each was begun. The
    file of a resumed run makes it drop the steps that are logged again, but only from files that it read before.
    Without renaming, a file could have a later second, because the clock was set back, or the same one.
    """
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        if name := re.fullmatch(r"events\.out\.tfevents\.(\d+)(\..*)", path.name):
            found.append((path, int(name[1]), name[2]))
    if found and found[-1][1] >= second:
        first = min(found[0][1], second) - len(found)
        for place, (path, _, rest) in enumerate(found):
            path.rename(path.with_name(f"events.out.tfevents.{first + place:010d}{rest}"))
