"""Scoring on the labels of another data set: which classes belong together, and what is counted."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import rows_of
from PIL import Image

from data_scripts.class_map import make_class_map, matched, plain
from data_scripts.labels import CAMVID, CAMVID32, CITYSCAPES, VIRTUAL_KITTI, DataError, LabelInfo

SIZE = (96, 192)


def label_set(*names):
    return LabelInfo("own", names, tuple(range(len(names))), ((0, 0, 0),) * len(names), (255,))


def as_names(network, other, path=None):
    """Return {other class: class of the network that it is scored as, or None} and the same for predictions."""
    found = make_class_map(network, other, path)

    def named(table, names):
        return {name: None if table[i] == 255 else network.names[table[i]] for i, name in enumerate(names)}

    return named(found.labels, other.names), named(found.predictions, network.names)


def test_virtual_kitti_is_scored_on_the_classes_of_cityscapes():
    labels, predictions = as_names(VIRTUAL_KITTI, CITYSCAPES)
    same = ("road", "building", "pole", "traffic light", "traffic sign", "terrain", "sky", "car", "truck")
    assert all(labels[name] == name == predictions[name] for name in same)
    assert labels["vegetation"] == predictions["tree"] == predictions["vegetation"] == "vegetation"
    assert predictions["van"] == predictions["car"] == "car"
    assert predictions["misc"] is predictions["guard rail"] is None
    missing = ("sidewalk", "wall", "fence", "person", "rider", "bus", "train", "motorcycle", "bicycle")
    assert {name for name, value in labels.items() if value is None} == set(missing)
    found = make_class_map(VIRTUAL_KITTI, CITYSCAPES)
    assert found.left_out == missing and found.unused == ("guard rail", "misc")
    assert [VIRTUAL_KITTI.names[i] for i in np.flatnonzero(found.shared)] == ["vegetation", "car"]


def test_several_classes_of_the_other_labels_can_be_one_of_the_network():
    labels, predictions = as_names(CITYSCAPES, VIRTUAL_KITTI)
    assert labels["tree"] == labels["vegetation"] == "vegetation" and labels["van"] == "car"
    assert predictions["sidewalk"] is None and predictions["truck"] == "truck"
    labels, predictions = as_names(CAMVID, CITYSCAPES)
    assert labels["rider"] == labels["bicycle"] == "bicyclist" and labels["person"] == "pedestrian"
    assert labels["sidewalk"] == "pavement" and labels["vegetation"] == "tree" and labels["truck"] is None
    assert predictions["sign symbol"] == "sign symbol" == labels["traffic sign"]


@pytest.mark.parametrize("labels", [CITYSCAPES, CAMVID, CAMVID32, VIRTUAL_KITTI])
def test_a_label_set_maps_to_itself(labels):
    found = make_class_map(labels, labels)
    number = len(labels.names)
    for table in (found.labels, found.predictions):
        assert table[:number].tolist() == [*range(number)] and (table[number:] == 255).all()
    assert not found.shared.any() and not found.left_out and not found.unused


@pytest.mark.parametrize("name", ["SignSymbol", "sign_symbol", "Sign Symbol", "sign-symbol", " sign  symbol "])
def test_spelling_does_not_matter(name):
    assert plain(name) == "sign symbol" and matched((name,), ("sign symbol",)) == [(name, "sign symbol")]


def test_a_file_replaces_the_rules_for_its_classes(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("van: null\nguard rail: [fence, wall]\nmisc: bus\n")
    labels, predictions = as_names(VIRTUAL_KITTI, CITYSCAPES, str(path))
    assert predictions["van"] is None and predictions["car"] == "car"
    assert labels["fence"] == labels["wall"] == predictions["guard rail"] == "guard rail"
    assert labels["bus"] == "misc" and labels["vegetation"] == "vegetation"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("horse: car", "map.yaml: horse is not a class of the network, which has terrain"),
        ("car: horse", "map.yaml: horse is not a class of --eval_dataset, which has road"),
        ("car: [car, 3]", "map.yaml: 3 is not a class of --eval_dataset"),
        ("car: [[car]]", r"map.yaml: \['car'\] is not a class of --eval_dataset"),
        ("car: {car: car}", "is not a class of --eval_dataset"),
        ("[car]: car", "map.yaml cannot be read as YAML at line 1, column 1: .* unhashable key"),
        ("- car", "map.yaml is not a list of 'class of the network"),
        ("", "map.yaml is not a list"),
        ("car: [", "--class_map .*map.yaml cannot be read as YAML at line 1, column 7: .*close brackets"),
        ("\x00", "--class_map .*map.yaml cannot be read as YAML"),
        ("car: car\nvan: car\ncar: truck", "map.yaml cannot be read as YAML at line 3, column 1: car is there twice"),
        ("car: &a car\nvan: *a", "map.yaml cannot be read as YAML at line 2, column 6: write out what"),
        ("#" * 200_001, "map.yaml has more than 200000 bytes"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, content, message):
    path = tmp_path / "map.yaml"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as error:
        make_class_map(VIRTUAL_KITTI, CITYSCAPES, str(path))
    assert "\n" not in str(error.value)


def test_names_that_yaml_takes_for_other_values(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("no: off\n1e3: [2024-01-01, 0x1]\ncar: null\nvan: ~\nbus:\n")
    network, other = label_set("no", "1e3", "car", "van", "bus"), label_set("off", "2024-01-01", "0x1", "car")
    labels, predictions = as_names(network, other, str(path))
    assert labels == {"off": "no", "2024-01-01": "1e3", "0x1": "1e3", "car": None}
    assert predictions == {"no": "no", "1e3": "1e3", "car": None, "van": None, "bus": None}
    path.write_text("car: null")
    labels, _ = as_names(label_set("car"), label_set("car", "null"), str(path))
    assert labels == {"car": None, "null": "car"}  # a class of this name comes first


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="cannot read --class_map .*nothing.yaml"):
        make_class_map(VIRTUAL_KITTI, CITYSCAPES, str(tmp_path / "nothing.yaml"))


def test_labels_without_a_common_class_are_refused():
    with pytest.raises(
        DataError, match=r"no class of own is one of the network's \(a\): name the pairs in a --class_map"
    ):
        make_class_map(label_set("a"), label_set("b"))


def test_scores_worked_out_by_hand():
    """The network has tree, vegetation, misc, road; the labels have vegetation, road, sidewalk."""
    import evaluate

    from seg_jobs.trained_model import METRIC

    network, other = label_set("tree", "vegetation", "misc", "road"), label_set("vegetation", "road", "sidewalk")
    found = make_class_map(network, other)
    truth = torch.tensor([[0, 0, 0, 1], [1, 1, 2, 255]], dtype=torch.uint8)
    predicted = torch.tensor([[0, 1, 2, 3], [3, 1, 3, 0]], dtype=torch.uint8)
    target = torch.from_numpy(found.labels[truth])
    metric = evaluate.load(str(METRIC))
    metric.add_batch(predictions=found.counted(predicted), references=target)
    scores = metric.compute(num_labels=4, ignore_index=255)
    # vegetation: 2 hits, 1 miss (misc), 1 false positive on road; road: 2 hits, 1 miss; sidewalk and void do not count
    assert scores["per_category_iou"][[1, 3]].tolist() == [2 / 4, 2 / 3]
    assert np.isnan(scores["per_category_iou"][[0, 2]]).all() and scores["mean_iou"] == (2 / 4 + 2 / 3) / 2
    assert scores["overall_accuracy"] == 4 / 6
    # the loss is measured on road alone: a label of vegetation does not say which of the two classes is right
    assert found.for_loss(target).tolist() == [[255, 255, 255, 3], [3, 3, 255, 255]]


# Training and prediction


@pytest.fixture
def other(toycity, tmp_path):
    """KITTI's files, made of ToyCity's images and masks: four to validate on."""
    root = tmp_path / "kitti"
    images, labels = root / "training" / "image_2", root / "training" / "semantic"
    for folder in (images, labels):
        folder.mkdir(parents=True)
    found = [sorted(toycity.glob(f"*/train/*_{ending}.png")) for ending in ("leftImg8bit", "labelIds")]
    pairs = list(zip(*found, strict=True))
    for number in range(8):
        image, label = pairs[number % len(pairs)]
        Image.open(image).save(images / f"{number:06}_10.png")
        Image.open(label).save(labels / f"{number:06}_10.png")
    return root


FAST = "--model streetnet --crop_size 32 64 --batch_size 2 --num_workers 0 --report_to none --epochs 1".split()


@pytest.fixture
def virtual(tmp_path):
    """Virtual KITTI 2 of noise: one image of each world that is trained on or validated on."""
    from data_scripts.labels import VIRTUAL_KITTI_COLORS

    root, random = tmp_path / "virtual", np.random.default_rng(0)
    colors = np.array(list(VIRTUAL_KITTI_COLORS.values()), np.uint8)
    for world in ("01", "02", "18"):
        for kind, name in (("rgb", "rgb_00000.png"), ("classSegmentation", "classgt_00000.png")):
            folder = root / f"Scene{world}" / "clone" / "frames" / kind / "Camera_0"
            folder.mkdir(parents=True)
            pixels = (
                random.integers(0, 256, (*SIZE, 3), np.uint8) if kind == "rgb" else colors[random.integers(0, 15, SIZE)]
            )
            Image.fromarray(pixels).save(folder / name)
    return root


def test_training_validates_on_the_other_data_set_and_prediction_agrees(in_process, virtual, other, tmp_path, capsys):
    run = tmp_path / "run"
    in_process("train_seg", *FAST, "--dataset_path", virtual, "--eval_dataset", "kitti", other, "--output_dir", run)
    said = capsys.readouterr().out
    assert "2 images of kitti in" in said and "scored on terrain, sky, tree + vegetation, building" in said
    assert "left out of the score: sidewalk, wall, fence" in said
    assert "predictions of guard rail, misc count as wrong" in said
    row = rows_of(run)[0]
    assert row["iou/misc"] == row["iou/tree"] == "" and float(row["iou/road"]) >= 0
    config = json.loads((run / "best" / "config.json").read_text())
    assert config["eval_dataset"] == "kitti" and config["dataset"] == "virtual_kitti" and config["train_images"] == 2
    card = (run / "best" / "README.md").read_text()
    assert "validation split of KITTI semantics 2015" in card and str(tmp_path) not in card
    assert "Trained on the split `train`, 2 images, of [Virtual KITTI]" in card
    assert (run / "images" / "epoch_0001.png").exists()

    in_process("predict_seg", "--model_name_or_path", run, "--num_workers", 0, "--eval_dataset", "kitti", other)
    again = capsys.readouterr().out
    assert "kitti_val: 2 images" in again and f"mIoU {float(row['mean_iou']):.4f}" in again
    scores = json.loads((run / "scores_kitti_val.json").read_text())
    assert scores["mean_iou"] == json.loads((run / "results.json").read_text())["best_mean_iou"]
    assert scores["iou"]["misc"] is None
    ids = np.asarray(Image.open(run / "results_kitti_val" / "000003_10.png"))
    assert ids.shape == SIZE and set(np.unique(ids)) <= set(range(14))
    in_process("predict_seg", "--model_name_or_path", run, "--num_workers", 0, "--eval_dataset", "kitti", other)
    assert f"mIoU {float(row['mean_iou']):.4f}" in capsys.readouterr().out


def test_a_resumed_run_notices_another_class_map(in_process, virtual, other, tmp_path, capsys):
    """The labels' groups stay the same; only a prediction of `van` no longer counts as a car."""
    rules = tmp_path / "map.yaml"
    rules.write_text("misc: null\n")
    flags = ["--eval_dataset", "kitti", other, "--class_map", rules, "--max_train_steps", 1]
    in_process("train_seg", *FAST, "--dataset_path", virtual, *flags, "--output_dir", tmp_path / "run")
    rules.write_text("misc: null\nvan: null\n")
    with pytest.raises(SystemExit):
        in_process("train_seg", "--resume_from_checkpoint", tmp_path / "run", "--max_train_steps", 2)
    assert "started with other data, which differ in class map" in capsys.readouterr().err


def test_all_images_of_a_data_set_can_be_trained_on(in_process, toycity, other, tmp_path, capsys):
    run = tmp_path / "run"
    flags = ["--dataset", "toycity", "--dataset_path", toycity, "--train_on", "train+val", "--batch_size", 3]
    in_process("train_seg", *FAST, *flags, "--eval_dataset", "kitti", other, "--output_dir", run)
    assert "on 9 images of toycity" in capsys.readouterr().out and rows_of(run)[0]["mean_iou"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--eval_dataset", "kitti"], "--eval_dataset takes a data set and its folder"),
        (["--eval_dataset", "nowhere", "x"], "--eval_dataset nowhere is not known: choose one of minicity"),
        (["--eval_dataset", "kitti", "nowhere"], "no folder nowhere (--eval_dataset)"),
        (["--class_map", "x.yaml"], "--class_map needs --eval_dataset"),
        (
            ["--eval_dataset", "kitti", "x", "--folds", "f", "--fold", "1"],
            "--fold and --eval_dataset exclude each other",
        ),
        (["--eval_dataset", "kitti", "x", "--val_share", "0.2"], "--val_share and --eval_dataset exclude each other"),
        (["--eval_dataset", "toycity", "{toycity}"], "is the data set itself: leave it out"),
    ],
)
def test_what_makes_no_sense_is_refused(in_process, toycity, capsys, flags, message):
    flags = [flag.replace("{toycity}", str(toycity)) for flag in flags]
    with pytest.raises(SystemExit) as stop:
        in_process("train_seg", *FAST, "--dataset", "toycity", "--dataset_path", toycity, *flags)
    said = capsys.readouterr().err
    assert stop.value.code and message in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--input", "photos"], "--eval_dataset and --input exclude each other"),
        (["--zip"], "--zip and --eval_dataset exclude each other"),
        (["--splits", "test"], "--splits test: .* has no such split"),
    ],
)
def test_predictions_that_make_no_sense_are_refused(in_process, other, capsys, flags, message):
    with pytest.raises(SystemExit):
        in_process("predict_seg", "--num_workers", 0, "--eval_dataset", "kitti", other, *flags)
    import re

    assert re.search(message, capsys.readouterr().err)


def test_labels_of_a_run_without_it_are_as_before():
    from data_scripts.evaluation import Scoring

    scoring, ids = Scoring(CAMVID, CAMVID), torch.tensor([[1, 255]], dtype=torch.uint8)
    assert scoring.table is None and scoring.counted(ids) is ids and scoring.for_loss(ids) is ids
    assert scoring.explain() == "" and replace(scoring) == scoring
