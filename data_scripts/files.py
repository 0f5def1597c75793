"""Refuse paths that lead nowhere, and write files atomically.

After a kill, a full disk or a power cut, a file is the old one or the new one.
"""

import os
from collections.abc import Callable
from pathlib import Path

from .labels import DataError

UNFINISHED = ".unfinished"  # marks a data set that is being written, and says what to do after an interruption


def refuse_nowhere(path: str, flag: str) -> None:
    """Raise `DataError`, which names `flag`, if `path` is neither a folder nor a file."""
    if not Path(path).is_dir() and not Path(path).is_file():
        raise DataError(f"no folder and no image {path} ({flag}): correct the path")


def write_whole(path: Path, write: Callable[[Path], None], remedy: str) -> None:
    """Replace `path` atomically: `write` gets a temporary path, which is flushed and then renamed.

    If the disk refuses, `path` stays as it was, the temporary file is deleted, and `DataError` names `path` and the
    `remedy`.
    """
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
    """Flush a file, or a folder's list of names, to the disk."""
    if path.is_dir() and os.name == "nt":  # Windows cannot flush a folder
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
