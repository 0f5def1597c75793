"""Log the numbers of a run: log_epoch.csv, learning_curve.png, trackers, results.json."""

import math
from pathlib import Path

from .epoch_rows import COLUMNS, append_row, read_rows
from .files import write_json, writing
from .results import plot_learning_curve
from .state import RunState
from .trackers import Trackers


class TrainingLog:
    """The first process writes the log; on the others, calls only keep `state` up to date.

    state    how far the run has come
    classes  their names, for the columns of log_epoch.csv
    on       whether this is the first process
    """

    def __init__(self, run: Path, state: RunState, classes: list[str], trackers: Trackers, on: bool):
        self.run, self.state, self.trackers, self.on = run, state, trackers, on
        self.columns = (*COLUMNS, *map(iou_column, classes))
        self.is_drawn = False  # whether the learning curve shows all rows

    def step(self, values: dict[str, float], last: bool) -> None:
        """Log the optimizer step that the state has just counted. The last one of an epoch is logged with the epoch."""
        state = self.state
        unlogged = state.unlogged
        if unlogged and self.on:  # a run that ended within an epoch goes on
            self.trackers.log(state.step - 1, in_part("train", unlogged))
        state.unlogged = {key: value for key, value in values.items() if math.isfinite(value)} if last else {}
        if self.on and not last:
            self.trackers.log(state.step, in_part("train", values))

    def epoch(self, row: dict) -> None:
        """Log one epoch. Keys are those of `epoch_rows.COLUMNS`, and `iou_column` of each class."""
        if not self.on:
            return
        path = self.run / "log_epoch.csv"
        with writing(path):
            append_row(path, row, self.columns)
        self.is_drawn = "mean_iou" in row
        if self.is_drawn:
            self._plot()
        self.trackers.log(self.state.step, in_part("train", self.state.unlogged) | tracked(row))
        known = {key: value for key, value in row.items() if key in COLUMNS and value is not None}
        print("  ".join(f"{key} {value:.4g}" for key, value in known.items()), flush=True)

    def _plot(self) -> None:
        path = self.run / "learning_curve.png"
        with writing(path):
            plot_learning_curve(read_rows(self.run / "log_epoch.csv"), path)

    def finish(self) -> None:
        """Write what a complete run has: results.json, and a learning curve of all its epochs."""
        if self.on:
            if not self.is_drawn:
                self._plot()
            with writing(self.run / "results.json"):
                write_json(self.run / "results.json", self.state.results())


def iou_column(name: str) -> str:
    """Return the column of log_epoch.csv for the IoU of a class."""
    return f"iou/{name}"


def tracked(row: dict) -> dict:
    """Return a row of log_epoch.csv under the names that trackers show, which group by what precedes the slash."""
    validation = {key.removeprefix("val_"): value for key, value in row.items() if is_of_validation(key)}
    rest = {key: value for key, value in row.items() if key != "epoch" and not is_of_validation(key)}
    return {"epoch": row["epoch"], **in_part("epoch", rest), **in_part("val", validation)}


def is_of_validation(column: str) -> bool:
    return column.startswith(("val_", "iou/")) or column == "mean_iou"


def in_part(name: str, values: dict) -> dict:
    return {f"{name}/{key}": value for key, value in values.items()}
