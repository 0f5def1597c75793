"""CopyBlob: paste objects of rare classes where they belong, a bus on a road, a fence on a pavement.

`build_bank` cuts every such object, a blob, out of the training split, once. For each training item
`sample_placement` then draws a blob and a place for it, and `paste` puts it there.

The idea is that of the tutorial that this project grew out of, which pastes between the images of a batch, without
regard to perspective; `paste_in_batch` does it that way, for comparison.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from .augment import Crop
from .cache import cached_folder, in_threads, names_of
from .labels import DataError, LabelInfo
from .pixels import Pixels

MOST_BLOBS = 3  # in an image, that may be pasted, each with the probability of --copyblob_prob
PASTED = 60_000  # instance ids of pasted blobs begin above it; Cityscapes' end below 34,000
SMALLEST_SHARE = 0.0005  # of the image's pixels: smaller blobs are left out
SMALLEST_DEPTH = 0.03  # of the image's height: how far below the horizon a blob must stand
HORIZON_QUANTILE = 0.001  # of the ground's pixels are above the horizon, or are mistakes
LARGEST_ZOOM = 1.5  # up and down, from where a blob was to where it is pasted
MARGIN = 2  # pixels around a blob that are kept with it, for interpolation
VERSION = 4  # of the files of a bank


def parse_rules(rules: Sequence[str], labels: LabelInfo) -> tuple[tuple[int, int], ...]:
    """ "fence:sidewalk" -> (train id of what is pasted, train id of what it stands on). Raises `DataError`."""
    pairs = []
    for rule in rules:
        names = [name.strip() for name in rule.split(":")]
        for name in names:
            if name not in labels.names:
                raise DataError(f"--copyblob_rules {rule}: no class {name}; there are {', '.join(labels.names)}")
        if len(names) != 2:
            raise DataError(f"--copyblob_rules {rule}: a rule is two classes, what is pasted:what it stands on")
        pairs.append(tuple(labels.names.index(name) for name in names))
    if not pairs:
        raise DataError(f"--copyblob has no rule for the classes of {labels.name}: give --copyblob_rules")
    return tuple(dict.fromkeys(pairs))


@dataclass(frozen=True)
class Blob:
    """Where a blob was: the index of its image, its class and its ground as train ids, the size of its cut-out, its
    foot, which is a pixel of its lowest row, and how far below the top that row is, in heights of its image."""

    image: int
    label: int
    ground: int
    height: int
    width: int
    foot: tuple[int, int]  # (row, column) in the cut-out
    depth: float
    image_size: tuple[int, int]
    offset: int  # of its first pixel in the bank's file


class BlobBank:
    """The blobs of a training split, from the folder that `build_bank` made.

    `horizon`, in heights of the image, is the row that the ground's rows begin at; sizes on the ground grow in
    proportion to the distance below it, as they do for a level camera over a plane. `class_weights`: how often each
    train id is drawn, relatively.
    """

    def __init__(self, folder: Path, class_weights: Sequence[float], labels: LabelInfo):
        self.folder, self.is_ground, self.thing_groups = folder, labels.is_ground, labels.thing_groups
        table = json.loads((folder / "bank.json").read_text())
        self.blobs = [Blob(*row) for row in table["blobs"]]
        self.horizon = table["horizon"]
        kinds = np.array([blob.label for blob in self.blobs])
        share = np.asarray(class_weights, float)[kinds] / np.bincount(kinds)[kinds]
        self._cumulative = np.cumsum(share / share.sum())
        self._map()

    def _map(self) -> None:
        self.pixels = np.asarray(np.memmap(self.folder / "pixels.bin", np.uint8, "r")).reshape(-1, 4)

    def __getstate__(self) -> dict:
        """Without the pixels, as `Pixels`."""
        return {key: value for key, value in vars(self).items() if key != "pixels"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._map()

    def __len__(self) -> int:
        return len(self.blobs)

    def draw(self, rng: np.random.Generator) -> int:
        """A class by its weight, then one of its blobs."""
        return min(int(np.searchsorted(self._cumulative, rng.random(), side="right")), len(self) - 1)

    def cut_out(self, number: int) -> np.ndarray:
        """(h, w, 4) uint8: colour, and 255 where the blob is."""
        blob = self.blobs[number]
        return self.pixels[blob.offset : blob.offset + blob.height * blob.width].reshape(blob.height, blob.width, 4)


def build_bank(pixels: Pixels, labels: LabelInfo, rules, counts: np.ndarray, progress: bool) -> Path:
    """The folder of the bank for `rules` and the images of `pixels`, built if the cache does not hold it.

    counts  (N, C): pixels of each train id in each image. Raises `DataError` if there is nothing to paste.
    """
    files = [file for column in pixels.files.values() for file in column]
    names = names_of("blobs", files, VERSION, labels.source_ids, labels.instances, rules, pixels.size)
    folder = cached_folder(*names, lambda folder: _write_bank(folder, pixels, labels, rules, counts, progress))
    table = json.loads((folder / "bank.json").read_text())
    if not table["blobs"]:
        pasted, ground = (" or ".join(dict.fromkeys(labels.names[i] for i in ids)) for ids in zip(*rules, strict=True))
        raise DataError(
            f"--copyblob: no training image has a {pasted} that can be pasted: {SMALLEST_SHARE:.2%} of the image or "
            f"more, not cut off below, and standing below the row that {ground} begins at ({table['horizon']:.0%} of "
            "the height)"
        )
    return folder


def _write_bank(folder: Path, pixels: Pixels, labels: LabelInfo, rules, counts: np.ndarray, progress: bool) -> None:
    has_blobs = counts[:, [kind for kind, _ in rules]].any(1)
    blobs, offset, ground_rows = [], 0, np.zeros(1000, np.int64)
    with (folder / "pixels.bin").open("wb") as file:
        found = in_threads(lambda index: _cut_image(pixels, index, has_blobs[index], labels, rules), range(len(pixels)))
        bar = tqdm(found, "Cutting out blobs", len(pixels), leave=False, disable=not progress, unit="image")
        for image, (cut_outs, per_row) in enumerate(bar):
            ground_rows += per_row
            for kind, ground, foot, depth, image_size, cut_out in cut_outs:
                blobs.append((image, kind, ground, *cut_out.shape[:2], foot, depth, image_size, offset))
                file.write(cut_out.data)
                offset += cut_out.shape[0] * cut_out.shape[1]
    share = np.cumsum(ground_rows) / max(1, ground_rows.sum())
    horizon = float(np.searchsorted(share, HORIZON_QUANTILE) / len(share))
    kept = [blob for blob in blobs if Blob(*blob).depth - horizon >= SMALLEST_DEPTH]
    (folder / "bank.json").write_text(json.dumps({"horizon": horizon, "blobs": kept}))


def _cut_image(pixels: Pixels, index: int, has_blobs: bool, labels: LabelInfo, rules) -> tuple[list[tuple], np.ndarray]:
    """The blobs of one image, and its ground's pixels in each thousandth of its height."""
    label = pixels.label(index)
    height, width = label.shape
    per_row = np.isin(label, [ground for _, ground in rules]).sum(1)
    ground_rows = np.bincount(np.arange(height) * 1000 // height, per_row, 1000).astype(np.int64)
    if not has_blobs:
        return [], ground_rows
    image, instances = pixels.image(index), pixels.instances(index) if "instance" in pixels.files else None
    cut_outs = []
    for kind, ground in rules:
        own = instances if labels.names[kind] in labels.instances else None
        for top, left, mask in components(label == kind, own, SMALLEST_SHARE * label.size):
            bottom, right = top + mask.shape[0], left + mask.shape[1]
            if bottom == height:  # cut off below: where it stood is not seen
                continue
            around = [min(MARGIN, room) for room in (top, height - bottom, left, width - right)]
            colors = image[top - around[0] : bottom + around[1], left - around[2] : right + around[3]]
            missing = [MARGIN - there for there in around]  # beyond the image's border its last colour is repeated
            colors = cv2.copyMakeBorder(colors, *missing, cv2.BORDER_REPLICATE)
            cut_out = np.dstack([colors, np.pad(mask.astype(np.uint8) * 255, MARGIN)])
            lowest = np.flatnonzero(mask[-1])
            foot = (MARGIN + mask.shape[0] - 1, MARGIN + int(lowest[(len(lowest) - 1) // 2]))
            cut_outs.append((kind, ground, foot, (bottom - 0.5) / height, (height, width), cut_out))
    return cut_outs, ground_rows


def components(mask: np.ndarray, instances: np.ndarray | None, smallest: float) -> list[tuple[int, int, np.ndarray]]:
    """(top, left, mask) of the connected parts of a mask (H, W), within each instance id if there are any, that have
    `smallest` pixels or more."""
    if instances is not None:
        ids, pixels = np.unique(instances[mask], return_counts=True)
        return [
            part
            for number in ids[pixels >= smallest]
            for part in components(mask & (instances == number), None, smallest)
        ]
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    found = []
    for number in range(1, count):
        left, top, width, height, pixels = stats[number].tolist()
        if pixels >= smallest:
            found.append((top, left, parts[top : top + height, left : left + width] == number))
    return found


@dataclass(frozen=True)
class Placement:
    """A blob of the bank, the pixel of a crop that its foot stands on, its size there as a multiple of where it was, in
    its image, and whether it is mirrored."""

    blob: int
    row: int
    column: int
    zoom: float
    flip: bool


def sample_placement(rng: np.random.Generator, bank: BlobBank, crop: Crop, image: int) -> Placement | None:
    """Draw a blob and a pixel of the class that it stands on; None if no such place is at a fitting distance, or if the
    blob is of that `image` itself.

    The zoom is that of perspective: (row - horizon) here over (row - horizon) where it was.
    """
    number = bank.draw(rng)
    blob, flip = bank.blobs[number], bool(rng.random() < 0.5)
    ground = np.flatnonzero(crop.label.reshape(-1) == blob.ground)
    if not len(ground) or blob.image == image:
        return None
    rows, columns = np.divmod(ground[rng.integers(len(ground), size=64)], crop.label.shape[1])
    depth = (crop.matrix[1, 0] * columns + crop.matrix[1, 1] * rows + crop.matrix[1, 2] + 0.5) / crop.size[0]
    zoom = (depth - bank.horizon) / (blob.depth - bank.horizon)
    possible = np.flatnonzero((zoom >= 1 / LARGEST_ZOOM) & (zoom <= LARGEST_ZOOM))
    if not len(possible):
        return None
    chosen = possible[0]
    return Placement(number, int(rows[chosen]), int(columns[chosen]), float(zoom[chosen]), flip)


def sample_placements(rng: np.random.Generator, bank: BlobBank, crop: Crop, image: int, prob: float):
    """Up to `MOST_BLOBS`, each with probability `prob`, the farthest first."""
    drawn = [sample_placement(rng, bank, crop, image) for _ in range(MOST_BLOBS) if rng.random() < prob]
    return sorted(filter(None, drawn), key=lambda placement: placement.row)


def paste(crop: Crop, bank: BlobBank, placement: Placement, instance_id: int = PASTED) -> None:
    """Put a blob into a crop, in place. What lies beyond the crop's border is cut off; what reaches below the blob's
    foot, and so is nearer, stays in front of it.

    The blob's outermost pixels, which show some of where it came from, are blended; the label changes at its edge.
    """
    blob, pixels = bank.blobs[placement.blob], bank.cut_out(placement.blob)
    # From the crop to the image, and from there to the cut-out: both about the foot.
    zoom = placement.zoom * np.array(crop.size[::-1]) / np.array(blob.image_size[::-1])
    linear = np.diag((-1.0 if placement.flip else 1.0, 1.0) / zoom) @ crop.matrix[:, :2]
    foot = np.array(blob.foot[::-1])
    corners = np.array([[x, y] for x in (0, blob.width - 1) for y in (0, blob.height - 1)]) - foot
    around = corners @ np.linalg.inv(linear).T + (placement.column, placement.row)
    left, top = np.maximum(0, np.floor(around.min(0)).astype(int))
    right, bottom = np.minimum(crop.label.shape[::-1], np.ceil(around.max(0)).astype(int) + 1)
    if left >= right or top >= bottom:
        return
    matrix = np.column_stack([linear, foot - linear @ (placement.column - left, placement.row - top)])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    pixels = cv2.warpAffine(pixels, matrix, (int(right - left), int(bottom - top)), flags=flags)
    inside = np.where(pixels[..., 3] >= 128, np.uint8(255), np.uint8(0))
    inside[nearer(bank, crop.label[:, left:right], top, bottom, placement.row + 2)] = 0
    alpha = cv2.cvtColor(cv2.bitwise_and(cv2.blur(inside, (3, 3)), inside), cv2.COLOR_GRAY2BGR)
    window = np.s_[top:bottom, left:right]
    new = cv2.multiply(np.ascontiguousarray(pixels[..., :3]), alpha, scale=1 / 255)
    crop.image[window] = cv2.add(new, cv2.multiply(crop.image[window], cv2.bitwise_not(alpha), scale=1 / 255))
    crop.label[window][inside > 0] = blob.label
    if crop.instance is not None:
        crop.instance[window][inside > 0] = instance_id


def nearer(bank: BlobBank, label: np.ndarray, top: int, bottom: int, row: int) -> np.ndarray:
    """(bottom - top, w) bool: what of the rows `top` to `bottom` of a label (H, w) belongs to something that is seen in
    `row` too, below a blob's foot: the whole of a thing; of what else is no ground, as a wall, the columns that it
    fills from there upwards."""
    if row >= len(label):
        return np.zeros((bottom - top, label.shape[1]), bool)
    region = label[top : max(bottom, row + 1)]
    below, groups = label[row], bank.thing_groups[region]
    front = np.zeros(region.shape, bool)
    columns = np.flatnonzero(~bank.is_ground[below] & (groups[row - top] == 0))
    same = region[: row - top + 1, columns] == below[columns]
    front[: row - top + 1, columns] = np.logical_and.accumulate(same[::-1])[::-1]
    for group in set(groups[row - top].tolist()) - {0}:
        count, parts = cv2.connectedComponents((groups == group).astype(np.uint8))
        seen = np.zeros(count, bool)
        seen[parts[row - top]] = True
        seen[0] = False
        front |= seen[parts]
    return front[: bottom - top]


def paste_in_batch(rng: np.random.Generator, crops: list[Crop], images: Sequence[int], rules) -> None:
    """CopyBlob as the tutorial has it, in place: all pixels of a class go from each crop to another one of its batch.

    The pixel that is first in row + column comes to a random pixel of the class that it belongs on, nothing is scaled,
    and what would lie beyond the lower or the right border is pressed onto it. An image never is its own donor:
    `images` says which one each crop shows.
    """
    for donor, image in zip(crops, images, strict=True):
        others = [crop for crop, theirs in zip(crops, images, strict=True) if theirs != image]
        if not others:
            continue
        target = others[rng.integers(len(others))]
        height, width = target.label.shape
        for kind, ground in rules:
            rows, columns = np.nonzero(donor.label == kind)
            places = np.flatnonzero(target.label.reshape(-1) == ground)
            if not len(rows) or not len(places):
                continue
            first = np.argmin(rows + columns)
            row, column = divmod(int(rng.choice(places)), width)
            to = (
                np.minimum(rows - rows[first] + row, height - 1),
                np.minimum(columns - columns[first] + column, width - 1),
            )
            target.image[to], target.label[to] = donor.image[rows, columns], kind
            if target.instance is not None:
                target.instance[to] = PASTED + 1 + kind
