"""Read the values of mask files, and count those of one mask or of many."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..labels import DataError
from ..reader import (
    LABEL_MODES,
    decoding,
    describe,
    open_image,
    orientation,
    packed_colors,
    palette_of,
    read_image,
    read_mask_ids,
    turned_with,
    upright,
    upright_size,
)


@dataclass(frozen=True)
class Scan:
    """The values of one mask, or of several.

    form     "palette", "grey" or "colour"
    counts   {value: pixels}; values are ids, or colours as 0xRRGGBB
    flat     values that fill at least one square of 3x3 pixels
    palette  {index: colour} of a palette; of several masks, it may lack the values of grey ones
    jpeg     the first file that is a JPEG, or ""
    lossy    whether there is one, or a file looks as if it had been one
    clear    whether a file has transparent pixels, which count as black
    """

    form: str
    counts: dict[int, int]
    flat: frozenset[int]
    palette: dict[int, int] | None = None
    jpeg: str = ""
    lossy: bool = False
    clear: bool = False

    def pixels(self, values: Iterable[int]) -> int:
        """Return the number of pixels with one of these values."""
        return sum(self.counts.get(value, 0) for value in values)


def read_values(mask: dict, image: dict | None, in_colors: bool) -> tuple[np.ndarray, str]:
    """Return the values of a mask, upright like its photo, and their form: "palette", "grey" or "colour".

    Values are ids, uint16 (H, W), or if the file has colours or `in_colors` is true, 0xRRGGBB, uint32 (H, W).
    """
    opened = open_image(mask, "mask")
    lossy = opened.format in ("JPEG", "MPO")
    if opened.mode in LABEL_MODES and not lossy:
        palette = palette_of(opened)
        form = "palette" if palette else "grey"
        ids = read_mask_ids(mask, image)
        if not in_colors:
            return ids, form
        table = np.minimum(np.arange(65536), 255).astype(np.uint32) * 0x010101  # as in `as_table`
        table[list(palette)] = list(palette.values())
        return table[ids], form
    with decoding(mask, "mask"):
        own = orientation(opened)
    pixels = read_image(mask, "mask")
    if "A" in opened.mode:
        pixels = np.where(_alpha(mask)[..., None] > 0, pixels, 0)
    colors = packed_colors(pixels)
    return turned_with(colors, image) if own == 1 else colors, "colour"


def _alpha(mask: dict) -> np.ndarray:
    with decoding(mask, "mask"):
        image = open_image(mask, "mask")
        return upright(image.convert("RGBA").getchannel("A"), image)


def scan(mask: dict, image: dict) -> Scan:
    """Return the values of a mask. Raises `DataError` if it cannot be read or has another size than its photo."""
    values, form = read_values(mask, image, False)
    if values.shape != (size := upright_size(image)):
        raise DataError(
            f"mask {describe(mask)} is {values.shape[0]}x{values.shape[1]} (height x width), but its photo "
            f"{describe(image)} is {size[0]}x{size[1]}: use the photo that was labelled, or export the mask at its size"
        )
    counts = _count(values.ravel())
    flat = frozenset(_flat(values))
    opened = open_image(mask, "mask")
    jpeg = describe(mask) if opened.format in ("JPEG", "MPO") else ""
    clear = "A" in opened.mode and not _alpha(mask).all()
    palette = None
    if form == "palette":
        palette = dict.fromkeys(counts, 0) | palette_of(opened)
    if form == "colour" and all(value % 0x010101 == 0 for value in counts):
        form = "grey"
        flat = frozenset(value & 255 for value in flat)
        counts = {value & 255: number for value, number in counts.items()}
    return Scan(form, counts, flat, palette, jpeg, bool(jpeg), clear)


def _count(values: np.ndarray) -> dict[int, int]:
    """Count values by their runs, which are few in a mask."""
    if not len(values):
        return {}
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    lengths = np.diff(np.append(starts, len(values)))
    found, place = np.unique(values[starts], return_inverse=True)
    return dict(zip(found.tolist(), np.bincount(place.ravel(), lengths).astype(np.int64).tolist(), strict=True))


def _flat(values: np.ndarray) -> list[int]:
    """Return the values that fill at least one square of 3x3 pixels."""
    if min(values.shape) < 3:
        return np.unique(values).tolist()
    rows = (values[:, 1:-1] == values[:, :-2]) & (values[:, 1:-1] == values[:, 2:])
    middle = values[1:-1, 1:-1]
    columns = (middle == values[:-2, 1:-1]) & (middle == values[2:, 1:-1])
    return list(_count(middle[rows[:-2] & rows[1:-1] & rows[2:] & columns]))


def total(scans: Sequence[Scan]) -> Scan:
    """Return the values of all masks together. Palettes that differ, or mixed forms, become colours."""
    forms = {found.form for found in scans}
    palette: dict[int, int] = {}
    for found in scans:
        for index in found.counts.keys() & (found.palette or {}).keys():
            if palette.setdefault(index, found.palette[index]) != found.palette[index]:
                forms.add("colour")
    if "colour" in forms and forms != {"colour"}:
        scans = [as_colors(found) for found in scans]
        forms = {"colour"}
    counts: Counter = Counter()
    for found in scans:
        counts.update(found.counts)
    palette = next((found.palette for found in scans if found.palette), {}) | palette
    form = "palette" if "palette" in forms else forms.pop()
    flat = frozenset().union(*(found.flat for found in scans))
    jpeg = next((found.jpeg for found in scans if found.jpeg), "")
    lossy, clear = any(found.lossy for found in scans), any(found.clear for found in scans)
    return Scan(form, dict(counts), flat, palette or None, jpeg, lossy, clear)


def as_table(found: Scan) -> dict[int, int]:
    """Return {value: 0xRRGGBB} of a palette, and of grey values."""
    return {value: min(value, 255) * 0x010101 for value in found.counts} | (found.palette or {})


def as_colors(found: Scan) -> Scan:
    if found.form == "colour":
        return found
    table = as_table(found)
    counts = Counter()
    for value, number in found.counts.items():
        counts[table.get(value, 0)] += number
    flat = frozenset(table.get(value, 0) for value in found.flat)
    return Scan("colour", dict(counts), flat, None, found.jpeg, found.lossy, found.clear)
