"""Decide which colours of masks are classes, and which are blends of others or noise."""

from collections.abc import Sequence

import numpy as np

from .class_lists import Color
from .scanning import Scan

NEAR = 40  # a lossy colour differs from its class's by at most so much in each channel
ON_LINE = 6  # a blend differs from the line between two colours by at most so much in each channel
FEW = 4  # so many different blends are needed to call masks smoothed
RARE = 0.001  # share of the pixels: colours of lossy masks below it are no classes


def class_colors(whole: Scan, exact: Scan, given: Sequence[int] = ()) -> tuple[list[int], bool]:
    """Return the colours that are classes, sorted, and whether others are blends. `given` ones always are classes.

    `exact` holds the lossless masks alone if few others are among them, else it is `whole`.

    In lossless masks every colour is a class, unless it lies between two that are and fills no square of 3x3 pixels
    (or, beside `given` ones, is rare). In lossy ones, a colour is a class if it is frequent and not near a class of the
    lossless ones or a more frequent one.
    """
    if whole.lossy:
        return frequent(whole, given if exact.lossy else class_colors(exact, exact, given)[0]), True
    rare = RARE * sum(whole.counts.values()) if given else 0
    filling = {color for color in whole.flat & {*whole.counts} if whole.counts[color] >= rare}
    sure = sorted({*given} | filling)
    others = sorted({*whole.counts} - {*sure})
    blends = [color for color in others if _between(color, sure)] if len(sure) > 1 else []
    if len(blends) < FEW:
        return sorted({*sure, *others}), False
    return sorted({*sure, *others} - {*blends}), True


def frequent(whole: Scan, given: Sequence[int]) -> list[int]:
    """Return the given colours, and those around which a share of `RARE` of the pixels lies, sorted."""
    colors, pixels = np.array(list(whole.counts)), np.array(list(whole.counts.values()))
    table = channels(colors)
    centres = list(given)
    for color in sorted(whole.flat & {*whole.counts}, key=lambda color: (-whole.counts[color], color)):
        if all(_distance(color, centre) > NEAR for centre in centres):
            near = np.abs(table - rgb(color)).max(1) <= NEAR
            if pixels[near].sum() >= RARE * pixels.sum():
                centres.append(color)
    return sorted(centres)


def _between(color: int, ends: Sequence[int]) -> bool:
    """Return whether a colour lies on a line between two others."""
    point, table = np.array(rgb(color), float), np.array([rgb(end) for end in ends], float)
    for start in table:
        steps = table - start
        length = (steps**2).sum(1)
        share = np.divide(steps @ (point - start), length, out=np.zeros(len(steps)), where=length > 0)
        off = np.abs(start + share[:, None] * steps - point).max(1)
        if ((share > 0) & (share < 1) & (off <= ON_LINE)).any():
            return True
    return False


def channels(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.int64)
    return np.stack([values >> 16, values >> 8 & 255, values & 255], axis=-1)


def rgb(value: int) -> Color:
    return value >> 16, value >> 8 & 255, value & 255


def packed(color: Color) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def _distance(one: int, two: int) -> int:
    return max(abs(a - b) for a, b in zip(rgb(one), rgb(two), strict=True))
