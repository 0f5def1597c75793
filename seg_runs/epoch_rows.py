"""log_epoch.csv of a run: a row of numbers for each epoch."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from .errors import RunError, os_reason
from .files import write_atomically

COLUMNS = (  # of log_epoch.csv, before those of the classes
    "epoch",
    "train_loss",
    "val_loss",
    "train_accuracy",
    "val_accuracy",
    "mean_iou",
    "learning_rate",
    "seconds",
)


def append_row(path: Path, row: dict, columns: Sequence[str]) -> None:
    """Add the row of an epoch to log_epoch.csv. Values that were not measured become empty cells.

    An existing file keeps its columns, which may be fewer than `columns`.
    """
    before = path.read_bytes() if path.exists() else b""
    text = io.StringIO(newline="")
    try:
        header = next(csv.reader(before.decode().splitlines()), None)
    except (ValueError, csv.Error) as error:
        raise RunError(f"cannot read {path}: {os_reason(error)}") from error
    writer = csv.DictWriter(text, header or columns, extrasaction="ignore")
    if header is None:
        writer.writeheader()
    digits = {"learning_rate": ".4e", "seconds": ".1f"}
    writer.writerow({k: format(v, digits.get(k, ".4f")) if isinstance(v, float) else v for k, v in row.items()})
    write_atomically(path, before + text.getvalue().encode())


def read_rows(path: Path) -> list[dict]:
    """Return the rows of log_epoch.csv as numbers, with None for empty cells."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [{key: float(value) if value else None for key, value in row.items()} for row in rows]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise RunError(f"cannot read {path}: {os_reason(error)}") from error


def cut_rows(path: Path, epochs: int) -> None:
    """Keep the rows of the first `epochs` epochs, so that a resumed run logs no epoch twice.

    A row is written before state.json counts its epoch. So no counted epoch lacks its row, unless someone deleted it.
    """
    if epochs == 0 or not path.exists() or not path.read_bytes().strip():  # there is no row to keep
        path.unlink(missing_ok=True)
        return
    header, *rows = path.read_bytes().splitlines(keepends=True)
    column = next(csv.reader([header.decode()])).index("epoch")
    kept = [row for row in rows if row.strip() and float(row.split(b",")[column]) <= epochs]
    write_atomically(path, b"".join([header, *kept]))
