"""What a new, a resumed and an overwritten run do to the folder that they get, and to what else lies in it."""

import json
import shutil

import pytest
from test_run import FAST, trained  # noqa: F401 - a fixture

from data_scripts.toycity import write_toycity
from seg_runs.epoch_rows import COLUMNS, append_row, cut_rows, read_rows
from seg_runs.run_folder import OVERWRITTEN
from seg_runs.trackers import Trackers


@pytest.fixture
def train(in_process, toycity):
    """`train(*flags)` trains a step."""
    return lambda *flags: in_process("train_seg", *FAST, "--dataset_path", toycity, "--max_train_steps", 1, *flags)


@pytest.fixture
def refused(train, capsys):
    """`refused(*flags)` returns the line that refuses them."""

    def run(*flags, start=train) -> str:
        with pytest.raises(SystemExit) as ended:
            start(*flags)
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert ended.value.code
        return line

    return run


def files_in(folder):
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("overwrite", [(), ("--overwrite_output_dir",)])
@pytest.mark.parametrize(
    "name", ["images/train/a.jpg", "checkpoints/resnet.pth", "checkpoints/net/x", "best/photo.jpg"]
)
def test_a_folder_with_other_files_is_no_run(refused, tmp_path, name, overwrite):
    """Such as a data set, or this project's own folder."""
    path = tmp_path / "mine" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    line = refused("--output_dir", tmp_path / "mine", *overwrite)
    first = "/".join(name.split("/")[:2])
    assert f"holds files that no training wrote, such as {first}: choose another folder" in line
    assert files_in(tmp_path / "mine") == {name: 4}


def test_only_what_runs_and_predictions_write_is_overwritten(train, tmp_path):
    run = tmp_path / "r"
    train("--output_dir", run)
    for name in ("results_2023/notes.txt", "results_val/a.png", "results_val.zip", "scores_val.json", "diary.txt"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("old")
    (run / "images" / ".DS_Store").write_text("")
    (run / "checkpoints" / "Thumbs.db").write_text("")
    train("--output_dir", run, "--overwrite_output_dir", "--seed", 1)
    assert {path.name for path in run.iterdir()} == {
        *("args.yaml", "best", "checkpoints", "images", "learning_curve.png", "log_epoch.csv", "results.json", ".lock"),
        *("results_2023", "diary.txt", ".predicting.lock"),
    }


def test_a_run_that_cannot_begin_overwrites_nothing(train, refused, tmp_path, monkeypatch):
    from seg_runs.errors import RunError

    run = tmp_path / "r"
    train("--output_dir", run, "--max_train_steps", 2, "--checkpointing_steps", 1)
    before = files_in(run)

    def fail(*_):
        (run / "tensorboard").mkdir(exist_ok=True)
        raise RunError("--report_to x cannot start")

    monkeypatch.setattr(Trackers, "start", fail)
    assert "cannot start" in refused("--output_dir", run, "--overwrite_output_dir", "--seed", 1)
    shutil.rmtree(run / "tensorboard")
    after = files_in(run)
    after.pop(".predicting.lock", None)
    assert after == before and not (run / OVERWRITTEN).exists()
    for checkpoint in (run, run / "checkpoints" / "step_000001"):
        assert "cannot start" in refused("--resume_from_checkpoint", checkpoint, "--max_train_steps", 3)
    assert {**files_in(run), ".predicting.lock": 0} == {**before, ".predicting.lock": 0}  # still complete


@pytest.mark.parametrize("flag", ["--teacher", "--init_from"])
def test_a_run_does_not_overwrite_what_it_learns_from(train, refused, tmp_path, flag):
    run = tmp_path / "r"
    train("--output_dir", run)
    line = refused("--output_dir", run, "--overwrite_output_dir", flag, run / "best")
    assert "--overwrite_output_dir would replace" in line and (run / "results.json").exists()


def test_a_folder_that_cannot_be_is_refused_before_the_data_are_read(refused, tmp_path, in_process, toycity):
    (tmp_path / "file").write_text("")
    flags = ["--output_dir", tmp_path / "file" / "r", "--max_train_steps", 1]
    nothing = tmp_path / "nothing"
    line = refused(*flags, start=lambda *flags: in_process("train_seg", *FAST, "--dataset_path", nothing, *flags))
    assert f"{tmp_path / 'file'} is not a folder: choose another" in line


FLAGS = ["--init_from", "--pretrained_encoder", "--encoder", "--resume_from_checkpoint", "--output_dir", "--folds"]


@pytest.mark.parametrize("flag", FLAGS)
def test_an_empty_value_is_not_a_flag_left_out(refused, flag):
    assert f"{flag} is empty: leave it out, or give it a value" in refused(flag, "")


def test_odd_characters_in_paths_come_back(train, in_process, tmp_path):
    """A no-break space, as macOS puts into names, a tab, and an emoji of two."""
    data = tmp_path / "city\u202falbum\t\U0001f469\u200d\U0001f33e"
    write_toycity(data, train=2, val=2, test=0, size=(96, 192), seed=0)
    run = tmp_path / "r"
    in_process("train_seg", *FAST, "--dataset_path", data, "--max_train_steps", 1, "--output_dir", run)
    in_process("train_seg", "--resume_from_checkpoint", run, "--max_train_steps", 2)


def test_a_line_break_in_a_path_is_refused(refused):
    assert "holds a line break or a control character" in refused("--init_from", "a\nb")


# resuming


@pytest.fixture
def copy(trained, tmp_path):  # noqa: F811
    return shutil.copytree(trained, tmp_path / "copy")


def test_a_resumed_run_does_not_need_its_pictures(copy, in_process):
    shutil.rmtree(copy / "images")
    in_process("train_seg", "--resume_from_checkpoint", copy, "--epochs", 4)
    assert [path.name for path in (copy / "images").iterdir()] == ["epoch_0004.png"]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda text: text.replace("train_loss", "loss"), "has no column train_loss"),
        (lambda text: text.partition("\n")[2], "has no column epoch"),
        (lambda text: text.replace(",", ";"), "could not convert string"),
        (lambda text: text.replace("\n3,", "\n3,x"), "could not convert string"),
        (lambda text: text.replace("\n3,", "\n,"), "has a row without its epoch"),
    ],
)
def test_a_changed_log_is_refused_before_the_training(copy, in_process, refused, edit, said):
    log = copy / "log_epoch.csv"
    log.write_text(edit(log.read_text()))
    flags = ["--resume_from_checkpoint", copy, "--epochs", 4]
    line = refused(start=lambda: in_process("train_seg", *flags))
    assert said in line and "restore it, or delete it" in line and (copy / "results.json").exists()
    log.unlink()
    in_process("train_seg", *flags)


def test_a_log_that_begins_late_has_each_epoch_once(tmp_path):
    """The log of the first epochs was deleted, and the run resumes twice from epoch 5."""
    log = tmp_path / "log_epoch.csv"
    for epoch in (5, 6, 7):
        append_row(log, {"epoch": epoch, "train_loss": 0.5}, [*COLUMNS, "iou/road, paved"])
    cut_rows(log, 5)
    assert [row["epoch"] for row in read_rows(log)] == [5]
    cut_rows(log, 4)
    assert read_rows(log) == [] and log.read_text().startswith("epoch,")
    log.write_text("")
    cut_rows(log, 4)
    assert not log.exists()  # the next row brings a header


def test_new_weights_take_the_scores_of_the_old_ones_away(train, in_process, tmp_path):
    run = tmp_path / "r"
    train("--select", "last", "--output_dir", run)
    in_process("predict_seg", "--model_name_or_path", run, "--splits", "val", "--num_workers", 0)
    assert (run / "scores_val.json").exists()
    in_process("train_seg", "--resume_from_checkpoint", run, "--max_train_steps", 2)
    assert not (run / "scores_val.json").exists()


def test_a_damaged_record_of_best_is_a_note(copy, in_process, capsys):
    (copy / "best" / "training.json").write_text("{")
    in_process("train_seg", "--resume_from_checkpoint", copy, "--epochs", 4)
    assert "best has a damaged training.json: the next validation replaces it" in capsys.readouterr().out


@pytest.mark.parametrize(("old", "new"), [("weight: 2", "weight: 3"), ("name: car", "name: van")])
def test_a_resumed_run_keeps_its_classes(in_process, refused, tmp_path, old, new):
    import numpy as np
    from PIL import Image

    for split, number in (("train", 4), ("val", 1)):
        for i in range(number):
            for kind, shape in (("images", (40, 64, 3)), ("masks", (40, 64))):
                path = tmp_path / "own" / kind / split / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.random.default_rng(i).integers(0, 2, shape, np.uint8)).save(path)
    classes = tmp_path / "own" / "classes.yaml"
    text = "classes:\n- {name: road, id: 0, weight: 1}\n- {name: car, id: 1, weight: 2}\n"
    classes.write_text(text)
    flags = [*FAST[2:], "--dataset_path", tmp_path / "own", "--output_dir", tmp_path / "r", "--max_train_steps", 1]
    in_process("train_seg", *flags)
    classes.write_text(text.replace(old, new))
    resume = ["train_seg", "--resume_from_checkpoint", tmp_path / "r", "--max_train_steps", 2]
    assert "started with other data, which differ in classes" in refused(start=lambda: in_process(*resume))
    classes.write_text(text)
    in_process(*resume)


# predictions


def test_what_belongs_to_earlier_predictions_is_named(copy, in_process, capsys):
    flags = ["predict_seg", "--model_name_or_path", copy, "--splits", "val", "--num_workers", 0]
    in_process(*flags, "--save", "overlay", "shares", "--zip")
    assert (copy / "results_val.zip").exists() and (copy / "shares_val.json").exists()
    capsys.readouterr()
    in_process(*flags, "--mst")
    earlier = [copy / name for name in ("results_overlay_val", "shares_val.json", "results_val.zip")]
    note = f"note: of an earlier prediction, and may not fit this one: {', '.join(map(str, earlier))}"
    assert note in capsys.readouterr().out
    in_process(*flags, "--save", "overlay", "color", "shares", "--zip")
    assert "earlier prediction" not in capsys.readouterr().out


def test_an_output_folder_of_predictions_that_cannot_be(trained, refused, in_process, tmp_path):  # noqa: F811
    (tmp_path / "file").write_text("")
    flags = ["--model_name_or_path", trained, "--output_dir", tmp_path / "file"]
    assert "is not a folder: choose another" in refused(start=lambda: in_process("predict_seg", *flags))


def test_publishing_to_an_empty_folder_name_uploads_nothing(copy, refused):
    from seg_runs import publish

    words = [str(copy), "--hub_model_id", "user/name", "--dry_run", ""]
    assert "--dry_run is empty: name the folder to write" in refused(start=lambda: publish.main(words))


# comparing


@pytest.mark.parametrize("line", ["seed: [1]", "dataset: 5", "eval_dataset: 5", "folds: 7"])
def test_a_report_leaves_out_a_run_with_damaged_flags(copy, trained, line, capsys):  # noqa: F811
    from seg_runs import report

    key = line.partition(":")[0]
    lines = [row for row in (copy / "args.yaml").read_text().splitlines() if not row.startswith(f"{key}:")]
    (copy / "args.yaml").write_text("\n".join([*lines, line]) + "\n")
    report.main([str(copy), str(trained)])
    said = capsys.readouterr().out
    assert ("is left out" in said) == (line == "seed: [1]")  # text may look like a number
    assert json.loads((trained / "results.json").read_text())["step"] == 9
