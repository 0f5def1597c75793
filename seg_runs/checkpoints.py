"""Save and load checkpoints. On a CPU in fp32, a resumed run continues bit for bit. No save leaves a partial one.

checkpoints/step_000120/
    model.safetensors    weights and buffers
    ema.safetensors      their moving average, with --ema_decay
    training.pt          optimizer and, with fp16, the gradient scaler
    rng_0.pt             random state of process 0, which dropout uses; one file per process
    state.json           epoch, step, sums of the epoch so far, best score
    checksums.json       checksums of the files above

Functions import torch themselves, because parsing.py imports this module and must answer --help without torch.
"""

import json
import re
import shlex
import shutil
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import RunError, os_reason
from .files import (
    announce,
    damage,
    discard,
    replace_folder,
    write_atomically,
    write_checksums,
    write_json,
    writing,
)
from .processes import on_first_process
from .state import RunState, is_number

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer

    from .optimization import Learner

FILES = ("model.safetensors", "training.pt", "state.json")


def save_checkpoint(
    accelerator: "Accelerator",
    run: Path,
    learner: "Learner",
    state: RunState,
    keep: int,
) -> None:
    """Write checkpoints/step_N, where N = state.step, then remove all but the `keep` newest. All processes call this.

    The processes write to a temporary folder. The first process renames it once all files are on disk, so a killed run,
    a full disk or a power cut leaves the previous checkpoint intact. Raises RunError if a weight is not finite.
    """
    from safetensors.torch import save_file

    folder = run / "checkpoints"
    final = folder / f"step_{state.step:06d}"
    temporary = folder / f".{final.name}.tmp"
    on_first_process(accelerator, refuse_not_finite, run, learner)
    try:
        with writing(f"checkpoint {final}", f". {last_checkpoint(run)}"):
            if accelerator.is_main_process:
                for left in folder.glob(".step_*"):
                    shutil.rmtree(left)
                temporary.mkdir(parents=True)
            accelerator.wait_for_everyone()
            write(rng_state(), temporary / f"rng_{accelerator.process_index}.pt")
            if accelerator.is_main_process:
                save_file(contiguous(learner.model), temporary / "model.safetensors")
                if learner.ema is not None:
                    save_file(contiguous(learner.ema.module), temporary / "ema.safetensors")
                training = {"optimizer": learner.optimizer.state_dict()}
                if accelerator.scaler is not None:
                    training["scaler"] = accelerator.scaler.state_dict()
                write(training, temporary / "training.pt")
                write_json(temporary / "state.json", state.to_json())
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                write_checksums(temporary, [path.name for path in temporary.iterdir()])
                if final.exists():
                    discard(final)
                replace_folder(temporary, final)
                discard(*list_checkpoints(folder)[:-keep])
    except RunError:
        if accelerator.is_main_process:  # the next save removes what another process leaves behind
            shutil.rmtree(temporary, ignore_errors=True)
        raise


def refuse_not_finite(run: Path, learner: "Learner") -> None:
    """Raise RunError if a weight is NaN or infinite, since further training would be useless."""
    bad = not_finite(learner.model.state_dict())
    if not bad and learner.ema is not None:
        bad = not_finite(learner.ema.module.state_dict())
    if bad:
        raise RunError(
            f"the weights are no longer finite, for example {bad}: they were not saved. Lower --learning_rate or "
            f"--weight_decay, or give --max_grad_norm. {last_checkpoint(run)}"
        )


def not_finite(tensors: dict) -> str | None:
    """Return the name of the first tensor that holds NaN or infinity, or None."""
    import torch

    def is_finite(value: Any) -> bool:
        if not torch.is_tensor(value) or not value.is_floating_point():
            return True
        # A finite sum means that all values are finite, and takes a tenth of the time. Large values may overflow it.
        return bool(torch.isfinite(value.sum())) or bool(torch.isfinite(value).all())

    return next((name for name, value in tensors.items() if not is_finite(value)), None)


def update_state(run: Path, state: RunState) -> None:
    """Update state.json of this step's checkpoint, if there is one, after validation and at the end of an epoch."""
    folder = run / "checkpoints" / f"step_{state.step:06d}"
    if not folder.is_dir():
        return
    content = json.dumps(state.to_json(), indent=2, allow_nan=False) + "\n"
    with writing(folder / "state.json", f". {last_checkpoint(run)}"):
        announce(folder, "state.json", content.encode())
        write_atomically(folder / "state.json", content)


def contiguous(model: "Module") -> dict:
    """Return contiguous weights and buffers, as safetensors needs them. Loading in place restores channels_last."""
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items()}


def write(content: Any, path: Path) -> None:
    """Save with torch.save into a Python file, whose errors name the cause, such as a full disk."""
    import torch

    with path.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch raises it on closing the archive, after a write has failed
            refusal = error.__context__
            raise refusal if isinstance(refusal, OSError) else OSError(None, str(error).splitlines()[0]) from error


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder`, oldest first."""
    return sorted((path for path in folder.glob("step_*") if re.fullmatch(r"step_\d+", path.name)), key=step_of)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step_"))


def remove_later(checkpoint: Path) -> None:
    """Remove the checkpoints after `checkpoint`: a run that resumes from it will write them again."""
    discard(*(path for path in list_checkpoints(checkpoint.parent) if step_of(path) > step_of(checkpoint)))


def last_checkpoint(run: Path) -> str:
    """Return a sentence for error messages that names the checkpoint from which the run can be resumed."""
    found = list_checkpoints(run / "checkpoints")
    if not found:
        return "There is no checkpoint yet"
    command = f"--resume_from_checkpoint {shlex.quote(str(run))}"
    return f"The last complete checkpoint is {found[-1]}: continue with {command}"


def candidates(path: str) -> list[Path]:
    """Return the checkpoints that `--resume_from_checkpoint PATH` may mean: `path` itself, or a run's, newest first."""
    folder = Path(path).resolve()
    if (folder / "args.yaml").is_file() or (folder / "checkpoints").is_dir():
        found = list_checkpoints(folder / "checkpoints")[::-1]
        if not found:
            raise RunError(
                f"--resume_from_checkpoint {path}: this run ended before its first checkpoint: start it again with "
                f"--output_dir {shlex.quote(path)} --overwrite_output_dir"
            )
    else:
        found = [folder]
    run = found[0].parent.parent
    if found == [folder] and missing(folder):
        raise RunError(
            f"--resume_from_checkpoint {path} is not a checkpoint: it has no {missing(folder)}; give "
            "the folder of a run, or one of those in its folder checkpoints"
        )
    if not (run / "args.yaml").is_file():
        raise RunError(f"--resume_from_checkpoint {path} is not in a run folder: {run} has no args.yaml")
    return found


def missing(checkpoint: Path) -> str | None:
    return next((name for name in FILES if not (checkpoint / name).is_file()), None)


def run_of(path: str) -> Path:
    """Return the run folder that `--resume_from_checkpoint` names."""
    return candidates(path)[0].parent.parent


def find_checkpoint(path: str) -> tuple[Path, list[str]]:
    """Return the checkpoint to resume from, and notes on newer ones that are damaged.

    `path` is a checkpoint, or a run folder, which means its newest intact checkpoint. Compares every file with its
    checksum. Raises RunError if no checkpoint is intact.
    """
    passed = []
    for folder in candidates(path):
        gone = missing(folder)
        wrong = f"it has no {gone}" if gone else damage(folder)
        if not wrong:
            return folder, [f"note: {line}: using {folder.name} instead" for line in passed]
        passed.append(f"checkpoint {folder} is damaged: {wrong}")
    rest = "there is no older one that is intact"
    if len(passed) == 1 and Path(path).resolve() == folder:
        rest = f"give the run folder, {shlex.quote(str(folder.parent.parent))}, to use the newest intact one"
    raise RunError(f"{passed[0]}: {rest}")


def load_checkpoint(accelerator: "Accelerator", folder: Path, learner: "Learner") -> None:
    """Load a checkpoint into the networks and the optimizer of `learner`, in place, and restore the random state.

    Reads weights with safetensors and the rest with `weights_only=True`. Raises RunError if a file is damaged, belongs
    to another network or optimizer, or holds values that are not finite.
    """
    import torch
    from safetensors.torch import load_file

    try:
        weights = load_file(folder / "model.safetensors")
        if learner.ema is None and (folder / "ema.safetensors").exists():
            raise ValueError("it holds a moving average, but the run has no --ema_decay")
        average = load_file(folder / "ema.safetensors") if learner.ema is not None else None
        training = torch.load(folder / "training.pt", map_location="cpu", weights_only=True)
        rng = rng_file(folder, accelerator.process_index)
    except Exception as error:  # damaged bytes can raise anything
        raise RunError(f"cannot read checkpoint {folder}: {os_reason(error)}") from error
    bad = not_finite(weights) or not_finite(average or {})
    if bad:
        raise RunError(f"checkpoint {folder} holds weights that are not finite ({bad}): resume from an older one")
    try:
        learner.model.load_state_dict(weights)
        if learner.ema is not None:
            learner.ema.module.load_state_dict(average)
        load_optimizer(learner.optimizer, training["optimizer"])
        if accelerator.scaler is not None and "scaler" in training:
            accelerator.scaler.load_state_dict(training["scaler"])
        if rng is not None:  # None for an added process, which keeps the state from its seed
            set_rng_state(rng)
    except Exception as error:  # a state that does not fit can raise anything
        raise RunError(
            f"checkpoint {folder} belongs to another model or optimizer, so give the flags of its own run: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error


def load_optimizer(optimizer: "Optimizer", saved: dict) -> None:
    """Load the state of an optimizer. Raises ValueError if it does not fit the weights.

    torch would notice this in the first step, or never.
    """
    now = [dict(group) for group in optimizer.param_groups]
    for group, before in zip(saved["param_groups"], now, strict=True):
        for key in before.keys() & group.keys() - {"params"}:
            if not same_kind(group[key], before[key]):
                raise ValueError(f"its {key} is {group[key]!r:.80}")
    optimizer.load_state_dict(saved)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if kept := optimizer.state.get(parameter):
                check_moments(kept, parameter)


def check_moments(kept: dict, parameter: "Tensor") -> None:
    """Raise ValueError unless `kept` is the state that AdamW or SGD keeps for `parameter`."""
    import torch

    if not {"exp_avg", "exp_avg_sq", "step"} <= kept.keys() and "momentum_buffer" not in kept:
        raise ValueError(f"its state of a weight holds only {', '.join(map(str, kept))}")
    for name, value in kept.items():
        if value is not None and not torch.is_tensor(value):
            raise ValueError(f"its {name} is {value!r:.80}")
        if value is not None and value.shape != (() if name == "step" else parameter.shape):
            raise ValueError(f"its {name} has shape {tuple(value.shape)}, but the weight {tuple(parameter.shape)}")
    if bad := not_finite(kept):
        raise ValueError(f"its {bad} is not finite")


def same_kind(value: Any, other: Any) -> bool:
    """Whether two optimizer settings have the same type; numbers must be finite."""
    if isinstance(other, (list, tuple)):
        same_length = isinstance(value, (list, tuple)) and len(value) == len(other)
        return same_length and all(map(same_kind, value, other))
    if isinstance(other, bool) or other is None:
        return value is None or isinstance(value, bool)
    return is_number(value) if isinstance(other, Real) else isinstance(value, type(other))


def rng_file(folder: Path, process: int) -> dict | None:
    import torch

    path = folder / f"rng_{process}.pt"
    return torch.load(path, weights_only=True) if path.exists() else None


def rng_state() -> dict:
    import torch

    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict) -> None:
    import torch

    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
