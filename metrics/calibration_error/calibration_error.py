"""Expected calibration error as an `evaluate` module that keeps counts instead of probabilities.

    metric = evaluate.load(str(Path(__file__).parent / "metrics" / "calibration_error"))
    metric.add_batch(predictions=probabilities, references=labels)  # any number of times
    scores = metric.compute()

The mean distance between confidence and accuracy over bins of confidence, as in Guo et al., "On Calibration of Modern
Neural Networks", ICML 2017.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
import torch

from .reliability import BINS, expected_calibration_error, reliability_counts

DESCRIPTION = "Mean distance between the confidence of the predicted class and its accuracy, over all labelled pixels."
INPUTS = (
    "Predictions: probabilities (C, H, W) of each image, as a stack or a list. References: maps (H, W) of class ids."
)
CITATION = "Guo et al., On Calibration of Modern Neural Networks, ICML 2017"


class CalibrationError(evaluate.Metric):
    """Compute the expected calibration error from counts over any number of images.

    bins          number of bins of equal width
    ignore_index  pixels with this reference id are left out

    Each process counts images that no other counts. Sum `counts`, float64 (bins, 3): the pixels, the sum of their
    confidences, and the right ones. Then call `compute`.
    """

    def __init__(self, *args: Any, bins: int = BINS, ignore_index: int = 255, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.num_process != 1:
            raise ValueError("calibration_error counts per process: load it without num_process and sum its `counts`")
        if bins < 1:
            raise ValueError(f"bins must be at least 1, not {bins}")
        self.bins, self.ignore_index = bins, ignore_index
        self.counts = torch.zeros(bins, 3, dtype=torch.float64)
        self.is_empty = True

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features(
            {"predictions": datasets.Array3D((None, None, None), "float32"), "references": datasets.Image()}
        )
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation=CITATION, features=features, inputs_description=INPUTS
        )

    def add(
        self, *, prediction: Any = None, reference: Any = None, predictions: Any = None, references: Any = None
    ) -> None:
        """Count one image: probabilities (C, H, W) and a map (H, W).

        `evaluate.combine` calls them `predictions` and `references`. Raises ValueError as `add_batch` does.
        """
        prediction = predictions if prediction is None else prediction
        reference = references if reference is None else reference
        self.add_batch(predictions=[prediction], references=[reference])

    def add_batch(self, *, predictions: Sequence, references: Sequence) -> None:
        """Count images. Raises ValueError, and counts nothing, if shapes differ or there are no probabilities."""
        if len(predictions) != len(references):
            raise ValueError(f"the probabilities of {len(predictions)} images, but {len(references)} reference maps")
        total = self.counts
        for prediction, reference in zip(map(as_array, predictions), map(as_array, references), strict=True):
            check(prediction, reference)
            known = reference != self.ignore_index
            correct = prediction.argmax(0)[known] == reference[known]
            counts = reliability_counts(prediction.max(0)[known], correct, self.bins)
            total = total + torch.from_numpy(counts).to(total.device)
        self.counts = total
        self.is_empty = False

    def compute(
        self, *, predictions: Sequence | None = None, references: Sequence | None = None
    ) -> dict[str, float | np.ndarray]:
        """Return the scores of all images added so far, `predictions` and `references` included. Resets counts.

        expected_calibration_error  0 if every confidence is right on average
        confidence, accuracy        means over all pixels; nan, as is the error, if all are ignored
        pixels, bin_confidence, bin_accuracy
                                    of each bin, for a reliability plot: float64 (bins,); nan in an empty bin

        Raises ValueError if nothing was added, or if one of the two is missing.
        """
        if (predictions is None) != (references is None):
            raise ValueError("compute needs both predictions and references, or neither")
        if predictions is not None:
            self.add_batch(predictions=predictions, references=references)
        if self.is_empty and not self.counts.any():
            raise ValueError("calibration_error has nothing to score: call add_batch before compute")
        counts = self.counts.cpu().numpy()
        self.counts = torch.zeros_like(self.counts)
        self.is_empty = True
        pixels, confidence, correct = counts.T
        with np.errstate(invalid="ignore"):  # 0 / 0 is nan, the score of an empty bin
            bin_confidence, bin_accuracy = confidence / pixels, correct / pixels
            mean_confidence, mean_accuracy = confidence.sum() / pixels.sum(), correct.sum() / pixels.sum()
        return {
            "expected_calibration_error": expected_calibration_error(counts),
            "confidence": float(mean_confidence),
            "accuracy": float(mean_accuracy),
            "pixels": pixels,
            "bin_confidence": bin_confidence,
            "bin_accuracy": bin_accuracy,
        }


def as_array(values: Any) -> np.ndarray:
    """Return a tensor, array or PIL image as a numpy array; bfloat16, which numpy lacks, as float32."""
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    return (values.float() if values.is_floating_point() else values).detach().cpu().numpy()


def check(probabilities: np.ndarray, reference: np.ndarray) -> None:
    """Raise ValueError unless these are probabilities (C, H, W) and integer ids (H, W) of one image."""
    if probabilities.ndim != 3 or probabilities.dtype.kind != "f":
        raise ValueError(
            f"predictions must be probabilities (C, H, W), not {probabilities.dtype} {probabilities.shape}"
        )
    if reference.dtype.kind not in "biu" or reference.shape != probabilities.shape[1:]:
        raise ValueError(
            f"a reference must be class ids {probabilities.shape[1:]}, not {reference.dtype} {reference.shape}"
        )
    if not (probabilities.min() >= 0 and probabilities.max() <= 1 + 1e-3):
        raise ValueError("predictions must be probabilities between 0 and 1: take the softmax of the logits")
