"""Bootstrap confidence intervals of the mean IoU, over images (Efron, 1979).

    counts = np.stack([image_counts(prediction, label, 11) for prediction, label in pairs])
    low, high = interval(counts)
    low, high = interval(counts, counts_of_another_model)  # of the difference, paired

Frames of a video resemble their neighbours, so an interval over them is too narrow.
"""

import math

import numpy as np

from .figures import iou, mean_of_known

NORMAL = 1.95996  # 97.5 % quantile of the normal distribution
# 97.5 % quantiles of Student's t distribution with 1, 2, ... degrees of freedom
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
BLOCK = 1000  # resamplings at a time: their matrices of 19 classes take 3 MB


def image_counts(prediction: np.ndarray, label: np.ndarray, num_labels: int) -> np.ndarray:
    """Return the confusion matrix of one image, int64 (C, C), indexed [label, prediction].

    `prediction` and `label` are train ids (H, W). Pixels with a label of `num_labels` or more are ignored. Raises
    ValueError if the shapes differ, or if a prediction is `num_labels` or more where the label is a class.
    """
    if prediction.shape != label.shape:
        raise ValueError(f"a prediction is {prediction.shape}, its label {label.shape}")
    valid = label < num_labels
    if (prediction[valid] >= num_labels).any():
        raise ValueError(f"a prediction holds an id of {num_labels} or more where its label holds a class")
    pairs = label[valid].astype(np.int64) * num_labels + prediction[valid]
    return np.bincount(pairs, minlength=num_labels**2).reshape(num_labels, num_labels)


def mean_iou(counts: np.ndarray) -> np.ndarray:
    """Return the mean IoU of confusion matrices (..., C, C), over the classes that occur in a label or a prediction."""
    return mean_of_known(iou(counts))


def bootstrap_mean_iou(counts: np.ndarray, repeats: int = 2000, seed: int = 0) -> np.ndarray:
    """Return the mean IoU of `repeats` resamplings of the images, (repeats,), from their matrices (N, C, C).

    All are nan if there is only one image: it says nothing about how images differ.
    """
    images = len(counts)
    if images < 2:
        return np.full(repeats, np.nan)
    rng = np.random.default_rng(seed)
    flat = counts.reshape(images, -1).astype(np.int64)
    means = np.empty(repeats)
    for start in range(0, repeats, BLOCK):
        block = means[start : start + BLOCK]
        totals = rng.multinomial(images, np.full(images, 1 / images), size=len(block)) @ flat
        block[:] = mean_iou(totals.reshape(-1, *counts.shape[1:]))
    return means


def interval(
    counts: np.ndarray, others: np.ndarray | None = None, repeats: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of the mean IoU from matrices of images (N, C, C), or of its difference to `others`.

    It holds the central 95 % of the resamplings, with two corrections. They are moved until their mean is the score,
    because those that lack a rare class score higher or lower. And they are stretched by t / z * sqrt(N / (N - 1)),
    where t is a quantile of Student's distribution, because those of few images vary too little (after Hesterberg,
    2015, The American Statistician 69:371).

    Both models are resampled on the same images. Resamplings without labelled pixels are left out. Of one image, both
    bounds are nan.
    """
    draws, score = bootstrap_mean_iou(counts, repeats, seed), mean_iou(counts.sum(0))
    if others is not None:
        draws, score = draws - bootstrap_mean_iou(others, repeats, seed), score - mean_iou(others.sum(0))
    if np.isnan(draws).all():
        return float("nan"), float("nan")
    images = len(counts)
    factor = student(images - 1) / NORMAL * math.sqrt(images / (images - 1))
    bounds = score + factor * (np.nanquantile(draws, [0.025, 0.975]) - np.nanmean(draws))
    low, high = bounds.clip(0 if others is None else -1, 1)
    return float(low), float(high)


def student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t distribution, exact to 0.003.

    Beyond the table, it takes the first terms of the expansion around the normal distribution (Fisher and Cornish,
    1960).
    """
    if freedom <= len(STUDENT):
        return STUDENT[freedom - 1]
    first, second = (NORMAL**3 + NORMAL) / 4, (5 * NORMAL**5 + 16 * NORMAL**3 + 3 * NORMAL) / 96
    return NORMAL + first / freedom + second / freedom**2
