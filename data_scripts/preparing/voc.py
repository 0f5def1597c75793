"""Pascal VOC's layout, which CVAT and labelme export: JPEGImages, SegmentationClass, ImageSets/Segmentation.

The lists in ImageSets are the splits. Without them, the names of folders tell the splits.
"""

import re
from collections import defaultdict
from pathlib import Path
from unicodedata import normalize

from ..labels import DataError
from .annotated import Annotated, Options
from .class_lists import find_class_list
from .found import Found, read_lines, some, split_of
from .masks import from_pairs
from .pairing import Pair, stem_of

READS = ("mask_values",)
MASKS = "segmentationclass"
PHOTOS = "jpegimages"


def looks_like(found: Found) -> bool:
    return all(any(name in _folders(path) for path in found.images) for name in (MASKS, PHOTOS))


def read(found: Found, options: Options) -> Annotated:
    listed, where = _splits(found)
    divided = not listed and all(_has_splits(found, folder) for folder in (MASKS, PHOTOS))
    masks, photos = _by_name(found, MASKS, divided), _by_name(found, PHOTOS, divided)
    splits = listed or {stem: split for stem, photo in photos.items() if (split := split_of(photo.parent))}
    test_has_masks = any(stem in masks for stem, split in splits.items() if split == "test")
    pairs = []
    missing = defaultdict(list)
    for stem, photo in sorted(photos.items()):
        if stem not in masks and (splits.get(stem) != "test" or test_has_masks):
            missing["photos without a mask"].append(photo)
        elif listed and stem not in listed:
            missing[f"photos in no list of {where}"].append(photo)
        else:
            pairs.append(Pair(photo, masks.get(stem), splits.get(stem)))
    if not any(pair.mask for pair in pairs):
        raise DataError(
            f"no photo of {found.root} has a mask of its name in SegmentationClass: photos are {some(photos, 2)}, "
            f"masks {some(masks, 2)}{f'; the lists in {where} name {some(listed, 2)}' if listed else ''}"
        )
    annotated = from_pairs(found, options, "VOC / CVAT masks", pairs, find_class_list(found))
    if listed:
        annotated.facts.insert(0, f"splits are those of {where}")
    for reason, paths in missing.items():
        annotated.pass_over(reason, paths)
    annotated.pass_over("masks without a photo", [path for stem, path in sorted(masks.items()) if stem not in photos])
    annotated.pass_over("names in lists without a photo", sorted(listed.keys() - photos.keys()))
    return annotated


def _folders(path: Path) -> list[str]:
    return [part.lower() for part in path.parent.parts]


def _has_splits(found: Found, folder: str) -> bool:
    return any(folder in _folders(path) and split_of(path.parent) for path in found.images)


def _by_name(found: Found, folder: str, divided: bool) -> dict[str, Path]:
    """Return {path below the folder, without suffix: image}. If `divided`, the path begins with the split.

    Raises `DataError` if two images have one name.
    """
    images: dict[str, Path] = {}
    for path in found.images:
        if folder in _folders(path):
            split = [split_of(path.parent) or ""] if divided else []
            below = path.parts[_folders(path).index(folder) + 1 : -1]
            name = normalize("NFC", "/".join([*split, *below, stem_of(path)]))
            if (other := images.setdefault(name, path)) != path:
                raise DataError(f"{other} and {path} in {found.root} have the same name: remove or rename one")
    return images


def _splits(found: Found) -> tuple[dict[str, str], str]:
    """Return {name: split} from the lists called after splits, and their folder. CVAT's default.txt names none."""
    lists = [
        path
        for path in found.files
        if path.suffix.lower() == ".txt" and "imagesets" in _folders(path) and split_of(Path(path.stem))
    ]
    segmentation = [path for path in lists if path.parent.name.lower() == "segmentation"] or lists
    splits: dict[str, str] = {}
    for path in segmentation:
        if path.stem.lower() not in ("trainval", "train_val"):
            for line in read_lines(found.root / path):
                name = Path(re.sub(r".*JPEGImages/", "", line.replace("\\", "/"), flags=re.IGNORECASE))
                name = normalize("NFC", (name.parent / stem_of(name)).as_posix())
                split = split_of(Path(path.stem))
                if splits.setdefault(name, split) != split:
                    raise DataError(f"{found.root / path} and another list of that folder both name {name}")
    return splits, str(segmentation[0].parent) if segmentation else ""
