"""Compare runs: in the terminal, and with --out as one page that needs no other file, and as CSV.

    python -m seg_runs.report runs/*
    python -m seg_runs.report runs/* --out report              # report/index.html, groups.csv, runs.csv
    python -m seg_runs.report runs/* --baseline runs/plain
    python -m seg_runs.report runs/* --scores scores_val.json  # of predict_seg.py, such as --mst

Runs that differ in seed and fold only are a group. Reads run folders and nothing else. This is a script: it may use
every room, and nothing imports it.
"""

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from data_scripts.arguments import DivisionOptions, ScoringOptions
from data_scripts.catalog import DATASETS, data_note, may_be_shown
from seg_jobs.arguments import TrainArguments
from seg_jobs.web_page import document, is_page_of

from . import report_page as html
from .errors import RunError, one_line_errors
from .files import read_json, write_atomically, writing
from .flag_checks import default_of
from .parsing import Parser, as_given, flags_of, known_tokens
from .report_noise import mean_and_deviation
from .report_pictures import MOST_GROUPS, Color, photos_of, picture_of
from .report_runs import MEANS, RECORD, Comparison, Flags, Group, read_runs
from .report_style import SCRIPT, STYLE

GENERATOR = "seg_runs.report"
PAGE, GROUPS, RUNS = "index.html", "groups.csv", "runs.csv"
FIRST = {GROUPS: ["group", "runs", "mean_iou"], RUNS: ["run", "group", "fold"]}  # columns by which a CSV is known again


def make_parser() -> Parser:
    parser = Parser(prog="python -m seg_runs.report", description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=f"write {PAGE}, {GROUPS} and {RUNS} to this folder")
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="RUN",
        help="a run of the group that others are compared with (default: the group from which most others differ in "
        "one flag)",
    )
    parser.add_argument(
        "--scores", default=RECORD, metavar="FILE", help=f"file of scores in each run folder (default: {RECORD})"
    )
    parser.add_argument("--no_pictures", action="store_true", help="show no photos on the page")
    return parser


def main(argv: list[str] | None = None) -> None:
    with one_line_errors():
        args = make_parser().parse_args(argv)
        if args.out is not None:
            refuse_foreign(args.out)
        flags = known_flags()
        runs, left_out = read_runs(args.runs, args.scores, flags)
        for folder, why in left_out:
            print(f"note: {folder} is left out: {why}")
        if not runs:
            several = any((run / "args.yaml").is_file() for folder in args.runs for run in Path(folder).glob("*/"))
            remedy = f": give the runs in it, as {args.runs[0]}/*" if several else ""
            raise RunError(f"nothing to compare: none of {len(args.runs)} folders is a finished run{remedy}")
        comparison = Comparison(runs, flags, args.baseline)
        if args.out is None:
            print(tables(comparison))
        print(ranking(comparison))
        if args.out is not None:
            write(args.out, comparison, left_out, not args.no_pictures)


def known_flags() -> Flags:
    """Return what the fields of train_seg.py's flags say: defaults, and what each flag bears on."""
    fields = flags_of(TrainArguments)
    needs = {name: (*f.metadata.get("needs", ()), *f.metadata.get("needs_one_of", ())) for name, f in fields.items()}
    defaults = {name: default_of(f) for name, f in fields.items() if not f.metadata.get("of_launch")}
    idle = {name for name, f in fields.items() if f.metadata.get("of_launch") or f.metadata.get("no_score")}
    data = {f.name for options in (ScoringOptions, DivisionOptions) for f in dataclasses.fields(options)}
    images = [name for name in fields if name in data - idle]
    return Flags(defaults, needs, images, idle, partial(known_tokens, TrainArguments))


def refuse_foreign(out: Path) -> None:
    """Raise RunError if `out` cannot hold a report, or holds files of its names that no report wrote."""
    if out.exists() and not out.is_dir():
        raise RunError(f"--out {out} is not a folder: name another")
    page = out / PAGE
    foreign = [page] if page.exists() and not is_page_of(GENERATOR, page) else []
    foreign += [out / name for name in (GROUPS, RUNS) if (out / name).exists() and not is_table_of(name, out / name)]
    if foreign:
        raise RunError(f"{foreign[0]} exists and was not written by this program: name another folder with --out")


def is_table_of(name: str, path: Path) -> bool:
    """Whether the file `path` begins like the CSV called `name`."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return next(csv.reader(file), [])[:3] == FIRST[name]
    except (OSError, UnicodeDecodeError, csv.Error):
        return False


def write(out: Path, comparison: Comparison, left_out: Sequence[tuple[Path, str]], pictures: bool) -> None:
    """Write the page and the tables to the folder `out`."""
    pictures = pictures and any(picture_of(run) for run in comparison.groups[comparison.baseline].runs)
    warnings = warnings_of(comparison, pictures)
    for warning in warnings:
        print(f"note: {warning}")
    text = page_of(comparison, left_out, warnings, pictures)
    with writing(out, "; make room or allow writing there, or name another folder"):
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / GROUPS, as_csv(FIRST[GROUPS], group_rows(comparison)))
        write_atomically(out / RUNS, as_csv(FIRST[RUNS], run_rows(comparison)))
        write_atomically(out / PAGE, text)
    print(f"wrote {out / PAGE} ({len(text) / 1e6:.1f} MB), {GROUPS} and {RUNS}")


def page_of(
    comparison: Comparison, left_out: Sequence[tuple[Path, str]], warnings: Sequence[str], pictures: bool
) -> str:
    """Return the page."""
    palette = palette_of(comparison)
    first = [comparison.baseline, *(i for i in range(len(comparison.groups)) if i != comparison.baseline)]
    shown = sorted(first[:MOST_GROUPS])
    photos = photos_of(comparison, shown, palette) if pictures else []
    sections = [
        html.header(comparison, title_of(comparison), warnings),
        html.ranking(comparison),
        html.flags_table(comparison),
        html.class_table(comparison),
        html.curves_section(comparison),
        html.cost_section(comparison),
        html.photos_section(comparison, photos, palette, len(first) - len(shown)),
        html.runs_section(comparison, left_out),
        f"<footer>Written by <code>python -m {GENERATOR}</code>. The numbers are in {GROUPS} and {RUNS}.</footer>",
    ]
    return document(f"{title_of(comparison)}: runs compared", GENERATOR, STYLE, SCRIPT, sections)


def title_of(comparison: Comparison) -> str:
    """Return what the runs are validated on."""
    flags = [group.flags for group in comparison.groups]
    names = {str(f["eval_dataset"][0]) if f.get("eval_dataset") else _data_name(f) for f in flags}
    folds = {run.fold for group in comparison.groups for run in group.runs} - {None}
    fold = f", fold{'s' if len(folds) > 1 else ''} {', '.join(sorted(folds))}" if folds else ""
    return " and ".join(sorted(names)) + fold


def _data_name(flags: dict) -> str:
    own = flags.get("dataset_path") or flags.get("dataset_name")
    return str(own) if own else data_note(flags.get("dataset")).title


def scored_data(flags: dict) -> tuple[str | None, str]:
    """Return the data set whose images a run is validated on, which its pictures show, and its title."""
    if flags.get("eval_dataset"):
        dataset = str(flags["eval_dataset"][0])
        return dataset, data_note(dataset).title
    return flags.get("dataset"), _data_name(flags)


def warnings_of(comparison: Comparison, pictures: bool) -> list[str]:
    """Return what a reader of the page must know first."""
    warnings = []
    comparable = [comparison.groups[i] for i in comparison.comparable]
    apart = len(comparison.groups) - len(comparable)
    if apart:
        verb = "is" if apart == 1 else "are"
        warnings.append(
            f"{apart} of {len(comparison.groups)} groups {verb} scored on other images or classes than the baseline: "
            "their scores do not compare."
        )
    if len({frozenset(run.images for run in group.runs) for group in comparable}) > 1:
        warnings.append("Not all groups have the same folds: their means do not compare, but the gains do.")
    settings = [run.settings for group in comparison.groups for run in group.runs]
    keys = dict.fromkeys(key for found in settings for key in found)
    if differing := [key for key in keys if any(found.get(key) != settings[0].get(key) for found in settings)]:
        warnings.append(
            f"Not all scores were measured in the same way ({', '.join(differing)}): this may be why they differ."
        )
    scored = dict.fromkeys(scored_data(group.flags) for group in comparison.groups)
    private = [title for dataset, title in scored if not may_be_shown(dataset)]
    if private and pictures:
        warnings.append(
            f"This page holds pictures of {' and '.join(private)}: show it only where these may be shown, or write it "
            "with --no_pictures."
        )
    return warnings


def palette_of(comparison: Comparison) -> dict[str, Color]:
    """Return the colours of the classes in the pictures of the baseline; {} if they are not known."""
    run = comparison.groups[comparison.baseline].runs[0]
    path = run.folder / "best" / "config.json"
    try:
        saved = read_json(path).get("label_set") if path.is_file() else None
        colors = [tuple(map(int, color)) for color in saved["palette"]] if saved else []
    except (RunError, KeyError, TypeError, ValueError):
        colors = []
    source = DATASETS.get(run.flags.get("dataset"))
    if source is not None and source.labels is not None:
        return dict(zip(source.labels.names, source.labels.palette, strict=True))
    fits = len(colors) == len(run.iou) and all(len(color) == 3 for color in colors)
    return dict(zip(run.iou, colors, strict=True)) if fits else {}


# The tables


def group_rows(comparison: Comparison) -> list[dict]:
    """Return the rows of groups.csv. Scores are shares, not per cents; what is not known is empty."""
    rows = []
    best, ties = comparison.best()
    for i, group in enumerate(comparison.groups):
        mean, deviation = mean_and_deviation(group.scores())
        gain = comparison.gain(i)
        row = {"group": comparison.name(i), "runs": len(group.runs), "mean_iou": mean, "deviation": deviation}
        row |= {"gain": None if gain is None else gain.value, "margin": None if gain is None else gain.margin}
        row |= {"within_noise": None if gain is None else gain.is_noise, "best_or_tie": i == best or i in ties}
        row |= {name: group.mean_of(name) for name in ("seconds", "peak_memory", "parameters", "macs")}
        row |= _varying(comparison, group)
        row |= {f"iou/{name}": mean_and_deviation(group.scores(name))[0] for name in comparison.classes}
        rows.append(row)
    return rows


def _varying(comparison: Comparison, group: Group) -> dict:
    """Return the flags in which groups differ as cells, and the classes if they do, which are no flag."""
    names = {key: key if key == "classes" else f"--{key}" for key in comparison.varying}
    return {name: _plain(group.flags.get(key)) for key, name in names.items()}


def run_rows(comparison: Comparison) -> list[dict]:
    """Return the rows of runs.csv."""
    rows = []
    for i, group in enumerate(comparison.groups):
        for run in group.runs:
            row = {"run": run.folder.name, "group": comparison.name(i), "fold": run.fold, "seed": run.seed}
            row |= {"best_epoch": run.best_epoch, **run.means}
            row |= {name: getattr(run, name) for name in ("seconds", "peak_memory", "parameters", "macs", "hardware")}
            row |= _varying(comparison, group)
            row |= {f"iou/{name}": run.iou.get(name, math.nan) for name in comparison.classes}
            rows.append(row)
    return rows


def _plain(value: object) -> str:
    return "" if value is None else as_given(value)


def as_csv(first: Sequence[str], rows: Sequence[dict]) -> str:
    """Return rows as CSV. Their first columns must be `first`."""
    assert list(rows[0])[: len(first)] == list(first)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value


# The terminal


def tables(comparison: Comparison) -> str:
    """Return a table for each group: mean, deviation and range of the IoU of each class and of each mean."""
    texts = [
        f"{comparison.name(i)}: {group.repeats}\n{group_table(group)}\n" for i, group in enumerate(comparison.groups)
    ]
    return "\n".join(texts)


def group_table(group: Group) -> str:
    classes = dict.fromkeys(name for run in group.runs for name in run.iou)
    rows = [(name, group.scores(name)) for name in classes]
    means = [(title, [run.means[key] for run in group.runs]) for key, title in MEANS.items()]
    width = max(len(name) for name, _ in (*rows, *means))
    head = f"{'class':<{width}}    mean     dev  lowest  highest  runs"
    line = "-" * len(head)
    return "\n".join([head, *(_row(*row, width) for row in rows), line, *(_row(*row, width) for row in means)])


def _row(name: str, scores: Sequence[float], width: int) -> str:
    known = [score for score in scores if not math.isnan(score)]
    if not known:
        return f"{name:<{width}}       -       -       -        -     0"
    mean, deviation = mean_and_deviation(known)
    spread = "     -" if math.isnan(deviation) else f"{deviation:.4f}"
    return f"{name:<{width}}  {mean:.4f}  {spread}  {min(known):.4f}   {max(known):.4f}  {len(known):4}"


def ranking(comparison: Comparison) -> str:
    """Return a line for each group, the best first: mean IoU, gain over the baseline, and what it changes."""
    lines = ["mean IoU            gain over the baseline, with its 95 % interval"]
    for i, group in enumerate(comparison.groups):
        mean, deviation = mean_and_deviation(group.scores())
        gain = comparison.gain(i)
        spread = " " * 9 if math.isnan(deviation) else f"+- {deviation:.4f}"
        difference = " " * 17
        if gain is not None and i != comparison.baseline:
            value = round(gain.value, 4) + 0.0  # -0.0 + 0.0 is 0.0
            difference = f"{value:+.4f}" + (f" +- {gain.margin:.4f}" if gain.margin is not None else " " * 10)
        lines.append(f"{mean:.4f} {spread}    {difference:<17}  {comparison.name(i)}; {group.repeats}")
    noise = comparison.fits[None].deviation
    known = f"a run deviates by {noise:.4f}" if noise is not None else "one seed: no noise is known"
    return "\n".join([*lines, f"noise: {known}"])


if __name__ == "__main__":
    main()
