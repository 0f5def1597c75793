"""A run is a function of its flags: split, interrupted or resumed in any way, it gives the same numbers."""

import json
import os
import shutil
import signal
import subprocess

import numpy as np
import psutil
import pytest
import torch
from conftest import assert_same_run, checked, launch, rows_of, scalars_of, start
from PIL import Image
from safetensors.torch import load_file

from seg_models import objective
from seg_models.losses import cross_entropy
from seg_runs.card import training_section
from seg_runs.optimization import Schedule
from seg_runs.state import read_state

FAST = "--dataset toycity --model streetnet --crop_size 32 64 --num_workers 1".split()
FULL = "--batch_size 4 --epochs 4 --eval_every 2 --ema_decay 0.9 --max_grad_norm 1 --warmup_steps 3".split()
FULL += "--checkpointing_steps 2".split()
PARTS = "--gradient_accumulation_steps 2 --norm group".split()  # two processes, one image each per part


@pytest.fixture(scope="module")
def uninterrupted(city, tmp_path_factory):
    """A run of 4 epochs of 3 steps with a moving average, clipping, warm-up and checkpoints within epochs."""
    run = tmp_path_factory.mktemp("exact") / "run"
    checked(launch("train_seg.py", *FAST, *FULL, "--dataset_path", city, "--output_dir", run))
    return run


@pytest.fixture(scope="module")
def uninterrupted_on_two(city, tmp_path_factory):
    run = tmp_path_factory.mktemp("exact") / "run"
    checked(launch("train_seg.py", *FAST, *FULL, *PARTS, *flags_of(city, run), processes=2))
    return run


def batch(images):
    return ["--batch_size", images]


def flags_of(data, run):
    return ["--dataset_path", data, "--output_dir", run]


class Killed(BaseException):
    """Stands in for a SIGKILL: nothing in the scripts catches it."""


@pytest.fixture
def killed_at(in_process, monkeypatch):
    """`killed_at(step, ...)` trains in this process until that step is done, then ends without cleaning up."""
    import train_seg

    def run(step: int, *flags):
        train_step, calls = train_seg.train_step, []

        def counted(*args):
            calls.append(0)
            if len(calls) == step + 1:
                raise Killed
            return train_step(*args)

        with monkeypatch.context() as patch:
            patch.setattr(train_seg, "train_step", counted)
            with pytest.raises(Killed):
                in_process("train_seg", *flags)

    return run


SLOW = [pytest.param(step, workers, marks=pytest.mark.slow) for step, workers in ((4, 2), (5, 0), (6, 2))]


@pytest.mark.parametrize("step, workers", [(2, 0), (5, 2), (9, 0), *SLOW])
def test_resuming_continues_bit_for_bit(uninterrupted, city, in_process, killed_at, tmp_path, step, workers):
    """Kill at a checkpoint (2, 4), after one (5), and at the end of an epoch with a checkpoint (6) and without (9)."""
    run = tmp_path / "r"
    killed_at(step, *FAST, *FULL, *flags_of(city, run), "--num_workers", workers)
    in_process("train_seg", "--resume_from_checkpoint", run)
    assert_same_run(uninterrupted, run)


def test_resuming_with_accumulation_continues_bit_for_bit(city, in_process, killed_at, tmp_path):
    flags = [*FAST, *FULL, *PARTS, "--dataset_path", city]
    in_process("train_seg", *flags, "--output_dir", tmp_path / "one")
    killed_at(5, *flags, "--output_dir", tmp_path / "two")
    in_process("train_seg", "--resume_from_checkpoint", tmp_path / "two")
    assert_same_run(tmp_path / "one", tmp_path / "two")


def test_resuming_with_every_augmentation_continues_bit_for_bit(city, in_process, killed_at, tmp_path):
    """Blobs, boxes, crops, colours and the order of rare-class sampling are the same after resuming within an epoch."""
    flags = "--copyblob --cutmix --cutmix_boxes 4 --cutmix_beta 2 --rotation 10 --photometric --class_crop_prob 0.5"
    flags = [*FAST, *FULL, *flags.split(), "--sampling", "rare", "--dataset_path", city]
    in_process("train_seg", *flags, "--output_dir", tmp_path / "one")
    killed_at(5, *flags, "--output_dir", tmp_path / "two")
    in_process("train_seg", "--resume_from_checkpoint", tmp_path / "two")
    assert_same_run(tmp_path / "one", tmp_path / "two")


def test_a_kill_between_the_row_of_an_epoch_and_its_end(uninterrupted, city, in_process, tmp_path, monkeypatch):
    """best/, the row and the curve of epoch 2 exist, but the checkpoint is from before its validation."""
    from seg_runs import checkpoints

    update_state = checkpoints.update_state

    def die_at_step_6(run, state):
        if state.step == 6:
            raise Killed
        update_state(run, state)

    run = tmp_path / "r"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "update_state", die_at_step_6)
        with pytest.raises(Killed):
            in_process("train_seg", *FAST, *FULL, *flags_of(city, run))
    assert [row["epoch"] for row in rows_of(run)] == ["1", "2"] and (run / "best").exists()
    in_process("train_seg", "--resume_from_checkpoint", run)
    assert_same_run(uninterrupted, run)


def test_a_killed_write_of_a_checkpoint_leaves_the_previous_one(uninterrupted, city, in_process, tmp_path, monkeypatch):
    from seg_runs import checkpoints

    write, run = checkpoints.write, tmp_path / "r"

    def die_in_the_third(content, path):
        if path.parent.name == ".step_000004.tmp" and path.name == "training.pt":
            path.write_bytes(b"half")
            raise Killed
        write(content, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write", die_in_the_third)
        with pytest.raises(Killed):
            in_process("train_seg", *FAST, *FULL, *flags_of(city, run))
    assert [path.name for path in checkpoints.list_checkpoints(run / "checkpoints")] == ["step_000002"]
    in_process("train_seg", "--resume_from_checkpoint", run)
    assert_same_run(uninterrupted, run)
    assert not list((run / "checkpoints").glob(".*"))


def test_a_step_is_the_same_however_it_is_spread(city, tmp_path):
    """2 processes x 2 images, 1 x 4, and 1 x 2 x 2 accumulation steps end with equal weights, on half-void images."""
    data = tmp_path / "data"
    shutil.copytree(city, data)
    for label in sorted((data / "gtFine" / "train").glob("*labelIds.png"))[::2]:
        ids = np.asarray(Image.open(label)).copy()
        ids[:, : ids.shape[1] // 2] = 0
        Image.fromarray(ids).save(label)
    sgd = "--norm group --optimizer sgd --learning_rate 0.01 --max_train_steps 5 --eval_every 9 --seed 1".split()
    sgd += "--loss weighted_ce --aux_weight 0.4".split()
    weights = {}
    for processes, parts in ((1, 1), (1, 2), (2, 1)):
        run = tmp_path / f"{processes}-{parts}"
        flags = [*FAST, *sgd, *batch(4), *flags_of(data, run), "--gradient_accumulation_steps", parts]
        result = checked(launch("tests/without_dropout.py", *flags, processes=processes))
        assert f"{processes} process(es)" in result.stdout
        weights[processes, parts] = load_file(run / "checkpoints" / "step_000005" / "model.safetensors")
    one = weights.pop((1, 1))
    for spread in weights.values():
        for name, tensor in one.items():
            torch.testing.assert_close(spread[name], tensor, rtol=0, atol=1e-5)


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_learning_rate_logged_at_each_step_is_the_formula(processes, city, tmp_path):
    flags = "--lr_scheduler_type poly_with_restarts --lr_num_cycles 2 --warmup_steps 2 --max_train_steps 8".split()
    flags += "--learning_rate 3e-4 --eval_every 9".split()
    run = tmp_path / "r"
    checked(launch("train_seg.py", *FAST, *flags, *batch(4), *flags_of(city, run), processes=processes))
    logged = scalars_of(run)["train/learning_rate"]
    schedule = Schedule("poly_with_restarts", 8, warmup_steps=2, cycles=2)
    assert logged == {step + 1: pytest.approx(3e-4 * schedule(step), rel=1e-6) for step in range(8)}


def test_the_moving_average_is_what_is_evaluated_and_saved(city, in_process, tmp_path):
    run = tmp_path / "r"
    in_process("train_seg", *FAST, *batch(2), "--max_train_steps", 2, "--ema_decay", 0.9, *flags_of(city, run))
    checkpoint = run / "checkpoints" / "step_000002"
    best, weights = (load_file(path / "model.safetensors") for path in (run / "best", checkpoint))
    average = load_file(checkpoint / "ema.safetensors")
    assert all(torch.equal(best[name], average[name]) for name in best)
    assert any(not torch.equal(best[name], weights[name]) for name in best)


@pytest.mark.parametrize("precision", [pytest.param("no", marks=pytest.mark.slow), "bf16"])
def test_the_moving_average_scores_as_it_is_predicted(precision, city, tmp_path):
    run = tmp_path / "r"
    flags = [*FAST, *batch(4), "--max_train_steps", 3, "--ema_decay", 0.5, *flags_of(city, run)]
    checked(launch("train_seg.py", *flags, precision=precision))
    checked(launch("predict_seg.py", "--model_name_or_path", run, "--splits", "val", precision=precision))
    predicted = json.loads((run / "scores_val.json").read_text())["mean_iou"]
    assert f"{predicted:.4f}" == rows_of(run)[0]["mean_iou"]


def test_clipping_bounds_the_gradient(city, in_process, tmp_path):
    """SGD without momentum moves by learning rate times clipped gradient; the logged norm is that before clipping."""
    flags = "--optimizer sgd --learning_rate 1 --momentum 0 --weight_decay 0 --lr_scheduler_type constant".split()
    flags += ["--dataset_path", city, "--eval_every", 9, "--keep_checkpoints", 2, "--checkpointing_steps", 1]
    run = tmp_path / "r"
    in_process(
        "train_seg", *FAST, *batch(2), *flags, "--max_train_steps", 2, "--max_grad_norm", 0.01, "--output_dir", run
    )
    before, after = (load_file(run / "checkpoints" / f"step_00000{n}" / "model.safetensors") for n in (1, 2))
    moved = [after[name] - before[name] for name in before if "running" not in name and "num_batches" not in name]
    assert torch.nn.utils.get_total_norm(moved).item() == pytest.approx(0.01, rel=1e-3)
    assert min(scalars_of(run)["train/grad_norm"].values()) > 0.02


def test_checkpoints_that_are_kept(city, in_process, tmp_path):
    run = tmp_path / "r"
    flags = [
        "--max_train_steps",
        5,
        "--checkpointing_steps",
        1,
        "--keep_checkpoints",
        2,
        *flags_of(city, run),
    ]
    in_process("train_seg", *FAST, *batch(2), *flags)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step_000004", "step_000005"]
    whole = {path.name for path in (run / "checkpoints" / "step_000005").iterdir()}
    assert {path.name for path in (run / "checkpoints" / "step_000004").iterdir()} == whole


def test_an_older_checkpoint_can_be_resumed(uninterrupted, city, in_process, tmp_path):
    run = tmp_path / "r"
    in_process("train_seg", *FAST, *FULL, *flags_of(city, run), "--keep_checkpoints", 9)
    in_process("train_seg", "--resume_from_checkpoint", run / "checkpoints" / "step_000004")
    for old in sorted((run / "checkpoints").iterdir())[:-1]:
        shutil.rmtree(old)
    assert_same_run(uninterrupted, run)


def test_changed_flags_are_said(uninterrupted, in_process, tmp_path, capsys):
    run = tmp_path / "r"
    shutil.copytree(uninterrupted, run)
    flags = ["--epochs", 5, "--keep_checkpoints", 3, "--gradient_accumulation_steps", 2]
    in_process("train_seg", "--resume_from_checkpoint", run, *flags)
    said = capsys.readouterr().out
    assert "--epochs 5 instead of 4" in said
    assert "15 steps in total instead of 12: the learning rate follows the new length" in said
    assert "The run's args.yaml alone will not repeat it" in said
    changes = read_state(run / "checkpoints" / "step_000015").changes
    assert changes == [
        "from step 12 on: 15 steps in total instead of 12",
        "from step 12 on: 2 micro-batch(es) per step instead of 1",
    ]
    record = {**json.loads((run / "best" / "training.json").read_text()), "changes": changes}
    assert "- from step 12 on: 15 steps in total instead of 12\n" in training_section(record, {}, {}, {})
    assert "--keep_checkpoints 3 instead of 2" in said
    assert "2 micro-batch(es) per step instead of 1: each step sees the same images" in said
    shutil.rmtree(run / "checkpoints" / "step_000015")  # as if killed before: args.yaml has the new flags already
    in_process("train_seg", "--resume_from_checkpoint", run)
    assert read_state(run / "checkpoints" / "step_000015").changes == changes
    for flag, value in (("--epochs", 3), ("--ema_decay", 0.5), ("--max_grad_norm", 3)):
        with pytest.raises(SystemExit):
            in_process("train_seg", "--resume_from_checkpoint", run, flag, value)
        assert flag in capsys.readouterr().err


@pytest.mark.parametrize("before, after", [(1, 2), pytest.param(2, 1, marks=pytest.mark.slow)])
def test_resuming_on_another_number_of_processes_says_what_changes(city, tmp_path, before, after):
    run = tmp_path / "r"
    flags = [*FAST, *batch(4), "--norm", "group", *flags_of(city, run), "--max_train_steps"]
    checked(launch("train_seg.py", *flags, 2, processes=before))
    result = checked(launch("train_seg.py", "--resume_from_checkpoint", run, "--max_train_steps", 4, processes=after))
    assert f"{after} process(es) instead of {before}: each step sees the same images" in result.stdout
    assert [row["epoch"] for row in rows_of(run)] == ["1", "2"]
    assert list(scalars_of(run)["train/loss"]) == [1, 2, 3, 4]


def test_a_run_that_ended_within_an_epoch_can_be_made_longer(city, in_process, tmp_path):
    """With a constant learning rate, it equals the longer run, except for the validation in between."""
    flags = [*FAST, *batch(4), "--dataset_path", city, "--lr_scheduler_type", "constant", "--eval_every", 9]
    for name, steps in (("one", 5), ("two", 2)):
        in_process("train_seg", *flags, "--max_train_steps", steps, "--output_dir", tmp_path / name)
    in_process("train_seg", "--resume_from_checkpoint", tmp_path / "two", "--max_train_steps", 5)
    one, two = (load_file(tmp_path / n / "checkpoints/step_000005/model.safetensors") for n in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    rows = [[{**row, "seconds": 0} for row in rows_of(tmp_path / name)] for name in ("one", "two")]
    assert rows[0] == rows[1]


def test_other_data_cannot_be_resumed_with(toycity, city, in_process, tmp_path, capsys):
    run = tmp_path / "r"
    in_process("train_seg", *FAST, *batch(2), "--max_train_steps", 2, *flags_of(toycity, run))
    with pytest.raises(SystemExit):
        in_process("train_seg", "--resume_from_checkpoint", run, "--dataset_path", city, "--max_train_steps", 5)
    assert "started with 3 steps per epoch" in capsys.readouterr().err


def test_a_resumed_run_with_nothing_left_to_do_is_refused(city, in_process, tmp_path, capsys, killed_at):
    run = tmp_path / "r"
    killed_at(4, *FAST, *batch(4), "--epochs", 3, "--eval_every", 3, "--checkpointing_steps", 3, *flags_of(city, run))
    with pytest.raises(SystemExit):
        in_process("train_seg", "--resume_from_checkpoint", run, "--epochs", 1)
    assert "leaves nothing to do in a run of 3 steps" in capsys.readouterr().err


def stopped_by(number: int, processes: int, flags, run, to: str, env=None):
    """Start a run, and signal it after a checkpoint.

    to  "launcher"; "group", as a terminal does; or "each" process, data workers included, as systemd does
    """
    process = start("train_seg.py", *flags, processes=processes, env=env)
    while not (run / "checkpoints").is_dir() or not list((run / "checkpoints").glob("step_*")):
        assert process.poll() is None, process.communicate()
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            pass
    if to == "each":
        for child in psutil.Process(process.pid).children(recursive=True):
            child.send_signal(number)
    (os.killpg if to == "group" else os.kill)(process.pid, number)
    return process.communicate(timeout=120)  # waits for the last holder of the pipes, not only for the launcher


@pytest.mark.parametrize(
    "number, processes, to",
    [
        pytest.param(signal.SIGTERM, 1, "launcher", id="SIGTERM to the launcher", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 1, "each", id="SIGTERM to each process"),
        pytest.param(signal.SIGINT, 1, "group", id="Ctrl-C"),
        pytest.param(signal.SIGTERM, 2, "launcher", id="SIGTERM to the launcher of two", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 2, "group", id="Ctrl-C with two", marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_the_step_writes_a_checkpoint_and_says_how_to_go_on(
    number, processes, to, uninterrupted, uninterrupted_on_two, city, tmp_path
):
    run = tmp_path / "r"
    flags = [*FAST, *FULL, *flags_of(city, run), "--num_workers", 2, *(PARTS if processes == 2 else [])]
    stdout, stderr = stopped_by(number, processes, flags, run, to)
    assert f"{signal.Signals(number).name}: finishing the step" in stderr
    assert stdout.count(f"resume with: accelerate launch train_seg.py --resume_from_checkpoint {run}") == 1, stderr
    assert "DataLoader" not in stderr and "done: best" not in stdout
    checked(launch("train_seg.py", "--resume_from_checkpoint", run, processes=processes))
    assert_same_run(uninterrupted if processes == 1 else uninterrupted_on_two, run)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_sigterm_to_each_process_of_a_run_with_two_threads(city, tmp_path):
    """Then torch starts a thread in each worker before `start_worker` runs, and this thread gets the signal too."""
    run = tmp_path / "r"
    flags = [*FAST, *batch(2), *flags_of(city, run), "--num_workers", 2, "--epochs", 999, "--eval_every", 999]
    flags += ["--checkpointing_steps", 2]
    _, stderr = stopped_by(signal.SIGTERM, 1, flags, run, "each", {"OMP_THREAD_LIMIT": "2"})
    assert "SIGTERM: finishing the step" in stderr and "DataLoader" not in stderr, stderr


@pytest.mark.parametrize(
    "fault, said, processes",
    [
        ("file", "error: ", 1),
        ("bug", "ZeroDivisionError: a bug", 1),
        ("hang", None, 1),
        pytest.param("file", "error: ", 2, marks=pytest.mark.slow),
        ("bug", "ZeroDivisionError: a bug", 2),
        pytest.param("hang", None, 2, marks=pytest.mark.slow),
    ],
)
def test_a_process_that_fails_ends_the_others_and_its_error_is_shown_once(fault, said, processes, city, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(city, data)
    image = sorted((data / "leftImg8bit" / "train").iterdir())[0]
    flags = [*FAST, *batch(6), *flags_of(data, tmp_path / "r"), "--max_train_steps", 3, "--norm", "group"]
    flags += ["--no_cache"] if fault == "file" else []  # otherwise decoding finds the damage before training
    env = {"FAULT": fault, "FILE": str(image)}
    result = launch("tests/failing.py", *flags, processes=processes, env=env, launcher=processes > 1)
    assert result.returncode != 0
    if said:
        assert result.stderr.count(said) == 1, result.stderr
    if fault == "file":
        assert image.name in result.stderr
    tracebacks = result.stderr.split("Traceback (most recent call last)")[1:]
    ours = [text for text in tracebacks if "accelerate/commands/launch.py" not in text]
    assert len(ours) == (fault == "bug"), result.stderr


@pytest.fixture
def poisoned(monkeypatch):
    """`poisoned(steps)` makes the loss NaN in these optimizer steps, counted from 1."""
    calls = []

    def run(steps):
        def loss(logits, labels):
            if torch.is_grad_enabled():
                calls.append(0)
            total, weight = cross_entropy(logits, labels)
            return (total * float("nan") if torch.is_grad_enabled() and len(calls) in steps else total), weight

        monkeypatch.setattr(objective, "make_loss", lambda *_: loss)

    return run


def test_a_step_without_a_finite_gradient_changes_nothing(city, in_process, tmp_path, poisoned):
    poisoned({2})
    run = tmp_path / "r"
    flags = ["--max_train_steps", 3, "--checkpointing_steps", 1, "--keep_checkpoints", 3, "--ema_decay", 0.9]
    in_process("train_seg", *FAST, *batch(2), *flags, *flags_of(city, run))
    one, two, three = (run / "checkpoints" / f"step_00000{n}" for n in (1, 2, 3))
    for name in ("model.safetensors", "ema.safetensors"):
        before, after, later = (load_file(path / name) for path in (one, two, three))
        assert all(torch.equal(before[key], after[key]) for key in before)  # includes batch norm's statistics
        assert any(not torch.equal(after[key], later[key]) for key in before)
    states = [json.loads((path / "state.json").read_text())["skipped"] for path in (one, two, three)]
    assert states == [0, 1, 0] and np.isfinite(float(rows_of(run)[0]["train_loss"]))


def test_a_loss_that_stays_nan_stops_the_run(city, in_process, tmp_path, poisoned, capsys):
    poisoned(range(5, 99))
    run = tmp_path / "r"
    with pytest.raises(SystemExit) as stop:
        in_process("train_seg", *FAST, *batch(2), "--epochs", 9, "--checkpointing_steps", 6, *flags_of(city, run))
    line = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 1 and "not finite in 10 steps in a row, from step 5 on" in line
    assert f"{run}/checkpoints/step_000012" in line
    weights = load_file(run / "checkpoints" / "step_000012" / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_deterministic_refuses_what_cannot_be(city, in_process, tmp_path, monkeypatch, capsys):
    flags = [*FAST, *batch(2), "--max_train_steps", 1, "--deterministic"]
    in_process("train_seg", *flags, *flags_of(city, tmp_path / "r"))

    def loss(logits, labels):
        torch.zeros(2).put_(torch.tensor([0]), torch.tensor([1.0]))  # has no deterministic implementation
        return cross_entropy(logits, labels)

    monkeypatch.setattr(objective, "make_loss", lambda *_: loss)
    with pytest.raises(SystemExit):
        in_process("train_seg", *flags, *flags_of(city, tmp_path / "s"))
    torch.use_deterministic_algorithms(False)
    assert "error: --deterministic is not possible here: put_" in capsys.readouterr().err


@pytest.fixture
def small_disk(tmp_path):
    """`small_disk(megabytes)` mounts a tmpfs of that size, or resizes it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = []

    def mount(megabytes):
        options = ["-o", f"{'remount,' if mounted else ''}size={megabytes}m"]
        result = subprocess.run(
            ["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], capture_output=True, text=True
        )
        if result.returncode:
            pytest.skip(f"a file system of its own needs the rights to mount one: {result.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_previous_checkpoint(uninterrupted, city, in_process, small_disk, capsys):
    """A checkpoint with a moving average takes 54 MB, so the second does not fit beside the first."""
    run = small_disk(70) / "r"
    with pytest.raises(SystemExit) as stop:
        in_process("train_seg", *FAST, *FULL, *flags_of(city, run))
    line = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 1
    assert f"error: cannot write checkpoint {run}/checkpoints/step_000004" in line and "No space left" in line
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_000002"] and "step_000002" in line
    small_disk(400)
    in_process("train_seg", "--resume_from_checkpoint", run)
    assert_same_run(uninterrupted, run)


def test_a_disk_that_is_full_after_the_checkpoint(city, in_process, small_disk, capsys):
    """best/ takes 14 MB more."""
    run = small_disk(60) / "r"
    flags = [*FAST, *batch(4), "--epochs", 1, "--ema_decay", 0.9, *flags_of(city, run)]
    with pytest.raises(SystemExit):
        in_process("train_seg", *flags)
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"error: cannot write {run}/best" in line and "step_000003" in line
    assert not (run / "best").exists() and not (run / ".best.new").exists()
    small_disk(400)
    in_process("train_seg", "--resume_from_checkpoint", run)
    assert (run / "best" / "config.json").exists() and len(rows_of(run)) == 1
