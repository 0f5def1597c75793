"""PSPNet (Zhao et al., 2017, arXiv 1612.01105): the last map together with its averages over grids of four sizes."""

import torch
import torch.nn.functional as F
from torch import nn

from .layers import merge_pooled, pool_conv_norm_act, upsample_like

BINS = (1, 2, 3, 6)  # section 3.2 of the paper


class PSPNetHead(nn.Module):
    """Map the encoder's last feature map to logits (B, C, h, w) at its stride.

    A 1x1 convolution fuses the map and the upsampled averages, as in segmentation_models.pytorch; the authors' code has
    a 3x3 one (docs/experiments.md compares them). A 1x1 convolution commutes with bilinear upsampling. So each average
    passes its part of the convolution while it is small, and the upsampled results are only added.
    """

    def __init__(self, channels: list[int], reductions: list[int], num_labels: int, norm: str):
        super().__init__()
        width = channels[-1] // len(BINS)
        self.pyramid = nn.ModuleList(pool_conv_norm_act(norm, channels[-1], width, size) for size in BINS)
        self.fuse = merge_pooled(norm, channels[-1] + len(BINS) * width, width)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(width, num_labels, 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        x = features[-1]
        conv, norm, act = self.fuse
        averages = [branch(x) for branch in self.pyramid]
        own, *parts = conv.weight.split([part.shape[1] for part in (x, *averages)], dim=1)
        fused = F.conv2d(x, own, conv.bias)
        for average, part in zip(averages, parts, strict=True):
            fused = fused + upsample_like(F.conv2d(average, part), fused)
        return self.classifier(self.dropout(act(norm(fused))))
