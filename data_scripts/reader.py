"""The one place that decodes images and labels, and turns both upright.

What a file means, whatever its format:

    photo      RGB of 8 bits. 16 bits keep their upper 8, transparency is left out, CMYK and YCbCr are converted.
               Floating point, 32 bits and LAB have no white that could be relied on: they are refused.
    mask       ids as stored. Of 1-, 2- and 4-bit grey these are 0 to 1, 3 and 15; of a palette, its indices.
    upright    by the orientation in EXIF or XMP (JPEG, PNG, WebP, AVIF) or in TIFF's own tag, for pixels and size alike
    several    of an animation or a file of several pages, the first
"""

import hashlib
import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, features

from .labels import DataError

try:
    import pillow_heif
except ImportError:
    pillow_heif = None
else:
    pillow_heif.register_heif_opener()

# Pillow's name of each format that is read, and the suffixes of its files. Nothing else is opened: Pillow would hand
# PostScript to another program.
FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "GIF": (".gif",),
    **({"AVIF": (".avif",)} if features.check("avif") else {}),
    **({"HEIF": (".heic", ".heif", ".hif")} if pillow_heif else {}),
}
PHOTO_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # the last is of 16 bits in PPM
LABEL_MODES = ("1", "L", "P", *DEEP_MODES)
TURNS = {  # orientation (Exif 2.3, tag 0x0112) -> (transpose, mirror rows, mirror columns): stored pixels -> upright
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
TAGS_OF_PNG = (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type")  # beginnings of chunks that may tell an orientation
PLUGIN = {".heic": "pillow-heif", ".heif": "pillow-heif", ".hif": "pillow-heif", ".avif": "--upgrade pillow"}

# Pillow warns of odd tags, and of images of more than 89 megapixels; what it cannot read, it says in an error.
warnings.filterwarnings("ignore", module=r"PIL\..*")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@contextmanager
def decoding(file: dict | str, what: str = "image", doing: str = "read") -> Iterator[None]:
    """Whatever decoders raise in the block becomes a `DataError` that names the file: on damaged files they raise
    nearly everything, as struct.error, IndexError, zlib.error and MemoryError."""
    try:
        yield
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        most = 2 * Image.MAX_IMAGE_PIXELS // 10**6
        raise DataError(f"{what} {describe(file)} has more than {most} megapixels: cut it into tiles") from error
    except Exception as error:
        raise DataError(f"cannot {doing} {what} {describe(file)}: {_one_line(error)}{_remedy(file)}") from error


def open_image(file: dict | str, what: str = "image") -> Image.Image:
    """A lazy PIL image of a path, or of the {"path", "bytes"} of an undecoded `datasets.Image` column. Decode it within
    `decoding`."""
    with decoding(file, what, "open"):
        if isinstance(file, dict) and file.get("bytes") is not None:
            source = io.BytesIO(file["bytes"])
        else:
            source = file["path"] if isinstance(file, dict) else file
        image = Image.open(source, formats=tuple(FORMATS))
        if image.format == "BMP" and image.mode == "L" and _bits_of_bmp(image) < 8:
            raise OSError("a grey BMP of fewer than 8 bits, which is not decoded right: save it as PNG")
        return image


def _bits_of_bmp(image: Image.Image) -> int:
    """Bits a pixel, from the header (the field at byte 28)."""
    place = image.fp.tell()
    image.fp.seek(28)
    bits = int.from_bytes(image.fp.read(2), "little")
    image.fp.seek(place)
    return bits


def number_of_pixels(file: dict | str) -> int:
    """Height times width, from the header alone: nothing is decoded, whatever the file holds."""
    width, height = open_photo(file).size
    return width * height


def describe(file: dict | str) -> str:
    return str(file.get("path") or "(bytes)") if isinstance(file, dict) else str(file)


def file_state(file: dict | str) -> list:
    """What changes when a file does, as JSON takes it: size, time of change, and the system's own time (ctime), which
    also tells that a file was replaced by one of equal size and time. Of bytes a digest; nothing of a missing file."""
    if isinstance(file, dict) and file.get("bytes") is not None:
        return [hashlib.sha256(file["bytes"]).hexdigest()]
    try:
        status = os.stat(file["path"] if isinstance(file, dict) else file)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def read_image(file: dict | str) -> np.ndarray:
    """uint8 (H, W, 3), RGB, upright."""
    image = open_photo(file)
    with decoding(file):
        bits, inverted = 16, False  # of a grey image that is deeper than a byte
        if image.format == "TIFF":
            bits, inverted = image.tag_v2.get(258, (16,))[0], image.tag_v2.get(262) == 0  # WhiteIsZero
        if image.mode not in DEEP_MODES:
            return upright(image.convert("RGB"), image)
        grey = (upright(image, image).astype(np.uint16) >> (bits - 8)).astype(np.uint8)
        return np.repeat((255 - grey if inverted else grey)[..., None], 3, axis=2)


def read_label(file: dict | str, image: dict | str | None = None) -> np.ndarray:
    """uint8 (H, W): the ids as stored. With `image`, turned as that photo was turned.

    A mask with an orientation of its own is turned by that. Most have none: one with the size of the photo's stored
    pixels was drawn on those, and is turned along; one that has only the upright photo's size was drawn on that, and
    stays.
    """
    return _read_ids(file, image, "label", "class ids", np.uint8)


def read_instances(file: dict | str, image: dict | str | None = None) -> np.ndarray:
    """uint16 (H, W): the instance ids as stored, turned as a label is."""
    return _read_ids(file, image, "instance map", "instance ids", np.uint16)


def upright_size(file: dict | str) -> tuple[int, int]:
    """(H, W) of an image as `read_image` returns it, from its header alone."""
    image = open_photo(file)
    with decoding(file):
        width, height = stored_size(image)
        return (width, height) if orientation(image) >= 5 else (height, width)


def open_photo(file: dict | str) -> Image.Image:
    """`open_image`, of one that can become RGB of 8 bits."""
    image = open_image(file)
    if image.mode in PHOTO_MODES or image.mode in DEEP_MODES and (image.mode != "I" or image.format == "PPM"):
        return image
    kind = {"F": "floating-point numbers", "I": "32-bit numbers"}.get(image.mode, f"{image.mode} colours")
    raise DataError(f"image {describe(file)} holds {kind}: save it with 8 or 16 bits, grey or RGB")


def _read_ids(file, image, what: str, ids_are: str, kind: type) -> np.ndarray:
    mask, most = open_image(file, what), np.iinfo(kind).max
    if mask.mode not in LABEL_MODES:
        raise DataError(f"{what} {describe(file)} is a {mask.mode} image: {ids_are} need a single channel of integers")
    if mask.format in ("JPEG", "MPO"):
        raise DataError(f"{what} {describe(file)} is a JPEG, which changes {ids_are}: save it as PNG")
    with decoding(file, what):
        (stored, decoded), own, inverted = white(mask), orientation(mask), white_is_zero(mask)
        ids = upright(mask, mask)
        if stored != decoded:
            ids = np.rint(ids * (stored / decoded)).astype(np.uint16)
        if inverted:
            ids = ~ids if ids.dtype == bool else stored - ids
    if image is not None and own == 1:
        photo = open_image(image)
        with decoding(image):
            if ids.shape[::-1] == stored_size(photo):
                ids = turned(ids, orientation(photo))
    if ids.dtype != kind:
        if ids.min() < 0 or ids.max() > most:
            wrong = ids.min() if ids.min() < 0 else ids.max()
            raise DataError(f"{what} {describe(file)} holds id {wrong}: {ids_are} are 0 to {most}")
        ids = ids.astype(kind)
    return ids


def white(image: Image.Image) -> tuple[int, int]:
    """(as stored, as Pillow decodes it): the largest grey level. Pillow stretches 2- and 4-bit grey, and the levels of
    a PGM, over what the decoded image can hold. Of an image that has not been decoded yet."""
    arguments = image.tile[0].args if image.tile else ""
    rawmode = arguments if isinstance(arguments, str) else str(arguments[0])
    if image.format == "PPM" and not isinstance(arguments, str):
        return arguments[1], 65535 if image.mode == "I" else 255
    bits = re.match(r"L;([24])", rawmode)
    return (2 ** int(bits[1]) - 1, 255) if bits else (255, 255)


def white_is_zero(image: Image.Image) -> bool:
    """Whether 0 is stored for white and Pillow turns that round, so that ids have to be turned back: in TIFFs that say
    so, of up to 8 bits, and in bitmaps (PBM)."""
    if image.format == "PPM":
        return image.mode == "1"
    return image.format == "TIFF" and image.mode in ("1", "L") and image.tag_v2.get(262) == 0


def orientation(image: Image.Image) -> int:
    """1 to 8: how the stored pixels have to be turned. Of an image that has not been decoded yet."""
    if image.format == "HEIF":  # its plug-in has turned it
        return 1
    if image.format == "PNG" and "exif" not in image.info and not _has_tags(image):
        return 1  # asked for its tags, Pillow would decode it
    return _tag(image)


def _tag(image: Image.Image) -> int:
    found = image.getexif().get(0x0112, 1)
    return found if found in TURNS else 1


def stored_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of the pixels that `orientation` turns. Pillow gives a TIFF's as they will be when turned."""
    return (image.tag_v2[256], image.tag_v2[257]) if image.format == "TIFF" else image.size


def upright(pixels: Image.Image, image: Image.Image) -> np.ndarray:
    """(H, W[, 3]), of `pixels` that were converted from `image`. Pillow turns a TIFF as it decodes it, and then its
    orientation is 1."""
    array = np.asarray(pixels)
    return turned(array, 1 if image.format == "HEIF" else _tag(image))


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W[, 3]) as stored -> upright."""
    if orientation not in TURNS:
        return pixels
    transpose, rows, columns = TURNS[orientation]
    pixels = pixels.swapaxes(0, 1) if transpose else pixels
    return np.ascontiguousarray(pixels[:: -1 if rows else 1, :: -1 if columns else 1])


def _has_tags(image: Image.Image) -> bool:
    """Whether a PNG holds what may tell an orientation, before its pixels or after them."""
    file = image.fp
    place = file.tell()
    file.seek(8)
    try:
        while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            text = file.read(min(length, 32)) if kind in (b"tEXt", b"zTXt", b"iTXt") else b""
            if (kind + b" " if kind == b"eXIf" else text).startswith(TAGS_OF_PNG):
                return True
            file.seek(length - len(text) + 4, os.SEEK_CUR)
        return False
    finally:
        file.seek(place)


def _remedy(file: dict | str) -> str:
    suffix = os.path.splitext(describe(file))[1].lower()
    known = any(suffix in suffixes for suffixes in FORMATS.values())
    return f" (pip install {PLUGIN[suffix]} reads {suffix} files)" if suffix in PLUGIN and not known else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
