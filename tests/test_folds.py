"""Folds: what is held out, that training and prediction agree on it, and which weights best/ holds."""

import json
import shutil

import pytest
from conftest import CAMVID, ROOT, rows_of
from safetensors.torch import load_file
from test_hub_data import rows, saved

from data_scripts.fold_files import Division, hold_out, load_data, read_fold
from data_scripts.labels import DataError
from seg_runs.lineage import may_have_seen

FAST = "--dataset toycity --model streetnet --crop_size 32 64 --batch_size 2 --num_workers 0 --report_to none".split()


@pytest.fixture
def folds(toycity, tmp_path):
    """A file with two folds of ToyCity's six training images: a holds out the second and fifth, b the first."""
    names = load_data("toycity", str(toycity))[0]["train"]["name"]
    path = tmp_path / "folds.json"
    path.write_text(json.dumps({"a": [names[4], names[1]], "b": [names[0]]}))
    return path


def test_a_fold_is_held_out_of_the_training_images(toycity, folds):
    whole, _ = load_data("toycity", str(toycity))
    data, _ = load_data("toycity", str(toycity), Division(str(folds), "a"))
    names = whole["train"]["name"]
    assert data["validation"]["name"] == [names[1], names[4]]
    assert data["train"]["name"] == [names[0], names[2], names[3], names[5]]
    assert data["train"]["index"] == [0, 1, 2, 3] and data["validation"]["index"] == [0, 1]
    assert data["train"]["image"] == [whole["train"]["image"][i] for i in (0, 2, 3, 5)]
    assert data["test"]["name"] == whole["test"]["name"]


def test_a_fold_can_be_held_out_of_training_and_validation_images_together(toycity, tmp_path):
    whole, _ = load_data("toycity", str(toycity))
    held_out = whole["validation"]["name"][0]
    path = tmp_path / "folds.json"
    path.write_text(json.dumps({"last": [held_out]}))
    data, _ = load_data("toycity", str(toycity), Division(str(path), "last", "train+val"))
    assert data["validation"]["name"] == [held_out] and len(data["train"]) == 6 + 3 - 1
    with pytest.raises(DataError, match=f"{held_out}: there is no such image in train"):
        load_data("toycity", str(toycity), Division(str(path), "last"))


def test_a_name_that_two_splits_have_cannot_be_held_out(toycity):
    data, _ = load_data("toycity", str(toycity))
    data["validation"] = data["train"].select([0])
    with pytest.raises(DataError, match=f"{data['train']['name'][0]} is in both train and validation"):
        hold_out(data, ("train", "validation"), [data["train"]["name"][1]], "fold x")


BAD = {
    "[]": "not a JSON object of folds",
    "{}": "not a JSON object of folds",
    '{"a": "name"}': "not a list of image names",
    '{"a": []}': "not a list of image names",
    '{"a": [1]}': "not a list of image names",
    '{"b": ["x"]}': "--fold a is not in .*choose one of b",
    '{"a": [': "cannot read --folds",
}


@pytest.mark.parametrize("content", BAD)
def test_a_bad_folds_file_is_one_line(content, tmp_path):
    path = tmp_path / "folds.json"
    path.write_text(content)
    with pytest.raises(DataError, match=BAD[content]):
        read_fold(str(path), "a")


def test_nothing_left_to_train_on_is_refused(toycity):
    data, _ = load_data("toycity", str(toycity))
    with pytest.raises(DataError, match="fold x holds out all 6 images"):
        hold_out(data, ("train",), data["train"]["name"], "fold x")


def test_training_and_prediction_agree_on_the_fold(in_process, toycity, folds, tmp_path, capsys):
    run = tmp_path / "run"
    chosen = ["--folds", folds, "--fold", "a"]
    in_process("train_seg", *FAST, "--dataset_path", toycity, *chosen, "--epochs", 2, "--output_dir", run)
    config = json.loads((run / "best" / "config.json").read_text())
    assert (config["fold"], config["train_images"]) == ("a", 4)
    card = (run / "best" / "README.md").read_text()
    assert "without the images of fold a" in card and "on the images of fold a of ToyCity" in card

    capsys.readouterr()
    in_process("predict_seg", "--model_name_or_path", run, "--splits", "val", "--num_workers", 0)
    said = capsys.readouterr().out
    best = max(float(row["mean_iou"]) for row in rows_of(run))
    assert (
        "val: 2 images" in said
        and f"mIoU {best:.4f}" in said
        and "note: this model may have been trained on" not in said
    )

    for given, images in ((["--folds", folds, "--fold", "b"], 1), (["--splits", "train"], 4)):
        splits = [] if "--splits" in given else ["--splits", "val"]
        in_process("predict_seg", "--model_name_or_path", run, "--num_workers", 0, *given, *splits)
        said = capsys.readouterr().out
        assert f": {images} image" in said and "note: this model may have been trained on images of" in said


@pytest.mark.parametrize(
    "trained_on, own, name, held_out, may_have_been",
    [
        ("train", None, "val", None, False),
        ("train", None, "train", None, True),
        ("train+val", None, "val", None, True),
        ("train", "a", "val", "a", False),
        ("train", "a", "val", "b", True),
        ("train", None, "val", "a", True),
        ("train", "a", "val", None, False),
        ("train+val", "a", "val", None, True),  # the data set's split, not the fold
        ("train+val", "a", "val", "a", False),
    ],
)
def test_what_a_model_may_have_been_trained_on(trained_on, own, name, held_out, may_have_been):
    assert may_have_seen({"trained_on": trained_on, "held_out": own}, name, held_out) == may_have_been


def test_a_run_says_that_its_start_may_know_its_validation_images(in_process, toycity, folds, tmp_path, capsys):
    flags = [*FAST, "--dataset_path", toycity, "--max_train_steps", 1]
    in_process("train_seg", *flags, "--output_dir", tmp_path / "first")
    start = [*flags, "--init_from", tmp_path / "first", "--output_dir"]
    note = "note: this model builds on first, which may have been trained on the images that are scored"
    capsys.readouterr()
    in_process("train_seg", *start, tmp_path / "same")
    assert note not in capsys.readouterr().out
    in_process("train_seg", *start, tmp_path / "fold", "--folds", folds, "--fold", "a")
    assert note in capsys.readouterr().out


def test_folds_of_one_name_in_two_files_are_not_taken_for_one(in_process, toycity, folds, tmp_path, capsys):
    names = load_data("toycity", str(toycity))[0]["train"]["name"]
    (tmp_path / "others.json").write_text(json.dumps({"a": names[-2:]}))
    flags = [*FAST, "--dataset_path", toycity, "--max_train_steps", 1, "--fold", "a"]
    in_process("train_seg", *flags, "--folds", folds, "--output_dir", tmp_path / "first")
    start = [*flags, "--init_from", tmp_path / "first"]
    capsys.readouterr()
    for file, is_noted in ((folds, False), (tmp_path / "others.json", True)):
        in_process("train_seg", *start, "--folds", file, "--output_dir", tmp_path / "next", "--overwrite_output_dir")
        assert ("note: this model builds on first" in capsys.readouterr().out) == is_noted
    given = ["--model_name_or_path", tmp_path / "first", "--folds", tmp_path / "others.json", "--fold", "a"]
    in_process("predict_seg", *given, "--splits", "val", "--num_workers", 0)
    assert "note: this model may have been trained on images of val" in capsys.readouterr().out


def test_a_start_that_trained_on_all_images_may_know_a_share_of_them(in_process, toycity, tmp_path, capsys):
    """Only what was held out of both trainings is new to both."""
    shutil.copytree(toycity, tmp_path / "city", ignore=shutil.ignore_patterns("val"))
    flags = [*FAST, "--max_train_steps", 1, "--dataset_path"]
    in_process("train_seg", *flags, toycity, "--output_dir", tmp_path / "all")
    part = [*flags, tmp_path / "city", "--output_dir"]
    in_process("train_seg", *part, tmp_path / "part", "--val_share", 0.3)
    capsys.readouterr()
    for start, share, is_noted in (("all", 0.3, True), ("part", 0.3, False), ("part", 0.5, True)):
        given = [tmp_path / "next", "--overwrite_output_dir", "--val_share", share, "--init_from", tmp_path / start]
        in_process("train_seg", *part, *given)
        assert (f"note: this model builds on {start}" in capsys.readouterr().out) == is_noted


@pytest.mark.parametrize("select", ["best", "last"])
def test_best_holds_what_select_says(in_process, toycity, tmp_path, monkeypatch, capsys, select):
    import train_seg

    scores = iter([0.3, 0.1])  # the first validation is better
    evaluate = train_seg.evaluate_model
    monkeypatch.setattr(train_seg, "evaluate_model", lambda *given: evaluate(*given) | {"mean_iou": next(scores)})
    run = tmp_path / "run"
    flags = ["--dataset_path", toycity, "--epochs", 2, "--keep_checkpoints", 2, "--select", select]
    in_process("train_seg", *FAST, *flags, "--output_dir", run)
    step = {"best": "step_000003", "last": "step_000006"}[select]
    kept, expected = (load_file(f / "model.safetensors") for f in (run / "best", run / "checkpoints" / step))
    assert all(value.equal(expected[name]) for name, value in kept.items())
    what = {"best": "best validation mIoU 0.3000 in epoch 1", "last": "the weights of epoch 2, validation mIoU 0.1000,"}
    assert what[select] in capsys.readouterr().out
    said = {"best": "those that scored best", "last": "the last of the training"}
    assert said[select] in (run / "best" / "README.md").read_text()


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not here")
def test_the_shipped_folds_are_those_that_the_docs_describe():
    path = str(ROOT / "recipes" / "camvid_folds.json")
    t, _ = load_data("camvid", str(CAMVID), Division(path, "T"))
    assert (len(t["train"]), len(t["validation"])) == (235, 132)
    drives = {name.split("_")[0] for name in t["train"]["name"]}
    assert drives == {"0016E5", "0001TP"}
    assert max(int(n.split("_")[1]) for n in t["train"]["name"] if n.startswith("0001TP")) < 7620
    u, _ = load_data("camvid", str(CAMVID), Division(path, "U"))
    assert {name.split("_")[0] for name in u["validation"]["name"]} == {"0016E5"} and len(u["train"]) == 163


def test_the_program_writes_folds_that_training_reads(in_process, city, tmp_path, capsys):
    file = tmp_path / "folds.json"
    in_process("data_scripts.folds", city, file, "--number", 3)
    folds = json.loads(file.read_text())
    names = load_data("toycity", str(city))[0]["train"]["name"]
    assert list(folds) == ["1", "2", "3"] and sorted(sum(folds.values(), [])) == sorted(names)
    assert all(fold == [name for name in names if name in fold] for fold in folds.values())
    said = capsys.readouterr().out
    flags = f"--dataset toycity --dataset_path {city} --folds {file} --fold 1"
    assert f"wrote {file}: train with {flags}" in said and "road" in said
    data, _ = load_data("toycity", str(city), Division(str(file), "2"))
    assert data["validation"]["name"] == folds["2"] and len(data["train"]) == 12 - len(folds["2"])
    in_process("data_scripts.folds", city, tmp_path / "again.json", "--number", 3)
    assert (tmp_path / "again.json").read_bytes() == file.read_bytes()


def test_folds_of_both_splits_keep_sequences_together(in_process, city, tmp_path, capsys):
    file = tmp_path / "folds.json"
    flags = ["--number", 2, "--train_on", "train+val", "--group_by", "([0-9])_leftImg8bit"]
    in_process("data_scripts.folds", city, file, *flags)
    folds = json.loads(file.read_text())
    data, _ = load_data("toycity", str(city))
    names = [*data["train"]["name"], *data["validation"]["name"]]
    assert sorted(sum(folds.values(), [])) == sorted(names) and len(names) == 15
    digits = [{name[-len("0_leftImg8bit")] for name in fold} for fold in folds.values()]
    assert len(digits) == 2 and not digits[0] & digits[1]
    assert "--train_on train+val --folds" in capsys.readouterr().out


def test_images_that_look_alike_share_a_fold(in_process, city, tmp_path):
    copied = tmp_path / "city"
    shutil.copytree(city, copied)
    images = sorted((copied / "leftImg8bit" / "train").iterdir())
    for image in images[1:5]:  # five equal photos
        shutil.copyfile(images[0], image)
    in_process("data_scripts.folds", copied, tmp_path / "folds.json", "--number", 2)
    folds = json.loads((tmp_path / "folds.json").read_text())
    alike = {image.stem for image in images[:5]}
    assert any(alike <= set(fold) for fold in folds.values())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--number", 1], "--number 1 is too small: give 2 or more"),
        (["--number", 13], "--number 13 is more than there are images (12)"),
        (["--number", 2, "--group_by", "(t)oycity"], "--number 2 is more than there are groups of images that"),
        (["--group_by", "("], "--group_by ( is not a regular expression"),
        (["--group_by", "x(y)"], "--group_by x(y) does not match the image"),
        (["--dataset", "kitti"], "(FOLDER) lacks the train folder of a kitti data set"),
        (["--label_column", "mask"], "--image_column and --label_column are for --dataset hub, not toycity"),
    ],
)
def test_wrong_flags_of_the_program_are_one_line(in_process, city, tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit) as stop:
        in_process("data_scripts.folds", city, tmp_path / "folds.json", *flags)
    said = capsys.readouterr().err
    assert stop.value.code and message in said and said.count("\n") == 1 and not (tmp_path / "folds.json").exists()


def test_what_cannot_be_written_is_refused_before_the_images_are_read(in_process, city, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("data_scripts.folds.counts_and_groups", None)
    with pytest.raises(SystemExit):
        in_process("data_scripts.folds", city, tmp_path / "missing" / "folds.json")
    assert "choose a folder that exists and can be written" in capsys.readouterr().err


def test_folds_of_a_data_set_of_the_datasets_library(in_process, tmp_path, capsys):
    root = saved(tmp_path / "d", train=rows(4, image="left", label="right"))
    columns, file = ["--image_column", "left", "--label_column", "right"], tmp_path / "folds.json"
    in_process("data_scripts.folds", root, file, "--dataset", "hub", "--number", 2, *columns)
    assert f"train with --dataset_name {root} {' '.join(columns)} --folds {file}" in capsys.readouterr().out
    data, _ = load_data("hub", root, Division(str(file), "1"), ("left", "right"))
    assert len(data["train"]) + len(data["validation"]) == 4


@pytest.mark.parametrize("flags", [[], ["--dataset", "hub"], ["--dataset", "folder"]])
def test_a_wrong_folder_is_not_reported_as_a_flag(in_process, tmp_path, capsys, flags):
    with pytest.raises(SystemExit):
        in_process("data_scripts.folds", "nothing", tmp_path / "folds.json", *flags)
    assert "no folder nothing (FOLDER)" in capsys.readouterr().err
    if not flags:
        with pytest.raises(SystemExit):
            in_process("data_scripts.folds", saved(tmp_path / "d", train=rows(4)), tmp_path / "folds.json")
        assert "(FOLDER) is a data set of the datasets library: give --dataset hub instead" in capsys.readouterr().err


def test_a_file_of_folds_is_not_written_over(in_process, city, tmp_path, capsys):
    (tmp_path / "folds.json").write_text("mine")
    with pytest.raises(SystemExit):
        in_process("data_scripts.folds", city, tmp_path / "folds.json")
    assert "folds.json exists already" in capsys.readouterr().err
    assert (tmp_path / "folds.json").read_text() == "mine"


def test_two_images_of_one_name_cannot_be_told_apart(in_process, city, tmp_path, capsys):
    copied = tmp_path / "city"
    shutil.copytree(city, copied)
    twin = load_data("toycity", str(city))[0]["train"]["name"][0].removesuffix("_leftImg8bit")
    for path in [*copied.rglob(f"{twin}_*.png")]:
        shutil.copyfile(path, path.parent.parent / "val" / path.name)
    with pytest.raises(SystemExit):
        in_process("data_scripts.folds", copied, tmp_path / "folds.json", "--train_on", "train+val")
    assert "several images of train+val are named" in capsys.readouterr().err


# A benchmark's folder without validation images


@pytest.fixture(scope="module", params=["no folder", "an empty folder"])
def half_a_city(request, city, tmp_path_factory):
    """The training images of a city."""
    root = tmp_path_factory.mktemp("half a city") / "data"
    shutil.copytree(city, root, ignore=shutil.ignore_patterns("val", "test"))
    if request.param == "an empty folder":
        (root / "leftImg8bit" / "val").mkdir()
    return root


def test_missing_validation_images_are_refused_with_both_remedies(half_a_city):
    with pytest.raises(DataError, match="no validation images of a toycity data set.*create it with .*--val_share 0.2"):
        load_data("toycity", str(half_a_city))


def test_a_share_or_a_fold_takes_the_place_of_missing_validation_images(half_a_city, tmp_path):
    data, _ = load_data("toycity", str(half_a_city), Division(val_share=0.25))
    names = data["validation"]["name"]
    assert (len(data["train"]), len(names)) == (9, 3) and not {*names} & {*data["train"]["name"]}
    (tmp_path / "folds.json").write_text(json.dumps({"a": names[:2]}))
    data, _ = load_data("toycity", str(half_a_city), Division(str(tmp_path / "folds.json"), "a"))
    assert sorted(data["validation"]["name"]) == sorted(names[:2]) and len(data["train"]) == 10


def test_a_run_on_a_share_of_a_benchmark_is_recorded_predicted_and_described(half_a_city, in_process, tmp_path):
    run = tmp_path / "run"
    flags = ["--dataset_path", half_a_city, "--val_share", 0.25, "--output_dir", run, "--max_train_steps", 1]
    in_process("train_seg", *FAST, *flags)
    config = json.loads((run / "best" / "config.json").read_text())
    assert config["val_share"] == 0.25 and config["train_images"] == 9
    card = (run / "best" / "README.md").read_text()
    assert "25% were held out for validation" in card and "Measured on the held-out training images of ToyCity" in card
    in_process("predict_seg", "--model_name_or_path", run, "--num_workers", 0)
    held_out = load_data("toycity", str(half_a_city), Division(val_share=0.25))[0]["validation"]["name"]
    assert sorted(path.stem for path in (run / "results_val").glob("*.png")) == sorted(held_out)
