"""Mask files beside or apart from their photos."""

from collections.abc import Callable
from pathlib import Path

from .annotated import Annotated, Drawn, File, Item, Options, as_file
from .class_lists import ClassList, cityscapes_list, cityscapes_train_list, find_class_list
from .encoding import Encoding, understand
from .found import Found, some, split_of
from .pairing import Pair, pair

READS = ("mask_values",)


def looks_like(found: Found) -> bool:
    return len(found.images) > 0


def read(found: Found, options: Options) -> Annotated:
    pairs = pair(found)
    listed = find_class_list(found)
    if listed is None and any(_is_cityscapes(one.mask) for one in pairs.pairs if one.mask):
        listed = cityscapes_list("Cityscapes' list of label ids")
    if listed is None and any(_are_train_ids(one.mask) for one in pairs.pairs if one.mask):
        listed = cityscapes_train_list("Cityscapes' list of training ids")
    annotated = from_pairs(found, options, "mask files", pairs.pairs, listed)
    annotated.facts.insert(0, pairs.how)
    annotated.guesses += pairs.guesses
    lists = [path for path in found.files if path.suffix.lower() == ".txt" and split_of(Path(path.stem))]
    if lists and not any(one.split for one in pairs.pairs):
        annotated.guesses.append(
            f"{some(lists)} name a split, but are not used: put photos and masks into folders train and val"
        )
    for reason, paths in pairs.passed_over.items():
        annotated.pass_over(reason, paths)
    return annotated


def _is_cityscapes(mask: Path) -> bool:
    """Return whether a mask has a name of Cityscapes, or the folder of KITTI's, which has the same ids."""
    return mask.stem.lower().endswith("gtfine_labelids") or mask.parts[-3:-1] == ("training", "semantic")


def _are_train_ids(mask: Path) -> bool:
    return mask.stem.lower().endswith("gtfine_labeltrainids")


def from_pairs(found: Found, options: Options, kind: str, pairs: list[Pair], listed: ClassList | None) -> Annotated:
    """Return what pairs of photos and mask files hold, with the classes of a list, if there is one."""
    files = [
        (one.photo.as_posix(), one.split, as_file(found.root / one.photo), one.mask and as_file(found.root / one.mask))
        for one in pairs
    ]
    return from_files(options, kind, files, listed)


def from_files(
    options: Options, kind: str, files: list[tuple[str, str | None, File, File | None]], listed: ClassList | None
) -> Annotated:
    """Return what rows of (name, split, photo, mask or None) hold."""
    labelled = [(image, mask) for _, _, image, mask in files if mask]
    encoding, errors = understand(
        [mask for _, mask in labelled], [image for image, _ in labelled], listed, options.mask_values
    )
    bad = {id(mask): error for (_, mask), error in zip(labelled, errors, strict=True) if error}
    annotated = Annotated(kind, [], [], errors=list(bad.values()))
    annotated.classes, annotated.guesses = encoding.classes, encoding.guesses
    annotated.facts = encoding.facts + ([f"classes are those of {listed.where}"] if listed else [])
    annotated.items = [
        Item(name, split, image, _maker(encoding, mask, image) if mask else None)
        for name, split, image, mask in files
        if id(mask) not in bad
    ]
    return annotated


def _maker(encoding: Encoding, mask: File, image: File) -> Callable[[], Drawn]:
    return lambda: encoding.decode(mask(), image())
