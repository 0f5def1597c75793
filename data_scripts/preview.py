"""Show the first training items before training begins."""

import itertools

import cv2
import numpy as np

from .copyblob import PASTED
from .labels import LabelInfo
from .loading import TrainBatches
from .transforms import TrainTransform

OUTLINE = (255, 255, 0)
SHOWN_WIDTH = 480  # width in pixels at which people view a panel: outlines must be visible at it


def preview_rows(
    transform: TrainTransform, batches: TrainBatches, number: int, labels: LabelInfo
) -> list[tuple[np.ndarray, ...]]:
    """Return the first `number` training items as rows of (image, label, image, label), uint8 (h, w, 3) each.

    A yellow outline marks pasted blobs in image and label.
    """
    crops = []
    for epoch in itertools.count(1):
        transform.epoch.set(epoch)
        for batch in itertools.islice(batches, -(-number // batches.plan.micro_batch_size)):
            crops += transform.crops(batch, instances=True)
        if len(crops) >= number:
            break
    panels = []
    thickness = 1 + crops[0].label.shape[1] // SHOWN_WIDTH
    for crop in crops[:number]:
        image = crop.image
        label = labels.to_color(crop.label)
        for pasted in np.unique(crop.instance[crop.instance > PASTED]):
            edge, _ = cv2.findContours((crop.instance == pasted).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            for panel in (image, label):
                cv2.drawContours(panel, edge, -1, OUTLINE, thickness)
        panels += [image, label]
    if len(panels) % 4:
        panels += [np.full_like(panels[0], 255)] * 2
    return [tuple(panels[i : i + 4]) for i in range(0, len(panels), 4)]
