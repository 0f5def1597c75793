"""Create, resume and find run folders.

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
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from .arguments import OTHER_GROUPS, RunOptions
from .card import CardFacts, make_card, training_record
from .checkpoints import (
    find_checkpoint,
    last_checkpoint,
    list_checkpoints,
    load_checkpoint,
    not_finite,
    remove_later,
    run_of,
)
from .epoch_rows import cut_rows, read_rows
from .errors import RunError
from .files import (
    damage,
    discard,
    flush,
    read_json,
    sync,
    write_checksums,
    write_json,
    writing,
)
from .lock import PREDICTING, locked
from .parsing import save_arguments
from .processes import on_first_process, refuse_private_folder, say
from .state import Conditions, RunState, read_state

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch.nn import Module
    from transformers import BaseImageProcessor, PreTrainedModel

    from .optimization import Learner

RUNS = Path("runs")
BEST_IS_WHOLE = Lock()  # keeps training from replacing best/ while a background upload copies it
MAX_SKIPPED_STEPS = 10  # in a row, without a finite gradient; fp16 skips a few until it has found its scale


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
        self.options, self.accelerator, self.locks, self.is_locked = options, accelerator, locks, False
        self.checkpoint, self.notes = None, []
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


def begin_run(arguments: Any, new: LockedRun, name: str, pretrained: str, now: Conditions) -> tuple[Path, RunState]:
    """Create a new run. Returns its folder and its state.

    arguments   written to args.yaml
    name        beginning of the folder's name without --output_dir
    pretrained  name of the initial weights, from `started_from`
    now         conditions of the run
    """
    run = new.create(name)
    refuse_private_folder(new.accelerator, run)
    if new.accelerator.is_main_process:
        save_arguments(arguments, run / "args.yaml")
    return run, RunState(now, pretrained)


def forget(run: Path) -> None:
    """Remove what `begin_run` wrote, so that the same command can be given again."""
    (run / "args.yaml").unlink(missing_ok=True)


def started_from(name: str | None, checkpoint: Path | None = None) -> str:
    """Return a name of the initial weights that may be published, or "none". A resumed run keeps its name."""
    return read_state(checkpoint).pretrained if checkpoint else public_name(name or "none")


def public_name(name: str) -> str:
    """Return a name of a model that may be published: a hub id, or the last part of a path, whose folders are private.

    The name of best/ is that of its run.
    """
    if not (os.path.exists(name) or os.path.isabs(name)):
        return name
    path = Path(os.path.normpath(name))
    return path.absolute().parent.name if path.name == "best" else path.name


def refuse_worthless(run: Path, state: RunState) -> None:
    """Raise RunError at the end of a run that has no weights worth keeping."""
    if state.skipped and state.skipped >= state.step:
        raise RunError(f"none of the {state.step} steps had a finite gradient: nothing was learned. {REMEDY}")
    if state.best_epoch is None:
        raise RunError(f"no validation had a finite loss, so there is no {run}/best. {REMEDY}. {last_checkpoint(run)}")


def outcome(run: Path, state: RunState, select: str) -> str:
    """Return the last line that a run prints. `select` is `--select`."""
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
    arguments: Any,
    old: LockedRun,
    learner: "Learner",
    changes: list[str],
    now: Conditions,
) -> tuple[Path, RunState]:
    """Load the checkpoint of `old` and prepare its run to continue. Returns its folder and its state.

    arguments  written to args.yaml
    learner    gets the checkpoint's weights and moments
    changes    lines from `changed_flags`, printed together with changed conditions
    now        conditions of the launch

    Raises RunError if the data changed, the checkpoint is damaged, or nothing is left to do.
    """
    accelerator, checkpoint = old.accelerator, old.checkpoint
    run = checkpoint.parent.parent
    given = old.options.output_dir
    if given and Path(given).resolve() != run.resolve():
        raise RunError(f"--output_dir {given}: a resumed run stays in its own folder, {run}: leave --output_dir out")
    state = read_state(checkpoint)
    before = state.conditions
    refuse_other_sources(run, before, now)
    wrong = on_first_process(accelerator, damage_of_best, run, state)
    lines = [f"resumed {checkpoint}: step {state.step} is done", *old.notes, *changes]
    if wrong:
        lines.append(f"note: {run}/best {wrong}: the next validation replaces it")
        state.lose_best()
    refuse_finished(checkpoint, state, now, f"{run}/best {wrong}, and " if wrong else "")
    load_checkpoint(accelerator, checkpoint, learner)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        remove_later(checkpoint)
        with writing(run):
            cut_rows(run / "log_epoch.csv", state.epoch)
            remove(*run.glob(".push-*"), *run.glob(".*.old"))  # left by killed uploads and deletions
            save_arguments(arguments, run / "args.yaml")
            if state.step < now.steps:
                (run / "results.json").unlink(missing_ok=True)
    say(accelerator, "\n".join([*lines, *changed_conditions(before, now)]))
    return run, replace(state, conditions=now)


def refuse_finished(checkpoint: Path, state: RunState, now: Conditions, damaged: str) -> None:
    """Raise RunError if a run that resumes from `checkpoint` has nothing to do. Its message begins with `damaged`.

    If all epochs are complete but best/ is missing, no validation is left that could write it.
    """
    complete = state.epoch * now.steps_per_epoch >= now.steps
    if state.step > now.steps or (complete and state.best_epoch is None):
        raise RunError(
            f"{damaged}{checkpoint} leaves nothing to do in a run of {now.steps} steps: give more --epochs, or more "
            "--max_train_steps if the run counts steps"
        )


def changed_conditions(before: Conditions, now: Conditions) -> list[str]:
    """Return a line for each condition of a run that may change when it resumes, and has changed."""
    lines = []
    if now.steps != before.steps:
        lines.append(f"{now.steps} steps in total instead of {before.steps}: the learning rate follows the new length")
    if now.precision != before.precision:
        lines.append(f"precision {now.precision} instead of {before.precision}")
    if now.processes != before.processes:
        lines.append(f"{now.processes} process(es) instead of {before.processes}: {OTHER_GROUPS}")
    return lines


def damage_of_best(run: Path, state: RunState) -> str:
    """Return what is wrong with best/, or "" if it is intact or not written yet."""
    with writing(run):
        restore_best(run)
    if state.best_epoch is None:
        return ""
    if not (run / "best").is_dir():
        return "is missing"
    record = run / "best" / "training.json"
    if record.is_file() and read_json(record).get("epoch") != state.best_epoch:
        return f"is not from epoch {state.best_epoch}, which the checkpoint names"
    return damage(run / "best")


def refuse_other_sources(run: Path, before: Conditions, now: Conditions) -> None:
    """Raise RunError if a resumed run has other data or other teachers than `before`.

    Older runs did not store a fingerprint of their data.
    """
    if now.steps_per_epoch != before.steps_per_epoch:
        raise RunError(
            f"{run} started with {before.steps_per_epoch} steps per epoch, but the images given make "
            f"{now.steps_per_epoch}: a resumed run keeps its data"
        )
    old, new = before.data or {}, now.data
    changed = [f"{what} ({old[what]} then, {new[what]} now)" for what in old.keys() & new if old[what] != new[what]]
    if changed:
        raise RunError(
            f"{run} started with other data, which differ in {', '.join(sorted(changed))}. A resumed run keeps its "
            "data: give it the same files, or start a new run"
        )
    if before.teachers != now.teachers:
        raise RunError(
            f"--teacher: {run} started with other teachers, or their weights have changed since. A resumed run keeps "
            "its teachers: give it the same models, or start a new run"
        )


REMEDY = "Lower --learning_rate or give --max_grad_norm"


def refuse_endless_skipping(run: Path, state: RunState, model: "Module") -> None:
    """Raise RunError after `MAX_SKIPPED_STEPS` steps in a row without a finite gradient."""
    if state.skipped >= MAX_SKIPPED_STEPS:
        bad = not_finite(model.state_dict())
        weights = f"the weights are not finite either ({bad})" if bad else "none of them changed a weight"
        raise RunError(
            f"the gradient was not finite in {MAX_SKIPPED_STEPS} steps in a row, from step "
            f"{state.step - MAX_SKIPPED_STEPS + 1} on; {weights}. {REMEDY}. {last_checkpoint(run)}"
        )


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

    Deletes a run that is there already with `overwrite`, and raises RunError without.
    """
    with writing(folder), ExitStack() as held:
        if overwrite and holds_run(folder):
            held.enter_context(locked(folder, "--output_dir", PREDICTING))
            for part in ("results.json", "args.yaml", "log_epoch.csv", "learning_curve.png", "preview.png"):
                (folder / part).unlink(missing_ok=True)
            for predicted in (*folder.glob("scores_*.json"), *folder.glob(".predicting_*.json")):
                predicted.unlink()
            parts = ("images", "tensorboard", "wandb", "checkpoints", "best")
            remove(*(folder / part for part in parts), *folder.glob("results_*"), *folder.glob(".push-*"))
            remove(*folder.glob(".*.old"))  # left by a deletion that was killed
        refuse_run(folder)
        remove(folder / ".best.new", folder / ".best.old")  # the second would become best/ (see `restore_best`)
        (folder / "images").mkdir(parents=True, exist_ok=True)


def refuse_occupied(options: RunOptions) -> None:
    """Raise RunError if --output_dir holds a run that is neither to be overwritten nor resumed."""
    if options.output_dir and not (options.overwrite_output_dir or options.resume_from_checkpoint):
        refuse_run(Path(options.output_dir))


def refuse_run(folder: Path) -> None:
    if holds_run(folder):
        what, goes_on = "a run", f"continue it with --resume_from_checkpoint {shlex.quote(str(folder))}, "
        if not list_checkpoints(folder / "checkpoints"):
            what, goes_on = "a run that ended before its first checkpoint", ""
        raise RunError(
            f"--output_dir {folder} already holds {what}: choose another folder, {goes_on}or delete it with "
            "--overwrite_output_dir"
        )


def holds_run(folder: Path) -> bool:
    return any((folder / part).exists() for part in ("args.yaml", "log_epoch.csv", "checkpoints", "best"))


def newest_run(runs: Path = RUNS) -> Path | None:
    """Return the complete run in `runs` whose training ended last, or None if there is none."""
    results = sorted(runs.glob("*/results.json"), key=lambda path: path.stat().st_mtime)
    complete = [path.parent for path in results if (path.parent / "best" / "config.json").exists()]
    return complete[-1] if complete else None


def restore_best(run: Path) -> None:
    """Restore best/ if the run was killed between the two renames that replace it."""
    if not (run / "best").exists() and (run / ".best.old").exists():
        (run / ".best.old").rename(run / "best")


def save_best(
    run: Path,
    model: "PreTrainedModel",
    processor: "BaseImageProcessor",
    state: RunState,
    facts: CardFacts,
    scores: dict | None = None,
    measured: dict | None = None,
) -> None:
    """Replace best/ with `model`, its image processor and a card. A failure leaves the old folder intact.

    facts     facts for the card
    scores    `mean_iou` scores on the validation split, or None without validation
    measured  more entries of training.json: operations and peak memory
    """
    restore_best(run)
    new, old, best = run / ".best.new", run / ".best.old", run / "best"
    remove(new, old)
    try:
        with writing(best, f". {last_checkpoint(run)}"):
            model.save_pretrained(new)
            processor.save_pretrained(new)
            record = training_record(model, state, seconds_until_now(run, state), scores, measured or {})
            write_json(new / "training.json", record)
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
        with suppress(OSError):  # report the first error, not one from cleaning up
            remove(new)
            restore_best(run)
        raise


def seconds_until_now(run: Path, state: RunState) -> float:
    """Return the seconds of training so far: of the logged epochs, and of the steps of the current one."""
    path = run / "log_epoch.csv"
    return state.seconds + sum(row["seconds"] or 0.0 for row in (read_rows(path) if path.exists() else ()))


def make_folders(*folders: Path) -> None:
    for folder in folders:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)


def remove(*folders: Path) -> None:
    """Delete folders that exist. Files and links of these names are deleted too."""
    for folder in folders:
        if folder.is_dir() and not folder.is_symlink():
            discard(folder)
        else:
            folder.unlink(missing_ok=True)
