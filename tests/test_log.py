"""What TensorBoard shows for a resumed run, and what a launch prints about its precision."""

import platform
import time

import pytest
import torch
from conftest import scalars_of

from seg_runs import launch
from seg_runs.log import TrainingLog
from seg_runs.state import Conditions, RunState


@pytest.mark.parametrize("seconds", [-3600, 0, 1, 3600])
def test_a_resumed_run_is_shown_whole_whatever_the_clock_does(seconds, tmp_path, monkeypatch):
    """Resumed twice in a row: values logged after the checkpoint appear once, as written last."""
    now = 1_800_000_000
    for begun, done in enumerate((0, 4, 6)):
        monkeypatch.setattr(time, "time", lambda begun=begun: now + begun * seconds)
        log = TrainingLog(tmp_path, "tensorboard", True, RunState(Conditions(9, 9, "no", 1), step=done))
        for step in range(done + 1, done + 7):
            log.step(step, {"loss": 100.0 * begun + step})
        log.flush()
        for board in log.boards.values():
            board.close()
    expected = {**{step: step for step in range(1, 5)}, 5: 105, 6: 106, **{step: 200 + step for step in range(7, 13)}}
    assert scalars_of(tmp_path, "steps")["loss"] == expected


@pytest.mark.parametrize("bf16, amx, machine, found", [(0, 0, "x86_64", 0), (1, 0, "x86_64", 1), (0, 1, "AMD64", 1)])
def test_bf16_instructions_are_found(bf16, amx, machine, found, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    for name, value in (("_is_avx512_bf16_supported", bf16), ("_is_amx_tile_supported", amx)):
        monkeypatch.setattr(torch.cpu, name, lambda value=value: bool(value), raising=False)
    assert launch.has_bf16() == bool(found)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert launch.has_bf16()
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert launch.has_bf16()  # another version of torch: unknown


@pytest.mark.parametrize("precision, notes", [("bf16", 1), ("no", 0)])
def test_a_slow_precision_is_said(precision, notes, monkeypatch, capsys):
    from accelerate.state import AcceleratorState, GradientState

    for state in (AcceleratorState, GradientState):
        state._reset_state(**({"reset_partial_state": True} if state is AcceleratorState else {}))
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(launch, "has_bf16", lambda: False)
    launch.make_accelerator()
    assert capsys.readouterr().out.count("--mixed_precision no") == notes
