"""Turn images into training and evaluation items.

All randomness of an item follows from (seed, epoch, index), so results depend neither on the number of workers nor on
interruptions. Only with the tutorial's CopyBlob does an item also depend on the other images of its batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from .arguments import AugmentOptions
from .augment import Crop, finish_crop, sample_augmentation, take_crop
from .copyblob import MOST_BLOBS, PASTED, BlobBank, paste, paste_in_batch, sample_placements
from .cutmix import cutmix, sample_boxes
from .labels import DataError
from .pixels import Pixels


def item_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the random generator of an item, which is the same in every worker and process."""
    return np.random.Generator(np.random.Philox(key=[seed, (epoch << 32) + index]))


class SharedEpoch:
    """The current epoch in shared memory, where workers that live for the whole run see it change."""

    def __init__(self):
        self._value = torch.zeros(1, dtype=torch.int64).share_memory_()

    def set(self, epoch: int) -> None:
        self._value[0] = epoch

    def get(self) -> int:
        return int(self._value[0])


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """Convert uint8 (H, W, 3) to a uint8 tensor (3, H, W). The device normalises later, so workers send only bytes."""
    return torch.from_numpy(image.transpose(2, 0, 1).copy())


@dataclass(frozen=True)
class RareClasses:
    """Facts about the classes of the training split, for augmentation.

    weights      (C,) weights with which `class_crop_prob` draws a class
    blobs        objects to paste, up to `MOST_BLOBS` per image, each with probability `copyblob_prob`; None for none
    batch_rules  (object, ground) pairs of train ids for CopyBlob between the images of a batch
    """

    weights: np.ndarray | None = None
    blobs: BlobBank | None = None
    batch_rules: Sequence[tuple[int, int]] = ()


class TrainTransform:
    """Training transform for `Dataset.with_transform` on a `training_split`.

    Maps rows to `pixel_values`, uint8 (3, h, w), and `labels`, uint8 train ids (h, w). Item `index` shows image `index`
    modulo the number of images in `pixels`. `options.crop_size` must not be None.
    """

    def __init__(
        self,
        pixels: Pixels,
        seed: int,
        epoch: SharedEpoch,
        options: AugmentOptions,
        rare: RareClasses | None = None,
    ):
        self.pixels = pixels
        self.seed = seed
        self.epoch = epoch
        self.options = options
        self.rare = rare or RareClasses()

    def __call__(self, rows: dict[str, list]) -> dict[str, list]:
        crops = self.crops(rows["index"])
        images = [to_tensor(crop.image) for crop in crops]
        return {"pixel_values": images, "labels": [torch.from_numpy(crop.label) for crop in crops]}

    def crops(self, indices: Sequence[int], instances: bool = False) -> list[Crop]:
        """Return the items of a batch.

        With `instances`, they have instance maps, in which the ids of pasted blobs are above `PASTED`.
        """
        crops = [self._item(index, instances) for index in indices]
        if self.rare.batch_rules:
            rng = item_generator(self.seed, self.epoch.get(), 2**31 + indices[0])
            paste_in_batch(rng, crops, [index % len(self.pixels) for index in indices], self.rare.batch_rules)
        return crops

    def _item(self, index: int, instances: bool) -> Crop:
        options = self.options
        count = len(self.pixels)
        rng = item_generator(self.seed, self.epoch.get(), index)
        crop = self._augmented(rng, index % count, instances)
        if options.cutmix and count > 1 and rng.random() < options.cutmix_prob:
            # Never mix an image with itself: that is patented (US11687780B2).
            other = (index + 1 + int(rng.integers(count - 1))) % count
            boxes = sample_boxes(rng, crop.label.shape, options.cutmix_boxes, options.cutmix_beta)
            cutmix(crop, self._augmented(rng, other, instances, PASTED + 1 + MOST_BLOBS), boxes)
        return crop

    def _augmented(self, rng: np.random.Generator, index: int, instances: bool, first_id: int = PASTED + 1) -> Crop:
        """Augment one image: crop it, paste blobs (instance ids from `first_id`), change colours, flip."""
        options = self.options
        blobs = self.rare.blobs
        image = self.pixels.image(index)
        label = self.pixels.label(index)
        instance = self.pixels.instances(index) if instances else None
        focus = None
        if options.class_crop_prob and rng.random() < options.class_crop_prob:
            focus = sample_pixel(rng, label, self.rare.weights)
        drawn = sample_augmentation(rng, label.shape, options, focus)
        crop = take_crop(image, label, drawn, options.crop_size, instance)
        if blobs is not None:
            placements = sample_placements(rng, blobs, crop, index, options.copyblob_prob)
            for number, placement in enumerate(placements, first_id):
                paste(crop, blobs, placement, number)
        return finish_crop(crop, drawn, options.photometric or options.colorjitter_factor > 0)


def sample_pixel(rng: np.random.Generator, label: np.ndarray, class_weights: np.ndarray) -> tuple[int, int] | None:
    """Draw a class in `label` by its weight, and return (row, column) of one of its pixels; None if all are void."""
    present = cv2.calcHist([label], [0], None, [256], [0, 256]).reshape(-1)[: len(class_weights)] > 0
    weights = class_weights * present
    if not weights.any():
        return None
    chosen = rng.choice(len(weights), p=weights / weights.sum())
    pixels = np.flatnonzero(label.reshape(-1) == chosen)
    row, column = divmod(int(pixels[rng.integers(len(pixels))]), label.shape[1])
    return row, column


class EvalTransform:
    """Evaluation transform for `Dataset.with_transform`.

    Maps rows to `name`, `pixel_values`, uint8 (3, H, W), and, if the split of `pixels` has labels, `labels`, uint8
    train ids (H, W), which `table`, uint8 (256,), replaces by others. Does not resize: the predictor does, and returns
    scores at the size of the label. With `pass_errors`, an item whose files cannot be read holds `name` and `error`
    instead; this needs batches of one item.
    """

    def __init__(self, pixels: Pixels, pass_errors: bool = False, table: np.ndarray | None = None):
        self.pixels, self.pass_errors, self.table = pixels, pass_errors, table

    def __call__(self, rows: dict[str, list]) -> dict[str, list]:
        try:
            return self._items(rows)
        except DataError as error:
            if not self.pass_errors:
                raise
            return {"name": rows["name"], "error": [str(error)] * len(rows["name"])}

    def _items(self, rows: dict[str, list]) -> dict[str, list]:
        images = [to_tensor(self.pixels.image(index)) for index in rows["index"]]
        items = {"name": rows["name"], "pixel_values": images}
        if "label" in self.pixels.files:
            items["labels"] = [torch.from_numpy(self._label(index)) for index in rows["index"]]
        return items

    def _label(self, index: int) -> np.ndarray:
        ids = self.pixels.label(index)
        return np.array(ids) if self.table is None else self.table[ids]
