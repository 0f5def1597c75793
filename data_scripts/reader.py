"""Decode images and labels and rotate both upright. Other modules open users' images only through this one.

The same rules hold for every format:

    photo      Becomes 8-bit RGB. 16-bit images keep their upper 8 bits, transparency is dropped, CMYK and YCbCr are
               converted. Floating-point, 32-bit and LAB images have no reliable white level and are refused.
    mask       Keeps its ids as stored: 0 to 1, 3 or 15 in 1-, 2- or 4-bit grey, the indices in a palette image. A mask
               in colours, RGB or palette, takes the ids from a table of colours.
    upright    Follows the orientation in EXIF or XMP (JPEG, PNG, WebP, AVIF) or in the TIFF tag, for pixels and size.
    frames     Only the first frame of an animation, or the first page of a file, is read.
"""

import hashlib
import io
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, features

from .labels import Color, DataError, MaskError

try:
    import pillow_heif
except ImportError:
    pillow_heif = None
else:
    pillow_heif.register_heif_opener()

# The formats that we read, by Pillow's name, with their file suffixes. We open nothing else, because Pillow would pass
# PostScript to an external program.
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
DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # a PPM in mode "I" has 16 bits
LABEL_MODES = ("1", "L", "P", *DEEP_MODES)
COLOR_MODES = ("RGB", "RGBA", "RGBX", "P")  # of masks in colours; transparency is dropped
TURNS = {  # orientation (Exif 2.3, tag 0x0112) -> (transpose, mirror rows, mirror columns): stored pixels -> upright
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
TAGS_OF_PNG = (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type")  # starts of chunks that may hold an orientation
LFS = b"version https://git-lfs"  # the beginning of a pointer
PLUGIN = {".heic": "pillow-heif", ".heif": "pillow-heif", ".hif": "pillow-heif", ".avif": "--upgrade pillow"}

# Pillow warns about odd tags and images above 89 megapixels. Ignore it: where Pillow cannot read a file, it raises.
warnings.filterwarnings("ignore", module=r"PIL\..*")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@contextmanager
def decoding(file: dict | str, what: str = "image", doing: str = "read") -> Iterator[None]:
    """Turn any exception that a decoder raises in the block into a `DataError` that names the file.

    Damaged files raise almost anything: struct.error, IndexError, zlib.error, MemoryError.
    """
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
    """Open a path, or the {"path", "bytes"} of an undecoded `datasets.Image` column, as a PIL image.

    Pixels are not decoded yet: do that inside `decoding`.
    """
    with decoding(file, what, "open"):
        content = bytes_of(file)
        source = path_of(file) if content is None else io.BytesIO(content)
        image = Image.open(source, formats=tuple(FORMATS))
        if image.format == "BMP" and image.mode == "L" and _bits_of_bmp(image) < 8:
            raise OSError("a grey BMP of fewer than 8 bits is not decoded correctly: save it as PNG")
        return image


def _bits_of_bmp(image: Image.Image) -> int:
    """Return the bits per pixel, read from byte 28 of the header."""
    place = image.fp.tell()
    image.fp.seek(28)
    bits = int.from_bytes(image.fp.read(2), "little")
    image.fp.seek(place)
    return bits


def pages_of(file: dict | str) -> int:
    """Return the number of pages of a TIFF file, or of frames of a GIF; 1 for other formats."""
    with open_image(file) as image, decoding(file):
        return image.n_frames if image.format in ("TIFF", "GIF") else 1


def number_of_pixels(file: dict | str) -> int:
    """Return height times width. Only the header is read; nothing is decoded."""
    with open_photo(file) as image:
        width, height = image.size
    return width * height


def bytes_of(file: dict | str) -> bytes | None:
    """Return the content of a file that is in memory, or None if it lies at its path."""
    return file.get("bytes") if isinstance(file, dict) else None


def path_of(file: dict | str) -> str:
    return file["path"] if isinstance(file, dict) else file


def content_of(file: dict | str) -> bytes:
    """Return the content of a file, in memory or not."""
    content = bytes_of(file)
    return Path(path_of(file)).read_bytes() if content is None else content


def number_of_bytes(file: dict | str) -> int:
    content = bytes_of(file)
    return os.stat(path_of(file)).st_size if content is None else len(content)


def describe(file: dict | str) -> str:
    return str(file.get("path") or "(bytes)") if isinstance(file, dict) else str(file)


def file_state(file: dict | str) -> list:
    """Return a list that differs when the file has changed, ready for JSON.

    It holds the size, the modification time and the ctime, which also changes when a file is replaced by one of equal
    size and modification time. For bytes in memory it holds their SHA-256; for a missing file it is empty.
    """
    content = bytes_of(file)
    if content is not None:
        return [hashlib.sha256(content).hexdigest()]
    try:
        status = os.stat(path_of(file))
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def read_image(file: dict | str, what: str = "image") -> np.ndarray:
    """Return an upright RGB image, uint8 (H, W, 3). Messages call the file `what`."""
    image = open_photo(file, what)
    with decoding(file, what):
        bits, inverted = 16, False  # for a grey image with more than 8 bits
        if image.format == "TIFF":
            bits, inverted = image.tag_v2.get(258, (16,))[0], image.tag_v2.get(262) == 0  # WhiteIsZero
        if image.mode not in DEEP_MODES:
            return upright(image.convert("RGB"), image)
        grey = (upright(image, image).astype(np.uint16) >> (bits - 8)).astype(np.uint8)
        return np.repeat((255 - grey if inverted else grey)[..., None], 3, axis=2)


def read_grey(file: dict | str, least: int) -> np.ndarray:
    """Return an upright grey image, uint8 (H, W), to be reduced to a side of `least` pixels.

    A JPEG is decoded at a reduced size, which takes a fraction of the time: each side stays 4 times as long as `least`,
    if the photo's is.
    """
    image = open_photo(file)
    if image.format not in ("JPEG", "MPO"):
        return cv2.cvtColor(read_image(file), cv2.COLOR_RGB2GRAY)
    with decoding(file):
        image.draft("L", (4 * least, 4 * least))
        return upright(image.convert("L"), image)


def read_label(file: dict | str, image: dict | str | None = None, colors: dict[Color, int] | None = None) -> np.ndarray:
    """Return the class ids, uint8 (H, W). With `image`, rotate them as that photo is rotated.

    The ids are the stored ones, or those that `colors` gives to the stored colours (see `LabelInfo.colors_of`).

    A mask that has an orientation tag follows it. Most masks have none. If a mask without a tag has the size of the
    photo's stored pixels, it was drawn on those and is rotated with them. If it has only the upright photo's size, it
    was drawn upright and stays as it is.
    """
    if colors is None:
        return _read_ids(file, image, "mask", "class ids", np.uint8)
    return _read_colors(file, image, colors)


def read_mask_ids(file: dict | str, image: dict | str | None = None) -> np.ndarray:
    """Return the ids of a mask as stored, also above 255, uint16 (H, W), rotated as `read_label` rotates a label."""
    return _read_ids(file, image, "mask", "ids", np.uint16)


def read_instances(file: dict | str, image: dict | str | None = None) -> np.ndarray:
    """Return the instance ids as stored, uint16 (H, W), rotated as `read_label` rotates a label."""
    return _read_ids(file, image, "instance map", "instance ids", np.uint16)


def upright_size(file: dict | str) -> tuple[int, int]:
    """Return the (H, W) that `read_image` would return, from the header alone."""
    with open_photo(file) as image, decoding(file):
        width, height = stored_size(image)
        return (width, height) if orientation(image) >= 5 else (height, width)


def open_photo(file: dict | str, what: str = "image") -> Image.Image:
    """Open an image that can become 8-bit RGB. Raises `DataError` for any other."""
    image = open_image(file, what)
    if image.mode in PHOTO_MODES or image.mode in DEEP_MODES and (image.mode != "I" or image.format == "PPM"):
        return image
    kind = {"F": "floating-point numbers", "I": "32-bit numbers"}.get(image.mode, f"{image.mode} colours")
    raise DataError(f"{what} {describe(file)} holds {kind}: save it with 8 or 16 bits, grey or RGB")


def _read_ids(file: dict | str, image: dict | str | None, what: str, ids_are: str, kind: type) -> np.ndarray:
    mask = open_image(file, what)
    most = np.iinfo(kind).max
    if mask.mode not in LABEL_MODES and mask.mode in COLOR_MODES:
        raise MaskError(f"{what} {describe(file)} is in colours ({mask.mode}), not {ids_are}", "colors")
    if mask.mode not in LABEL_MODES:
        raise MaskError(
            f"{what} {describe(file)} is a {mask.mode} image, but {ids_are} need a single channel of integers", "values"
        )
    if mask.format in ("JPEG", "MPO"):
        raise MaskError(f"{what} {describe(file)} is a JPEG, which changes {ids_are}: save it as PNG")
    with decoding(file, what):
        stored, decoded = white(mask)
        own = orientation(mask)
        inverted = white_is_zero(mask)
        ids = upright(mask, mask)
        if stored != decoded:
            ids = np.rint(ids * (stored / decoded)).astype(np.uint16)
        if inverted:
            ids = ~ids if ids.dtype == bool else stored - ids
    if own == 1:
        ids = turned_with(ids, image)
    if ids.dtype != kind:
        if ids.min() < 0 or ids.max() > most:
            wrong = ids.min() if ids.min() < 0 else ids.max()
            raise MaskError(f"{what} {describe(file)} holds id {wrong}, but {ids_are} are 0 to {most}", "values")
        ids = ids.astype(kind)
    return ids


def turned_with(ids: np.ndarray, image: dict | str | None) -> np.ndarray:
    """Rotate the ids of a mask without an orientation tag as its photo, if they were drawn on its stored pixels."""
    if image is None:
        return ids
    photo = open_image(image)
    with decoding(image):
        return turned(ids, orientation(photo)) if ids.shape[::-1] == stored_size(photo) else ids


def is_turned_by_guess(mask: dict | str, image: dict | str) -> bool:
    """Return whether a mask without an orientation tag is rotated with its photo although no size tells that it must.

    Such a mask has the photo's stored size, but might have been drawn on the upright photo.
    """
    photo, opened = open_image(image), open_image(mask, "mask")
    with decoding(image):
        turn = orientation(photo)
        width, height = stored_size(photo)
    with decoding(mask, "mask"):
        own = orientation(opened)
    return turn > 1 and own == 1 and (turn < 5 or width == height)


def _read_colors(file: dict | str, image: dict | str | None, colors: dict[Color, int]) -> np.ndarray:
    mask = open_image(file, "mask")
    if mask.mode not in COLOR_MODES:
        raise MaskError(f"mask {describe(file)} is a {mask.mode} image: its classes are colours, so it must be RGB")
    if mask.format in ("JPEG", "MPO"):
        raise MaskError(f"mask {describe(file)} is a JPEG, which changes colours: save it as PNG")
    with decoding(file, "mask"):
        own = orientation(mask)
        rgb = upright(mask.convert("RGB"), mask)
    ids = ids_of_colors(rgb, colors, describe(file))
    return turned_with(ids, image) if own == 1 else ids


def ids_of_colors(rgb: np.ndarray, colors: dict[Color, int], where: str) -> np.ndarray:
    """Return the id of each pixel's colour, uint8 (H, W), for colours (H, W, 3).

    Raises DataError with the most frequent unknown colour if `colors` lacks some. `where` names the file.
    """
    codes = packed_colors(rgb).reshape(-1)
    starts = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))  # of the runs of one colour, to look up each once
    lengths = np.diff(np.append(starts, codes.size))
    found = codes[starts]
    known = packed_colors(list(colors))
    ids = np.array(list(colors.values()), np.uint8)
    order = known.argsort()
    known, ids = known[order], ids[order]
    places = np.searchsorted(known, found).clip(max=len(known) - 1)
    if (unknown := known[places] != found).any():
        strange, which = np.unique(found[unknown], return_inverse=True)
        pixels = np.bincount(which, lengths[unknown]).astype(int)
        code = int(strange[pixels.argmax()])
        more = f", and {len(strange) - 1} other unknown colours" if len(strange) > 1 else ""
        raise MaskError(
            f"mask {where} holds colour {code >> 16} {code >> 8 & 255} {code & 255} in {pixels.max()} pixels, which "
            f"no class has{more}"
        )
    return np.repeat(ids[places], lengths).reshape(rgb.shape[:2])


def packed_colors(rgb: np.ndarray | Sequence[Color]) -> np.ndarray:
    """Return each colour of (..., 3) as one number, 0xRRGGBB, uint32."""
    red, green, blue = np.moveaxis(np.asarray(rgb), -1, 0).astype(np.uint32)
    return red << 16 | green << 8 | blue


def palette_of(image: Image.Image) -> dict[int, int]:
    """Return {index: 0xRRGGBB} of an image with a palette, or {} for others and if index i is the grey level i.

    Nothing is decoded.
    """
    if image.mode != "P" or image.palette is None:
        return {}
    small = Image.new("P", (1, 1))  # the palette of `image` itself can be read only after its pixels
    small.putpalette(image.palette)
    colors = packed_colors(np.array(small.getpalette("RGB")).reshape(-1, 3)).tolist()
    return {} if colors == [i * 0x010101 for i in range(len(colors))] else dict(enumerate(colors))


def white(image: Image.Image) -> tuple[int, int]:
    """Return the largest grey level as (stored, decoded by Pillow).

    Pillow stretches 2- and 4-bit grey, and the levels of a PGM, to the full range of the decoded image. Call this
    before the image is decoded.
    """
    arguments = image.tile[0].args if image.tile else ""
    rawmode = arguments if isinstance(arguments, str) else str(arguments[0])
    if image.format == "PPM" and not isinstance(arguments, str):
        return arguments[1], 65535 if image.mode == "I" else 255
    bits = re.match(r"L;([24])", rawmode)
    return (2 ** int(bits[1]) - 1, 255) if bits else (255, 255)


def white_is_zero(image: Image.Image) -> bool:
    """Return whether the file stores white as 0 and Pillow inverts it, so that ids must be inverted back.

    This holds for TIFFs of up to 8 bits with the WhiteIsZero tag, and for PBM bitmaps.
    """
    if image.format == "PPM":
        return image.mode == "1"
    return image.format == "TIFF" and image.mode in ("1", "L") and image.tag_v2.get(262) == 0


def orientation(image: Image.Image) -> int:
    """Return the orientation, 1 to 8, that leads from stored pixels to upright ones.

    Call this before the image is decoded.
    """
    if image.format == "HEIF":  # the plug-in has already rotated it
        return 1
    if image.format == "PNG" and "exif" not in image.info and not _has_tags(image):
        return 1  # reading its tags would make Pillow decode it
    return _tag(image)


def _tag(image: Image.Image) -> int:
    found = image.getexif().get(0x0112, 1)
    return found if found in TURNS else 1


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Return (width, height) before rotation. For a TIFF, Pillow's `size` is already the rotated one."""
    return (image.tag_v2[256], image.tag_v2[257]) if image.format == "TIFF" else image.size


def upright(pixels: Image.Image, image: Image.Image) -> np.ndarray:
    """Return `pixels`, which were converted from `image`, as an upright array (H, W[, 3]).

    Pillow rotates a TIFF while decoding and then reports orientation 1.
    """
    array = np.asarray(pixels)
    return turned(array, 1 if image.format == "HEIF" else _tag(image))


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate stored pixels (H, W[, 3]) upright."""
    if orientation not in TURNS:
        return pixels
    transpose, rows, columns = TURNS[orientation]
    pixels = pixels.swapaxes(0, 1) if transpose else pixels
    return np.ascontiguousarray(pixels[:: -1 if rows else 1, :: -1 if columns else 1])


def turned_back(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo `turned`: rotate upright pixels (H, W[, 3]) to the stored ones of an image with this orientation."""
    return turned(pixels, {6: 8, 8: 6}.get(orientation, orientation))  # the others are their own inverse


def _has_tags(image: Image.Image) -> bool:
    """Return whether a PNG has a chunk that may hold an orientation, before or after its pixels."""
    file = image.fp
    place = file.tell()
    file.seek(8)
    try:
        while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
            length = int.from_bytes(head[:4], "big")
            kind = head[4:]
            text = file.read(min(length, 32)) if kind in (b"tEXt", b"zTXt", b"iTXt") else b""
            if (kind + b" " if kind == b"eXIf" else text).startswith(TAGS_OF_PNG):
                return True
            file.seek(length - len(text) + 4, os.SEEK_CUR)
        return False
    finally:
        file.seek(place)


def _remedy(file: dict | str) -> str:
    if _is_pointer(file):
        return " (it is a pointer of Git LFS: git lfs pull fetches the file)"
    suffix = os.path.splitext(describe(file))[1].lower()
    known = any(suffix in suffixes for suffixes in FORMATS.values())
    return f" (pip install {PLUGIN[suffix]} reads {suffix} files)" if suffix in PLUGIN and not known else ""


def _is_pointer(file: dict | str) -> bool:
    """Return whether a file is what a clone without Git LFS holds in place of the content."""
    content = bytes_of(file)
    if content is not None:
        return content.startswith(LFS)
    try:
        with open(describe(file), "rb") as opened:
            return opened.read(len(LFS)) == LFS
    except (OSError, ValueError):
        return False


def _one_line(error: Exception) -> str:
    text = re.sub(r" ?<_io\.BytesIO object at \w+>", "", str(error))
    return " ".join(text.split()) or type(error).__name__
