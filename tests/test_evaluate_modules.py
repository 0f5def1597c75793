"""boundary_iou and calibration_error, loaded as `evaluate` modules, against computations by hand."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import subprocess
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch
from PIL import Image

METRICS = Path(__file__).resolve().parent.parent / "metrics"


def boundary(**flags):
    return evaluate.load(str(METRICS / "boundary_iou"), **{"num_labels": 3} | flags)


def calibration(**flags):
    return evaluate.load(str(METRICS / "calibration_error"), **flags)


# boundary_iou


def region_by_hand(ids, label, distance):
    """Pixels of each class at most `distance` rows and columns from another id or the outside of the image."""
    height, width = ids.shape
    region = {}
    for row in range(height):
        for column in range(width):
            near = {
                ids[y, x] if 0 <= y < height and 0 <= x < width else None
                for y in range(row - distance, row + distance + 1)
                for x in range(column - distance, column + distance + 1)
            }
            if near != {ids[row, column]}:
                region.setdefault(int(ids[row, column]), set()).add((row, column))
    return region


def test_boundary_iou_is_that_of_the_paper_by_hand():
    rng = np.random.default_rng(0)
    pairs = [(rng.integers(0, 3, (4, 5)).repeat(4, 0).repeat(4, 1), rng.integers(0, 3, (4, 5))) for _ in range(3)]
    pairs = [(prediction, label.repeat(4, 0).repeat(4, 1)) for prediction, label in pairs]
    pairs[0][1][:5, :7] = 255
    both, either = np.zeros(3), np.zeros(3)
    for prediction, label in pairs:
        prediction = np.where(label == 255, 255, prediction)
        distance = round(0.08 * np.hypot(*label.shape))
        one, other = (region_by_hand(ids, label, distance) for ids in (prediction, label))
        for c in range(3):
            both[c] += len(one.get(c, set()) & other.get(c, set()))
            either[c] += len(one.get(c, set()) | other.get(c, set()))
    metric = boundary(share=0.08)
    metric.add_batch(predictions=[torch.tensor(p) for p, _ in pairs[:2]], references=[t for _, t in pairs[:2]])
    metric.add(prediction=Image.fromarray(pairs[2][0].astype(np.uint8)), reference=pairs[2][1])
    scores = metric.compute()
    np.testing.assert_allclose(scores["per_category_boundary_iou"], both / either, rtol=0, atol=1e-12)
    assert scores["mean_boundary_iou"] == pytest.approx((both / either).mean(), abs=1e-12)


def test_counts_of_processes_add_up_and_compute_forgets():
    rng = np.random.default_rng(1)
    maps = rng.integers(0, 3, (4, 2, 20, 30))
    whole = boundary().compute(predictions=maps[:, 0], references=maps[:, 1])
    first, second = boundary(), boundary()
    first.add_batch(predictions=maps[:1, 0], references=maps[:1, 1])
    second.add_batch(predictions=maps[1:, 0], references=maps[1:, 1])
    first.counts = first.counts + second.counts
    assert first.compute()["mean_boundary_iou"] == whole["mean_boundary_iou"]
    with pytest.raises(ValueError, match="nothing to score"):
        first.compute()


def test_a_perfect_prediction_has_one_and_absent_classes_have_nan():
    label = torch.zeros(1, 20, 20, dtype=torch.int64)
    label[:, :, 10:] = 1
    scores = boundary().compute(predictions=label, references=label)
    assert scores["mean_boundary_iou"] == 1 and np.isnan(scores["per_category_boundary_iou"][2])


@pytest.mark.parametrize(
    ("prediction", "reference", "words"),
    [
        (np.zeros((4, 4)), np.zeros((4, 4), int), "integer class ids"),
        (np.zeros((4, 4), int), np.zeros((4, 5), int), "its reference"),
        (np.full((4, 4), 256), np.zeros((4, 4), int), "0..255"),
        (np.full((4, 4), -1), np.zeros((4, 4), int), "0..255"),
    ],
)
def test_wrong_maps_are_refused_and_not_counted(prediction, reference, words):
    metric, good = boundary(), np.ones((4, 4), int)
    with pytest.raises(ValueError, match=words):
        metric.add_batch(predictions=[good, prediction], references=[good, reference])
    assert not metric.counts.any()


@pytest.mark.parametrize(
    ("flags", "words"), [({"num_labels": 0}, "num_labels"), ({"share": 0}, "share"), ({"share": 2}, "share")]
)
def test_wrong_settings_are_refused(flags, words):
    with pytest.raises(ValueError, match=words):
        boundary(**flags)


@pytest.mark.parametrize("load", [boundary, calibration])
def test_they_are_not_for_several_processes_of_evaluate(load, tmp_path):
    with pytest.raises(ValueError, match="counts per process: load it without num_process"):
        load(num_process=2, process_id=1, experiment_id="x", cache_dir=str(tmp_path))


def test_where_all_pixels_are_ignored_the_scores_are_nan():
    void = np.full((5, 5), 255, np.uint8)
    for metric, prediction in ((boundary(), void), (calibration(), np.ones((1, 5, 5), np.float32))):
        for _ in range(2):
            with pytest.raises(ValueError, match="call add_batch before compute"):
                metric.compute()
            metric.add_batch(predictions=[prediction], references=[void])
            scores = metric.compute()
            assert all(np.isnan(value) for value in scores.values() if isinstance(value, float))


# calibration_error


def test_calibration_error_by_hand():
    """Two classes, two bins: confidences 0.6 and 0.9 in the second bin, 0.5 in it too (0.5 * 2 = 1)."""
    probabilities = torch.tensor([[0.6, 0.1, 0.5], [0.4, 0.9, 0.5]])[None, :, None]
    labels = torch.tensor([[[0, 0, 255]]])
    scores = calibration(bins=2).compute(predictions=probabilities, references=labels)
    assert scores["expected_calibration_error"] == pytest.approx(abs(0.5 - 0.75))
    assert scores["accuracy"] == 0.5 and scores["confidence"] == pytest.approx(0.75)
    assert scores["pixels"].tolist() == [0, 2] and np.isnan(scores["bin_accuracy"][0])


def test_calibration_error_is_the_sum_over_bins():
    torch.manual_seed(0)
    probabilities = (3 * torch.randn(5, 4, 8, 9)).softmax(1)
    labels = torch.randint(0, 4, (5, 8, 9))
    labels[0, :3] = 255
    metric = calibration()
    metric.add_batch(predictions=probabilities[:2], references=labels[:2])
    metric.add_batch(predictions=list(probabilities[2:]), references=list(labels[2:]))
    confidence, predicted = (values[labels != 255] for values in probabilities.max(1))
    right, expected = (predicted == labels[labels != 255]).double(), 0
    for b in range(15):
        inside = (confidence >= b / 15) & (confidence < (b + 1) / 15)
        if inside.any():
            expected += inside.double().mean() * abs(right[inside].mean() - confidence[inside].double().mean())
    assert metric.compute()["expected_calibration_error"] == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize(
    ("prediction", "words"),
    [
        (torch.randn(2, 4, 4) * 5, "softmax"),
        (torch.full((2, 4, 4), torch.nan), "softmax"),
        (torch.zeros(4, 4), r"\(C, H, W\)"),
        (torch.zeros(2, 4, 4, dtype=torch.int64), r"\(C, H, W\)"),
        (torch.zeros(2, 4, 5), "a reference must be"),
    ],
)
def test_what_is_no_probability_is_refused(prediction, words):
    metric = calibration()
    with pytest.raises(ValueError, match=words):
        metric.add_batch(predictions=[prediction], references=[torch.zeros(4, 4, dtype=torch.int64)])
    assert not metric.counts.any()


@pytest.mark.parametrize("load", [boundary, calibration])
@pytest.mark.parametrize("given", ["predictions", "references"])
def test_one_without_the_other_is_refused(load, given):
    with pytest.raises(ValueError, match="both predictions and references"):
        load().compute(**{given: np.zeros((1, 4, 4), int)})


def test_evaluate_combines_them():
    map_of_ids, probabilities = np.array([[0, 1], [2, 1]]), np.full((3, 2, 2), 1 / 3)
    modules = [boundary(), evaluate.load(str(METRICS / "mean_iou"))]
    both = evaluate.combine(modules)
    both.add(prediction=map_of_ids, reference=map_of_ids)
    assert modules[0].compute()["mean_boundary_iou"] == 1
    assert modules[1].compute(num_labels=3, ignore_index=255)["mean_iou"] == 1
    alone = evaluate.combine([calibration()])
    alone.add(prediction=probabilities, reference=map_of_ids)
    assert alone.compute()["confidence"] == pytest.approx(1 / 3)


def test_probabilities_may_still_require_a_gradient():
    metric = calibration()
    metric.add_batch(
        predictions=torch.randn(2, 3, 4, 4, requires_grad=True).softmax(1), references=torch.zeros(2, 4, 4).int()
    )
    assert metric.compute()["pixels"].sum() == 32


def test_both_load_where_this_package_is_not_installed(tmp_path):
    """`evaluate` copies a module and the file beside it: neither imports from this package."""
    code = f"""
import sys
sys.modules["metrics"] = None  # importing it raises
import evaluate
import numpy as np
label = np.eye(8, dtype=int)
print(evaluate.load({str(METRICS / "boundary_iou")!r}, num_labels=2).compute(predictions=[label], references=[label]))
evaluate.load({str(METRICS / "calibration_error")!r})
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0 and "'mean_boundary_iou': 1.0" in result.stdout, result.stderr
