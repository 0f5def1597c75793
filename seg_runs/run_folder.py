"""The folder of a run, and how it is found again.

runs/camvid_streetnet_batch_20260101-120000/
    args.yaml            a recipe that reproduces the run
    log_epoch.csv        a row per epoch
    learning_curve.png
    images/              validation pictures
    tensorboard/
    checkpoints/         to resume from
    best/                the model at its best validation mIoU, for from_pretrained
    results.json         written when training is complete
"""

import csv
import json
import os
import shutil
import time
from pathlib import Path

from .launch import RunError

COLUMNS = (
    "epoch",
    "train_loss",
    "val_loss",
    "train_accuracy",
    "val_accuracy",
    "mean_iou",
    "learning_rate",
    "seconds",
)
RUNS = Path("runs")


def create_run(output_dir: str | None, name: str, overwrite: bool = False) -> Path:
    """Make the folder of a new run and return it. One that holds a run already is refused unless `overwrite`."""
    folder = Path(output_dir) if output_dir else RUNS / f"{name}_{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        if overwrite and holds_run(folder):
            for part in ("args.yaml", "log_epoch.csv", "learning_curve.png", "results.json"):
                (folder / part).unlink(missing_ok=True)
            for predicted in folder.glob("scores_*.json"):
                predicted.unlink()
            parts = ("images", "tensorboard", "checkpoints", "best", ".best.new", ".best.old")
            remove(*(folder / part for part in parts), *folder.glob("results_*"))
        while not output_dir and folder.exists():  # several runs begun in one second
            folder = Path(f"{folder}-{os.getpid()}")
        refuse_run(folder)
        (folder / "images").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write to --output_dir {folder}: {error.strerror}") from error
    return folder


def refuse_run(folder: Path) -> None:
    if holds_run(folder):
        raise RunError(
            f"--output_dir {folder} already holds a run: choose another, go on with it by "
            f"--resume_from_checkpoint {folder}, or delete it by --overwrite_output_dir"
        )


def holds_run(folder: Path) -> bool:
    return any((folder / part).exists() for part in ("args.yaml", "log_epoch.csv", "checkpoints", "best"))


def newest_run(runs: Path = RUNS) -> Path:
    """The complete run below `runs` whose training ended last."""
    results = sorted(runs.glob("*/results.json"), key=lambda path: path.stat().st_mtime)
    complete = [path.parent for path in results if (path.parent / "best" / "config.json").exists()]
    if not complete:
        raise RunError(f"no complete run below {runs}/: train one with train_seg.py, or give --model_name_or_path")
    return complete[-1]


def append_row(path: Path, row: dict) -> None:
    """Add an epoch to log_epoch.csv; a value that was not measured is an empty cell."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        digits = {"learning_rate": ".4e", "seconds": ".1f"}
        writer.writerow({k: format(v, digits.get(k, ".4f")) if isinstance(v, float) else v for k, v in row.items()})


def read_rows(path: Path) -> list[dict]:
    """The rows of log_epoch.csv, as numbers; None where the cell is empty."""
    with path.open(newline="") as file:
        return [{key: float(value) if value else None for key, value in row.items()} for row in csv.DictReader(file)]


def cut_rows(path: Path, epochs: int) -> None:
    """Keep the rows of the first `epochs` epochs: what a resumed run computes again is not logged twice."""
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines[1:] if int(line.split(",")[0]) <= epochs]
    write_atomically(path, "".join([lines[0], *kept]))


def write_json(path: Path, content: dict) -> None:
    write_atomically(path, json.dumps(content, indent=2) + "\n")


def write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def restore_best(run: Path) -> None:
    """Undo a replacement of best/ that was killed between its two renames."""
    if not (run / "best").exists() and (run / ".best.old").exists():
        (run / ".best.old").rename(run / "best")


def make_folders(*folders: Path) -> None:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot write to {folder}: {error.strerror}") from error


def remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
