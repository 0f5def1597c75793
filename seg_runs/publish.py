"""Upload a run to a hub after training, or upload it again.

    python -m seg_runs.publish runs/NAME --hub_model_id USER/NAME
    python -m seg_runs.publish runs/NAME --hub_model_id USER/NAME --dry_run FOLDER    # write files, upload nothing

This is a script: it may use every room, and nothing imports it.
"""

import os
import tempfile
from contextlib import nullcontext
from pathlib import Path

from seg_jobs.card_facts import card_facts

from .arguments import check_hub_id
from .errors import RunError, one_line_errors
from .files import replace_folder, writing
from .hub import make_repository, reason, stage, upload
from .lock import locked
from .parsing import Parser


def publish(run: Path, name: str, private: bool, dry_run: str | None) -> str:
    """Upload `run` to the repository `name`, or write the files to `dry_run`. Returns what was done, for the user."""
    check_hub_id(name)
    if not (run / "best" / "config.json").is_file():
        raise RunError(f"{run} is not a run folder with a best/ model")
    if dry_run == "":  # most often a shell's variable that is not set
        raise RunError("--dry_run is empty: name the folder to write")
    if dry_run is not None:
        with locked(run, "the run") if os.access(run, os.W_OK) else nullcontext():
            return export(run, Path(dry_run), name, private)
    repository = make_repository(name, private)
    with locked(run, "the run"):
        try:
            return f"uploaded: {upload(run, repository, private, card_facts())}"
        except RunError:
            raise
        except Exception as error:  # anything that the hub or the network raises
            raise RunError(f"upload to {repository} failed, nothing here is lost: {reason(error)}") from error


def export(run: Path, folder: Path, name: str, private: bool) -> str:
    """Write to `folder` what would be uploaded, completely or not at all. Returns a line for the user."""
    if folder.exists():
        raise RunError(f"--dry_run {folder} exists already: name another folder")
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            filled = Path(temporary) / "filled"
            filled.mkdir()
            stage(run, filled, name, private, card_facts())
            replace_folder(filled, folder)
    return f"wrote {folder}: this would be uploaded"


def make_parser() -> Parser:
    parser = Parser(prog="python -m seg_runs.publish", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument(
        "--hub_model_id", required=True, metavar="USER/NAME", help="the repository; created if it does not exist"
    )
    parser.add_argument("--hub_private", action="store_true", help="use a private repository; refuse a public one")
    parser.add_argument("--dry_run", metavar="FOLDER", help="write the files to FOLDER and upload nothing")
    return parser


def main(argv: list[str] | None = None) -> None:
    with one_line_errors():
        args = make_parser().parse_args(argv)
        print(publish(args.run, args.hub_model_id, args.hub_private, args.dry_run))


if __name__ == "__main__":
    main()
