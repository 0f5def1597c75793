"""Turn labelled images of almost any kind into the folder that the other programs read.

    python -m data_scripts.prepare SOURCE DESTINATION

SOURCE is a folder (masks beside or apart from photos, VOC / CVAT, Roboflow, COCO, YOLO, labelme, Label Studio,
`save_to_disk`), a JSON file in such a folder, or the id of a data set on the hub. It is never changed. DESTINATION gets
images/ and masks/, with the splits that SOURCE has, and classes.yaml, which you can correct; docs/prepare.md says how.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from seg_runs.errors import os_line

from .class_file import CLASS_FILE, About, write_classes
from .labels import DataError
from .listing import is_text
from .preparing import hub
from .preparing.annotated import Annotated, BadFiles, Options
from .preparing.correction import Plan, plan, unknown_ids
from .preparing.destination import Destination, check_apart, check_space
from .preparing.encoding import FORMS
from .preparing.found import Found
from .preparing.kinds import KINDS, read, read_id
from .preparing.regions import OVERLAPS
from .preparing.report import report
from .preparing.writing import Written, write_items

MOST_ERRORS = 20  # lines; more are only counted


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_args(argv)
    try:
        print("\n".join(prepare(arguments, argv)))
    except BadFiles as error:
        for line in error.lines[:MOST_ERRORS]:
            print(f"error: {line}", file=sys.stderr)
        shown = f" ({MOST_ERRORS} shown)" if len(error.lines) > MOST_ERRORS else ""
        remedy = "repair them, or give --skip_bad to leave them out"
        files = "bad file" if len(error.lines) == 1 else "bad files"
        more = ", and photos have not been read yet" if error.unread else ""
        print(f"error: {len(error.lines)} {files}{shown}{more}: nothing was written; {remedy}", file=sys.stderr)
        return 1
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a folder that may not be looked into, or a name that is too long
        print(f"error: {os_line(error)}; name another folder, or allow reading and writing it", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: give the same command again", file=sys.stderr)
        return 130
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m data_scripts.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("source", metavar="SOURCE", help="folder, JSON file or hub id to read")
    parser.add_argument("destination", metavar="DESTINATION", type=Path, help="folder to write")
    parser.add_argument("--kind", choices=tuple(KINDS), help="what SOURCE is (default: recognised)")
    parser.add_argument(
        "--mask_values",
        choices=FORMS,
        help="mask values are class ids, grey levels such as 0, 128, 255 (levels), colours, or numbers of objects "
        "(default: recognised, apart from the last); objects become one class",
    )
    parser.add_argument(
        "--overlap",
        choices=OVERLAPS,
        help="region on top where regions overlap: the later one in the file, or the smaller one (default: later; for "
        "COCO and YOLO smaller, if later would hide many regions)",
    )
    parser.add_argument(
        "--empty",
        choices=("background", "leave_out"),
        help="treat photos that are listed without regions, and photos without a file of labelme or YOLO, as all "
        "background, or leave them out (default: background if listed, leave_out if without a file)",
    )
    parser.add_argument(
        "--ignore_background",
        action="store_true",
        help="pixels of no class are unknown, not background: not every object was labelled",
    )
    parser.add_argument("--image_column", metavar="NAME", help="column of photos in a data set of `datasets`")
    parser.add_argument("--label_column", metavar="NAME", help="column of masks in a data set of `datasets`")
    parser.add_argument(
        "--skip_bad", action="store_true", help="leave out files that cannot be used, instead of stopping"
    )
    parser.add_argument(
        "--link", action="store_true", help="hard links to the photos instead of copies, on the same disk"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace images, masks and classes.yaml in DESTINATION, whoever wrote them",
    )
    return parser.parse_args(argv)


def prepare(arguments: argparse.Namespace, argv: Sequence[str] | None = None) -> list[str]:
    """Write DESTINATION, and return the lines of the report.

    Raises `DataError`, or `BadFiles` if files of the source cannot be used. Then DESTINATION is as it was.
    """
    command = shlex.join(["python", "-m", "data_scripts.prepare", *(sys.argv[1:] if argv is None else argv)])
    source, is_folder = _source(arguments.source, arguments.destination)
    destination = Destination(arguments.destination, source, arguments.overwrite)
    options = Options(
        arguments.overlap, arguments.empty, arguments.mask_values, arguments.image_column, arguments.label_column
    )
    if is_folder:
        annotated = read(Found(Path(arguments.source)), arguments.kind, options)
    else:
        annotated = read_id(source, arguments.kind, options)
    if annotated.errors and not arguments.skip_bad:
        raise BadFiles(annotated.errors)
    planned = plan(annotated, destination, arguments.ignore_background)
    if not arguments.link:
        check_space(destination.root, annotated)
    with destination.being_written(command) as folder:
        written = write_items(annotated.items, planned.table, folder, arguments.link)
        _check(written, planned, arguments.skip_bad)
        if planned.rewrite:
            write_classes(
                folder / CLASS_FILE, planned.labels, planned.about or About(licence=annotated.licence), _head(source)
            )
        destination.replace(folder, _record(source, annotated, planned, written), command)
    return report(arguments.source, destination.root, annotated, planned, written)


def _source(name: str, destination: Path) -> tuple[str, bool]:
    """Return the absolute path of SOURCE and True, or the id of a data set on the hub and False."""
    path = Path(name)
    for text in (name, str(destination)):
        if not is_text(text):
            raise DataError(f"the name {os.fsencode(text)!r} is not UTF-8, as in old archives: rename the folder")
    if path.exists():
        if path.is_file() and path.suffix.lower() != ".json":
            raise DataError(f"{name} (SOURCE) is a file: name a folder{_unpack(path)}")
        check_apart(path if path.is_dir() else path.parent, destination)
        return os.path.abspath(path), True
    if hub.HUB_ID.fullmatch(name):
        return name, False
    raise DataError(f"no folder {name} (SOURCE): name a folder, a JSON file, or a hub id (USER/NAME)")


def _unpack(path: Path) -> str:
    packed = path.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
    return ", and unpack the archive into it first" if packed else ""


def _check(written: Written, planned: Plan, skip_bad: bool) -> None:
    if written.errors and not (skip_bad and written.files):
        raise BadFiles(written.errors, unread=False)
    if missing := unknown_ids(planned, written.counts):
        raise DataError("; ".join(missing))


def _head(source: str) -> list[str]:
    return [
        f"Made by data_scripts.prepare from {Path(source).name}.",
        "Correct names, colours and the order. Ids of pixels to be ignored move from classes to ignore.",
        "To make one class of two, give both the same name and run prepare again. See docs/prepare.md.",
        "For the model card, add lines title, licence, link and note. See docs/your_data.md.",
    ]


def _record(source: str, annotated: Annotated, planned: Plan, written: Written) -> dict:
    return {
        "source": source,
        "kind": annotated.kind,
        "names": {str(number): name for number, name in sorted(planned.names.items())},
        "merged": {str(old): new for old, new in sorted(planned.merged.items())},
        "corrected": planned.corrected,
        "files": sorted(written.files),
    }


if __name__ == "__main__":
    raise SystemExit(main())
