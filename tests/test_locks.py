"""Two programs in one folder: the second is refused in one line that names the first."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
from conftest import ROOT, launch, rows_of

from seg_runs.errors import RunError
from seg_runs.lock import locked
from seg_runs.publish import publish
from seg_runs.run_folder import holds_run

FAST = "--dataset toycity --model streetnet --crop_size 32 64 --batch_size 2 --num_workers 0 --report_to none".split()
FAST += ["--max_train_steps", "1", "--no_cache"]

HOLD = """
import os, sys, time
from pathlib import Path
from seg_runs.lock import locked
with locked(Path(sys.argv[1]), "--output_dir"):
    worker = os.fork() if "fork" in sys.argv else 0
    if worker == 0:  # of two, the worker says that it is there
        print("held", os.getpid(), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def hold():
    """`hold(folder)` starts a process that holds the folder's lock. Returns it and the worker that it forked."""
    begun = []

    def start(folder, *words):
        command = [sys.executable, "-c", HOLD, str(folder), *words]
        begun.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        said, worker = begun[-1].stdout.readline().split()
        assert said == "held"
        return begun[-1], int(worker)

    yield start
    for process in begun:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def trained(toycity, tmp_path_factory):
    """A run of one step."""
    from accelerate.state import AcceleratorState, GradientState

    import train_seg

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    run = tmp_path_factory.mktemp("runs") / "run"
    train_seg.main([str(flag) for flag in (*FAST, "--dataset_path", toycity, "--output_dir", run)])
    return run


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def contents(folder) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".lock" not in path.name}


@pytest.mark.parametrize("how", ["new", "empty", "overwritten", "resumed"])
def test_a_run_folder_in_use_is_refused_and_stays(how, run, hold, toycity, in_process, tmp_path, capsys):
    folder = run if how in ("overwritten", "resumed") else tmp_path / "other"
    flags = ["--output_dir", folder, *(["--overwrite_output_dir"] if how == "overwritten" else [])]
    flags = ["--resume_from_checkpoint", folder, "--max_train_steps", 2] if how == "resumed" else flags
    if how == "empty":
        folder.mkdir()
    holder, _ = hold(folder)
    before = contents(folder)
    with pytest.raises(SystemExit) as stop:
        in_process("train_seg", *FAST, "--dataset_path", toycity, *flags)
    line = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 1 and line.startswith(f"error: {'--resume' if how == 'resumed' else '--output_dir'}")
    assert str(folder) in line and f"process {holder.pid}" in line and contents(folder) == before


def test_publishing_a_run_that_trains_is_refused(run, hold, tmp_path):
    holder, _ = hold(run)
    with pytest.raises(RunError, match=f"process {holder.pid}"):
        publish(run, "user/x", False, str(tmp_path / "card"))
    assert not (tmp_path / "card").exists()


def test_several_processes_say_it_once(run, hold, toycity):
    hold(run)
    result = launch("train_seg.py", "--resume_from_checkpoint", run, "--max_train_steps", 2, processes=2)
    assert result.returncode != 0 and result.stderr.count("error: ") == 1 and "is in use by" in result.stderr


def test_the_lock_goes_with_its_holder_though_a_forked_worker_lives(hold, tmp_path):
    holder, worker = hold(tmp_path / "run", "fork")
    holder.kill()
    holder.wait()
    os.kill(worker, 0)  # it is alive
    with locked(tmp_path / "run", "--output_dir"):
        pass
    os.kill(worker, signal.SIGKILL)


def test_a_run_holds_its_folder_while_it_trains_and_not_after(toycity, in_process, tmp_path, monkeypatch):
    import train_seg

    run, train_step, refused = tmp_path / "r", train_seg.train_step, []

    def step(*args):
        with pytest.raises(RunError, match=f"process {os.getpid()}"), locked(run, "--output_dir"):
            pass
        refused.append(1)
        return train_step(*args)

    monkeypatch.setattr(train_seg, "train_step", step)
    in_process("train_seg", *FAST, "--dataset_path", toycity, "--output_dir", run)
    with locked(run, "--output_dir"):
        assert refused == [1]


def test_a_lock_is_no_run_and_does_not_travel(run, toycity, in_process, tmp_path):
    with locked(tmp_path / "empty", "--output_dir"):
        assert not holds_run(tmp_path / "empty")
    in_process("train_seg", *FAST, "--dataset_path", toycity, "--output_dir", tmp_path / "empty")
    assert len(rows_of(tmp_path / "empty")) == 1
    publish(run, "user/x", False, str(tmp_path / "card"))
    for folder in (tmp_path / "card", run / "best"):
        assert not [path for path in folder.rglob("*") if "lock" in path.name]


def test_what_is_exported_is_a_copy_and_whole(run, tmp_path, monkeypatch):
    """Editing the export does not change the run; a failed export can be repeated."""
    from seg_runs import publish as module

    def fail(run, folder, *_):
        (folder / "half").write_text("")
        raise OSError(28, "No space left on device", str(run), None, str(folder / "half"))

    with monkeypatch.context() as patch, pytest.raises(RunError, match=f"cannot write {tmp_path}/card: No space left"):
        patch.setattr(module, "stage", fail)
        publish(run, "user/x", False, str(tmp_path / "card"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    publish(run, "user/x", False, str(tmp_path / "card"))
    weights = tmp_path / "card" / "model.safetensors"
    assert weights.read_bytes() == (run / "best" / "model.safetensors").read_bytes()
    assert not weights.samefile(run / "best" / "model.safetensors")


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_saved_files_follow_the_umask(umask, mode, toycity, in_process, tmp_path):
    before = os.umask(umask)
    try:
        in_process("train_seg", *FAST, "--dataset_path", toycity, "--output_dir", tmp_path / "r", "--ema_decay", 0.9)
    finally:
        os.umask(before)
    files = [*(tmp_path / "r" / "best").iterdir(), *(tmp_path / "r" / "checkpoints").rglob("step_*/*")]
    assert len(files) > 10 and {path.stat().st_mode & 0o777 for path in files} == {mode}


def test_a_run_is_not_overwritten_under_a_prediction(tmp_path):
    from seg_runs.lock import PREDICTING
    from seg_runs.run_folder import create_run

    (tmp_path / "results_val").mkdir()
    (tmp_path / "args.yaml").write_text("dataset: toycity\n")
    (tmp_path / ".predicting_val.json").write_text("{}")
    with locked(tmp_path, "--output_dir", PREDICTING):
        with pytest.raises(RunError, match="is in use by"):
            create_run(tmp_path, overwrite=True)
    assert (tmp_path / "results_val").is_dir() and (tmp_path / "args.yaml").exists()
    create_run(tmp_path, overwrite=True)
    assert not (tmp_path / "results_val").exists() and not list(tmp_path.glob(".predicting_val.json"))


def test_a_holder_file_that_cannot_be_deleted_does_not_hide_what_went_wrong(tmp_path):
    with pytest.raises(RunError, match="the disk is full"):
        with locked(tmp_path, "--output_dir"):
            (tmp_path / ".lock.holder").unlink()
            (tmp_path / ".lock.holder").mkdir()
            raise RunError("the disk is full")
    (tmp_path / ".lock.holder").rmdir()
    with locked(tmp_path, "--output_dir"):
        pass
