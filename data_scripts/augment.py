"""Random scale, rotation, crop, mirror and colour.

Parameters are sampled first, from an explicit generator. They are then applied, without further randomness, to image,
label and instance map together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from .arguments import AugmentOptions
from .labels import IGNORE_INDEX

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB in 0..1, subtracted on the device by seg_models.predictor.normalize
IMAGENET_STD = (0.229, 0.224, 0.225)
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
TO_YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])  # NTSC, FCC 1953

# Photometric distortion of SSD (Liu et al., 2016, arXiv 1512.02325), in grey levels, factors, factors and turns.
SSD_SHIFT = 32.0
SSD_GAIN = (0.5, 1.5)
SSD_SATURATION = (0.5, 1.5)
SSD_HUE = 18 / 360


@dataclass(frozen=True)
class Augmentation:
    """The sampled parameters of one training item. Factors of 1 and angles and shifts of 0 change nothing."""

    scale: float
    top: int  # row of the scaled image at which the crop begins; if negative, the crop is padded
    left: int
    flip: bool
    brightness: float  # factor
    contrast: float  # factor about the image's mean grey
    saturation: float  # factor
    hue: float  # in turns
    rotation: float = 0.0  # of the scaled image about its centre, in degrees clockwise
    shift: float = 0.0  # added to all channels, in grey levels (0 to 255)
    shift_first: bool = True  # apply the shift before the factors


def sample_augmentation(
    rng: np.random.Generator,
    size: Sequence[int],
    options: AugmentOptions,
    focus: tuple[int, int] | None = None,
) -> Augmentation:
    """Draw scale, crop, flip, colour and rotation for an image of `size` (H, W).

    The crop lies anywhere inside the scaled image, or the image anywhere inside a larger crop.

    options  `crop_size` must not be None
    focus    (row, column) of a pixel whose centre the crop must cover
    """
    crop_size = options.crop_size
    scale = rng.uniform(*options.scale_range)
    room = [round(side * scale) - crop for side, crop in zip(size, crop_size, strict=True)]
    starts = [int(rng.integers(min(0, r), max(0, r), endpoint=True)) for r in room]
    flip = bool(rng.random() < 0.5) and options.hflip
    colors = sample_distortion(rng) if options.photometric else sample_jitter(rng, options.colorjitter_factor)
    angle = float(rng.uniform(-options.rotation, options.rotation)) if options.rotation else 0.0
    if focus is not None:
        centre = np.array(size) / 2
        point = scale * (turn(angle)[::-1, ::-1] @ (np.array(focus) + 0.5 - centre) + centre)
        starts = [sample_window(rng, int(p), c, r) for p, c, r in zip(np.floor(point), crop_size, room, strict=True)]
    return Augmentation(scale, *starts, flip, **colors, rotation=angle)


def sample_window(rng: np.random.Generator, point: int, length: int, room: int) -> int:
    """Draw the start of a window of `length` that contains `point`, between 0 and `room` if possible."""
    first = point - length + 1
    last = point
    low = max(first, min(0, room))
    high = min(last, max(0, room))
    if low > high:  # rotation moved the point out of the image
        return first if first > max(0, room) else last
    return int(rng.integers(low, high, endpoint=True))


def sample_jitter(rng: np.random.Generator, jitter: float) -> dict[str, float]:
    """Draw colour jitter: factors uniform in 1 +- `jitter`, and the hue in +- `jitter` turns."""
    factors = rng.uniform(max(0.0, 1 - jitter), 1 + jitter, 3)
    hue = float(rng.uniform(-jitter, jitter))
    return dict(zip(("brightness", "contrast", "saturation"), map(float, factors), strict=True)) | {"hue": hue}


def sample_distortion(rng: np.random.Generator) -> dict[str, float]:
    """Draw SSD's photometric distortion: each change with probability 1/2, in random order.

    Only whether the shift comes before the gain is drawn, because no other order matters: all changes are linear here,
    and saturation and hue act on the chroma, which the shift leaves alone and the gain scales.
    """
    on = rng.random(4) < 0.5
    shift, hue = rng.uniform(-SSD_SHIFT, SSD_SHIFT), rng.uniform(-SSD_HUE, SSD_HUE)
    gain, saturation = rng.uniform(*SSD_GAIN), rng.uniform(*SSD_SATURATION)
    drawn = {"shift": shift, "brightness": gain, "saturation": saturation, "hue": hue}
    neutral = {"shift": 0.0, "brightness": 1.0, "saturation": 1.0, "hue": 0.0}
    chosen = {key: float(drawn[key] if use else neutral[key]) for key, use in zip(drawn, on, strict=True)}
    return chosen | {"contrast": 1.0, "shift_first": bool(rng.random() < 0.5)}


def turn(degrees: float) -> np.ndarray:
    """Return the clockwise rotation matrix (2, 2) for column vectors (x, y), y downwards."""
    cos = np.cos(np.deg2rad(degrees))
    sin = np.sin(np.deg2rad(degrees))
    return np.array([[cos, -sin], [sin, cos]])


def crop_matrix(augmentation: Augmentation, size: Sequence[int]) -> np.ndarray:
    """Return the affine matrix (2, 3) from (x, y, 1) in the unmirrored crop to (x, y) in the image of `size` (H, W).

    Pixel centres lie at half-integers, as with `align_corners=False`.
    """
    centre = np.array(size[::-1]) / 2
    start = (np.array([augmentation.left, augmentation.top]) + 0.5) / augmentation.scale - centre
    back = turn(-augmentation.rotation)
    return np.column_stack([back / augmentation.scale, back @ start + centre - 0.5])


def warp(array: np.ndarray, matrix: np.ndarray, crop_size: Sequence[int], interpolation: int) -> np.ndarray:
    """Resample (H, W[, 3]) -> (h, w[, 3]) with one affine map, which computes only the crop's pixels.

    Beyond the image, the border pixels are repeated.
    """
    flags = interpolation | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(array, matrix, tuple(crop_size[::-1]), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def outside(matrix: np.ndarray, size: Sequence[int], crop_size: Sequence[int]) -> np.ndarray | None:
    """Return which pixels of the crop have their centre outside the image of `size`, bool (h, w); None if no pixel."""
    (height, width), (rows, columns) = size, crop_size
    corners = np.array([[0, columns - 1, 0, columns - 1], [0, 0, rows - 1, rows - 1], [1, 1, 1, 1]])
    x, y = matrix @ corners
    if min(*x, *y) >= -0.5 and max(x) < width - 0.5 and max(y) < height - 0.5:
        return None
    x = np.arange(columns)
    y = np.arange(rows)[:, None]
    if matrix[0, 1] == 0 == matrix[1, 0]:  # without rotation, a row and a column of numbers are enough
        x, y = matrix[0, 0] * x + matrix[0, 2], matrix[1, 1] * y + matrix[1, 2]
    else:
        x, y = (row[0] * x + row[1] * y + row[2] for row in matrix)
    return (x < -0.5) | (x >= width - 0.5) | (y < -0.5) | (y >= height - 0.5)


def color_matrix(image: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    """Return brightness, contrast, saturation, hue and shift as one affine map of RGB, (3, 4).

    Contrast is relative to the image's mean grey. Hue rotates the chroma plane of YIQ, which preserves the luma.
    """
    a = augmentation
    angle = 2 * np.pi * a.hue
    around = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    grey = np.tile(LUMA, (3, 1))
    saturate = a.saturation * np.eye(3) + (1 - a.saturation) * grey
    linear = np.linalg.inv(TO_YIQ) @ around @ TO_YIQ @ saturate * (a.brightness * a.contrast)
    mean_grey = a.brightness * float(LUMA @ cv2.mean(image)[:3]) if a.contrast != 1 else 0.0
    shift = a.shift * (a.brightness if a.shift_first else 1.0)
    return np.column_stack([linear, np.full(3, (1 - a.contrast) * mean_grey + shift)])


@dataclass
class Crop:
    """A training item while it is being made.

    image     uint8 (h, w, 3)
    label     train ids, uint8 (h, w)
    instance  uint16 (h, w), or None
    size      (H, W) of the image that the crop was taken from
    matrix    from the crop to that image, see `crop_matrix`
    padding   pixels that lie outside that image, see `outside`
    """

    image: np.ndarray
    label: np.ndarray
    instance: np.ndarray | None
    size: tuple[int, int]
    matrix: np.ndarray
    padding: np.ndarray | None


def take_crop(
    image: np.ndarray,
    label: np.ndarray,
    augmentation: Augmentation,
    crop_size: Sequence[int],
    instance: np.ndarray | None = None,
) -> Crop:
    """Scale, rotate and crop an image (H, W, 3), its label and its instance map (H, W)."""
    size = image.shape[:2]
    matrix = crop_matrix(augmentation, size)
    image = warp(image, matrix, crop_size, cv2.INTER_LINEAR)
    label = warp(label, matrix, crop_size, cv2.INTER_NEAREST)
    if instance is not None:
        instance = warp(instance, matrix, crop_size, cv2.INTER_NEAREST)
    padding = outside(matrix, size, crop_size)
    if padding is not None:
        label[padding] = IGNORE_INDEX
    return Crop(image, label, instance, size, matrix, padding)


def finish_crop(crop: Crop, augmentation: Augmentation, color: bool = True) -> Crop:
    """Apply colour, padding and mirror.

    Padding is ImageNet's mean colour in the image (zero after normalisation), `IGNORE_INDEX` in the label, and 0 in the
    instance map.
    """
    image, label, instance = crop.image, crop.label, crop.instance
    if color:
        image = cv2.transform(image, color_matrix(image, augmentation))
    if crop.padding is not None:
        cv2.copyTo(mean_color(image.shape), crop.padding.view(np.uint8), image)  # 50 times as fast as image[mask] =
        label[crop.padding] = IGNORE_INDEX
        if instance is not None:
            instance[crop.padding] = 0
    arrays = (image, label, instance)
    if augmentation.flip:
        arrays = [None if array is None else cv2.flip(array, 1) for array in arrays]
    return Crop(*arrays, crop.size, crop.matrix, crop.padding)


@lru_cache(maxsize=1)
def mean_color(shape: tuple[int, int, int]) -> np.ndarray:
    """Return an image (H, W, 3) of ImageNet's mean colour, uint8. Do not change it: calls share it."""
    return np.full(shape, np.round(np.array(IMAGENET_MEAN) * 255), np.uint8)


def resize_image(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize (H, W, 3) -> (*size, 3), by area averaging when neither side grows, else bilinearly."""
    shrink = size[0] <= image.shape[0] and size[1] <= image.shape[1]
    return cv2.resize(image, tuple(size[::-1]), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)


def resize_ids(ids: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize a label or an instance map, (H, W) -> `size`, by nearest neighbour."""
    return cv2.resize(ids, tuple(size[::-1]), interpolation=cv2.INTER_NEAREST_EXACT)
