"""Create and find run folders.

runs/camvid_streetnet_batch_20260101-120000/
    args.yaml            a recipe that reproduces the run
    log_epoch.csv        one row per epoch, with the IoU of each class where the epoch was validated
    learning_curve.png
    preview.png          with --preview: augmented training images and labels
    images/              validation pictures
    tensorboard/, wandb/ as --report_to asks
    checkpoints/         to resume from
    best/                the model of the best validation, or of the last with --select last: weights,
                         configuration, image processor, the code of the network, training.json and the model card,
                         README.md
    results.json         written when training is complete
"""

import os
import shlex
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import RunOptions
from .checkpoints import find_checkpoint, list_checkpoints, run_of
from .errors import RunError, os_reason
from .files import discard, writing
from .lineage import Start, models_behind
from .lock import PREDICTING, locked
from .parsing import save_arguments
from .processes import on_first_process, refuse_private_folder
from .state import Conditions, RunState, read_state

if TYPE_CHECKING:
    from accelerate import Accelerator

RUNS = Path("runs")
OVERWRITTEN = ".overwritten.old"  # in a run folder: the run that a new one replaces, until that one has begun
OF_DESKTOPS = ("Thumbs.db", "desktop.ini")  # files that a desktop writes into every folder that it shows
PARTS = (  # of a run folder, besides predictions
    "results.json",
    "args.yaml",
    "log_epoch.csv",
    "learning_curve.png",
    "preview.png",
    "images",
    "tensorboard",
    "wandb",
    "checkpoints",
    "best",
)


@contextmanager
def locked_run(options: RunOptions, accelerator: "Accelerator") -> Iterator["LockedRun"]:
    """Yield the run to begin or to resume. Its folder is locked from the first look at it until the `with` block ends.

    The first process holds the lock, so no other program writes to the folder.
    """
    with ExitStack() as locks:
        yield LockedRun(options, accelerator, locks)


class LockedRun:
    """A run whose folder is locked as soon as it exists; see `locked_run`.

    checkpoint  the checkpoint to resume from, or None for a new run
    notes       lines for the user about newer checkpoints that are damaged
    """

    def __init__(self, options: RunOptions, accelerator: "Accelerator", locks: ExitStack):
        self.options = options
        self.accelerator = accelerator
        self.locks = locks
        self.is_locked = False
        self.checkpoint = None
        self.notes = []
        if options.resume_from_checkpoint:
            self._lock(run_of(options.resume_from_checkpoint), "--resume_from_checkpoint")
            found = on_first_process(accelerator, find_checkpoint, options.resume_from_checkpoint)
            self.checkpoint, self.notes = found
            refuse_private_folder(accelerator, self.checkpoint)
        elif options.output_dir and on_first_process(accelerator, Path(options.output_dir).is_dir):
            self._lock(Path(options.output_dir), "--output_dir")

    def _lock(self, folder: Path, flag: str) -> None:
        """Lock `folder` on the first process, which creates it if necessary."""
        on_first_process(self.accelerator, self._enter, folder, flag)
        self.is_locked = True

    def _enter(self, folder: Path, flag: str) -> None:
        self.locks.enter_context(locked(folder, flag))

    def create(self, name: str) -> Path:
        """Create the folder of a new run, --output_dir or one whose name begins with `name`. Every process gets it."""
        given = self.options.output_dir
        folder = Path(given) if given else on_first_process(self.accelerator, new_folder, name)
        if not self.is_locked:
            self._lock(folder, "--output_dir")
        on_first_process(self.accelerator, create_run, folder, self.options.overwrite_output_dir)
        return folder


def begin_run(arguments: Any, new: LockedRun, name: str, start: Start, now: Conditions) -> tuple[Path, RunState]:
    """Create a new run. Returns its folder and its state.

    arguments  written to args.yaml
    name       beginning of the folder's name without --output_dir
    start      the initial weights, from `started_from`
    now        conditions of the run
    """
    run = new.create(name)
    refuse_private_folder(new.accelerator, run)
    if new.accelerator.is_main_process:
        save_arguments(arguments, run / "args.yaml")
    return run, RunState(now, start.name, start.models)


def forget(run: Path) -> None:
    """Undo `begin_run`, so that the same command can be given again: a run that was to be overwritten comes back."""
    (run / "args.yaml").unlink(missing_ok=True)
    for part in sorted((run / OVERWRITTEN).glob("*")):
        remove(run / part.name)
        part.rename(run / part.name)
    remove(run / OVERWRITTEN)


def discard_overwritten(run: Path) -> None:
    """Delete the run that a new one overwrites. Call it when nothing can refuse the new one any more."""
    remove(run / OVERWRITTEN)


def started_from(given: str | None, checkpoint: Path | None = None) -> Start:
    """Return what the initial weights are: those of --init_from or --pretrained_encoder. A resumed run remembers."""
    if checkpoint:
        state = read_state(checkpoint)
        return Start(state.pretrained, state.started_from)
    if given is None:
        return Start()
    name = public_name(given)
    return Start(name, models_behind(given, name))


def public_name(name: str) -> str:
    """Return a name of a model that may be published: a hub id, or the last part of a path, whose folders are private.

    The name of best/ is that of its run.
    """
    if not (os.path.exists(name) or os.path.isabs(name)):
        return name
    path = Path(os.path.normpath(name))
    return path.absolute().parent.name if path.name == "best" else path.name


def new_folder(name: str) -> Path:
    """Create a folder in runs/ and return it. Its name is unique even if several runs start in the same second."""
    folder = RUNS / f"{name}_{time.strftime('%Y%m%d-%H%M%S')}"
    with writing(folder):
        RUNS.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                folder = Path(f"{folder}-{os.getpid()}")


def create_run(folder: Path, overwrite: bool = False) -> None:
    """Prepare the locked `folder` for a new run.

    With `overwrite`, moves a run that is there already to `OVERWRITTEN`. Raises RunError without, or for files that no
    run wrote where a run writes its own.
    """
    refuse_foreign(folder)
    with writing(folder), ExitStack() as held:
        if overwrite and holds_run(folder):
            held.enter_context(locked(folder, "--output_dir", PREDICTING))
            remove(*folder.glob(".push-*"), *folder.glob(".*.old"))  # left by a deletion that was killed
            (folder / OVERWRITTEN).mkdir()
            for part in (*(folder / name for name in PARTS), *predicted_in(folder)):
                if part.exists() or part.is_symlink():
                    part.rename(folder / OVERWRITTEN / part.name)
        refuse_run(folder)
        remove(folder / ".best.new", folder / ".best.old")  # the second would become best/ (see `restore_best`)
        (folder / "images").mkdir(parents=True, exist_ok=True)


def predicted_in(folder: Path) -> list[Path]:
    """Return what predictions wrote into a run folder. Other files of such names are left alone."""
    found = [*folder.glob("scores_*.json"), *folder.glob("shares_*.json"), *folder.glob("legend_*.png")]
    found += [*folder.glob(".predicting_*.json"), *folder.glob("results_*.zip")]
    return found + [path for path in folder.glob("results_*") if path.is_dir() and holds_only(path, "*.png*")]


def holds_only(folder: Path, pattern: str) -> bool:
    """Whether all files in a folder and its subfolders, if any, have names of this pattern."""
    return all(path.is_dir() or path.match(pattern) for path in folder.rglob("*"))


def refuse_occupied(options: RunOptions, sources: Sequence[str]) -> None:
    """Raise RunError if a new run cannot be written to --output_dir, or would replace what it must keep.

    sources  models that the run starts or learns from
    """
    if not options.output_dir or options.resume_from_checkpoint:
        return
    folder = Path(options.output_dir)
    refuse_impossible(folder)
    refuse_foreign(folder)
    if not options.overwrite_output_dir:
        refuse_run(folder)
        return
    parts = [(folder / part).resolve() for part in PARTS]
    for source in sources:
        used = Path(source, "best").resolve() if Path(source, "best").is_dir() else Path(source).resolve()
        if any(used.is_relative_to(part) for part in parts):
            raise RunError(
                f"--overwrite_output_dir would replace {source}, from which this run starts or learns: choose another "
                "--output_dir"
            )


def refuse_impossible(folder: Path) -> None:
    """Raise RunError if --output_dir `folder` is a file, or cannot be created."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists() or path.is_symlink())
    if not nearest.is_dir():
        raise RunError(f"--output_dir {folder}: {nearest} is not a folder: choose another")
    try:
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        raise RunError(f"--output_dir {folder}: cannot write in {nearest}: {os_reason(error)}") from error


def refuse_foreign(folder: Path) -> None:
    """Raise RunError if a folder holds other files where a run writes its own, such as a data set's images/."""
    foreign = [path for path in folder.glob("images/*") if not path.match("epoch_*.png")]
    foreign += [path for path in folder.glob("checkpoints/*") if not path.name.startswith("step_")]
    if not holds_run(folder):
        foreign += folder.glob("best/*")
    foreign = [path for path in foreign if not path.name.startswith(".") and path.name not in OF_DESKTOPS]
    if foreign:
        raise RunError(
            f"--output_dir {folder} holds files that no training wrote, such as {foreign[0].relative_to(folder)}: "
            "choose another folder"
        )


def refuse_run(folder: Path) -> None:
    """Raise RunError, which says how to go on, if a folder holds a run."""
    if holds_run(folder):
        what = "a run"
        goes_on = f"continue it with --resume_from_checkpoint {shlex.quote(str(folder))}, "
        if not list_checkpoints(folder / "checkpoints"):
            what, goes_on = "a run that ended before its first checkpoint", ""
        raise RunError(
            f"--output_dir {folder} already holds {what}: choose another folder, {goes_on}or delete it with "
            "--overwrite_output_dir"
        )


def holds_run(folder: Path) -> bool:
    """Whether a folder holds a run, complete or not."""
    marks = ("args.yaml", "log_epoch.csv", "best/training.json")
    return any((folder / mark).exists() for mark in marks) or any(folder.glob("checkpoints/step_*"))


def newest_run() -> Path | None:
    """Return the complete run in `RUNS` whose training ended last, or None if there is none."""
    results = sorted(RUNS.glob("*/results.json"), key=lambda path: path.stat().st_mtime)
    complete = [path.parent for path in results if (path.parent / "best" / "config.json").exists()]
    return complete[-1] if complete else None


def newest_unfinished_run() -> Path | None:
    """Return the newest run in `RUNS` that has a checkpoint but is not complete, if it is newer than `newest_run`."""
    complete = newest_run()
    since = (complete / "results.json").stat().st_mtime if complete else 0.0
    newest = None
    for folder in RUNS.glob("*/checkpoints"):
        checkpoints = list_checkpoints(folder)
        if not checkpoints or (folder.parent / "results.json").exists():
            continue
        if (changed := checkpoints[-1].stat().st_mtime) > since:
            newest = folder.parent
            since = changed
    return newest


def make_folders(*folders: Path) -> None:
    for folder in folders:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)


def remove(*paths: Path) -> None:
    """Delete the folders, files and links that exist."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            discard(path)
        else:
            path.unlink(missing_ok=True)
