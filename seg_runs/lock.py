"""One program at a time in a folder that programs write to.

The lock is advisory, and the system takes it back when its holder ends, however it ends. It holds between processes of
one machine. Over NFS it holds between machines only if the server and its mount support flock.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .launch import RunError, os_reason

PREDICTING = ".predicting.lock"  # held by a prediction, beside the run that it may be of


@contextmanager
def locked(folder: Path, flag: str, name: str = ".lock") -> Iterator[None]:
    """Hold `folder` while the block runs. Raises RunError with the holder if another program has it.

    `flag` names the option that chose the folder. Call it in one process of several. `name` of the lock file lets
    programs that write different things share a folder.
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
        with suppress(OSError):  # a full disk: then the holder is not named
            (folder / f"{name}.holder").write_text(
                f"{Path(sys.argv[0]).name}, process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"
            )
        yield
    finally:
        with suppress(OSError):  # what went wrong in the block is more important
            (folder / f"{name}.holder").unlink(missing_ok=True)
        lock.release()


def holder(folder: Path, name: str = ".lock") -> str:
    """Who holds the lock of `folder`, as far as it said so."""
    try:
        return (folder / f"{name}.holder").read_text()
    except OSError:
        return "another program"
