"""Make the pictures of a prediction."""

import numpy as np
import torch

from seg_models.calibration import MEASURES, at_temperature

from .prediction_job import PredictionJob

ROWS = 256  # of an image whose confidence and entropy are computed at a time, because all take as much as its scores


def pictures_of(
    job: PredictionJob, image: torch.Tensor, scores: torch.Tensor, prediction: torch.Tensor, temperature: float | None
) -> dict[str, np.ndarray]:
    """Return the pictures of an image by kind, uint8: ids, train ids, colours, and what else --save names.

    image        uint8 (3, H, W)
    scores       (C, H, W)
    prediction   train ids (H, W)
    temperature  of confidence and entropy; None: 1
    """
    ids = prediction.cpu().numpy()
    labels = job.scoring.labels
    pictures = {"ids": labels.to_source(ids), "color": labels.to_color(ids), "train_ids": ids}
    if "overlay" in job.pictures:
        pictures["overlay"] = overlay(image.permute(1, 2, 0).cpu().numpy(), pictures["color"])
    measures = {kind: measure for kind, measure in MEASURES.items() if kind in job.pictures}
    pictures |= {kind: np.empty_like(ids) for kind in measures}
    for start in range(0, len(ids) if measures else 0, ROWS):
        rows = slice(start, start + ROWS)
        probabilities = job.predictor.as_probabilities(scores[:, rows], image.shape[-2:])
        if temperature is not None:
            probabilities = at_temperature(probabilities, temperature)
        for kind, measure in measures.items():
            pictures[kind][rows] = (measure(probabilities) * 255).round().to(torch.uint8).cpu().numpy()
    return pictures


def overlay(photo: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Return the mean of a photo and the colours of its classes, both uint8 (H, W, 3)."""
    return ((photo.astype(np.uint16) + color + 1) // 2).astype(np.uint8)
