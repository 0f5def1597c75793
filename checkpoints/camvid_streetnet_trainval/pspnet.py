"""PSPNet (Zhao et al., 2017, arXiv 1612.01105): averages over parts of the last map, at four sizes, beside the map."""

import torch
import torch.nn.functional as F
from torch import nn

from .layers import merge_pooled, pool_conv_norm_act, upsample_like

BINS = (1, 2, 3, 6)  # section 3.2 of the paper


class PSPNetHead(nn.Module):
    """The last of the encoder's features -> logits (B, C, h, w) at its stride.

    The convolution over the map and the enlarged averages is 1x1, as in segmentation_models.pytorch, not 3x3 as in the
    authors' code (docs/experiments.md compares them). That commutes with bilinear enlargement, so the averages pass
    their part of it while they are small, and what is enlarged is only added up.
    """

    def __init__(self, channels: list[int], reductions: list[int], num_labels: int, norm: str = "batch"):
        super().__init__()
        width = channels[-1] // len(BINS)
        self.pyramid = nn.ModuleList(pool_conv_norm_act(norm, channels[-1], width, size) for size in BINS)
        self.fuse = merge_pooled(norm, channels[-1] + len(BINS) * width, width)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(width, num_labels, 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        x, (conv, norm, act) = features[-1], self.fuse
        averages = [branch(x) for branch in self.pyramid]
        own, *parts = conv.weight.split([part.shape[1] for part in (x, *averages)], dim=1)
        fused = F.conv2d(x, own, conv.bias)
        for average, part in zip(averages, parts, strict=True):
            fused = fused + upsample_like(F.conv2d(average, part), fused)
        return self.classifier(self.dropout(act(norm(fused))))
