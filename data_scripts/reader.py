"""The one place that decodes images and labels, and turns both by the photo's EXIF orientation."""

import io

import numpy as np
from PIL import Image

from .labels import DataError

_TRANSPOSE = {  # EXIF orientation -> how the stored pixels become upright (Exif 2.3, tag 0x0112)
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LABEL_MODES = ("L", "P", "I;16", "I")


def open_image(file: dict | str, what: str = "image") -> Image.Image:
    """A lazy PIL image of a path, or of the {"path", "bytes"} of an undecoded `datasets.Image` column."""
    name = describe(file)
    try:
        if isinstance(file, dict) and file.get("bytes") is not None:
            return Image.open(io.BytesIO(file["bytes"]))
        return Image.open(file["path"] if isinstance(file, dict) else file)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot open {what} {name}: {_one_line(error)}") from error


def describe(file: dict | str) -> str:
    return str(file.get("path") or "(bytes)") if isinstance(file, dict) else str(file)


def read_image(file: dict | str) -> np.ndarray:
    """uint8 (H, W, 3), RGB, upright."""
    image = open_image(file)
    try:
        return np.asarray(turned(image.convert("RGB"), orientation(image)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read image {describe(file)}: {_one_line(error)}") from error


def read_label(file: dict | str, image: dict | str | None = None) -> np.ndarray:
    """uint8 (H, W): the ids as stored. With `image`, turned as that photo was turned.

    Masks carry no EXIF tag. One with the size of the photo's stored pixels was drawn on those, and is turned along;
    one that has only the upright photo's size was drawn on that, and stays.
    """
    return _read_ids(file, image, "label", "class ids", np.uint8)


def read_instances(file: dict | str, image: dict | str | None = None) -> np.ndarray:
    """uint16 (H, W): the instance ids as stored, turned as a label is."""
    return _read_ids(file, image, "instance map", "instance ids", np.uint16)


def _read_ids(file, image, what: str, ids_are: str, kind: type) -> np.ndarray:
    mask, most = open_image(file, what), np.iinfo(kind).max
    if mask.mode not in LABEL_MODES:
        raise DataError(f"{what} {describe(file)} is a {mask.mode} image: {ids_are} need a single channel")
    try:
        if image is not None:
            photo = open_image(image)
            if mask.size == photo.size:
                mask = turned(mask, orientation(photo))
        ids = np.asarray(mask)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read {what} {describe(file)}: {_one_line(error)}") from error
    if ids.dtype != kind:
        if ids.min() < 0 or ids.max() > most:
            raise DataError(f"{what} {describe(file)} holds id {ids.max()}: {ids_are} are 0 to {most}")
        ids = ids.astype(kind)
    return ids


def upright_size(file: dict | str) -> tuple[int, int]:
    """(H, W) of an image as `read_image` returns it, from its header alone."""
    image = open_image(file)
    width, height = image.size
    return (width, height) if orientation(image) in (5, 6, 7, 8) else (height, width)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, from the header: asking Pillow for a PNG's tags would decode its pixels."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    return image.getexif().get(0x0112, 1)


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Stored pixels -> upright."""
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
