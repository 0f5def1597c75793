"""What is computed once from a data set and kept on disk: whole or not at all, and computed again when a file changes.

    python -m data_scripts.cache            # what is there
    python -m data_scripts.cache --clear    # delete it; nothing is lost but time

It lies below $MINICITY_SEG_CACHE, or else in the user's cache folder.
"""

import argparse
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from .labels import DataError

PARTS_AT_ONCE = 16  # that wait in memory to be written


def cache_root() -> Path:
    named = os.environ.get("MINICITY_SEG_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "minicity-seg"


def names_of(kind: str, files: Iterable[dict], *settings) -> tuple[str, str]:
    """(what is made of `files` under `settings`, the same as the files are now: path, size and time of change of each).

    files  the {"path", "bytes"} of undecoded `datasets.Image` columns
    """
    made, state = hashlib.sha256(repr(settings).encode()), hashlib.sha256()
    for file in files:
        if file.get("bytes") is not None:
            made.update(hashlib.sha256(file["bytes"]).digest())
        else:
            status = os.stat(file["path"])
            made.update(f"{os.path.abspath(file['path'])}\0".encode())
            state.update(f"{status.st_size}\0{status.st_mtime_ns}\0".encode())
    group = f"{kind}_{made.hexdigest()[:16]}"
    return group, f"{group}_{state.hexdigest()[:16]}"


def cached_folder(group: str, name: str, build: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache; if it is not there, `build` fills a temporary one, which is then renamed, and
    others of its `group`, which were made of the files before they changed, are deleted.

    Several processes may build at once: the first one's counts. Raises `DataError` where the disk says no.
    """
    root = cache_root()
    folder, temporary = root / name, root / f".{name}.{uuid.uuid4().hex[:8]}.tmp"
    if folder.is_dir():
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        for left in root.glob(".*.tmp"):  # by a process that was killed
            with suppress(FileNotFoundError):  # another process is tidying up too
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
    for old in root.glob(f"{group}_*"):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    return folder


def in_threads(function: Callable, rows: Sequence) -> Iterator:
    """`map(function, rows)`, some at a time: what has been computed and not been taken yet stays few."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for start in range(0, len(rows), PARTS_AT_ONCE):
            yield from pool.map(function, rows[start : start + PARTS_AT_ONCE])


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clear", action="store_true", help="delete everything that is there")
    clear, root = parser.parse_args().clear, cache_root()
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        print(f"{size_of(folder) / 1e6:10.1f} MB  {folder}{'  deleted' if clear else ''}")
        if clear:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
