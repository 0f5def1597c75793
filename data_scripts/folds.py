"""Divide the labelled images of a data set into folds for cross-validation.

    python -m data_scripts.folds my_kitti kitti_folds.json --dataset kitti --number 5
    python -m data_scripts.folds my_camvid drives.json --number 3 --group_by '^(.*)_'       # keeps each drive together
    accelerate launch train_seg.py --dataset kitti --dataset_path my_kitti --folds kitti_folds.json --fold 1
    python -m seg_runs.report runs/kitti_*                                                 # mean over the folds

Every class is spread over the folds as evenly as possible. Images that look alike stay in one fold, because a score on
an image that training has almost seen says nothing. The same images always give the same folds. This is a script: it
may use every room, and nothing imports it.
"""

import json
import os
import shlex
from pathlib import Path

import numpy as np

from seg_runs.errors import one_line_errors
from seg_runs.parsing import Parser

from .catalog import DATASETS, TRAIN_ON
from .files import write_whole
from .labels import DataError
from .recognition import recognize
from .sampling import training_split
from .sources import load_source
from .splitting import divide
from .val_share import counts_and_groups


def make_folds(names: list[str], counts: np.ndarray, groups: np.ndarray, number: int) -> dict[str, list[str]]:
    """Return the names of the images that each fold holds out, by fold: "1", "2" and so on.

    For `counts` (N, C) and `groups` (N,) see `divide`.
    """
    part = divide(counts, groups, [1 / number] * number)
    return {str(i + 1): [names[image] for image in np.flatnonzero(part == i)] for i in range(number)}


def table(folds: dict[str, list[str]], names: list[str], counts: np.ndarray, classes: tuple[str, ...]) -> str:
    """Return a text table: images of each fold, in all and by class."""
    width = max(map(len, ("images", *classes)))
    held_out = [np.isin(names, fold) for fold in folds.values()]
    rows = [("images", [rows.sum() for rows in held_out])]
    rows += [(name, [(counts[rows, i] > 0).sum() for rows in held_out]) for i, name in enumerate(classes)]
    lines = [f"{'fold':<{width}}" + "".join(f"{fold:>7}" for fold in folds)]
    lines += [f"{name:<{width}}" + "".join(f"{value:>7}" for value in values) for name, values in rows]
    return "\n".join(lines)


def refuse_repeated(names: list[str], splits: str) -> None:
    """Raise DataError if two images share a name, because a folds file could not tell them apart."""
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"several images of {splits} are named {twice}, so a fold cannot hold one out: rename one")


def refuse_more_than(available: int, what: str, number: int) -> None:
    """Raise DataError if there are fewer images, or groups of them, than folds."""
    if number > available:
        raise DataError(f"--number {number} is more than there are {what} ({available}): give a smaller one")


def main(argv: list[str] | None = None) -> None:
    parser = Parser(prog="python -m data_scripts.folds", description=__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="FOLDER", help="folder of the data set, or its id on the hub")
    parser.add_argument("file", metavar="FILE", type=Path, help="file of folds to write, JSON")
    parser.add_argument("--dataset", choices=tuple(DATASETS), help="data set (default: the one that the folder holds)")
    parser.add_argument("--image_column", metavar="NAME", help="column of photos, for --dataset hub")
    parser.add_argument("--label_column", metavar="NAME", help="column of masks, for --dataset hub")
    parser.add_argument("--number", type=int, default=5, metavar="N", help="number of folds (default: 5)")
    parser.add_argument(
        "--train_on", choices=tuple(TRAIN_ON), default="train", help="splits to divide (default: train)"
    )
    parser.add_argument(
        "--group_by",
        metavar="REGEX",
        help="regular expression: images with the same first group in their names, such as the frames of a video, stay "
        "together",
    )
    with one_line_errors(DataError):
        args = parser.parse_args(argv)
        if args.number < 2:
            raise DataError(f"--number {args.number} is too small: give 2 or more")
        if args.file.exists():
            raise DataError(f"{args.file} exists already: delete it or choose another name")
        if not os.access(args.file.parent, os.W_OK):
            raise DataError(f"cannot write {args.file}: choose a folder that exists and can be written")
        dataset = args.dataset or recognize(args.folder, flag="FOLDER", on_hub="--dataset hub")
        columns = args.image_column, args.label_column
        if any(columns) and dataset != "hub":
            raise DataError(f"--image_column and --label_column are for --dataset hub, not {dataset}: leave them out")
        data, labels = load_source(dataset, args.folder, columns, "FOLDER")
        images = training_split(*(data[split] for split in TRAIN_ON[args.train_on] if split in data))
        refuse_repeated(images["name"], args.train_on)
        refuse_more_than(len(images), "images", args.number)
        counts, groups = counts_and_groups(images, labels, args.group_by)
        refuse_more_than(len(np.unique(groups)), "groups of images that belong together", args.number)
        folds = make_folds(images["name"], counts, groups, args.number)
        text = json.dumps(folds, indent=1) + "\n"
        write_whole(args.file, lambda path: path.write_text(text), "choose a folder that can be written")
        print(table(folds, images["name"], counts, labels.names))
        which = "" if args.train_on == "train" else f" --train_on {args.train_on}"
        print(f"{len(images)} images in {len(np.unique(groups))} groups")
        folder, file = shlex.quote(args.folder), shlex.quote(str(args.file))
        source = f"--dataset_name {folder}" if dataset == "hub" else f"--dataset {dataset} --dataset_path {folder}"
        for flag, column in zip(("--image_column", "--label_column"), columns, strict=True):
            source += f" {flag} {shlex.quote(column)}" if column else ""
        print(f"wrote {args.file}: train with {source}{which} --folds {file} --fold 1, 2, ...")


if __name__ == "__main__":
    main()
