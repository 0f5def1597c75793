"""Find the files of CamVid (Brostow et al., 2009, "Semantic object classes in video"), in three arrangements.

    {train,val,test}/NAME.png       {train,val,test}annot/NAME.png       SegNet's: ids of 11 classes, 480x360
    701_StillsRaw_full/NAME.png     LabeledApproved_full/NAME_L.png      the original: 32 classes in colours, 960x720
    {train,val,test}/NAME.png       {train,val,test}_labels/NAME_L.png   the same, in splits

The original names no splits. It gets SegNet's (Badrinarayanan et al., 2017): 367, 101 and 233 images.
"""

import re
from pathlib import Path

from .labels import CAMVID_CLASSES, Color, DataError, LabelInfo
from .listing import label_of, list_images

STILLS, APPROVED = "701_StillsRaw_full", "LabeledApproved_full"
DRIVES = ("0001TP", "0006R0", "0016E5", "Seq05VD")
FRAME = re.compile(rf"({'|'.join(DRIVES)})_f?(\d+)")
COLORS_FILE = "label_colors.txt"


def looks_like_camvid(root: Path) -> bool:
    """Return whether `root` has one of CamVid's arrangements of folders."""
    pairs = [(STILLS, APPROVED), ("train", "trainannot"), ("train", "train_labels")]
    return any((root / images).is_dir() and (root / labels).is_dir() for images, labels in pairs)


def camvid_files(root: Path, split: str) -> list[tuple[str, Path, Path | None, None]] | None:
    """Return a row (name, image, label, None) for each image of a split, or None without the folder of images."""
    if (root / STILLS).is_dir():
        images = [image for image in list_images(root / STILLS) if split_of(image) == split]
        labels = root / APPROVED
    elif (root / split).is_dir():
        images = list_images(root / split)
        labels = root / (f"{split}_labels" if has_colors(root) else f"{split}annot")
    else:
        return None
    ending = "_L" if has_colors(root) else ""
    return [(image.stem, image, label_of(labels / f"{image.stem}{ending}.png", split), None) for image in images]


def has_colors(root: Path) -> bool:
    """Return whether the labels are colours, not SegNet's ids."""
    return (root / STILLS).is_dir() or (root / "train_labels").is_dir()


def split_of(image: Path) -> str:
    """Return the folder of SegNet's split that has a frame: "train", "val" or "test".

    Tested are the second half of the drive at dusk (0001TP) and a whole drive (Seq05VD). Validated are the frames of a
    few seconds of 0016E5, 15 a second. The rest is trained on.
    """
    frame = FRAME.fullmatch(image.stem)
    if frame is None:
        raise DataError(
            f"{image} is not a frame of CamVid: a name is a drive ({', '.join(DRIVES)}) and a number, such as "
            "0016E5_07959; remove it or rename it"
        )
    drive = frame[1]
    number = int(frame[2])
    if drive == "Seq05VD" or (drive == "0001TP" and number > 8520):
        return "test"
    return "val" if drive == "0016E5" and 7959 <= number <= 8159 else "train"


def camvid_colors(root: Path, labels: LabelInfo) -> dict[str, dict[Color, int]]:
    """Return `LabelInfo.colors` of a folder, for `labels` with 11 or with 32 classes.

    The colours are those in label_colors.txt, if it is there, else the published ones. Raises `DataError` if that file
    has an unknown class, or if the 32 classes are asked for and the labels have 11.
    """
    if not has_colors(root):
        if labels.name == "camvid32":
            raise DataError(
                f"{root} has SegNet's labels of 11 classes: use --dataset camvid, or give the "
                f"original release with {STILLS} and {APPROVED}"
            )
        return {}
    ids = dict(zip(labels.names, labels.source_ids, strict=True))
    of_class = {name: ids.get(name, ids.get(group, labels.void_ids[0])) for name, _, group in CAMVID_CLASSES}
    colors = {name: color for name, color, _ in CAMVID_CLASSES}
    if (root / COLORS_FILE).exists():
        colors |= read_colors(root / COLORS_FILE)
    table = {}
    for name, color in colors.items():
        if table.setdefault(color, of_class[name]) != of_class[name]:
            raise DataError(
                f"{root / COLORS_FILE} gives the colour {' '.join(map(str, color))} to {name} and to another class"
            )
    return {"": table}


def read_colors(path: Path) -> dict[str, Color]:
    """Return the colour of each class in label_colors.txt, whose lines are "R G B" and a name.

    Upper case, underscores and one misspelt name of the release do not matter. Raises `DataError` with the line.
    """
    known = {_plain(name): name for name, _, _ in CAMVID_CLASSES}
    found = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        *color, name = line.split(maxsplit=3)
        if len(color) != 3 or not all(value.isascii() and value.isdigit() and int(value) < 256 for value in color):
            raise DataError(f"{path} line {number} is {line.strip()!r:.80}, not three numbers up to 255 and a name")
        plain = _plain(name).replace("motorcycycle", "motorcycle")
        if plain not in known:
            raise DataError(f"{path} line {number}: {name.strip():.40} is none of CamVid's 32 classes")
        found[known[plain]] = tuple(map(int, color))
    return found


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())
