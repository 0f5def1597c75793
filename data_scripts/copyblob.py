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
from datasets import Dataset
from tqdm import tqdm

from .augment import Crop
from .cache import cached_folder, fingerprint, in_threads
from .labels import DataError, LabelInfo
from .reader import read_image, read_instances, read_label

MOST_BLOBS = 3  # in an image, that may be pasted, each with the probability of --copyblob_prob
PASTED = 60_000  # instance ids of pasted blobs begin above it; Cityscapes' end below 34,000
SMALLEST_SHARE = 0.0005  # of the image's pixels: smaller blobs are left out
SMALLEST_DEPTH = 0.03  # of the image's height: how far below the horizon a blob must stand
HORIZON_QUANTILE = 0.001  # of the ground's pixels are above the horizon, or are mistakes
LARGEST_ZOOM = 1.5  # up and down, from where a blob was to where it is pasted
MARGIN = 2  # pixels of its surroundings that are kept around a blob, for interpolation
VERSION = 2  # of the files of a bank


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
    return tuple(pairs)


@dataclass(frozen=True)
class Blob:
    """Where a blob was: its class and its ground as train ids, the size of its cut-out, and its foot, the middle of its
    lowest row, as column in the cut-out and as row below the top, in heights of its image."""

    label: int
    ground: int
    height: int
    width: int
    foot_column: int
    foot_row: float
    image_height: int
    offset: int  # of its first pixel in the bank's file


class BlobBank:
    """The blobs of a training split, from the folder that `build_bank` made.

    `horizon`, in heights of the image, is the row that the ground's rows begin at; sizes on the ground grow in
    proportion to the distance below it, as they do for a level camera over a plane. `class_weights`: how often each
    train id is drawn, relatively.
    """

    def __init__(self, folder: Path, class_weights: Sequence[float], labels: LabelInfo):
        self.is_ground, self.thing_groups = labels.is_ground, labels.thing_groups
        table = json.loads((folder / "bank.json").read_text())
        self.blobs = [Blob(*row) for row in table["blobs"]]
        self.horizon = table["horizon"]
        self.pixels = np.memmap(folder / "pixels.bin", np.uint8, "r").reshape(-1, 4) if self.blobs else None
        labels = np.array([blob.label for blob in self.blobs], int)
        share = np.asarray(class_weights, float)[labels] / np.bincount(labels, minlength=1)[labels]
        self._cumulative = np.cumsum(share / share.sum()) if len(labels) else share

    def __len__(self) -> int:
        return len(self.blobs)

    def draw(self, rng: np.random.Generator) -> int:
        """A class by its weight, then one of its blobs."""
        return min(int(np.searchsorted(self._cumulative, rng.random(), side="right")), len(self) - 1)

    def cut_out(self, number: int) -> np.ndarray:
        """(h, w, 4) uint8: colour, and 255 where the blob is."""
        blob = self.blobs[number]
        flat = self.pixels[blob.offset : blob.offset + blob.height * blob.width]
        return np.asarray(flat).reshape(blob.height, blob.width, 4)


def build_bank(split: Dataset, labels: LabelInfo, rules, counts: np.ndarray, progress: bool) -> Path:
    """The folder of the bank for `rules` and the images of `split`, built if the cache does not hold it.

    counts  (N, C): pixels of each train id in each image. Raises `DataError` if there is nothing to paste.
    """
    rows = [
        row | {"blobs": counts[i, [label for label, _ in rules]].any()} for i, row in enumerate(split.with_format(None))
    ]
    files = [row[column] for row in rows for column in ("image", "label")]
    name = f"blobs_{fingerprint(files, VERSION, labels.source_ids, rules, 'instance' in split.column_names)}"
    folder = cached_folder(name, lambda folder: _write_bank(folder, rows, labels, rules, progress))
    if not json.loads((folder / "bank.json").read_text())["blobs"]:
        pasted = " or ".join(labels.names[label] for label, _ in rules)
        raise DataError(f"--copyblob: no training image has a {pasted} that is large enough to paste")
    return folder


def _write_bank(folder: Path, rows: list[dict], labels: LabelInfo, rules, progress: bool) -> None:
    blobs, offset, above = [], 0, np.zeros(1000, np.int64)
    with (folder / "pixels.bin").open("wb") as file:
        found = in_threads(lambda row: _cut_image(row, labels, rules), rows)
        bar = tqdm(found, "Cutting out blobs", len(rows), leave=False, disable=not progress, unit="image")
        for cut_outs, ground_rows in bar:
            above += ground_rows
            for label, ground, foot_column, foot_row, image_height, pixels in cut_outs:
                height, width = pixels.shape[:2]
                blobs.append(Blob(label, ground, height, width, foot_column, foot_row, image_height, offset))
                file.write(pixels.data)
                offset += height * width
    share = np.cumsum(above) / max(1, above.sum())
    horizon = float(np.searchsorted(share, HORIZON_QUANTILE) / len(above))
    kept = [list(vars(blob).values()) for blob in blobs if blob.foot_row - horizon >= SMALLEST_DEPTH]
    (folder / "bank.json").write_text(json.dumps({"horizon": horizon, "blobs": kept}))


def _cut_image(row: dict, labels: LabelInfo, rules) -> tuple[list[tuple], np.ndarray]:
    """The blobs of one image, and its ground's pixels in each thousandth of its height."""
    label = labels.train_ids[read_label(row["label"], row["image"])]
    height, width = label.shape
    per_row = np.isin(label, [ground for _, ground in rules]).sum(1)
    ground_rows = np.bincount(np.arange(height) * 1000 // height, per_row, 1000).astype(np.int64)
    if not row["blobs"]:
        return [], ground_rows
    image = read_image(row["image"])
    instances = read_instances(row["instance"], row["image"]) if row.get("instance") else None
    cut_outs = []
    for kind, ground in rules:
        for mask in components(label == kind, instances if labels.names[kind] in labels.instances else None):
            if np.count_nonzero(mask) < SMALLEST_SHARE * label.size:
                continue
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            foot = rows[-1]
            if foot == height - 1:  # cut off below: where it stood is not seen
                continue
            top, left = max(0, rows[0] - MARGIN), max(0, columns[0] - MARGIN)
            window = np.s_[top : rows[-1] + 1 + MARGIN, left : columns[-1] + 1 + MARGIN]
            pixels = np.dstack([image[window], mask[window].astype(np.uint8) * 255])
            column = int(np.median(np.flatnonzero(mask[foot])) - left)
            cut_outs.append((kind, ground, column, (foot + 0.5) / height, height, pixels))
    return cut_outs, ground_rows


def components(mask: np.ndarray, instances: np.ndarray | None) -> list[np.ndarray]:
    """The objects of a mask (H, W): by instance id, or else its connected parts."""
    if instances is not None:
        return [mask & (instances == number) for number in np.unique(instances[mask])]
    count, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return [parts == number for number in range(1, count)]


@dataclass(frozen=True)
class Placement:
    """A blob of the bank, where its foot stands in a crop, its size as a multiple of its cut-out's, and whether it is
    mirrored."""

    blob: int
    row: int
    column: int
    zoom: float
    flip: bool


def sample_placement(rng: np.random.Generator, bank: BlobBank, crop: Crop, image_height: int) -> Placement | None:
    """Draw a blob and a pixel of the class that it stands on; None if no such place is at a fitting distance.

    The zoom is that of the crop times that of perspective: (row - horizon) here over (row - horizon) where it was.
    """
    number = bank.draw(rng)
    blob, flip = bank.blobs[number], bool(rng.random() < 0.5)
    ground = np.flatnonzero(crop.label.reshape(-1) == blob.ground)
    if not len(ground):
        return None
    rows, columns = np.divmod(ground[rng.integers(len(ground), size=64)], crop.label.shape[1])
    image_rows = (crop.matrix[1, 0] * columns + crop.matrix[1, 1] * rows + crop.matrix[1, 2] + 0.5) / image_height
    perspective = (image_rows - bank.horizon) / (blob.foot_row - bank.horizon)
    possible = np.flatnonzero((perspective >= 1 / LARGEST_ZOOM) & (perspective <= LARGEST_ZOOM))
    if not len(possible):
        return None
    chosen = possible[0]
    crop_zoom = 1 / np.hypot(*crop.matrix[:, 0])
    zoom = float(perspective[chosen] * crop_zoom * image_height / blob.image_height)
    return Placement(number, int(rows[chosen]), int(columns[chosen]), zoom, flip)


def sample_placements(rng: np.random.Generator, bank: BlobBank, crop: Crop, image_height: int, prob: float):
    """Up to `MOST_BLOBS`, each with probability `prob`, the farthest first."""
    drawn = [sample_placement(rng, bank, crop, image_height) for _ in range(MOST_BLOBS) if rng.random() < prob]
    return sorted(filter(None, drawn), key=lambda placement: placement.row)


def paste(crop: Crop, bank: BlobBank, placement: Placement, instance_id: int = PASTED) -> None:
    """Put a blob into a crop, in place. What lies beyond the crop's border is cut off; what reaches below the blob's
    foot, and so is nearer, stays in front of it.

    The blob's outermost pixels, which show some of where it came from, are blended; the label changes at its edge.
    """
    blob, pixels = bank.blobs[placement.blob], bank.cut_out(placement.blob)
    # crop -> cut-out: turned as the crop is, about the foot
    turned = crop.matrix[:, :2] / np.hypot(*crop.matrix[:, 0]) / placement.zoom
    turned = np.diag([-1.0 if placement.flip else 1.0, 1.0]) @ turned
    foot = np.array([blob.foot_column, blob.height - 1 - MARGIN])
    corners = np.array([[x, y] for x in (0, blob.width - 1) for y in (0, blob.height - 1)]) - foot
    around = corners @ np.linalg.inv(turned).T + (placement.column, placement.row)
    left, top = np.maximum(0, np.floor(around.min(0)).astype(int))
    right, bottom = np.minimum(crop.label.shape[::-1], np.ceil(around.max(0)).astype(int) + 1)
    if left >= right or top >= bottom:
        return
    matrix = np.column_stack([turned, foot - turned @ (placement.column - left, placement.row - top)])
    size = (int(right - left), int(bottom - top))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    pixels = cv2.warpAffine(pixels, matrix, size, flags=flags, borderMode=cv2.BORDER_CONSTANT)
    inside = np.where(pixels[..., 3] >= 128, np.uint8(255), np.uint8(0))
    window = np.s_[top:bottom, left:right]
    inside[nearer(bank, crop.label[:, left:right], top, bottom, placement.row + 2)] = 0
    alpha = cv2.cvtColor(cv2.bitwise_and(cv2.blur(inside, (3, 3)), inside), cv2.COLOR_GRAY2BGR)
    old = crop.image[window]
    new = cv2.multiply(np.ascontiguousarray(pixels[..., :3]), alpha, scale=1 / 255)
    crop.image[window] = cv2.add(new, cv2.multiply(old, cv2.bitwise_not(alpha), scale=1 / 255))
    crop.label[window][inside > 0] = blob.label
    if crop.instance is not None:
        crop.instance[window][inside > 0] = instance_id


def nearer(bank: BlobBank, label: np.ndarray, top: int, bottom: int, row: int) -> np.ndarray:
    """(bottom - top, w) bool: what of the rows `top` to `bottom` of a label (H, w) belongs to something that is seen in
    `row` too, below a blob's foot: the whole of a thing, the columns there of what else is no ground."""
    front = np.zeros((bottom - top, label.shape[1]), bool)
    if row >= len(label):
        return front
    below = label[row]
    columns = np.flatnonzero(~bank.is_ground[below])
    front[:, columns] = label[top:bottom, columns] == below[columns]
    region = bank.thing_groups[label[top : max(bottom, row + 1)]]
    for group in set(region[row - top].tolist()) - {0}:
        count, parts = cv2.connectedComponents((region == group).astype(np.uint8))
        seen = np.zeros(count, bool)
        seen[parts[row - top]] = True
        seen[0] = False
        front |= seen[parts[: bottom - top]]
    return front


def paste_in_batch(rng: np.random.Generator, crops: list[Crop], rules) -> None:
    """CopyBlob as the tutorial has it, in place: all pixels of a class go from each crop to another one of its batch.

    The pixel that is first in row + column comes to a random pixel of the class that it belongs on, nothing is scaled,
    and what would lie beyond the lower or the right border is pressed onto it. A crop is never its own donor.
    """
    if len(crops) < 2:
        return
    for number, donor in enumerate(crops):
        target = crops[(number + 1 + int(rng.integers(len(crops) - 1))) % len(crops)]
        for kind, ground in rules:
            rows, columns = np.nonzero(donor.label == kind)
            places = np.flatnonzero(target.label.reshape(-1) == ground)
            if not len(rows) or not len(places):
                continue
            first = np.argmin(rows + columns)
            row, column = divmod(int(places[rng.integers(len(places))]), target.label.shape[1])
            height, width = target.label.shape
            to = (
                np.minimum(rows - rows[first] + row, height - 1),
                np.minimum(columns - columns[first] + column, width - 1),
            )
            target.image[to], target.label[to] = donor.image[rows, columns], kind
            if target.instance is not None:
                target.instance[to] = PASTED + 1 + kind
