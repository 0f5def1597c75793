"""The numbers of a run, as they come: log_epoch.csv, learning_curve.png, TensorBoard, results.json."""

from pathlib import Path

from .report import plot_learning_curve
from .run_folder import append_row, read_rows, write_json


class TrainingLog:
    """Written by the first process; on the others every call does nothing. TensorBoard counts optimizer steps."""

    def __init__(self, run: Path, report_to: str, on: bool, steps_done: int):
        self.run, self.on, self.board = run, on, None
        if on and report_to == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(run / "tensorboard", purge_step=steps_done + 1)

    def step(self, step: int, values: dict[str, float]) -> None:
        """One optimizer step, counted from 1."""
        if self.board:
            for key, value in values.items():
                self.board.add_scalar(f"step/{key}", value, step)

    def epoch(self, step: int, row: dict) -> None:
        """One epoch, which ended with `step`; keys as in `run_folder.COLUMNS`."""
        if not self.on:
            return
        append_row(self.run / "log_epoch.csv", row)
        if "mean_iou" in row:
            plot_learning_curve(read_rows(self.run / "log_epoch.csv"), self.run / "learning_curve.png")
        for key, value in row.items():
            if self.board:
                self.board.add_scalar(f"epoch/{key}", value, step)
        print("  ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)

    def flush(self) -> None:
        """What is before a checkpoint is on the disk before it: a resumed run does not log it again."""
        if self.board:
            self.board.flush()

    def close(self) -> None:
        if self.board:
            self.board.close()

    def finish(self, results: dict) -> None:
        """The run is complete."""
        self.close()
        if self.on:
            write_json(self.run / "results.json", results)
