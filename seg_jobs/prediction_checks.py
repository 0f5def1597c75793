"""Checks of what predict_seg.py is asked for. prediction_job.py calls them before any long work."""

from pathlib import Path

from datasets import DatasetDict

from data_scripts.arguments import InputOptions
from data_scripts.catalog import SPLITS
from data_scripts.video import ENDINGS, WRITTEN, is_video, require_av
from seg_runs.arguments import ResultOptions
from seg_runs.errors import RunError


def check_video(source: str, target: str) -> None:
    """Raise an error if the video `source` cannot be read, or `target` cannot be written."""
    if not is_video(source):
        raise RunError(f"--output is a video, but --input {source} is none of {', '.join(ENDINGS)}")
    if Path(target).suffix.lower() not in WRITTEN:
        raise RunError(f"--output {target}: the name of the video to write must end in one of {', '.join(WRITTEN)}")
    if Path(target).exists():
        raise RunError(f"--output {target} exists: give another name, or delete it")
    if not Path(target).resolve().parent.is_dir():
        raise RunError(f"--output {target}: there is no folder {Path(target).resolve().parent}")
    require_av()


def refuse_calibration(wanted: ResultOptions, images: InputOptions, models: int) -> None:
    """Raise RunError if --calibrate has no single model in a folder, or no validation images.

    models  how many there are
    """
    if not wanted.calibrate:
        return
    if models > 1:
        raise RunError("--calibrate fits the temperature of one model: give one --model_name_or_path")
    if wanted.model_name_or_path and not Path(wanted.model_name_or_path[0]).exists():
        raise RunError("--calibrate stores the temperature in the model's folder: download the model first")
    if images.input or "val" not in (images.splits or ["val"]) or images.eval_dataset:
        raise RunError(
            "--calibrate needs validation images of the model's data set: leave out --input, --eval_dataset "
            "and a --splits without val"
        )


def refuse_missing_splits(options: InputOptions, data: DatasetDict, path: str) -> None:
    """Raise RunError if the data in `path` lack one of --splits."""
    for name in options.splits or ():
        if SPLITS[name] not in data:
            known = ", ".join(split for split in SPLITS if SPLITS[split] in data)
            raise RunError(f"--splits {name}: {path} has no such split: choose from {known}")
