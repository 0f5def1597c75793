"""Pascal VOC's layout, which CVAT and labelme export: JPEGImages, SegmentationClass, ImageSets/Segmentation."""

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
    masks, photos = _by_name(found, MASKS), _by_name(found, PHOTOS)
    splits, where = _splits(found)
    test_has_masks = any(stem in masks for stem, split in splits.items() if split == "test")
    pairs, missing = [], defaultdict(list)
    for stem, photo in sorted(photos.items()):
        if stem not in masks and (splits.get(stem) != "test" or test_has_masks):
            missing["photos without a mask"].append(photo)
        elif splits and stem not in splits:
            missing[f"photos in no list of {where}"].append(photo)
        else:
            pairs.append(Pair(photo, masks.get(stem), splits.get(stem)))
    if not any(pair.mask for pair in pairs):
        raise DataError(
            f"no photo of {found.root} has a mask of its name in SegmentationClass: photos are {some(photos, 2)}, "
            f"masks {some(masks, 2)}{f'; the lists in {where} name {some(splits, 2)}' if splits else ''}"
        )
    annotated = from_pairs(found, options, "VOC / CVAT masks", pairs, find_class_list(found))
    if splits:
        annotated.facts.insert(0, f"splits are those of {where}")
    for reason, paths in missing.items():
        annotated.pass_over(reason, paths)
    annotated.pass_over("masks without a photo", [path for stem, path in sorted(masks.items()) if stem not in photos])
    annotated.pass_over("names in lists without a photo", sorted(splits.keys() - photos.keys()))
    return annotated


def _folders(path: Path) -> list[str]:
    return [part.lower() for part in path.parent.parts]


def _by_name(found: Found, folder: str) -> dict[str, Path]:
    """Return {path below the folder, without suffix: image}. Raises `DataError` if two images have one name."""
    images: dict[str, Path] = {}
    for path in found.images:
        if folder in _folders(path):
            below = path.parts[_folders(path).index(folder) + 1 : -1]
            if (other := images.setdefault(normalize("NFC", "/".join([*below, stem_of(path)])), path)) != path:
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
