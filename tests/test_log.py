"""What log_epoch.csv and TensorBoard show for a resumed run, and what a launch prints about its precision."""

import json
import platform
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedType
from conftest import rows_of, scalars_of

from seg_runs import launch
from seg_runs.epoch_rows import COLUMNS
from seg_runs.errors import RunError
from seg_runs.log import TrainingLog
from seg_runs.results import comparison
from seg_runs.state import Conditions, RunState
from seg_runs.trackers import Trackers


@pytest.fixture
def log_of(tmp_path, monkeypatch):
    """`log_of(step=..., unlogged=...)`: the log of a run in `tmp_path` that stands there, with TensorBoard."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")

    def make(steps_per_epoch=99, **where) -> TrainingLog:
        reset()
        state = RunState(Conditions(99, steps_per_epoch, "no", 1), **where)
        trackers = Trackers(launch.make_accelerator(trackers=["tensorboard"]), tmp_path)
        trackers.start(state, {})
        return TrainingLog(tmp_path, state, ["road", "sky"], trackers, on=True)

    return make


def reset() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def make_step(log: TrainingLog, loss: float, last: bool = False) -> None:
    log.state.skip_step()
    log.step({"loss": loss}, last)


@pytest.mark.parametrize("seconds", [-3600, 0, 1, 3600])
def test_a_resumed_run_is_shown_whole_whatever_the_clock_does(seconds, tmp_path, monkeypatch, log_of):
    """Resumed twice in a row: values logged after the checkpoint appear once, as written last."""
    now = 1_800_000_000
    for begun, done in enumerate((0, 4, 6)):
        monkeypatch.setattr(time, "time", lambda begun=begun: now + begun * seconds)
        log = log_of(step=done)
        for step in range(done + 1, done + 7):
            make_step(log, 100.0 * begun + step)
    expected = {**{step: step for step in range(1, 5)}, 5: 105, 6: 106, **{step: 200 + step for step in range(7, 13)}}
    assert scalars_of(tmp_path)["train/loss"] == expected


@pytest.mark.parametrize("logged", [False, True])
def test_the_last_step_of_an_epoch_is_one_row_with_its_scores(logged, tmp_path, log_of):
    """This holds even if the run is killed during the validation, before or after the row was written."""
    log = log_of()
    make_step(log, 1.0)
    make_step(log, 2.0, last=True)
    at_checkpoint = replace(log.state)
    assert scalars_of(tmp_path) == {"train/loss": {1: 1.0}} and at_checkpoint.unlogged == {"loss": 2.0}
    row = {"epoch": 1, "train_loss": 1.5, "val_loss": 3.0, "mean_iou": 0.5, "iou/road": 0.25, "iou/sky": None}
    if logged:
        log.epoch({**row, "mean_iou": 0.75})
    (tmp_path / "log_epoch.csv").unlink(missing_ok=True)
    log = log_of(step=2, unlogged=at_checkpoint.unlogged)
    log.epoch(row)
    log.state.end_epoch()
    make_step(log, 4.0)
    assert scalars_of(tmp_path) == {
        "train/loss": {1: 1.0, 2: 2.0, 3: 4.0},
        **{"epoch": {2: 1.0}, "epoch/train_loss": {2: 1.5}},
        **{"val/loss": {2: 3.0}, "val/mean_iou": {2: 0.5}, "val/iou/road": {2: 0.25}},
    }


def test_a_run_that_ended_within_an_epoch_and_goes_on_keeps_the_step_and_not_the_epoch(tmp_path, log_of):
    log = log_of(step=1)
    make_step(log, 2.0, last=True)
    log.epoch({"epoch": 1, "train_loss": 1.5})
    log = log_of(step=2, unlogged=log.state.unlogged)
    make_step(log, 3.0)
    assert log.state.unlogged == {} and scalars_of(tmp_path) == {"train/loss": {2: 2.0, 3: 3.0}}


def test_a_loss_that_is_not_finite_can_be_kept_in_a_checkpoint(tmp_path, log_of):
    log = log_of()
    log.state.skip_step()
    log.step({"loss": float("nan"), "learning_rate": 0.5}, last=True)
    assert log.state.unlogged == {"learning_rate": 0.5} and "NaN" not in json.dumps(log.state.to_json())


def test_log_epoch_csv_has_iou_by_class_and_an_older_one_keeps_its_columns(tmp_path, log_of):
    log, row = log_of(step=3), {"epoch": 1, "train_loss": 1.5, "seconds": 1.0, "mean_iou": 0.25, "val_accuracy": 0.5}
    log.epoch({"epoch": 1, "train_loss": 1.5})  # not validated
    log.epoch({**row, "epoch": 2, "iou/road": 0.25, "iou/sky": None})
    first, second = rows_of(tmp_path)
    assert list(first) == [*COLUMNS, "iou/road", "iou/sky"] and first["iou/road"] == first["mean_iou"] == ""
    assert (second["iou/road"], second["iou/sky"]) == ("0.2500", "")
    (tmp_path / "log_epoch.csv").write_text(",".join(COLUMNS) + "\n1,2.0,,0.5,,,1.0e-3,5.0\n")
    log.epoch({**row, "epoch": 2, "iou/road": 0.25})
    assert [tuple(old) for old in rows_of(tmp_path)] == [COLUMNS] * 2 and rows_of(tmp_path)[1]["mean_iou"] == "0.2500"


@pytest.mark.parametrize("bf16, amx, machine, found", [(0, 0, "x86_64", 0), (1, 0, "x86_64", 1), (0, 1, "AMD64", 1)])
def test_bf16_instructions_are_found(bf16, amx, machine, found, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    for name, value in (("_is_avx512_bf16_supported", bf16), ("_is_amx_tile_supported", amx)):
        monkeypatch.setattr(torch.cpu, name, lambda value=value: bool(value), raising=False)
    assert launch.has_bf16() == bool(found)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert launch.has_bf16() is None
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert launch.has_bf16() is None  # another version of torch


@pytest.mark.parametrize("precision, notes", [("bf16", 1), ("no", 0)])
def test_a_slow_precision_is_said(precision, notes, monkeypatch, capsys):
    reset()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(launch, "has_bf16", lambda: False)
    launch.make_accelerator()
    assert capsys.readouterr().out.count("--mixed_precision no") == notes


@pytest.mark.parametrize(
    "precision, device, found, noted",
    [
        ("no", "cpu", True, True),
        ("no", "cpu", None, False),
        ("no", "cpu", False, False),
        ("bf16", "cpu", True, False),
        ("no", "cuda", True, False),
    ],
)
def test_a_faster_precision_is_said(precision, device, found, noted, monkeypatch):
    monkeypatch.setattr(launch, "has_bf16", lambda: found)
    accelerator = SimpleNamespace(device=torch.device(device), mixed_precision=precision)
    assert ("--mixed_precision bf16" in launch.note_on_precision(accelerator)) == noted


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("MIXED_PRECISION", "float16", "float16 is not supported: give one of no, fp16, bf16"),
        ("MIXED_PRECISION", "fp8", "cannot start with these launch settings: .*transformer_engine"),
        ("USE_DEEPSPEED", "true", "cannot start with these launch settings: .*pip install deepspeed"),
    ],
)
def test_launch_settings_that_cannot_work_are_one_line(variable, value, words, monkeypatch):
    reset()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv(f"ACCELERATE_{variable}", value)
    with pytest.raises(RunError, match=words) as error:
        launch.make_accelerator()
    assert "\n" not in str(error.value)


def test_a_network_divided_among_processes_is_refused(monkeypatch):
    divided = SimpleNamespace(mixed_precision="no", distributed_type=DistributedType.FSDP)
    monkeypatch.setattr("accelerate.Accelerator", lambda **_: divided)
    with pytest.raises(RunError, match="do not run under FSDP: answer no"):
        launch.make_accelerator()


@pytest.mark.parametrize("name", ["Straße", "piéton", "łąka", "дорога", "δρόμος"])
def test_the_legend_of_a_picture_has_the_letters_of_most_alphabets(name):
    """A font draws the same box for each letter that it lacks."""

    def drawn(text):
        return np.asarray(comparison([(np.zeros((8, 8, 3), np.uint8),)], ("truth",), {text: (1, 2, 3)}, 200))

    for letter in {*name}:
        assert not np.array_equal(drawn(letter), drawn("\ue000")), letter
