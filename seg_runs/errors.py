"""Turn errors that the user can fix into one line."""

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)  # only writing raises these
NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED", "calculation overflowed")
NO_SHARED_MEMORY = ("shared memory", "</torch_", "/dev/shm", "Bus error")
LESS_MEMORY = (  # in the order in which to try them
    "a smaller --batch_size or more --gradient_accumulation_steps, a smaller --crop_size, --gradient_checkpointing, "
    "or a smaller --model"
)


class RunError(ValueError):
    """A run cannot start or go on as asked. The message is one line for the user."""


def is_first_process() -> bool:
    """Return whether this is rank 0, which prints. The launcher's RANK tells it before any process group exists."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def one_line_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Turn errors that the user can fix into one line on stderr, printed once under any launcher, and exit code 1.

    If only one process meets an error, the next collective operation ends the others.
    """
    try:
        yield
    except (RunError, *kinds) as error:
        # An error from a data loader's worker includes a traceback; its message is the last line.
        line = str(error).strip().splitlines()[-1]
        line = line.removeprefix(f"{type(error).__module__}.{type(error).__name__}: ")
        fail(f"error: {line}", 1, silent=was_said(error))
    except OSError as error:  # the disk refused, or the name is not valid there
        fail(f"error: {os_line(error)}", 1, silent=was_said(error))
    except MemoryError as error:
        fail(f"error: {out_of_memory(str(error))}", 1)
    except RuntimeError as error:
        line = " ".join(str(error).split())
        if known := runtime_line(line):
            fail(f"error: {known}", 1)
        if not is_of_another_process(error):
            raise
        rank = os.environ.get("RANK", "0")
        fail(f"process {rank} lost the others; if none of them prints a reason, it was this: {line[:300]}", 1)
    except KeyboardInterrupt:
        fail("interrupted", 130)


def was_said(error: Exception) -> bool:
    """Return whether the first process met this error and prints it (see `on_first_process`)."""
    return getattr(error, "of_first_process", False)


def os_line(error: OSError) -> str:
    """Return an OSError as one line with path and reason. For a failed copy, the path is the target's."""
    path = error.filename2 or error.filename
    refused = error.errno in REFUSED
    if path is None:
        return f"{'cannot write: ' if refused else ''}{os_reason(error)}; the files written before are complete"
    return f"{'cannot write ' if refused else ''}{os.fsdecode(path)}: {os_reason(error)}"


def os_reason(error: BaseException) -> str:
    """Return the reason of an error in one line, without error number or path."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1 if "Traceback" in str(error) else 0] if lines else type(error).__name__


def runtime_line(line: str) -> str | None:
    """Return a line for the user if the machine or the launch caused this error of torch's, else None (a bug)."""
    if "deterministic implementation" in line:
        return f"--deterministic is not possible here: {line}"
    if any(sign in line for sign in NO_SHARED_MEMORY):  # workers pass their items through it
        return (
            "there is too little shared memory (/dev/shm) for the workers that prepare data: give fewer --num_workers "
            f"(0 needs none), or enlarge it (docker run --shm-size). {line[-200:]}"
        )
    if line.startswith("DataLoader worker"):  # killed, most often for lack of memory
        hint = "" if "Terminated" in line else " (out of memory? fewer --num_workers need less)"
        return f"{line}{hint}; the files written before are complete"
    if any(sign in line for sign in NO_MEMORY):
        return out_of_memory(line)
    return None


def out_of_memory(line: str) -> str:
    """Return a line that names the flags that help."""
    return (
        f"there is too little memory. Training needs less with {LESS_MEMORY}; validation and prediction with a smaller "
        f"--test_size, or without --mst. {' '.join(line.split())[:200]}"
    ).rstrip()


def is_of_another_process(error: RuntimeError) -> bool:
    """Return whether a collective operation failed because another process is gone."""
    from torch.distributed import DistError

    return isinstance(error, DistError) or "by peer" in str(error)


def fail(line: str, code: int, silent: bool = False) -> None:
    """Print `line`, unless `silent`, and exit with `code`.

    A launcher ends all processes when one ends. So processes other than the first wait before they print, to let the
    first one print its error. Pass `silent=True` if the first one prints the same line.
    """
    if not is_first_process():
        time.sleep(10)
    if not silent:
        print(line, file=sys.stderr, flush=True)
    sys.exit(code)
