"""wandb and trackio, offline: a row for each step, one run after a resume, and what is done about those that fail."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import launch, rows_of, scalars_of

from seg_runs.arguments import RunOptions
from seg_runs.errors import RunError
from seg_runs.state import Conditions, RunState
from seg_runs.trackers import PROJECT, Trackers, refuse_missing_trackers

FAST = "--dataset toycity --model streetnet --norm group --crop_size 32 64 --batch_size 2 --num_workers 0".split()


def wandb_records(file: Path) -> Iterator:
    """The records of what wandb keeps offline: 7 bytes, then LevelDB's log format, blocks of parts of records."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, record = file.read_bytes(), 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:  # too short for a header of a part
            at += left
            continue
        size, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        record += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # the whole, or its last part
            yield Record.FromString(record)
            record = b""


def wandb_runs(run: Path, _) -> list[tuple[str, list[dict]]]:
    """Id and rows of each launch, in their order."""
    found = []
    for file in sorted((run / "wandb").glob("offline-run-*/*.wandb")):
        rows, name = [], None
        for record in wandb_records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                name = record.run.run_id
                assert (record.run.project, record.run.display_name) == (PROJECT, run.name)
                config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
                assert config["model"] == "streetnet"
            elif kind == "history":
                items = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
                rows.append(
                    {key: json.loads(value) for key, value in items.items()} | {"step": record.history.step.num}
                )
        found.append((name, rows))
    return found


def trackio_runs(_, folder: Path) -> list[tuple[str, list[dict]]]:
    """Id and rows of each run."""
    script = """import json, trackio; from trackio.sqlite_storage import SQLiteStorage as storage
runs = list(trackio.Api().runs("minicity-seg"))
assert all(run.config["model"] == "streetnet" for run in runs)
print(json.dumps([(run.id, storage.get_logs("minicity-seg", run.name, run_id=run.id)) for run in runs]))"""
    environment = {**os.environ, "TRACKIO_DIR": str(folder)}
    return json.loads(subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True).stdout)


@pytest.mark.parametrize(
    "tracker, runs_of", [pytest.param("wandb", wandb_runs, marks=pytest.mark.slow), ("trackio", trackio_runs)]
)
def test_a_run_and_its_resumption_on_two_processes_are_one_run_with_a_row_for_each_step(
    tracker, runs_of, toycity, tmp_path
):
    pytest.importorskip(tracker, reason=f"an extra: pip install {tracker}")
    run, env = tmp_path / "r", {"WANDB_MODE": "offline", "TRACKIO_DIR": str(tmp_path / "trackio")}
    flags = [*FAST, "--dataset_path", toycity, "--output_dir", run, "--report_to", "tensorboard", tracker]
    resume = ["--resume_from_checkpoint", run, "--epochs", 2]
    for processes, given in ((1, [*flags, "--epochs", 1]), (2, resume)):
        result = launch("train_seg.py", *given, processes=processes, env=env, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    runs = runs_of(run, tmp_path / "trackio")
    if tracker == "wandb":  # offline, a launch is a file, and the id says that they are one run
        assert len(runs) == 2 and runs[0][0] == runs[1][0]
    else:
        assert len(runs) == 1
    rows = [row for _, rows in runs for row in rows]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    shown = scalars_of(run)
    for row in rows:  # TensorBoard's numbers have 32 bits
        numbers = {key: value for key, value in row.items() if "/" in key}
        there = {key: values[row["step"]] for key, values in shown.items() if row["step"] in values and "/" in key}
        assert numbers == pytest.approx(there, rel=1e-6)
    assert list(shown["train/loss"]) == [1, 2, 3, 4, 5, 6] and list(shown["val/iou/road"]) == [3, 6]
    for row, epoch in zip(rows[2::3], rows_of(run), strict=True):
        assert f"{row['val/mean_iou']:.4f}" == epoch["mean_iou"]
        assert f"{row['val/iou/traffic light']:.4f}" == epoch["iou/traffic light"]


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch, in_process, capsys):
    from accelerate import tracking
    from accelerate.utils import LoggerType

    monkeypatch.setattr(tracking, "_available_trackers", [LoggerType.TENSORBOARD])
    refuse_missing_trackers(RunOptions())
    with pytest.raises(SystemExit):
        in_process(
            "train_seg", "--report_to", "tensorboard", "wandb", "--dataset", "camvid", "--dataset_path", "nowhere"
        )
    assert capsys.readouterr().err == "error: --report_to wandb: it is not installed: pip install wandb\n"


class Failing:
    """A tracker whose server is gone."""

    name = "wandb"

    def __init__(self):
        self.asked = []

    def log(self, values, step):
        self.asked.append(step)
        raise ConnectionResetError("the service is gone")


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(tmp_path, capsys):
    trackers, failing = Trackers(None, tmp_path), Failing()
    trackers.active = [failing]
    for step in (1, 2):
        trackers.log(step, {"train/loss": 1.0})
    assert failing.asked == [1]
    assert capsys.readouterr().out == "note: nothing goes to wandb from now on: the service is gone\n"


class Accelerator:
    """As much of accelerate's as `Trackers.start` needs, with a tracker that cannot start."""

    log_with = ("wandb",)

    class project_configuration:
        logging_dir = None

    def init_trackers(self, *_, **__):
        raise Exception("no API key configured\nmore")


def test_a_tracker_that_cannot_start_is_one_line(tmp_path):
    with pytest.raises(RunError, match="^--report_to wandb cannot start: no API key configured$"):
        Trackers(Accelerator(), tmp_path).start(RunState(Conditions(1, 1, "no", 1)), {})


def test_a_new_run_whose_tracker_cannot_start_leaves_nothing_in_the_way(toycity, in_process, tmp_path, monkeypatch):
    def fail(*_):
        raise RunError("--report_to tensorboard cannot start: no")

    flags = [*FAST, "--dataset_path", toycity, "--max_train_steps", 1, "--output_dir", tmp_path / "r"]
    with monkeypatch.context() as patch:
        patch.setattr(Trackers, "start", fail)
        with pytest.raises(SystemExit):
            in_process("train_seg", *flags)
    in_process("train_seg", *flags)
    assert (tmp_path / "r" / "results.json").exists()
