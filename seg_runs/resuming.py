"""Resume a run: what may have changed since, and what is left to do."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .best_model import damage_of_best
from .checkpoints import load_checkpoint, remove_later
from .epoch_rows import COLUMNS, cut_rows, read_rows
from .errors import RunError
from .files import writing
from .parsing import save_arguments
from .processes import on_first_process, say
from .run_folder import LockedRun, remove
from .state import Conditions, RunState, read_state

if TYPE_CHECKING:
    from .optimization import Learner

PARTS_OF_DATA = {"classes": "classes (names, ids, order, weights or rules, as in classes.yaml)"}
OTHER_GROUPS = (
    "each step sees the same images, but dropout draws other values, and batch norm and --copyblob tutorial see other "
    "groups of images"
)


def resume_run(
    old: LockedRun,
    learner: "Learner",
    changes: list[str],
    now: Conditions,
) -> tuple[Path, RunState]:
    """Load the checkpoint of `old` and prepare its run to continue. Returns its folder and its state.

    learner  gets the checkpoint's weights and moments
    changes  lines from `changed_flags`, printed together with changed conditions
    now      conditions of the launch

    Raises RunError if the data or the log changed, the checkpoint is damaged, or nothing is left to do.
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
    on_first_process(accelerator, check_log, run / "log_epoch.csv")
    load_checkpoint(accelerator, checkpoint, learner)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        with writing(run):
            remove(*run.glob(".push-*"), *run.glob(".*.old"))  # left by killed uploads and deletions
            (run / "images").mkdir(exist_ok=True)  # someone may have deleted the pictures
    changed = changed_conditions(before, now)
    say(accelerator, "\n".join([*lines, *(f"{what}: {effect}" for what, effect in changed.items())]))
    noted = [f"from step {state.step} on: {what}" for what in changed]
    return run, replace(state, conditions=now, changes=state.changes + noted)


def record_resumption(arguments: Any, checkpoint: Path, state: RunState) -> None:
    """Write the flags of a run that resumes from `checkpoint`, and that it is not complete. Take back what came after.

    Call it when nothing can refuse the run any more.
    """
    run = checkpoint.parent.parent
    remove_later(checkpoint)
    save_arguments(arguments, run / "args.yaml")
    with writing(run):
        cut_rows(run / "log_epoch.csv", state.epoch)
        if state.step < state.conditions.steps:
            (run / "results.json").unlink(missing_ok=True)


def check_log(path: Path) -> None:
    """Raise RunError if log_epoch.csv was changed, so that no row could be added to it."""
    if not path.exists():
        return
    remedy = "restore it, or delete it to log the following epochs alone"
    try:
        rows = read_rows(path)
    except RunError as error:
        raise RunError(f"{error}: {remedy}") from error
    if lost := [name for name in COLUMNS if any(name not in row for row in rows)]:
        raise RunError(f"{path} has no column {lost[0]}: {remedy}")
    if any(row["epoch"] is None for row in rows):
        raise RunError(f"{path} has a row without its epoch: {remedy}")


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


def changed_conditions(before: Conditions, now: Conditions) -> dict[str, str]:
    """Return {what changed: its effect on the numbers} of the conditions that may change when a run resumes."""
    changed = {}
    if now.steps != before.steps:
        changed[f"{now.steps} steps in total instead of {before.steps}"] = (
            "the learning rate follows the new length. The run's args.yaml alone will not repeat it: in a new run, the "
            "learning rate follows that length from the start"
        )
    if now.precision != before.precision:
        changed[f"precision {now.precision} instead of {before.precision}"] = "numbers are rounded in another way"
    if now.processes != before.processes:
        changed[f"{now.processes} process(es) instead of {before.processes}"] = OTHER_GROUPS
    if before.accumulation not in (now.accumulation, None):
        changed[f"{now.accumulation} micro-batch(es) per step instead of {before.accumulation}"] = OTHER_GROUPS
    return changed


def refuse_other_sources(run: Path, before: Conditions, now: Conditions) -> None:
    """Raise RunError if a resumed run has other data or other teachers than `before`.

    Older runs did not store a fingerprint of their data.
    """
    if now.steps_per_epoch != before.steps_per_epoch:
        raise RunError(
            f"{run} started with {before.steps_per_epoch} steps per epoch, but the images given make "
            f"{now.steps_per_epoch}: a resumed run keeps its data"
        )
    old = before.data or {}
    new = now.data
    changed = sorted(what for what in old.keys() & new if old[what] != new[what])
    if changed:
        numbers = {what: f" ({old[what]} then, {new[what]} now)" for what in changed if isinstance(new[what], int)}
        names = ", ".join(PARTS_OF_DATA.get(what, what) + numbers.get(what, "") for what in changed)
        raise RunError(
            f"{run} started with other data, which differ in {names}. A resumed run keeps its data: give it the same "
            "files, or start a new run"
        )
    if before.teachers != now.teachers:
        raise RunError(
            f"--teacher: {run} started with other teachers, or their weights have changed since. A resumed run keeps "
            "its teachers: give it the same models, or start a new run"
        )
