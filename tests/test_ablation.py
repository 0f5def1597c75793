"""benchmarks/ablation.py trains what is missing, goes on after an interruption, and compares with intervals."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import rows_of

from benchmarks import ablation
from data_scripts.fold_files import load_data


@pytest.fixture
def run(in_process, toycity, tmp_path, monkeypatch):
    """`run(*flags)` makes two runs of two steps on ToyCity and returns the scripts that it started."""
    names = load_data("toycity", str(toycity))[0]["train"]["name"]
    (tmp_path / "folds.json").write_text(json.dumps({"a": names[:3]}))
    common = {"dataset": "toycity", "folds": "folds.json", "fold": "a", "model": "streetnet", "crop_size": [32, 64]}
    common |= {"batch_size": 2, "max_train_steps": 2, "select": "last", "num_workers": 0, "report_to": "none"}
    content = {"common": common, "runs": {"baseline": {}, "Other rate 0.01": {"learning_rate": 0.01}}}
    (tmp_path / "ablation.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    def start(*flags) -> list[str]:
        started = []

        def launch(script, *given, precision, threads, log):
            started.append(script)
            in_process(script.removesuffix(".py"), *given)

        monkeypatch.setattr(ablation, "launch", launch)
        fixed = ["ablation.py", "ablation.yaml", "--dataset_path", str(toycity), "--out", "out"]
        monkeypatch.setattr("sys.argv", [*fixed, *flags])
        ablation.main()
        return started

    return start


def test_runs_are_trained_once_and_compared(run, tmp_path, capsys):
    assert run("--only", "Other rate 0.01") == ["train_seg.py", "predict_seg.py"] * 2
    table = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    for row, folder in zip(table[1:], ("baseline-seed0", "other-rate-0.01-seed0"), strict=True):
        assert row[1] == rows_of(tmp_path / "out" / folder)[-1]["mean_iou"]
        low, high = map(float, re.findall(r"[\d.]+", row[2]))
        assert low <= float(row[1]) <= high
    assert table[1][3].strip() == "" and float(table[2][3]) == pytest.approx(
        float(table[2][1]) - float(table[1][1]), abs=1e-3
    )
    assert run() == []  # everything exists
    recipes = {path.name for path in (tmp_path / "out").glob("*.yaml")}
    assert recipes == {"baseline-seed0.yaml", "other-rate-0.01-seed0.yaml"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "it needs 'runs'"),
        ("common: {}", "it needs 'runs'"),
        ("runs: [a]", "it needs 'runs'"),
        ("runs: {a: }", "'a' is not a name with a mapping of flags"),
        ("runs: {1: {}}", "1 is not a name with a mapping of flags"),
        ("runs: {a: {}, a: {}}", "a is there twice"),
        ("runs: {ce + lovasz: {}, ce lovasz: {}}", "would share the folder"),
        ("runs: {", "expected"),
    ],
)
def test_a_faulty_file_is_one_line(run, tmp_path, capsys, content, said):
    (tmp_path / "ablation.yaml").write_text(content)
    with pytest.raises(SystemExit):
        run()
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_runs_that_began_with_other_flags_are_refused(run, tmp_path, capsys):
    run()
    path = tmp_path / "ablation.yaml"
    path.write_text(path.read_text().replace("0.01", "0.02", 1).replace("rate: 0.01", "rate: 0.02"))
    path.write_text(path.read_text().replace("Other rate 0.02", "Other rate 0.01"))
    with pytest.raises(SystemExit):
        run()
    assert "other-rate-0.01-seed0 began with other flags" in capsys.readouterr().err
    assert run("--table") == []


@pytest.mark.slow
def test_predictions_at_several_scales_do_not_count(run, in_process, tmp_path):
    run()
    in_process("predict_seg", "--model_name_or_path", tmp_path / "out" / "baseline-seed0", "--splits", "val", "--mst")
    assert run() == ["predict_seg.py"]


def test_an_interrupted_ablation_goes_on(run, tmp_path):
    run()
    folder = tmp_path / "out" / "other-rate-0.01-seed0"
    (folder / "scores_val.json").unlink()  # killed while predicting
    assert run("--table") == []
    assert run() == ["predict_seg.py"]
    for name in ("scores_val.json", "results.json"):  # killed while training
        (folder / name).unlink()
    assert run() == ["train_seg.py", "predict_seg.py"]
    assert (folder / "results.json").exists() and len(rows_of(folder)) == 2


def test_an_unknown_run_is_refused(run, capsys):
    with pytest.raises(SystemExit):
        run("--only", "nothing")
    assert "it has no run nothing" in capsys.readouterr().err


def test_several_jobs_print_into_a_file_each(run, tmp_path, monkeypatch, capsys):
    """Nothing is trained here, because a training in this process needs the main thread."""
    launched, limits = [], []

    def run_command(command, stdout, env, **_):
        launched.append((command, stdout.name))
        limits.append(env["OMP_THREAD_LIMIT"])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(ablation.subprocess, "run", run_command)
    monkeypatch.setattr(ablation, "available_cores", lambda: 7)
    flags = ["--jobs", "2", "--flags", "--max_train_steps", "1"]
    monkeypatch.setattr("sys.argv", ["ablation.py", "ablation.yaml", "--dataset_path", "d", "--out", "out", *flags])
    ablation.main()
    trainings = [(command, log) for command, log in launched if "--output_dir" in command]
    assert sorted(log for _, log in trainings) == ["out/baseline-seed0.log", "out/other-rate-0.01-seed0.log"]
    assert all(command[command.index("--max_train_steps") + 1] == "1" for command, _ in trainings)
    assert len(launched) == 4 and set(limits) == {"3"}  # threads of each; both share the cores
    assert "nothing to compare with" in capsys.readouterr().out


@pytest.mark.parametrize(("log", "said"), [(None, 1), (Path("a.log"), "train_seg.py failed: a.log says why")])
def test_a_run_that_fails_ends_the_program_without_a_traceback(monkeypatch, tmp_path, log, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ablation.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1))
    with pytest.raises(SystemExit) as ended:
        ablation.launch("train_seg.py", precision="no", log=log)
    assert ended.value.code == said
