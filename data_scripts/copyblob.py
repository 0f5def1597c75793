"""CopyBlob: paste objects of rare classes where they belong, such as a bus on a road or a fence on a pavement.

`build_bank` cuts every such object (a blob) out of the training split, once. For each training item,
`sample_placement` draws a blob and a place for it, and `paste` puts it there.

The idea comes from the MiniCity tutorial, which pastes between the images of a batch and ignores perspective.
`paste_in_batch` does the same, for comparison. The general term is copy-paste augmentation (Ghiasi et al., 2021, arXiv
2012.07177).
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

Rules = Sequence[tuple[int, int]]  # (pasted train id, ground train id)
MOST_BLOBS = 3  # pasted into an image at most, each with probability --copyblob_prob
PASTED = 60_000  # instance ids of pasted blobs begin above it; Cityscapes' end below 34,000
SMALLEST_SHARE = 0.0005  # blobs that cover a smaller share of their image's pixels are left out
SMALLEST_DEPTH = 0.03  # least distance of a blob's foot below the horizon, as a share of the image's height
HORIZON_QUANTILE = 0.001  # share of the ground pixels that lies above the horizon or is mislabelled
LARGEST_ZOOM = 1.5  # a pasted blob is at most this much larger or smaller than it was
MARGIN = 2  # pixels kept around a blob, for interpolation
VERSION = 4  # of the bank's file format


def parse_rules(rules: Sequence[str], labels: LabelInfo) -> tuple[tuple[int, int], ...]:
    """Return (pasted train id, ground train id) for each rule such as "fence:sidewalk".

    Raises `DataError` for an unknown class, a malformed rule, or no rule at all.
    """
    pairs = []
    for rule in rules:
        names = [name.strip() for name in rule.split(":")]
        for name in names:
            if name not in labels.names:
                raise DataError(f"--copyblob_rules {rule}: no class {name}; there are {', '.join(labels.names)}")
        if len(names) != 2:
            raise DataError(f"--copyblob_rules {rule}: give two classes, OBJECT:GROUND, such as fence:sidewalk")
        pairs.append(tuple(labels.names.index(name) for name in names))
    if not pairs:
        raise DataError(f"--copyblob has no rule for the classes of {labels.name}: give --copyblob_rules")
    return tuple(dict.fromkeys(pairs))


@dataclass(frozen=True)
class Blob:
    """Where a blob came from."""

    image: int  # index of its image
    label: int  # train id of the blob
    ground: int  # train id of the class that it stands on
    height: int  # of the cut-out, in pixels
    width: int
    foot: tuple[int, int]  # (row, column) in the cut-out of a pixel of the blob's lowest row
    depth: float  # distance of that row from the image's top, as a share of the image's height
    image_size: tuple[int, int]  # (H, W)
    offset: int  # of the cut-out's first pixel in the bank's file


class BlobBank:
    """The blobs of a training split, read from the folder that `build_bank` made.

    horizon        where the ground begins, as a share of the image's height. Sizes on the ground grow in proportion to
                   the distance below it, as for a level camera over a plane
    class_weights  relative frequency with which each train id is drawn
    """

    def __init__(self, folder: Path, class_weights: Sequence[float], labels: LabelInfo):
        self.folder = folder
        self.is_ground = labels.is_ground
        self.thing_groups = labels.thing_groups
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
        """Leave out the mapped pixels, as `Pixels` does."""
        return {key: value for key, value in vars(self).items() if key != "pixels"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._map()

    def __len__(self) -> int:
        return len(self.blobs)

    def draw(self, rng: np.random.Generator) -> int:
        """Draw a class by its weight, then one of its blobs uniformly. Returns the blob's index."""
        return min(int(np.searchsorted(self._cumulative, rng.random(), side="right")), len(self) - 1)

    def cut_out(self, number: int) -> np.ndarray:
        """Return a blob's pixels, uint8 (h, w, 4): RGB, and 255 in the last channel where the blob is."""
        blob = self.blobs[number]
        return self.pixels[blob.offset : blob.offset + blob.height * blob.width].reshape(blob.height, blob.width, 4)


def build_bank(pixels: Pixels, labels: LabelInfo, rules: Rules, counts: np.ndarray, progress: bool) -> Path:
    """Return the folder of the blob bank for `rules` and the images of `pixels`, built if it is not cached.

    counts  pixels of each train id in each image, (N, C)

    Raises `DataError` if no blob can be pasted.
    """
    files = [file for column in pixels.files.values() for file in column]
    names = names_of("blobs", files, VERSION, *labels.cache_key, labels.instances, rules, pixels.size)
    folder = cached_folder(*names, lambda folder: _write_bank(folder, pixels, labels, rules, counts, progress))
    table = json.loads((folder / "bank.json").read_text())
    if not table["blobs"]:
        pasted, ground = (" or ".join(dict.fromkeys(labels.names[i] for i in ids)) for ids in zip(*rules, strict=True))
        raise DataError(
            f"--copyblob: no training image has a {pasted} that can be pasted. It must cover at least "
            f"{SMALLEST_SHARE:.2%} of the image, not be cut off at the bottom, and stand below the row where {ground} "
            f"begins ({table['horizon']:.0%} of the height)"
        )
    return folder


def _write_bank(
    folder: Path, pixels: Pixels, labels: LabelInfo, rules: Rules, counts: np.ndarray, progress: bool
) -> None:
    has_blobs = counts[:, [kind for kind, _ in rules]].any(1)
    blobs = []
    offset = 0
    ground_rows = np.zeros(1000, np.int64)
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


def _cut_image(
    pixels: Pixels, index: int, has_blobs: bool, labels: LabelInfo, rules: Rules
) -> tuple[list[tuple], np.ndarray]:
    """Return the blobs of one image, and its ground pixels by thousandth of the height, int64 (1000,)."""
    label = pixels.label(index)
    height, width = label.shape
    per_row = np.isin(label, [ground for _, ground in rules]).sum(1)
    ground_rows = np.bincount(np.arange(height) * 1000 // height, per_row, 1000).astype(np.int64)
    if not has_blobs:
        return [], ground_rows
    image = pixels.image(index)
    instances = pixels.instances(index) if "instance" in pixels.files else None
    cut_outs = []
    for kind, ground in rules:
        own = instances if labels.names[kind] in labels.instances else None
        for top, left, mask in components(label == kind, own, SMALLEST_SHARE * label.size):
            bottom, right = top + mask.shape[0], left + mask.shape[1]
            if bottom == height:  # cut off at the bottom: its foot is not in the image
                continue
            around = [min(MARGIN, room) for room in (top, height - bottom, left, width - right)]
            colors = image[top - around[0] : bottom + around[1], left - around[2] : right + around[3]]
            missing = [MARGIN - there for there in around]  # beyond the border, repeat the outermost colour
            colors = cv2.copyMakeBorder(colors, *missing, cv2.BORDER_REPLICATE)
            cut_out = np.dstack([colors, np.pad(mask.astype(np.uint8) * 255, MARGIN)])
            lowest = np.flatnonzero(mask[-1])
            foot = (MARGIN + mask.shape[0] - 1, MARGIN + int(lowest[(len(lowest) - 1) // 2]))
            cut_outs.append((kind, ground, foot, (bottom - 0.5) / height, (height, width), cut_out))
    return cut_outs, ground_rows


def components(mask: np.ndarray, instances: np.ndarray | None, smallest: float) -> list[tuple[int, int, np.ndarray]]:
    """Return (top, left, mask) of each connected part of a mask (H, W) that has at least `smallest` pixels.

    With `instances`, each instance is split into its parts separately.
    """
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
    """Where and how a blob is pasted into a crop."""

    blob: int  # index in the bank
    row: int  # the crop's pixel that the blob's foot stands on
    column: int
    zoom: float  # size relative to the blob's own image
    flip: bool  # mirror it


def sample_placement(rng: np.random.Generator, bank: BlobBank, crop: Crop, image: int) -> Placement | None:
    """Draw a blob, and a pixel of its ground class to put it on.

    Perspective gives the zoom: (row - horizon) at the new place divided by (row - horizon) at the old one. Returns
    None if the crop has no such ground, if no drawn pixel gives a zoom within `LARGEST_ZOOM`, or if the blob comes from
    `image` itself.
    """
    number = bank.draw(rng)
    blob = bank.blobs[number]
    flip = bool(rng.random() < 0.5)
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


def sample_placements(rng: np.random.Generator, bank: BlobBank, crop: Crop, image: int, prob: float) -> list[Placement]:
    """Draw up to `MOST_BLOBS` placements, each with probability `prob`. Returns the farthest first."""
    drawn = [sample_placement(rng, bank, crop, image) for _ in range(MOST_BLOBS) if rng.random() < prob]
    return sorted(filter(None, drawn), key=lambda placement: placement.row)


def paste(crop: Crop, bank: BlobBank, placement: Placement, instance_id: int = PASTED + 1) -> None:
    """Paste a blob into a crop, in place.

    The crop's border cuts the blob off. Objects that reach below the blob's foot are nearer and stay in front of it.
    The blob's outermost pixels contain some of its old background, so they are blended; the label is not.
    """
    blob = bank.blobs[placement.blob]
    pixels = bank.cut_out(placement.blob)
    # Map crop -> image -> cut-out, both about the foot.
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
    """Return which pixels are nearer than a blob, bool (bottom - top, w), for rows `top` to `bottom` of a label (H, w).

    `row` lies just below the blob's foot. A thing that is seen in `row` is nearer as a whole. Any other class that is
    not ground, such as a wall, is nearer in the columns that it fills without a gap from `row` upwards.
    """
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


def paste_in_batch(rng: np.random.Generator, crops: list[Crop], images: Sequence[int], rules: Rules) -> None:
    """Paste as the tutorial does, in place: copy all pixels of a class from each crop to another crop of its batch.

    The pixel with the smallest row + column lands on a random pixel of the ground class. Nothing is scaled. Pixels that
    would lie beyond the lower or right border are moved onto it; beyond the upper or left one, they wrap around. An
    image is never its own donor: `images` gives the image that each crop shows.
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
            target.image[to] = donor.image[rows, columns]
            target.label[to] = kind
            if target.instance is not None:
                target.instance[to] = PASTED + 1 + kind
