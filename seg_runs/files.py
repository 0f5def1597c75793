"""Write files atomically: after a kill, a full disk or a power cut, a file is the old one or the new one.

To write: write under a temporary name, flush, rename, flush the folder. To delete: rename first. Files that are read
again have checksums.
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
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from .errors import RunError, os_reason

if TYPE_CHECKING:
    from PIL.Image import Image

CHECKSUMS = "checksums.json"
LONGEST_NAME = 255  # bytes, on the usual file systems
CHUNK = 2**24  # bytes read at a time


def write_json(path: Path, content: dict) -> None:
    """Write `content` to `path`. Raises ValueError for NaN and infinity, which JSON cannot express."""
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_atomically(path: Path, content: str | bytes | Callable[[Path], None]) -> None:
    """Replace `path` by `content`, or by what the function `content` writes to the temporary path that it gets.

    If the disk refuses, raises OSError, leaves `path` as it was and deletes the temporary file.
    """
    temporary = temporary_of(path)
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


def temporary_of(path: Path) -> Path:
    """Return the hidden name under which `path` is written first, .NAME.tmp unless that is too long for a file name."""
    if len(os.fsencode(path.name)) + len("..tmp") <= LONGEST_NAME:
        return path.with_name(f".{path.name}.tmp")
    return path.with_name(f".{zlib.crc32(os.fsencode(path.name)):08x}{path.suffix}.tmp")


def _leave_nothing(temporary: Path) -> None:
    try:
        temporary.unlink(missing_ok=True)
    except OSError:  # the disk has refused before: report the first refusal
        pass


def write_picture(path: Path, image: "Image") -> None:
    """Replace the PNG `path` by a PIL image."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=4)  # of photos, 3 % larger than the default in 0.6 of its time
    write_atomically(path, buffer.getvalue())


def replace_folder(temporary: Path, final: Path) -> None:
    """Flush every file of `temporary` to the disk, then rename the folder to `final`, which must not exist."""
    flush(temporary)
    temporary.rename(final)
    sync(final.parent)


def flush(folder: Path) -> None:
    """Flush every file of a folder to the disk and give it default permissions.

    safetensors makes its files readable for the owner only.
    """
    mode = 0o666 & ~current_umask()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            path.chmod(mode)
        sync(path)
    sync(folder)


def current_umask() -> int:
    """Return the umask. The system tells it only when another one is set."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def discard(*folders: Path) -> None:
    """Delete folders. Each is renamed to .NAME.old first, so that it is complete or gone at any moment."""
    for folder in folders:
        hidden = folder.with_name(f".{folder.name.lstrip('.')}.old")
        shutil.rmtree(hidden, ignore_errors=True)
        folder.rename(hidden)
        shutil.rmtree(hidden)


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    if path.is_dir() and os.name == "nt":  # Windows cannot flush a folder
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing(path: Path | str, then: str = "") -> Iterator[None]:
    """Turn an error of the disk inside the block into a one-line RunError: `path`, the reason, and `then`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise RunError(f"cannot write {path}: {os_reason(error)}{then}") from error


def read_json(path: Path) -> dict:
    """Return the object in a JSON file. Raises RunError if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"cannot read {path}: {os_reason(error)}") from error
    if not isinstance(content, dict):
        raise RunError(f"cannot read {path}: it holds no JSON object")
    return content


def write_checksums(folder: Path, names: Iterable[str]) -> None:
    """Write the sizes and CRC-32 of files of `folder` to checksums.json in it."""
    write_json(folder / CHECKSUMS, {name: [checksum(folder / name)] for name in sorted(names)})


def announce(folder: Path, name: str, content: bytes) -> None:
    """Record that `content` is about to replace `name`. From now on, both the old and the new file pass the check."""
    if (folder / CHECKSUMS).is_file():
        known = [checksum(folder / name), [len(content), zlib.crc32(content)]]
        write_json(folder / CHECKSUMS, read_json(folder / CHECKSUMS) | {name: known})


def checksum(path: Path) -> list[int]:
    """Return [size in bytes, CRC-32] of a file. This finds damage, not manipulation."""
    size, crc = 0, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            size += len(chunk)
            crc = zlib.crc32(chunk, crc)
    return [size, crc]


def damage(folder: Path) -> str:
    """Return what is wrong with a folder's files by their checksums, or an empty string if nothing is.

    A folder without checksums passes.
    """
    if not (folder / CHECKSUMS).exists():
        return ""
    try:
        table = read_json(folder / CHECKSUMS)
        elsewhere = [name for name in table if Path(name).name != name]
        if elsewhere:  # the folder may be someone else's: read nothing outside it
            return f"{CHECKSUMS} names {elsewhere[0]!r:.80}"
        wrong = [name for name, known in table.items() if checksum(folder / name) not in known]
    except (RunError, OSError, TypeError, ValueError) as error:
        return f"{CHECKSUMS} cannot be checked: {os_reason(error)}"
    return f"{wrong[0]} has changed since it was written" if wrong else ""
