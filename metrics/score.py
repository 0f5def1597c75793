"""Score predictions that predict_seg.py wrote, with intervals, outlines, calibration, plots and a page of failures.

    python -m metrics.score --results runs/NAME --gallery failures.html
    python -m metrics.score --results runs/A --against runs/B
    python -m metrics.score --results predictions/NAME --dataset_path roads             # a model without a run

Writes to score_SPLIT/ beside results_SPLIT/: results.txt (the benchmark's table), scores.json, confusion.png, and
reliability.png if predict_seg.py also wrote the confidence (--save confidence). Needs the files only, no network. This
is a script: it may use every room, and nothing imports it.
"""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from datasets import Dataset
from tqdm import tqdm
from transformers.hf_argparser import HfArg

from data_scripts.arguments import DivisionOptions
from data_scripts.catalog import SPLITS, data_note, may_be_shown, source_of
from data_scripts.fold_files import load_data
from data_scripts.hub_data import columns_of
from data_scripts.labels import DataError, LabelInfo, MaskError
from data_scripts.reader import read_image, read_instances, read_label
from data_scripts.recognition import with_dataset
from data_scripts.sources import load_source
from data_scripts.training import division_of
from seg_jobs.model_paths import read_arguments
from seg_jobs.web_page import document, is_page_of
from seg_runs.errors import RunError, one_line_errors
from seg_runs.files import read_json, write_atomically, write_json, write_picture, writing
from seg_runs.parsing import parse_arguments

from . import gallery
from .boundary_iou.boundary import SHARE, boundary_counts, boundary_iou, distance_of
from .calibration_error.reliability import expected_calibration_error, reliability_counts
from .cityscapes import CityscapesCounts, table, tables
from .figures import class_scores, iou, mean_of_known, mean_scores
from .intervals import image_counts, interval
from .score_plots import confusion_plot, reliability_plot
from .score_text import compare, for_json, report
from .trimap import trimap_counts

GENERATOR = "metrics.score"
USAGE = "%(prog)s --results FOLDER [--FLAG VALUE] ..."
SETTINGS = ("boundary_share", "trimap", "repeats", "seed", "folds", "fold", "val_share", "group_by")
MAKE_VAL = ("fold", "val_share", "group_by")  # flags that say which images the split val has
LACK_ROOM = "; make room or allow writing there, or name another folder"


@dataclass(frozen=True)
class Results:
    """Predictions of a split: the folder of id images, the one with the confidences, and the one that holds both."""

    ids: Path
    confidence: Path
    home: Path

    @property
    def name(self) -> str:
        return self.home.resolve().name

    def path(self, name: str) -> Path:
        return self.ids / f"{name}.png"


@dataclass
class Measured:
    """What was counted, over all images unless it says otherwise.

    counts       (N, C, C), the confusion matrix of each image
    boundary     (C, 2), pixels of intersection and union of the boundary regions
    trimap       (C, C)
    reliability  (bins, 3) of `reliability_counts`, or None without confidences
    official     the counts of the Cityscapes benchmark, or None for other classes
    """

    counts: np.ndarray
    boundary: np.ndarray
    trimap: np.ndarray
    reliability: np.ndarray | None = None
    official: CityscapesCounts | None = None
    mistakes: list[gallery.Mistake] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(DivisionOptions):
    """Score the files that predict_seg.py wrote: intervals, outlines, calibration, plots, a page of failures."""

    _argument_group_name: ClassVar[str] = "Scores"

    results: str = HfArg(
        help="folder that holds results_SPLIT, such as a run folder (its data are read, unless flags name others)",
        metadata={"metavar": "FOLDER"},
    )
    against: str | None = HfArg(
        default=None, help="such a folder of another model, to compare with", metadata={"metavar": "FOLDER"}
    )
    split: str = HfArg(default="val", help="split to score", metadata={"choices": tuple(SPLITS)})
    output_dir: str | None = HfArg(
        default=None,
        help="folder to write to (default: score_SPLIT beside results_SPLIT)",
        metadata={"metavar": "FOLDER"},
    )
    gallery: str | None = HfArg(
        default=None, help="write a page of the worst images to this file", metadata={"metavar": "FILE.html"}
    )
    boundary_share: float = HfArg(
        default=SHARE,
        help="distance of the boundary IoU as a share of the image's diagonal",
        metadata={"above": 0, "below": 1},
    )
    trimap: int = HfArg(
        default=5,
        help="trimap IoU: score pixels at most this many pixels from an outline of the label",
        metadata={"least": 1, "most": 1000},
    )
    repeats: int = HfArg(default=2000, help="resamplings of the bootstrap", metadata={"least": 1, "most": 10**6})
    seed: int = HfArg(default=0, help="seed of the bootstrap", metadata={"least": 0})

    def __post_init__(self):
        super().__post_init__()
        if self.split == "val":
            return
        for name in MAKE_VAL:
            if getattr(self, name) is not None:
                raise DataError(f"--{name} and --split {self.split} exclude each other: it makes the val split")


def main(argv: list[str] | None = None) -> None:
    with one_line_errors(DataError):
        options = parse_arguments(ScoreOptions, argv, prog="python -m metrics.score", usage=USAGE)
        options = with_dataset(with_data_of_run(options))
        page = None if options.gallery is None else Path(options.gallery)
        if page is not None and page.exists() and not (page.is_file() and is_page_of(GENERATOR, page)):
            raise RunError(f"--gallery {page} exists and was not written by this program: choose another name")
        score(options)


def with_data_of_run(options: ScoreOptions) -> ScoreOptions:
    """Return `options` with the data that the run in --results was trained on, unless flags name a data set."""
    if options.dataset or options.dataset_path or options.dataset_name:
        return options
    folder = Path(options.results)
    run = folder if (folder / "args.yaml").is_file() else folder.parent
    trained = read_arguments(run)
    if not trained:
        return options
    print(f"the data are those of {run / 'args.yaml'}")
    unset = [option.name for option in fields(DivisionOptions) if getattr(options, option.name) == option.default]
    if options.split != "val":
        unset = [name for name in unset if name not in ("folds", *MAKE_VAL)]
    return replace(options, **{name: trained[name] for name in unset})


def score(options: ScoreOptions) -> None:
    split, labels = labelled_split(options)
    results = find_results(Path(options.results), options.split, split, "--results")
    other = None
    if options.against is not None:
        other = find_results(Path(options.against), options.split, split, "--against")
        if other.ids.resolve() == results.ids.resolve():
            raise RunError(
                f"--against {options.against} holds the predictions of --results: name those of another model"
            )
    output = output_folder(options, results)
    measured = measure(split, labels, results, options, objects=source_of(options.dataset).layout != "kitti")
    names = list(labels.names)
    summary = summarize(names, measured, options)
    if other is not None:
        theirs = np.stack([count_image(row, labels, other) for row in progress(split, "Scoring the other")])
        summary["against"] = compared(results, other, measured.counts, theirs, options)
    plain = official_text(names, measured)
    with writing(output, LACK_ROOM):
        output.mkdir(parents=True, exist_ok=True)
        write_json(
            output / "scores.json", {"program": GENERATOR, "dataset": options.dataset, "split": options.split} | summary
        )
        write_atomically(output / "results.txt", plain + "\n")
        write_picture(output / "confusion.png", confusion_plot(measured.counts.sum(0), names))
        if measured.reliability is not None:
            write_picture(output / "reliability.png", reliability_plot(measured.reliability))
        elif (output / "reliability.png").exists():  # of earlier predictions
            (output / "reliability.png").unlink()
    print(report(names, summary))
    if measured.official is not None:
        print(f"\n{plain}")
    print(f"wrote {output}")
    if options.gallery is not None:
        write_gallery(options, split, labels, results, measured)


def labelled_split(options: ScoreOptions) -> tuple[Dataset, LabelInfo]:
    """Return the images to score and their label set. Raises DataError if there are none with labels."""
    if options.split == "val":
        data, labels = load_data(options.dataset, options.path, division_of(options), columns_of(options))
    else:
        data, labels = load_source(options.dataset, options.path, columns_of(options))
    split = data.get(SPLITS[options.split])
    if split is None or "label" not in split.column_names:
        where = options.path or options.dataset
        raise DataError(f"{where} has no labels for --split {options.split}: score another split")
    return split, labels


def find_results(folder: Path, name: str, split: Dataset, flag: str) -> Results:
    """Return the predictions of a split in `folder`, which is results_SPLIT or holds it.

    Raises RunError if the folder is missing, or lacks an image, or the prediction is unfinished.
    """
    inside = folder / f"results_{name}"
    ids = inside if inside.is_dir() else folder
    if not ids.is_dir():
        raise RunError(f"no folder {folder} ({flag}): predict with predict_seg.py --splits {name} first")
    home = ids.parent if ids.name == f"results_{name}" else ids
    found = Results(ids, home / f"results_confidence_{name}", home)
    if (home / f".predicting_{name}.json").exists():
        raise RunError(f"the prediction of {name} in {home} ({flag}) is unfinished: start predict_seg.py again")
    missing = [image for image in split["name"] if not found.path(image).is_file()]
    if missing:
        raise RunError(
            f"{ids} ({flag}) lacks {len(missing)} of {len(split)} predictions of {name}, first {missing[0]}.png: "
            f"predict with predict_seg.py --splits {name} first"
        )
    return found


def output_folder(options: ScoreOptions, results: Results) -> Path:
    """Return the folder to write to. Raises RunError if it holds files of another program."""
    output = results.home / f"score_{options.split}" if options.output_dir is None else Path(options.output_dir)
    if output.exists() and not output.is_dir():
        raise RunError(f"{output} (--output_dir) is not a folder: name another")
    if output.exists() and any(output.iterdir()):
        path = output / "scores.json"
        if not path.is_file() or read_json(path).get("program") != GENERATOR:
            raise RunError(f"{output} holds files that this program did not write: name another folder (--output_dir)")
    return output


def progress(split: Dataset, title: str) -> tqdm:
    return tqdm(split, title, leave=False, disable=None)


def read_pair(row: dict, labels: LabelInfo, results: Results) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return prediction and label of an image, as source ids and as train ids, uint8 (H, W) each.

    Raises DataError if the sizes differ, or a prediction holds no class where the label does.
    """
    path = results.path(row["name"])
    try:
        ids = read_label(str(path))
    except MaskError as error:  # such as a picture in colours
        raise DataError(f"{error}: predict_seg.py writes predictions as ids to results_SPLIT") from error
    truth = read_label(row["label"], row["image"], labels.colors_of(row["label"]))
    if ids.shape != truth.shape:
        sizes = " and ".join(f"{height}x{width}" for height, width in (ids.shape, truth.shape))
        raise DataError(f"{path} and its label are {sizes}: predict at the size of the image")
    prediction, label = labels.train_ids[ids], labels.train_ids[truth]
    wrong = (label != labels.ignore_index) & (prediction == labels.ignore_index)
    if wrong.any():
        raise DataError(
            f"{path} holds id {ids[wrong][0]}, which is not a class of {labels.name}: predictions must hold the data "
            "set's own ids (results_SPLIT, not results_train_ids_SPLIT)"
        )
    return ids, truth, prediction, label


def count_image(row: dict, labels: LabelInfo, results: Results) -> np.ndarray:
    _, _, prediction, label = read_pair(row, labels, results)
    return image_counts(prediction, label, len(labels.names))


def measure(split: Dataset, labels: LabelInfo, results: Results, options: ScoreOptions, objects: bool) -> Measured:
    """Read each image once and count it. `objects`: the instance maps have the ids of Cityscapes."""
    number = len(labels.names)
    measured = Measured(
        np.zeros((len(split), number, number), np.int64), np.zeros((number, 2), int), np.zeros((number,) * 2, int)
    )
    measured.official = CityscapesCounts() if labels.name == "cityscapes" else None
    confident = results.confidence.is_dir()
    for i, row in enumerate(progress(split, "Scoring")):
        ids, truth, prediction, label = read_pair(row, labels, results)
        measured.counts[i] = image_counts(prediction, label, number)
        distance = distance_of(label.shape, options.boundary_share)
        measured.boundary += boundary_counts(prediction, label, number, distance)
        measured.trimap += trimap_counts(prediction, label, number, options.trimap)
        confidence = read_confidence(results, row["name"], label.shape) if confident else None
        if confidence is not None:
            valid = label < number
            counts = reliability_counts(confidence[valid], (prediction == label)[valid])
            measured.reliability = counts if measured.reliability is None else measured.reliability + counts
        if measured.official is not None:
            given = row.get("instance") if objects else None
            instances = None if given is None else read_instances(given, row["image"])
            try:
                measured.official.add(ids, truth, instances)
            except ValueError as error:
                raise DataError(f"image {row['name']}: {error}") from error
        if options.gallery is not None:
            measured.mistakes += gallery.mistakes_of(i, prediction, label, number, confidence)
    return measured


def read_confidence(results: Results, name: str, shape: tuple[int, int]) -> np.ndarray:
    """Return the confidence of an image, float32 (H, W) from 0 to 1."""
    path = results.confidence / f"{name}.png"
    if not path.is_file():
        raise DataError(f"no confidence {path}: predict again with --save confidence, or delete {results.confidence}")
    grey = read_label(str(path))
    if grey.shape != shape:
        raise DataError(f"{path} has another size than its label: predict again with --save confidence")
    return grey.astype(np.float32) / 255


def summarize(names: list[str], measured: Measured, options: ScoreOptions) -> dict:
    """Return all scores, ready for JSON: None for what is undefined."""
    total = measured.counts.sum(0)
    classes = class_scores(total)
    classes |= {"boundary_iou": boundary_iou(measured.boundary), "trimap_iou": iou(measured.trimap)}
    means = mean_scores(total)
    means |= {f"mean_{name}": mean_of_known(classes[name]) for name in ("boundary_iou", "trimap_iou")}
    low, high = interval(measured.counts, repeats=options.repeats, seed=options.seed)
    summary = {
        "images": len(measured.counts),
        "settings": {name: getattr(options, name) for name in SETTINGS},
        "means": means,
        "mean_iou_interval": [low, high],
        "classes": {name: {key: values[i] for key, values in classes.items()} for i, name in enumerate(names)},
        "confusion": total.tolist(),
    }
    if measured.reliability is not None:
        summary["calibration_error"] = expected_calibration_error(measured.reliability)
        summary["reliability"] = measured.reliability.tolist()
    if measured.official is not None:
        summary["cityscapes"] = measured.official.scores()
    return for_json(summary)


def compared(results: Results, other: Results, ours: np.ndarray, theirs: np.ndarray, options: ScoreOptions) -> dict:
    """Return the difference of the mean IoU of two models on the same images, with its interval."""
    names = [results.name, other.name]
    if names[0] == names[1]:
        names = [str(results.home), str(other.home)]
    return compare(names, ours, theirs, options.repeats, options.seed)


def official_text(names: list[str], measured: Measured) -> str:
    """Return the benchmark's tables; for other classes its table of classes, without instance-weighted IoU."""
    if measured.official is not None:
        return tables(measured.official.scores())
    scores = iou(measured.counts.sum(0))
    return table("classes", {name: [value] for name, value in zip(names, scores, strict=True)}, [mean_of_known(scores)])


def write_gallery(
    options: ScoreOptions, split: Dataset, labels: LabelInfo, results: Results, measured: Measured
) -> None:
    """Write the page of the worst images and the most confident mistakes."""
    path = Path(options.gallery)
    chosen = gallery.worst_images(measured.counts)
    mistakes = gallery.worst_mistakes(measured.mistakes)
    legend = gallery.Legend(labels.names, labels.palette)
    confident = measured.reliability is not None
    pictures: dict[int, gallery.Pictures] = {}
    for i in tqdm(sorted({*chosen, *(mistake.image for mistake in mistakes)}), "Drawing", leave=False, disable=None):
        row = split[i]
        _, _, prediction, label = read_pair(row, labels, results)
        pictures[i] = gallery.Pictures(row["name"], read_image(row["image"]), label, prediction)
    warning = ""
    if not may_be_shown(options.dataset):
        title = options.path if options.dataset == "hub" else data_note(options.dataset).title
        warning = f"This page holds pictures of {title}: show it only where these may be shown."
    sections = [
        gallery.header(f"Failures of {results.name}", measured.counts, warning),
        gallery.legend_section(legend),
        gallery.images_section([pictures[i] for i in chosen], measured.counts[chosen], legend),
        gallery.mistakes_section(mistakes, pictures, legend, confident),
        f"<footer>Written by <code>python -m {GENERATOR}</code>.</footer>",
    ]
    text = document(f"Failures of {results.name}", GENERATOR, gallery.STYLE, gallery.SCRIPT, sections)
    with writing(path, LACK_ROOM):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    print(f"wrote {path} ({len(text) / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
