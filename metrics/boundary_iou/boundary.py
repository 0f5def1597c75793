"""Boundary IoU (Cheng et al., 2021, arXiv 2103.16562): the IoU of what lies just inside the outlines of each class.

Maps are train ids uint8 (H, W); labels of `num_labels` or more are ignored.
"""

import cv2
import numpy as np

VOID = 255
SHARE = 0.02  # of the diagonal: the paper's distance for images like COCO's


def distance_of(shape: tuple[int, int], share: float = SHARE) -> int:
    """Return the distance in pixels, at least 1, that is this share of the diagonal of an image (H, W)."""
    return max(1, round(share * float(np.hypot(*shape))))


def boundary_counts(prediction: np.ndarray, label: np.ndarray, num_labels: int, distance: int) -> np.ndarray:
    """Return the pixels of intersection and union of the boundary regions of each class, int64 (C, 2).

    The boundary region of a mask is the set of pixels that an erosion by a square of 2 x `distance` + 1 removes; beyond
    the image's border nothing belongs to the mask. Where the label is ignored, the prediction is taken as ignored too,
    so a perfect prediction has the boundary of the label. The counts of several images add up.
    """
    label = np.where(label < num_labels, label, VOID).astype(np.uint8)
    prediction = np.where(label == VOID, VOID, prediction).astype(np.uint8)
    maps = [np.where(near_other(ids, distance), ids, VOID) for ids in (prediction, label)]
    both = np.bincount(maps[0][maps[0] == maps[1]], minlength=256)[:num_labels]
    areas = [np.bincount(ids.reshape(-1), minlength=256)[:num_labels] for ids in maps]
    return np.stack([both, areas[0] + areas[1] - both], axis=1)


def near_other(ids: np.ndarray, distance: int) -> np.ndarray:
    """Return where another id, or the outside of the image, is at most `distance` rows and columns away, bool (H, W).

    One pass serves all classes: an erosion of a class's mask removes a pixel if its square holds anything else.
    """
    square = np.ones((2 * distance + 1,) * 2, np.uint8)
    border = {"borderType": cv2.BORDER_CONSTANT, "borderValue": VOID}
    highest = cv2.dilate(ids, square, **border)
    return (highest != ids) | (cv2.erode(ids, square, **border) != ids)


def boundary_iou(counts: np.ndarray) -> np.ndarray:
    """Return the boundary IoU of each class from counts (C, 2), float64 (C,); nan for a class without a boundary."""
    with np.errstate(invalid="ignore"):
        return counts[:, 0] / counts[:, 1]
