"""DeepLabV3 (Chen et al., 2017, arXiv 1706.05587): atrous spatial pyramid pooling on the last feature map."""

import torch
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from .norms import bias_instead_of_norm, convert_norms

ATROUS_RATES = {8: (12, 24, 36), 16: (6, 12, 18)}  # by output stride: section 3.3 of the paper


class DeepLabV3Head(DeepLabHead):
    """torchvision's head with any norm. Input: the encoder's list of features; output: logits (B, C, h, w)."""

    def __init__(self, channels: list[int], reductions: list[int], num_labels: int, norm: str = "batch"):
        if reductions[-1] not in ATROUS_RATES:
            raise ValueError(f"DeepLabV3 works at output stride 8 or 16, not {reductions[-1]}")
        super().__init__(channels[-1], num_labels, ATROUS_RATES[reductions[-1]])
        convert_norms(self, norm)
        if norm == "instance":
            # The pooled branch is constant over the map: an instance norm right after the 1x1 projection would
            # subtract it again, and with it all global context.
            bias_instead_of_norm(self[0].project, 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        return super().forward(features[-1])
