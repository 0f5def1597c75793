"""Find the files of Virtual KITTI (Gaidon et al., 2016, arXiv 1605.06457), version 1.3.1 or 2.

    vkitti_1.3.1_rgb/WORLD/VARIATION/NNNNN.png    vkitti_1.3.1_scenegt/WORLD/VARIATION/NNNNN.png
                                                  vkitti_1.3.1_scenegt/WORLD_VARIATION_scenegt_rgb_encoding.txt
    SceneWW/VARIATION/frames/rgb/Camera_N/rgb_NNNNN.jpg
    SceneWW/VARIATION/frames/classSegmentation/Camera_N/classgt_NNNNN.png
    SceneWW/VARIATION/colors.txt

Labels are colours. Version 1.3.1 has a table for each world and variation, in which each car has a colour of its own.
Version 2 has one colour for each class; its colors.txt, which comes in an archive of its own, may be missing.

A world has up to ten variations that show the same streets in other weather or from another angle. So worlds are the
splits, and no variation of a validation world is trained on.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from .labels import VIRTUAL_KITTI_COLORS, Color, DataError, LabelInfo
from .listing import label_of, list_images, note

WORLDS = {"train": ("0001", "0018", "0020"), "val": ("0002",), "test": ("0006",)}
KNOWN = {world for worlds in WORLDS.values() for world in worlds}
ENCODING, COLORS_FILE = "scenegt_rgb_encoding.txt", "colors.txt"
Folder = tuple[str, Path, Path]  # beginning of the names of its images, folder of images, folder of labels


def looks_like_virtual_kitti(root: Path) -> bool:
    """Return whether `root` has the folders of version 1.3.1 or 2."""
    return _first_version(root) is not None or any(_scenes(root))


def virtual_kitti_files(root: Path, split: str) -> list[tuple[str, Path, Path | None, None]] | None:
    """Return a row (name, image, label, None) for each image of a split, or None without images.

    Names hold world, variation, camera and number: "0001_clone_00340", "0001_clone_camera0_00340".
    """
    folders = _folders(root)
    if not folders:
        return None
    if split == "train" and (others := sorted({name[:4] for name, _, _ in folders} - KNOWN)):
        note(f"the worlds {', '.join(others)} in {root} are skipped: Virtual KITTI has {', '.join(sorted(KNOWN))}")
    rows = []
    for name, images, labels in folders:
        if name[:4] not in WORLDS[split]:
            continue
        for image in list_images(images):
            number = image.stem.removeprefix("rgb_")
            label = labels / (f"classgt_{number}.png" if image.stem != number else f"{number}.png")
            rows.append((f"{name}_{number}", image, label_of(label, split), None))
    if not rows and split != "test":
        raise DataError(
            f"{root} has no images of world {' or '.join(WORLDS[split])}, which is the {split} split "
            "of Virtual KITTI: unpack that world too"
        )
    return rows or None


def virtual_kitti_colors(root: Path, labels: LabelInfo) -> dict[str, dict[Color, int]]:
    """Return `LabelInfo.colors` of a folder. Raises `DataError` if a file of colours is missing or wrong."""
    ids = dict(zip(labels.names, labels.source_ids, strict=True)) | {"undefined": labels.void_ids[0]}
    tables = {}
    for name, _, folder in _folders(root):
        if name[:4] not in KNOWN or not folder.is_dir():
            continue
        if _first_version(root) is not None:
            path = folder.parent.parent / f"{name}_{ENCODING}"
        else:
            places = (folder.parents[2] / COLORS_FILE, root / COLORS_FILE)
            path = next((path for path in places if path.exists()), None)
        found = VIRTUAL_KITTI_COLORS.items() if path is None else read_colors(path)
        tables[str(folder)] = _table(found, ids, path)
    return tables


def read_colors(path: Path) -> list[tuple[str, Color]]:
    """Return (class, colour) for each line "Class R G B" or "Class:instance R G B" after the header.

    "GuardRail" becomes "guard rail". Raises `DataError` with the line that is wrong.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise DataError(f"no file {path}, which says what the colours of its labels mean: unpack it too") from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        name, *color = line.split() or [""]
        if not name or name.startswith("Category"):
            continue
        if len(color) != 3 or not all(value.isascii() and value.isdigit() and int(value) < 256 for value in color):
            raise DataError(f"{path} line {number} is {line.strip()!r:.80}, not a class and three numbers up to 255")
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.partition(":")[0])
        found.append((words.lower(), tuple(map(int, color))))
    if not found:
        raise DataError(f"{path} holds no colours: its lines are Class R G B")
    return found


def _table(found: Iterable[tuple[str, Color]], ids: dict[str, int], path: Path | None) -> dict[Color, int]:
    table = {}
    for name, color in found:
        if name not in ids:
            raise DataError(f"{path} has the class {name:.40}, which Virtual KITTI does not: it has {', '.join(ids)}")
        if table.setdefault(color, ids[name]) != ids[name]:
            raise DataError(f"{path} gives the colour {' '.join(map(str, color))} to {name} and to another class")
    return table


def _folders(root: Path) -> list[Folder]:
    """Return the folders of images and labels of either version, sorted."""
    first = _first_version(root)
    if first is not None:
        labels = first.with_name(f"{first.name.removesuffix('_rgb')}_scenegt")
        places = [place for place in sorted(first.glob("*/*")) if place.is_dir()]
        return [(f"{place.parent.name}_{place.name}", place, labels / place.relative_to(first)) for place in places]
    folders = []
    for scene in _scenes(root):
        for images in sorted(scene.glob("*/frames/rgb/Camera_*")):
            variation = images.parents[2].name
            camera = images.name.removeprefix("Camera_")
            name = f"00{scene.name.removeprefix('Scene')}_{variation}_camera{camera}"
            folders.append((name, images, images.parents[1] / "classSegmentation" / images.name))
    return folders


def _first_version(root: Path) -> Path | None:
    """Return the folder of images of version 1, or None. If several are there, it is the newest one's."""
    return max((path for path in root.glob("vkitti_1.*_rgb") if path.is_dir()), default=None)


def _scenes(root: Path) -> Iterator[Path]:
    """Return the folders of the worlds of version 2."""
    return (path for path in sorted(root.glob("Scene[0-9][0-9]")) if path.is_dir())
