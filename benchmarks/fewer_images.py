"""Make a folder of CamVid with fewer training images, to find out what helps then. It has links to SegNet's files.

    python benchmarks/fewer_images.py camvid camvid50 --images 50

The training images are taken evenly from the sorted names outside a fold. All images of the fold are kept, so
`--folds recipes/camvid_folds.json --fold T` validates on the same images as ever.
"""

import argparse
from pathlib import Path

from flags import FOLDS, count, existing_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=existing_folder, help="folder with train, trainannot, val and valannot")
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--images", type=count, default=50)
    parser.add_argument("--fold", choices=FOLDS, default="T")
    args = parser.parse_args()
    fold = FOLDS[args.fold]
    images = {path.stem: path.resolve() for path in (args.source / "train").glob("*.*")}
    if missing := set(fold) - images.keys():
        parser.error(f"{args.source / 'train'} lacks {min(missing)}, an image of fold {args.fold}: is it CamVid?")
    others = sorted(images.keys() - fold)
    if not 1 <= args.images <= len(others):
        parser.error(f"--images must be between 1 and {len(others)}, the images outside fold {args.fold}")
    if args.out.exists():
        parser.error(f"{args.out} exists: name a new folder")
    chosen = [others[i * len(others) // args.images] for i in range(args.images)]
    for folder in ("train", "trainannot"):
        (args.out / folder).mkdir(parents=True)
    for name in (*chosen, *fold):
        (args.out / "train" / images[name].name).symlink_to(images[name])
        label = (args.source / "trainannot" / f"{name}.png").resolve()
        (args.out / "trainannot" / label.name).symlink_to(label)
    for folder in ("val", "valannot"):
        (args.out / folder).symlink_to((args.source / folder).resolve())


if __name__ == "__main__":
    main()
