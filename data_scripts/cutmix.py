"""CutMix for segmentation (Yun et al., 2019, arXiv 1905.04899): boxes of one training item are replaced by the same
boxes of another, image and label alike."""

from collections.abc import Sequence

import numpy as np

from .augment import Crop


def sample_boxes(
    rng: np.random.Generator, size: Sequence[int], boxes: int = 1, beta: float = 1.0
) -> list[tuple[slice, slice]]:
    """Rows and columns of boxes in a crop of `size` (H, W), each of the crop's shape.

    Together they cover a part of the crop that is drawn from Beta(beta, beta), less what overlaps or, a box's centre
    being anywhere in the crop, lies beyond its border.
    """
    side = np.sqrt(rng.beta(beta, beta) / boxes)
    drawn = []
    for _ in range(boxes):
        spans = []
        for length in size:
            centre, half = int(rng.integers(length)), int(length * side) / 2
            spans.append(slice(max(0, int(centre - half)), min(length, int(centre + half))))
        drawn.append(tuple(spans))
    return drawn


def cutmix(crop: Crop, other: Crop, boxes: list[tuple[slice, slice]]) -> None:
    """Put the boxes of `other` into `crop`, in place."""
    for box in boxes:
        crop.image[box], crop.label[box] = other.image[box], other.label[box]
        if crop.instance is not None:
            crop.instance[box] = other.instance[box]
