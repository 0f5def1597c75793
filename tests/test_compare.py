"""Scores over the runs of several folds or seeds."""

import json

import pytest
import yaml

FLAGS = {"dataset": "kitti", "model": "streetnet", "folds": "f.json"}


def make_run(folder, flags, iou, scores="best/training.json", **means):
    """Write what `compare` reads of a run: arguments, results and scores by class."""
    (folder / scores).parent.mkdir(parents=True, exist_ok=True)
    (folder / "args.yaml").write_text(yaml.safe_dump(flags))
    (folder / "results.json").write_text("{}")
    known = [value for value in iou.values() if value is not None]
    found = {"mean_iou": sum(known) / len(known), "mean_accuracy": 0.5, "overall_accuracy": 0.75, **means, "iou": iou}
    (folder / scores).write_text(json.dumps({"validation": found} if scores.startswith("best") else found))
    return folder


def rows_of(said):
    """Return {class: columns} of the first table."""
    lines = [line for line in said.split("\n\n")[0].splitlines() if line.count(".") >= 1 or line.endswith(" 0")]
    return {line[:16].strip(): line[16:].split() for line in lines}


def test_means_and_deviations_by_class(in_process, tmp_path, capsys):
    scores = ({"road": 0.9, "car": 0.5, "bus": None}, {"road": 0.8, "car": 0.6, "bus": 0.1}, {"road": 0.7, "car": 0.7})
    runs = [make_run(tmp_path / f"r{i}", {**FLAGS, "fold": str(i)}, iou) for i, iou in enumerate(scores)]
    in_process("seg_runs.compare", *runs)
    said = capsys.readouterr().out
    assert said.startswith("3 runs; folds 0, 1, 2\n")
    rows = rows_of(said)
    assert rows["road"] == ["0.8000", "0.1000", "0.7000", "0.9000", "3"]
    assert rows["car"] == ["0.6000", "0.1000", "0.5000", "0.7000", "3"]
    assert rows["bus"] == ["0.1000", "-", "0.1000", "0.1000", "1"]
    assert rows["mean IoU"] == ["0.6333", "0.1155", "0.5000", "0.7000", "3"]
    assert rows["pixel accuracy"] == ["0.7500", "0.0000", "0.7500", "0.7500", "3"]


def test_a_class_that_no_run_has_is_a_dash(in_process, tmp_path, capsys):
    runs = [make_run(tmp_path / f"r{i}", {**FLAGS, "seed": i}, {"road": 0.9, "bus": None}) for i in range(2)]
    in_process("seg_runs.compare", *runs)
    assert rows_of(capsys.readouterr().out)["bus"] == ["-", "-", "-", "-", "0"]


def test_runs_of_other_flags_are_another_group(in_process, tmp_path, capsys):
    runs = []
    for norm, iou in (("batch", 0.5), ("evo", 0.7)):
        for fold in "12":
            flags = {**FLAGS, "norm": norm, "fold": fold, "seed": 3, "output_dir": f"{norm}{fold}"}
            runs.append(make_run(tmp_path / f"{norm}{fold}", flags, {"road": iou + int(fold) / 100}))
    in_process("seg_runs.compare", *runs)
    first, second, ranking = capsys.readouterr().out.strip().split("\n\n")
    assert first.startswith("2 runs; --norm batch; folds 1, 2; seed 3\n") and second.startswith("2 runs; --norm evo;")
    assert ranking.splitlines()[0] == "mean IoU"
    assert ranking.splitlines()[1].startswith("0.7150 +- 0.0071  2 runs; --norm evo")
    assert ranking.splitlines()[2].startswith("0.5150 +- 0.0071  2 runs; --norm batch")


def test_scores_of_a_prediction_can_be_compared(in_process, tmp_path, capsys):
    run = make_run(tmp_path / "r", FLAGS, {"road": 0.25}, scores="scores_val.json")
    in_process("seg_runs.compare", run, "--scores", "scores_val.json")
    assert rows_of(capsys.readouterr().out)["road"] == ["0.2500", "-", "0.2500", "0.2500", "1"]


def test_what_is_no_complete_run_is_named_and_left_out(in_process, tmp_path, capsys):
    run = make_run(tmp_path / "whole", FLAGS, {"road": 0.9})
    unfinished = make_run(tmp_path / "unfinished", FLAGS, {"road": 0.9})
    (unfinished / "results.json").unlink()
    blind = make_run(tmp_path / "blind", FLAGS, {"road": 0.9})
    (blind / "best" / "training.json").write_text("{}")
    in_process("seg_runs.compare", run, unfinished, blind, tmp_path / "nowhere")
    said = capsys.readouterr().out
    assert f"note: {unfinished} is left out: it has no results.json" in said
    assert f"note: {blind} is left out: it was not validated" in said
    assert f"note: {tmp_path / 'nowhere'} is left out: it has no args.yaml" in said and "\n1 run\n" in said


@pytest.mark.parametrize("content", ['{"validation": {"mean_iou": 1}}', '{"validation": [1]}', "[]", "{"])
def test_damaged_scores_are_one_line(in_process, tmp_path, capsys, content):
    run = make_run(tmp_path / "r", FLAGS, {"road": 0.9})
    (run / "best" / "training.json").write_text(content)
    with pytest.raises(SystemExit) as stop:
        in_process("seg_runs.compare", run)
    said = capsys.readouterr().err
    assert stop.value.code and "training.json" in said and said.count("\n") == 1


def test_no_complete_run_is_one_line(in_process, tmp_path, capsys):
    with pytest.raises(SystemExit):
        in_process("seg_runs.compare", tmp_path)
    assert f"none of 1 folders is a complete run with best/training.json: {tmp_path}" in capsys.readouterr().err


def test_it_reads_what_training_writes(in_process, toycity, tmp_path, capsys):
    flags = (
        "--dataset toycity --model streetnet --crop_size 32 64 --batch_size 2 --num_workers 0 --report_to none".split()
    )
    for seed in (1, 2):
        in_process(
            "train_seg", *flags, "--dataset_path", toycity, "--epochs", 1, "--seed", seed, "--output_dir", f"run{seed}"
        )
    capsys.readouterr()
    in_process("seg_runs.compare", "run1", "run2")
    said = capsys.readouterr().out
    assert said.startswith("2 runs; seeds 1, 2\n") and rows_of(said)["mean IoU"][-1] == "2"
