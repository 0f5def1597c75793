"""Predict a split or a folder of images with a trained model, and score the predictions if there are labels.

    accelerate launch predict_seg.py --mst                                     # the newest complete run under runs/
    accelerate launch predict_seg.py --model_name_or_path runs/NAME --splits val
    accelerate launch predict_seg.py --model_name_or_path runs/NAME/best --input my_photos
    accelerate launch predict_seg.py --model_name_or_path USER/NAME --input my_photos           # from a hub
    accelerate launch predict_seg.py --model_name_or_path runs/A runs/B                         # the mean of both
    accelerate launch predict_seg.py --input drive.mp4 --output drive_classes.mp4

Writes results_SPLIT/NAME.png (the data set's own ids, at the image's size), results_color_SPLIT/NAME.png and what
--save names, and scores_SPLIT.json if there are labels. Start it again after an interruption: it predicts the remaining
images.
"""

from seg_jobs.arguments import PredictArguments, answer_early
from seg_jobs.model_paths import check_models

answer_early(__name__, PredictArguments, lambda args: check_models(args.results.model_name_or_path))

import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset
from torch.utils.data import DataLoader

from data_scripts.file_checks import check_split
from data_scripts.labels import DataError
from data_scripts.loading import eval_loader
from data_scripts.pixels import Pixels
from data_scripts.reader import file_state, read_label
from data_scripts.submission import write_submission
from data_scripts.transforms import EvalTransform
from data_scripts.video import count_frames, frame_size, rewrite
from metrics.calibration_error.reliability import expected_calibration_error, reliability_counts
from seg_jobs.prediction_job import PredictionJob, lack_of_memory, note_on_scores, open_job
from seg_jobs.trained_model import compute_scores, load_metric
from seg_models.calibration import at_temperature, confidence, entropy, fit_temperature, negative_log_likelihood
from seg_models.errors import ModelError
from seg_runs import predictions
from seg_runs.files import writing
from seg_runs.launch import RunError, on_first_process, one_line_errors, progress_bar, say
from seg_runs.parsing import parse_arguments
from seg_runs.results import class_table
from seg_runs.temperatures import store_temperature

PIXELS = 10_000  # of each image, to fit a temperature on
ROWS = 256  # of an image whose confidence and entropy are computed at a time, because all take as much as its scores
MEASURES = {"confidence": confidence, "entropy": entropy}  # kinds of pictures


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
                say(accelerator, f"{name}: no labels, {len(split) - len(unread)} images predicted")
            elif accelerator.is_main_process:
                report_scores(job, name, scores)
            on_first_process(accelerator, write_summaries, job, split, folder)
            say(accelerator, "\n".join(f"{kind}: {path}" for kind, path in folder.folders.items()), flush=True)
            if args.results.zip and not unread:
                path = on_first_process(accelerator, write_submission, split, scoring.labels, folder.folders["ids"])
                say(accelerator, f"for the server: {path}", flush=True)
        for folder in finished:
            on_first_process(accelerator, folder.end)
    refuse_damaged(accelerator, damaged, sum(map(len, job.images.splits.values())))
    accelerator.end_training()


def report_scores(job: PredictionJob, name: str, scores: dict) -> None:
    """Print the scores of the split `name`, and write them to its JSON file."""
    notes = (
        note_on_scores(trained.model.config.to_dict(), job.scored, name, job.images.fold) for trained in job.models
    )
    for note in dict.fromkeys(filter(None, notes)):
        print(f"note: {note}")
    names = job.scoring.labels.names
    predictions.write_scores(job.output / f"scores_{name}.json", scores, names, job.settings)
    count = len(job.images.splits[name])
    print(f"{name}: {count} image{'s' * (count != 1)}", class_table(names, scores), sep="\n")
    print(f"mIoU {scores['mean_iou']:.4f}")


def predict_split(job: PredictionJob, split: Dataset, folder: predictions.Predictions) -> tuple[dict | None, list[str]]:
    """Predict a split and write the predictions. Each image is predicted by one process.

    Returns the scores, or None without labels, and a line for each image that is damaged or too large. Such an image
    raises an error instead if the split has labels.
    """
    accelerator, scoring = job.accelerator, job.scoring
    labelled, labels = "label" in split.column_names, scoring.labels
    images = {row["name"]: [row["image"]["path"], *file_state(row["image"])] for row in split}
    temperature = job.temperature
    done = on_first_process(accelerator, folder.begin, {**job.settings, "temperature": temperature}, images)

    damaged = []
    metric = load_metric()
    for item in progress_bar(accelerator, f"Predicting {folder.name}", loader=eval_items(job, split, not labelled)):
        name = item["name"]
        if "error" in item:
            damaged.append(item["error"])
            continue
        if name not in done:
            if too_large := lack_of_memory(job.predictor, item["pixel_values"].shape[-2:]):
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


def eval_items(job: PredictionJob, split: Dataset, pass_errors: bool = False) -> DataLoader:
    """Return a loader of this process's images of a split."""
    scoring, accelerator = job.scoring, job.accelerator
    items = split.with_transform(EvalTransform(Pixels(split, scoring.files), pass_errors, scoring.table))
    processes = (accelerator.num_processes, accelerator.process_index)
    return eval_loader(items, *processes, job.num_workers, pin_memory=accelerator.device.type == "cuda")


def pictures_of(
    job: PredictionJob, image: torch.Tensor, scores: torch.Tensor, prediction: torch.Tensor, temperature: float | None
) -> dict[str, np.ndarray]:
    """Return the pictures of an image by kind, uint8: its ids, and what --save names.

    image        uint8 (3, H, W)
    scores       (C, H, W)
    prediction   train ids (H, W)
    temperature  of confidence and entropy; None: 1
    """
    ids, labels = prediction.cpu().numpy(), job.scoring.labels
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


def write_summaries(job: PredictionJob, split: Dataset, folder: predictions.Predictions) -> None:
    """Write the legend and the shares of the classes, if --save names them. Name what is left of other predictions."""
    labels = job.scoring.labels
    if others := folder.others(split["name"]):
        print(f"note: {folder.folders['ids']} also holds {len(others)} other image(s), such as {others[0].name}")
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


def calibrate(job: PredictionJob) -> None:
    """Fit the temperature on a sample of the pixels of the validation images, and store it with the model.

    The sample depends on the images alone, not on the number of processes.
    """
    accelerator, split, sampled = job.accelerator, job.images.splits["val"], {}
    for item in progress_bar(accelerator, "Calibrating", loader=eval_items(job, split)):
        if too_large := lack_of_memory(job.predictor, item["pixel_values"].shape[-2:]):
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
    """Fit a temperature on probabilities (N, C) and labels (N,) of each image, and store it. Returns a line on it."""
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
    path = store_temperature(job.models[0].folder, job.settings, entry | {"log_loss": nll, "calibration_error": errors})
    return (
        f"temperature {temperature:.3f} in {path}: log loss {nll[0]:.4f} -> {nll[1]:.4f}, expected calibration error "
        f"{errors[0]:.4f} -> {errors[1]:.4f}, on {len(labels)} pixels of {len(sampled)} validation images"
    )


def predict_video(job: PredictionJob, source: Path, target: Path) -> None:
    """Write the video `target`: the frames of `source` with the overlay, and its sound."""
    if job.accelerator.num_processes > 1:
        raise RunError("--output: the frames of a video follow each other, so start one process")
    if too_large := lack_of_memory(job.predictor, frame_size(source)):
        raise RunError(f"--input {source}: a frame {too_large}")

    def draw(frame: np.ndarray) -> np.ndarray:
        image = torch.from_numpy(frame.copy()).permute(2, 0, 1).to(job.accelerator.device)
        return overlay(frame, job.scoring.labels.to_color(job.predictor.labels(image).to(torch.uint8).cpu().numpy()))

    unfinished = target.with_name(f".{target.stem}.unfinished{target.suffix}")
    expected, done = count_frames(source) or 0, 0
    try:
        with (
            writing(target),
            progress_bar(job.accelerator, f"Predicting {source.name}", total=expected or None) as bar,
        ):
            for done in rewrite(source, unfinished, draw):  # noqa: B007
                bar.update()
            unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    print(f"video: {target}", flush=True)
    if done < 0.9 * expected:  # some formats only say how long they are, at what rate
        line = f"{done} of about {expected} frames of {source} could be read"
        if done < 0.5 * expected:
            raise RunError(f"{line}: it is damaged")
        print(f"note: {line}", flush=True)


def overlay(photo: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Return the mean of a photo and the colours of its classes, both uint8 (H, W, 3)."""
    return ((photo.astype(np.uint16) + color + 1) // 2).astype(np.uint8)


def refuse_damaged(accelerator: Accelerator, damaged: list[str], images: int) -> None:
    """Print a line for each image that was not predicted. Raises RunError if there are any."""
    if not damaged:
        return
    if accelerator.is_main_process:
        print("\n".join(f"damaged: {line}" for line in damaged), file=sys.stderr, flush=True)
    raise RunError(f"{len(damaged)} of {images} images could not be predicted, see above; the others are done")


if __name__ == "__main__":
    main()
