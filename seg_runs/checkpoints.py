"""Checkpoints: folders that hold all that is needed to go on bit for bit, and that are whole or not there.

checkpoints/epoch_0003/
    model.safetensors    weights and buffers
    training.pt          optimizer, scheduler and, under fp16, the gradient scaler
    rng_0.pt             random state of each process (dropout draws from it)
    state.json           epoch, step, best score
"""

import json
import pickle
import re
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .launch import RunError

FILES = ("model.safetensors", "training.pt", "state.json")


def save_checkpoint(accelerator, folder: Path, model, optimizer, scheduler, state: dict) -> Path:
    """Write checkpoints/epoch_N from every process, N = state["epoch"]; then remove the others.

    Everything goes to a temporary name that the first process renames when all have written: a run that is killed
    leaves the previous checkpoint as it was.
    """
    final = folder / f"epoch_{state['epoch']:04d}"
    temporary = folder / f".epoch_{state['epoch']:04d}.tmp"
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    accelerator.wait_for_everyone()
    torch.save(rng_state(), temporary / f"rng_{accelerator.process_index}.pt")
    if accelerator.is_main_process:
        weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        save_file(weights, temporary / "model.safetensors")
        training = {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
        if accelerator.scaler is not None:
            training["scaler"] = accelerator.scaler.state_dict()
        torch.save(training, temporary / "training.pt")
        (temporary / "state.json").write_text(json.dumps(state, indent=2) + "\n")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
        for old in list_checkpoints(folder):
            if old != final:
                shutil.rmtree(old)
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in `folder`, oldest first."""
    found = [path for path in folder.glob("epoch_*") if re.fullmatch(r"epoch_\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("epoch_")))


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
    for name in ("args.yaml", "log_epoch.csv"):
        if not (folder.parent.parent / name).is_file():
            raise RunError(
                f"--resume_from_checkpoint {path} is not in a run folder: {folder.parent.parent} has no {name}"
            )
    return folder


def read_state(folder: Path) -> dict:
    """state.json of a checkpoint."""
    try:
        return json.loads((folder / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {folder / 'state.json'}: {error}") from error


def load_checkpoint(accelerator, folder: Path, model, optimizer, scheduler) -> None:
    """Put a checkpoint back, in place. Weights are read with safetensors, the rest with `weights_only=True`."""
    try:
        weights = load_file(folder / "model.safetensors")
        training = torch.load(folder / "training.pt", map_location="cpu", weights_only=True)
        rng = rng_file(folder, accelerator.process_index)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise RunError(f"cannot read checkpoint {folder}: {' '.join(str(error).split())}") from error
    try:
        model.load_state_dict(weights)
        optimizer.load_state_dict(training["optimizer"])
        scheduler.load_state_dict(training["scheduler"])
    except (RuntimeError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0]
        raise RunError(f"checkpoint {folder} is of another model or optimizer: {first}") from error
    if accelerator.scaler is not None and "scaler" in training:
        accelerator.scaler.load_state_dict(training["scaler"])
    if rng is not None:  # on more processes than before, the new ones draw from their seed
        set_rng_state(rng)


def rng_file(folder: Path, process: int) -> dict[str, torch.Tensor] | None:
    path = folder / f"rng_{process}.pt"
    return torch.load(path, weights_only=True) if path.exists() else None


def rng_state() -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
