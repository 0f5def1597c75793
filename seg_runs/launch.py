"""Check how a script was launched, and set up what torch needs: processes, threads, memory."""

import gc
import os
import platform
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .errors import RunError
from .state import PRECISIONS

if TYPE_CHECKING:
    from accelerate import Accelerator


SHARDED = ("DEEPSPEED", "FSDP", "MEGATRON_LM")  # accelerate's ways to divide a network, which the loop does not support


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
        raise RunError(
            "mixed precision fp16 needs a GPU: leave out --mixed_precision, or give bf16 if this CPU supports it"
        )
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
    try:
        accelerator = Accelerator(log_with=list(trackers) or None, project_config=not_yet_known)
    except (ImportError, ValueError) as error:  # such as fp8 or DeepSpeed without the libraries that they need
        reason = " ".join(str(error).split())
        raise RunError(f"accelerate cannot start with these launch settings: {reason}") from error
    refuse_unsupported(accelerator, processes, gradient_checkpointing)
    if accelerator.is_main_process and accelerator.mixed_precision == "bf16" and not gpu and has_bf16() is False:
        print("note: bf16 is many times slower on this CPU, which lacks its instructions: use --mixed_precision no")
    return accelerator


def refuse_unsupported(accelerator: "Accelerator", processes: int, gradient_checkpointing: bool) -> None:
    """Raise `RunError` for a setting of the launch that accelerate took but these scripts do not support.

    processes  how many were launched
    """
    if accelerator.mixed_precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise RunError(f"mixed precision {accelerator.mixed_precision} is not supported: give one of {known}")
    if accelerator.distributed_type.value in SHARDED:
        raise RunError(
            f"these scripts do not run under {accelerator.distributed_type.value}: answer no to it in accelerate "
            "config, or launch with --config_file accelerate_config.yaml"
        )
    if accelerator.num_processes != processes:
        raise RunError(
            f"{processes} processes were launched but accelerate runs {accelerator.num_processes}: start them with "
            "accelerate launch"
        )
    if accelerator.gradient_accumulation_steps != 1:
        raise RunError("set accumulation with --gradient_accumulation_steps of this script, not in the launch settings")
    if gradient_checkpointing and accelerator.state.dynamo_plugin.backend.value != "NO":
        raise RunError("--gradient_checkpointing cannot be compiled: launch with --dynamo_backend no")


def note_on_precision(accelerator: "Accelerator") -> str:
    """Return a line if the launch computes in fp32 on a CPU with bf16 instructions, or ""."""
    if accelerator.device.type != "cpu" or accelerator.mixed_precision != "no" or not has_bf16():
        return ""
    return (
        "note: this CPU has bf16 instructions. `accelerate launch --mixed_precision bf16` is usually much faster "
        "(docs/training.md)"
    )


def has_bf16() -> bool | None:
    """Return whether the CPU has bf16 instructions, or None if that is unknown."""
    import torch

    if platform.machine().lower() not in ("x86_64", "amd64", "i686"):
        return None
    names = "_is_avx512_bf16_supported", "_is_amx_tile_supported"  # private to torch: they may disappear
    checks = [getattr(torch.cpu, name, None) for name in names]
    return None if None in checks else any(check() for check in checks)


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


def spare_libraries() -> None:
    """Exempt all objects that exist from the search for garbage, and let it begin.

    A script calls it once its libraries are loaded. What they hold stays until the end, and is searched for seconds.
    """
    gc.freeze()
    gc.enable()


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
