"""The folder of a run, and how it is found again.

runs/camvid_streetnet_batch_20260101-120000/
    args.yaml            a recipe that reproduces the run
    log_epoch.csv        a row per epoch; IoU by class where it was validated
    learning_curve.png
    preview.png          with --preview: what training sees
    images/              validation pictures
    tensorboard/, wandb/ as --report_to asks
    checkpoints/         to resume from
    best/                the model at its best validation mIoU, for from_pretrained, complete by itself: weights,
                         configuration, image processor, the code of the network, training.json and a card, README.md
    results.json         written when training is complete
"""

import csv
import io
import os
import shlex
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock

from .arguments import RunOptions
from .card import CardFacts, make_card, training_record
from .checkpoints import (
    find_checkpoint,
    last_checkpoint,
    list_checkpoints,
    load_checkpoint,
    remove_later,
    run_of,
)
from .files import (
    damage,
    discard,
    flush,
    read_json,
    sync,
    write_atomically,
    write_checksums,
    write_json,
    writing,
)
from .launch import RunError, on_first_process, os_reason
from .lock import PREDICTING, locked
from .parsing import OTHER_GROUPS, save_arguments
from .state import Conditions, RunState, read_state

COLUMNS = (  # of log_epoch.csv, before those of the classes
    "epoch",
    "train_loss",
    "val_loss",
    "train_accuracy",
    "val_accuracy",
    "mean_iou",
    "learning_rate",
    "seconds",
)
RUNS = Path("runs")
BEST_IS_WHOLE = Lock()  # an upload in the background copies best/ while training may replace it
MAX_SKIPPED_STEPS = 10  # in a row, for want of a finite gradient; fp16 skips a few until it has found its scale


class HeldRun:
    """The folder of a run, from the first look at it to the end of training. The first process holds its lock, so that
    no other program writes to it; the lock goes when `held` is closed, or with the process.

    `checkpoint`: what a resumed run goes on from, with `notes` on damaged ones that are newer; None for a new run.
    """

    def __init__(self, options: RunOptions, accelerator, held: ExitStack):
        self.options, self.accelerator, self.held, self.locked = options, accelerator, held, False
        self.checkpoint, self.notes = None, []
        if options.resume_from_checkpoint:
            self.lock(run_of(options.resume_from_checkpoint), "--resume_from_checkpoint")
            found = on_first_process(accelerator, find_checkpoint, options.resume_from_checkpoint)
            self.checkpoint, self.notes = found
        elif options.output_dir and on_first_process(accelerator, Path(options.output_dir).is_dir):
            self.lock(Path(options.output_dir))

    def lock(self, folder: Path, flag: str = "--output_dir") -> None:
        """Hold `folder`, on the first process, which makes it; once is enough."""
        if not self.locked:
            on_first_process(self.accelerator, self._enter, folder, flag)
            self.locked = True

    def _enter(self, folder: Path, flag: str) -> None:
        self.held.enter_context(locked(folder, flag))

    def create(self, name: str) -> Path:
        """Make the folder of a new run and return it, on every process. `name`: of one that is named by itself."""
        given = self.options.output_dir
        folder = Path(given) if given else on_first_process(self.accelerator, new_folder, name)
        self.lock(folder)
        on_first_process(self.accelerator, create_run, folder, self.options.overwrite_output_dir)
        return folder


def begin_run(arguments, held: HeldRun, name: str, pretrained: str, now: Conditions) -> tuple[Path, RunState]:
    """The folder of a new run and its state. `arguments`: what args.yaml will hold; `pretrained`: `started_from`;"""
    run = held.create(name)
    if held.accelerator.is_main_process:
        save_arguments(arguments, run / "args.yaml")
    return run, RunState(now, pretrained)


def started_from(name: str | None, checkpoint: Path | None = None) -> str:
    """The weights that a run begins with, for the public: `name`, or what the run of `checkpoint` noted. Of a path the
    last part: whose folders these are is nobody's business."""
    if checkpoint:
        return read_state(checkpoint).pretrained
    name = name or "none"
    return os.path.basename(os.path.normpath(name)) if os.path.exists(name) or os.path.isabs(name) else name


def refuse_worthless(run: Path, state: RunState) -> None:
    """Stop a run that has ended without a weight to keep."""
    if state.skipped and state.skipped >= state.step:
        raise RunError(f"none of the {state.step} steps had a finite gradient: nothing was learned. {REMEDY}")
    if state.best_epoch is None:
        raise RunError(f"no validation had a finite loss, so there is no {run}/best. {REMEDY}. {last_checkpoint(run)}")


def outcome(run: Path, state: RunState, select: str) -> str:
    """The last line of a run, which keeps the weights that `select` says."""
    score, skipped = state.best_mean_iou, state.skipped
    if score is None:
        what = "the last weights"
    elif select == "last":
        what = f"the weights of epoch {state.best_epoch}, validation mIoU {score:.4f},"
    else:
        what = f"best validation mIoU {score:.4f} in epoch {state.best_epoch}"
    begin = "done"
    if skipped:
        begin = f"ended, but the last {skipped} steps changed nothing, because their gradient was not finite"
    command = f"accelerate launch predict_seg.py --model_name_or_path {shlex.quote(str(run))} --mst"
    return f"{begin}: {what} in {run}/best. Next: {command}"


def resume_run(
    arguments, held: HeldRun, changes: list[str], model, ema, optimizer, now: Conditions
) -> tuple[Path, RunState]:
    """The folder and the state of a run that goes on from a checkpoint, which is loaded. `arguments`: what args.yaml
    will hold; `changes`: the `changed_flags`."""
    accelerator, checkpoint = held.accelerator, held.checkpoint
    run, steps, steps_per_epoch = checkpoint.parent.parent, now.steps, now.steps_per_epoch
    given = held.options.output_dir
    if given and Path(given).resolve() != run.resolve():
        raise RunError(f"--output_dir {given}: a resumed run goes on in its own folder, {run}")
    changes = held.notes + changes
    state = read_state(checkpoint)
    before = state.conditions
    if steps_per_epoch != before.steps_per_epoch:
        raise RunError(
            f"{run} was begun with {before.steps_per_epoch} steps in an epoch, and --dataset_path has images for "
            f"{steps_per_epoch}: a resumed run keeps its data"
        )
    refuse_other_data(run, before.data, now.data)
    if wrong := on_first_process(accelerator, damage_of_best, run, state):
        changes.append(f"note: {run}/best {wrong}: the next validation replaces it")
        state.lose_best()
    done = state.epoch * steps_per_epoch >= steps
    if state.step > steps or (done and state.best_epoch is None):
        damaged = f"{run}/best {wrong}, and " if wrong else ""
        raise RunError(
            f"{damaged}{checkpoint} leaves nothing to do in a run of {steps} steps: give more --epochs or steps"
        )
    if steps != before.steps:
        changes.append(f"{steps} steps in all instead of {before.steps}: the learning rate follows the new length")
    if now.precision != before.precision:
        changes.append(f"precision {now.precision} instead of {before.precision}")
    if now.processes != before.processes:
        changes.append(f"{now.processes} process(es) instead of {before.processes}{OTHER_GROUPS}")
    load_checkpoint(accelerator, checkpoint, model, ema, optimizer)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        remove_later(checkpoint)
        with writing(run):
            cut_rows(run / "log_epoch.csv", state.epoch)
            remove(*run.glob(".push-*"), *run.glob(".*.old"))  # what uploads and deletions leave that are killed
            save_arguments(arguments, run / "args.yaml")
            if state.step < steps:
                (run / "results.json").unlink(missing_ok=True)
    accelerator.print("\n".join([f"resumed {checkpoint}: step {state.step} is done", *changes]))
    return run, replace(state, conditions=now)


def damage_of_best(run: Path, state: RunState) -> str:
    """What is wrong with best/; nothing if all is well, or if there is none yet."""
    with writing(run):
        restore_best(run)
    if state.best_epoch is None:
        return ""
    if not (run / "best").is_dir():
        return "is not there"
    record = run / "best" / "training.json"
    if record.is_file() and read_json(record).get("epoch") != state.best_epoch:
        return f"is not of epoch {state.best_epoch}, as the checkpoint has it"
    return damage(run / "best")


def refuse_other_data(run: Path, before: dict | None, now: dict) -> None:
    """Refuse to go on with other data than a run was begun with. `before` is None in runs that did not note it."""
    if not isinstance(before, dict):
        return
    changed = [
        f"{what} ({before[what]} then, {now[what]} now)"
        for what in before.keys() & now.keys()
        if before[what] != now[what]
    ]
    if changed:
        raise RunError(
            f"{run} was begun with other data: what differs is {', '.join(sorted(changed))}. A resumed run keeps its "
            "data: give --dataset_path the same files, or begin a new run"
        )


REMEDY = "Lower --learning_rate or give --max_grad_norm"


def refuse_endless_skipping(run: Path, state: RunState, bad: str | None) -> None:
    """Stop a run whose loss has become NaN or infinite for good. `bad`: a weight that is not finite, if there is one;
    if not, the weights are still those of before."""
    if state.skipped >= MAX_SKIPPED_STEPS:
        weights = f"the weights are not finite either, as {bad}" if bad else "none of them changed a weight"
        raise RunError(
            f"the gradient was not finite in {MAX_SKIPPED_STEPS} steps in a row, from step "
            f"{state.step - MAX_SKIPPED_STEPS + 1} on; {weights}. {REMEDY}. {last_checkpoint(run)}"
        )


def new_folder(name: str) -> Path:
    """Make a folder below runs/ that is this run's alone, also if several are begun in one second."""
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
    """Make a folder, which is held, that of a new run. One that holds a run already is refused unless `overwrite`."""
    with writing(folder), ExitStack() as held:
        if overwrite and holds_run(folder):
            held.enter_context(locked(folder, "--output_dir", PREDICTING))
            for part in ("results.json", "args.yaml", "log_epoch.csv", "learning_curve.png", "preview.png"):
                (folder / part).unlink(missing_ok=True)
            for predicted in (*folder.glob("scores_*.json"), *folder.glob(".predicting_*.json")):
                predicted.unlink()
            parts = ("images", "tensorboard", "wandb", "checkpoints", "best", ".best.new", ".best.old")
            remove(*(folder / part for part in parts), *folder.glob("results_*"), *folder.glob(".push-*"))
            remove(*folder.glob(".*.old"))  # left by a deletion that was killed
        refuse_run(folder)
        (folder / "images").mkdir(parents=True, exist_ok=True)


def refuse_occupied(options: RunOptions) -> None:
    """Refuse a folder that holds a run, before any work, unless that run is to go or to go on."""
    if options.output_dir and not (options.overwrite_output_dir or options.resume_from_checkpoint):
        refuse_run(Path(options.output_dir))


def refuse_run(folder: Path) -> None:
    if holds_run(folder):
        what, goes_on = "a run", f"go on with it by --resume_from_checkpoint {shlex.quote(str(folder))}, "
        if not list_checkpoints(folder / "checkpoints"):
            what, goes_on = "a run that ended before its first checkpoint", ""
        raise RunError(
            f"--output_dir {folder} already holds {what}: choose another, {goes_on}or delete it by "
            "--overwrite_output_dir"
        )


def holds_run(folder: Path) -> bool:
    return any((folder / part).exists() for part in ("args.yaml", "log_epoch.csv", "checkpoints", "best"))


def newest_run(runs: Path = RUNS) -> Path | None:
    """The complete run below `runs` whose training ended last, or None if there is none."""
    results = sorted(runs.glob("*/results.json"), key=lambda path: path.stat().st_mtime)
    complete = [path.parent for path in results if (path.parent / "best" / "config.json").exists()]
    return complete[-1] if complete else None


def append_row(path: Path, row: dict, columns: Sequence[str]) -> None:
    """Add an epoch to log_epoch.csv; a value that was not measured is an empty cell. A file that is there keeps the
    columns that it has, which may be fewer."""
    before, text = path.read_bytes() if path.exists() else b"", io.StringIO(newline="")
    header = next(csv.reader(before.decode().splitlines()), None)
    writer = csv.DictWriter(text, header or columns, extrasaction="ignore")
    if header is None:
        writer.writeheader()
    digits = {"learning_rate": ".4e", "seconds": ".1f"}
    writer.writerow({k: format(v, digits.get(k, ".4f")) if isinstance(v, float) else v for k, v in row.items()})
    write_atomically(path, before + text.getvalue().encode())


def read_rows(path: Path) -> list[dict]:
    """The rows of log_epoch.csv, as numbers; None where the cell is empty."""
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return [{key: float(value) if value else None for key, value in row.items()} for row in rows]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise RunError(f"cannot read {path}: {os_reason(error)}") from error


def cut_rows(path: Path, epochs: int) -> None:
    """Keep the rows of the first `epochs` epochs: what a resumed run computes again is not logged twice."""
    if epochs == 0 or not path.exists():  # there may be half a header, of a run that was killed
        path.unlink(missing_ok=True)
    else:  # the row of each epoch was written before its checkpoint
        write_atomically(path, b"".join(path.read_bytes().splitlines(keepends=True)[: 1 + epochs]))


def restore_best(run: Path) -> None:
    """Undo a replacement of best/ that was killed between its two renames."""
    if not (run / "best").exists() and (run / ".best.old").exists():
        (run / ".best.old").rename(run / "best")


def save_best(run: Path, model, processor, state: RunState, facts: CardFacts, scores: dict | None = None) -> None:
    """Replace best/ by `model` and its image processor, with a card; old or new, never half. `facts`: for the
    card; `scores`: of the metric on the validation split, if there was a validation."""
    restore_best(run)
    new, old, best = run / ".best.new", run / ".best.old", run / "best"
    remove(new, old)
    try:
        with writing(best, f". {last_checkpoint(run)}"):
            model.save_pretrained(new)
            processor.save_pretrained(new)
            write_json(new / "training.json", training_record(model, state, seconds_until_now(run, state), scores))
            make_card(new, run, facts).save(new / "README.md")
            write_checksums(new, [path.name for path in new.glob("*.safetensors")])
            flush(new)
            with BEST_IS_WHOLE:
                if best.exists():
                    best.rename(old)
                new.rename(best)
            sync(run)
            remove(old)
    except RunError:
        with suppress(OSError):  # the first refusal is the one to tell
            remove(new)
            restore_best(run)
        raise


def seconds_until_now(run: Path, state: RunState) -> float:
    """What the epochs that are logged took, and the steps of the one that is not yet."""
    path = run / "log_epoch.csv"
    return state.seconds + sum(row["seconds"] or 0.0 for row in (read_rows(path) if path.exists() else ()))


def make_folders(*folders: Path) -> None:
    for folder in folders:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)


def remove(*folders: Path) -> None:
    """Delete those that are there; a link, or a file of such a name, too."""
    for folder in folders:
        if folder.is_dir() and not folder.is_symlink():
            discard(folder)
        else:
            folder.unlink(missing_ok=True)
