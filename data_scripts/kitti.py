"""Find the files of KITTI's semantic segmentation benchmark of 2015 (Abu Alhaija et al., 2018, arXiv 1708.01566).

    training/image_2/NNNNNN_10.png   training/semantic/NNNNNN_10.png   training/instance/NNNNNN_10.png
    testing/image_2/NNNNNN_10.png

KITTI publishes labels for its 200 training images only, and names no validation images. Every fourth training image,
those whose number leaves 3 when divided by 4, is one here: 150 to train on and 50 to validate on.
"""

import re
from pathlib import Path

from .labels import DataError
from .listing import label_of, list_images, note

FRAME = re.compile(r"(\d{6})_10")  # only the first frame of each pair, _10, has labels


def looks_like_kitti(root: Path) -> bool:
    """Return whether `root` has KITTI's folders of images and labels."""
    return all((root / "training" / folder).is_dir() for folder in ("image_2", "semantic"))


def kitti_files(root: Path, split: str) -> list[tuple[str, Path, Path | None, Path | None]] | None:
    """Return a row (name, image, label, instances) for each image of a split, or None without the folder."""
    folder = root / ("testing" if split == "test" else "training")
    if not (folder / "image_2").is_dir():
        return None
    rows, others = [], []
    for image in list_images(folder / "image_2"):
        frame = FRAME.fullmatch(image.stem)
        if frame is None:
            others.append(image)
            continue
        if split != "test" and (int(frame[1]) % 4 == 3) != (split == "val"):
            continue
        label, instances = folder / "semantic" / f"{image.stem}.png", folder / "instance" / f"{image.stem}.png"
        rows.append((image.stem, image, label_of(label, split), instances if instances.exists() else None))
    if others and split != "val":  # the same folder as in "train"
        note(f"{len(others)} images in {folder / 'image_2'} are skipped, such as {others[0].name}: not NNNNNN_10")
    if others and not rows and split != "val":
        raise DataError(f"no image in {folder / 'image_2'} is named NNNNNN_10, such as 000000_10.png")
    return rows
