"""Draw a data set's page: its classes, their sizes and places, its pictures with masks, and what stands out.

    python -m data_scripts.eda my_data page              # page/index.html and page/stats.json
    python -m data_scripts.eda page --dataset camvid --dataset_path my_camvid --pictures 0    # without photos

Takes the flags of train_seg.py that name and divide a data set. This is a script: it may use every room, and nothing
imports it.
"""

import json
import shlex
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from datasets import DatasetDict
from transformers.hf_argparser import HfArg

from seg_jobs.web_page import document, is_page_of
from seg_runs.errors import one_line_errors
from seg_runs.parsing import parse_arguments

from . import class_statistics as statistics
from . import eda_charts as charts
from . import eda_page as html
from .arguments import DivisionOptions, with_folder
from .catalog import DataNote, may_be_shown
from .class_file import About
from .eda_marks import percent
from .files import write_whole
from .findings import Finding, below, counted, findings_of, replace_path
from .labels import DataError
from .near_duplicates import BITS
from .own_folder import looks_like_folder
from .recognition import with_dataset
from .saved_classes import describe_data, note_of
from .survey import Row, Survey, take_survey
from .training import load_to_look_at

NAMED = {
    "prog": "python -m data_scripts.eda",
    "usage": "%(prog)s [DATA] OUT [--FLAG VALUE] ...",
    "epilog": "DATA is the folder of the data set, as with --dataset_path. OUT is the folder for the page.",
}
PAIRS = 6  # look-alikes that the page shows
PAGE = "index.html"
GENERATOR = "data_scripts.eda"
REMEDY = "make room or allow writing there, or name another folder"


@dataclass(frozen=True)
class EdaOptions(DivisionOptions):
    """Draw a page about a data set."""

    pictures: int = HfArg(
        default=12, help="pictures with masks on the page; 0 shows no photo at all", metadata={"least": 0, "most": 200}
    )


@dataclass(frozen=True)
class Look:
    """A data set and what was found out about it."""

    data: DatasetDict
    survey: Survey
    alike: statistics.Alike
    numbers: statistics.Numbers
    findings: list[Finding]


def main(argv: list[str] | None = None) -> None:
    with one_line_errors(DataError):
        argv, out = split_off_folder(sys.argv[1:] if argv is None else list(argv))
        options = with_dataset(parse_arguments(EdaOptions, with_folder(argv), **NAMED))
        refuse_other_page(out)
        data, labels, refusal = load_to_look_at(options)
        note = note_of({"dataset": options.dataset, **describe_data(options, data, labels)})
        title = page_title(note, options)
        warning = "" if note.publishable or not options.pictures else warning_about_pictures(title)
        if warning:
            print(f"note: {warning}")
        if may_be_shown(options.dataset):
            warning = ""
        prepare_folder(out)
        survey = take_survey(data, labels)
        alike = statistics.look_alikes(survey)
        found = without_folder(findings_of(survey, refusal), options.path or options.dataset)
        look = Look(data, survey, alike, statistics.numbers_of(survey, alike), found)
        numbers = json.dumps(stats(look), indent=1) + "\n"
        text = draw(look, title, warning, options.pictures)
        write_whole(out / "stats.json", lambda path: path.write_text(numbers), REMEDY)
        write_whole(out / PAGE, lambda path: path.write_text(text, encoding="utf-8"), REMEDY)
        print(f"wrote {out / PAGE} ({len(text) / 1e6:.1f} MB) and {out / 'stats.json'}")


def split_off_folder(argv: list[str]) -> tuple[list[str], Path]:
    """Return the command line without the folder to write, and that folder: the last argument before the first flag."""
    named = next((i for i, argument in enumerate(argv) if argument.startswith("-")), len(argv))
    if {"-h", "--help"} & {*argv}:
        return argv[named:], Path()
    if not 1 <= named <= 2:
        raise DataError(f"{named} folders are named: give DATA OUT, or OUT and --dataset_path DATA")
    if argv[named:] == [] and named == 1 and looks_like_folder(Path(argv[0])):
        raise DataError(f"name the folder for the page too: python -m {GENERATOR} {shlex.quote(argv[0])} page")
    return argv[: named - 1] + argv[named:], Path(argv[named - 1])


def refuse_other_page(out: Path) -> None:
    """Raise `DataError` if the folder to write holds a page of another program."""
    if (out / PAGE).exists() and not is_page_of(GENERATOR, out / PAGE):
        raise DataError(f"{out / PAGE} exists and is not a page of this program: name another folder")


def prepare_folder(out: Path) -> None:
    """Create the folder to write, before the long work. Raises `DataError` if that is not possible."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror or error}; {REMEDY}") from error


def without_folder(found: list[Finding], root: str) -> list[Finding]:
    """Return findings that do not tell where on this machine the data lie, because the page may be shown around."""
    path = Path(root)  # that of . has no name, and needs none
    found = below(found, root)
    return [replace(finding, then=replace_path(finding.then, str(path), path.name or root)) for finding in found]


def warning_about_pictures(title: str) -> str:
    """Return a warning about pictures of data whose licence does not let everyone show them."""
    return (
        f"the page holds pictures of {title}: show it only where these may be shown, or leave them out with "
        "--pictures 0"
    )


def stats(look: Look) -> dict:
    """Return the content of stats.json."""
    rows = look.survey.rows
    names = look.survey.labels.names
    numbers = look.numbers
    return {
        "splits": numbers.splits,
        "quantiles of region sizes": list(statistics.QUANTILES),
        "classes": numbers.classes,
        "images that show both": {name: row for name, row in zip(names, numbers.together.tolist(), strict=True)},
        "look-alikes of training images": [
            {
                "split": rows[a].split,
                "image": rows[a].name,
                "training image": rows[b].name,
                "different bits": bits,
            }
            for a, b, bits in look.alike.pairs
        ],
        "findings": [asdict(finding) for finding in look.findings],
    }


def draw(look: Look, title: str, warning: str, pictures: int) -> str:
    """Return the page. `pictures` is the number of pictures that it shows, `warning` says who may see them."""
    survey = look.survey
    classes = look.numbers.classes
    splits = look.numbers.splits
    labels, labelled = survey.labels, survey.labelled
    chosen = statistics.choose_pictures(survey, pictures)
    sizes = [row.size for row in survey.rows if row.size]
    aspect = float(np.median([width / height for height, width in sizes])) if sizes else 1.0
    images = {split: entry["images"] for split, entry in splits.items()}
    sections = [
        html.header(title, described(survey), tiles(survey, splits), warning),
        html.findings_section(look.findings),
        html.contact_sheet([survey.rows[i] for i in chosen], [files_of(look.data, i) for i in chosen], labels),
        charts.class_bars(classes, labelled, images, labels),
        charts.position_maps(statistics.heat_maps(survey), labels, aspect),
        charts.region_boxes(classes, labelled, labels),
        charts.co_occurrence_table(look.numbers.together, labels),
        html.images_section(splits),
        look_alikes_section(look) if pictures else "",
        "<footer>Drawn by <code>python -m data_scripts.eda</code>. The numbers are in stats.json.</footer>",
    ]
    return document(f"{title}: a look at the data", GENERATOR, html.STYLE, html.SCRIPT, sections)


def page_title(note: DataNote, options: EdaOptions) -> str:
    """Return the data set's title or, if it has none, the name of its folder."""
    named = note.title != About().data_note().title
    return note.title if named else Path(options.path or options.dataset).resolve().name


def described(survey: Survey) -> str:
    shown = ", ".join(survey.labels.names[:6]) + (" ..." if len(survey.labels.names) > 6 else "")
    return f"{counted(len(survey.rows), 'image')}, {len(survey.labels.names)} classes: {shown}"


def tiles(survey: Survey, splits: dict[str, dict]) -> list[tuple[str, str]]:
    """Return the numbers at the top of the page, each with what it counts."""
    titles = {"train": "training images", "val": "validation images", "test": "test images"}
    found = [(f"{entry['images']:,}", titles.get(split, f"images in {split}")) for split, entry in splits.items()]
    found.append((str(len(survey.labels.names)), "classes"))
    sizes = [row.size for row in survey.rows if row.size]
    if sizes:
        megapixels = np.median([height * width for height, width in sizes]) / 1e6
        found.append((f"{megapixels:.2g}", "megapixels, median"))
    labelled = sum(int(survey.counts(split).sum()) for split in survey.labelled)
    total = sum(int(row.ids.sum()) for row in survey.rows if row.ids is not None)
    if total:
        found.append((percent(labelled / total), "of the pixels belong to a class"))
    return found


def files_of(data: DatasetDict, index: int) -> dict:
    """Return the undecoded files of a row of the survey, which lists the splits one after the other."""
    for split in data.values():
        if index < len(split):
            return split[index]
        index -= len(split)
    raise IndexError(index)


def look_alikes_section(look: Look) -> str:
    """Return the section of near-duplicates: pairs across splits, or else the largest groups."""
    rows = look.survey.rows
    alike = look.alike
    what = "images that look like a training image"
    pairs = []
    for other, training, bits in alike.pairs:
        names = f"{name_of(rows[other])} and {name_of(rows[training])}"
        pairs.append(((other, training), f"{names}: {bits} of {BITS} bits differ"))
    if not pairs:
        what = "groups of near-duplicates"
        groups, sizes = np.unique(alike.groups[alike.groups >= 0], return_counts=True)
        for i in np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes > 1)]:
            first, *_, last = np.flatnonzero(alike.groups == groups[i]).tolist()
            names = f"{name_of(rows[first])} and {name_of(rows[last])}"
            pairs.append(((first, last), f"{names}: first and last of {sizes[i]} images"))
    text = f"{len(pairs):,} {what}, found by a perceptual hash." + (
        f" {PAIRS} are shown." if len(pairs) > PAIRS else ""
    )
    shown = [([files_of(look.data, i)["image"] for i in pair], caption) for pair, caption in pairs[:PAIRS]]
    return html.pairs_section("Look-alikes", text, shown)


def name_of(row: Row) -> str:
    return f"{row.name} ({row.split})"


if __name__ == "__main__":
    main()
