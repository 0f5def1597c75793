"""HRNetV2's head (Wang et al., 2019, arXiv 1908.07919, section 3.2): concatenate all maps at the finest stride."""

import torch
from torch import nn

from .layers import conv_norm_act, upsample_like


class HRNetHead(nn.Module):
    """Map the encoder's features at stride 4 and coarser to logits (B, C, H/4, W/4)."""

    def __init__(self, channels: list[int], reductions: list[int], num_labels: int, norm: str):
        super().__init__()
        self.used = [i for i, reduction in enumerate(reductions) if reduction >= 4]
        width = sum(channels[i] for i in self.used)
        self.fuse = conv_norm_act(norm, width, width, 1)
        self.classifier = nn.Conv2d(width, num_labels, 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        finest, *others = (features[i] for i in self.used)
        x = torch.cat([finest, *(upsample_like(x, finest) for x in others)], dim=1)
        return self.classifier(self.fuse(x))
