"""How files are written: old or new, never half, also after a kill, on a full disk, or after a power cut.

Write under a temporary name, flush it to the disk, rename it, flush the folder. Delete by renaming first.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def write_json(path: Path, content: dict) -> None:
    """Write `content` to `path`. NaN and infinity are no JSON: they raise ValueError."""
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_atomically(path: Path, content: str | bytes | Callable[[Path], None]) -> None:
    """Replace `path` by `content`, or by what the function `content` writes to the path that it is given.

    Raises OSError if the disk refuses; `path` is then as it was, and nothing else is left.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        if callable(content):
            content(temporary)
        else:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def replace_folder(temporary: Path, final: Path) -> None:
    """Flush every file of `temporary` to the disk, then give the folder its final name, which must be free."""
    for path in sorted(temporary.rglob("*")):
        sync(path)
    sync(temporary)
    temporary.rename(final)
    sync(final.parent)


def discard(folder: Path) -> None:
    """Delete a folder that is whole or gone at any moment: it is renamed to .NAME.old first."""
    hidden = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(hidden, ignore_errors=True)
    folder.rename(hidden)
    shutil.rmtree(hidden)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    if path.is_dir() and os.name == "nt":  # Windows flushes no folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
