"""The folder best/ of a run: its model, replaced as a whole."""

from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from .card import CardFacts, make_card, public_arguments, run_arguments, training_record
from .checkpoints import last_checkpoint
from .epoch_rows import read_rows
from .errors import RunError
from .files import damage, flush, read_json, sync, write_checksums, write_json, writing
from .run_folder import remove
from .state import RunState

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PreTrainedModel

BEST_IS_WHOLE = Lock()  # keeps training from replacing best/ while a background upload copies it

OF_A_MODEL = (  # files; not *.json: predictions may lie beside the model
    "*.safetensors",
    "model.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "training.json",
    "calibration.json",
    "checksums.json",
    "*.py",
    "README.md",
)


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
            record["arguments"] = public_arguments(run_arguments(run))  # a resumed run may change args.yaml
            write_json(new / "training.json", record)
            make_card(new, run, facts).save(new / "README.md")
            write_checksums(new, [path.name for path in new.glob("*.safetensors")])
            flush(new)
            with BEST_IS_WHOLE:
                if best.exists():
                    best.rename(old)
                new.rename(best)
            sync(run)
            remove(old, *run.glob("scores_*.json"))  # the scores are those of the old weights
    except RunError:
        with suppress(OSError):  # report the first error, not one from cleaning up
            remove(new)
            restore_best(run)
        raise


def damage_of_best(run: Path, state: RunState) -> str:
    """Return what is wrong with best/, or "" if it is intact or not written yet."""
    with writing(run):
        restore_best(run)
    if state.best_epoch is None:
        return ""
    if not (run / "best").is_dir():
        return "is missing"
    try:
        record = run / "best" / "training.json"
        if record.is_file() and read_json(record).get("epoch") != state.best_epoch:
            return f"is not from epoch {state.best_epoch}, which the checkpoint names"
    except RunError:
        return "has a damaged training.json"
    return damage(run / "best")


def seconds_until_now(run: Path, state: RunState) -> float:
    """Return the seconds of training so far: of the logged epochs, and of the steps of the current one."""
    path = run / "log_epoch.csv"
    return state.seconds + sum(row["seconds"] or 0.0 for row in (read_rows(path) if path.exists() else ()))
