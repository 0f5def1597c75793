"""PSPNet (Zhao et al., 2017, arXiv 1612.01105): averages over parts of the last map, at four sizes, beside the map."""

import torch
from torch import nn

from .layers import conv_norm_act, pool_conv_norm_act, upsample_like

BINS = (1, 2, 3, 6)  # section 3.2 of the paper


class PSPNetHead(nn.Module):
    """The last of the encoder's features -> logits (B, C, h, w) at its stride."""

    def __init__(self, channels: list[int], reductions: list[int], num_labels: int, norm: str = "batch"):
        super().__init__()
        width = channels[-1] // len(BINS)
        self.pyramid = nn.ModuleList(pool_conv_norm_act(norm, channels[-1], width, size) for size in BINS)
        self.fuse = conv_norm_act(norm, 2 * channels[-1], width)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(width, num_labels, 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        x = features[-1]
        x = torch.cat([x, *(upsample_like(branch(x), x) for branch in self.pyramid)], dim=1)
        return self.classifier(self.dropout(self.fuse(x)))
