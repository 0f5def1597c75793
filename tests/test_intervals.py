"""Bootstrap intervals: hand-computed values, the metric's mean IoU, coverage, and paired differences."""

import tracemalloc

import evaluate
import numpy as np
import pytest
from conftest import ROOT

from metrics.intervals import bootstrap_mean_iou, image_counts, interval, mean_iou, student
from metrics.score_text import compare, for_json


def maps(rng, images=6, classes=4, right=0.6):
    """Random labels with ignored pixels, and predictions that are right with probability `right`."""
    labels = rng.integers(0, classes, (images, 8, 9)).astype(np.uint8)
    guesses = rng.integers(0, classes, labels.shape).astype(np.uint8)
    predictions = np.where(rng.random(labels.shape) < right, labels, guesses)
    labels[rng.random(labels.shape) < 0.1] = 255
    return predictions, labels


def counts_of(predictions, labels, classes=4):
    return np.stack([image_counts(p, t, classes) for p, t in zip(predictions, labels, strict=True)])


def test_counts_of_an_image_by_hand():
    label, prediction = np.array([[0, 0, 1], [1, 255, 2]]), np.array([[0, 1, 1], [1, 0, 0]])
    assert image_counts(prediction, label, 3).tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert mean_iou(image_counts(prediction, label, 3)) == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)


def test_the_mean_is_the_metrics_also_without_a_class():
    metric = evaluate.load(str(ROOT / "metrics" / "mean_iou"))
    predictions, labels = maps(np.random.default_rng(0))
    metric.add_batch(predictions=list(predictions), references=list(labels))
    expected = metric.compute(num_labels=5, ignore_index=255)["mean_iou"]  # the fifth class does not occur
    assert mean_iou(counts_of(predictions, labels, 5).sum(0)) == pytest.approx(expected, abs=1e-12)


def test_each_resampling_is_the_score_of_the_images_that_it_drew():
    counts = counts_of(*maps(np.random.default_rng(1)))
    drawn = np.random.default_rng(7).multinomial(6, np.full(6, 1 / 6), size=3)
    by_hand = [mean_iou(sum(n * table for n, table in zip(row, counts, strict=True))) for row in drawn]
    assert bootstrap_mean_iou(counts, repeats=3, seed=7) == pytest.approx(by_hand, abs=1e-12)


def test_many_resamplings_take_little_memory_and_draw_the_same():
    counts = counts_of(*maps(np.random.default_rng(5)))
    tracemalloc.start()
    found = bootstrap_mean_iou(counts, repeats=40_500, seed=3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    drawn = np.random.default_rng(3).multinomial(6, np.full(6, 1 / 6), size=40_500)
    np.testing.assert_array_equal(found, mean_iou((drawn @ counts.reshape(6, -1)).reshape(-1, 4, 4)))
    assert peak < 2e6  # the matrices of all resamplings are 40,500 x 16 x 8 bytes: 5.2 MB


def test_images_without_labels_do_not_pull_the_interval_to_zero():
    counts = counts_of(*maps(np.random.default_rng(4)))[:1]
    counts = np.concatenate([counts, np.zeros_like(counts)])  # a quarter of the drawings has no labelled pixel
    assert interval(counts, repeats=50) == pytest.approx([mean_iou(counts[0])] * 2)
    assert np.isnan(mean_iou(counts[1]))


def test_one_image_has_no_interval_and_decides_nothing():
    ours, theirs = (counts_of(*maps(np.random.default_rng(seed)))[:1] for seed in (2, 3))
    assert np.isnan(interval(ours, repeats=50)).all()
    found = compare(["A", "B"], ours, theirs, 50, 0)
    assert np.isnan(found["interval"]).all() and "no interval: there is only one image" in found["text"]
    assert "beats" not in found["text"] and for_json(found)["margin"] is None


def test_equal_images_have_an_interval_of_no_width():
    counts = np.repeat(counts_of(*maps(np.random.default_rng(2)))[:1], 5, axis=0)
    low, high = interval(counts, repeats=50)
    assert low == pytest.approx(high) and low == pytest.approx(mean_iou(counts.sum(0)))


def test_the_interval_covers_the_score_of_all_images_as_often_as_it_says():
    """Samples of 40 from a population of 4,000 images: about 95 of 100 intervals hold the population's score."""
    rng = np.random.default_rng(3)
    counts = np.concatenate([counts_of(*maps(rng, 100, right=right)) for right in rng.uniform(0.3, 0.9, 40)])
    truth, inside = mean_iou(counts.sum(0)), 0
    for i in range(100):
        low, high = interval(counts[rng.choice(len(counts), 40, replace=False)], None, 200, seed=i)
        inside += low <= truth <= high
    assert 87 <= inside <= 99


def test_the_difference_of_two_models_is_paired():
    rng = np.random.default_rng(4)
    predictions, labels = maps(rng, 30)
    better = np.where((rng.random(labels.shape) < 0.05) & (labels < 4), labels, predictions)
    one, two = counts_of(predictions, labels), counts_of(better, labels)
    low, high = interval(two, one)
    unpaired = np.quantile(bootstrap_mean_iou(two, seed=1) - bootstrap_mean_iou(one, seed=2), [0.025, 0.975])
    assert 0 < low and high - low < 0.5 * np.ptp(unpaired)


@pytest.mark.parametrize("images", [2, 3, 5])
def test_equal_models_on_few_images_seldom_differ(images):
    """5 of 100 pairs may differ; plain percentiles of the resamplings would let 16 to 51 of them."""
    rng = np.random.default_rng(images)
    different = 0
    for i in range(200):
        right = rng.uniform(0.3, 0.9, (2, images))
        one, two = (np.concatenate([counts_of(*maps(rng, 1, right=share)) for share in shares]) for shares in right)
        low, high = interval(one, two, 200, seed=i)
        different += not low <= 0 <= high
    assert different <= 22


def test_an_interval_is_around_its_score_where_some_images_lack_a_class():
    rng = np.random.default_rng(8)
    counts = counts_of(*maps(rng, 12))
    counts[1:, 3] = counts[1:, :, 3] = 0  # one image shows the last class
    counts[0, 3] = [9, 0, 0, 0]  # which is never found
    score = mean_iou(counts.sum(0))
    low, high = interval(counts)
    assert low < score < high and np.nanmean(bootstrap_mean_iou(counts)) > score + 0.02


@pytest.mark.parametrize(("freedom", "value"), [(1, 12.7062), (10, 2.2281), (11, 2.2010), (30, 2.0423), (1000, 1.9623)])
def test_quantiles_of_students_distribution(freedom, value):
    assert student(freedom) == pytest.approx(value, abs=0.003)


def test_wrong_maps_are_refused():
    with pytest.raises(ValueError, match="its label"):
        image_counts(np.zeros((2, 2), int), np.zeros((2, 3), int), 2)
    with pytest.raises(ValueError, match="id of 2 or more"):
        image_counts(np.full((1, 1), 2), np.zeros((1, 1), int), 2)
