"""Boundary IoU as an `evaluate` module that keeps pixel counts instead of maps.

    metric = evaluate.load(str(Path(__file__).parent / "metrics" / "boundary_iou"), num_labels=19)
    metric.add_batch(predictions=maps, references=labels)  # any number of times
    scores = metric.compute()

The IoU of each class is computed on the pixels just inside its outlines, as in Cheng et al., "Boundary IoU: Improving
Object-Centric Image Segmentation Evaluation", CVPR 2021.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
import torch

from .boundary import SHARE, boundary_counts, boundary_iou, distance_of

DESCRIPTION = "IoU of the regions just inside the outlines of each class, summed over all images."
INPUTS = (
    "A stack (B, H, W), or a list of maps (H, W) of any sizes, of class ids in 0..255: tensors, arrays or PIL images."
)
CITATION = "Cheng et al., Boundary IoU: Improving Object-Centric Image Segmentation Evaluation, CVPR 2021"


class BoundaryIoU(evaluate.Metric):
    """Compute the boundary IoU of each class and its mean, from counts over any number of images.

    num_labels  the classes are 0..num_labels - 1; other ids in the references are ignored
    share       distance from the outline, as a share of the image's diagonal

    Each process counts images that no other counts. Sum `counts`, int64 (num_labels, 2), over the processes before
    `compute`.
    """

    def __init__(self, *args: Any, num_labels: int, share: float = SHARE, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.num_process != 1:
            raise ValueError("boundary_iou counts per process: load it without num_process and sum its `counts`")
        if not 1 <= num_labels <= 255:
            raise ValueError(f"num_labels must be in 1..255, not {num_labels}")
        if not 0 < share < 1:
            raise ValueError(f"share must be between 0 and 1, not {share}")
        self.num_labels, self.share = num_labels, share
        self.counts = torch.zeros(num_labels, 2, dtype=torch.int64)
        self.is_empty = True

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Image(), "references": datasets.Image()})
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation=CITATION, features=features, inputs_description=INPUTS
        )

    def add(
        self, *, prediction: Any = None, reference: Any = None, predictions: Any = None, references: Any = None
    ) -> None:
        """Count one pair of maps (H, W).

        `evaluate.combine` calls them `predictions` and `references`. Raises ValueError as `add_batch` does.
        """
        prediction = predictions if prediction is None else prediction
        reference = references if reference is None else reference
        self.add_batch(predictions=[prediction], references=[reference])

    def add_batch(self, *, predictions: Sequence, references: Sequence) -> None:
        """Count pairs of maps (H, W). Raises ValueError, and counts nothing, if shapes or ids are wrong."""
        if len(predictions) != len(references):
            raise ValueError(f"{len(predictions)} predicted maps, but {len(references)} reference maps")
        total = self.counts
        for prediction, reference in zip(map(as_bytes, predictions), map(as_bytes, references), strict=True):
            if prediction.shape != reference.shape:
                raise ValueError(f"a prediction is {prediction.shape}, its reference {reference.shape}")
            counts = boundary_counts(prediction, reference, self.num_labels, distance_of(reference.shape, self.share))
            total = total + torch.from_numpy(counts).to(total.device)
        self.counts = total
        self.is_empty = False

    def compute(
        self, *, predictions: Sequence | None = None, references: Sequence | None = None
    ) -> dict[str, float | np.ndarray]:
        """Return the scores (0..1) of all maps added so far, `predictions` and `references` included. Resets counts.

        per_category_boundary_iou  float64 (num_labels,); nan for a class without an outline in either
        mean_boundary_iou          mean of those values that are not nan; nan if all pixels are ignored

        Raises ValueError if nothing was added, or if one of the two is missing.
        """
        if (predictions is None) != (references is None):
            raise ValueError("compute needs both predictions and references, or neither")
        if predictions is not None:
            self.add_batch(predictions=predictions, references=references)
        if self.is_empty and not self.counts.any():
            raise ValueError("boundary_iou has nothing to score: call add_batch before compute")
        scores = boundary_iou(self.counts.cpu().numpy())
        self.counts = torch.zeros_like(self.counts)
        self.is_empty = True
        known = scores[~np.isnan(scores)]
        mean = float(known.mean()) if known.size else float("nan")
        return {"mean_boundary_iou": mean, "per_category_boundary_iou": scores}


def as_bytes(ids: Any) -> np.ndarray:
    """Return a map as uint8 (H, W). Raises ValueError for scores, other shapes, and ids outside 0..255."""
    ids = ids.cpu().numpy() if isinstance(ids, torch.Tensor) else np.asarray(ids)
    if ids.ndim != 2 or ids.dtype.kind not in "biu":
        raise ValueError(f"a map must be integer class ids (H, W), not {ids.dtype} {ids.shape}")
    if ids.size and not 0 <= ids.min() <= ids.max() <= 255:
        raise ValueError(f"ids must be in 0..255, not {ids.min()} to {ids.max()}: give ignored pixels 255")
    return ids.astype(np.uint8)
