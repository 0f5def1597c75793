"""Find the photos that annotation files name. Their paths are often those of another computer."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from os.path import normpath
from pathlib import Path

from .found import Found, path_keys, split_of


@dataclass(frozen=True)
class _Match:
    """The photos that a name may mean: one, or several that it does not tell apart, or none.

    name    the parts of the path, as keys
    ending  how many of its last parts are found
    exact   whether the path is that of the photos, from its file's folder or from the source
    below   whether the photos lie below the file's folder
    photos  relative paths
    """

    name: tuple[str, ...]
    ending: int
    exact: bool
    below: bool
    photos: list[Path]

    @property
    def beginning(self) -> tuple[str, ...]:
        """Return the folders that are not found."""
        return self.name[: len(self.name) - self.ending]


def find_photos(found: Found, names: Sequence[tuple[str, Path]]) -> list[list[Path]]:
    """Return the photos that each (name, annotation file) may mean. None: missing. Several: not told apart.

    A name is a path relative to its file's folder or to the source. Else the longest ending of it that is found counts.
    Case and Unicode form do not count.

    The names belong together: one that is found can show that the photo of another is missing, although another folder
    has a photo of that name. Two names never get one photo, unless both lead exactly there.
    """
    matches = [_match(found, Path(normpath(name.replace("\\", "/").lstrip("/"))), file) for name, file in names]
    below = [match for match in matches if match.below and match.photos]
    beside = any(match.exact for match in below) and 2 * len(below) >= len(matches)
    told = {match.beginning for match in matches if match.photos and (match.ending > 1 or not match.beginning)}
    matches = [
        replace(match, photos=[]) if not match.exact and _is_elsewhere(match, beside, told) else match
        for match in matches
    ]
    claims: dict[Path, dict[tuple[str, ...], float]] = defaultdict(dict)
    for match in matches:
        for photo in match.photos if len(match.photos) == 1 else ():
            claims[photo][match.name] = inf if match.exact else match.ending
    return [match.photos if _is_first(match, claims) else [] for match in matches]


def _is_elsewhere(match: _Match, beside: bool, told: set[tuple[str, ...]]) -> bool:
    """Return whether the photo of a name is missing, although another folder has one that is called so.

    beside  whether half of the photos or more lie below the folder of their file, and one where its name says
    told    beginnings of names whose folders are found: what follows them must be found as a whole
    """
    if beside and not match.below:
        return True
    if match.ending == 1 and match.beginning:  # the last name alone
        return bool(told)
    return any(match.beginning[:length] in told for length in range(len(match.beginning)))


def _is_first(match: _Match, claims: dict[Path, dict[tuple[str, ...], float]]) -> bool:
    """Return whether no other name has a claim to the photo of a name that is as good.

    claims  {photo: {name: length of its ending}}
    """
    if match.exact or len(match.photos) != 1:
        return True
    return all(match.ending > claim for name, claim in claims[match.photos[0]].items() if name != match.name)


def _match(found: Found, path: Path, file: Path) -> _Match:
    name = path_keys(path)
    endings = [("", *path_keys(file.parent / path)), ("", *name)]  # "": the whole path of a photo
    endings += [name[start:] for start in range(len(name))]
    ending = next((ending for ending in endings if ending in found.by_ending), ())
    exact = ending[:1] == ("",)
    length = len(name) if exact else len(ending)
    photos = found.by_ending.get(ending, [])
    split = split_of(file.with_suffix(""))
    for fits in (
        lambda photo: photo.parts[-length:] == path.parts[-length:],
        lambda photo: file.parent in photo.parents,
        lambda photo: split_of(photo.parent) == split,
    ):
        if len(photos) > 1:
            photos = [photo for photo in photos if fits(photo)] or photos
    return _Match(name, length, exact, all(file.parent in photo.parents for photo in photos), photos)
