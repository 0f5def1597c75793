"""What is computed once from a data set and kept on disk: whole or not at all, and computed again when a file changes.

It lies below $MINICITY_SEG_CACHE, or else in the user's cache folder; deleting it loses nothing but time.
"""

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from .labels import DataError


def cache_root() -> Path:
    named = os.environ.get("MINICITY_SEG_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "minicity-seg"


def fingerprint(files: Iterable[str], *settings) -> str:
    """A name for what is made of `files`, each with its path, size and time of change, under `settings`."""
    digest = hashlib.sha256(repr(settings).encode())
    for file in files:
        path = Path(file).resolve()
        status = path.stat()
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:24]


def cached_folder(name: str, build: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache; if it is not there, `build` fills a temporary one, which is then renamed.

    Several processes may build at once: the first one's counts. Raises `DataError` where the disk says no.
    """
    root = cache_root()
    folder, temporary = root / name, root / f".{name}.{uuid.uuid4().hex[:8]}.tmp"
    if folder.is_dir():
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        for left in root.glob(".*.tmp"):  # by a process that was killed
            if time.time() - left.stat().st_mtime > 24 * 3600:
                shutil.rmtree(left, ignore_errors=True)
        temporary.mkdir()
        build(temporary)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    except OSError as error:
        raise DataError(
            f"cannot write the cache {root}: {error.strerror or error}; MINICITY_SEG_CACHE=FOLDER names another place"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
