"""The pixels of a split: decoded from its files each time, or once for all into a file that is mapped into memory.

Decoding a 2-megapixel PNG takes several times as long as everything else about a training item. The decoded file is
shared by all workers, processes and runs; the system keeps in memory what is used of it.
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
from .labels import LabelInfo
from .reader import read_image, read_instances, read_label, upright_size

MEMORY_SHARE, DISK_SHARE = 0.5, 0.5  # of what is free, that decoded files may take
VERSION = 2  # of how files are decoded


class Pixels:
    """Images and train ids of a split by index, read-only where they are mapped.

    size    (H, W) that everything is resized to (`--train_size`); None: native
    folder  of `build_decoded`; None: the files are read each time
    """

    def __init__(
        self, split: Dataset, labels: LabelInfo, size: Sequence[int] | None = None, folder: Path | None = None
    ):
        columns = [column for column in ("image", "label", "instance") if column in split.column_names]
        self.files = {column: list(split[column]) for column in columns}
        self.table, self.size, self.folder, self.shapes = labels.train_ids, size, folder, None
        self._map()

    def _map(self) -> None:
        if self.folder is not None:
            self.shapes = json.loads((self.folder / "shapes.json").read_text())
            ends = np.cumsum([height * width for height, width in self.shapes], dtype=np.int64)
            self.starts = [0, *ends.tolist()]
            # A plain array over the mapped memory: slicing a `memmap` takes longer.
            self.images, self.labels = (
                np.asarray(np.memmap(self.folder / f"{name}.bin", np.uint8, "r")) for name in ("images", "labels")
            )

    def __getstate__(self) -> dict:
        """Without the pixels: `datasets` pickles a transform to name it, and a spawned worker maps them again."""
        return {key: value for key, value in vars(self).items() if key not in ("images", "labels")}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._map()

    def __len__(self) -> int:
        return len(self.files["image"])

    def image(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3)."""
        if self.shapes is None:
            image = read_image(self.files["image"][index])
            return image if self.size is None else resize_image(image, self.size)
        start, end = self.starts[index : index + 2]
        return self.images[3 * start : 3 * end].reshape(*self.shapes[index], 3)

    def label(self, index: int) -> np.ndarray:
        """uint8 (H, W), train ids."""
        if self.shapes is None:
            ids = self.table[read_label(self.files["label"][index], self.files["image"][index])]
            return ids if self.size is None else resize_ids(ids, self.size)
        start, end = self.starts[index : index + 2]
        return self.labels[start:end].reshape(self.shapes[index])

    def instances(self, index: int) -> np.ndarray:
        """uint16 (H, W), always from the file; zeros where the split has none."""
        if "instance" not in self.files:
            return np.zeros(self.label(index).shape, np.uint16)
        ids = read_instances(self.files["instance"][index], self.files["image"][index])
        return ids if self.size is None else resize_ids(ids, self.size)


def build_decoded(
    split: Dataset, labels: LabelInfo, size: Sequence[int] | None, name: str, progress: bool
) -> tuple[Path | None, str]:
    """(folder, "") of the decoded images and labels of `split`, made if the cache does not hold it; (None, why) where
    memory or disk are too small for it. `name` is the split's, for the progress bar."""
    files = [row[column] for row in split.select_columns(["image", "label"]) for column in ("image", "label")]
    group, key = names_of("decoded", files, VERSION, labels.source_ids, size)
    if not (cache_root() / key).is_dir():
        shapes = [tuple(size or upright_size(file)) for file in split["image"]]
        refusal = no_room(4 * sum(height * width for height, width in shapes))
        if refusal:
            return None, f"{name} images are decoded anew each time: {refusal}"
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
    """Why a file of `size` bytes should not be made, or nothing."""
    existing = next(path for path in (cache_root(), *cache_root().absolute().parents) if path.exists())
    for share, free, what in (
        (MEMORY_SHARE, free_memory(), "memory"),
        (DISK_SHARE, shutil.disk_usage(existing).free, f"the disk of {cache_root()}"),
    ):
        if size > share * free:
            return f"decoded they are {size / 1e9:.1f} GB, more than half of the {free / 1e9:.1f} GB free in {what}"
    return ""


def free_memory() -> int:
    """Bytes that could be had without swapping, within the limit of a container."""
    return min([psutil.virtual_memory().available, *free_in_container()])


def free_in_container(root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Bytes below the memory limit of a container, if there is one: of cgroups of version 2, or of version 1. Cached
    files that nobody uses count as free, as they do outside."""
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
        except (OSError, ValueError):  # another system, or no limit ("max")
            continue
    return free
