"""What predict_seg.py builds: the models, the images, the predictor, and the settings that decide the predictions."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch
from accelerate import Accelerator
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import BaseImageProcessor, PreTrainedModel

from data_scripts import hub_data
from data_scripts.arguments import InputOptions
from data_scripts.catalog import SPLITS, named_dataset
from data_scripts.evaluation import Scoring, load_evaluation
from data_scripts.fold_files import Division, divided
from data_scripts.labels import DataError, LabelInfo
from data_scripts.loading import eval_loader
from data_scripts.pixels import Pixels
from data_scripts.recognition import recognize
from data_scripts.sources import folder_of_images, load_source
from data_scripts.transforms import EvalTransform
from data_scripts.video import is_video
from seg_models.arguments import ViewOptions
from seg_models.calibration import MEASURES
from seg_models.class_names import names_by_id
from seg_models.crf import CRF, Refined
from seg_models.ensemble import Ensemble
from seg_models.output_strides import set_output_stride
from seg_models.predictor import PixelPredictor, Predictor
from seg_models.views import Views, make_views
from seg_runs import predictions
from seg_runs.arguments import PICTURES, ResultOptions
from seg_runs.errors import RunError
from seg_runs.launch import make_accelerator
from seg_runs.lineage import may_have_seen, sources_note, sources_that_may_have_seen
from seg_runs.processes import local_processes, say
from seg_runs.run_folder import refuse_impossible
from seg_runs.temperatures import read_temperatures, stored_temperature

from .arguments import PredictArguments
from .model_paths import find_model, note_on_default, read_arguments
from .prediction_checks import check_video, refuse_calibration, refuse_missing_splits
from .trained_model import data_labels, free_memory_of, label_set, load_model, processor_size


@dataclass(frozen=True)
class Trained:
    """A trained model.

    results    folder for results: the run folder, if there is one
    folder     folder of the saved model
    arguments  flags of its run that say what it read, with "train_on"
    """

    results: Path
    folder: Path
    model: PreTrainedModel
    processor: BaseImageProcessor
    arguments: dict

    @property
    def names(self) -> list[str]:
        """The classes by train id."""
        return names_by_id(self.model.config.id2label)


@dataclass(frozen=True)
class Images:
    """What is predicted.

    splits    splits by name
    scoring   how the predictions are scored
    held_out  which labelled images are the split "val" (`Division.held_out`), or None
    """

    splits: dict[str, Dataset]
    scoring: Scoring
    held_out: str | None = None


@dataclass(frozen=True)
class PredictionJob:
    """All that predict_seg.py needs to predict.

    memory           `predictor.memory`, which takes milliseconds; it remembers the sizes that it was asked for
    share_of_memory  bytes that each process on this machine may take on the CPU: equal shares of what was free at first
    output           folder for the predictions
    images           what is predicted
    scored           the data set that is scored; None: unknown
    save             what to write besides ids (`--save`)
    zip              whether to write a zip file for the benchmark's server (`--zip`)
    settings         what determines the predictions, for scores_SPLIT.json and for going on after an interruption
    """

    accelerator: Accelerator
    models: Sequence[Trained]
    predictor: PixelPredictor
    memory: Callable[[tuple[int, int]], int]
    share_of_memory: float
    output: Path
    images: Images
    scored: str | None
    num_workers: int
    save: Sequence[str]
    zip: bool
    settings: dict

    @property
    def scoring(self) -> Scoring:
        """How the predictions are scored."""
        return self.images.scoring

    @property
    def pictures(self) -> list[str]:
        """The kinds of pictures to write besides the ids."""
        return [kind for kind in PICTURES if kind in self.save]

    def read_temperature(self) -> float | None:
        """Return the temperature that --calibrate stored for these views; None without one, or if --save needs none."""
        if len(self.models) > 1 or not MEASURES.keys() & set(self.save):
            return None
        return stored_temperature(self.models[0].folder, self.settings)

    def items(self, split: Dataset, pass_errors: bool = False) -> DataLoader:
        """Return a loader of this process's images of a split.

        With `pass_errors`, a damaged image is an item that holds the error.
        """
        items = split.with_transform(EvalTransform(Pixels(split, self.scoring.files), pass_errors, self.scoring.table))
        processes = (self.accelerator.num_processes, self.accelerator.process_index)
        return eval_loader(items, *processes, self.num_workers, pin_memory=self.accelerator.device.type == "cuda")


def open_job(args: PredictArguments) -> PredictionJob:
    """Load the models and list the images. Raises an error before any long work if something does not fit."""
    wanted = args.results
    if wanted.output:
        check_video(args.images.input, wanted.output)
    accelerator = make_accelerator()
    models = [open_model(name, wanted.trust_remote_code) for name in wanted.model_name_or_path or [None]]
    first = models[0]
    if not wanted.model_name_or_path and (note := note_on_default()):
        say(accelerator, note)
    refuse_calibration(wanted, args.images, len(models))
    if wanted.calibrate:
        read_temperatures(first.folder)  # refuses a damaged file
    dataset, labels = label_set(first.model, first.folder, dataset_of(args.images, first))
    output = output_folder(wanted, models)
    if wanted.output_dir:
        refuse_impossible(output)
    if wanted.output:  # the frames of a video
        images = Images({}, Scoring(labels, labels))
    else:
        images = load_images(args.images, dataset, labels, first.arguments, output)
    if wanted.calibrate and "label" not in (images.splits["val"].column_names if "val" in images.splits else ()):
        raise RunError("--calibrate needs validation images with labels, and these data have none")
    if images.scoring.classes is not None:
        if wanted.zip:
            raise RunError("--zip and --eval_dataset exclude each other: these predictions hold the model's own ids")
        say(accelerator, f"{', '.join(images.splits)}: {images.scoring.explain()}")
    parts = [make_predictor(args.views, accelerator, trained, photos=bool(args.images.input)) for trained in models]
    predictor = parts[0] if len(parts) == 1 else Ensemble(parts, [trained.names for trained in models])
    predictor = Refined(predictor, CRF()) if args.views.crf else predictor
    share = free_memory_of(torch.device("cpu")) / local_processes()
    accelerator.wait_for_everyone()  # nobody takes memory before all have seen what is free
    return PredictionJob(
        accelerator=accelerator,
        models=models,
        predictor=predictor,
        memory=lru_cache(maxsize=256)(predictor.memory),
        share_of_memory=share,
        output=output,
        images=images,
        scored=args.images.eval_dataset[0] if args.images.eval_dataset else dataset,
        num_workers=args.images.num_workers,
        save=wanted.save,
        zip=wanted.zip,
        settings=settings_of(args.views, parts[0].views, models, accelerator.mixed_precision),
    )


def open_model(name: str | None, trust_remote_code: bool, flag: str = "--model_name_or_path") -> Trained:
    """Load the model `name`, or the default one. Errors name `flag`."""
    results, folder = find_model(name, flag)
    model, processor = load_model(folder, trust_remote_code)
    arguments = {"train_on": getattr(model.config, "trained_on", None) or "train", **read_arguments(results)}
    return Trained(results, folder, model, processor, arguments)


def output_folder(wanted: ResultOptions, models: Sequence[Trained]) -> Path:
    """Return the folder for the predictions. Those of an ensemble go to predictions/A+B."""
    if wanted.output_dir:
        return Path(wanted.output_dir)
    if len(models) == 1:
        return models[0].results
    return Path("predictions") / "+".join(trained.results.resolve().name for trained in models)


def dataset_of(options: InputOptions, trained: Trained) -> str | None:
    """Return the data set to read: the flag's, else the one that --dataset_path holds, else the one trained on.

    With --dataset_name, it is "hub". Else the data set that the model was trained on wins if the path can be that one:
    MiniCity's layout is also others'.
    """
    if options.dataset_name is not None:
        return "hub"
    dataset = options.dataset or trained.arguments.get("dataset")
    if options.dataset is None and options.dataset_path is not None and not options.input:
        config = trained.model.config
        known = dataset or named_dataset(getattr(config, "dataset", None), names_by_id(config.id2label))
        return recognize(options.dataset_path, None if known == "hub" else known)
    return dataset


def load_images(options: InputOptions, dataset: str | None, labels: LabelInfo, trained: dict, output: Path) -> Images:
    """Return the images to predict: photos, splits of another data set, or splits of the model's.

    dataset  the data set to read; None: unknown
    labels   the classes that the model predicts
    trained  the flags that the model was trained with, as far as they are known
    output   folder for the predictions
    """
    if options.input:
        return photos_in(options.input, labels, output)
    if options.eval_dataset:
        return images_of_another(options, labels)
    return images_of(options, dataset, labels, trained)


def photos_in(place: str, labels: LabelInfo, output: Path) -> Images:
    """Return the photos of --input, without what predictions and training wrote into that folder."""
    if is_video(place):
        raise RunError(f"--input {place} is a video: give --output too, the video to write")
    path = Path(place).resolve()
    name = (path.stem if path.is_file() else path.name) or "images"  # the root of a disk has no name
    if name in SPLITS or name.startswith(tuple(f"{kind}_" for kind in PICTURES)):
        name = f"folder_{name}"  # do not overwrite results_val or results_color_val of a split
    own = {folder.resolve() for folder in predictions.Predictions(output, name, PICTURES).folders.values()}

    def leave_out(folder: Path) -> bool:
        return folder.resolve() in own or predictions.is_output(folder)

    return Images({name: folder_of_images(place, leave_out)}, Scoring(labels, labels))


def images_of_another(options: InputOptions, labels: LabelInfo) -> Images:
    """Return splits of --eval_dataset, on which the network's classes are scored as --class_map says."""
    name, path = options.eval_dataset
    data, scoring = load_evaluation(options, labels)
    refuse_missing_splits(options, data, path)
    return Images({f"{name}_{split}": data[SPLITS[split]] for split in options.splits or ["val"]}, scoring)


def images_of(
    options: InputOptions,
    dataset: str | None,
    labels: LabelInfo,
    trained: dict,
    usual: Sequence[str] = ("val", "test"),
) -> Images:
    """Return splits of the model's data set, divided as for its training unless flags say otherwise.

    Without --splits, these are the `usual` ones that the data set has.
    """
    if dataset is None:
        raise DataError(
            "the model names no data set: give --dataset_path or --dataset_name, or predict photos with --input"
        )
    of_run = trained if dataset == trained.get("dataset") else {}
    path = options.path or of_run.get("dataset_name") or of_run.get("dataset_path")
    columns = (of_run.get("image_column"), of_run.get("label_column"))
    if options.dataset_name is not None:
        columns = hub_data.columns_of(options)
    folds, fold = of_run.get("folds"), of_run.get("fold")
    if options.fold is not None:
        folds, fold = options.folds, options.fold
    division = Division(folds, fold, trained["train_on"], of_run.get("val_share"), of_run.get("group_by"))
    source, found = load_source(dataset, path, columns)
    data = divided(source, found, division, dataset, path)
    refuse_missing_splits(options, data, path or dataset)
    names = options.splits or [name for name in usual if SPLITS[name] in data]
    known = data_labels(labels, found, path or dataset)
    held_out = division.held_out(dataset, source, data)
    return Images({name: data[SPLITS[name]] for name in names}, Scoring(known, known), held_out)


def make_predictor(options: ViewOptions, accelerator: Accelerator, trained: Trained, photos: bool) -> Predictor:
    """Return a predictor with the views that the flags ask for, on the launch's device and in its precision.

    photos  it predicts photos of any shape, so the model's size is turned for them (`turns_photos`)
    """
    set_output_stride(trained.model, options.eval_output_stride)
    # Each process predicts its own share of the images, so the model needs no wrapper that communicates.
    model = accelerator.prepare_model(trained.model.to(memory_format=torch.channels_last), evaluation_mode=True)
    size = None if options.test_size else processor_size(trained.processor)
    mean, std = trained.processor.image_mean, trained.processor.image_std
    views = make_views(options, size, turn=photos and turns_photos(trained))
    if views.size and views.window and len(views.windows(views.size)) == 1:
        say(
            accelerator,
            f"note: --window {' '.join(map(str, views.window))} cuts nothing: {trained.folder} sees images resized to "
            f"{views.size[0]}x{views.size[1]}; give a larger --test_size or a smaller window",
        )
    return Predictor(model, mean, std, views)


def turns_photos(trained: Trained) -> bool:
    """Whether a model sees upright photos at its size with height and width exchanged, not squeezed into that size.

    Splits of a data set are resized as in training, so that their scores are those of its validation. A model that
    trained on images squeezed to one size (`--train_size`) sees photos in that way too.
    """
    return not (trained.arguments.get("train_size") or getattr(trained.model.config, "train_size", None))


def settings_of(options: ViewOptions, views: Views, models: Sequence[Trained], precision: str) -> dict:
    """Return the settings that determine the predictions. A run with the same settings reuses earlier predictions.

    views  of the first model
    """
    return {
        "model": state_of(models),
        **asdict(views),
        "output_stride": options.eval_output_stride,
        "crf": options.crf,
        "precision": precision,
    }


def state_of(models: Sequence[Trained]) -> list:
    """Return folder and time of the last change of each model: of the only one, or a list."""
    states = [[str(trained.folder.resolve()), newest_change(trained.folder)] for trained in models]
    return states[0] if len(models) == 1 else states


def note_on_scores(config: dict, scored: str, name: str, held_out: str | None) -> str | None:
    """Return what to say of a model's scores on the split `name` if it or its sources may know the images.

    config    of the model
    scored    the data set
    held_out  which labelled images are the split "val" (`Division.held_out`), or None
    """
    split = name.removeprefix(f"{scored}_")  # a split of --eval_dataset has its name in front
    of_another = split != name and config.get("dataset") != scored
    if not of_another and may_have_seen(config, split, held_out):
        return f"this model may have been trained on images of {name}: these scores say little about new images"
    known = sources_that_may_have_seen(config, scored, split, held_out)
    return sources_note(known) if known else None


def newest_change(folder: Path) -> float:
    """Return the newest modification time of the files of a saved model. Predictions in its folder do not count."""
    files = [folder / "config.json", folder / "preprocessor_config.json"]
    files += [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
    return max(path.stat().st_mtime for path in files if path.exists())


def lack_of_memory(job: PredictionJob, size: Sequence[int]) -> str:
    """Return why the free memory does not suffice for an image of `size` (H, W), or "" if it does."""
    device = job.predictor.device
    sharing = local_processes() if device.type == "cpu" else 1  # each predicts an image at the same time
    needed = job.memory(tuple(size))
    free = free_memory_of(device, needed) if sharing == 1 else job.share_of_memory
    if needed <= free:
        return ""
    return (
        f"of {size[0]}x{size[1]} needs about {needed / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB are free"
        f"{' for each process' if sharing > 1 else ''}: give --window, fewer or smaller --scales, --no_flip, or a "
        f"smaller --test_size{', or start fewer processes' if sharing > 1 else ''}"
    )
