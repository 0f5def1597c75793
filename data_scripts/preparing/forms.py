"""Tell what the values in masks are: class ids, grey levels or colours, and whether a JPEG has blurred them.

All masks are judged together, by the values in their `Scan` and by the list of classes that the source has.
"""

from collections.abc import Sequence

import numpy as np

from ..labels import IGNORE_INDEX
from .annotated import is_background, is_nothing
from .class_colors import FEW, NEAR, channels, frequent, packed, rgb
from .class_lists import ClassList
from .scanning import Scan, as_colors, as_table

UNEVEN = 3  # levels differ from an even division of 0 to 255 by at most so much
MANY_LEVELS, MANY_COLORS = 17, 65  # so many grey levels or colours may be the noise of a JPEG
MOST_BLENDS = 0.2  # share of a mask's pixels


def is_noisy(whole: Scan, listed: ClassList | None) -> bool:
    """Return whether lossless masks look like former JPEGs: many values, most of the pixels near a few of them."""
    if whole.form == "palette" or listed and not listed.colors:
        return False
    colors = as_colors(whole)
    given = [packed(color) for color in listed.colors.values()] if listed else []
    if len(colors.counts.keys() - {*given}) < (MANY_LEVELS if whole.form == "grey" else MANY_COLORS):
        return False
    centres = frequent(colors, given)
    if not centres:
        return False
    table = channels(np.array(list(colors.counts)))
    pixels = np.array(list(colors.counts.values()))
    near = np.min([np.abs(table - rgb(centre)).max(1) for centre in centres], axis=0) <= NEAR
    few = 4 * len(centres) <= len(table) and pixels[near].sum() >= (1 - MOST_BLENDS) * pixels.sum()
    return few and (whole.form == "colour" or bool(given) or _are_even([centre & 255 for centre in centres]))


def are_colors(whole: Scan, listed: ClassList | None) -> bool:
    """Return whether the values of masks are colours, not ids.

    Files in colours hold colours. Values of grey and palette files are colours if a palette gives an index the colour
    of another class, or if every grey level is a listed colour. Otherwise they are ids if all of them are listed ids.
    If not, they are what more pixels have: listed colours or listed ids.
    """
    if whole.form == "colour" or listed is None or not listed.colors:
        return whole.form == "colour"
    if of_another_class(whole, listed):
        return True
    table = as_table(whole)
    given = {packed(color) for color in listed.colors.values()}
    colored = {value for value in whole.counts if table.get(value, 0) in given}
    if whole.form == "grey" and colored == {*whole.counts}:
        return True
    if {*whole.counts} <= {*listed.names, IGNORE_INDEX}:
        return False
    return whole.pixels(colored) > whole.pixels(listed.names)


def of_another_class(whole: Scan, listed: ClassList | None) -> tuple[int, str] | None:
    """Return an index whose colour in the palette is that of another class, and the class, if there is one.

    Also None if the list lacks the colour of an index, because the palette then says nothing about the classes. Index
    255 is not compared: it is ignored, and many palettes are black there.
    """
    if whole.form != "palette" or listed is None:
        return None
    table = as_table(whole)
    names = {packed(color): listed.names[number] for number, color in listed.colors.items()}
    values = sorted(whole.counts.keys() - {IGNORE_INDEX})
    if not all(table[value] in names for value in values):
        return None
    shown = ((value, names[table[value]]) for value in values)
    return next(((value, name) for value, name in shown if name != listed.names.get(value)), None)


def starts_at_one(listed: ClassList, values: list[int]) -> bool:
    """Return whether a list of names without ids leaves out the background, id 0.

    Then it has no name for the largest id of the masks, which hold 0 or begin at 1.
    """
    ids = [value for value in values if value != IGNORE_INDEX]
    named = any(is_background(name) or is_nothing(name) for name in listed.names.values())
    return not (named or listed.numbered) and bool(ids) and ids[0] in (0, 1) and ids[-1] == len(listed.names)


def are_levels(whole: Scan, listed: ClassList | None) -> bool:
    """Return whether grey values are levels such as 0 and 255, and not ids: all, or all that fill areas, are even."""
    values, sure = sorted(whole.counts), sorted(whole.flat & {*whole.counts})
    several = len({*values} - {IGNORE_INDEX}) > 1  # 0 and 255 would be one class and ignored pixels
    named = listed and {*values} <= {*listed.names, *([IGNORE_INDEX] if several else [])}
    if whole.form != "grey" or named:
        return False
    return (
        whole.lossy
        or values == [IGNORE_INDEX]
        or _are_even(values)
        or _are_even(sure)
        and len(values) >= len(sure) + FEW
    )


def _are_even(values: Sequence[int]) -> bool:
    """Return whether values divide 0 to 255 evenly."""
    if len(values) < 2 or len(values) > IGNORE_INDEX // (2 * UNEVEN + 2):
        return False
    return np.abs(np.linspace(0, IGNORE_INDEX, len(values)) - values).max() <= UNEVEN
