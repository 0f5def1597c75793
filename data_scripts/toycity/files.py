"""Write the files of a ToyCity data set, and parse the command line for it."""

import argparse
import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from ..files import UNFINISHED, write_whole
from ..labels import DataError
from ..listing import is_text
from .scene import make_scene

WIDEST = 20  # width divided by height; far wider ones cannot be drawn


def save(path: Path, image: np.ndarray) -> None:
    """Write a PNG atomically, so that a killed run leaves no half-written file."""
    data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 2])[1].tobytes()
    write_whole(
        path, lambda temporary: temporary.write_bytes(data), "make room or allow writing there, or name another folder"
    )


def write_toycity(
    out: str | Path, train: int = 24, val: int = 8, test: int = 8, size: tuple[int, int] = (512, 1024), seed: int = 0
) -> None:
    """Write the three splits below the folder `out`; `size` is (height, width) in pixels.

    Until the end, a file in `out` marks the city as incomplete, so that `load_source` refuses it. Images of an earlier,
    larger city are deleted. Raises `DataError` if the disk refuses or another program is drawing there.
    """
    out = Path(out)
    counts = {"train": train, "val": val, "test": test}
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / ".lock", timeout=0, fallback_to_soft=False):
            try:
                draw(out, counts, size, seed)
            finally:
                with suppress(OSError):  # on Windows, where the lock removes it
                    (out / ".lock").unlink(missing_ok=True)
    except Timeout as error:
        raise DataError(f"{out} is being drawn by another program: wait for it, or name another folder") from error
    except OSError as error:
        path = error.filename or out
        raise DataError(f"cannot write {path}: {error.strerror or error}; name another folder") from error


def draw(out: Path, counts: dict[str, int], size: tuple[int, int], seed: int) -> None:
    begin(out, counts, size, seed)
    with tqdm(total=sum(counts.values()), desc=f"ToyCity in {out}", unit="image", disable=None) as progress:
        for split, (name, count) in enumerate(counts.items()):
            for index in range(count):
                write_scene(out, name, split, index, make_scene(seed, split, index, size, count))
                progress.update()
    (out / UNFINISHED).unlink()


def folders_of(out: Path, name: str) -> list[Path]:
    """Return the folder of a split's images, followed by that of its labels if it has any."""
    return [out / "leftImg8bit" / name] + ([out / "gtFine" / name] if name != "test" else [])


def stem_of(split: int, index: int) -> str:
    return f"toycity_{split:06d}_{index:06d}"


def begin(out: Path, counts: dict[str, int], size: tuple[int, int], seed: int) -> None:
    """Create the folders, mark the city as incomplete, and delete leftovers of an earlier city."""
    flags = " ".join(f"--{name} {count}" for name, count in counts.items())
    flags += f" --size {size[0]} {size[1]} --seed {seed}"
    note = f"draw it again, python -m data_scripts.toycity {shlex.quote(str(out))} {flags}\n"
    write_whole(out / UNFINISHED, lambda path: path.write_text(note, encoding="utf-8"), "name another folder")
    for split, (name, count) in enumerate(counts.items()):
        stems = {stem_of(split, index) for index in range(count)}
        for folder in folders_of(out, name):
            folder.mkdir(parents=True, exist_ok=True)
            for path in [*folder.glob("toycity_*.png"), *folder.glob(".toycity_*")]:
                if path.name[: len("toycity_000000_000000")] not in stems:
                    path.unlink()
            if not count and not any(folder.iterdir()):
                folder.rmdir()  # a split without images has no folder


def write_scene(out: Path, name: str, split: int, index: int, scene: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    image, label, instance = scene
    folders = folders_of(out, name)
    stem = stem_of(split, index)
    save(folders[0] / f"{stem}_leftImg8bit.png", image[..., ::-1])
    if name != "test":
        save(folders[1] / f"{stem}_gtFine_labelIds.png", label)
        save(folders[1] / f"{stem}_gtFine_instanceIds.png", instance)


def main(argv: list[str] | None = None) -> int:
    about = "Draw ToyCity, street scenes in MiniCity's files."
    parser = argparse.ArgumentParser("python -m data_scripts.toycity", description=about, allow_abbrev=False)
    add = parser.add_argument
    add("out", type=Path, help="folder to write")
    for name, count in (("train", 24), ("val", 8), ("test", 8)):
        add(f"--{name}", type=int, default=count, help=f"images of the {name} split (default {count})")
    size = (512, 1024)
    add("--size", type=int, nargs=2, default=size, metavar=("H", "W"), help="pixels (default 512 1024)")
    add("--seed", type=int, default=0, help="same seed, same bytes (default 0)")
    add("--overwrite", action="store_true", help="write into a folder that is not empty")
    args = parser.parse_args(argv)
    try:
        problem = problem_of(args)
        if not problem:
            write_toycity(args.out, args.train, args.val, args.test, tuple(args.size), args.seed)
    except DataError as error:
        problem = error
    except OSError as error:
        problem = f"cannot read {error.filename or args.out}: {error.strerror or error}; name another folder"
    except KeyboardInterrupt:
        problem = f"interrupted; {args.out} is incomplete"
    if problem:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problem else 0


def problem_of(args: argparse.Namespace) -> str | None:
    """Return what is wrong with the command line, in one line, or None."""
    height, width = args.size
    if min(args.train, args.val, args.test, args.seed) < 0:
        return "--train, --val, --test and --seed must be 0 or more"
    if not all(32 <= value <= 4096 for value in args.size):
        return f"--size {height} {width}: height and width must lie in 32..4096"
    if width > WIDEST * height:
        return f"--size {height} {width}: the width must be at most {WIDEST} times the height"
    if not is_text(str(args.out)):
        return f"the name {os.fsencode(args.out)!r} is not UTF-8; name another folder"
    if args.out.exists() and not args.out.is_dir():
        return f"{args.out} is a file; name a folder"
    if not args.overwrite and not free_to_draw(args.out):
        return f"{args.out} is not empty; name another folder or add --overwrite"
    return None


def free_to_draw(out: Path) -> bool:
    """Return whether `out` is missing, empty, or holds an incomplete city."""
    return not out.exists() or not any(out.iterdir()) or (out / UNFINISHED).exists()
