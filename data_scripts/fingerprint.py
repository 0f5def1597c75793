"""What a run notes of its data, so that it does not go on with other files without a word."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict


def data_fingerprint(data: DatasetDict, counts: np.ndarray) -> dict[str, int | str]:
    """Numbers, and digests in 16 hex digits, of what a run reads: names, sizes of image files, contents of label files,
    pixels by class. The same wherever the folder lies.

    counts  (N, C): pixels of each train id in each training image
    """
    found = {"pixels by class": digest([counts.astype("<i8").tobytes()])}
    for name in ("train", "validation"):
        split = data[name]
        found[f"{name} images"] = len(split)
        found[f"{name} names"] = digest(stem.encode() for stem in split["name"])
        found[f"{name} image sizes"] = digest(str(size_of(file)).encode() for file in split["image"])
        found[f"{name} labels"] = digest(contents(split, "label"))
    return found


def digest(parts: Iterable[bytes]) -> str:
    made = hashlib.sha256()
    for part in parts:
        made.update(hashlib.sha256(part).digest())
    return made.hexdigest()[:16]


def size_of(file: dict) -> int:
    """Bytes of an undecoded image."""
    return len(file["bytes"]) if file.get("bytes") is not None else os.stat(file["path"]).st_size


def contents(split: Dataset, column: str) -> Iterator[bytes]:
    """The bytes of each file of a column, one at a time."""
    for file in split[column] if column in split.column_names else ():
        yield file["bytes"] if file.get("bytes") is not None else Path(file["path"]).read_bytes()
