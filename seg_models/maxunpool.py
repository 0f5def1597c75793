"""Encoder-decoder with max-unpooling, as in SegNet (Badrinarayanan et al., 2015, arXiv 1511.00561).

Only the positions of the maxima skip from encoder to decoder. This network is the baseline of a course on KITTI. Its
encoder is U-Net's, with a stride in the first stage and a wider last stage (maxpool in `unet.SHAPES`).
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from .layers import conv_norm_act


class MaxUnpoolHead(nn.Module):
    """Map the encoder's features to logits (B, C, h, w) at the first map's stride.

    Each step puts values where the maxima of the encoder's map were, and zeros elsewhere.
    """

    def __init__(self, channels: list[int], reductions: list[int], num_labels: int, norm: str):
        super().__init__()
        self.steps = nn.ModuleList(conv_norm_act(norm, above, below) for below, above in pairwise(channels))
        self.last = conv_norm_act(norm, channels[0], channels[0])
        self.classifier = nn.Conv2d(channels[0], num_labels, 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        *pooled, x = features
        for step, before in zip(reversed(self.steps), reversed(pooled), strict=True):
            x = unpool(step(x), before)
        return self.classifier(self.last(x))


def unpool(x: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Unpool `x` (B, D, h, w) to the size of `before` (B, D, H, W).

    Values go to the maximum of each 2x2 window of `before`. The encoder does not keep these indices, which no other
    decoder needs; pooling `before` again gives the same ones.
    """
    _, places = F.max_pool2d(before.detach(), 2, ceil_mode=True, return_indices=True)
    canvas = x.new_zeros(*before.shape[:2], before.shape[2:].numel())
    return canvas.scatter(2, places.flatten(2), x.flatten(2)).view(before.shape)
