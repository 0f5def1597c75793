"""Scores that follow from a confusion matrix: IoU, Dice / F1, precision, recall, and what they are averaged to.

A matrix holds pixels (C, C), indexed [label, prediction]. Some functions take any number of matrices, (..., C, C). A
score without any pixel to rest on is nan, and means leave it out.
"""

import numpy as np


def unions(counts: np.ndarray) -> np.ndarray:
    """Return how many pixels each class has in the label, the prediction or both, (..., C), of matrices (..., C, C)."""
    return counts.sum(-1) + counts.sum(-2) - np.diagonal(counts, axis1=-2, axis2=-1)


def iou(counts: np.ndarray) -> np.ndarray:
    """Return the IoU of each class, float64 (..., C), of matrices (..., C, C)."""
    with np.errstate(invalid="ignore"):  # 0 / 0 is nan
        return np.diagonal(counts, axis1=-2, axis2=-1) / unions(counts)


def class_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return iou, dice, precision and recall of each class, float64 (C,). Dice and F1 of pixels are the same number."""
    hits = np.diagonal(counts)
    labelled = counts.sum(1)
    predicted = counts.sum(0)
    with np.errstate(invalid="ignore"):  # 0 / 0 is nan
        return {
            "iou": iou(counts),
            "dice": 2 * hits / (labelled + predicted),
            "precision": hits / predicted,
            "recall": hits / labelled,
        }


def mean_scores(counts: np.ndarray) -> dict[str, float]:
    """Return the scores of all classes together.

    mean_iou, mean_dice     means over the classes that occur in a label or a prediction
    mean_precision          mean over the predicted classes
    mean_accuracy           mean of the recalls
    pixel_accuracy          share of the pixels that are right
    frequency_weighted_iou  mean of the IoU, weighted by the labelled pixels of each class (Long et al., 2015)
    """
    scores = class_scores(counts)
    labelled = counts.sum(1)
    total = labelled.sum()
    known = labelled > 0
    return {
        "mean_iou": mean_of_known(scores["iou"]),
        "mean_dice": mean_of_known(scores["dice"]),
        "mean_precision": mean_of_known(scores["precision"]),
        "mean_accuracy": mean_of_known(scores["recall"]),
        "pixel_accuracy": float(np.trace(counts) / total) if total else float("nan"),
        "frequency_weighted_iou": float((labelled * scores["iou"])[known].sum() / total) if total else float("nan"),
    }


def mean_of_known(values: np.ndarray) -> np.ndarray | np.float64:
    """Return the mean over the last axis of the values that are not nan; nan if all are."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return values.sum(axis=-1, where=known) / known.sum(axis=-1)


def row_shares(counts: np.ndarray) -> np.ndarray:
    """Return the matrix with each row divided by its sum, float64 (C, C); rows without pixels are nan."""
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(1, keepdims=True)
