"""Building blocks of decoders and small encoders: convolution, norm and activation in one, and resizing."""

import torch
import torch.nn.functional as F
from torch import nn

from .norms import activation_after, bias_instead_of_norm, convert_norms, norm_layer


def conv_norm_act(
    norm: str, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1
) -> nn.Sequential:
    layer = norm_layer(norm, out_channels, act=True)
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
    return nn.Sequential(conv, layer, activation_after(layer))


def separable_conv_norm_act(norm: str, in_channels: int, out_channels: int, dilation: int = 1) -> nn.Sequential:
    """Depthwise 3x3 convolution, dilated, then 1x1 (Chen et al., 2018, arXiv 1802.02611, section 3.1)."""
    by_channel = nn.Conv2d(in_channels, in_channels, 3, 1, dilation, dilation, in_channels, bias=False)
    across = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    layer = norm_layer(norm, out_channels, act=True)
    return nn.Sequential(by_channel, across, layer, activation_after(layer))


def pool_conv_norm_act(norm: str, in_channels: int, out_channels: int, size: int) -> nn.Sequential:
    """Average pooling to size x size, then 1x1 convolution, norm and ReLU.

    `convert_norms` replaces some norms by a bias here.
    """
    pool = nn.AdaptiveAvgPool2d(size)
    conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    return convert_norms(nn.Sequential(pool, conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)), norm)


def merge_pooled(norm: str, in_channels: int, out_channels: int) -> nn.Sequential:
    """1x1 convolution over maps that include a constant one.

    An instance norm would subtract the constant map, so with `norm="instance"` the convolution has a bias and no norm.
    """
    merged = conv_norm_act(norm, in_channels, out_channels, 1)
    if norm == "instance":
        bias_instead_of_norm(merged, 1)
    return merged


def upsample_like(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Upsample features (B, C, h, w) bilinearly to the height and width of `like`."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def resize_logits(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize logits (B, C, h, w) to (B, C, *size) bilinearly, in float32 and with `align_corners=False`.

    Logits are resized here only, except in the graph of an exported file (export_graph.py).
    """
    logits = logits.float()
    if logits.shape[-2:] == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
