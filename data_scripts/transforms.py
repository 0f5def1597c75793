"""From files to training and evaluation items.

Parameters are sampled first, from a generator that belongs to (seed, epoch, index) alone, and then applied purely
to image and label together: results depend neither on the number of workers nor on interruptions.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from .reader import read_image, read_label

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in 0..1; subtracted on the device, see seg_models.normalize
IMAGENET_STD = (0.229, 0.224, 0.225)
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
TO_YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])  # NTSC, FCC 1953


def item_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """A counter-based generator for one item: the same whichever worker or process asks."""
    return np.random.Generator(np.random.Philox(key=[seed, (epoch << 32) + index]))


@dataclass(frozen=True)
class Augmentation:
    """The sampled parameters of one training item. Offsets are of the crop in the scaled image, in pixels; negative
    ones pad. Factors are 1 and hue is 0 for an unchanged colour."""

    scale: float
    top: int
    left: int
    flip: bool
    brightness: float
    contrast: float
    saturation: float
    hue: float


def sample_augmentation(rng, size, crop_size, scale_range=(0.75, 2.0), hflip=True, jitter=0.3) -> Augmentation:
    """Draw scale, crop, flip and colour for an image of `size` (H, W).

    The crop lies anywhere inside the scaled image or, where that is smaller, the image anywhere inside the crop.
    Colour factors are uniform in 1 +- jitter; hue turns by up to +- jitter of the full circle.
    """
    scale = rng.uniform(*scale_range)
    room = [round(side * scale) - crop for side, crop in zip(size, crop_size, strict=True)]
    top, left = (int(rng.integers(min(0, r), max(0, r), endpoint=True)) for r in room)
    flip = bool(rng.random() < 0.5) and hflip
    factors = rng.uniform(max(0.0, 1 - jitter), 1 + jitter, 3)
    return Augmentation(scale, top, left, flip, *(float(f) for f in factors), float(rng.uniform(-jitter, jitter)))


def scale_crop(array, augmentation, crop_size, interpolation) -> np.ndarray:
    """(H, W[, 3]) uint8 -> (h, w[, 3]) in one affine resampling: only pixels that end up in the crop are computed.

    Pixel centres are at half-integers, as in a resize without aligned corners; the border is repeated outwards.
    """
    step = 1 / augmentation.scale
    top, left = ((start + 0.5) * step - 0.5 for start in (augmentation.top, augmentation.left))
    matrix = np.array([[step, 0, left], [0, step, top]])
    flags = interpolation | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(array, matrix, crop_size[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)


def outside(augmentation, size, crop_size) -> tuple[np.ndarray, np.ndarray]:
    """Boolean rows (h,) and columns (w,) of the crop whose centres lie outside the image of `size`."""
    starts = (augmentation.top, augmentation.left)
    centres = [(np.arange(c) + start + 0.5) / augmentation.scale for c, start in zip(crop_size, starts, strict=True)]
    return tuple((centre < 0) | (centre >= side) for centre, side in zip(centres, size, strict=True))


def color_matrix(image, augmentation) -> np.ndarray:
    """(3, 4): brightness, contrast, saturation and hue are all linear in RGB, so together they are one matrix.

    Contrast is about the image's mean grey; hue turns the chroma plane of YIQ, which keeps the luma.
    """
    a = augmentation
    angle = 2 * np.pi * a.hue
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    grey = np.tile(LUMA, (3, 1))
    saturate = a.saturation * np.eye(3) + (1 - a.saturation) * grey
    linear = np.linalg.inv(TO_YIQ) @ turn @ TO_YIQ @ saturate * (a.brightness * a.contrast)
    mean_grey = a.brightness * float(LUMA @ cv2.mean(image)[:3])
    return np.column_stack([linear, np.full(3, (1 - a.contrast) * mean_grey)])


def augment(image, label, augmentation, crop_size, ignore_index=255, jitter=True) -> tuple[np.ndarray, np.ndarray]:
    """Apply `augmentation` to an image (H, W, 3) and its label (H, W), both uint8; results have the crop's size.

    Padding is the mean colour in the image (zero after normalisation) and `ignore_index` in the label.
    """
    size = image.shape[:2]
    image = scale_crop(image, augmentation, crop_size, cv2.INTER_LINEAR)
    label = scale_crop(label, augmentation, crop_size, cv2.INTER_NEAREST)
    if jitter:
        image = cv2.transform(image, color_matrix(image, augmentation))
    rows, columns = outside(augmentation, size, crop_size)
    mean = np.round(np.array(IMAGENET_MEAN) * 255).astype(np.uint8)
    for padding in (np.s_[rows], np.s_[:, columns]):
        image[padding], label[padding] = mean, ignore_index
    if augmentation.flip:
        image, label = image[:, ::-1], label[:, ::-1]
    return np.ascontiguousarray(image), np.ascontiguousarray(label)


class SharedEpoch:
    """The epoch, in shared memory: workers that live for the whole run see it change."""

    def __init__(self):
        self._value = torch.zeros(1, dtype=torch.int64).share_memory_()

    def set(self, epoch: int) -> None:
        self._value[0] = epoch

    def get(self) -> int:
        return int(self._value[0])


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 (H, W, 3) -> uint8 (3, H, W): bytes travel, the device normalises."""
    return torch.from_numpy(image.transpose(2, 0, 1).copy())


class TrainTransform:
    """For `Dataset.with_transform`: rows -> `pixel_values` uint8 (3, h, w) and `labels` uint8 (h, w), train ids.

    size  (H, W) that image and label are resized to before anything else (`--train_size`); None: native
    """

    def __init__(self, labels, crop_size, seed, epoch, size=None, scale_range=(0.75, 2.0), hflip=True, jitter=0.3):
        self.table, self.ignore_index = labels.train_ids, labels.ignore_index
        self.crop_size, self.seed, self.epoch, self.size = tuple(crop_size), seed, epoch, size
        self.scale_range, self.hflip, self.jitter = tuple(scale_range), hflip, jitter

    def __call__(self, rows: dict[str, list]) -> dict[str, list]:
        items = [self.item(*row) for row in zip(rows["index"], rows["image"], rows["label"], strict=True)]
        images, labels = zip(*items, strict=True)
        return {"pixel_values": list(images), "labels": list(labels)}

    def item(self, index: int, image_file, label_file) -> tuple[torch.Tensor, torch.Tensor]:
        image = read_image(image_file)
        label = self.table[read_label(label_file, image_file)]
        if self.size is not None:
            image = resize_image(image, self.size)
            label = cv2.resize(label, self.size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        rng = item_generator(self.seed, self.epoch.get(), index)
        options = (self.crop_size, self.scale_range, self.hflip, self.jitter)
        augmentation = sample_augmentation(rng, image.shape[:2], *options)
        image, label = augment(image, label, augmentation, self.crop_size, self.ignore_index, self.jitter > 0)
        return to_tensor(image), torch.from_numpy(label)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) -> (*size, 3): averaging areas when both sides shrink, else bilinear."""
    shrink = size[0] <= image.shape[0] and size[1] <= image.shape[1]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)


class EvalTransform:
    """For `Dataset.with_transform`: rows -> `pixel_values` uint8 (3, H, W), `name` and, where the split has labels,
    `labels` uint8 (H, W), train ids. Nothing is resized: the predictor does that, and scores at the label's size.
    """

    def __init__(self, labels):
        self.table = labels.train_ids

    def __call__(self, rows: dict[str, list]) -> dict[str, list]:
        items = {"name": rows["name"], "pixel_values": [to_tensor(read_image(file)) for file in rows["image"]]}
        if "label" in rows:
            pairs = zip(rows["label"], rows["image"], strict=True)
            items["labels"] = [torch.from_numpy(self.table[read_label(*pair)]) for pair in pairs]
        return items
