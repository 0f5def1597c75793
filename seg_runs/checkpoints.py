"""Checkpoints: folders that hold all that is needed to go on bit for bit, and that are whole or not there.

checkpoints/step_000120/
    model.safetensors    weights and buffers
    ema.safetensors      their moving average, where the run keeps one
    training.pt          optimizer and, under fp16, the gradient scaler
    rng_0.pt             random state of each process (dropout draws from it)
    state.json           epoch, step, sums of the epoch so far, best score

torch is imported where it is needed: arguments.py, which answers --help, looks for checkpoints here.
"""

import json
import pickle
import re
import shutil
from pathlib import Path

from safetensors import SafetensorError

from .launch import RunError

FILES = ("model.safetensors", "training.pt", "state.json")


def save_checkpoint(accelerator, run: Path, model, ema, optimizer, state: dict, keep: int) -> None:
    """Write checkpoints/step_N from every process, N = state["step"]; then remove all but the `keep` newest.

    Everything goes to a temporary name that the first process renames when all have written: a run that is killed, or
    a disk that is full, leaves the previous checkpoint as it was.
    """
    from safetensors.torch import save_file

    folder = run / "checkpoints"
    final = folder / f"step_{state['step']:06d}"
    temporary = folder / f".{final.name}.tmp"
    try:
        if accelerator.is_main_process:
            for left in folder.glob(".step_*"):
                shutil.rmtree(left)
            temporary.mkdir(parents=True)
        accelerator.wait_for_everyone()
        write(rng_state(), temporary / f"rng_{accelerator.process_index}.pt")
        if accelerator.is_main_process:
            save_file(contiguous(model), temporary / "model.safetensors")
            if ema is not None:
                save_file(contiguous(ema.module), temporary / "ema.safetensors")
            training = {"optimizer": optimizer.state_dict()}
            if accelerator.scaler is not None:
                training["scaler"] = accelerator.scaler.state_dict()
            write(training, temporary / "training.pt")
            write_json(temporary / "state.json", state)
    except (OSError, SafetensorError) as error:
        if accelerator.is_main_process:  # what another one leaves, the next save takes away
            shutil.rmtree(temporary, ignore_errors=True)
        raise RunError(f"cannot write checkpoint {final}: {error}. {last_checkpoint(run)}") from error
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if final.exists():
            discard(final)
        temporary.rename(final)
        for old in list_checkpoints(folder)[:-keep]:
            discard(old)


def update_state(run: Path, state: dict) -> None:
    """The step that is saved already, with what came after it: its validation, the end of its epoch."""
    write_json(run / "checkpoints" / f"step_{state['step']:06d}" / "state.json", state)


def discard(checkpoint: Path) -> None:
    """Remove a checkpoint, which is whole or gone at any moment."""
    hidden = checkpoint.with_name(f".{checkpoint.name}.old")
    checkpoint.rename(hidden)
    shutil.rmtree(hidden)


def write_json(path: Path, content: dict) -> None:
    write_atomically(path, json.dumps(content, indent=2) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Old or new, never half."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def contiguous(model) -> dict:
    """Weights and buffers as safetensors takes them; channels_last is put back by loading in place."""
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items()}


def write(content, path: Path) -> None:
    """torch.save through a file of Python's, whose errors say what is wrong (a full disk)."""
    import torch

    with path.open("wb") as file:
        torch.save(content, file)


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in `folder`, oldest first."""
    return sorted((path for path in folder.glob("step_*") if re.fullmatch(r"step_\d+", path.name)), key=step_of)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step_"))


def remove_later(checkpoint: Path) -> None:
    """Remove what a run that is resumed from `checkpoint` will write again."""
    for path in list_checkpoints(checkpoint.parent):
        if step_of(path) > step_of(checkpoint):
            discard(path)


def last_checkpoint(run: Path) -> str:
    """For error messages: what a run can go on from."""
    found = list_checkpoints(run / "checkpoints")
    if not found:
        return "There is no checkpoint yet"
    return f"The last complete checkpoint is {found[-1]}: go on with --resume_from_checkpoint {run}"


def find_checkpoint(path: str) -> Path:
    """The checkpoint that `--resume_from_checkpoint` means: itself, or the newest one of a run folder."""
    folder = Path(path).resolve()
    if (folder / "checkpoints").is_dir():
        found = list_checkpoints(folder / "checkpoints")
        if not found:
            raise RunError(f"--resume_from_checkpoint {path}: this run has no checkpoint yet")
        folder = found[-1]
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise RunError(f"--resume_from_checkpoint {path} is not a checkpoint: it has no {missing[0]}")
    if not (folder.parent.parent / "args.yaml").is_file():
        raise RunError(
            f"--resume_from_checkpoint {path} is not in a run folder: {folder.parent.parent} has no args.yaml"
        )
    return folder


def read_state(folder: Path) -> dict:
    """state.json of a checkpoint."""
    try:
        return json.loads((folder / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {folder / 'state.json'}: {error}") from error


def load_checkpoint(accelerator, folder: Path, model, ema, optimizer) -> None:
    """Put a checkpoint back, in place. Weights are read with safetensors, the rest with `weights_only=True`."""
    import torch
    from safetensors.torch import load_file

    try:
        weights = load_file(folder / "model.safetensors")
        average = load_file(folder / "ema.safetensors") if ema is not None else None
        training = torch.load(folder / "training.pt", map_location="cpu", weights_only=True)
        rng = rng_file(folder, accelerator.process_index)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise RunError(f"cannot read checkpoint {folder}: {' '.join(str(error).split())}") from error
    try:
        model.load_state_dict(weights)
        if ema is not None:
            ema.module.load_state_dict(average)
        optimizer.load_state_dict(training["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0]
        raise RunError(f"checkpoint {folder} is of another model or optimizer: {first}") from error
    if accelerator.scaler is not None and "scaler" in training:
        accelerator.scaler.load_state_dict(training["scaler"])
    if rng is not None:  # on more processes than before, the new ones draw from their seed
        set_rng_state(rng)


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
