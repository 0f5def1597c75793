"""From an image to scores per pixel: one predictor for validation, `predict_seg.py` and the demo."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from transformers import SegformerImageProcessor

from .errors import ModelError
from .names import AVERAGES
from .short_heads import shorten_heads


def normalize(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """uint8 or float images (B, 3, H, W) in 0..255 -> float32, zero mean and unit variance, channels_last.

    The only place that normalises: batches travel as bytes, a quarter of the traffic, and are turned on the device.
    """
    mean = torch.tensor(mean, dtype=torch.float32, device=images.device).view(1, 3, 1, 1) * 255
    std = torch.tensor(std, dtype=torch.float32, device=images.device).view(1, 3, 1, 1) * 255
    return ((images.float() - mean) / std).contiguous(memory_format=torch.channels_last)


def resize_logits(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(B, C, h, w) -> (B, C, *size), bilinear, corners not aligned, in float32: the only place that resizes logits."""
    logits = logits.float()
    if logits.shape[-2:] == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)


def smallest_side(model: nn.Module) -> int:
    """Pixels that an image must have a side: SegFormer's attention takes no map of fewer than r positions a side, r
    being the stage's reduction (29 pixels for B0 to B5)."""
    side, stride, config = 1, 1, getattr(model, "config", None)
    for step, ratio in zip(getattr(config, "strides", ()), getattr(config, "sr_ratios", ()), strict=True):
        stride *= step
        side = max(side, stride * (ratio - 1) + 1)
    return side


def check_sides(
    model: nn.Module, crop_size: Sequence[int], test_size: Sequence[int] | None, follows_from: str | None = None
) -> None:
    """Raise ModelError for sizes too small for `model`: a crop has more than one position at the output stride, so that
    norms have something to go by, and both have what `smallest_side` says. `follows_from`: what the crop's size comes
    from, where `--crop_size` was not given."""
    least = smallest_side(model)
    least_crop = max(least, (getattr(model.config, "output_stride", None) or 1) + 1)
    if follows_from and min(crop_size) < least_crop:
        raise ModelError(
            f"the crop that follows from {follows_from} is {crop_size[0]}x{crop_size[1]}, and this network takes "
            f"{least_crop} pixels a side or more: give --crop_size, smaller images are padded"
        )
    refuse_smaller("--crop_size", crop_size, least_crop)
    if test_size:
        refuse_smaller("--test_size", test_size, least)


def refuse_smaller(flag: str, size: Sequence[int], least: int) -> None:
    if min(size) < least:
        raise ModelError(f"{flag} {size[0]} {size[1]} is too small: this network takes {least} pixels a side or more")


class Predictor:
    """`predictor(image)` -> scores (C, H, W) in float32; `predictor.labels(image)` -> train ids (H, W).

    image   uint8 (3, H, W), any size
    size    (H, W) that the network sees at scale 1 (`--test_size`); the image's own when None
    scales  the network sees the image at each, and, with `flip`, mirrored too
    average of several views: "probabilities" or "logits"

    A view has at least the pixels that the network needs (`smallest_side`); smaller ones are enlarged.
    From here on the network's heads take their short ways (short_heads.py): the same logits but for rounding.
    The scores of a single view are the logits themselves, so that one scale without flip is the plain forward.
    """

    def __init__(
        self,
        model: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        size: Sequence[int] | None = None,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        average: str = "probabilities",
    ):
        if average not in AVERAGES:
            raise ValueError(f"average must be {' or '.join(AVERAGES)}, not {average!r}")
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales must be one or more numbers above 0, not {scales}")
        shorten_heads(model, in_eval=True)
        self.model, self.mean, self.std, self.size = model, mean, std, size
        self.scales, self.flip, self.average = tuple(scales), flip, average

    @torch.no_grad()
    def __call__(self, image: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
        """Scores at `size`, by default the image's own (a label's size may differ from its image's)."""
        self.model.eval()
        size = tuple(size or image.shape[-2:])
        base = tuple(self.size or image.shape[-2:])
        pixels = normalize(image[None], self.mean, self.std)
        least = smallest_side(self.model)
        several = self.flip or len(self.scales) > 1
        total = 0
        for scale in self.scales:
            view_size = tuple(max(least, round(side * scale)) for side in base)
            view = pixels
            if view_size != tuple(pixels.shape[-2:]):
                view = F.interpolate(pixels, size=view_size, mode="bilinear", align_corners=False, antialias=True)
            if self.flip:  # both in one forward
                view = torch.cat([view, view.flip(3)])
            logits = resize_logits(self.model(view.contiguous(memory_format=torch.channels_last)).logits, size)
            scores = logits.softmax(1) if several and self.average == "probabilities" else logits
            total = total + (scores[:1] + scores[1:].flip(3) if self.flip else scores)
        return total[0] / (len(self.scales) * (2 if self.flip else 1))

    def image_processor(self) -> SegformerImageProcessor:
        """What does to an image what a single view does: saved with the model."""
        size = {"height": self.size[0], "width": self.size[1]} if self.size else None
        mean, std = list(self.mean), list(self.std)
        return SegformerImageProcessor(do_resize=size is not None, size=size, image_mean=mean, image_std=std)

    def labels(self, image: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
        return self(image, size).argmax(0)
