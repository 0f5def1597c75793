"""A refusal of the disk gives one line with path and reason, and leaves existing files as they were."""

import errno
import os
import shutil
import subprocess

import pytest
import torch
from conftest import refusal

from seg_models.exported import save_torch
from seg_runs import checkpoints, errors, files, launch
from seg_runs.errors import RunError
from seg_runs.optimization import Learner
from seg_runs.state import Conditions, RunState

FAST = "--dataset toycity --model streetnet --crop_size 32 64 --batch_size 2 --num_workers 0 --no_cache".split()

CONDITIONS = Conditions(steps=9, steps_per_epoch=9, precision="no", processes=1)


@pytest.fixture
def disk(tmp_path):
    """`disk(options)` mounts a tmpfs with these options, anew with each call."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = []

    def mount(options):
        options = f"remount,{options}" if mounted else options
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            pytest.skip(f"a file system of its own needs the rights to mount one: {result.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("content", [b"x" * 4_000_000, lambda path: path.write_bytes(b"x" * 4_000_000)])
def test_a_write_that_does_not_fit_leaves_the_old_file_alone(disk, content):
    path = disk("size=2m") / "file"
    files.write_atomically(path, "old")
    with pytest.raises(OSError, match="No space left on device") as refused:
        files.write_atomically(path, content)
    assert refused.value.filename == str(path)
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_training_pt_that_does_not_fit_is_the_disks_refusal(disk):
    path = disk("size=1m") / "training.pt"
    with pytest.raises(OSError, match="No space left on device"):
        checkpoints.write({"optimizer": torch.zeros(10**6)}, path)


def test_an_exported_program_that_does_not_fit_is_the_disks_refusal(disk):
    program = torch.export.export(torch.nn.Linear(700, 700), (torch.zeros(1, 700),))
    with pytest.raises(OSError, match="No space left on device"):  # torch would abort the process
        save_torch(program, str(disk("size=1m") / "net.pt2"), {})


@pytest.mark.parametrize("name", ["training.pt", "model.safetensors", "ema.safetensors", "rng_0.pt", "state.json"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_checkpoint_that_is_refused_leaves_the_one_before(name, code, tmp_path, monkeypatch):
    model = torch.nn.Linear(2, 2)
    ema = torch.nn.Sequential(model)
    ema.module = model
    saved = Alone(), tmp_path, Learner(model, ema, model, torch.optim.SGD(model.parameters(), 0.1))
    checkpoints.save_checkpoint(*saved, RunState(CONDITIONS, step=1), 1)
    sync = files.sync

    def refuse(path):
        if path.name in (name, f".{name}.tmp"):
            raise OSError(code, os.strerror(code), str(path))
        sync(path)

    monkeypatch.setattr(files, "sync", refuse)
    with pytest.raises(RunError) as refused:
        checkpoints.save_checkpoint(*saved, RunState(CONDITIONS, step=2), 1)
    line = str(refused.value)
    assert (
        f"cannot write checkpoint {tmp_path}/checkpoints/step_000002: {os.strerror(code)}" in line
        and "step_000001" in line
    )
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000001"]


class Alone:
    """The parts of an `Accelerator` that a checkpoint needs."""

    is_main_process, process_index, num_processes, scaler = True, 0, 1, None

    def wait_for_everyone(self):
        pass


@pytest.fixture(scope="module")
def trained(toycity, tmp_path_factory):
    from accelerate.state import AcceleratorState, GradientState

    import train_seg

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    run = tmp_path_factory.mktemp("runs") / "run"
    flags = [*FAST, "--report_to", "none", "--dataset_path", toycity, "--max_train_steps", 1, "--output_dir", run]
    train_seg.main([str(flag) for flag in flags])
    return run


def test_a_read_only_disk_is_one_line(trained, toycity, disk, in_process, tmp_path, capsys):
    run = disk("size=100m") / "r"
    shutil.copytree(trained, run)
    disk("ro,size=100m")
    reason = os.strerror(errno.EROFS)
    resume = ["train_seg", "--resume_from_checkpoint", run, "--max_train_steps", 2]
    new = ["train_seg", *FAST, "--dataset_path", toycity, "--output_dir", run.parent / "new"]
    again = ["train_seg", *FAST, "--dataset_path", toycity, "--output_dir", run, "--overwrite_output_dir"]
    for flags in (resume, new, again):
        line = refusal(in_process, capsys, *flags)
        assert reason in line and str(run.parent) in line


@pytest.mark.parametrize("name", ["log_epoch.csv", "learning_curve.png", "epoch_0001.png", "results.json", "args.yaml"])
def test_every_file_of_a_run_is_named(name, toycity, in_process, tmp_path, monkeypatch, capsys):
    sync = files.sync

    def refuse(path):
        if path.name == f".{name}.tmp":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(path)

    monkeypatch.setattr(files, "sync", refuse)
    flags = [*FAST, "--report_to", "none", "--dataset_path", toycity, "--max_train_steps", 1]
    line = refusal(in_process, capsys, "train_seg", *flags, "--output_dir", tmp_path / "r")
    assert "cannot write" in line and name in line and "No space left on device" in line
    assert not list((tmp_path / "r").rglob(f"*{name}*"))


def test_what_tensorboards_thread_is_refused_is_one_line(tmp_path, monkeypatch):
    from accelerate.state import AcceleratorState, GradientState
    from tensorboard.summary.writer.record_writer import RecordWriter

    from seg_runs.trackers import Trackers

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    trackers = Trackers(launch.make_accelerator(trackers=["tensorboard"]), tmp_path)
    trackers.start(RunState(CONDITIONS), {})

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RecordWriter, "write", refuse)
    with pytest.raises(RunError, match=f"cannot write {tmp_path}/tensorboard: No space left on device"):
        trackers.log(1, {"loss": 1.0})


def test_a_copy_that_is_refused_names_the_copy():
    error = OSError(errno.ENOSPC, "No space left on device", "/data/source", None, "/disk/copy")
    assert errors.os_line(error) == "cannot write /disk/copy: No space left on device"


def test_a_refusal_without_a_path_is_a_whole_sentence():
    line = errors.os_line(OSError(errno.ENOSPC, "No space left on device"))
    assert line == "cannot write: No space left on device; the files written before are complete"
    line = errors.os_line(OSError(errno.EIO, "Input/output error"))
    assert line == "Input/output error; the files written before are complete"


@pytest.mark.parametrize("flag", ["--output_dir", "--resume_from_checkpoint", "--init_from", "--dataset_path"])
def test_a_name_that_is_too_long_is_one_line(flag, toycity, in_process, capsys):
    flags = ["train_seg", *FAST, "--max_train_steps", 1, "--dataset_path", toycity, flag, "x" * 300]
    assert "x" * 300 in refusal(in_process, capsys, *flags)


def test_a_model_path_that_is_too_long_is_one_line(in_process, capsys):
    assert "File name too long" in refusal(in_process, capsys, "predict_seg", "--model_name_or_path", "x" * 300)


MESSAGES = {
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: not enough memory: you tried to allocate 9 "
    "bytes.": "--gradient_accumulation_steps",
    "CUDA out of memory. Tried to allocate 9.00 GiB. GPU 0 has a total capacity of 8": "--gradient_checkpointing",
    "unable to write to file </torch_1_2_3>: No space left on device (28)": "--num_workers",
    "unable to allocate shared memory(shm) for file </torch_1>: Resource temporarily unavailable": "--num_workers",
    "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
    "shared memory.": "/dev/shm",
    "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File x\n"
    "RuntimeError: unable to mmap 9 bytes from file </torch_1>: Cannot allocate memory (12)": "/dev/shm",
}


@pytest.mark.parametrize("message", MESSAGES)
def test_too_little_memory_is_one_line_that_names_flags(message, capsys):
    with pytest.raises(SystemExit) as stop, errors.one_line_errors():
        raise RuntimeError(message)
    said = capsys.readouterr().err
    assert stop.value.code == 1 and said.startswith("error: ") and said.count("\n") == 1 and MESSAGES[message] in said


def test_another_error_of_torch_is_a_bug_and_stays_one():
    with pytest.raises(RuntimeError, match="shapes"), errors.one_line_errors():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
