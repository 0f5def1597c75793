"""Start a script: check how it was launched, turn errors into one line, and coordinate processes."""

import errno
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from accelerate import Accelerator
    from tqdm import tqdm

Result = TypeVar("Result")


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


REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)  # only writing raises these
NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED", "calculation overflowed")
NO_SHARED_MEMORY = ("shared memory", "</torch_", "/dev/shm", "Bus error")


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
        return f"{line} (out of memory? fewer --num_workers need less); the files written before are complete"
    if any(sign in line for sign in NO_MEMORY):
        return out_of_memory(line)
    return None


LESS_MEMORY = (  # in the order in which to try them
    "a smaller --batch_size or more --gradient_accumulation_steps, a smaller --crop_size, --gradient_checkpointing, "
    "or a smaller --model"
)


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


def make_accelerator(
    deterministic: bool = False, gradient_checkpointing: bool = False, trackers: Sequence[str] = ()
) -> "Accelerator":
    """Return an `Accelerator`. Raises `RunError` if the launch asks for something that cannot work.

    deterministic           use only GPU kernels whose results do not depend on the order in which threads finish
    gradient_checkpointing  the network will recompute blocks, which torch.compile does not support
    trackers                names of accelerate's trackers; they start later, when the run has a folder
    """
    import torch
    from accelerate import Accelerator
    from accelerate.utils import ProjectConfiguration
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would appear for saving and loading one small file
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    gpu = torch.cuda.is_available() and not on_cpu
    if os.environ.get("ACCELERATE_MIXED_PRECISION") == "fp16" and not gpu:
        raise RunError("mixed precision fp16 needs a GPU: launch with --mixed_precision bf16 or no")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1 and not gpu and not on_cpu:
        raise RunError(
            f"{processes} processes were launched but there is no GPU: for several processes on a CPU use "
            f"ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes {processes} ..."
        )
    if not gpu and os.environ.get("OMP_NUM_THREADS") == "1":
        # By default, `accelerate launch` sets one thread, even on a machine that computes on its CPU cores.
        torch.set_num_threads(max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    if torch.get_num_threads() > thread_limit():  # some backward passes would wait forever
        torch.set_num_threads(thread_limit())
    if not gpu:
        keep_memory()
    torch.use_deterministic_algorithms(deterministic)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it to be deterministic
        torch.backends.cudnn.benchmark = False
    not_yet_known = ProjectConfiguration(logging_dir=".")  # accelerate wants a folder before the run has one
    accelerator = Accelerator(log_with=list(trackers) or None, project_config=not_yet_known)
    if accelerator.num_processes != processes:
        raise RunError(
            f"{processes} processes were launched but accelerate runs {accelerator.num_processes}: start them with "
            "accelerate launch"
        )
    if accelerator.gradient_accumulation_steps != 1:
        raise RunError("set accumulation with --gradient_accumulation_steps of this script, not in the launch settings")
    if accelerator.is_main_process and accelerator.mixed_precision == "bf16" and not gpu and not has_bf16():
        print("note: bf16 is many times slower on this CPU, which lacks its instructions: use --mixed_precision no")
    if gradient_checkpointing and accelerator.state.dynamo_plugin.backend.value != "NO":
        raise RunError("--gradient_checkpointing cannot be compiled: launch with --dynamo_backend no")
    return accelerator


def has_bf16() -> bool:
    """Return whether the CPU has bf16 instructions; True if that is unknown."""
    import torch

    if platform.machine().lower() not in ("x86_64", "amd64", "i686"):
        return True
    names = "_is_avx512_bf16_supported", "_is_amx_tile_supported"  # private to torch: they may disappear
    checks = [getattr(torch.cpu, name, None) for name in names]
    return None in checks or any(check() for check in checks)


def keep_memory() -> None:
    """Make glibc keep the memory of freed tensors for later ones.

    By default it returns the memory of large tensors to the system, which clears each page when it is used again
    (docs/benchmarks.md).
    """
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # this system has no glibc
        return
    top_pad, trim_threshold, mmap_max = -2, -1, -4  # their numbers in malloc.h
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 64 * 2**20)


def let_gloo_finish(accelerator: "Accelerator") -> None:
    """Give gloo's thread the time to free the gradients of the last exchange, before the wrapped network is freed.

    Freeing it waits for that thread while it holds Python's lock, which the thread needs: torch 2.11 then waits
    forever. torch 2.14 does not.
    """
    if accelerator.num_processes > 1 and accelerator.device.type == "cpu":
        time.sleep(0.1)


def check_batch_norm(accelerator: "Accelerator", sync_bn: bool, images: int) -> None:
    """Raise RunError if batch norm would see a single image at a time, per process or, with `sync_bn`, in total.

    After pooling to 1x1, batch norm needs two values per channel and so two images.
    """
    if sync_bn and accelerator.device.type != "cuda":
        raise RunError("--sync_bn needs GPUs")
    if images * (accelerator.num_processes if sync_bn else 1) < 2:
        raise RunError(
            f"--norm batch needs at least 2 images {'in total' if sync_bn else 'per process'} at a time, but "
            "--batch_size, divided by processes and accumulation steps, gives 1: raise it, or use --norm group or evo"
        )


def available_cores() -> int:
    """Return the number of cores that this process may use, at most `thread_limit`.

    Beyond that limit, some kernels wait forever.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, thread_limit())


def thread_limit() -> int:
    """Return OpenMP's limit on threads, OMP_THREAD_LIMIT, or a large number if it is not set."""
    limit = os.environ.get("OMP_THREAD_LIMIT", "")
    return int(limit) if limit.isdigit() and int(limit) > 0 else 2**31


def on_first_process(accelerator: "Accelerator", function: Callable[..., Result], *args: Any) -> Result:
    """Call `function(*args)` on the first process. Returns its result, or raises its error, on every process.

    Only a ValueError (such as RunError) or an OSError reaches the other processes.
    """
    from accelerate.utils import broadcast_object_list

    outcome = [None, None]
    if accelerator.is_main_process:
        try:
            outcome[0] = function(*args)
        except (ValueError, OSError) as error:
            outcome[1] = error
    if accelerator.num_processes > 1:
        broadcast_object_list(outcome)
    error = outcome[1]
    if error is not None:
        error.of_first_process = not accelerator.is_main_process
        raise error
    return outcome[0]


def on_each_machine(accelerator: "Accelerator", function: Callable[..., Result], *args: Any) -> Result:
    """Call `function(*args)` on the first process of each machine. Returns its machine's result on every process.

    The first machine goes first, so the others find what it leaves on a disk that they share. An error on any machine
    is raised on every process.
    """
    from accelerate.utils import gather_object

    result = on_first_process(accelerator, function, *args)
    if machines() == 1:
        return result
    outcome = [result, None]
    if accelerator.is_local_main_process and not accelerator.is_main_process:
        try:
            outcome[0] = function(*args)
        except (ValueError, OSError) as error:
            reason = os_line(error) if isinstance(error, OSError) else error
            outcome[1] = RunError(f"on {platform.node()}: {reason}")
    outcomes = gather_object([outcome])
    for _, error in outcomes:
        if error is not None:
            error.of_first_process = not accelerator.is_main_process
            raise error
    return outcomes[accelerator.process_index - accelerator.local_process_index][0]


def machines() -> int:
    """Return the number of machines that train together, as torch's launcher says."""
    return int(os.environ.get("GROUP_WORLD_SIZE", "1"))


def say(accelerator: "Accelerator", text: str, flush: bool = False) -> None:
    """Print on the first process of all. (`accelerator.print` would print on each machine.)"""
    if accelerator.is_main_process:
        print(text, flush=flush)


def refuse_private_folder(accelerator: "Accelerator", folder: Path) -> None:
    """Raise RunError on every process if a machine does not see `folder`, which all of them write to."""
    from accelerate.utils import gather_object

    if machines() == 1:
        return
    without = [name for name in gather_object(["" if folder.is_dir() else platform.node()]) if name]
    if without:
        error = RunError(
            f"{without[0]} does not see {folder} of the first machine: a run must be on a disk that all machines share"
        )
        error.of_first_process = not accelerator.is_main_process
        raise error


def progress_bar(
    accelerator: "Accelerator", title: str, total: int | None = None, loader: Iterable | None = None, done: int = 0
) -> "tqdm":
    """Return a progress bar over images, shown by the first process.

    If stderr is not a terminal, the bar is redrawn at most every 30 s.
    """
    from tqdm import tqdm

    rarely = {} if sys.stderr.isatty() else {"mininterval": 30}
    hidden = not accelerator.is_main_process
    return tqdm(
        loader, title, total, leave=False, disable=hidden, unit="image", initial=done, dynamic_ncols=True, **rarely
    )
