"""Fit a model's temperature on its validation images (`predict_seg.py --calibrate`)."""

import zlib

import numpy as np
import torch
from accelerate.utils import gather_object

from metrics.calibration_error.reliability import expected_calibration_error, reliability_counts
from seg_models.calibration import (
    LEAST,
    MOST,
    at_end_of_range,
    at_temperature,
    fit_temperature,
    negative_log_likelihood,
)
from seg_runs.errors import RunError
from seg_runs.processes import on_first_process, progress_bar, say
from seg_runs.temperatures import store_temperature

from .prediction_job import PredictionJob, lack_of_memory, state_of

PIXELS = 10_000  # of each image, to fit a temperature on

# why the fit can end at its lowest and its highest temperature
RIGHT = "the network is right at nearly every pixel, as on images that it learned from: validate on others"
CHANCE = "the network knows no more than chance: see in scores_val.json whether the classes are those of the images"


def calibrate(job: PredictionJob) -> None:
    """Fit the temperature on a sample of the pixels of the validation images, and store it with the model.

    The sample depends on the images alone, not on the number of processes.
    """
    accelerator = job.accelerator
    split = job.images.splits["val"]
    sampled = {}
    for item in progress_bar(accelerator, "Calibrating", loader=job.items(split)):
        if too_large := lack_of_memory(job, item["pixel_values"].shape[-2:]):
            raise RunError(f"val: image {item['name']} {too_large}")
        probabilities = job.predictor.probabilities(item["pixel_values"].to(accelerator.device))
        target = job.scoring.for_loss(item["labels"]).flatten()
        valid = (target < len(job.scoring.labels.names)).nonzero()[:, 0].numpy()
        random = np.random.default_rng(zlib.crc32(item["name"].encode()))
        chosen = random.choice(valid, min(PIXELS, len(valid)), replace=False)
        sampled[item["name"]] = probabilities.flatten(1)[:, chosen].t().cpu().numpy(), target[chosen].numpy()
    samples = dict(gather_object(list(sampled.items())))
    line = on_first_process(accelerator, fit_and_store, job, [samples[name] for name in sorted(samples)])
    say(accelerator, line, flush=True)


def fit_and_store(job: PredictionJob, sampled: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """Fit a temperature on probabilities (N, C) and labels (N,) of each image, and store it. Returns a text on it."""
    probabilities, labels = (torch.from_numpy(np.concatenate(part)) for part in zip(*sampled, strict=True))
    if not len(labels):
        raise RunError(
            "--calibrate: no pixel of the validation images has a label: see with python -m data_scripts.check what "
            "their masks hold"
        )
    temperature = fit_temperature(probabilities, labels)
    nll = [negative_log_likelihood(probabilities, labels, value) for value in (1.0, temperature)]
    errors = []
    for value in (1.0, temperature):
        highest, predicted = at_temperature(probabilities.t(), value).max(0)
        counts = reliability_counts(highest.numpy(), (predicted == labels).numpy())
        errors.append(expected_calibration_error(counts))
    entry = {"temperature": temperature, "images": len(sampled), "pixels": len(labels)}
    if state_of(job.models) != job.settings["model"]:
        raise RunError(f"--calibrate: the weights in {job.models[0].folder} changed meanwhile: start it again")
    path = store_temperature(job.models[0].folder, job.settings, entry | {"log_loss": nll, "calibration_error": errors})
    line = (
        f"temperature {temperature:.3f} in {path}: log loss {nll[0]:.4f} -> {nll[1]:.4f}, expected calibration error "
        f"{errors[0]:.4f} -> {errors[1]:.4f}, on {len(labels)} pixels of {len(sampled)} validation images"
    )
    if at_end_of_range(temperature):
        why = RIGHT if temperature < 1 else CHANCE
        line += f"\nnote: the temperature is at the end of its range ({LEAST:g} to {MOST:g}), so it may not fit: {why}"
    return line
