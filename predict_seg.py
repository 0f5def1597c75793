"""Predict a split or a folder of images with a trained model, and score where there are labels.

    accelerate launch predict_seg.py --mst                                     # the newest complete run under runs/
    accelerate launch predict_seg.py --model_name_or_path runs/NAME --splits val
    accelerate launch predict_seg.py --model_name_or_path runs/NAME/best --input my_photos
    accelerate launch predict_seg.py --model_name_or_path USER/NAME --input my_photos           # from a hub

Writes results_SPLIT/NAME.png (the data set's own ids, at the image's size) and results_color_SPLIT/NAME.png. Begun
again after an interruption, it goes on with the images that are left.
"""

from script_arguments import PredictArguments, answer_early

answer_early(__name__, PredictArguments)

import ctypes
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from accelerate.utils import gather_object
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

import seg_models.models  # noqa: F401 - from then on transformers loads our networks
from data_scripts.arguments import InputOptions
from data_scripts.check import check_split
from data_scripts.folds import load_data
from data_scripts.labels import DataError, LabelInfo
from data_scripts.loading import eval_loader
from data_scripts.pixels import Pixels, free_memory
from data_scripts.reader import file_state, read_label
from data_scripts.sources import SPLITS, folder_of_images, source_of
from data_scripts.submission import write_submission
from data_scripts.transforms import EvalTransform
from seg_models.cost import prediction_memory
from seg_models.errors import ModelError
from seg_models.modeling import set_output_stride
from seg_models.names import MULTI_SCALE
from seg_models.predictor import Predictor
from seg_models.weights import hub_folder
from seg_runs import predictions, run_folder
from seg_runs.checkpoints import not_finite
from seg_runs.files import CHECKSUMS, damage, read_json
from seg_runs.launch import (
    RunError,
    make_accelerator,
    on_first_process,
    one_line_errors,
    os_reason,
    progress_bar,
)
from seg_runs.parsing import parse_arguments
from seg_runs.recipes import read_recipe
from seg_runs.report import class_table
from seg_runs.state import is_count, is_number

HERE = Path(__file__).resolve().parent
METRIC = HERE / "metrics" / "mean_iou"
SHIPPED = HERE / "checkpoints" / "camvid_streetnet"  # the network that comes with the project


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
            f"note: there is no run below {run_folder.RUNS}/: this is the network that comes along, {SHIPPED}"
        )
    model, processor = load_model(model_folder, wanted.trust_remote_code)
    set_output_stride(model, views.eval_output_stride)
    dataset, labels = label_set(model, model_folder, args.images.dataset or trained.get("dataset"))
    output = Path(wanted.output_dir) if wanted.output_dir else run
    trained = {"train_on": getattr(model.config, "trained_on", None) or "train", **trained}
    splits, fold = load_splits(args.images, dataset, trained, output)
    for name, split in splits.items():
        if "label" in split.column_names:  # their score is of every image; what has no labels may have damaged ones
            on_first_process(accelerator, check_split, split, labels, name, accelerator.is_main_process)

    # Prepared for the launch's precision; one forward at a time, on this process's share of the images.
    model = accelerator.prepare_model(model.to(memory_format=torch.channels_last), evaluation_mode=True)
    size = views.test_size or processor_size(processor)
    scales = tuple(views.scales or (MULTI_SCALE if views.mst else (1.0,)))
    flip = views.flip and bool(views.mst or views.scales)
    predictor = Predictor(model, processor.image_mean, processor.image_std, size, scales, flip, views.average)
    # What decides the predictions: those of an interrupted run with the same are kept.
    settings = {
        "model": [str(model_folder.resolve()), newest_change(model_folder)],
        **{"size": size, "scales": scales, "flip": flip, "average": views.average},
        "output_stride": views.eval_output_stride,
        "precision": accelerator.mixed_precision,
    }
    damaged, finished = [], []
    with predictions.alone(accelerator, output):
        for name, split in splits.items():
            folder = predictions.Predictions(output, name)
            scores, unread = predict_split(
                accelerator, predictor, split, labels, folder, args.images.num_workers, settings
            )
            damaged += unread
            finished += [] if unread else [folder]  # else what is predicted is kept for when the others are mended
            if scores is None:
                accelerator.print(f"{name}: no labels, {len(split) - len(unread)} images predicted")
            elif accelerator.is_main_process:
                if was_trained_on(model, name, fold):
                    print(f"note: this model was trained on images of {name}: these scores say little about others")
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


def find_model(name: str | None) -> tuple[Path, Path]:
    """(folder that results go to, folder of the saved model) for a run folder, a saved model, a model on a hub, or what
    `default_model` finds."""
    folder = Path(name) if name else default_model()
    if name and not is_there(folder):
        return Path("predictions") / name.replace("/", "--"), Path(hub_folder(name, "--model_name_or_path"))
    if folder.resolve() == SHIPPED:  # a part of the project: results go elsewhere
        return Path("predictions") / SHIPPED.name, folder
    if (folder / "best" / "config.json").is_file():
        return folder, folder / "best"
    if not (folder / "config.json").is_file():
        raise RunError(f"--model_name_or_path {folder} is neither a run folder with best/ nor a saved model")
    return (folder.parent if folder.name == "best" else folder), folder


def default_model() -> Path:
    """The newest complete run below runs/; without one, the network that comes with the project."""
    run = run_folder.newest_run()
    if run is None and not (SHIPPED / "config.json").is_file():
        raise RunError(
            f"no complete run below {run_folder.RUNS}/: train one with train_seg.py, or give --model_name_or_path"
        )
    return run or SHIPPED


def is_there(folder: Path) -> bool:
    try:
        return folder.exists()
    except OSError as error:  # a name that is too long, for one
        raise RunError(f"--model_name_or_path {folder}: {os_reason(error)}") from error


def read_arguments(run: Path) -> dict:
    """What the run was trained with; nothing for a model that is not in a run folder."""
    path = run / "args.yaml"
    trained = read_recipe(path) if path.exists() else {}
    for key in ("dataset", "dataset_path", "folds", "fold", "train_on"):
        if not isinstance(trained.get(key), str | None):
            raise RunError(f"cannot read recipe {path}: its {key} is {trained[key]!r:.80}")
    if trained.get("train_on", "train") not in ("train", "train+val"):
        raise RunError(f"cannot read recipe {path}: its train_on is {trained['train_on']!r:.80}")
    if (trained.get("folds") is None) != (trained.get("fold") is None):
        raise RunError(f"cannot read recipe {path}: folds and fold belong together, and one of them is missing")
    return trained


def load_model(folder: Path, trust_remote_code: bool = False):
    """The network, in fp32 whatever it was saved in, and its image processor, from a folder; code that lies there runs
    only if it is trusted. Raises RunError if anything there is damaged or absurd."""
    options = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    if wrong := damage(folder):
        raise RunError(f"cannot load the model in {folder}: {wrong} (if you changed it, delete {CHECKSUMS} there)")
    try:
        check_configuration(read_json(folder / "config.json"))
        model, found = AutoModelForSemanticSegmentation.from_pretrained(
            folder, output_loading_info=True, dtype=torch.float32, **options
        )
        processor = AutoImageProcessor.from_pretrained(folder, **options)
        check_processor(processor)
        check_logits(model)
    except RunError as error:
        raise RunError(f"cannot load the model in {folder}: {error}") from error
    except Exception as error:  # a damaged or hostile file can lead to any
        line = os_reason(error)
        if "custom code" in str(error) and not trust_remote_code:
            line = "it needs the code that lies there: read it, and give --trust_remote_code if you trust it"
        raise RunError(f"cannot load the model in {folder}: {line}") from error
    missing = {key for key in found["missing_keys"] if not key.endswith(".num_batches_tracked")}
    if missing:  # they would be random
        line = f"{len(missing)} of its weights are missing, as {min(missing)}"
        raise RunError(f"cannot load the model in {folder}: {line}")
    if bad := not_finite(model.state_dict()):
        raise RunError(f"cannot load the model in {folder}: its {bad} is not finite")
    return model, processor


LARGEST = 2**16  # of any number in a configuration: a damaged one must not ask for all memory there is


def check_configuration(config: dict) -> None:
    """Raise RunError for entries of config.json that no network has."""
    for key in ("dataset", "trained_on", "model_type", "pretrained"):
        if not isinstance(config.get(key), str | None):
            raise RunError(f"config.json: {key} is {config[key]!r:.80}")
    names = config.get("id2label")
    if names is not None and not (isinstance(names, dict) and all(isinstance(name, str) for name in names.values())):
        raise RunError(f"config.json: id2label is {names!r:.80}")
    if names is not None and sorted(names) != sorted(map(str, range(len(names)))):
        raise RunError("config.json: id2label does not number the classes from 0 on")
    for key, value in config.items():
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(number, int | float) and not -LARGEST <= number <= LARGEST for number in numbers):
            if key not in ("seed", "train_images"):
                raise RunError(f"config.json: {key} is {value!r:.80}")


@torch.no_grad()
def check_logits(model) -> None:
    """Raise RunError if a small image does not get a map of each class: settings may fit the weights and make no
    network."""
    logits = model(pixel_values=torch.zeros(1, 3, 128, 128)).logits
    if logits.ndim != 4 or logits.shape[:2] != (1, model.config.num_labels):
        raise RunError(f"its logits are of shape {tuple(logits.shape)}, for {model.config.num_labels} classes")


def check_processor(processor) -> None:
    """Raise RunError for means, deviations or a size that no image can be prepared with."""
    for key in ("image_mean", "image_std"):
        value = getattr(processor, key, None)
        numbers = isinstance(value, list | tuple) and len(value) == 3 and all(map(is_number, value))
        if not numbers or (key == "image_std" and min(value) <= 0):
            raise RunError(f"preprocessor_config.json: {key} is {value!r:.80}")
    size = processor_size(processor, strict=False)
    if size is not None and not all(is_count(side) and 1 <= side <= LARGEST for side in size):
        raise RunError(f"preprocessor_config.json: size is {size!r:.80}")


def label_set(model, folder: Path, dataset: str | None) -> tuple[str, LabelInfo]:
    """The data set whose classes `model` predicts, the one named in its configuration if not given, and what its ids
    mean."""
    dataset = dataset or getattr(model.config, "dataset", None) or "minicity"
    labels = source_of(dataset).labels
    if model.config.num_labels != len(labels.names):
        raise RunError(
            f"{folder} predicts {model.config.num_labels} classes but --dataset {dataset} has {len(labels.names)}"
        )
    names = [name for _, name in sorted(model.config.id2label.items())]
    if names != list(labels.names) and sorted(names) == sorted(labels.names):
        raise RunError(f"{folder} predicts the classes of --dataset {dataset} in another order: {', '.join(names)}")
    return dataset, labels


def processor_size(processor, strict: bool = True) -> tuple[int, int] | None:
    """The size that the model was evaluated at; None for each image's own. Another's image processor may have no height
    and width: RunError if `strict`."""
    if not processor.do_resize:
        return None
    if processor.size is None or "height" not in processor.size or "width" not in processor.size:
        if strict:
            raise RunError("this model's image processor does not resize to a height and a width: give --test_size")
        return None
    return processor.size["height"], processor.size["width"]


def load_splits(options: InputOptions, dataset: str, trained: dict, output: Path) -> tuple[dict, str | None]:
    """{name: split} to predict, and the fold that is held out, if one is. What predictions and trainings wrote, now or
    before, is no input."""
    if options.input:
        path = Path(options.input).resolve()
        name = (path.stem if path.is_file() else path.name) or "images"  # a disk has no name
        name = f"folder_{name}" if name in SPLITS else name  # not over the predictions of a split
        own = {folder.resolve() for folder in predictions.Predictions(output, name).folders}

        def leave_out(folder: Path) -> bool:
            return folder.resolve() in own or predictions.is_output(folder)

        return {name: folder_of_images(options.input, leave_out)}, None
    of_run = trained if dataset == trained.get("dataset") else {}
    path = options.dataset_path or of_run.get("dataset_path")
    folds, fold = (
        (options.folds, options.fold) if options.fold is not None else (of_run.get("folds"), of_run.get("fold"))
    )
    data, _ = load_data(dataset, path, folds, fold, trained["train_on"])
    for name in options.splits or ():
        if SPLITS[name] not in data:
            raise RunError(f"--splits {name}: {path or dataset} has no such split")
    names = options.splits or [name for name in ("val", "test") if SPLITS[name] in data]
    return {name: data[SPLITS[name]] for name in names}, fold


def was_trained_on(model, name: str, fold: str | None) -> bool:
    """Whether the split `name`, or its images in `fold` if one is held out, may have been trained on by `model`."""
    if name == "val" and fold is not None:
        return fold != getattr(model.config, "fold", None)
    return name in (getattr(model.config, "trained_on", None) or "train").split("+")


def newest_change(folder: Path) -> float:
    """When the model in `folder` changed last; predictions beside it do not count."""
    files = [*folder.glob("*.safetensors"), folder / "config.json", folder / "preprocessor_config.json"]
    return max(path.stat().st_mtime for path in files if path.exists())


def predict_split(
    accelerator, predictor, split, labels, folder: predictions.Predictions, num_workers: int, settings: dict
) -> tuple[dict | None, list[str]]:
    """Write the predictions of a split, each image by one process.

    Returns its scores, or None without labels, and a line for each image that is damaged or too large, which only a
    split without labels may have.
    """
    import evaluate

    labelled = "label" in split.column_names
    images = {row["name"]: [row["image"]["path"], *file_state(row["image"])] for row in split}
    done = on_first_process(accelerator, folder.begin, settings, images)
    items = split.with_transform(EvalTransform(Pixels(split, labels), pass_errors=not labelled))
    processes = (accelerator.num_processes, accelerator.process_index)
    loader = eval_loader(items, *processes, num_workers, pin_memory=accelerator.device.type == "cuda")
    metric, damaged = evaluate.load(str(METRIC)), []
    for item in progress_bar(accelerator, f"Predicting {folder.name}", loader=loader):
        name = item["name"]
        if "error" in item:
            damaged.append(item["error"])
            continue
        if name in done and not labelled:
            continue
        if name in done:
            prediction = torch.from_numpy(labels.train_ids[read_label(str(folder.ids(name)))])
        elif too_large := lack_of_memory(predictor, item["pixel_values"].shape[-2:]):
            if labelled:
                raise RunError(f"{folder.name}: image {name} {too_large}")
            damaged.append(f"image {name} {too_large}")
            continue
        else:
            prediction = predictor.labels(item["pixel_values"].to(accelerator.device)).to(torch.uint8)
            ids = prediction.cpu().numpy()
            folder.write(name, labels.to_source(ids), labels.to_color(ids))
        if "labels" in item:
            metric.add_batch(predictions=prediction, references=item["labels"])
    metric.counts = accelerator.reduce(metric.counts.to(accelerator.device))
    damaged = gather_object(damaged)
    if not labelled or not metric.counts[list(range(len(labels.names)))].any():
        return None, damaged  # Cityscapes' test labels, for one, are all void
    return metric.compute(num_labels=len(labels.names), ignore_index=labels.ignore_index), damaged


def lack_of_memory(predictor: Predictor, size: Sequence[int]) -> str:
    """Why an image of `size` (H, W) cannot be predicted with the memory that is free; nothing if it can."""
    needed = memory_for(predictor, tuple(size))
    free = free_memory_of(predictor.model.device, needed)
    if needed <= free:
        return ""
    return (
        f"of {size[0]}x{size[1]} takes about {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free: give "
        "fewer or smaller --scales, --no_flip, or a smaller --test_size"
    )


@lru_cache(maxsize=256)
def memory_for(predictor: Predictor, size: tuple[int, int]) -> int:
    """Bytes that the predictor takes for an image of `size` (H, W), beside the weights."""
    return prediction_memory(predictor.model, size, predictor.scales, predictor.flip, predictor.size)


def free_memory_of(device: torch.device, wanted: int) -> int:
    """Bytes that are free on a device. What this process has freed and still holds is given back if fewer than `wanted`
    are."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if free_memory() < wanted:
        give_back_memory()
    return free_memory()


def give_back_memory() -> None:
    """To the system, which `keep_memory` keeps glibc from doing by itself."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, TypeError, AttributeError):  # no glibc: another system
        pass


def refuse_damaged(accelerator, damaged: list[str], images: int) -> None:
    """Name the images that were not predicted, at the end, and raise RunError if there are any."""
    if not damaged:
        return
    if accelerator.is_main_process:
        print("\n".join(f"damaged: {line}" for line in damaged), file=sys.stderr, flush=True)
    raise RunError(f"{len(damaged)} of {images} images were not predicted, see above; the others are")


if __name__ == "__main__":
    main()
