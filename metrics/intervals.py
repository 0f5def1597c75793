"""Bootstrap confidence intervals of the mean IoU, over images (Efron, 1979).

    counts = np.stack([image_counts(prediction, label, 11) for prediction, label in pairs])
    low, high = interval(bootstrap_mean_iou(counts))
    low, high = interval(bootstrap_mean_iou(counts) - bootstrap_mean_iou(counts_of_another_model))

Equal seeds draw the same images, so the last line gives a paired interval for two models on the same images. Frames of
a video resemble their neighbours, so an interval over them is too narrow.
"""

import numpy as np

from .figures import iou, mean_of_known

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


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the bounds of the central 95 % of the values, nan if all are nan.

    nan, the score of images without labels, is left out.
    """
    if np.isnan(values).all():
        return float("nan"), float("nan")
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)
