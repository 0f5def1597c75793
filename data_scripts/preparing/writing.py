"""Write the photos and masks of an `Annotated` below images/{split} and masks/{split}, and count what they hold."""

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..cache import in_threads
from ..file_checks import check_whole
from ..labels import DataError
from ..listing import IMAGE_SUFFIXES, is_text, name_key
from ..reader import decoding, describe, open_photo, orientation, stored_size, turned_back, upright_size
from .annotated import Item
from .regions import ALL


@dataclass
class Written:
    """What was written.

    files    paths below the destination
    counts   pixels of each id, int64 (256,)
    images   images of each id, int64 (256,)
    sizes    {(height, width): photos}
    remarks  {text: (count, name of the first photo)}
    errors   one line for each photo that was not written
    """

    files: list[str] = field(default_factory=list)
    counts: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    images: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    sizes: Counter = field(default_factory=Counter)
    splits: Counter = field(default_factory=Counter)
    remarks: dict[str, tuple[int, str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def write_items(items: Sequence[Item], table: np.ndarray, folder: Path, link: bool) -> Written:
    """Write photos as they are and masks as 8-bit PNGs. `table` maps the ids of `Item.mask` to those written.

    Photos that are rotated by a tag keep it, and their masks are written in the frame of the stored pixels, where
    `reader.read_label` expects them. With `link`, photos are hard links where they can be.
    """
    rows = list(zip(items, _unique_names(items), strict=True))
    for kind in ("images", "masks"):
        for split in {item.split or "" for item in items}:
            (folder / kind / split).mkdir(parents=True, exist_ok=True)

    def write(row: tuple[Item, str]) -> tuple[list[str], np.ndarray, tuple[int, int], Counter] | str:
        try:
            return _write_item(*row, table, folder, link)
        except DataError as error:
            return str(error)

    written = Written()
    results = tqdm(in_threads(write, rows), "Writing", len(rows), leave=False, disable=None, unit="photo")
    for (item, _), result in zip(rows, results, strict=True):
        if isinstance(result, str):
            written.errors.append(result)
            continue
        files, counts, size, remarks = result
        written.files += files
        written.counts += counts
        written.images += counts > 0
        written.sizes[size] += 1
        written.splits[item.split or ""] += 1
        for text, count in remarks.items():
            before, first = written.remarks.get(text, (0, item.name))
            written.remarks[text] = (before + count, first)
    written.remarks.pop(ALL, None)
    return written


def _write_item(
    item: Item, name: str, table: np.ndarray, folder: Path, link: bool
) -> tuple[list[str], np.ndarray, tuple[int, int], Counter]:
    """Return the files, the pixels of each id, the photo's (height, width) and the remarks."""
    image = item.image()
    check_whole(image)
    size = upright_size(image)
    photo = open_photo(image)
    with decoding(image):
        stored = stored_size(photo)[::-1]
        turn = orientation(photo)
        kind = photo.format
    suffix = Path(item.name).suffix.lower()
    suffix = suffix if suffix in IMAGE_SUFFIXES else {"JPEG": ".jpg", "TIFF": ".tif"}.get(kind, f".{kind.lower()}")
    where = [folder / "images" / (item.split or "") / f"{name}{suffix}"]
    counts = np.zeros(256, np.int64)
    remarks = Counter()
    if item.mask is not None:
        drawn = item.mask()
        if drawn.ids.shape != size:
            height, width = drawn.ids.shape
            raise DataError(
                f"the mask of {item.name} is {height}x{width} (height x width), but the photo is {size[0]}x{size[1]}: "
                "use the photo that was labelled, or export the mask at its size"
            )
        ids = table[drawn.ids]
        remarks = drawn.remarks
        counts = np.bincount(ids.ravel(), minlength=256)
        where.append(folder / "masks" / (item.split or "") / f"{name}.png")
        stored_ids = turned_back(ids, turn)
        assert stored_ids.shape == stored, (item.name, stored_ids.shape, stored)
        Image.fromarray(stored_ids).save(where[1], "PNG")
    _copy(image, where[0], link)
    return [path.relative_to(folder).as_posix() for path in where], counts, size, remarks


def _copy(image: dict, path: Path, link: bool) -> None:
    if image["bytes"] is not None:
        path.write_bytes(image["bytes"])
        return
    source = os.path.realpath(image["path"])  # the file, not a link to it
    if link:
        try:
            os.link(source, path)
            return
        except OSError:  # another file system, or one without links
            pass
    try:
        shutil.copyfile(source, path)
    except PermissionError as error:
        raise DataError(f"cannot read image {describe(image)}: {error.strerror}") from error


def _unique_names(items: Sequence[Item]) -> list[str]:
    """Return a name without suffix for each item, unique in its split also where case and Unicode form do not count.

    That is the photo's stem; if photos share it, all folders belong to the name, and then the suffix too.
    """
    for item in items:
        if not is_text(item.name):
            raise DataError(f"the file name {os.fsencode(item.name)!r} is not UTF-8, as in old archives: rename it")
    choices = [
        (path.stem, "_".join(path.with_suffix("").parts), "_".join(path.parts).replace(".", "_"))
        for path in (Path(item.name) for item in items)
    ]
    for choice in range(3):
        names = [row[choice] for row in choices]
        keys = Counter((item.split, name_key(name)) for item, name in zip(items, names, strict=True))
        if max(keys.values(), default=0) <= 1:
            return names
    twice = next(name for (_, name), number in keys.items() if number > 1)
    raise DataError(f"two photos would be written as {twice}: rename one in the source")
