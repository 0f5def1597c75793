"""Read the pixels of a split: decode its files each time, or decode them once into a memory-mapped file.

Decoding a 2-megapixel PNG takes several times as long as all other work on a training item. All workers, processes and
runs share the decoded file, and the system keeps the used parts of it in memory.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
from datasets import Dataset
from tqdm import tqdm

from .augment import resize_ids, resize_image
from .cache import cache_root, cached_folder, in_threads, names_of
from .labels import DataError, LabelInfo
from .reader import read_image, read_instances, read_label, upright_size

MEMORY_SHARE, DISK_SHARE = 0.5, 0.5  # decoded files may take this share of the free memory and disk
VERSION = 2  # of the decoded files: raise it when decoding changes


class Pixels:
    """Images and train ids of a split, by index. Memory-mapped arrays are read-only.

    Raises DataError if the split has a column `index` that does not count its rows: a transform would take an item's
    pixels from another row.

    size    (H, W) that everything is resized to (`--train_size`); None: keep each image's size
    folder  the folder from `build_decoded`; None: decode the files each time
    """

    def __init__(
        self, split: Dataset, labels: LabelInfo, size: Sequence[int] | None = None, folder: Path | None = None
    ):
        if "index" in split.column_names and split["index"][:] != list(range(len(split))):
            raise DataError(
                "the column index does not count the rows, as after select or shuffle: renumber them with "
                "data_scripts.sampling.training_split"
            )
        columns = [column for column in ("image", "label", "instance") if column in split.column_names]
        self.files = {column: list(split[column]) for column in columns}
        self.table = labels.train_ids
        self.size = size
        self.folder = folder
        self.shapes = None
        self.colors = [labels.colors_of(file) for file in self.files.get("label", ())]
        self._map()

    def _map(self) -> None:
        if self.folder is not None:
            self.shapes = json.loads((self.folder / "shapes.json").read_text())
            ends = np.cumsum([height * width for height, width in self.shapes], dtype=np.int64)
            self.starts = [0, *ends.tolist()]
            # View the mapped memory as a plain array: slicing a `memmap` takes longer.
            self.images, self.labels = (
                np.asarray(np.memmap(self.folder / f"{name}.bin", np.uint8, "r")) for name in ("images", "labels")
            )

    def __getstate__(self) -> dict:
        """Leave out the mapped arrays. `datasets` pickles a transform to hash it; spawned workers map them again."""
        return {key: value for key, value in vars(self).items() if key not in ("images", "labels")}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        try:
            self._map()
        except FileNotFoundError:  # another program has replaced the cache since: this worker decodes the files
            self.folder = self.shapes = None

    def __len__(self) -> int:
        return len(self.files["image"])

    def image(self, index: int) -> np.ndarray:
        """Return an RGB image, uint8 (H, W, 3)."""
        if self.shapes is None:
            image = read_image(self.files["image"][index])
            return image if self.size is None else resize_image(image, self.size)
        start, end = self.starts[index : index + 2]
        return self.images[3 * start : 3 * end].reshape(*self.shapes[index], 3)

    def label(self, index: int) -> np.ndarray:
        """Return the train ids, uint8 (H, W)."""
        if self.shapes is None:
            label = read_label(self.files["label"][index], self.files["image"][index], self.colors[index])
            ids = self.table[label]
            return ids if self.size is None else resize_ids(ids, self.size)
        start, end = self.starts[index : index + 2]
        return self.labels[start:end].reshape(self.shapes[index])

    def instances(self, index: int) -> np.ndarray:
        """Return the instance ids, uint16 (H, W), always from the file; zeros if the split has none."""
        if "instance" not in self.files:
            return np.zeros(self.label(index).shape, np.uint16)
        ids = read_instances(self.files["instance"][index], self.files["image"][index])
        return ids if self.size is None else resize_ids(ids, self.size)


def build_decoded(
    split: Dataset, labels: LabelInfo, size: Sequence[int] | None, name: str, progress: bool
) -> tuple[Path | None, str]:
    """Return (folder, "") of the decoded images and labels of `split`, built if they are not cached.

    Returns (None, reason) if memory or disk is too small. `name` is the split's name in messages.
    """
    files = [row[column] for row in split.select_columns(["image", "label"]) for column in ("image", "label")]
    group, key = names_of("decoded", files, VERSION, *labels.cache_key, size)
    if not (cache_root() / key).is_dir():
        shapes = [tuple(size or upright_size(file)) for file in split["image"]]
        refusal = no_room(4 * sum(height * width for height, width in shapes))
        if refusal:
            return None, f"{name} images are not cached but decoded each time: {refusal}"
    return cached_folder(
        group, key, lambda folder: _write_decoded(folder, Pixels(split, labels, size), name, progress)
    ), ""


def _write_decoded(folder: Path, pixels: Pixels, name: str, progress: bool) -> None:
    shapes = []
    with (folder / "images.bin").open("wb") as images, (folder / "labels.bin").open("wb") as labels:
        pairs = in_threads(lambda index: (pixels.image(index), pixels.label(index)), range(len(pixels)))
        title = f"Decoding {name}"
        for image, label in tqdm(pairs, title, len(pixels), leave=False, disable=not progress, unit="image"):
            images.write(image.data)
            labels.write(np.ascontiguousarray(label).data)
            shapes.append(label.shape)
    (folder / "shapes.json").write_text(json.dumps(shapes))


def no_room(size: int) -> str:
    """Return why decoded files of `size` bytes should not be made, or an empty string."""
    existing = next(path for path in (cache_root(), *cache_root().absolute().parents) if path.exists())
    for share, free, what in (
        (MEMORY_SHARE, free_memory(), "memory"),
        (DISK_SHARE, shutil.disk_usage(existing).free, f"the disk of {cache_root()}"),
    ):
        if size > share * free:
            return f"they would take {size / 1e9:.1f} GB, more than half of the {free / 1e9:.1f} GB free in {what}"
    return ""


def free_memory() -> int:
    """Return the bytes that are available without swapping, within the limit of a container."""
    return min([psutil.virtual_memory().available, *free_in_container()])


def free_in_container(root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Return the free bytes below a container's memory limit (cgroup v2 or v1); an empty list without a limit.

    Cached files that are not in use count as free, as they do outside a container.
    """
    versions = (
        (root, "memory.max", "memory.current", "inactive_file"),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    )
    free = []
    for folder, limit, usage, cached in versions:
        try:
            statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            used = int((folder / usage).read_text()) - int(statistics.get(cached, 0))
            free.append(max(0, int((folder / limit).read_text()) - used))
        except (OSError, ValueError):  # no such cgroup, or no limit ("max")
            continue
    return free
