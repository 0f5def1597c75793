"""Decode run lengths: COCO's, compressed or not, and Label Studio's."""

import numpy as np

from ..labels import DataError


def decode_coco(rle: dict) -> np.ndarray:
    """Return the pixels of {"size": [H, W], "counts": ...}, bool (H, W).

    `counts` are lengths of runs of zeros and ones in turn, down the columns: a list, or a string in COCO's compressed
    form (see `coco_counts`). Raises `DataError` if they do not fill the size.
    """
    try:
        height, width = (int(side) for side in rle["size"])
        counts = rle["counts"]
        counts = np.array(coco_counts(counts) if isinstance(counts, (str, bytes)) else counts, np.int64)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise DataError("a run-length code without size and counts") from error
    if height < 1 or width < 1 or (counts < 0).any() or counts.sum() != height * width:
        raise DataError(f"a run-length code of {counts.sum()} pixels for {height}x{width}")
    values = np.arange(len(counts)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, counts).reshape(width, height).T)


def coco_counts(text: str | bytes) -> list[int]:
    """Return the run lengths in a compressed string of COCO.

    A number is a sequence of characters, each 48 above a value of 6 bits: 5 bits of the number, lowest first, and one
    that says whether more follow. The highest bit of the last is the sign. From the fourth on, numbers are differences
    to the one two before.
    """
    data = text.encode() if isinstance(text, str) else text
    counts = []
    place = 0
    while place < len(data):
        number, shift, more = 0, 0, True
        while more:
            value = data[place] - 48
            if not 0 <= value < 64:
                raise ValueError("not a character of COCO's run lengths")
            number |= (value & 31) << shift
            more = bool(value & 32)
            shift = shift + 5
            place = place + 1
        if value & 16:
            number -= 1 << shift
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
    return counts


def decode_label_studio(code: list[int], height: int, width: int) -> np.ndarray:
    """Return the pixels of a brush stroke of Label Studio, bool (H, W): where its last channel (alpha) is not zero.

    The code is a stream of bits: 32 for the number of values, 5 for their width, four times 4 for the possible widths
    of a length (all but the first one less than they mean), then blocks. A block is a bit that says whether it is a
    run, 2 bits for which width its length has, the length less one, and one value (a run) or as many as its length.
    Raises `DataError` if that does not fit the size.
    """
    try:
        values = _unpack(np.unpackbits(np.array(code, np.uint8)))
    except (ValueError, OverflowError, TypeError, IndexError) as error:
        raise DataError("a brush stroke whose code is damaged") from error
    if len(values) != height * width * 4:
        raise DataError(f"a brush stroke of {len(values)} values for {height}x{width} pixels of 4")
    return values.reshape(height, width, 4)[..., 3] > 0


def _unpack(bits: np.ndarray) -> np.ndarray:
    powers, place = 1 << np.arange(32, dtype=np.int64)[::-1], 0

    def number(width: int) -> int:
        nonlocal place
        place += width
        if place > len(bits):
            raise ValueError("the code ends early")
        return int(bits[place - width : place] @ powers[32 - width :])

    count = number(32)
    width = number(5) + 1
    if width != 8 or count > 4 * 2**28:
        raise ValueError("not 8 bits a value")
    lengths = [number(4) + 1 for _ in range(4)]
    values = np.empty(count, np.uint8)
    filled = 0
    while filled < count:
        is_run = number(1)
        end = filled + number(lengths[number(2)]) + 1
        if end > count:
            raise ValueError("more values than announced")
        if is_run:
            values[filled:end] = number(8)
        else:
            stop = place + 8 * (end - filled)
            values[filled:end] = np.packbits(bits[place:stop])
            place = stop
        filled = end
    return values
