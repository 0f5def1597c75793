"""SIGKILL at random moments, with one and two processes: the run ends like one that was never interrupted."""

import os
import random
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import assert_same_run, launch, start

pytestmark = pytest.mark.slow

KILLS, IN_A_WRITE = 20, 5
FLAGS = "--dataset toycity --model streetnet --crop_size 32 64 --num_workers 1 --batch_size 4 --epochs 80".split()
FLAGS += "--eval_every 9 --ema_decay 0.9 --max_grad_norm 1 --warmup_steps 5 --checkpointing_steps 2".split()


def halves(run: Path) -> list[Path]:
    """Return the checkpoints that are being written."""
    return list((run / "checkpoints").glob(".step_*.tmp"))


def wait_until(process: subprocess.Popen, condition) -> None:
    while not condition():
        assert process.poll() is None, f"the run ended before it was killed: {process.communicate()}"
        try:
            process.wait(0.001)
        except subprocess.TimeoutExpired:
            pass


def kill_all(run: Path) -> None:
    """Send SIGKILL to every process whose command line names the run: launcher, training processes, data workers."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(run).encode() in entry.read_bytes():
                os.kill(int(entry.parent.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            pass


def newest(run: Path) -> str:
    """Return the newest complete checkpoint."""
    return max((path.name for path in (run / "checkpoints").glob("step_*")), default="none")


def where(run: Path) -> str:
    """Describe what a killed run has left."""
    whole = sorted(path.name for path in (run / "checkpoints").glob("step_*"))
    try:
        written = {half.name: sorted(part.name for part in half.iterdir()) for half in halves(run)}
    except FileNotFoundError:  # renamed meanwhile
        return where(run)
    return f"whole: {', '.join(whole) or 'none'}; half written: {written or 'none'}"


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_that_is_killed_again_and_again(city, tmp_path, processes):
    flags = [*FLAGS, "--dataset_path", city]
    finished = launch("train_seg.py", *flags, "--output_dir", tmp_path / "one", processes=processes)
    assert finished.returncode == 0, finished.stderr
    rng, run, in_a_write = random.Random(processes), tmp_path / "two", 0
    for i in range(KILLS):
        begun = (run / "checkpoints").exists()
        goes_on = ["--resume_from_checkpoint", run] if begun else [*flags, "--output_dir", run]
        before = newest(run)
        process = start("train_seg.py", *goes_on, processes=processes)
        wait_until(process, lambda before=before: newest(run) != before)  # make some progress each time
        try:
            process.wait(rng.uniform(0, 2))
        except subprocess.TimeoutExpired:
            pass
        if i % 2:
            wait_until(process, lambda: halves(run))
            try:
                process.wait(rng.uniform(0, 0.03))
            except subprocess.TimeoutExpired:
                pass
        kill_all(run)
        process.communicate()
        in_a_write += bool(halves(run))
        print(f"{processes} process(es), kill {i + 1}: {where(run)}", flush=True)
    assert in_a_write >= IN_A_WRITE
    result = launch("train_seg.py", "--resume_from_checkpoint", run, processes=processes)
    assert result.returncode == 0, result.stderr
    assert_same_run(tmp_path / "one", run)
