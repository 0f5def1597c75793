"""SegFormer's head on a Swin transformer (Liu et al., 2021, arXiv 2103.14030), both from `transformers`.

timm has Swin too, but `from_pretrained` loses its tables of relative positions.
"""

import torch
from torch import nn
from transformers import SegformerConfig, SwinBackbone, SwinConfig

from .short_heads import ShortHead

STAGES = ["stage1", "stage2", "stage3", "stage4"]


class SwinTinyEncoder(nn.Module):
    """Map (B, 3, H, W) to four feature maps (B, channels[i], H/r, W/r), r = reductions[i].

    It always has layer norms; `norm` is ignored. `build_encoder` checks `output_stride`, which is 32.
    """

    def __init__(self, name: str, norm: str, output_stride: int | None):
        super().__init__()
        self.swin = SwinBackbone(SwinConfig(drop_path_rate=0.2, out_features=STAGES))  # SwinConfig defaults to Swin-T
        self.swin.swin.layernorm = nn.Identity()  # nothing here uses its output
        self.channels = list(self.swin.channels)
        self.reductions = [4, 8, 16, 32]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return list(self.swin(x).feature_maps)


class AllMLPHead(nn.Module):
    """SegFormer's head with any norm. Maps features at stride 4 and coarser to logits (B, C, H/4, W/4)."""

    def __init__(self, channels: list[int], reductions: list[int], num_labels: int, norm: str):
        super().__init__()
        self.used = [i for i, reduction in enumerate(reductions) if reduction >= 4]
        widths = [channels[i] for i in self.used]
        config = SegformerConfig(hidden_sizes=widths, num_encoder_blocks=len(widths), num_labels=num_labels)
        self.head = ShortHead(config, norm)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        return self.head([features[i] for i in self.used])
