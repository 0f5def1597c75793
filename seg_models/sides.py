"""How small the images may be that a network sees."""

from collections.abc import Sequence

from torch import nn

from .errors import ModelError


def smallest_side(model: nn.Module) -> int:
    """Return the smallest height and width, in pixels, that the network accepts: 29 for SegFormer B0 to B5, else 1.

    A stage of SegFormer reduces keys and values by a factor r in its attention, so it needs a map of at least r
    positions a side.
    """
    side = 1
    stride = 1
    config = getattr(model, "config", None)
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
    """Raise ModelError, which names `flag`, if a side of `size` (H, W) has fewer than `least` pixels."""
    if min(size) < least:
        raise ModelError(f"{flag} {size[0]} {size[1]} is too small: this network needs at least {least} pixels a side")
