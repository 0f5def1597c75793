"""The contract between the files that read a kind of annotation and the one that writes the canonical folder."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from ..labels import DataError

BACKGROUND = "background"
BACKGROUNDS = {"background", "_background_", "__background__", "bg"}  # what tools call pixels that no region covers
NOTHING = {"__ignore__", "ignore", "ignored", "void", "unlabeled", "unlabelled", "undefined"}  # of no class
REST_IS_BACKGROUND = "pixels that no region covers are background"  # a guess, unless id 0 is ignored
GIVE_NAMES = "give the classes names"  # what a guess asks for that a corrected classes.yaml has settled
MOST_CLASSES = 254  # beside the background: 255 marks ignored pixels


class BadFiles(DataError):
    """Files that cannot be used.

    lines   a message for each
    unread  whether the photos were not read yet, so that there may be more
    """

    def __init__(self, lines: Iterable[str], unread: bool = True):
        self.lines = list(dict.fromkeys(lines))
        self.unread = unread
        super().__init__("; ".join(self.lines))


# Reads {"path", "bytes"} when it is needed; bytes are None if the image is a file.
File = Callable[[], dict]


@dataclass(frozen=True)
class Options:
    """What the user decided. None: not said.

    overlap        which of two overlapping regions is on top, a key of `regions.OVERLAPS`
    empty          what a photo without annotations is, "background" or "leave_out"
    mask_values    how mask files hold their classes, one of `encoding.FORMS`
    image_column   names of the columns of a `datasets` data set
    label_column
    """

    overlap: str | None = None
    empty: str | None = None
    mask_values: str | None = None
    image_column: str | None = None
    label_column: str | None = None


@dataclass(frozen=True)
class FoundClass:
    """A class and the id that `Item.mask` gives it. `color` None: a default colour."""

    name: str
    id: int
    color: tuple[int, int, int] | None = None
    ignored: bool = False  # these pixels belong to no class


@dataclass(frozen=True)
class Drawn:
    """Upright ids of a photo, uint8 (H, W), and what happened when they were made: {text: count}."""

    ids: np.ndarray
    remarks: Counter = field(default_factory=Counter)


@dataclass(frozen=True)
class Item:
    """A photo and how to make its mask.

    name   the photo's path relative to the source, with suffix, with slashes
    split  "train", "val", "test", or None if the source has no splits
    image  the photo
    mask   makes the ids; raises DataError, with the file's name, if that fails. None: a test photo without labels
    """

    name: str
    split: str | None
    image: File
    mask: Callable[[], Drawn] | None


@dataclass
class Annotated:
    """All that a source holds.

    kind         what it is, in a few words
    items        photos with their masks, in the order of their names
    classes      in the order of their ids, which are different; two of the same name become one class
    facts        what was found, one line each
    guesses      what the user should check, one line each
    passed_over  {reason: names of files or classes}
    errors       one line for each file that cannot be used
    licence      of the photos, if the source states one
    """

    kind: str
    items: list[Item]
    classes: list[FoundClass]
    facts: list[str] = field(default_factory=list)
    guesses: list[str] = field(default_factory=list)
    passed_over: dict[str, list[str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    licence: str | None = None

    def pass_over(self, reason: str, names: Iterable[object]) -> None:
        """Add names to those that are passed over for a reason, if there are any."""
        if names := [str(name) for name in names]:
            self.passed_over.setdefault(reason, []).extend(names)

    def refuse_bad(self) -> None:
        """Raise `BadFiles` if there are bad files: a reader that found nothing else calls it first."""
        if self.errors:
            raise BadFiles(self.errors)


def as_file(path: object) -> File:
    return lambda: {"path": str(path), "bytes": None}


def is_background(name: str) -> bool:
    return name.strip().lower() in BACKGROUNDS


def is_nothing(name: str) -> bool:
    return name.strip().lower() in NOTHING
