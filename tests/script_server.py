"""Runs scripts in processes that have the libraries loaded. To import them takes a script nine CPU seconds.

Each line of standard input is a job: the keywords of `run`, in JSON. The answer is a line with the exit code that
`accelerate launch` would have: 0 if all processes of the job succeeded, else 1. `launch` in conftest.py sends the jobs.
"""

import gc
import json
import os
import runpy
import signal
import socket
import sys
import time
from pathlib import Path

# What the scripts import of other packages. The project's own modules are imported anew in each process.
import accelerate  # noqa: F401
import cv2  # noqa: F401
import datasets  # noqa: F401
import evaluate  # noqa: F401
import timm.utils  # noqa: F401
import torch.utils.tensorboard  # noqa: F401
import torchvision  # noqa: F401
import transformers.modeling_utils
import transformers.models.segformer.modeling_segformer  # noqa: F401

GRACE = 30  # seconds that torchrun gives the other processes once one has failed
LONGEST = 600  # seconds of a process


def main() -> None:
    gc.freeze()  # no process searches the libraries for garbage
    for line in sys.stdin:
        print(run(**json.loads(line)), flush=True)


def run(command: list[str], processes: int, environment: dict[str, str], cwd: str, output: str, errors: str) -> int:
    """Run a script with its flags in one or more processes, and return the exit code.

    output, errors  files for what they print
    """
    ranks = [{}]
    if processes > 1:
        together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": processes}
        ranks = [{**together, "LOCAL_WORLD_SIZE": processes, "RANK": i, "LOCAL_RANK": i} for i in range(processes)]
    running = set()
    for rank in ranks:
        process = os.fork()
        if process == 0:
            become(command, environment | {key: str(value) for key, value in rank.items()}, cwd, output, errors)
            sys.exit()  # in the way of every script, through the handlers of its exit
        running.add(process)
    return wait_for(running)


def become(command: list[str], environment: dict[str, str], cwd: str, output: str, errors: str) -> None:
    """Run a script as the main module of this process."""
    os.setsid()
    for number, path in enumerate((os.devnull, output, errors)):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    signal.alarm(LONGEST)
    sys.argv = command
    sys.path[0] = str(Path(command[0]).parent)
    runpy.run_path(command[0], run_name="__main__")


def wait_for(running: set[int]) -> int:
    """Wait for the processes, and return their common exit code. If one fails, the others are stopped."""
    failed, stopped = False, None
    while running:
        process, status = os.waitpid(-1, os.WNOHANG if stopped else 0)
        running.discard(process)
        failed |= bool(process and status)
        if failed and stopped is None:
            stopped = time.monotonic()
            kill(running, signal.SIGTERM)
        elif failed and time.monotonic() > stopped + GRACE:
            kill(running, signal.SIGKILL)
        if stopped:
            time.sleep(0.05)
    return int(failed)


def kill(processes: set[int], number: signal.Signals) -> None:
    for process in processes:
        os.kill(process, number)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


if __name__ == "__main__":
    main()
