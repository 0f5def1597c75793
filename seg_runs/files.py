"""How files are written: old or new, never half, also after a kill, on a full disk, or after a power cut.

Write under a temporary name, flush it to the disk, rename it, flush the folder. Delete by renaming first. What is read
again has a checksum beside it.
"""

import errno
import io
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from .launch import RunError, os_reason

CHECKSUMS = "checksums.json"
CHUNK = 2**24  # bytes that are read at a time


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
    except OSError as error:
        _leave_nothing(temporary)
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error
    except BaseException:
        _leave_nothing(temporary)
        raise


def _leave_nothing(temporary: Path) -> None:
    try:
        temporary.unlink(missing_ok=True)
    except OSError:  # the disk has just refused something: the first refusal is the one to tell
        pass


def write_picture(path: Path, image) -> None:
    """Replace `path`, a PNG, by a PIL image."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())


def replace_folder(temporary: Path, final: Path) -> None:
    """Flush every file of `temporary` to the disk, then give the folder its final name, which must be free."""
    flush(temporary)
    temporary.rename(final)
    sync(final.parent)


def flush(folder: Path) -> None:
    """Flush every file of a folder to the disk. They get the permissions of new files: safetensors makes its own
    readable for the owner alone."""
    mode = 0o666 & ~current_umask()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            path.chmod(mode)
        sync(path)
    sync(folder)


def current_umask() -> int:
    """The permissions that new files do not get. The system tells it only by setting another."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def discard(*folders: Path) -> None:
    """Delete folders, each of which is whole or gone at any moment: it is renamed to .NAME.old first."""
    for folder in folders:
        hidden = folder.with_name(f".{folder.name.lstrip('.')}.old")
        shutil.rmtree(hidden, ignore_errors=True)
        folder.rename(hidden)
        shutil.rmtree(hidden)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    if path.is_dir() and os.name == "nt":  # Windows flushes no folders
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing(path: Path | str, then: str = "") -> Iterator[None]:
    """Turn whatever the disk refuses within the block into one line that names `path`; `then` ends the line."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise RunError(f"cannot write {path}: {os_reason(error)}{then}") from error


def read_json(path: Path) -> dict:
    """The object that a JSON file holds. Raises RunError if it holds none."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"cannot read {path}: {os_reason(error)}") from error
    if not isinstance(content, dict):
        raise RunError(f"cannot read {path}: it holds no JSON object")
    return content


def write_checksums(folder: Path, names: Iterable[str]) -> None:
    """Note size and CRC-32 of files of `folder`, beside them."""
    write_json(folder / CHECKSUMS, {name: [checksum(folder / name)] for name in sorted(names)})


def announce(folder: Path, name: str, content: bytes) -> None:
    """Note that `name` is about to be replaced by `content`: from now on both are sound, whichever is found."""
    if (folder / CHECKSUMS).is_file():
        known = [checksum(folder / name), [len(content), zlib.crc32(content)]]
        write_json(folder / CHECKSUMS, read_json(folder / CHECKSUMS) | {name: known})


def checksum(path: Path) -> list[int]:
    """[size in bytes, CRC-32] of a file: damage is found, not malice."""
    size, crc = 0, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
    return [size, crc]


def damage(folder: Path) -> str:
    """What is wrong with the files of a folder, by their checksums; nothing if all is well, or if it has none."""
    if not (folder / CHECKSUMS).exists():
        return ""
    try:
        table = read_json(folder / CHECKSUMS)
        elsewhere = [name for name in table if Path(name).name != name]
        if elsewhere:  # of another's making: nothing outside the folder is read
            return f"{CHECKSUMS} names {elsewhere[0]!r:.80}"
        wrong = [name for name, known in table.items() if checksum(folder / name) not in known]
    except (RunError, OSError, TypeError, ValueError) as error:
        return f"{CHECKSUMS} cannot be checked: {os_reason(error)}"
    return f"{wrong[0]} is not what was written" if wrong else ""
