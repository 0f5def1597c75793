"""Look at every file of a data set once, without stopping at a bad one: sizes, ids, regions, brightness, hashes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from datasets import DatasetDict

from .cache import mapped
from .catalog import SPLITS
from .labels import DataError, LabelInfo
from .near_duplicates import content_hash, perceptual_hash
from .reader import (
    LABEL_MODES,
    decoding,
    describe,
    is_turned_by_guess,
    open_image,
    packed_colors,
    pages_of,
    palette_of,
    read_image,
    read_instances,
    read_label,
)

LAYOUT = (96, 128)  # height and width of the reduced label that shows where classes lie
FOLDER_NAMES = {split: folder for folder, split in SPLITS.items()}  # by which users know the splits


@dataclass
class Row:
    """What was found in one image and its label.

    split      "train", "val" or "test"
    image      path of the image
    label      path of the label, or None if it has none
    size       (H, W) of the upright image; None if it cannot be read
    faults     {kind: message} of what makes the row unusable; kinds: image, label, jpeg, colors, size, instance
    ids        (256,) pixels of each id that the label stores; None if there is no readable label
    regions    {train id: sizes in pixels of its 8-connected regions, int64}
    layout     train ids on a grid of `LAYOUT`, uint8; None as `ids`
    light      (mean, standard deviation) of the grey levels, 0 to 255
    brightest  the largest grey level, 0 to 255
    color      mean (R, G, B), 0 to 255
    pages      number of pages or frames in the image's file
    look       perceptual hash, uint64 (see near_duplicates.py)
    content    digest of the image file; None if it cannot be read
    marking    digest of the ids that the label stores
    colors     number of distinct colours of a label with the fault "colors"
    palette    {id: 0xRRGGBB} of the ids in a label whose file has a palette other than grey levels
    is_turned  whether the photo has an orientation tag, its label has none, and the label's size does not tell
               whether it was drawn on the stored or the upright photo
    """

    split: str
    name: str
    image: str
    label: str | None = None
    size: tuple[int, int] | None = None
    faults: dict[str, str] = field(default_factory=dict)
    ids: np.ndarray | None = None
    regions: dict[int, np.ndarray] = field(default_factory=dict)
    layout: np.ndarray | None = None
    light: tuple[float, float] = (0.0, 0.0)
    brightest: int = 255
    pages: int = 1
    color: tuple[float, ...] = (0.0, 0.0, 0.0)
    look: np.ndarray | None = None
    content: str | None = None
    marking: str | None = None
    colors: int = 0
    palette: dict[int, int] = field(default_factory=dict)
    is_turned: bool = False


@dataclass
class Survey:
    """The rows of all splits in order, and the label set that they were read with."""

    labels: LabelInfo
    rows: list[Row]

    @property
    def splits(self) -> list[str]:
        """Return the names of the splits, in order."""
        return list(dict.fromkeys(row.split for row in self.rows))

    @property
    def labelled(self) -> list[str]:
        """Return the names of the splits with at least one readable label, in order."""
        return [split for split in self.splits if any(row.ids is not None for row in self.of(split))]

    def of(self, *splits: str) -> list[Row]:
        return [row for row in self.rows if row.split in splits]

    def counts(self, split: str) -> np.ndarray:
        """Return the pixels of each train id in each readable label of a split, int64 (N, C)."""
        ids = [row.ids for row in self.of(split) if row.ids is not None]
        return np.array(ids, np.int64).reshape(len(ids), 256)[:, list(self.labels.source_ids)]

    def region_sizes(self, train_id: int, *splits: str) -> np.ndarray:
        """Return the sizes of all regions of a class in some splits, int64 (R,)."""
        found = [row.regions[train_id] for row in self.of(*splits) if train_id in row.regions]
        return np.concatenate([np.zeros(0, np.int64), *found])


def take_survey(data: DatasetDict, labels: LabelInfo) -> Survey:
    """Decode every image and label of `data`. What is wrong with a file goes into its row; nothing is raised."""
    jobs = [(FOLDER_NAMES.get(name, name), rows, i) for name, rows in data.items() for i in range(len(rows))]
    found = mapped(lambda job: _look(job[0], job[1][job[2]], labels), jobs, "Looking at every file", True)
    return Survey(labels, found)


def _look(split: str, files: dict, labels: LabelInfo) -> Row:
    row = Row(split, files["name"], files["image"].get("path") or files["name"])
    if files.get("label") is not None:
        row.label = files["label"].get("path") or f"of {row.name}"
    try:
        pixels = read_image(files["image"])
        _look_at_image(row, pixels, files["image"])
    except DataError as error:
        row.faults["image"] = str(error)
    if row.label is not None:
        _look_at_label(row, files, labels)
    return row


def _look_at_image(row: Row, pixels: np.ndarray, file: dict) -> None:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    mean, deviation = cv2.meanStdDev(grey)
    row.size = grey.shape
    row.light = (float(mean[0, 0]), float(deviation[0, 0]))
    row.brightest = int(grey.max())
    row.pages = pages_of(file)
    row.color = tuple(cv2.mean(pixels)[:3])
    row.look = perceptual_hash(grey)
    row.content = content_hash(file)


def _look_at_label(row: Row, files: dict, labels: LabelInfo) -> None:
    colors = labels.colors_of(files["label"])
    try:
        ids = read_label(files["label"], files["image"] if row.size else None, colors)
    except DataError as error:
        _name_fault(row, files["label"], str(error), colors is not None)
        return
    if row.size is not None and ids.shape != row.size:
        row.faults["size"] = _size_fault(row, ids.shape)
        return
    if "instance" in files:
        _check_instances(row, files, ids.shape)
    row.is_turned = row.size is not None and is_turned_by_guess(files["label"], files["image"])
    row.marking = hashlib.sha256(ids.tobytes()).hexdigest()
    row.ids = np.bincount(ids.reshape(-1), minlength=256)
    if colors is None and (palette := palette_of(open_image(files["label"], "mask"))):
        row.palette = {value: palette.get(value, 0) for value in np.flatnonzero(row.ids).tolist()}
    train_ids = labels.train_ids[ids]
    row.layout = cv2.resize(train_ids, LAYOUT[::-1], interpolation=cv2.INTER_NEAREST)
    row.regions = {
        train_id: region_sizes(train_ids == train_id)
        for train_id in np.flatnonzero(row.ids[list(labels.source_ids)]).tolist()
    }


def region_sizes(mask: np.ndarray) -> np.ndarray:
    """Return the sizes in pixels of the 8-connected regions of a bool mask (H, W), int64."""
    mask = mask.view(np.uint8)
    left, top, width, height = cv2.boundingRect(mask)  # most classes fill a small part of an image
    box = np.ascontiguousarray(mask[top : top + height, left : left + width])
    if not box.size:
        return np.zeros(0, np.int64)
    _, _, statistics, _ = cv2.connectedComponentsWithStats(box, connectivity=8)
    return statistics[1:, cv2.CC_STAT_AREA].astype(np.int64)


def _name_fault(row: Row, file: dict, message: str, in_colors: bool) -> None:
    """Record why `read_label` refused a label with `message`. `in_colors`: the data set's labels are colours."""
    kind = "label"
    try:
        mask = open_image(file, "mask")
        if mask.format in ("JPEG", "MPO"):
            kind = "jpeg"
        elif mask.mode not in LABEL_MODES and not in_colors:
            with decoding(file, "mask"):
                row.colors = len(np.unique(packed_colors(mask.convert("RGB"))))
            kind = "colors"
            message = f"mask {describe(file)} holds {row.colors:,} colours"
    except DataError as error:  # it is damaged too, and that comes first
        message = str(error)
    row.faults[kind] = message


def _size_fault(row: Row, shape: Sequence[int]) -> str:
    turned = ": one of them lies on its side" if tuple(shape) == row.size[::-1] else ""
    height, width = row.size
    return f"mask {row.label} is {shape[0]}x{shape[1]} but its image {row.image} is {height}x{width}{turned}"


def _check_instances(row: Row, files: dict, shape: tuple[int, int]) -> None:
    try:
        instances = read_instances(files["instance"], files["image"] if row.size else None)
    except DataError as error:
        row.faults["instance"] = str(error)
        return
    if instances.shape != shape:
        height, width = instances.shape
        where = describe(files["instance"])
        row.faults["instance"] = f"instance map {where} is {height}x{width} but its mask is {shape[0]}x{shape[1]}"
