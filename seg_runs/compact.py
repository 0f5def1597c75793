"""Copy the model of a run with half-precision weights, to ship or share it at half the size.

    python -m seg_runs.compact runs/NAME checkpoints/camvid_streetnet

The copy loads in single precision, so it predicts like any other model. A tensor stays in float32 if float16 cannot
hold it: if a value would overflow, or a variance would become zero.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from .best_model import OF_A_MODEL
from .errors import RunError, one_line_errors
from .files import CHECKSUMS, damage, read_json, replace_folder, write_checksums, write_json, writing
from .lock import locked
from .parsing import Parser

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "model.safetensors"


def compact(run: Path, destination: Path) -> str:
    """Write the copy. Returns a line for the user. `run` is a run folder or a saved model."""
    source = run / "best" if (run / "best" / "config.json").is_file() else run
    if not (source / "config.json").is_file():
        raise RunError(f"{run} is neither a run folder with best/ nor a saved model")
    if destination.exists():
        raise RunError(f"{destination} exists already: delete it or choose another folder")
    if destination.resolve().is_relative_to(source.resolve()):
        raise RunError(f"{destination} lies in the model's own folder: choose another folder")
    owner = run if (run / "args.yaml").is_file() else run.absolute().parent
    # A run that is training could replace best/ meanwhile.
    with locked(owner, "run") if (owner / "args.yaml").is_file() else nullcontext():
        return write_halved(source, destination)


def write_halved(source: Path, destination: Path) -> str:
    """Write the saved model `source` with half-precision weights to `destination`. Returns a line for the user."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
    config = read_json(source / "config.json")
    try:
        tensors = load_file(source / WEIGHTS)
        wrong = damage(source)
    except (OSError, ValueError, SafetensorError) as error:
        wrong = " ".join(str(error).split())
    if wrong:
        raise RunError(f"cannot read the model in {source}: {wrong}")
    halves = {name: halved(tensor) for name, tensor in tensors.items()}
    kept = [name for name, tensor in halves.items() if tensor.dtype == torch.float32]
    with writing(destination), removed_on_error(temporary):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for path in {path for pattern in OF_A_MODEL for path in source.glob(pattern)}:
            if path.name not in (WEIGHTS, CHECKSUMS):
                shutil.copyfile(path, temporary / path.name)
        save_file(halves, temporary / WEIGHTS, metadata={"format": "pt"})
        write_json(temporary / "config.json", config | {"dtype": "float32"})
        write_checksums(temporary, [WEIGHTS])
        replace_folder(temporary, destination)
    size = (destination / WEIGHTS).stat().st_size / 2**20
    stays = f"; {len(kept)} tensors stay in float32, for example {kept[0]}" if kept else ""
    return f"wrote {destination}: {len(halves)} tensors, {size:.1f} MiB{stays}"


@contextmanager
def removed_on_error(folder: Path) -> Iterator[None]:
    """Delete `folder` if an error occurs, so that a full disk does not stay full."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def halved(tensor: "Tensor") -> "Tensor":
    """Return `tensor` in float16, or unchanged if it is not float32, would overflow, or is a variance that became 0."""
    import torch

    if tensor.dtype != torch.float32:
        return tensor
    half = tensor.half()
    lost = (half == 0) & (tensor != 0)
    is_variance = bool((tensor >= 0).all())
    fits = bool(half.isfinite().all()) and not (is_variance and lost.any())
    return half if fits else tensor


def main(argv: list[str] | None = None) -> None:
    parser = Parser(prog="python -m seg_runs.compact", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run folder or a saved model")
    parser.add_argument("destination", type=Path, help="the folder to write")
    with one_line_errors():
        args = parser.parse_args(argv)
        print(compact(args.run, args.destination))


if __name__ == "__main__":
    main()
