"""List or delete the cache, which holds what is computed once from each data set.

    python -m data_scripts.cache            # list the cached folders
    python -m data_scripts.cache --clear    # delete them; the next run builds them again

The cache is $MINICITY_SEG_CACHE, or a folder in the user's cache folder. A cached folder is complete or absent. It has
checksums, which each program compares before it uses the folder. One program at a time builds a folder; others wait.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from .files import sync
from .labels import DataError
from .reader import file_state

PARTS_AT_ONCE = 16  # results that may wait in memory until they are written
CHECKSUMS = "checksums.json"
OURS = re.compile(r"\.?(decoded|blobs|facts)_[0-9a-f]{16}_[0-9a-f]{16}(\.tmp|\.old)?")  # folder names
PIECE = 2**24  # bytes per checksum: threads compare several pieces at a time


def cache_root() -> Path:
    named = os.environ.get("MINICITY_SEG_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "minicity-seg"


def names_of(kind: str, files: Iterable[dict], *settings: Any) -> tuple[str, str]:
    """Return (group, name) of a cached folder.

    The group is `kind` with a hash of `settings` and of the paths of `files`, or their contents if they are in memory.
    The name adds a hash of the files' current state (`reader.file_state`), so it changes when a file does.

    files  the {"path", "bytes"} of undecoded `datasets.Image` columns
    """
    made, state = hashlib.sha256(repr(settings).encode()), hashlib.sha256()
    for file in files:
        in_memory = file.get("bytes") is not None
        made.update(f"{file_state(file) if in_memory else os.path.abspath(file['path'])}\0".encode())
        state.update(f"{[] if in_memory else file_state(file)}\0".encode())
    group = f"{kind}_{made.hexdigest()[:16]}"
    return group, f"{group}_{state.hexdigest()[:16]}"


def cached_folder(group: str, name: str, build: Callable[[Path], None]) -> Path:
    """Return the cached folder `name`, built if it is missing or fails its checksums.

    `build` fills a temporary folder, which is then renamed. Other folders of the `group` belong to an older state of
    the files and are deleted. One process at a time builds a group. Raises `DataError` if the disk refuses a write.
    """
    root = cache_root()
    try:
        with group_lock(root, group):
            folder = root / name
            if folder.is_dir():
                wrong = damage(folder)
                if not wrong:
                    return folder
                print(f"note: {folder} is damaged ({wrong}): building it again", flush=True)
            _build(root, group, folder, build)
    except OSError as error:
        raise DataError(
            f"cannot write the cache {root}: {error.strerror or error}; MINICITY_SEG_CACHE=FOLDER names another place"
        ) from error
    return folder


def _build(root: Path, group: str, folder: Path, build: Callable[[Path], None]) -> None:
    temporary = root / f".{folder.name}.tmp"
    for left in (*root.glob(f".{group}_*.tmp"), *root.glob(f".{group}_*.old")):  # left by a killed process
        shutil.rmtree(left)
    try:
        temporary.mkdir()
        build(temporary)
        checksums = {path.name: checksums_of(path) for path in sorted(temporary.iterdir())}
        (temporary / CHECKSUMS).write_text(json.dumps(checksums))
        for path in (*temporary.iterdir(), temporary):
            sync(path)
        for old in root.glob(f"{group}_*"):
            discard(old)
        temporary.rename(folder)
        sync(root)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def group_lock(root: Path, group: str, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a group while the block runs.

    If another process holds it, wait, or raise `Timeout` when `wait` is False. The system releases the lock when its
    holder ends, however it ends.
    """
    folder = root / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / group, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise
        print(f"waiting for another program that is building {root / group}", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def checksums_of(path: Path) -> list[int]:
    """Return a file's size in bytes, followed by the CRC-32 of each piece."""

    def checksum(start: int) -> int:
        with path.open("rb") as file:
            file.seek(start)
            return zlib.crc32(file.read(PIECE))

    size = path.stat().st_size
    return [size, *in_threads(checksum, range(0, size, PIECE))]


def damage(folder: Path) -> str:
    """Return what is wrong with a cached folder, or an empty string."""
    try:
        known = json.loads((folder / CHECKSUMS).read_text())
        wrong = [name for name, checksums in known.items() if checksums_of(folder / name) != checksums]
    except FileNotFoundError as error:
        return f"it has no {Path(error.filename).name}"
    except (OSError, ValueError, AttributeError) as error:
        return f"{CHECKSUMS}: {error}"
    if known.keys() != {path.name for path in folder.iterdir()} - {CHECKSUMS}:
        return f"its files are not those listed in {CHECKSUMS}"
    return f"{wrong[0]} has changed since it was written" if wrong else ""


def discard(folder: Path) -> None:
    """Delete a cached folder. It is renamed first, so that it is complete or absent at any moment."""
    hidden = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(hidden, ignore_errors=True)
    folder.rename(hidden)
    shutil.rmtree(hidden)


def in_threads(function: Callable, rows: Sequence) -> Iterator:
    """Map `function` over `rows` in threads, `PARTS_AT_ONCE` rows at a time, so that few results wait in memory."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for start in range(0, len(rows), PARTS_AT_ONCE):
            yield from pool.map(function, rows[start : start + PARTS_AT_ONCE])


def mapped(function: Callable, rows: Sequence, title: str, progress: bool) -> list:
    """Return `function` of each row, computed in threads under a progress bar. An error ends the rows that wait."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        off = None if progress else True  # None: on in a terminal
        return list(tqdm(pool.map(function, rows), title, len(rows), leave=False, disable=off, unit="image"))


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def group_of(folder: Path) -> str:
    """Return the group in a folder's name, also for a folder that a killed process left behind."""
    return folder.name.removeprefix(".").split(".")[0].rsplit("_", 1)[0]


def clear(folder: Path) -> str:
    """Delete a cached folder unless a program is building it. Returns what was done, to be printed."""
    try:
        with group_lock(folder.parent, group_of(folder), wait=False):
            if folder.name.startswith("."):
                shutil.rmtree(folder)
            else:
                discard(folder)
    except Timeout:
        return "kept: a program is building it"
    return "deleted"


def folders(root: Path) -> list[Path]:
    """Return the folders that this module made, unfinished ones included.

    Anything else in $MINICITY_SEG_CACHE is not ours and stays.
    """
    found = root.iterdir() if root.is_dir() else ()
    return sorted(path for path in found if OURS.fullmatch(path.name) and path.is_dir() and not path.is_symlink())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m data_scripts.cache",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clear", action="store_true", help="delete the cached folders")
    asked = parser.parse_args().clear
    root = cache_root()
    try:
        for folder in folders(root):
            size = size_of(folder) / 1e6
            print(f"{size:10.1f} MB  {folder}{f'  {clear(folder)}' if asked else ''}")
    except OSError as error:
        work, need = ("clear", "writable") if asked else ("read", "readable")
        raise SystemExit(
            f"error: cannot {work} the cache {root}: {error.strerror or error}; make it {need}, or "
            "MINICITY_SEG_CACHE=FOLDER names another"
        ) from error


if __name__ == "__main__":
    main()
