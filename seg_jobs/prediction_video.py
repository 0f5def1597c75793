"""Predict the frames of a video (`predict_seg.py --input a.mp4 --output b.mp4`)."""

from pathlib import Path

import numpy as np
import torch

from data_scripts.video import count_frames, frame_size, rewrite
from seg_runs.errors import RunError
from seg_runs.files import writing
from seg_runs.lock import workplace
from seg_runs.processes import progress_bar

from .prediction_job import PredictionJob, lack_of_memory
from .prediction_pictures import overlay


def predict_video(job: PredictionJob, source: Path, target: Path) -> None:
    """Write the video `target`: the frames of `source` with the overlay, and its sound."""
    if job.accelerator.num_processes > 1:
        raise RunError("--output: the frames of a video follow each other, so start one process")
    if too_large := lack_of_memory(job, frame_size(source)):
        raise RunError(f"--input {source}: a frame {too_large}")

    def draw(frame: np.ndarray) -> np.ndarray:
        image = torch.from_numpy(frame.copy()).permute(2, 0, 1).to(job.accelerator.device)
        return overlay(frame, job.scoring.labels.to_color(job.predictor.labels(image).to(torch.uint8).cpu().numpy()))

    expected = count_frames(source) or 0
    done = 0
    with (
        workplace(target.with_name(f".{target.name}.unfinished")) as folder,
        writing(target),
        progress_bar(job.accelerator, f"Predicting {source.name}", total=expected or None) as bar,
    ):
        unfinished = folder / target.name
        for done in rewrite(source, unfinished, draw):  # noqa: B007
            bar.update()
        unfinished.replace(target)
    print(f"video: {target}", flush=True)
    if done < 0.9 * expected:  # some formats only say how long they are, at what rate
        line = f"{done} of about {expected} frames of {source} could be read"
        if done < 0.5 * expected:
            raise RunError(f"{line}: it is damaged")
        print(f"note: {line}", flush=True)
