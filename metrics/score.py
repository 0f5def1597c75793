"""Score predictions that predict_seg.py wrote, with intervals, outlines, calibration, plots and a page of failures.

    python -m metrics.score --results runs/NAME --dataset camvid --dataset_path my_camvid
    python -m metrics.score --results runs/A --against runs/B --dataset camvid --dataset_path my_camvid
    python -m metrics.score --results runs/NAME --dataset cityscapes --dataset_path cityscapes --gallery failures.html

Writes to score_SPLIT/ beside results_SPLIT/: results.txt (the benchmark's table), scores.json, confusion.png, and
reliability.png if predict_seg.py also wrote the confidence (--save confidence). Needs the files only, no network. This
is a script: it may use every room, and nothing imports it.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from datasets import Dataset
from tqdm import tqdm

from data_scripts.catalog import DATASETS, SPLITS, data_note, source_of
from data_scripts.fold_files import Division, load_data
from data_scripts.labels import DataError, LabelInfo
from data_scripts.reader import read_image, read_instances, read_label
from data_scripts.recognition import recognize
from data_scripts.sources import load_source
from seg_runs.files import read_json, write_atomically, write_json, write_picture, writing
from seg_runs.launch import RunError, one_line_errors
from seg_runs.parsing import Parser
from web_page import document, is_page_of

from . import gallery
from .boundary import SHARE, boundary_counts, boundary_iou, distance_of, trimap_counts
from .cityscapes import CityscapesCounts, table, tables
from .figures import class_scores, mean_of_known, mean_scores
from .intervals import bootstrap_mean_iou, image_counts, interval
from .reliability import expected_calibration_error, reliability_counts
from .score_plots import confusion_plot, reliability_plot
from .score_text import compare, for_json, report

GENERATOR = "metrics.score"
TRIMAP = 5  # pixels
LACK_ROOM = "; make room or allow writing there, or name another folder"


@dataclass(frozen=True)
class Results:
    """Predictions of a split: the folder of id images, the one with the confidences, and the one that holds both."""

    ids: Path
    confidence: Path
    home: Path

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


def make_parser() -> Parser:
    parser = Parser(prog="python -m metrics.score", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, required=True, metavar="FOLDER", help="folder with results_SPLIT/")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="the same of another model, to compare with")
    parser.add_argument("--dataset", choices=tuple(DATASETS), help="data set (default: the one that the folder holds)")
    parser.add_argument("--dataset_path", required=True, metavar="FOLDER", help="folder of the data set")
    parser.add_argument("--split", choices=tuple(SPLITS), default="val", help="split to score (default: val)")
    parser.add_argument("--folds", metavar="FILE", help="JSON file of folds")
    parser.add_argument("--fold", help="fold of --folds whose held-out images are scored")
    parser.add_argument("--output_dir", type=Path, metavar="FOLDER", help="default: score_SPLIT beside results_SPLIT")
    parser.add_argument("--gallery", type=Path, metavar="FILE.html", help="write a page of the worst images")
    parser.add_argument(
        "--boundary_share",
        type=float,
        default=SHARE,
        metavar="SHARE",
        help=f"distance of the boundary IoU as a share of the image's diagonal (default: {SHARE})",
    )
    parser.add_argument(
        "--trimap", type=int, default=TRIMAP, metavar="PIXELS", help=f"width of the trimap (default: {TRIMAP})"
    )
    parser.add_argument("--repeats", type=int, default=2000, help="resamplings of the bootstrap (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default: 0)")
    return parser


def main(argv: list[str] | None = None) -> None:
    with one_line_errors(DataError):
        args = make_parser().parse_args(argv)
        refuse(args)
        score(args)


def refuse(args: argparse.Namespace) -> None:
    """Raise RunError for values that have no meaning, and for files that this program did not write."""
    if not 0 < args.boundary_share < 1:
        raise RunError(f"--boundary_share {args.boundary_share} must be above 0 and below 1")
    for flag, value in (("--trimap", args.trimap), ("--repeats", args.repeats)):
        if value < 1:
            raise RunError(f"{flag} {value} must be at least 1")
    if (args.folds is None) != (args.fold is None):
        given, missing = ("--folds", "--fold") if args.folds else ("--fold", "--folds")
        raise RunError(f"{given} needs {missing}: name both the file of folds and the fold to score")
    if args.fold is not None and args.split != "val":
        raise RunError(f"--fold and --split {args.split} exclude each other: a fold is scored as val")
    page = args.gallery
    if page is not None and page.exists() and not (page.is_file() and is_page_of(GENERATOR, page)):
        raise RunError(f"--gallery {page} exists and was not written by this program: choose another name")


def score(args: argparse.Namespace) -> None:
    dataset = args.dataset or recognize(args.dataset_path)
    split, labels = labelled_split(dataset, args)
    results = find_results(args.results, args.split, split, "--results")
    other = None if args.against is None else find_results(args.against, args.split, split, "--against")
    output = output_folder(args, results)
    measured = measure(split, labels, results, args, objects=source_of(dataset).layout != "kitti")
    names = list(labels.names)
    summary = summarize(names, measured, args)
    if other is not None:
        theirs = np.stack([count_image(row, labels, other) for row in progress(split, "Scoring the other")])
        summary["against"] = compared(results, other, measured.counts, theirs, args)
    plain = official_text(names, measured)
    with writing(output, LACK_ROOM):
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / "scores.json", {"program": GENERATOR, "dataset": dataset, "split": args.split} | summary)
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
    if args.gallery is not None:
        write_gallery(args.gallery, dataset, split, labels, results, measured)


def labelled_split(dataset: str, args: argparse.Namespace) -> tuple[Dataset, LabelInfo]:
    """Return the images to score and their label set. Raises DataError if there are none with labels."""
    if args.split == "val":
        data, labels = load_data(dataset, args.dataset_path, Division(args.folds, args.fold))
    else:
        data, labels = load_source(dataset, args.dataset_path)
    split = data.get(SPLITS[args.split])
    if split is None or "label" not in split.column_names:
        raise DataError(f"{args.dataset_path} (--dataset_path) has no labels for --split {args.split}: score another")
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


def output_folder(args: argparse.Namespace, results: Results) -> Path:
    """Return the folder to write to. Raises RunError if it holds files of another program."""
    output = args.output_dir or results.home / f"score_{args.split}"
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
    ids = read_label(str(path))
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


def measure(split: Dataset, labels: LabelInfo, results: Results, args: argparse.Namespace, objects: bool) -> Measured:
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
        distance = distance_of(label.shape, args.boundary_share)
        measured.boundary += boundary_counts(prediction, label, number, distance)
        measured.trimap += trimap_counts(prediction, label, number, args.trimap)
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
        if args.gallery is not None:
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


def summarize(names: list[str], measured: Measured, args: argparse.Namespace) -> dict:
    """Return all scores, ready for JSON: None for what is undefined."""
    total = measured.counts.sum(0)
    classes = class_scores(total)
    classes |= {"boundary_iou": boundary_iou(measured.boundary), "trimap_iou": class_scores(measured.trimap)["iou"]}
    means = mean_scores(total)
    means |= {f"mean_{name}": mean_of_known(classes[name]) for name in ("boundary_iou", "trimap_iou")}
    low, high = interval(bootstrap_mean_iou(measured.counts, args.repeats, args.seed))
    summary = {
        "images": len(measured.counts),
        "settings": {
            name: getattr(args, name) for name in ("boundary_share", "trimap", "repeats", "seed", "folds", "fold")
        },
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


def compared(results: Results, other: Results, ours: np.ndarray, theirs: np.ndarray, args: argparse.Namespace) -> dict:
    """Return the difference of the mean IoU of two models on the same images, with its interval."""
    names = [results.home.name, other.home.name]
    if names[0] == names[1]:
        names = [str(results.home), str(other.home)]
    return compare(names, ours, theirs, args.repeats, args.seed)


def official_text(names: list[str], measured: Measured) -> str:
    """Return the benchmark's tables; for other classes its table of classes, without instance-weighted IoU."""
    if measured.official is not None:
        return tables(measured.official.scores())
    iou = class_scores(measured.counts.sum(0))["iou"]
    nothing = float("nan")
    rows = {name: (value, nothing) for name, value in zip(names, iou, strict=True)}
    return table("classes", rows, (mean_of_known(iou), nothing))


def write_gallery(
    path: Path, dataset: str, split: Dataset, labels: LabelInfo, results: Results, measured: Measured
) -> None:
    """Write the page of the worst images and the most confident mistakes."""
    chosen = gallery.worst_images(measured.counts)
    mistakes = gallery.worst_mistakes(measured.mistakes)
    legend = gallery.Legend(labels.names, labels.palette)
    confident = measured.reliability is not None
    pictures: dict[int, gallery.Pictures] = {}
    for i in tqdm(sorted({*chosen, *(mistake.image for mistake in mistakes)}), "Drawing", leave=False, disable=None):
        row = split[i]
        _, _, prediction, label = read_pair(row, labels, results)
        pictures[i] = gallery.Pictures(row["name"], read_image(row["image"]), label, prediction)
    warning = (
        ""
        if data_note(dataset).publishable
        else (f"This page holds pictures of {data_note(dataset).title}: show it only where these may be shown.")
    )
    sections = [
        gallery.header(f"Failures of {results.home.name}", measured.counts, warning),
        gallery.legend_section(legend),
        gallery.images_section([pictures[i] for i in chosen], measured.counts[chosen], legend),
        gallery.mistakes_section(mistakes, pictures, legend, confident),
        f"<footer>Written by <code>python -m {GENERATOR}</code>.</footer>",
    ]
    text = document(f"Failures of {results.home.name}", GENERATOR, gallery.STYLE, gallery.SCRIPT, sections)
    with writing(path, LACK_ROOM):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    print(f"wrote {path} ({len(text) / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
