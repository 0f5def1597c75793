"""Make masks from the regions that labelling tools write."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tqdm import tqdm

from ..cache import in_threads
from ..labels import IGNORE_INDEX, DataError
from ..reader import decoding, describe, open_photo, stored_size, turned_with, upright_size
from .annotated import (
    BACKGROUND,
    MOST_CLASSES,
    REST_IS_BACKGROUND,
    Annotated,
    Drawn,
    File,
    FoundClass,
    Options,
    is_background,
    is_nothing,
)
from .found import EXPORT, count, some
from .regions import ALL, HIDDEN, Region, draw_regions

T = TypeVar("T")
SAMPLE = 200  # at most so many photos that are drawn to see what the order of regions hides
FEW_HIDDEN, MOST_HIDDEN = 4, 0.03  # number and share of regions: if a file's own order hides more, it is no order


@dataclass(frozen=True)
class Sheet:
    """The regions of a photo.

    image    the photo
    regions  in the order of the file
    size     (height, width) that the tool gives; None: the photo's
    where    the annotation file, for messages
    """

    image: File
    regions: Sequence[Region]
    size: tuple[int, int] | None
    where: str

    def draw(self, overlap: str) -> Drawn:
        """Return the upright ids. Raises `DataError` if the photo does not have the size that the tool gives.

        Tools show photos upright and draw on that, so coordinates are those of the upright photo, unless the size that
        the tool gives is that of the stored pixels only.
        """
        image = self.image()
        upright = upright_size(image)
        photo = open_photo(image)
        with decoding(image):
            width, height = stored_size(photo)
        size = self.size or upright
        if size not in (upright, (height, width)):
            raise DataError(
                f"{self.where} says that {describe(image)} has {size[0]}x{size[1]} pixels (height x width), but it has "
                f"{upright[0]}x{upright[1]}: use the photo that was labelled"
            )
        try:
            drawn = draw_regions(self.regions, *size, overlap)
        except DataError as error:
            raise DataError(f"{self.where}: {describe(image)}: {error}; {EXPORT}") from error
        return drawn if size == upright else Drawn(turned_with(drawn.ids, image), drawn.remarks)

    def maker(self, overlap: str) -> Callable[[], Drawn]:
        return lambda: self.draw(overlap)


def number_classes(names: Sequence[str], where: str) -> tuple[dict[str, int], list[FoundClass]]:
    """Return {name: id} and the classes: the background is 0, others follow as listed, ignored ones are 255."""
    names = list(dict.fromkeys(names))
    things = [name for name in names if not is_background(name) and not is_nothing(name)]
    if len(things) > MOST_CLASSES:
        raise DataError(f"{where} names {len(things)} classes: at most {MOST_CLASSES} fit beside the background")
    ids = {name: 0 if is_background(name) else IGNORE_INDEX for name in names}
    ids |= {name: number for number, name in enumerate(things, start=1)}
    background = next((name for name in ids if is_background(name)), BACKGROUND)
    classes = [FoundClass(background.strip("_"), 0, (0, 0, 0))]
    return ids, classes + [FoundClass(name, ids[name]) for name in things]


def left_out(empty: Collection[T], what: str, options: Options, annotated: Annotated) -> set[T]:
    """Return which of the photos without regions are left out. The report says what becomes of them."""
    if options.empty == "leave_out":
        annotated.pass_over(f"photos {what} (--empty leave_out)", empty)
        return {*empty}
    if empty:
        annotated.guesses.append(f"photos {what} are all background: {count(empty)} (--empty leave_out: omit them)")
    return set()


def choose_overlap(sheets: Sequence[Sheet], asked: str | None) -> tuple[str, list[str]]:
    """Return which of overlapping regions is on top, in a file whose order may mean nothing, and what to tell the user.

    It is the later one, unless that hides many regions of a sample of the photos.
    """
    if asked:
        return asked, []

    def remarks(sheet: Sheet) -> Counter:
        try:
            return sheet.draw("later").remarks
        except DataError:
            return Counter()  # it is reported when the mask is made

    sample = sheets[:: -(-len(sheets) // SAMPLE) or 1]
    drawn = in_threads(remarks, sample)
    found = sum(tqdm(drawn, "Looking at overlaps", len(sample), leave=False, disable=None, unit="photo"), Counter())
    hidden, total = found[HIDDEN], found[ALL]
    if hidden <= max(FEW_HIDDEN, MOST_HIDDEN * total):
        return "later", [
            "where regions overlap, the later one in the file is on top (--overlap smaller: the smaller one)"
        ]
    return "smaller", [
        f"where regions overlap, the smaller one is on top: in the file's order, {hidden} of {total} regions would "
        "be hidden (--overlap later: use that order all the same)"
    ]


def explain_rest(ids: dict[str, int]) -> list[str]:
    """Return a line on pixels that no region covers, and one on names that mean no class, if there are any."""
    lines = [f"{REST_IS_BACKGROUND} (if some objects are unlabelled, give --ignore_background)"]
    if ignored := [name for name, value in ids.items() if value == IGNORE_INDEX]:
        lines.append(f"{some(ignored)} means no class: these pixels are ignored (255)")
    return lines
