"""How well confidences agree with accuracies: the expected calibration error, and the counts of a reliability plot.

Guo et al., 2017, arXiv 1706.04599, section 2, with bins of equal width.
"""

import numpy as np

BINS = 15


def reliability_counts(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return the pixels, the sum of their confidences, and the correct ones, for each of `bins` bins of confidence.

    confidence  of the predicted class, between 0 and 1, of any shape
    correct     whether the class is right, of the same shape

    Returns float64 (bins, 3). The counts of several images add up.
    """
    confidence = np.asarray(confidence, np.float64).reshape(-1)
    places = np.clip((confidence * bins).astype(np.int64), 0, bins - 1)
    weights = (None, confidence, np.asarray(correct, np.float64).reshape(-1))
    return np.stack([np.bincount(places, weight, bins).astype(np.float64) for weight in weights], axis=1)


def expected_calibration_error(counts: np.ndarray) -> float:
    """Return the mean of |accuracy - confidence| over the pixels of `reliability_counts`; nan without any."""
    pixels, confidence, correct = counts.T
    return float(np.abs(correct - confidence).sum() / pixels.sum()) if pixels.sum() else float("nan")
