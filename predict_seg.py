"""Predict a split or a folder of images with a trained model, and score the predictions if there are labels.

    accelerate launch predict_seg.py --mst                                     # the newest finished run under runs/
    accelerate launch predict_seg.py --model_name_or_path runs/NAME --splits val
    accelerate launch predict_seg.py --model_name_or_path runs/NAME/best --input my_photos
    accelerate launch predict_seg.py --model_name_or_path USER/NAME --input my_photos           # from a hub
    accelerate launch predict_seg.py --model_name_or_path runs/A runs/B                         # the mean of both
    accelerate launch predict_seg.py --input drive.mp4 --output drive_classes.mp4

Writes results_SPLIT/NAME.png (the data set's own ids, at the image's size), results_color_SPLIT/NAME.png and what
--save names, and scores_SPLIT.json if there are labels. Start it again after an interruption: it predicts the remaining
images.
"""

from data_scripts.files import refuse_nowhere
from seg_jobs.arguments import PredictArguments, answer_early
from seg_jobs.model_paths import check_models


def check_places(args: PredictArguments) -> None:
    """Raise an error if the photos or a model are nowhere, before torch loads."""
    if args.images.input:
        refuse_nowhere(args.images.input, "--input")
    check_models(args.results.model_name_or_path)


answer_early(__name__, PredictArguments, check_places)

import sys
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset

from data_scripts.file_checks import check_split
from data_scripts.labels import DataError
from data_scripts.reader import file_state, read_label
from data_scripts.submission import write_submission
from seg_jobs.calibration import calibrate
from seg_jobs.prediction_job import PredictionJob, lack_of_memory, note_on_scores, open_job, state_of
from seg_jobs.prediction_pictures import pictures_of
from seg_jobs.prediction_video import predict_video
from seg_jobs.trained_model import compute_scores, load_metric
from seg_models.errors import ModelError
from seg_runs import predictions
from seg_runs.errors import RunError, one_line_errors
from seg_runs.launch import spare_libraries
from seg_runs.parsing import parse_arguments
from seg_runs.processes import on_first_process, progress_bar, say
from seg_runs.results import class_table


def main(argv: list[str] | None = None) -> None:
    with one_line_errors(DataError, ModelError):
        predict(parse_arguments(PredictArguments, argv))


def predict(args: PredictArguments) -> None:
    """Open the models and the images, then predict each split."""
    job = open_job(args)
    if args.results.output:
        return predict_video(job, Path(args.images.input), Path(args.results.output))
    accelerator, scoring, output = job.accelerator, job.scoring, job.output
    for name, split in job.images.splits.items():
        if "label" in split.column_names:  # a score must cover every image; splits without labels may have damaged ones
            on_first_process(accelerator, check_split, split, scoring.files, name, accelerator.is_main_process)
    damaged, finished = [], []
    with predictions.alone(accelerator, output):
        if args.results.calibrate:
            calibrate(job)
        for name, split in job.images.splits.items():
            folder = predictions.Predictions(output, name, job.pictures)
            scores, unread = predict_split(job, split, folder)
            damaged += unread
            finished += [] if unread else [folder]  # else keep the record, to continue once the others are repaired
            if scores is None:
                number = len(split) - len(unread)
                say(accelerator, f"{name}: no labels, {number} image{'' if number == 1 else 's'} predicted")
            elif accelerator.is_main_process:
                report_scores(job, name, scores)
            on_first_process(accelerator, write_summaries, job, split, folder)
            say(accelerator, "\n".join(f"{kind}: {path}" for kind, path in folder.folders.items()), flush=True)
            if job.zip and not unread:
                path = on_first_process(accelerator, write_submission, split, scoring.labels, folder.folders["ids"])
                say(accelerator, f"for the server: {path}", flush=True)
        for folder in finished:
            on_first_process(accelerator, folder.end)
    refuse_damaged(accelerator, damaged, sum(map(len, job.images.splits.values())))
    accelerator.end_training()


def report_scores(job: PredictionJob, name: str, scores: dict) -> None:
    """Print the scores of the split `name`, and write them to its JSON file."""
    notes = (
        note_on_scores(trained.model.config.to_dict(), job.scored, name, job.images.held_out) for trained in job.models
    )
    for note in dict.fromkeys(filter(None, notes)):
        print(f"note: {note}")
    names = job.scoring.labels.names
    file = job.output / f"scores_{name}.json"
    if state_of(job.models) == job.settings["model"]:
        predictions.write_scores(file, scores, names, job.settings)
    else:  # a training has replaced them
        print(f"note: the weights have changed meanwhile. These are the scores of the earlier ones: {file} lacks them")
    count = len(job.images.splits[name])
    print(f"{name}: {count} image{'s' * (count != 1)}", class_table(names, scores), sep="\n")
    print(f"mIoU {scores['mean_iou']:.4f}")


def predict_split(job: PredictionJob, split: Dataset, folder: predictions.Predictions) -> tuple[dict | None, list[str]]:
    """Predict a split and write the predictions. Each image is predicted by one process.

    Returns the scores, or None without labels, and a line for each image that is damaged or too large. Such an image
    raises an error instead if the split has labels.
    """
    accelerator, scoring = job.accelerator, job.scoring
    labelled = "label" in split.column_names
    labels = scoring.labels
    images = {row["name"]: [row["image"]["path"], *file_state(row["image"])] for row in split}
    temperature = job.read_temperature()
    done = on_first_process(accelerator, folder.begin, {**job.settings, "temperature": temperature}, images)

    damaged = []
    metric = load_metric()
    loader = job.items(split, pass_errors=not labelled)
    for item in progress_bar(accelerator, f"Predicting {folder.name}", loader=loader):
        name = item["name"]
        if "error" in item:
            damaged.append(item["error"])
            continue
        if name not in done:
            if too_large := lack_of_memory(job, item["pixel_values"].shape[-2:]):
                if labelled:
                    raise RunError(f"{folder.name}: image {name} {too_large}")
                damaged.append(f"image {name} {too_large}")
                continue
            prediction = predict_image(job, item["pixel_values"].to(accelerator.device), folder, name, temperature)
        elif labelled:  # an earlier run has predicted it
            prediction = torch.from_numpy(labels.train_ids[read_label(str(folder.files(name)["ids"]))])
        if labelled:
            metric.add_batch(predictions=scoring.counted(prediction), references=item["labels"].to(prediction.device))
    return compute_scores(accelerator, metric, labels), gather_object(damaged)


def predict_image(
    job: PredictionJob,
    image: torch.Tensor,
    folder: predictions.Predictions,
    name: str,
    temperature: float | None,
) -> torch.Tensor:
    """Predict an image, uint8 (3, H, W), and write its pictures under `name`. Returns train ids (H, W), uint8."""
    scores = job.predictor(image)
    prediction = scores.argmax(0).to(torch.uint8)
    folder.write(name, pictures_of(job, image, scores, prediction, temperature))
    return prediction


def write_summaries(job: PredictionJob, split: Dataset, folder: predictions.Predictions) -> None:
    """Write the legend and the shares of the classes, if --save names them. Name what is left of other predictions."""
    labels = job.scoring.labels
    if others := folder.others(split["name"]):
        print(f"note: {folder.folders['ids']} also holds {len(others)} other image(s), such as {others[0].name}")
    if earlier := folder.earlier("shares" in job.save, job.zip):
        print(f"note: of an earlier prediction, and may not fit this one: {', '.join(map(str, earlier))}")
    if "legend" in job.save:
        print(f"legend: {folder.write_legend(labels.legend)}", flush=True)
    if "shares" in job.save:
        counts = {}
        for name in split["name"]:
            path = folder.files(name)["ids"]
            if path.is_file():  # a damaged image has none
                ids = labels.train_ids[read_label(str(path))]
                counts[name] = np.bincount(ids.reshape(-1), minlength=256)[: len(labels.names)]
        print(f"shares: {folder.write_shares(labels.names, counts)}", flush=True)


def refuse_damaged(accelerator: Accelerator, damaged: list[str], images: int) -> None:
    """Print a line for each image that was not predicted. Raises RunError if there are any."""
    if not damaged:
        return
    if accelerator.is_main_process:
        print("\n".join(f"damaged: {line}" for line in damaged), file=sys.stderr, flush=True)
    others = "; the others are done" if len(damaged) < images else ""
    raise RunError(f"{len(damaged)} of {images} image{'s' * (images != 1)} could not be predicted, see above{others}")


if __name__ == "__main__":
    spare_libraries()
    main()
