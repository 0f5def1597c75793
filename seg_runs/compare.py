"""Show the mean and the deviation of scores over runs that differ in their fold or seed.

    python -m seg_runs.compare runs/kitti_fold_*
    python -m seg_runs.compare runs/* --scores scores_val.json    # of predict_seg.py, for example with --mst

Runs that have all other flags in common are put together. The deviation is that of a sample (divided by n - 1).
This is a script: nothing imports it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .files import read_json
from .launch import RunError, one_line_errors
from .parsing import Parser, as_given
from .recipes import read_recipe

RECORD = "best/training.json"  # has the scores on the validation images of the run
SEPARATE = ("fold", "seed", "output_dir")  # flags by which runs of one group differ
MEANS = {"mean_iou": "mean IoU", "mean_accuracy": "mean accuracy", "overall_accuracy": "pixel accuracy"}


@dataclass(frozen=True)
class Scored:
    """A run with its flags, its scores by name (`MEANS`) and its IoU by class, nan where undefined."""

    folder: Path
    flags: dict
    means: dict[str, float]
    iou: dict[str, float]

    @property
    def configuration(self) -> dict:
        return {key: value for key, value in self.flags.items() if key not in SEPARATE}


def read_run(run: Path, scores: str) -> Scored | str:
    """Return a run, or why it is left out: it is no complete run, or has no scores. Raises RunError for damaged files.

    scores  name of the file of scores in the run folder
    """
    for name in ("args.yaml", "results.json", scores):
        if not (run / name).is_file():
            return f"it has no {name}"
    found = read_json(run / scores)
    found = found.get("validation") if scores == RECORD and isinstance(found, dict) else found
    if found is None:
        return "it was not validated"
    try:
        means = {key: _number(found[key]) for key in MEANS}
        iou = {name: _number(value) for name, value in found["iou"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"cannot read {run / scores}: it has no scores as a run or a prediction writes them") from error
    return Scored(run, read_recipe(run / "args.yaml"), means, iou)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def grouped(runs: Sequence[Scored]) -> list[list[Scored]]:
    """Return the runs in groups of one configuration, in the order of their first runs."""
    groups = []
    for run in runs:
        group = next((group for group in groups if group[0].configuration == run.configuration), None)
        if group is None:
            groups.append([run])
        else:
            group.append(run)
    return groups


def summary(runs: Sequence[Scored]) -> str:
    """Return a table of the runs of one configuration: a row for each class and for each mean."""
    classes = list(dict.fromkeys(name for run in runs for name in run.iou))
    rows = [(name, [run.iou.get(name, float("nan")) for run in runs]) for name in classes]
    means = [(title, [run.means[key] for run in runs]) for key, title in MEANS.items()]
    width = max(len(name) for name, _ in (*rows, *means))
    head = f"{'class':<{width}}    mean     dev  lowest  highest  runs"
    line = "-" * len(head)
    return "\n".join([head, *(_row(*row, width) for row in rows), line, *(_row(*row, width) for row in means)])


def _row(name: str, scores: Sequence[float], width: int) -> str:
    known = np.array(scores)[~np.isnan(scores)]
    if not len(known):
        return f"{name:<{width}}       -       -       -        -     0"
    deviation = f"{known.std(ddof=1):.4f}" if len(known) > 1 else "     -"
    return f"{name:<{width}}  {known.mean():.4f}  {deviation}  {known.min():.4f}   {known.max():.4f}  {len(known):4}"


def titles(groups: Sequence[Sequence[Scored]]) -> list[str]:
    """Return a title for each group: the flags that not all groups have in common, and folds, seeds, number of runs."""
    flags = [group[0].configuration for group in groups]
    differing = sorted(
        {key for some in flags for key in some if any(key not in f or f[key] != some[key] for f in flags)}
    )
    found = []
    for group, some in zip(groups, flags, strict=True):
        own = [f"--{key} {as_given(some[key])}" for key in differing if some.get(key) is not None]
        for key in ("fold", "seed"):
            values = list(dict.fromkeys(str(run.flags[key]) for run in group if run.flags.get(key) is not None))
            own += [f"{key}{'s' if len(values) > 1 else ''} {', '.join(values)}"] if values else []
        found.append("; ".join([f"{len(group)} run{'s' if len(group) > 1 else ''}", *own]))
    return found


def compare(folders: Sequence[Path], scores: str) -> str:
    """Return the tables of all groups, and at the end, if there are several, one line for each, the best one first."""
    runs, notes = [], []
    for folder in folders:
        run = read_run(folder, scores)
        if isinstance(run, Scored):
            runs.append(run)
        else:
            notes.append(f"note: {folder} is left out: {run}")
    if not runs:
        first = notes[0].removeprefix("note: ")
        raise RunError(f"none of {len(folders)} folders is a complete run with {scores}: {first}")
    groups = grouped(runs)
    tables = [f"{title}\n{summary(group)}" for title, group in zip(titles(groups), groups, strict=True)]
    if len(groups) > 1:
        values = [np.array([run.means["mean_iou"] for run in group]) for group in groups]
        ranked = sorted(zip(values, titles(groups), strict=True), key=lambda pair: -np.nan_to_num(pair[0].mean()))
        lines = [f"{known.mean():.4f} {_plus_minus(known)}  {title}" for known, title in ranked]
        tables.append("\n".join(["mean IoU", *lines]))
    return "\n\n".join([*(["\n".join(notes)] if notes else []), *tables])


def _plus_minus(values: np.ndarray) -> str:
    return f"+- {values.std(ddof=1):.4f}" if len(values) > 1 else " " * 9


def main(argv: list[str] | None = None) -> None:
    parser = Parser(prog="python -m seg_runs.compare", description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    parser.add_argument(
        "--scores", default=RECORD, metavar="FILE", help=f"file of scores in each run folder (default: {RECORD})"
    )
    with one_line_errors():
        args = parser.parse_args(argv)
        print(compare(args.runs, args.scores))


if __name__ == "__main__":
    main()
