"""Let one program at a time write to a folder.

The lock is advisory. The system releases it when its holder ends, however it ends. It works between processes on one
machine; over NFS it works between machines only if the server and the mount support flock.
"""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import RunError, os_reason
from .files import writing

PREDICTING = ".predicting.lock"  # held by a prediction, so that a run can be trained and predicted at once


@contextmanager
def locked(folder: Path, flag: str, name: str = ".lock") -> Iterator[None]:
    """Hold the lock of `folder` while the block runs. Raises RunError that names the holder if it is taken.

    `flag` is what the error calls the folder: the option that chose it, or words such as "the run". `name` is the name
    of the lock file: programs that write different files to one folder use different names. With several processes,
    call this in one of them.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / name, fallback_to_soft=False)
        lock.acquire(timeout=0)
    except Timeout as error:
        who = holder(folder, name)
        raise RunError(f"{flag} {folder} is in use by {who}: wait for it, or choose another") from error
    except (OSError, NotImplementedError) as error:
        raise RunError(f"cannot write to {flag} {folder}: {os_reason(error)}") from error
    try:
        with suppress(OSError):  # on a full disk the holder stays unnamed
            (folder / f"{name}.holder").write_text(
                f"{Path(sys.argv[0]).name}, process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"
            )
        yield
    finally:
        with suppress(OSError):  # an error in the block is more important
            (folder / f"{name}.holder").unlink(missing_ok=True)
            if [path.name for path in folder.iterdir()] == [name]:  # a dry run leaves an empty folder as it was
                (folder / name).unlink()
        lock.release()


@contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """Create `folder` for all that is temporary, yield a folder in it, and delete both afterwards.

    One program at a time can have it. What a killed one has left there, the next one deletes. Raises RunError if
    another has it, or if nothing can be written there.
    """
    with locked(folder, "the working folder"):
        try:
            inside = folder / "files"
            shutil.rmtree(inside, ignore_errors=True)
            with writing(folder):
                inside.mkdir()
            yield inside
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def holder(folder: Path, name: str) -> str:
    """Return who holds the lock `name` of `folder`, or "another program" if it left no name."""
    try:
        return (folder / f"{name}.holder").read_text()
    except OSError:
        return "another program"
