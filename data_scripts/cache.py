"""What is computed once from a data set and kept on disk: whole or not at all, and computed again when a file changes.

    python -m data_scripts.cache            # what is there
    python -m data_scripts.cache --clear    # delete it; nothing is lost but time

It lies below $MINICITY_SEG_CACHE, or else in the user's cache folder. Each folder of it has checksums, which are
compared when a program begins to use it; one program at a time builds a folder, and others wait for it.
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

from filelock import FileLock, Timeout

from .files import sync
from .labels import DataError
from .reader import file_state

PARTS_AT_ONCE = 16  # that wait in memory to be written
CHECKSUMS = "checksums.json"
OURS = re.compile(r"\.?(decoded|blobs)_[0-9a-f]{16}_[0-9a-f]{16}(\.tmp|\.old)?")  # names of folders
PIECE = 2**24  # bytes that have a checksum of their own: several are compared at a time


def cache_root() -> Path:
    named = os.environ.get("MINICITY_SEG_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "minicity-seg"


def names_of(kind: str, files: Iterable[dict], *settings) -> tuple[str, str]:
    """(what is made of `files` under `settings`, the same as the files are now: see `reader.file_state`).

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
    """The folder `name` of the cache, sound by its checksums; if it is not there, or damaged, `build` fills a temporary
    one, which is then renamed. Others of its `group`, which were made of the files before they changed, are deleted.

    One process builds a group at a time. Raises `DataError` where the disk says no.
    """
    root = cache_root()
    try:
        with group_lock(root, group):
            folder = root / name
            if folder.is_dir():
                wrong = damage(folder)
                if not wrong:
                    return folder
                print(f"note: {folder} is damaged ({wrong}): it is made again", flush=True)
            _build(root, group, folder, build)
    except OSError as error:
        raise DataError(
            f"cannot write the cache {root}: {error.strerror or error}; MINICITY_SEG_CACHE=FOLDER names another place"
        ) from error
    return folder


def _build(root: Path, group: str, folder: Path, build: Callable[[Path], None]) -> None:
    temporary = root / f".{folder.name}.tmp"
    for left in (*root.glob(f".{group}_*.tmp"), *root.glob(f".{group}_*.old")):  # by a process that was killed
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
    """Hold a group of the cache while the block runs. Another's lock is waited for, or raises `Timeout`. It goes when
    its holder ends, however it ends."""
    folder = root / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / group, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise
        print(f"waiting for another program that builds {root / group}", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def checksums_of(path: Path) -> list[int]:
    """The size of a file in bytes, and the CRC-32 of each piece of it."""

    def checksum(start: int) -> int:
        with path.open("rb") as file:
            file.seek(start)
            return zlib.crc32(file.read(PIECE))

    size = path.stat().st_size
    return [size, *in_threads(checksum, range(0, size, PIECE))]


def damage(folder: Path) -> str:
    """What is wrong with a folder of the cache; nothing if all is well."""
    try:
        known = json.loads((folder / CHECKSUMS).read_text())
        wrong = [name for name, checksums in known.items() if checksums_of(folder / name) != checksums]
    except FileNotFoundError as error:
        return f"it has no {Path(error.filename).name}"
    except (OSError, ValueError, AttributeError) as error:
        return f"{CHECKSUMS}: {error}"
    if known.keys() != {path.name for path in folder.iterdir()} - {CHECKSUMS}:
        return f"its files are not those of {CHECKSUMS}"
    return f"{wrong[0]} is not what was written" if wrong else ""


def discard(folder: Path) -> None:
    """Delete a folder of the cache, which is whole or gone at any moment: it is renamed first."""
    hidden = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(hidden, ignore_errors=True)
    folder.rename(hidden)
    shutil.rmtree(hidden)


def in_threads(function: Callable, rows: Sequence) -> Iterator:
    """`map(function, rows)`, some at a time: what has been computed and not been taken yet stays few."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for start in range(0, len(rows), PARTS_AT_ONCE):
            yield from pool.map(function, rows[start : start + PARTS_AT_ONCE])


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def group_of(folder: Path) -> str:
    """The group of a folder by its name; of what a killed process left, too."""
    return folder.name.removeprefix(".").split(".")[0].rsplit("_", 1)[0]


def clear(folder: Path) -> str:
    """Delete a folder of the cache, unless a program builds it; what became of it, in a word or two."""
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
    """The folders that this module made, killed builders' too. $MINICITY_SEG_CACHE may hold others: they stay."""
    found = root.iterdir() if root.is_dir() else ()
    return sorted(path for path in found if OURS.fullmatch(path.name) and path.is_dir() and not path.is_symlink())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clear", action="store_true", help="delete everything that is there")
    asked, root = parser.parse_args().clear, cache_root()
    for folder in folders(root):
        size = size_of(folder) / 1e6
        print(f"{size:10.1f} MB  {folder}{f'  {clear(folder)}' if asked else ''}")


if __name__ == "__main__":
    main()
