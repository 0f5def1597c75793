"""The numbers of a run, as they come: log_epoch.csv, learning_curve.png, TensorBoard, results.json."""

from pathlib import Path

from .checkpoints import write_json
from .report import plot_learning_curve
from .run_folder import append_row, read_rows


class TrainingLog:
    """Written by the first process; on the others every call does nothing.

    TensorBoard shows two runs, steps and epochs, for the two ways to count. `state` is where the run stands: what was
    logged after it, by a run that was killed, is taken back.
    """

    def __init__(self, run: Path, report_to: str, on: bool, state: dict):
        self.run, self.on, self.boards = run, on, {}
        if on and report_to == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            for kind, done in (("step", state["step"]), ("epoch", state["epoch"])):
                self.boards[kind] = SummaryWriter(run / "tensorboard" / f"{kind}s", purge_step=done + 1)

    def step(self, step: int, values: dict[str, float]) -> None:
        """One optimizer step, counted from 1."""
        self._add("step", step, values)

    def epoch(self, row: dict) -> None:
        """One epoch; keys as in `run_folder.COLUMNS`."""
        if not self.on:
            return
        append_row(self.run / "log_epoch.csv", row)
        if "mean_iou" in row:
            plot_learning_curve(read_rows(self.run / "log_epoch.csv"), self.run / "learning_curve.png")
        self._add("epoch", row["epoch"], row)
        self.flush()
        print("  ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)

    def _add(self, kind: str, count: int, values: dict) -> None:
        if self.boards:
            for key, value in values.items():
                if key != "epoch":
                    self.boards[kind].add_scalar(key, value, count)

    def flush(self) -> None:
        """To be called before a checkpoint or its state is written: a resumed run does not log what was before it."""
        for board in self.boards.values():
            board.flush()

    def finish(self, results: dict) -> None:
        """The run is complete."""
        for board in self.boards.values():
            board.close()
        if self.on:
            plot_learning_curve(read_rows(self.run / "log_epoch.csv"), self.run / "learning_curve.png")
            write_json(self.run / "results.json", results)
