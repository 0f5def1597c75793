"""What a run knows of itself: that it comes back from JSON as it was, and that nothing else does."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from seg_runs.errors import RunError
from seg_runs.state import Conditions, RunState, Totals, read_state

STATE = RunState(
    Conditions(
        steps=9,
        steps_per_epoch=3,
        precision="bf16",
        processes=2,
        data={"names": "abc"},
        teachers=["0a"],
        accumulation=2,
    ),
    pretrained="resnet50.a1_in1k",
    started_from=[{"name": "x", "dataset": "camvid", "trained_on": "train+val", "fold": None, "pretrained": "none"}],
    epoch=1,
    step=4,
    skipped=1,
    totals=Totals(1.5, 2.0, 3.0, 4.0),
    seconds=7.25,
    best_mean_iou=0.5,
    best_epoch=1,
    unlogged={"loss": 0.25},
    changes=["from step 3 on: precision bf16 instead of no"],
)
# state.json as a checkpoint of before had it
OLD = {
    **{"epoch": 1, "step": 4, "skipped": 0, "totals": [1.0, 2.0, 3.0, 4.0], "seconds": 1.0, "best_mean_iou": None},
    **{"best_epoch": None, "steps": 9, "steps_per_epoch": 3, "precision": "no", "processes": 1},
}


def test_it_comes_back_as_it_was():
    entries = json.loads(json.dumps(STATE.to_json(), allow_nan=False))
    assert RunState.from_json(entries, Path("state.json")) == STATE
    new = {"pretrained", "started_from", "data", "teachers", "unlogged", "tracking_id", "changes", "accumulation"}
    assert OLD.keys() | new == entries.keys()  # one level: as older versions read it


def test_a_state_of_an_older_run_loads(tmp_path):
    (tmp_path / "state.json").write_text(json.dumps(OLD))
    state = read_state(tmp_path)
    assert state.unlogged == {} and state.tracking_id != read_state(tmp_path).tracking_id  # a new one
    assert (
        state.pretrained == "none"
        and state.conditions.data is None
        and state.conditions.teachers == []
        and state.totals.pixels == 4.0
    )


WRONG = [(key, value) for key in OLD for value in ("x", -1, [], {}, True, 1e308, 10**400) if value != OLD[key]]
WRONG += [
    ("totals", [1.0, 2.0, 3.0]),
    ("totals", [1.0, 2.0, 3.0, None]),
    ("pretrained", 3),
    ("started_from", ["x"]),
    ("started_from", [{"dataset": "camvid"}]),
    ("data", [1]),
    ("teachers", "abc"),
    ("changes", [1]),
    ("accumulation", "x"),
    ("teachers", [3]),
    ("unlogged", {"loss": "x"}),
    ("tracking_id", "../x"),
    ("tracking_id", ""),
    ("step", 99),
]
FINE = {("seconds", -1), ("best_mean_iou", -1)}


@pytest.mark.parametrize(("key", "value"), [pair for pair in WRONG if str(pair) not in map(str, FINE)])
def test_what_no_run_writes_is_refused_in_one_line(key, value, tmp_path):
    with pytest.raises(RunError, match="cannot read .*state.json: ") as refused:
        RunState.from_json({**OLD, key: value}, tmp_path / "state.json")
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


@pytest.mark.parametrize("key", OLD)
def test_a_missing_entry_is_refused_by_its_name(key, tmp_path):
    entries = {name: value for name, value in OLD.items() if name != key}
    with pytest.raises(RunError, match=f"{key} is 'missing'"):
        RunState.from_json(entries, tmp_path / "state.json")


def test_steps_and_epochs_are_counted():
    state = RunState(Conditions(6, 3, "no", 1))
    state.count_step(Totals(1.0, 2.0, 3.0, 4.0))
    state.skip_step()
    state.skip_step()
    assert (state.step, state.skipped, state.totals) == (3, 2, Totals(1.0, 2.0, 3.0, 4.0))
    state.count_step(Totals(1.0, 2.0, 1.0, 4.0))
    assert (state.skipped, state.totals.mean_loss, state.totals.accuracy) == (0, 0.5, 0.5)
    state.end_epoch()
    assert (state.epoch, state.step, state.totals, state.seconds) == (1, 4, Totals(), 0.0)
    assert state.totals.mean_loss is None and state.totals.accuracy is None


def test_what_is_best_can_be_kept_and_lost():
    state = replace(STATE)
    state.keep_best(2, 0.75)
    assert state.results() == {"step": 4, "best_mean_iou": 0.75, "best_epoch": 2}
    state.lose_best()
    assert state.results() == {"step": 4, "best_mean_iou": None, "best_epoch": None} and STATE.best_epoch == 1


@pytest.mark.parametrize(
    ("mean_iou", "val_loss", "select", "improves"),
    [
        (0.6, 1.0, "best", True),
        (0.5, 1.0, "best", False),
        (0.4, 1.0, "last", True),
        (0.6, math.nan, "best", False),
        (0.6, math.inf, "last", False),
    ],
)
def test_which_weights_replace_the_best(mean_iou, val_loss, select, improves):
    scores = {"mean_iou": mean_iou, "val_loss": val_loss}
    assert STATE.improves(scores, select) == improves
    first = replace(STATE, best_mean_iou=None)
    assert first.improves(scores, select) == math.isfinite(val_loss)
    assert STATE.improves(None, select)
