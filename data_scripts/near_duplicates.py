"""Find images that are equal or look alike: frames of one scene, the same photo saved twice.

    groups(data["train"]["image"])  # [0, 1, 1, 2, ...]: images 1 and 2 look alike

The perceptual hash is the DCT hash of Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions"
(2010), with 16 x 16 instead of 8 x 8 frequencies. It changes little when a photo is saved again, resized or made
brighter. It does not recognise a photo that was mirrored, rotated or cropped.
"""

import hashlib
from collections.abc import Sequence

import cv2
import numpy as np

from .cache import mapped
from .reader import content_of, number_of_bytes, read_grey

SIDE, FREQUENCIES = 32, 16  # an image is reduced to SIDE x SIDE; the lowest FREQUENCIES in each direction are hashed
BITS = FREQUENCIES**2
# Images with at most this many different bits are near-duplicates. Frames of CamVid that follow each other within a
# fifteenth of a second differ by 20 bits (median), the closest frames of two drives by 92. In a set of 248 road scenes,
# all pairs below 53 bits show the same place, and the first two that do not differ by 54.
NEAR = 48
BLOCK = 64  # hashes that are compared with all others at a time


def perceptual_hash(grey: np.ndarray) -> np.ndarray:
    """Return the hash of a grey image, uint8 (H, W), as uint64 (BITS / 64,)."""
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    waves = cv2.dct(small.astype(np.float32))[:FREQUENCIES, :FREQUENCIES].reshape(-1)
    return np.packbits(waves > np.median(waves[1:])).view(np.uint64)  # the first one is the brightness


def hashes(files: Sequence[dict | str], progress: bool = False) -> np.ndarray:
    """Return the perceptual hash of each image, uint64 (N, BITS / 64). Raises `DataError` for a damaged file.

    files  paths, or the {"path", "bytes"} of an undecoded `datasets.Image` column
    """
    found = mapped(lambda file: perceptual_hash(read_grey(file, SIDE)), files, "Comparing images", progress)
    return np.array(found, np.uint64).reshape(len(files), BITS // 64)


def groups(files: Sequence[dict | str], progress: bool = False) -> np.ndarray:
    """Return the group of each image, int64 (N,), numbered from 0 in the order of the files.

    Near-duplicates share a group, and so do images that a chain of near-duplicates connects.
    """
    return groups_of(hashes(files, progress))


def groups_of(found: np.ndarray) -> np.ndarray:
    """Return the group of each hash, as `groups` does."""
    distinct, row = np.unique(found, axis=0, return_inverse=True)
    parent = np.arange(len(distinct))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for start in range(0, len(distinct), BLOCK):
        near = _different_bits(distinct[start : start + BLOCK], distinct[start:]) <= NEAR
        for first, second in np.argwhere(np.triu(near, 1)) + start:
            parent[root(first)] = root(second)
    roots = np.array([root(node) for node in range(len(distinct))], np.int64)[row.reshape(-1)]
    _, first, group = np.unique(roots, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group.reshape(-1)]


def nearest(found: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest row of `others` (M > 0) to each hash of `found` (N), and how many bits differ, int64 (N,)."""
    rows, bits = np.zeros(len(found), np.int64), np.zeros(len(found), np.int64)
    for start in range(0, len(found), BLOCK):
        block = slice(start, start + BLOCK)
        different = _different_bits(found[block], others)
        rows[block] = different.argmin(1)
        bits[block] = different.min(1)
    return rows, bits


def _different_bits(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return how many bits differ between each hash of `first` (N) and of `second` (M), (N, M)."""
    return np.bitwise_count(first[:, None] ^ second[None]).sum(-1, dtype=np.int64)


def content_hash(file: dict | str) -> str:
    """Return a digest of a file's bytes. Equal files have equal digests, whatever their names."""
    return hashlib.sha256(content_of(file)).hexdigest()


def equal_files(files: Sequence[dict | str]) -> list[list[int]]:
    """Return the indices of files with equal bytes, one list for each set of two or more.

    Only files of equal size are read, so this takes next to no time for photos.
    """
    by_size, by_content = {}, {}
    for index, file in enumerate(files):
        by_size.setdefault(number_of_bytes(file), []).append(index)
    for size, alike in by_size.items():
        for index in alike if len(alike) > 1 else ():
            by_content.setdefault((size, content_hash(files[index])), []).append(index)
    return sorted(alike for alike in by_content.values() if len(alike) > 1)
