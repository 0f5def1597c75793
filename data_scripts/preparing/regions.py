"""Turn the regions that people draw (polygons, boxes, circles, lines, run lengths) into pixels.

A pixel belongs to a region if its centre lies inside: pixel (column, row) has its centre at (column + 0.5, row + 0.5)
of the coordinates that tools write, whose origin is the corner of the image. Tools differ here by up to half a pixel at
the border. Parts outside the image are cut off.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from ..labels import DataError
from .annotated import Drawn

OVERLAPS = ("later", "smaller")  # which region is on top: the later one of the file, or the smaller one
LEAST_SEEN = 0.05  # a region of which others leave a smaller share is counted as hidden
HIDDEN, OUTSIDE, ALL = (
    "regions that others on top hide",
    "regions that cover no pixel's centre or lie outside their photo",
    "all regions",
)
FAR = 1e7  # pixels: coordinates beyond it are cut, so that they cannot overflow
PART, MOST_PARTS = 64, 1000  # pixels of a part of a line, and parts of a line, which may leave the image
Patch = tuple[int, int, np.ndarray]  # row and column of the upper left pixel, and bool (h, w)
Shape = Callable[[int, int], Patch]  # from height and width of the image


@dataclass(frozen=True)
class Region:
    """A region of a photo with the id of its class."""

    id: int
    shape: Shape


def points_of(numbers: object) -> np.ndarray:
    """Return points (N, 2) from [x, y, x, y, ...] or [[x, y], ...]. Raises `ValueError` for anything else."""
    try:
        array = np.array(numbers, float)
    except (TypeError, ValueError):
        array = np.zeros(())
    if array.ndim == 2 and array.shape[1] == 2:
        return array
    if array.ndim != 1 or len(array) % 2:
        raise ValueError(f"{numbers!r:.60} is no list of points x, y")
    return array.reshape(-1, 2)


def polygon(rings: Sequence[np.ndarray]) -> Shape:
    """Return the union of polygons (N, 2) of x and y. Each is filled by the even-odd rule.

    This and all other shapes raise `ValueError` if a coordinate is not a finite number.
    """

    rings = [np.clip(_finite(ring), -FAR, FAR) for ring in rings]

    def draw(height: int, width: int) -> Patch:
        ends = np.concatenate(rings)
        top, left, bottom, right = _box(ends.min(0), ends.max(0), height, width)
        inside = np.zeros((bottom - top, right - left), bool)
        for ring in rings:
            inside |= _fill(ring - (left, top), *inside.shape)
        return top, left, inside

    return draw


def _fill(ring: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return which pixel centres lie in a polygon, bool (height, width).

    Each edge switches, in every row that it crosses at the height of the centres, all pixels to its right.
    """
    x0, y0 = ring.T
    x1, y1 = np.roll(ring, -1, axis=0).T
    first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), 0, height).astype(np.int64)
    edge = np.repeat(np.arange(len(ring)), last - first)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(last - first) - last, last - first)
    slope = np.divide(x1 - x0, y1 - y0, out=np.zeros(len(ring)), where=y1 != y0)
    x = x0[edge] + (row + 0.5 - y0[edge]) * slope[edge]
    column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
    switches = np.bincount(row * (width + 1) + column, minlength=height * (width + 1)).reshape(height, width + 1)
    return np.cumsum(switches[:, :width] & 1, axis=1, dtype=np.uint8) & 1 == 1


def _finite(numbers: object) -> np.ndarray:
    """Return numbers as an array. Raises `ValueError` if one is none, or infinite."""
    array = np.asarray(numbers, float)
    if not np.isfinite(array).all():
        raise ValueError("a coordinate is not a number")
    return array


def rectangle(x: float, y: float, width: float, height: float, degrees: float = 0) -> Shape:
    """Return a box with its upper left corner at (x, y), turned clockwise about that corner."""
    x, y, width, height, degrees = _finite([x, y, width, height, degrees]).tolist()
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], float)
    return polygon([corners @ _turn(degrees) + (x, y)])


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0) -> Shape:
    """Return an ellipse about (x, y), turned clockwise."""
    x, y, radius_x, radius_y, degrees = _finite([x, y, radius_x, radius_y, degrees]).tolist()

    def inside(points: np.ndarray) -> np.ndarray:
        flat = (points - (x, y)) @ _turn(degrees).T / (max(radius_x, 1e-9), max(radius_y, 1e-9))
        return (flat**2).sum(-1) <= 1

    reach = max(radius_x, radius_y)
    return _where(inside, (x - reach, y - reach), (x + reach, y + reach))


def line(points: np.ndarray, width: float) -> Shape:
    """Return what lies within width / 2 of a line through the points (N, 2). One point gives a disc.

    Only pixels in the boxes of short parts of the line are tested: the box of a whole line may be the image.
    """
    points = _finite(points)
    starts, ends = (points[:-1], points[1:]) if len(points) > 1 else (points, points)
    reach = width / 2

    def draw(height: int, width: int) -> Patch:
        top, left, bottom, right = _box(points.min(0) - reach, points.max(0) + reach, height, width)
        near = np.zeros((bottom - top, right - left), bool)
        for start, end in zip(starts, ends, strict=True):
            step = end - start
            for one, other in _parts(start, end):
                y0, x0, y1, x1 = _box(np.minimum(one, other) - reach, np.maximum(one, other) + reach, height, width)
                away = _centres(y0, x0, y1, x1) - start
                along = np.clip(away @ step / max(step @ step, 1e-12), 0, 1)
                within = ((away - along[..., None] * step) ** 2).sum(-1) <= reach**2
                near[y0 - top : y1 - top, x0 - left : x1 - left] |= within
        return top, left, near

    return draw


def _parts(start: np.ndarray, end: np.ndarray) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Return the ends (2,) of the parts into which a line is cut, each of at most `PART` pixels in x and y."""
    number = np.clip(np.ceil(np.abs(end - start).max() / PART), 1, MOST_PARTS)
    share = np.linspace(0, 1, int(number) + 1)[:, None]
    return pairwise(np.clip(start * (1 - share) + end * share, np.minimum(start, end), np.maximum(start, end)))


def _centres(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    """Return x and y of the centres of the pixels in a box, float64 (h, w, 2)."""
    rows, columns = np.mgrid[top:bottom, left:right] + 0.5
    return np.stack([columns, rows], axis=-1)


def pixels(decode: Callable[[], np.ndarray], left: float = 0, top: float = 0, whole: bool = False) -> Shape:
    """Return pixels that are stored as such. `decode` gives bool (h, w), placed at (left, top), rounded down.

    With `whole`, drawing raises `DataError` if they have another size than the image.
    """
    left, top = np.floor(np.clip(_finite([left, top]), -FAR, FAR)).astype(int).tolist()

    def draw(height: int, width: int) -> Patch:
        mask = decode()
        if whole and mask.shape != (height, width):
            raise DataError(f"a region of {mask.shape[0]}x{mask.shape[1]} pixels on an image of {height}x{width}")
        y, x = max(-top, 0), max(-left, 0)
        inside = np.ascontiguousarray(mask[y : max(height - top, 0), x : max(width - left, 0)])
        if not inside.any():
            return 0, 0, np.zeros((0, 0), bool)
        # A small region is often stored as a whole image: keep only its box, because a photo may have hundreds.
        column, row, wide, high = cv2.boundingRect(inside.view(np.uint8))
        box = inside[row : row + high, column : column + wide].copy()
        return max(top, 0) + row, max(left, 0) + column, box

    return draw


def _where(inside: Callable[[np.ndarray], np.ndarray], low: Sequence[float], high: Sequence[float]) -> Shape:
    """Return the shape of the pixel centres, (h, w, 2) of x and y, for which `inside` is true."""

    def draw(height: int, width: int) -> Patch:
        box = _box(low, high, height, width)
        return *box[:2], inside(_centres(*box))

    return draw


def _box(low: Sequence[float], high: Sequence[float], height: int, width: int) -> tuple[int, int, int, int]:
    """Return (top, left, bottom, right) of the pixels between two corners, cut at the image."""
    left, right = np.clip([np.floor(low[0]), np.ceil(high[0])], 0, width).astype(int).tolist()
    top, bottom = np.clip([np.floor(low[1]), np.ceil(high[1])], 0, height).astype(int).tolist()
    return top, left, bottom, right


def _turn(degrees: float) -> np.ndarray:
    cosine = np.cos(np.radians(degrees))
    sine = np.sin(np.radians(degrees))
    return np.array([(cosine, sine), (-sine, cosine)])


def draw_regions(regions: Sequence[Region], height: int, width: int, overlap: str) -> Drawn:
    """Return the ids of regions drawn in order. Under "smaller", larger ones are drawn first."""
    patches = [(region.id, region.shape(height, width)) for region in regions]
    if overlap == "smaller":
        patches.sort(key=lambda drawn: -np.count_nonzero(drawn[1][2]))  # stable: of equal ones, the later is on top
    ids = np.zeros((height, width), np.uint8)
    owner = np.full((height, width), -1, np.int32)
    for number, (value, (top, left, inside)) in enumerate(patches):
        place = np.s_[top : top + inside.shape[0], left : left + inside.shape[1]]
        ids[place][inside] = value
        owner[place][inside] = number
    drawn = np.array([np.count_nonzero(patch[2]) for _, patch in patches], np.int64)
    seen = np.bincount(owner[owner >= 0], minlength=len(patches))[: len(patches)]
    remarks = Counter(
        {
            OUTSIDE: int((drawn == 0).sum()),
            HIDDEN: int(((drawn > 0) & (seen < LEAST_SEEN * drawn)).sum()),
            ALL: len(patches),
        }
    )
    return Drawn(ids, +remarks)
