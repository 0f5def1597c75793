"""Write a trained model as one file that runs without this package: from the bytes of a photo to its classes.

    python -m seg_models.export checkpoints/camvid_streetnet street.onnx
    python -m seg_models.export runs/NAME street.xml --precision int8 --dataset_path camvid
    python -m seg_models.export runs/NAME street.pt2 --size 360 480 --output probabilities

Before the file gets its name, it is run on a few photos and compared with the network. docs/deploy.md shows how to use
it. This is a script: it may use every room, and nothing imports it.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel
from transformers.utils import logging

from data_scripts.catalog import named_dataset
from data_scripts.labels import DataError, LabelInfo
from seg_jobs.export_checks import (
    Photos,
    check_photos,
    classes_of,
    compare,
    find_photos,
    mean_iou,
    refuse_difference,
    refuse_large,
    resized,
    sizes_of,
)
from seg_jobs.prediction_job import Trained, open_model
from seg_jobs.trained_model import label_set, processor_size
from seg_runs.errors import RunError, one_line_errors
from seg_runs.files import sync, writing
from seg_runs.flag_checks import KINDS, check_range, check_value
from seg_runs.lock import workplace
from seg_runs.parsing import Parser
from seg_runs.stop import ended_by_signals

from .errors import ModelError
from .export_graph import INPUT, LARGEST, OUTPUTS, PhotoGraph, least_side, trace
from .export_onnx import quantized, to_onnx
from .exported import ENDINGS, PRECISIONS, open_exported, require, save_onnx, save_openvino, save_torch
from .predictor import Predictor
from .sides import refuse_smaller, smallest_side
from .views import Views

CALIBRATION_COUNT = 32  # photos


def export(args: argparse.Namespace) -> None:
    """Export as the command line asks. Raises an error before any long work if something does not fit."""
    out, kind, size = check_arguments(args)
    logging.disable_progress_bar()  # it would appear for loading the network
    with ended_by_signals(), workplace(out.with_name(f".{out.name}.export")) as folder:
        trained = open_model(args.model, args.trust_remote_code, "MODEL")
        dataset, labels = label_set(trained.model, trained.folder, trained.arguments.get("dataset"))
        int8 = args.precision == "int8"
        photos = find_photos(args.calibration_images, args.dataset_path, int8, trained, dataset, labels)
        if args.score and photos.labelled is None:
            raise RunError("--score needs labelled validation images: give --dataset_path, and no --calibration_images")
        graph, predictor = build(args, kind, trained)
        if size and graph.size is None:
            refuse_smaller("--size", size, smallest_side(trained.model))
        scored = photos.labelled is not None and (args.score or int8)
        check_photos(photos, calibration_count(args), scored)
        refuse_large(predictor, photos, size, least_side(graph))
        path = folder / out.name
        with writing(out):
            write(args, path, kind, graph, size, describe(args, labels, trained.model, graph, size), photos)
        run = open_exported(str(path), kind)
        print(f"compared with PyTorch in fp32 on {photos.where}:", flush=True)
        for seen, share, difference in compare(run, predictor, photos, size, least_side(graph)):
            of_probability = "" if difference is None else f", probabilities differ by at most {difference:.1e}"
            print(f"  {seen[0]}x{seen[1]}: {share:.3%} of the pixels have the same class{of_probability}", flush=True)
            refuse_difference(args.precision, seen, share, difference)
        if scored:
            before = mean_iou(predictor.labels, "PyTorch", photos)
            after = mean_iou(classes_of(run, size), args.precision, photos)
            if before is not None:
                where = f"{len(photos.labelled)} validation images"
                print(f"mIoU on {where}: {before:.4f} in PyTorch, {after:.4f} in the file", flush=True)
        with writing(out):
            put_in_place(path, out, args.overwrite)
    megabytes = sum(part.stat().st_size for part in parts(out)) / 1e6
    print(f"wrote {' and '.join(map(str, parts(out)))}: {megabytes:.1f} MB")


def check_arguments(args: argparse.Namespace) -> tuple[Path, str, tuple[int, int] | None]:
    """Return OUT, its format and --size, None for any. Raises RunError or ModelError if they do not fit."""
    out = Path(args.out)
    of_name = {ending: kind for kind, ending in ENDINGS.items()}.get(out.suffix)
    kind = args.format or of_name
    if kind is None:
        raise RunError(f"{out}: give --format, or a name that ends in one of {', '.join(ENDINGS.values())}")
    if of_name != kind:
        raise RunError(f"{out}: the name of a file of --format {kind} ends in {ENDINGS[kind]}")
    if args.precision not in PRECISIONS[kind]:
        others = " or ".join(name for name in PRECISIONS if args.precision in PRECISIONS[name])
        raise RunError(f"--format {kind} has no --precision {args.precision}: give --format {others}")
    check_value("--test_size", args.test_size, KINDS["size"])
    check_photo_flags(args)
    require(kind)
    if not out.parent.is_dir():
        raise RunError(f"{out}: there is no folder {out.parent}")
    if folders := [part for part in parts(out) if part.is_dir()]:
        raise RunError(f"{folders[0]} is a folder: give another name")
    refuse_existing(out, args.overwrite)
    return out, kind, size_of(args.size)


def check_photo_flags(args: argparse.Namespace) -> None:
    """Raise RunError for flags about photos that would have no effect, or a number that is out of range."""
    for flag in ("calibration_images", "dataset_path"):
        if getattr(args, flag) == "":  # most often a shell's variable that is not set
            raise RunError(f"--{flag} is empty: leave it out, or give it a value")
    if args.calibration_images is not None and args.dataset_path is not None:
        raise RunError("--calibration_images and --dataset_path exclude each other: leave out one of them")
    if args.calibration_count is not None:
        if args.precision != "int8":
            raise RunError("--calibration_count needs --precision int8")
        check_range("--calibration_count", args.calibration_count, {"least": 1})


def calibration_count(args: argparse.Namespace) -> int:
    """Return the number of photos to calibrate on."""
    return (args.calibration_count or CALIBRATION_COUNT) if args.precision == "int8" else 0


def size_of(words: Sequence[str]) -> tuple[int, int] | None:
    """Return the (H, W) that --size asks for, or None for "dynamic". Raises RunError for anything else."""
    if [word.lower() for word in words] == ["dynamic"]:
        return None
    if len(words) != 2 or not all(word.isdecimal() and 1 <= int(word) <= LARGEST for word in words):
        raise RunError(f"--size takes a height and a width of 1 to {LARGEST}, or dynamic, not {' '.join(words):.80}")
    return int(words[0]), int(words[1])


def refuse_existing(out: Path, overwrite: bool) -> None:
    """Raise RunError if a file that would be written exists, unless it may be replaced."""
    if not overwrite and (existing := [part for part in parts(out) if part.exists()]):
        raise RunError(f"{existing[0]} exists: give --overwrite, or another name")


def parts(out: Path) -> list[Path]:
    """Return the files of an exported model: OpenVINO has a second one for the weights."""
    return [out, out.with_suffix(".bin")] if out.suffix == ENDINGS["openvino"] else [out]


def build(args: argparse.Namespace, kind: str, trained: Trained) -> tuple[PhotoGraph, Predictor]:
    """Return the graph to export, and the predictor to compare it with."""
    processor = trained.processor
    seen = args.test_size or processor_size(processor)
    if args.test_size:
        refuse_smaller("--test_size", seen, smallest_side(trained.model))
    # OpenVINO stores weights of float16 itself, and decides on the machine that runs them what to compute in.
    half = args.precision == "fp16" and kind != "openvino"
    graph = PhotoGraph(trained.model, processor.image_mean, processor.image_std, seen, args.output, half)
    return graph, Predictor(trained.model, processor.image_mean, processor.image_std, Views(size=seen))


def describe(
    args: argparse.Namespace, labels: LabelInfo, model: PreTrainedModel, graph: PhotoGraph, size: Sequence[int] | None
) -> dict[str, str]:
    """Return what the file says about itself: JSON texts by name."""
    sides = list(size or ("H", "W"))
    shape = [1, *sides] if args.output == "classes" else [1, model.config.num_labels, *sides]
    facts = {
        "classes": list(labels.names),
        "colors": [list(color) for color in labels.palette],
        "source_ids": list(labels.source_ids),
        "input": {"name": INPUT, "type": "uint8", "shape": [1, *sides, 3], "channels": "RGB", "range": [0, 255]},
        "output": {"name": args.output, "type": "uint8" if args.output == "classes" else "float32", "shape": shape},
        "sides": None if size else [least_side(graph), LARGEST],
        "network_size": graph.size,
        "precision": args.precision,
        "dataset": named_dataset(getattr(model.config, "dataset", None), labels.names),
        "producer": "minicity-seg",
    }
    return {name: json.dumps(value) for name, value in facts.items()}


def write(
    args: argparse.Namespace,
    path: Path,
    kind: str,
    graph: PhotoGraph,
    size: Sequence[int] | None,
    facts: dict[str, str],
    photos: Photos,
) -> None:
    """Write the graph to `path`, in the format `kind`. Temporary files stand beside it."""
    program = trace(graph, size)
    if kind == "torch_export":
        save_torch(program, str(path), facts)
        return
    model = to_onnx(program, args.output)
    if args.precision == "int8":
        least = least_side(graph)
        given = (
            resized(photo, sizes_of(photo, size, least)[0])[None] for photo in photos.some(calibration_count(args))
        )
        model = quantized(model, given, str(path.parent))
    if kind == "onnx":
        save_onnx(model, str(path), facts)
    else:
        save_openvino(model, str(path), facts, half=args.precision == "fp16")


def put_in_place(path: Path, out: Path, overwrite: bool) -> None:
    """Rename finished files to their own names. At any moment, what is called OUT is whole."""
    refuse_existing(out, overwrite)
    for part in parts(path):
        sync(part)
    if len(parts(out)) > 1:
        out.unlink(missing_ok=True)  # it would not fit the new weights
    for part, target in zip(reversed(parts(path)), reversed(parts(out)), strict=True):
        os.replace(part, target)
    sync(out.parent)


def make_parser() -> Parser:
    parser = Parser(prog="python -m seg_models.export", description=__doc__.splitlines()[0])
    parser.add_argument("model", metavar="MODEL", help="a run folder, a saved model, or a hub id")
    parser.add_argument("out", metavar="OUT", help="the file to write: .onnx, .pt2 (torch_export) or .xml (openvino)")
    parser.add_argument("--format", choices=tuple(ENDINGS), help="format of the file (default: by the ending of OUT)")
    parser.add_argument(
        "--size",
        nargs="+",
        default=["dynamic"],
        metavar="N",
        help="H W, the height and width of the photos that the file takes, or dynamic for any (default: dynamic)",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8"),
        default="fp32",
        help="number format of the weights; torch_export has no int8 (default: fp32)",
    )
    parser.add_argument("--output", choices=OUTPUTS, default="classes", help="what the file returns (default: classes)")
    parser.add_argument(
        "--test_size",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="height and width to which the file resizes photos for the network (default: as in validation)",
    )
    parser.add_argument(
        "--calibration_images",
        metavar="FOLDER",
        help="photos to calibrate int8 on, and to compare with (default: the training images of the model's data set)",
    )
    parser.add_argument(
        "--calibration_count",
        type=int,
        metavar="N",
        help=f"number of photos to calibrate int8 on (default: {CALIBRATION_COUNT})",
    )
    parser.add_argument(
        "--dataset_path",
        metavar="PATH",
        help="folder of the model's data set (default: where its run read it, or ./NAME-OF-THE-DATASET)",
    )
    parser.add_argument(
        "--score", action="store_true", help="also score the file on the validation images; int8 always does, if it can"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    parser.add_argument(
        "--trust_remote_code", action="store_true", help="run the Python code that comes with the model"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    with one_line_errors(DataError, ModelError):
        export(make_parser().parse_args(argv))


if __name__ == "__main__":
    main()
