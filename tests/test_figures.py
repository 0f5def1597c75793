"""Scores of a confusion matrix and of outlines: by hand, and against plain definitions."""

import cv2
import numpy as np
import pytest

from metrics.boundary_iou.boundary import boundary_counts, boundary_iou, distance_of
from metrics.figures import class_scores, mean_scores, row_shares
from metrics.trimap import trimap_counts

COUNTS = np.array([[6, 2, 0], [1, 1, 0], [0, 0, 0]])  # the third class does not occur


def test_scores_of_a_matrix_by_hand():
    scores, means = class_scores(COUNTS), mean_scores(COUNTS)
    assert scores["iou"] == pytest.approx([6 / 9, 1 / 4, np.nan], nan_ok=True)
    assert scores["dice"] == pytest.approx([12 / 15, 2 / 5, np.nan], nan_ok=True)
    assert scores["precision"] == pytest.approx([6 / 7, 1 / 3, np.nan], nan_ok=True)
    assert scores["recall"] == pytest.approx([6 / 8, 1 / 2, np.nan], nan_ok=True)
    assert means["mean_iou"] == pytest.approx((6 / 9 + 1 / 4) / 2)
    assert means["mean_dice"] == pytest.approx((12 / 15 + 2 / 5) / 2)
    assert means["mean_accuracy"] == pytest.approx((6 / 8 + 1 / 2) / 2)
    assert means["mean_precision"] == pytest.approx((6 / 7 + 1 / 3) / 2)
    assert means["pixel_accuracy"] == pytest.approx(7 / 10)
    assert means["frequency_weighted_iou"] == pytest.approx(0.8 * 6 / 9 + 0.2 / 4)
    assert row_shares(COUNTS)[:2] == pytest.approx(np.array([[0.75, 0.25, 0], [0.5, 0.5, 0]]))


def test_an_empty_matrix_has_no_scores():
    assert np.isnan(list(mean_scores(np.zeros((2, 2), int)).values())).all()


def test_boundary_iou_by_hand():
    """Of 7 pixels in a row, the label is 0 up to the fourth and the prediction up to the third; distance 1.

    The image is one pixel high, so that each pixel is at its border; with a margin of rows only the outlines count.
    """
    label, prediction = np.zeros((7, 9), np.uint8), np.zeros((7, 9), np.uint8)
    label[:, 5:], prediction[:, 4:] = 1, 1
    counts = boundary_counts(prediction, label, 2, 1)
    # Class 0: the ring of a 7x5 mask has 20 pixels, that of a 7x4 mask 18; common are rows 0 and 6 in columns 0-3 and
    # column 0 in between: 8 + 5. Class 1: 7x4 (18) and 7x5 (20), by symmetry 13.
    assert counts.tolist() == [[13, 25], [13, 25]]
    assert boundary_iou(counts) == pytest.approx([13 / 25, 13 / 25])


def region(mask, distance):
    """The definition of the paper: the mask without its erosion, one pixel at a time, in a frame of zeros."""
    framed = np.pad(mask.astype(np.uint8), 1)
    return mask & ~cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=distance)[1:-1, 1:-1].astype(bool)


@pytest.mark.parametrize("distance", [1, 2, 5])
def test_boundary_iou_is_that_of_each_mask(distance):
    rng = np.random.default_rng(distance)
    label = np.kron(rng.integers(0, 4, (5, 6)), np.ones((9, 7))).astype(np.uint8)
    prediction = np.roll(label, 2, 1)
    label[label == 3] = 255
    prediction[prediction == 3] = 1
    counts = boundary_counts(prediction, label, 3, distance)
    for i in range(3):
        one, other = region((prediction == i) & (label != 255), distance), region(label == i, distance)
        assert counts[i].tolist() == [(one & other).sum(), (one | other).sum()]


def test_a_perfect_prediction_has_boundary_iou_1_whatever_it_says_where_labels_are_ignored():
    label = np.random.default_rng(0).integers(0, 3, (20, 30)).astype(np.uint8)
    prediction = label.copy()
    label[5:9] = 255
    assert boundary_iou(boundary_counts(prediction, label, 3, 2)) == pytest.approx([1, 1, 1])
    assert np.isnan(boundary_iou(boundary_counts(prediction, label, 4, 2))[3])


def test_the_distance_is_a_share_of_the_diagonal():
    assert distance_of((480, 640)) == 16 and distance_of((3, 4)) == 1 and distance_of((300, 400), 0.005) == 2


def test_a_trimap_by_hand():
    """Labels 0 0 0 0 1 1 1 ignored 2: outlines are between columns 3 and 4, and 6 and 8, which a width of 2 bridges."""
    label = np.array([[0, 0, 0, 0, 1, 1, 1, 255, 2]], np.uint8)
    prediction = np.array([[1, 0, 0, 1, 1, 0, 1, 2, 2]], np.uint8)
    assert trimap_counts(prediction, label, 3, 1).tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 0]]
    # columns 2 to 6 and 8 are near now: column 2 is 0 (right), 3 wrong, 4 right, 5 wrong, 6 right, 8 right
    assert trimap_counts(prediction, label, 3, 2).tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 1]]


def test_a_wide_trimap_holds_all_labelled_pixels():
    label = np.random.default_rng(1).integers(0, 254, (9, 9)).astype(np.uint8)
    assert trimap_counts(label, label, 254, 9).sum() == 81
