"""DeepLabV3+ (Chen et al., 2018, arXiv 1802.02611).

Pyramid pooling with atrous separable convolutions, then a decoder that joins the encoder's map at stride 4.
"""

import torch
from torch import nn

from .deeplabv3 import ATROUS_RATES
from .layers import conv_norm_act, merge_pooled, pool_conv_norm_act, separable_conv_norm_act, upsample_like

WIDTH, LOW_WIDTH = 256, 48  # section 4.1 of the paper


class DeepLabV3PlusHead(nn.Module):
    """Map the encoder's features to logits (B, C, H/4, W/4)."""

    def __init__(self, channels: list[int], reductions: list[int], num_labels: int, norm: str):
        super().__init__()
        if reductions[-1] not in ATROUS_RATES or 4 not in reductions:
            raise ValueError(f"DeepLabV3+ works at output stride 8 or 16 with a map at stride 4, not {reductions}")
        high = channels[-1]
        self.low_index = reductions.index(4)
        rates = ATROUS_RATES[reductions[-1]]
        self.point = conv_norm_act(norm, high, WIDTH, 1)
        self.atrous = nn.ModuleList(separable_conv_norm_act(norm, high, WIDTH, rate) for rate in rates)
        self.pool = pool_conv_norm_act(norm, high, WIDTH, 1)
        self.project = merge_pooled(norm, (2 + len(rates)) * WIDTH, WIDTH)
        self.dropout = nn.Dropout(0.5)
        self.refine = separable_conv_norm_act(norm, WIDTH, WIDTH)
        self.low = conv_norm_act(norm, channels[self.low_index], LOW_WIDTH, 1)
        self.fuse = separable_conv_norm_act(norm, WIDTH + LOW_WIDTH, WIDTH)
        self.classifier = nn.Conv2d(WIDTH, num_labels, 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        low, high = features[self.low_index], features[-1]
        pooled = self.pool(high).expand(-1, -1, *high.shape[-2:])
        branches = [self.point(high), *(branch(high) for branch in self.atrous), pooled]
        x = self.refine(self.dropout(self.project(torch.cat(branches, dim=1))))
        x = torch.cat([upsample_like(x, low), self.low(low)], dim=1)
        return self.classifier(self.fuse(x))
