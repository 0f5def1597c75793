"""What a run comes to: its last line, and the errors of a run that learns nothing."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from .checkpoints import last_checkpoint, not_finite
from .errors import RunError
from .state import RunState

if TYPE_CHECKING:
    from torch.nn import Module

REMEDY = "Lower --learning_rate or give --max_grad_norm"
MAX_SKIPPED_STEPS = 10  # in a row, without a finite gradient; fp16 skips a few until it has found its scale


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


def refuse_worthless(run: Path, state: RunState) -> None:
    """Raise RunError at the end of a run that has no weights worth keeping."""
    if state.skipped and state.skipped >= state.step:
        raise RunError(f"none of the {state.step} steps had a finite gradient: nothing was learned. {REMEDY}")
    if state.best_epoch is None:
        raise RunError(f"no validation had a finite loss, so there is no {run}/best. {REMEDY}. {last_checkpoint(run)}")


def refuse_endless_skipping(run: Path, state: RunState, model: "Module") -> None:
    """Raise RunError after `MAX_SKIPPED_STEPS` steps in a row without a finite gradient."""
    if state.skipped >= MAX_SKIPPED_STEPS:
        bad = not_finite(model.state_dict())
        weights = f"the weights are not finite either ({bad})" if bad else "none of them changed a weight"
        raise RunError(
            f"the gradient was not finite in {MAX_SKIPPED_STEPS} steps in a row, from step "
            f"{state.step - MAX_SKIPPED_STEPS + 1} on; {weights}. {REMEDY}. {last_checkpoint(run)}"
        )
