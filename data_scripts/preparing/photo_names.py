"""Find the photos that annotation files name. Their paths are often those of another computer."""

from collections.abc import Sequence
from dataclasses import dataclass
from os.path import normpath
from pathlib import Path

from .found import Found, path_keys, split_of


@dataclass(frozen=True)
class _Match:
    """The photos that a name may mean: one, or several that it does not tell apart, or none.

    name    the parts of the path, as keys
    ending  how many of its last parts are found
    photos  relative paths
    """

    name: tuple[str, ...]
    ending: int
    photos: list[Path]


def find_photos(found: Found, names: Sequence[tuple[str, Path]]) -> list[list[Path]]:
    """Return the photos that each (name, annotation file) may mean. None: missing. Several: not told apart.

    A name is a path relative to its file's folder or to the source. Else the longest ending of it that is found counts.
    Case and Unicode form do not count.
    """
    return [_match(found, Path(normpath(name.replace("\\", "/").lstrip("/"))), file).photos for name, file in names]


def _match(found: Found, path: Path, file: Path) -> _Match:
    name = path_keys(path)
    endings = [("", *path_keys(file.parent / path)), ("", *name)]  # "": the whole path of a photo
    endings += [name[start:] for start in range(len(name))]
    ending = next((ending for ending in endings if ending in found.by_ending), ())
    length = len(name) if ending[:1] == ("",) else len(ending)
    photos = found.by_ending.get(ending, [])
    split = split_of(file.with_suffix(""))
    for fits in (
        lambda photo: photo.parts[-length:] == path.parts[-length:],
        lambda photo: file.parent in photo.parents,
        lambda photo: split_of(photo.parent) == split,
    ):
        if len(photos) > 1:
            photos = [photo for photo in photos if fits(photo)] or photos
    return _Match(name, length, photos)
