"""The files of a set, and the command that writes them."""

import argparse
import os
import sys
from pathlib import Path

import cv2
from tqdm.auto import tqdm

from .scene import make_scene


def save(path, image):
    """Write a PNG under another name, then rename it: a killed run leaves no half file."""
    data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 2])[1]
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data.tobytes())
    os.replace(temporary, path)


def write_toycity(out, train=24, val=8, test=8, size=(512, 1024), seed=0):
    """Write the three splits below the folder `out`; `size` is (height, width) in pixels."""
    out = Path(out)
    counts = {"train": train, "val": val, "test": test}
    with tqdm(total=sum(counts.values()), desc=f"ToyCity in {out}", unit="image", disable=None) as progress:
        for split, (name, count) in enumerate(counts.items()):
            folders = [out / "leftImg8bit" / name] + ([out / "gtFine" / name] if name != "test" else [])
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                image, label, instance = make_scene(seed, split, index, size, count)
                stem = f"toycity_{split:06d}_{index:06d}"
                save(folders[0] / f"{stem}_leftImg8bit.png", image[..., ::-1])
                if name != "test":
                    save(folders[1] / f"{stem}_gtFine_labelIds.png", label)
                    save(folders[1] / f"{stem}_gtFine_instanceIds.png", instance)
                progress.update()


def main(argv=None):
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
    args, problem = parser.parse_args(argv), None
    if min(args.train, args.val, args.test, args.seed) < 0:
        problem = "--train, --val, --test and --seed must be 0 or more"
    elif not all(32 <= value <= 4096 for value in args.size):
        problem = f"--size {args.size[0]} {args.size[1]}: height and width must lie in 32..4096"
    elif args.out.exists() and not args.out.is_dir():
        problem = f"{args.out} is a file; name a folder"
    elif args.out.exists() and any(args.out.iterdir()) and not args.overwrite:
        problem = f"{args.out} is not empty; name another folder or add --overwrite"
    if problem:
        print(f"toycity: {problem}", file=sys.stderr)
        return 1
    write_toycity(args.out, args.train, args.val, args.test, tuple(args.size), args.seed)
    return 0
