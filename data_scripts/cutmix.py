"""CutMix for segmentation: replace boxes of one training item with the same boxes of another, in image and label.

Yun et al., 2019, arXiv 1905.04899.
"""

from collections.abc import Sequence

import numpy as np

from .augment import Crop


def sample_boxes(
    rng: np.random.Generator, size: Sequence[int], boxes: int = 1, beta: float = 1.0
) -> list[tuple[slice, slice]]:
    """Draw boxes in a crop of `size` (H, W). Returns (rows, columns) slices for each.

    Each box has the crop's aspect ratio and its centre anywhere in the crop. The share of the crop that the boxes cover
    together is drawn from Beta(beta, beta). Overlaps, and parts beyond the border, make it smaller.
    """
    side = np.sqrt(rng.beta(beta, beta) / boxes)
    drawn = []
    for _ in range(boxes):
        spans = []
        for length in size:
            centre = int(rng.integers(length))
            half = int(length * side) / 2
            spans.append(slice(max(0, int(centre - half)), min(length, int(centre + half))))
        drawn.append(tuple(spans))
    return drawn


def cutmix(crop: Crop, other: Crop, boxes: list[tuple[slice, slice]]) -> None:
    """Put the boxes of `other` into `crop`, in place."""
    for box in boxes:
        crop.image[box], crop.label[box] = other.image[box], other.label[box]
        if crop.instance is not None:
            crop.instance[box] = other.instance[box]
