"""Stop a run from outside: SIGTERM and Ctrl-C."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from .errors import is_first_process
from .processes import say

if TYPE_CHECKING:
    from accelerate import Accelerator


class StopRequest:
    """Turn SIGTERM and Ctrl-C into a request to stop after the current step.

    Inside `with`, a signal is only recorded. `agreed()` gives the same answer on every process, whichever got it.
    """

    def __init__(self, accelerator: "Accelerator"):
        self.accelerator = accelerator
        self.signal = 0

    def __enter__(self) -> "StopRequest":
        self.before = {kind: signal.signal(kind, self.note) for kind in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for kind, handler in self.before.items():
            signal.signal(kind, handler)

    def note(self, number: int, _: FrameType | None) -> None:
        self.signal = number
        if is_first_process():  # not print: the signal may have interrupted one
            os.write(2, f"\n{signal.Signals(number).name}: finishing the step\n".encode())

    def agreed(self) -> bool:
        """Return whether any process was asked to stop. All processes must call this at the same points."""
        import torch

        return bool(self.accelerator.reduce(torch.tensor(self.signal, device=self.accelerator.device)))

    def exit(self, command: str) -> None:
        """Print the command that resumes the run, and exit."""
        say(self.accelerator, f"stopped; resume with: accelerate launch {command}", flush=True)
        sys.exit(128 + (self.signal or signal.SIGTERM))


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end the program as Ctrl-C does, so that its temporary files are deleted."""
    ended = []

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the deleting
        ended.append(number)
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}  # respect nohup
    if threading.current_thread() is not threading.main_thread():
        before = {}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if ended:  # exit at once: Python would abort while a prediction runs in a thread
            sys.stdout.flush()
            os._exit(128 + ended[0])


def stop_with_launcher() -> None:
    """Ask the kernel to send SIGTERM when `accelerate launch` ends (Linux).

    The launcher does not pass on its own SIGTERM, so the run would go on unseen.
    """
    command = Path(f"/proc/{os.getppid()}/cmdline")
    if command.exists() and b"accelerate" in command.read_bytes():
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
