"""How files are written: old or new, never half, also after a kill, on a full disk, or after a power cut."""

import os
from collections.abc import Callable
from pathlib import Path

from .labels import DataError

UNFINISHED = ".unfinished"  # lies in a data set while it is written, and says what to do if that was interrupted


def write_whole(path: Path, write: Callable[[Path], None], remedy: str) -> None:
    """Replace `path` by what `write` writes to the path that it is given. Where the disk refuses, `path` is as it was,
    nothing else is left, and `DataError` names it and the remedy."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        try:
            write(temporary)
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}; {remedy}") from error


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    if path.is_dir() and os.name == "nt":  # Windows flushes no folders
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
