"""How a run is stopped from outside."""

import ctypes
import os
import signal
import sys
from pathlib import Path

from .launch import is_first_process


class StopRequest:
    """SIGTERM and Ctrl-C ask a run to stop after the step that it is at.

    Inside `with`, a signal is only noted. `agreed()` is the same on every process, whichever was signalled.
    """

    def __init__(self, accelerator):
        self.accelerator, self.signal = accelerator, 0

    def __enter__(self):
        self.before = {kind: signal.signal(kind, self.note) for kind in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_):
        for kind, handler in self.before.items():
            signal.signal(kind, handler)

    def note(self, number: int, _) -> None:
        self.signal = number
        if is_first_process():  # not by print, which may be in use where the signal came in
            os.write(2, f"\n{signal.Signals(number).name}: finishing the step\n".encode())

    def agreed(self) -> bool:
        """Whether any process was asked to stop; every process must call it at the same places."""
        import torch

        return bool(self.accelerator.reduce(torch.tensor(self.signal, device=self.accelerator.device)))

    def exit(self, command: str) -> None:
        """Leave, with the command that goes on."""
        self.accelerator.print(f"stopped; go on with: accelerate launch {command}", flush=True)
        sys.exit(128 + (self.signal or signal.SIGTERM))


def stop_with_launcher() -> None:
    """Ask the kernel for SIGTERM when `accelerate launch` ends (Linux): it does not pass on the one that it gets, and
    a run without launcher would go on unseen."""
    command = Path(f"/proc/{os.getppid()}/cmdline")
    if command.exists() and b"accelerate" in command.read_bytes():
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
