"""Look at every file of a data set before training, and say what is wrong with it.

    python -m data_scripts.check my_data                            # a folder whose layout is recognised
    python -m data_scripts.check --dataset camvid --dataset_path my_camvid

Takes the flags of train_seg.py that name and divide a data set. The exit code is 1 if training would fail or be
meaningless, else 0. This is a script: it may use every room, and nothing imports it.
"""

import sys

import numpy as np

from seg_runs.errors import one_line_errors
from seg_runs.parsing import parse_arguments

from .arguments import DivisionOptions, with_folder
from .findings import ERROR, WARNING, Finding, below, counted, findings_of
from .labels import DataError
from .recognition import with_dataset
from .survey import Survey, take_survey
from .training import load_to_look_at

NAMED = {
    "prog": "python -m data_scripts.check",
    "usage": "%(prog)s [DATA] [--FLAG VALUE] ...",
    "epilog": "DATA is the folder of the data set, as with --dataset_path.",
}
COLUMNS = ("images", "pixels", "region")


class CheckOptions(DivisionOptions):
    """Look at every file of a data set, and say what is wrong with it."""


def main(argv: list[str] | None = None) -> int:
    """Print what was found. Returns the exit code."""
    with one_line_errors(DataError):
        argv = with_folder(sys.argv[1:] if argv is None else argv)
        options = with_dataset(parse_arguments(CheckOptions, argv, **NAMED))
        data, labels, refusal = load_to_look_at(options)
        survey = take_survey(data, labels)
        found = below(findings_of(survey, refusal), options.path or options.dataset)
        print("\n".join([*overview(survey), "", *class_table(survey), "", *report(found), "", verdict(found)]))
    return int(any(finding.level == ERROR for finding in found))


def overview(survey: Survey) -> list[str]:
    """Return a line for each split: images, sizes, labelled pixels."""
    lines = []
    for split in survey.splits:
        rows = survey.of(split)
        sizes = np.array([row.size for row in rows if row.size], np.int64).reshape(-1, 2)
        ids = [row.ids for row in rows if row.ids is not None]
        line = f"{split:<6}{counted(len(rows), 'image')}"
        if len(sizes):
            shapes = [f"{height}x{width}" for height, width in np.unique(sizes, axis=0)]
            if len(shapes) > 2:  # the least height may be that of a wide image: ranges of each
                ranges = zip(sizes.min(0), sizes.max(0), strict=True)
                shapes = [" x ".join(f"{low} to {high}" if low < high else str(low) for low, high in ranges)]
            line += f" of {' or '.join(shapes)} (height x width)"
        if ids:
            labelled = survey.counts(split).sum() / np.sum(ids)
            line += f", {counted(len(ids), 'mask')}, {labelled:.1%} of the pixels belong to a class"
        else:
            line += ", no masks" if not any(row.label for row in rows) else ", no usable mask"
        lines.append(line)
    return lines


def class_table(survey: Survey) -> list[str]:
    """Return the lines of a table: images, share of the labelled pixels and median region of each class and split."""
    names = survey.labels.names
    splits = survey.labelled
    if not splits:
        return ["no mask can be used, so there is no table of classes"]
    width = max(len("class"), *map(len, names)) + 2
    counts = {split: survey.counts(split) for split in splits}
    lines = [
        " " * width + "".join(f"{split:>12}{'':18}" for split in splits).rstrip(),
        f"{'class':<{width}}" + "".join(f"{column:>10}" for _ in splits for column in COLUMNS),
    ]
    for train_id, name in enumerate(names):
        cells = []
        for split in splits:
            pixels = counts[split][:, train_id]
            sizes = survey.region_sizes(train_id, split)
            cells += [f"{np.count_nonzero(pixels):,}", share(pixels.sum(), counts[split].sum())]
            cells.append(f"{np.median(sizes):,.0f}" if len(sizes) else "-")
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>10}" for cell in cells))
    explained = "pixels: share of the labelled pixels; region: median size of a connected region in pixels"
    return [*lines, explained]


def share(part: int, whole: int) -> str:
    """Return a share in per cent, precise for small ones."""
    if not part:
        return "-"
    percent = 100 * part / whole
    if percent < 0.01:
        return "< 0.01 %"
    return f"{percent:.1f} %" if percent >= 1 else f"{percent:.2f} %"


def report(found: list[Finding]) -> list[str]:
    """Return the lines that describe the findings."""
    lines = []
    for finding in found:
        lines.append(f"{finding.level.upper():<9}{finding.title}")
        lines += [f"{'':9}{line}" for line in finding.details]
        lines += [f"{'':9}-> {finding.then}"] if finding.then else []
    return lines or ["nothing to complain about"]


def verdict(found: list[Finding]) -> str:
    errors, warnings = (sum(finding.level == level for finding in found) for level in (ERROR, WARNING))
    if errors:
        return f"verdict: do not train yet, {counted(errors, 'error')} must be repaired first"
    if warnings:
        which = "warning" if warnings == 1 else f"{warnings} warnings"
        return f"verdict: training will run, but see the {which} above"
    return "verdict: ready for training"


if __name__ == "__main__":
    raise SystemExit(main())
