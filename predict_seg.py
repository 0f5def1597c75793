"""Predict a split or a folder of images with a trained model, and score the predictions if there are labels.

    accelerate launch predict_seg.py --mst                                     # the newest complete run under runs/
    accelerate launch predict_seg.py --model_name_or_path runs/NAME --splits val
    accelerate launch predict_seg.py --model_name_or_path runs/NAME/best --input my_photos
    accelerate launch predict_seg.py --model_name_or_path USER/NAME --input my_photos           # from a hub

Writes results_SPLIT/NAME.png (the data set's own ids, at the image's size) and results_color_SPLIT/NAME.png, and
scores_SPLIT.json if there are labels. Start it again after an interruption: it predicts the remaining images.
"""

from script_arguments import PredictArguments, answer_early

answer_early(__name__, PredictArguments)

import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset, DatasetDict
from transformers import BaseImageProcessor, PreTrainedModel

from data_scripts import hub_data
from data_scripts.arguments import InputOptions
from data_scripts.catalog import SPLITS
from data_scripts.evaluation import Scoring, load_evaluation
from data_scripts.file_checks import check_split
from data_scripts.fold_files import Division, divided
from data_scripts.labels import DataError, LabelInfo
from data_scripts.loading import eval_loader
from data_scripts.pixels import Pixels
from data_scripts.reader import file_state, read_label
from data_scripts.recognition import recognize
from data_scripts.sources import folder_of_images, load_source
from data_scripts.submission import write_submission
from data_scripts.transforms import EvalTransform
from seg_models.arguments import ViewOptions
from seg_models.cost import prediction_memory
from seg_models.errors import ModelError
from seg_models.modeling import set_output_stride
from seg_models.predictor import Predictor
from seg_models.views import make_views
from seg_runs import predictions, run_folder
from seg_runs.launch import RunError, make_accelerator, on_first_process, one_line_errors
from seg_runs.lineage import may_have_seen, teachers_note, teachers_that_may_have_seen
from seg_runs.parsing import parse_arguments
from seg_runs.results import class_table
from trained_model import (
    SHIPPED,
    data_labels,
    find_model,
    free_memory_of,
    label_set,
    load_model,
    processor_size,
    read_arguments,
    score_split,
)


def main(argv: list[str] | None = None) -> None:
    with one_line_errors(DataError, ModelError):
        predict(parse_arguments(PredictArguments, argv))


def predict(args: PredictArguments) -> None:
    """Load the model, then predict each split."""
    wanted, views = args.results, args.views
    run, model_folder = find_model(wanted.model_name_or_path)
    trained = read_arguments(run)
    accelerator = make_accelerator()
    if not wanted.model_name_or_path and model_folder == SHIPPED:
        accelerator.print(
            f"note: there is no run in {run_folder.RUNS}/: using the network that comes with the project, {SHIPPED}"
        )
    model, processor = load_model(model_folder, wanted.trust_remote_code)
    set_output_stride(model, views.eval_output_stride)
    dataset, labels = label_set(model, model_folder, dataset_of(args.images, trained, model))
    output = Path(wanted.output_dir) if wanted.output_dir else run
    trained = {"train_on": getattr(model.config, "trained_on", None) or "train", **trained}
    splits, scoring, fold = load_splits(args.images, dataset, labels, trained, output)
    labels = scoring.network
    if wanted.zip and scoring.classes is not None:
        raise RunError("--zip and --eval_dataset exclude each other: these predictions hold the model's own ids")
    if scoring.classes is not None:
        accelerator.print(f"{', '.join(splits)}: {scoring.explain()}")
    for name, split in splits.items():
        if "label" in split.column_names:  # a score must cover every image; splits without labels may have damaged ones
            on_first_process(accelerator, check_split, split, scoring.files, name, accelerator.is_main_process)
    predictor = make_predictor(views, accelerator, model, processor)
    settings = settings_of(views, predictor, model_folder, accelerator.mixed_precision)
    damaged, finished = [], []
    with predictions.alone(accelerator, output):
        for name, split in splits.items():
            folder = predictions.Predictions(output, name)
            scores, unread = predict_split(
                accelerator, predictor, split, scoring, folder, args.images.num_workers, settings
            )
            damaged += unread
            finished += [] if unread else [folder]  # else keep the record, to continue once the others are repaired
            if scores is None:
                accelerator.print(f"{name}: no labels, {len(split) - len(unread)} images predicted")
            elif accelerator.is_main_process:
                if note := note_on_scores(model.config.to_dict(), args.images.eval_dataset, dataset, name, fold):
                    print(f"note: {note}")
                predictions.write_scores(output / f"scores_{name}.json", scores, labels.names, settings)
                print(f"{name}: {len(split)} images", class_table(labels.names, scores), sep="\n")
                print(f"mIoU {scores['mean_iou']:.4f}")
            accelerator.print(f"ids: {output}/results_{name}, colours: {output}/results_color_{name}", flush=True)
            if wanted.zip and not unread:
                path = on_first_process(accelerator, write_submission, split, labels, output / f"results_{name}")
                accelerator.print(f"for the server: {path}", flush=True)
        for folder in finished:
            on_first_process(accelerator, folder.end)
    refuse_damaged(accelerator, damaged, sum(map(len, splits.values())))
    accelerator.end_training()


def dataset_of(options: InputOptions, trained: dict, model: PreTrainedModel) -> str | None:
    """Return the data set to read: the flag's, else the one that --dataset_path holds, else the one trained on.

    With --dataset_name, it is "hub". Else the data set that the model was trained on wins if the path can be that one:
    MiniCity's layout is also others'.
    """
    if options.dataset_name is not None:
        return "hub"
    dataset = options.dataset or trained.get("dataset")
    if options.dataset is None and options.dataset_path is not None and not options.input:
        known = dataset or getattr(model.config, "dataset", None)
        return recognize(options.dataset_path, None if known == "hub" else known)
    return dataset


def load_splits(
    options: InputOptions, dataset: str, labels: LabelInfo, trained: dict, output: Path
) -> tuple[dict, Scoring, str | None]:
    """Return {name: split} to predict, how the predictions are scored, and the held-out fold or None.

    labels  the classes that the model predicts

    A folder given as `--input` is searched without the folders that predictions and training wrote into it.
    """
    if options.input:
        path = Path(options.input).resolve()
        name = (path.stem if path.is_file() else path.name) or "images"  # the root of a disk has no name
        name = f"folder_{name}" if name in SPLITS else name  # do not overwrite the predictions of a split
        own = {folder.resolve() for folder in predictions.Predictions(output, name).folders}

        def leave_out(folder: Path) -> bool:
            return folder.resolve() in own or predictions.is_output(folder)

        return {name: folder_of_images(options.input, leave_out)}, Scoring(labels, labels), None
    if options.eval_dataset:
        data, scoring = load_evaluation(options, labels)
        refuse_missing_splits(options, data, options.eval_dataset[1])
        of_data = {name: data[SPLITS[name]] for name in options.splits or ["val"]}
        return {f"{options.eval_dataset[0]}_{name}": split for name, split in of_data.items()}, scoring, None
    of_run = trained if dataset == trained.get("dataset") else {}
    path = options.path or of_run.get("dataset_name") or of_run.get("dataset_path")
    columns = (of_run.get("image_column"), of_run.get("label_column"))
    if options.dataset_name is not None:
        columns = hub_data.columns_of(options)
    folds, fold = (
        (options.folds, options.fold) if options.fold is not None else (of_run.get("folds"), of_run.get("fold"))
    )
    division = Division(folds, fold, trained["train_on"], of_run.get("val_share"), of_run.get("group_by"))
    data, found = load_source(dataset, path, columns)
    data = divided(data, found, division, dataset, path)
    refuse_missing_splits(options, data, path or dataset)
    names = options.splits or [name for name in ("val", "test") if SPLITS[name] in data]
    known = data_labels(labels, found, path or dataset)
    return {name: data[SPLITS[name]] for name in names}, Scoring(known, known), fold


def refuse_missing_splits(options: InputOptions, data: DatasetDict, path: str) -> None:
    """Raise RunError if the data in `path` lack one of --splits."""
    for name in options.splits or ():
        if SPLITS[name] not in data:
            raise RunError(f"--splits {name}: {path} has no such split")


def make_predictor(
    views: ViewOptions, accelerator: Accelerator, model: PreTrainedModel, processor: BaseImageProcessor
) -> Predictor:
    """Return a predictor with the views that the flags ask for, on the launch's device and in its precision."""
    # Each process predicts its own share of the images, so the model needs no wrapper that communicates.
    model = accelerator.prepare_model(model.to(memory_format=torch.channels_last), evaluation_mode=True)
    size = None if views.test_size else processor_size(processor)
    return Predictor(model, processor.image_mean, processor.image_std, make_views(views, size))


def settings_of(views: ViewOptions, predictor: Predictor, model_folder: Path, precision: str) -> dict:
    """Return the settings that determine the predictions. A run with the same settings reuses earlier predictions."""
    return {
        "model": [str(model_folder.resolve()), newest_change(model_folder)],
        **asdict(predictor.views),
        "output_stride": views.eval_output_stride,
        "precision": precision,
    }


def note_on_scores(
    config: dict, eval_dataset: list[str] | None, dataset: str, name: str, fold: str | None
) -> str | None:
    """Return what to say of a model's scores on the split `name` if it or its teachers may know the images.

    fold  the held-out fold that is the validation split, or None
    """
    if may_have_seen(config, name, fold):
        return f"this model was trained on images of {name}: these scores say little about new images"
    scored = eval_dataset[0] if eval_dataset else dataset
    known = teachers_that_may_have_seen(config, scored, name.removeprefix(f"{scored}_"), fold)
    return teachers_note(known) if known else None


def newest_change(folder: Path) -> float:
    """Return the newest modification time of the files of a saved model. Predictions in its folder do not count."""
    files = [*folder.glob("*.safetensors"), folder / "config.json", folder / "preprocessor_config.json"]
    return max(path.stat().st_mtime for path in files if path.exists())


def predict_split(
    accelerator: Accelerator,
    predictor: Predictor,
    split: Dataset,
    scoring: Scoring,
    folder: predictions.Predictions,
    num_workers: int,
    settings: dict,
) -> tuple[dict | None, list[str]]:
    """Predict a split and write the predictions. Each image is predicted by one process.

    Returns the scores, or None without labels, and a line for each image that is damaged or too large. Such an image
    raises an error instead if the split has labels.
    """
    labelled, labels = "label" in split.column_names, scoring.network
    images = {row["name"]: [row["image"]["path"], *file_state(row["image"])] for row in split}
    done = on_first_process(accelerator, folder.begin, settings, images)
    items = split.with_transform(EvalTransform(Pixels(split, scoring.files), not labelled, scoring.table))
    processes = (accelerator.num_processes, accelerator.process_index)
    loader = eval_loader(items, *processes, num_workers, pin_memory=accelerator.device.type == "cuda")
    damaged = []

    def predict_image(item: dict) -> torch.Tensor | None:
        """Return train ids (H, W), predicted and written now, or read if an earlier run wrote them.

        Returns None if the image cannot be predicted, or if it was predicted earlier and has no label to score.
        """
        name = item["name"]
        if "error" in item:
            damaged.append(item["error"])
            return None
        if name in done:
            if not labelled:
                return None
            return scoring.counted(torch.from_numpy(labels.train_ids[read_label(str(folder.ids(name)))]))
        if too_large := lack_of_memory(predictor, item["pixel_values"].shape[-2:]):
            if labelled:
                raise RunError(f"{folder.name}: image {name} {too_large}")
            damaged.append(f"image {name} {too_large}")
            return None
        prediction = predictor.labels(item["pixel_values"].to(accelerator.device)).to(torch.uint8)
        ids = prediction.cpu().numpy()
        folder.write(name, labels.to_source(ids), labels.to_color(ids))
        return scoring.counted(prediction)

    scores = score_split(accelerator, f"Predicting {folder.name}", loader, labels, predict_image)
    return scores, gather_object(damaged)


def lack_of_memory(predictor: Predictor, size: Sequence[int]) -> str:
    """Return why the free memory does not suffice for an image of `size` (H, W), or "" if it does."""
    needed = memory_for(predictor, tuple(size))
    free = free_memory_of(predictor.model.device, needed)
    if needed <= free:
        return ""
    return (
        f"of {size[0]}x{size[1]} needs about {needed / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB are free: give "
        "fewer or smaller --scales, --no_flip, or a smaller --test_size"
    )


@lru_cache(maxsize=256)
def memory_for(predictor: Predictor, size: tuple[int, int]) -> int:
    """Return the bytes that predicting an image of `size` (H, W) needs, besides the weights."""
    return prediction_memory(predictor.model, size, predictor.views)


def refuse_damaged(accelerator: Accelerator, damaged: list[str], images: int) -> None:
    """Print a line for each image that was not predicted. Raises RunError if there are any."""
    if not damaged:
        return
    if accelerator.is_main_process:
        print("\n".join(f"damaged: {line}" for line in damaged), file=sys.stderr, flush=True)
    raise RunError(f"{len(damaged)} of {images} images could not be predicted, see above; the others are done")


if __name__ == "__main__":
    main()
