"""python -m metrics.score: its numbers, its files, its refusals, and the page of failures in a browser."""

import json
import re
import shutil

import numpy as np
import pytest
from conftest import browse
from PIL import Image

from metrics.cityscapes import CityscapesCounts, tables
from metrics.gallery import LEAST, Mistake, around, image_ious, mistakes_of, worst_images, worst_mistakes
from metrics.intervals import interval
from metrics.score_plots import confusion_plot, reliability_plot
from metrics.score_text import compare, for_json

CLASSES = "classes:\n- {name: road, id: 1, color: [128, 64, 128]}\n- {name: car <b>, id: 2, color: [0, 0, 142]}\n"


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


@pytest.fixture
def own(tmp_path):
    """A folder of two images with two classes, ids 1 and 2, and predictions with known mistakes in a/ and b/."""
    label = np.ones((40, 60), np.uint8)
    label[:, 30:] = 2
    wrong = label.copy()
    wrong[:, 30:40] = 1  # a third of the car is taken for road
    for name in ("one", "two"):
        for split in ("train", "val"):
            save(tmp_path / "data" / "images" / split / f"{name}.png", np.full((40, 60, 3), 90))
            save(tmp_path / "data" / "masks" / split / f"{name}.png", label)
        save(tmp_path / "a" / "results_val" / f"{name}.png", wrong if name == "two" else label)
        save(tmp_path / "b" / "results_val" / f"{name}.png", wrong)
    (tmp_path / "data" / "classes.yaml").write_text(CLASSES)
    return tmp_path


@pytest.fixture
def score(in_process, tmp_path):
    """`score(data, folder, *flags)` scores the predictions in `folder`, and returns what scores.json holds."""

    def run(data, folder, *flags):
        in_process("metrics.score", "--results", folder, "--dataset_path", data, "--repeats", 50, *flags)
        return json.loads((folder / "score_val" / "scores.json").read_text())

    return run


def test_a_run_knows_its_data(own, in_process, capsys):
    """Also the share that was held out; a flag wins over it."""
    shutil.rmtree(own / "data" / "images" / "val")
    shutil.rmtree(own / "data" / "masks" / "val")
    rng = np.random.default_rng(0)
    for name in ("one", "two", "three", "four"):
        save(own / "data" / "images" / "train" / f"{name}.png", rng.integers(0, 256, (40, 60, 3)))
        save(own / "data" / "masks" / "train" / f"{name}.png", np.arange(60)[None].repeat(40, 0) // 30 + 1)
        save(own / "a" / "results_val" / f"{name}.png", np.ones((40, 60)))
    (own / "a" / "args.yaml").write_text(f"dataset: folder\ndataset_path: {own / 'data'}\nval_share: 0.5\n")
    in_process("metrics.score", "--results", own / "a", "--repeats", 50)
    assert f"the data are those of {own / 'a' / 'args.yaml'}" in capsys.readouterr().out
    settings = json.loads((own / "a" / "score_val" / "scores.json").read_text())["settings"]
    assert settings["val_share"] == 0.5
    in_process("metrics.score", "--results", own / "a" / "results_val", "--repeats", 50, "--val_share", 0.25)
    settings = json.loads((own / "a" / "score_val" / "scores.json").read_text())["settings"]
    assert settings["val_share"] == 0.25


def test_scores_of_ones_own_data_by_hand(own, score, capsys):
    found = score(own / "data", own / "a")
    road, car = 2400 / (2400 + 400), 2000 / 2400
    assert found["classes"]["road"]["iou"] == pytest.approx(road)
    assert found["classes"]["car <b>"]["iou"] == pytest.approx(car)
    assert found["classes"]["road"]["dice"] == pytest.approx(2 * 2400 / (2400 + 2800))
    assert found["means"]["mean_iou"] == pytest.approx((road + car) / 2)
    assert found["means"]["pixel_accuracy"] == pytest.approx(4400 / 4800)
    assert found["means"]["frequency_weighted_iou"] == pytest.approx((road + car) / 2)  # as many pixels of each
    assert found["confusion"] == [[2400, 0], [400, 2000]]
    # The trimap: 5 pixels on both sides of column 30; in one image those on the right are wrong.
    assert found["classes"]["road"]["trimap_iou"] == pytest.approx(400 / 600)
    assert found["classes"]["car <b>"]["trimap_iou"] == pytest.approx(200 / 400)
    # The distance is 0.02 x 72 = 1 pixel. Road: rings of 40 x 30 (136 pixels) and of 40 x 40 (156), common 60 + 38.
    assert found["classes"]["road"]["boundary_iou"] == pytest.approx((136 + 98) / (136 + 136 + 156 - 98))
    lines = (own / "a" / "score_val" / "results.txt").read_text().splitlines()
    assert lines[0] == "classes          IoU" and len(lines) == 7
    assert lines[2] == f"road          : {road:.3f}" and lines[5] == f"Score Average : {(road + car) / 2:.3f}"
    assert f"mIoU {50 * (road + car):.2f} %" in capsys.readouterr().out
    assert {path.name for path in (own / "a" / "score_val").iterdir()} == {
        "scores.json",
        "results.txt",
        "confusion.png",
    }


def test_scores_of_cityscapes_classes_are_the_official_ones(toycity, score, tmp_path):
    counts = CityscapesCounts()
    for path in sorted((toycity / "gtFine" / "val").rglob("*_labelIds.png")):
        label = np.asarray(Image.open(path))
        prediction = np.where(np.roll(label, 4, 1) < 7, 7, np.roll(label, 4, 1)).astype(np.uint8)
        prediction[~np.isin(prediction, [7, 8, 11, 17, 21, 23, 24, 26])] = 7
        save(
            tmp_path / "p" / "results_val" / f"{path.stem.removesuffix('_gtFine_labelIds')}_leftImg8bit.png", prediction
        )
        instances = np.asarray(Image.open(str(path).replace("labelIds", "instanceIds"))).astype(np.uint16)
        counts.add(prediction, label, instances)
    found = score(toycity, tmp_path / "p")["cityscapes"]
    assert found == for_json(counts.scores()) and found["averageScoreInstClasses"] > 0
    assert (tmp_path / "p" / "score_val" / "results.txt").read_text() == tables(counts.scores()) + "\n"


@pytest.mark.parametrize("dataset", ["toycity", "minicity"])
def test_the_page_says_what_may_not_be_shown(toycity, score, tmp_path, dataset):
    for path in sorted((toycity / "gtFine" / "val").rglob("*_labelIds.png")):
        name = f"{path.stem.removesuffix('_gtFine_labelIds')}_leftImg8bit.png"
        save(tmp_path / "p" / "results_val" / name, np.full_like(np.asarray(Image.open(path)), 7))
    score(toycity, tmp_path / "p", "--dataset", dataset, "--gallery", tmp_path / "page.html")
    said = "show it only where these may be shown" in (tmp_path / "page.html").read_text()
    assert said == (dataset == "minicity")


def test_two_models_are_compared_on_the_same_images(own, score, capsys):
    against = score(own / "data", own / "a", "--against", own / "b")["against"]
    a, b = (2400 / 2800 + 2000 / 2400) / 2, (2400 / 3200 + 1600 / 2400) / 2
    assert against["models"] == ["a", "b"] and against["difference"] == pytest.approx(a - b)
    capsys.readouterr()
    turned = score(own / "data", own / "b", "--against", own / "a")["against"]
    assert turned["difference"] == pytest.approx(b - a)
    assert "a and b cannot be told apart" in turned["text"]  # some resamplings draw only the image that they share
    shutil.copytree(own / "a" / "results_val", own / "copy" / "results_val")
    same = score(own / "data", own / "a", "--against", own / "copy")["against"]
    assert same["difference"] == 0 and same["margin"] == 0


def test_a_clear_difference_is_said_with_its_margin():
    right = np.tile([[9, 1], [1, 9]], (20, 1, 1))
    wrong = np.tile([[8, 2], [2, 8]], (20, 1, 1)) + np.arange(20)[:, None, None] % 2 * [[1, -1], [0, 0]]
    found = compare(["A", "B"], wrong, right, 200, 0)
    low, high = interval(wrong, right, 200)
    assert (found["interval"], high) == ([low, high], pytest.approx(high)) and high < 0
    points = f"{-100 * found['difference']:.1f} +- {50 * (high - low):.1f} points of mIoU"
    assert found["text"].startswith(f"B beats A by {points} (95 % interval {-100 * high:.1f} to {-100 * low:.1f},")


def test_confidences_give_the_calibration_error(own, score):
    for name in ("one", "two"):
        save(own / "a" / "results_confidence_val" / f"{name}.png", np.full((40, 60), 204))  # 0.8
    found = score(own / "data", own / "a")
    assert found["calibration_error"] == pytest.approx(4400 / 4800 - 0.8)
    assert (own / "a" / "score_val" / "reliability.png").is_file()
    shutil.rmtree(own / "a" / "results_confidence_val")
    assert "calibration_error" not in score(own / "data", own / "a")
    assert not (own / "a" / "score_val" / "reliability.png").exists()  # it belonged to other files


def test_the_held_out_images_of_a_fold_are_scored(own, score):
    (own / "folds.json").write_text(json.dumps({"1": ["two"], "2": ["one"]}))
    found = score(own / "data", own / "a", "--folds", own / "folds.json", "--fold", "1")
    assert found["images"] == 1 and found["classes"]["car <b>"]["iou"] == pytest.approx(800 / 1200)


def test_the_settings_say_which_images_were_held_out(own, score):
    for split, names in (("train", "abcd"), ("val", ())):
        shutil.rmtree(own / "data" / "images" / split)
        shutil.rmtree(own / "data" / "masks" / split)
        for name in names:
            save(
                own / "data" / "images" / split / f"{name}.png",
                np.random.default_rng(ord(name)).integers(0, 256, (40, 60, 3)),
            )
            save(own / "data" / "masks" / split / f"{name}.png", np.ones((40, 60)))
            save(own / "a" / "results_val" / f"{name}.png", np.ones((40, 60)))
    settings = score(own / "data", own / "a", "--val_share", "0.5", "--group_by", "(.)")["settings"]
    assert settings["val_share"] == 0.5 and settings["group_by"] == "(.)"


def missing(own):
    (own / "a" / "results_val" / "two.png").unlink()


def other_size(own):
    save(own / "a" / "results_val" / "two.png", np.ones((40, 59)))


def train_ids(own):
    save(own / "a" / "results_val" / "two.png", np.zeros((40, 60)))


def colors(own):
    save(own / "a" / "results_val" / "two.png", np.zeros((40, 60, 3)))


def foreign_output(own):
    save(own / "a" / "score_val" / "mine.png", np.zeros((2, 2)))


def one_confidence(own):
    save(own / "a" / "results_confidence_val" / "one.png", np.zeros((40, 60)))


def unfinished(own):
    (own / "a" / ".predicting_val.json").write_text("{}")


def foreign_page(own):
    (own / "page.html").write_text("mine")


def nothing(own):
    pass


@pytest.mark.parametrize(
    ("damage", "flags", "message"),
    [
        (missing, (), "lacks 1 of 2 predictions of val, first two.png"),
        (other_size, (), "two.png and its label are 40x59 and 40x60"),
        (train_ids, (), "two.png holds id 0"),
        (foreign_output, (), "did not write: name another folder"),
        (one_confidence, (), "predict again with --save confidence"),
        (unfinished, (), "is unfinished: start predict_seg.py again"),
        (foreign_page, ("--gallery", "page.html"), "choose another name"),
        (nothing, ("--against", "c"), "no folder c (--against)"),
        (nothing, ("--against", "a/results_val"), "holds the predictions of --results: name those of another model"),
        (
            colors,
            (),
            "two.png is in colours (RGB), not class ids: predict_seg.py writes predictions as ids to results_",
        ),
        (nothing, ("--split", "test"), "no labels for --split test"),
        (nothing, ("--trimap", "0"), "--trimap 0"),
        (nothing, ("--boundary_share", "2"), "--boundary_share 2.0"),
        (nothing, ("--fold", "1"), "--fold needs --folds"),
        (nothing, ("--folds", "f", "--fold", "1", "--split", "train"), "--fold and --split train exclude each other"),
        (nothing, ("--val_share", "0.5"), "--val_share has no effect"),
    ],
)
def test_what_cannot_be_scored_is_one_line(own, score, capsys, damage, flags, message):
    damage(own)
    with pytest.raises(SystemExit) as stop:
        score(own / "data", own / "a", *flags)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code and error.startswith("error: ") and message in error
    assert not (own / "a" / "score_val" / "scores.json").exists()


def test_a_mistake_is_the_largest_region_of_a_pair():
    label, prediction = np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint8)
    prediction[2:4, 3:8], prediction[10, 10:13] = 1, 1
    label[15], prediction[15, :5] = 255, 2  # ignored
    confidence = np.full(label.shape, 0.5, np.float32)
    confidence[2:4, 3:8] = 0.75
    assert mistakes_of(4, prediction, label, 3, None) == [Mistake(4, 0, 1, 10, 10 / 600, None, (2, 3, 4, 8))]
    assert mistakes_of(4, prediction, label, 3, confidence)[0].confidence == pytest.approx(0.75)
    assert mistakes_of(0, label, label, 3, None) == []
    big = np.zeros((100, 100), np.uint8)
    small = big.copy()
    small[0, : round(LEAST * big.size) - 1] = 1
    assert mistakes_of(0, small, big, 2, None) == []


def test_mistakes_are_ranked_by_confidence_or_else_by_size():
    first, second = (Mistake(0, 0, 1, size, size / 100, None, (0, 0, 1, 1)) for size in (5, 9))
    assert worst_mistakes([first, second]) == [second, first]
    sure, unsure = (Mistake(0, 0, 1, size, size / 100, c, (0, 0, 1, 1)) for size, c in ((5, 0.9), (9, 0.6)))
    assert worst_mistakes([unsure, sure]) == [sure, unsure] and worst_mistakes([unsure, sure], 1) == [sure]


def test_the_worst_images_of_each_class_are_chosen():
    counts = np.array([[[90, 10], [0, 0]], [[50, 0], [25, 25]], [[100, 0], [0, 0]], [[9999, 0], [1, 0]]])
    ious = image_ious(counts)
    assert ious[:2] == pytest.approx(np.array([[0.9, 0], [2 / 3, 0.5]]))
    assert np.isnan(ious[3, 1])  # one pixel in ten thousand does not count
    assert worst_images(counts, 1) == [0, 1]  # class 1 in image 0, class 0 in image 1; mean IoU 0.45 and 0.58


@pytest.mark.parametrize("box", [(0, 0, 2, 2), (90, 180, 100, 200), (10, 20, 15, 120), (0, 0, 100, 200)])
def test_the_window_around_a_mistake_holds_it_and_has_the_shape_of_the_image(box):
    top, left, bottom, right = around(box, (100, 200))
    assert 0 <= top <= box[0] and box[2] <= bottom <= 100 and 0 <= left <= box[1] and box[3] <= right <= 200
    assert right - left == pytest.approx(2 * (bottom - top), abs=2) and bottom - top >= 25


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_in_a_browser(own, score, width, scheme):
    score(own / "data", own / "b", "--gallery", own / "page.html")
    score(own / "data", own / "a", "--gallery", own / "page.html")  # its own page is replaced

    def look(page):
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        names = "[...document.querySelector('.sheet').children].filter(c => !c.hidden).map(c => c.dataset.name)"
        assert page.evaluate(names) == ["two", "one"] and page.locator("article").count() == 3
        page.select_option(".sortable:first-of-type .order", "name")
        assert page.evaluate(names) == ["one", "two"]
        page.select_option(".class", label="car <b>")
        assert page.locator(".value").last.inner_text() == "IoU of car <b> 66.7 %"
        page.locator(".title").first.click()
        assert page.locator("article.big").count() == 1
        assert "400 pixels" in page.locator("article").last.inner_text()
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", color)[:3])) / 3

    brightness = browse(own / "page.html", width, scheme, look)
    assert brightness < 60 if scheme == "dark" else brightness > 200


def test_the_confusion_plot_shows_where_the_pixels_are():
    def dark(counts):
        picture = np.asarray(confusion_plot(np.array(counts), ["a", "b", "c"])).astype(int)
        rows, columns = np.nonzero((picture[..., 2] > 70) & (picture[..., 0] < 40))  # of the darkest blue
        return rows, columns

    rows, columns = dark([[9, 0, 0], [0, 9, 0], [0, 0, 9]])
    assert np.corrcoef(rows, columns)[0, 1] > 0.7
    rows, columns = dark([[0, 0, 9], [0, 9, 0], [5, 0, 0]])
    assert np.corrcoef(rows, columns)[0, 1] < -0.7
    assert len(dark([[0, 0, 0], [0, 0, 0], [0, 0, 0]])[0]) == 0


def test_the_reliability_plot_has_bars_as_high_as_the_accuracy():
    def blue(correct):
        picture = np.asarray(reliability_plot(np.array([[0, 0, 0], [100, 75, correct]]))).astype(int)
        return ((picture[..., 2] > 190) & (picture[..., 0] < 60)).sum()

    assert blue(80) == pytest.approx(2 * blue(40), rel=0.1) and blue(0) < blue(40) / 20
