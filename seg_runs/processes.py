"""Coordinate processes: work on one of them, and what only the first one prints."""

import os
import platform
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from .errors import RunError, os_line

if TYPE_CHECKING:
    from accelerate import Accelerator
    from tqdm import tqdm

Result = TypeVar("Result")


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
    if outcome[1] is not None:
        raise_on_all(accelerator, outcome[1])
    return outcome[0]


def raise_on_all(accelerator: "Accelerator", error: Exception) -> NoReturn:
    """Raise an error that every process has. The first one prints it; the others know by a mark (`errors.was_said`)."""
    error.of_first_process = not accelerator.is_main_process
    raise error


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
            raise_on_all(accelerator, error)
    return outcomes[accelerator.process_index - accelerator.local_process_index][0]


def machines() -> int:
    """Return the number of machines that train together, as torch's launcher says."""
    return int(os.environ.get("GROUP_WORLD_SIZE", "1"))


def local_processes() -> int:
    """Return the number of processes on this machine, as torch's launcher says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


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
        why = "a run must be on a disk that all machines share"
        raise_on_all(accelerator, RunError(f"{without[0]} does not see {folder} of the first machine: {why}"))


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
