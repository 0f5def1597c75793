"""Predict class scores for each pixel of an image. Validation, `predict_seg.py` and the app share this predictor."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers import SegformerImageProcessor

from .errors import ModelError
from .names import AVERAGES
from .short_heads import shorten_heads


def normalize(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Normalise images (B, 3, H, W) in 0..255 to zero mean and unit variance, float32 and channels_last.

    Images are normalised here only, on the device, so that batches travel as bytes: a quarter of the traffic.
    """
    mean = torch.tensor(mean, dtype=torch.float32, device=images.device).view(1, 3, 1, 1) * 255
    std = torch.tensor(std, dtype=torch.float32, device=images.device).view(1, 3, 1, 1) * 255
    return ((images.float() - mean) / std).contiguous(memory_format=torch.channels_last)


def resize_logits(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize logits (B, C, h, w) to (B, C, *size) bilinearly, in float32 and with `align_corners=False`.

    Logits are resized here only.
    """
    logits = logits.float()
    if logits.shape[-2:] == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)


def smallest_side(model: nn.Module) -> int:
    """Return the smallest height and width, in pixels, that the network accepts: 29 for SegFormer B0 to B5, else 1.

    A stage of SegFormer reduces keys and values by a factor r in its attention, so it needs a map of at least r
    positions a side.
    """
    side, stride, config = 1, 1, getattr(model, "config", None)
    for step, ratio in zip(getattr(config, "strides", ()), getattr(config, "sr_ratios", ()), strict=True):
        stride *= step
        side = max(side, stride * (ratio - 1) + 1)
    return side


def check_sides(
    model: nn.Module, crop_size: Sequence[int], test_size: Sequence[int] | None, follows_from: str | None = None
) -> None:
    """Raise ModelError if `crop_size` or `test_size` is too small for `model`.

    Both need `smallest_side` pixels a side. A crop also needs more than one position at the output stride, since norms
    cannot normalise a single one. `follows_from` says where the crop size comes from if `--crop_size` was not given.
    """
    least = smallest_side(model)
    least_crop = max(least, (getattr(model.config, "output_stride", None) or 1) + 1)
    if follows_from and min(crop_size) < least_crop:
        raise ModelError(
            f"the crop size that follows from {follows_from} is {crop_size[0]}x{crop_size[1]}, but this network needs "
            f"at least {least_crop} pixels a side: give --crop_size, smaller images are padded"
        )
    refuse_smaller("--crop_size", crop_size, least_crop)
    if test_size:
        refuse_smaller("--test_size", test_size, least)


def refuse_smaller(flag: str, size: Sequence[int], least: int) -> None:
    if min(size) < least:
        raise ModelError(f"{flag} {size[0]} {size[1]} is too small: this network needs at least {least} pixels a side")


@dataclass(frozen=True)
class Views:
    """The views of an image that a network sees; by default the image alone.

    size     (H, W) of the image at scale 1 (`--test_size`); None: the image's own size
    scales   scales at which the network sees the image
    flip     show it the mirrored image at each scale too
    average  what to average over several views: "probabilities" or "logits"

    Raises ValueError for a scale that is not positive, or another `average`.
    """

    size: Sequence[int] | None = None
    scales: Sequence[float] = (1.0,)
    flip: bool = False
    average: str = "probabilities"

    def __post_init__(self):
        if self.average not in AVERAGES:
            raise ValueError(f"average must be {' or '.join(AVERAGES)}, not {self.average!r}")
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"scales must be one or more numbers above 0, not {self.scales}")

    @property
    def per_scale(self) -> int:
        """The number of views at each scale."""
        return 2 if self.flip else 1

    @property
    def count(self) -> int:
        """The number of views."""
        return self.per_scale * len(self.scales)

    def sizes(self, image_size: Sequence[int], least: int = 1) -> list[tuple[int, int]]:
        """Return the (H, W) at each scale of an image of `image_size` (H, W). Shorter sides are enlarged to `least`."""
        return [tuple(max(least, round(side * scale)) for side in self.size or image_size) for scale in self.scales]


ONE_VIEW = Views()  # the image itself


class Predictor:
    """Predict one image: `predictor(image)` returns scores, float32 (C, H, W); `predictor.labels(image)` train ids.

    The image is uint8 (3, H, W), of any size. `mean` and `std` normalise it. `views` are what the network sees of it.

    The scores of a single view are its logits, so one scale without flip equals the plain forward pass. Views smaller
    than `smallest_side` are enlarged. Creating a Predictor makes SegFormer's heads take the short way (short_heads.py),
    with the same logits up to rounding.
    """

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], views: Views = ONE_VIEW):
        shorten_heads(model, in_eval=True)
        self.model, self.mean, self.std, self.views = model, mean, std, views

    @torch.no_grad()
    def __call__(self, image: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
        """Return scores at `size` (H, W), such as a label's size; by default at the image's own."""
        self.model.eval()
        views, size = self.views, tuple(size or image.shape[-2:])
        pixels = normalize(image[None], self.mean, self.std)
        total = 0
        for view_size in views.sizes(image.shape[-2:], smallest_side(self.model)):
            view = pixels
            if view_size != tuple(pixels.shape[-2:]):
                view = F.interpolate(pixels, size=view_size, mode="bilinear", align_corners=False, antialias=True)
            if views.flip:  # both in one forward pass
                view = torch.cat([view, view.flip(3)])
            logits = resize_logits(self.model(view.contiguous(memory_format=torch.channels_last)).logits, size)
            scores = logits.softmax(1) if views.count > 1 and views.average == "probabilities" else logits
            total = total + (scores[:1] + scores[1:].flip(3) if views.flip else scores)
        return total[0] / views.count

    def image_processor(self) -> SegformerImageProcessor:
        """Return the image processor to save with the model. It prepares an image as a single view does."""
        size = {"height": self.views.size[0], "width": self.views.size[1]} if self.views.size else None
        mean, std = list(self.mean), list(self.std)
        return SegformerImageProcessor(do_resize=size is not None, size=size, image_mean=mean, image_std=std)

    def labels(self, image: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
        return self(image, size).argmax(0)
