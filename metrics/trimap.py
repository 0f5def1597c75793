"""Trimap IoU: scores near the outlines of the label (Kohli et al., 2009; Kraehenbuehl and Koltun, 2011).

Maps are train ids uint8 (H, W); labels of `num_labels` or more are ignored.
"""

import cv2
import numpy as np

from .intervals import image_counts

VOID = 255


def trimap_counts(prediction: np.ndarray, label: np.ndarray, num_labels: int, width: int) -> np.ndarray:
    """Return the confusion matrix, int64 (C, C), of the pixels near the outlines of the label.

    Near are pixels with labels of two classes at most `width` rows and columns away. Ignored pixels and the image's
    border are no outline.
    """
    valid = label < num_labels
    square = np.ones((2 * width + 1,) * 2, np.uint8)
    highest = cv2.dilate(np.where(valid, label + np.uint8(1), 0).astype(np.uint8), square)
    lowest = cv2.erode(np.where(valid, label, VOID).astype(np.uint8), square)
    near = highest.astype(int) - 1 > lowest
    return image_counts(prediction, np.where(near & valid, label, VOID).astype(np.uint8), num_labels)
