"""torchvision's FCN (Long et al., 2015, arXiv 1411.4038): a small head on the last map of a dilated ResNet."""

import torch
from torchvision.models.segmentation.fcn import FCNHead

from .norms import convert_norms


class FCNDecoder(FCNHead):
    """torchvision's head with any norm. Maps the encoder's features to logits (B, C, h, w)."""

    def __init__(self, channels: list[int], reductions: list[int], num_labels: int, norm: str):
        super().__init__(channels[-1], num_labels)
        convert_norms(self, norm)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        return super().forward(features[-1])
