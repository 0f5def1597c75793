"""The official Cityscapes figures: hand-computed values, and cityscapesScripts on random, adversarial and real maps."""

import math

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from metrics.cityscapes import MEAN_SIZES, NUM_IDS, SCORED, CityscapesCounts, tables

REAL = ROOT.parent / "shared" / "real" / "cityscapes" / "gtFine" / "train" / "aachen"
AVERAGES = ("Classes", "InstClasses", "Categories", "InstCategories")


@pytest.fixture
def official(monkeypatch):
    """cityscapesScripts, silent. Its 2.3.0 calls np.in1d, which numpy 2.4 no longer has."""
    evaluation = pytest.importorskip(
        "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling", reason="needs cityscapesScripts (pip extra dev)"
    )
    if not hasattr(np, "in1d"):
        monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    for name, value in {"evalInstLevelScore": True, "quiet": True, "JSONOutput": False}.items():
        monkeypatch.setattr(evaluation.args, name, value)
    return evaluation


def write(folder, images):
    """Write (prediction, label, instances) of each image, and return the paths of predictions and labels."""
    folder.mkdir(exist_ok=True)
    predictions, labels = [], []
    for number, (prediction, label, instances) in enumerate(images):
        predictions.append(str(folder / f"{number}_prediction.png"))
        labels.append(str(folder / f"{number}_gtFine_labelIds.png"))
        Image.fromarray(prediction).save(predictions[-1])
        Image.fromarray(label).save(labels[-1])
        Image.fromarray(instances).save(labels[-1].replace("labelIds", "instanceIds"))
    return predictions, labels


def assert_equal_to(official, folder, images):
    counts = CityscapesCounts()
    for prediction, label, instances in images:
        counts.add(prediction, label, instances)
    scores = counts.scores()
    expected = official.evaluateImgLists(*write(folder, images), official.args)
    for key in ("classScores", "classInstScores", "categoryScores", "categoryInstScores"):
        expected[key].pop("license plate", None)
        assert list(scores[key]) == list(expected[key])
        assert list(scores[key].values()) == pytest.approx(list(expected[key].values()), abs=1e-9, nan_ok=True), key
    for name in AVERAGES:
        key = f"averageScore{name}"
        assert scores[key] == pytest.approx(expected[key], abs=1e-9, nan_ok=True)
    return scores


def scene(rng, ids=range(NUM_IDS), size=(40, 60), right=0.5):
    """A label of random ids, objects on some of it, and a prediction that is right with probability `right`."""
    label = np.kron(rng.choice(list(ids), (size[0] // 4, size[1] // 4)), np.ones((4, 4))).astype(np.uint8)
    things = np.isin(label, [*MEAN_SIZES, 29, 30])
    numbers = rng.integers(0, 4, label.shape)
    instances = np.where(things & (numbers > 0), label.astype(np.uint16) * 1000 + numbers, label).astype(np.uint16)
    prediction = np.where(rng.random(label.shape) < right, label, rng.choice(list(ids), label.shape))
    return prediction.astype(np.uint8), label, instances


@pytest.mark.parametrize("ids", [range(NUM_IDS), SCORED, (7, 26), (24, 25, 29, 30, 33), (0, 4)])
def test_random_maps_score_as_the_official_script_says(official, tmp_path, ids):
    rng = np.random.default_rng(len(ids))
    assert_equal_to(official, tmp_path, [scene(rng, ids, right=right) for right in (0, 0.5, 1)])


def adversarial(name):
    rng = np.random.default_rng(5)
    prediction, label, instances = scene(rng)
    if name == "everything ignored":
        label[:] = 0
    elif name == "no object":
        instances = label.astype(np.uint16)
    elif name == "objects where the label says road":
        label[:] = 7
    elif name == "one class predicted":
        prediction[:] = 26
    elif name == "only ids that are not scored predicted":
        prediction[:] = 30
    elif name == "groups of objects":  # a region of several objects has the bare id, here also 1000
        instances[:10], instances[10:20] = 26, 1000
    elif name == "objects of one pixel":
        instances = (24000 + np.arange(label.size) % 900 + 1).astype(np.uint16).reshape(label.shape)
    elif name == "objects of ids below 7":
        instances[:5], instances[5:9] = 1001, 6999
    elif name == "one pixel":
        prediction, label, instances = prediction[:1, :1], label[:1, :1], instances[:1, :1]
    return prediction, label, instances


@pytest.mark.parametrize(
    "name",
    [
        *("everything ignored", "no object", "objects where the label says road", "one class predicted"),
        *("only ids that are not scored predicted", "groups of objects", "objects of one pixel"),
        *("objects of ids below 7", "one pixel"),
    ],
)
def test_adversarial_maps_score_as_the_official_script_says(official, tmp_path, name):
    assert_equal_to(official, tmp_path, [adversarial(name)])


def test_real_frames_score_as_the_official_script_says(official, tmp_path):
    if not REAL.is_dir():
        pytest.skip("needs frames of Cityscapes, which may not be passed on")
    rng, images = np.random.default_rng(0), []
    for path in sorted(REAL.glob("*_labelIds.png")):
        label = np.asarray(Image.open(path))[:, ::2]
        instances = np.asarray(Image.open(str(path).replace("labelIds", "instanceIds")))[:, ::2].astype(np.uint16)
        shifted = np.roll(label, rng.integers(5, 30, 2), (0, 1))  # a prediction with wrong outlines
        images.append((shifted, label, instances))
    scores = assert_equal_to(official, tmp_path, images)
    assert 0.2 < scores["averageScoreClasses"] < 1 and scores["classInstScores"]["car"] > 0


def test_scores_by_hand():
    """Two cars of 1 and 3 pixels, the small one found; a person found as a rider; road predicted as car once."""
    label = np.array([[26, 26, 26, 26, 24, 7, 7, 0]], np.uint8)
    instances = np.array([[26001, 26002, 26002, 26002, 24001, 7, 7, 0]], np.uint16)
    prediction = np.array([[26, 26, 7, 7, 25, 26, 7, 26]], np.uint8)
    counts = CityscapesCounts()
    counts.add(prediction, label, instances)
    scores, car = counts.scores(), MEAN_SIZES[26]
    assert scores["classScores"]["car"] == pytest.approx(2 / 5)
    assert scores["classScores"]["road"] == pytest.approx(1 / 4)
    assert scores["classScores"]["rider"] == 0 and math.isnan(scores["classScores"]["bus"])
    assert scores["classInstScores"]["car"] == pytest.approx(car * (1 + 1 / 3) / (2 * car + 1))
    assert math.isnan(scores["classInstScores"]["road"])
    assert scores["categoryScores"]["human"] == 1 and scores["categoryInstScores"]["human"] == 1
    assert scores["averageScoreClasses"] == pytest.approx((2 / 5 + 1 / 4 + 0 + 0) / 4)


def test_the_table_has_the_layout_of_the_tutorial():
    label = np.array([[26, 26, 7, 7]], np.uint8)
    counts = CityscapesCounts()
    counts.add(np.array([[26, 7, 7, 7]], np.uint8), label, np.array([[26001, 26001, 7, 7]], np.uint16))
    lines = tables(counts.scores()).splitlines()
    assert lines[:3] == ["classes          IoU      nIoU", "-" * 32, "road          : 0.667      nan"]
    assert "car           : 0.500    0.500" in lines and "Score Average : 0.583    0.500" in lines
    assert "bicycle       :   nan      nan" in lines and "vehicle       : 0.500    0.500" in lines


def test_without_instance_maps_there_are_no_weighted_scores():
    counts = CityscapesCounts()
    ids = np.array([[26, 255]], np.uint8)
    counts.add(np.array([[26, 7]], np.uint8), ids, None)
    scores = counts.scores()
    assert scores["classScores"]["car"] == 1 and math.isnan(scores["classScores"]["road"])  # 255 is ignored
    assert math.isnan(scores["classInstScores"]["car"]) and math.isnan(scores["averageScoreInstCategories"])


@pytest.mark.parametrize(
    ("prediction", "instances", "message"),
    [(40, 26001, "holds id 40"), (26, 7001, "object of id 7"), (26, 34001, "object of id 34"), (26, None, r"\(1, 2\)")],
)
def test_what_cannot_be_scored_is_refused(prediction, instances, message):
    label = np.full((1, 1), 26, np.uint8)
    objects = np.zeros((1, 2), np.uint16) if instances is None else np.full((1, 1), instances, np.uint16)
    counts = CityscapesCounts()
    with pytest.raises(ValueError, match=message):
        counts.add(np.full((1, 1), prediction, np.uint8), label, objects)
    assert not counts.pixels.any()
