"""Predict a split or a folder of images with a trained model, and score where there are labels.

    accelerate launch predict_seg.py --mst                                     # the newest complete run under runs/
    accelerate launch predict_seg.py --model_name_or_path runs/NAME --splits val
    accelerate launch predict_seg.py --model_name_or_path runs/NAME/best --input my_photos
    accelerate launch predict_seg.py --model_name_or_path USER/NAME --input my_photos           # from a hub

Writes results_SPLIT/NAME.png (the data set's own ids, at the image's size) and results_color_SPLIT/NAME.png. Begun
again after an interruption, it goes on with the images that are left.
"""

from seg_runs.arguments import PredictArguments, parse_arguments
from seg_runs.launch import one_line_errors

if __name__ == "__main__":  # --help and mistakes in flags are answered before torch is loaded, which takes seconds
    with one_line_errors():
        parse_arguments(PredictArguments)

import sys
from pathlib import Path

import torch
import yaml
from accelerate.utils import gather_object
from safetensors import SafetensorError
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

from data_scripts.check import check_split
from data_scripts.labels import DataError, LabelInfo
from data_scripts.loading import eval_loader
from data_scripts.pixels import Pixels
from data_scripts.reader import fingerprint, read_label
from data_scripts.sources import SPLITS, folder_of_images, load_source, source_of
from data_scripts.submission import write_submission
from data_scripts.transforms import EvalTransform
from seg_models import ModelError, Predictor
from seg_models.modeling import set_output_stride
from seg_models.predictor import MULTI_SCALE
from seg_models.weights import hub_folder
from seg_runs import predictions, run_folder
from seg_runs.launch import RunError, make_accelerator, on_first_process, progress_bar
from seg_runs.report import class_table

METRIC = Path(__file__).resolve().parent / "metrics" / "mean_iou"


def main(argv: list[str] | None = None) -> None:
    with one_line_errors(DataError, ModelError):
        predict(parse_arguments(PredictArguments, argv))


def predict(args: PredictArguments) -> None:
    """Load the model, then predict each split."""
    run, model_folder = find_model(args.model_name_or_path)
    trained = read_arguments(run)
    accelerator = make_accelerator()
    model, processor = load_model(model_folder, args.trust_remote_code)
    set_output_stride(model, args.eval_output_stride)
    dataset, labels = label_set(model, model_folder, args.dataset or trained.get("dataset"))
    output = Path(args.output_dir) if args.output_dir else run
    splits = load_splits(args, dataset, trained, output)
    for name, split in splits.items():
        if "label" in split.column_names:  # their score is of every image; what has no labels may have damaged ones
            on_first_process(accelerator, check_split, split, labels, name, accelerator.is_main_process)

    # Prepared for the launch's precision; one forward at a time, on this process's share of the images.
    model = accelerator.prepare_model(model.to(memory_format=torch.channels_last), evaluation_mode=True)
    size = args.test_size or processor_size(processor)
    scales = tuple(args.scales or (MULTI_SCALE if args.mst else (1.0,)))
    flip = args.flip and bool(args.mst or args.scales)
    predictor = Predictor(model, processor.image_mean, processor.image_std, size, scales, flip, args.average)
    # What decides the predictions: those of an interrupted run with the same are kept.
    settings = {
        "model": [str(model_folder.resolve()), max(path.stat().st_mtime for path in model_folder.iterdir())],
        **{"size": size, "scales": scales, "flip": flip, "average": args.average},
        "output_stride": args.eval_output_stride,
        "precision": accelerator.mixed_precision,
    }
    damaged = []
    with predictions.alone(accelerator, output):
        for name, split in splits.items():
            scores, unread = predict_split(
                *(accelerator, predictor, split, labels, output, name, args.num_workers, settings)
            )
            damaged += unread
            if scores is None:
                accelerator.print(f"{name}: no labels, {len(split) - len(unread)} images predicted")
            elif accelerator.is_main_process:
                if name in (getattr(model.config, "trained_on", None) or "train").split("+"):
                    print(f"note: this model was trained on {name}: its scores there say little about other images")
                predictions.write_scores(output / f"scores_{name}.json", scores, labels.names, settings)
                print(f"{name}: {len(split)} images", class_table(labels.names, scores), sep="\n")
                print(f"mIoU {scores['mean_iou']:.4f}")
            accelerator.print(f"ids: {output}/results_{name}, colours: {output}/results_color_{name}", flush=True)
            if args.zip and not unread:
                path = on_first_process(accelerator, write_submission, split, labels, output / f"results_{name}")
                accelerator.print(f"for the server: {path}", flush=True)
    refuse_damaged(accelerator, damaged, sum(map(len, splits.values())))
    accelerator.end_training()


def find_model(name: str | None) -> tuple[Path, Path]:
    """(folder that results go to, folder of the saved model) for a run folder, a saved model, a model on a hub, or the
    newest run."""
    folder = Path(name) if name else run_folder.newest_run()
    if name and not folder.exists():
        return Path("predictions") / name.replace("/", "--"), Path(hub_folder(name, "--model_name_or_path"))
    if (folder / "best" / "config.json").is_file():
        return folder, folder / "best"
    if not (folder / "config.json").is_file():
        raise RunError(f"--model_name_or_path {folder} is neither a run folder with best/ nor a saved model")
    return (folder.parent if folder.name == "best" else folder), folder


def read_arguments(run: Path) -> dict:
    """What the run was trained with; nothing for a model that is not in a run folder."""
    path = run / "args.yaml"
    return (yaml.safe_load(path.read_text()) or {}) if path.is_file() else {}


def load_model(folder: Path, trust_remote_code: bool = False):
    """The network and its image processor, from a folder; code that lies there runs only if it is trusted."""
    options = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    try:
        model, found = AutoModelForSemanticSegmentation.from_pretrained(folder, output_loading_info=True, **options)
        processor = AutoImageProcessor.from_pretrained(folder, **options)
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        line = str(error).strip().splitlines()[0]
        if "custom code" in line and not trust_remote_code:
            line = "it needs the code that lies there: read it, and give --trust_remote_code if you trust it"
        raise RunError(f"cannot load the model in {folder}: {line}") from error
    missing = {key for key in found["missing_keys"] if not key.endswith(".num_batches_tracked")}
    if missing:  # they would be random
        line = f"{len(missing)} of its weights are missing, as {min(missing)}"
        raise RunError(f"cannot load the model in {folder}: {line}")
    return model, processor


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


def processor_size(processor) -> tuple[int, int] | None:
    """The size that the model was evaluated at; None for each image's own."""
    if not processor.do_resize:
        return None
    if "height" not in processor.size:  # of another's model
        raise RunError("this model's image processor does not resize to a height and a width: give --test_size")
    return processor.size["height"], processor.size["width"]


def load_splits(args: PredictArguments, dataset: str, trained: dict, output: Path):
    """{name: split} to predict; what predictions and trainings wrote, now or before, is no input."""
    if args.input:
        path = Path(args.input).resolve()
        name = (path.stem if path.is_file() else path.name) or "images"  # a disk has no name
        name = f"folder_{name}" if name in SPLITS else name  # not over the predictions of a split
        own = {folder.resolve() for folder in predictions.Predictions(output, name).folders}
        leave_out = lambda folder: folder.resolve() in own or predictions.is_output(folder)  # noqa: E731
        return {name: folder_of_images(args.input, leave_out)}
    path = args.dataset_path or (trained.get("dataset_path") if dataset == trained.get("dataset") else None)
    data, _ = load_source(dataset, path)
    for name in args.splits or ():
        if SPLITS[name] not in data:
            raise RunError(f"--splits {name}: {path or dataset} has no such split")
    names = args.splits or [name for name in ("val", "test") if SPLITS[name] in data]
    return {name: data[SPLITS[name]] for name in names}


def predict_split(
    accelerator, predictor, split, labels, output: Path, name: str, num_workers: int, settings: dict
) -> tuple[dict | None, list[str]]:
    """Write the predictions of a split, each image by one process; its scores, or None without labels, and a line for
    each image that cannot be read, which only a split without labels may have."""
    import evaluate

    folder = predictions.Predictions(output, name)
    labelled = "label" in split.column_names
    images = dict(zip(split["name"], map(fingerprint, split["image"]), strict=True))
    done = on_first_process(accelerator, folder.begin, settings, images)
    items = split.with_transform(EvalTransform(Pixels(split, labels), pass_errors=not labelled))
    processes = (accelerator.num_processes, accelerator.process_index)
    loader = eval_loader(items, *processes, num_workers, pin_memory=accelerator.device.type == "cuda")
    metric, damaged = evaluate.load(str(METRIC)), []
    for item in progress_bar(accelerator, f"Predicting {name}", loader=loader):
        if "error" in item:
            damaged.append(item["error"])
            continue
        if item["name"] in done:
            prediction = torch.from_numpy(labels.train_ids[read_label(str(folder.ids(item["name"])))])
        else:
            prediction = predictor.labels(item["pixel_values"].to(accelerator.device)).to(torch.uint8)
            ids = prediction.cpu().numpy()
            folder.write(item["name"], labels.to_source(ids), labels.to_color(ids))
        if "labels" in item:
            metric.add_batch(predictions=prediction, references=item["labels"])
    metric.counts = accelerator.reduce(metric.counts.to(accelerator.device))
    damaged = gather_object(damaged)
    if not damaged:  # else what is predicted is kept for when the others are mended
        on_first_process(accelerator, folder.end)
    if not labelled or not metric.counts[list(range(len(labels.names)))].any():
        return None, damaged  # Cityscapes' test labels, for one, are all void
    return metric.compute(num_labels=len(labels.names), ignore_index=labels.ignore_index), damaged


def refuse_damaged(accelerator, damaged: list[str], images: int) -> None:
    """Name the images that could not be read, at the end, and raise RunError if there are any."""
    if not damaged:
        return
    if accelerator.is_main_process:
        print("\n".join(f"damaged: {line}" for line in damaged), file=sys.stderr, flush=True)
    raise RunError(f"{len(damaged)} of {images} images could not be read, see above; the others are predicted")


if __name__ == "__main__":
    main()
