"""The numbers of a run, as they come: log_epoch.csv, learning_curve.png, TensorBoard, results.json."""

import re
import time
from pathlib import Path

from .files import write_json, writing
from .report import plot_learning_curve
from .run_folder import append_row, read_rows
from .state import RunState


class TrainingLog:
    """Written by the first process; on the others every call does nothing.

    TensorBoard shows two runs, steps and epochs, for the two ways to count. `state` is where the run stands: what was
    logged after it, by a run that was killed, is taken back.
    """

    def __init__(self, run: Path, report_to: str, on: bool, state: RunState):
        self.run, self.on, self.boards = run, on, {}
        if on and report_to == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            for kind, done in (("step", state.step), ("epoch", state.epoch)):
                folder = run / "tensorboard" / f"{kind}s"
                with writing(folder):
                    put_before(folder, int(time.time()))
                    self.boards[kind] = SummaryWriter(folder, purge_step=done + 1)

    def step(self, step: int, values: dict[str, float]) -> None:
        """One optimizer step, counted from 1."""
        self._add("step", step, values)

    def epoch(self, row: dict) -> None:
        """One epoch; keys as in `run_folder.COLUMNS`."""
        if not self.on:
            return
        with writing(self.run / "log_epoch.csv"):
            append_row(self.run / "log_epoch.csv", row)
        if "mean_iou" in row:
            self._plot()
        self._add("epoch", row["epoch"], row)
        self.flush()
        known = {key: value for key, value in row.items() if value is not None}
        print("  ".join(f"{key} {value:.4g}" for key, value in known.items()), flush=True)

    def _plot(self) -> None:
        path = self.run / "learning_curve.png"
        with writing(path):
            plot_learning_curve(read_rows(self.run / "log_epoch.csv"), path)

    def _add(self, kind: str, count: int, values: dict) -> None:
        if self.boards:
            with writing(self.run / "tensorboard"):  # its thread's errors come out here
                for key, value in values.items():
                    if key != "epoch" and value is not None:
                        self.boards[kind].add_scalar(key, value, count)

    def flush(self) -> None:
        """To be called before a checkpoint or its state is written: a resumed run does not log what was before it."""
        with writing(self.run / "tensorboard"):  # its thread's errors come out here
            for board in self.boards.values():
                board.flush()

    def finish(self, results: dict) -> None:
        """The run is complete."""
        with writing(self.run / "tensorboard"):  # its thread's errors come out here
            for board in self.boards.values():
                board.close()
        if self.on:
            self._plot()
            with writing(self.run / "results.json"):
                write_json(self.run / "results.json", results)


def put_before(folder: Path, second: int) -> None:
    """Rename TensorBoard's files of a run, in their order, so that one begun in `second` comes after them.

    TensorBoard reads them by name, which begins with the second that each was begun in, and takes back what came
    before a resumed run in the files before. The clock may have been set back since, or the second be the same.
    """
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        if name := re.fullmatch(r"events\.out\.tfevents\.(\d+)(\..*)", path.name):
            found.append((path, int(name[1]), name[2]))
    if found and found[-1][1] >= second:
        first = min(found[0][1], second) - len(found)
        for place, (path, _, rest) in enumerate(found):
            path.rename(path.with_name(f"events.out.tfevents.{first + place:010d}{rest}"))
