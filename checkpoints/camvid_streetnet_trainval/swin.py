"""SegFormer's head on a Swin transformer (Liu et al., 2021, arXiv 2103.14030), both `transformers`' own.

timm has Swin too, but its tables of relative positions do not survive `from_pretrained`.
"""

import torch
from torch import nn
from transformers import SegformerConfig, SwinBackbone, SwinConfig

from .norms import activation_after, norm_layer
from .short_heads import ShortHead

STAGES = ["stage1", "stage2", "stage3", "stage4"]


class SwinTinyEncoder(nn.Module):
    """Input (B, 3, H, W); output a list of four maps (B, channels[i], H/r, W/r), r = reductions[i]. Its layer norms
    stay, whatever `norm`."""

    def __init__(self, norm: str = "batch"):
        super().__init__()
        self.swin = SwinBackbone(SwinConfig(drop_path_rate=0.2, out_features=STAGES))  # its defaults are Swin-T's
        self.swin.swin.layernorm = nn.Identity()  # of what nothing here uses
        self.channels, self.reductions = list(self.swin.channels), [4, 8, 16, 32]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return list(self.swin(x).feature_maps)


class AllMLPHead(nn.Module):
    """The encoder's features from stride 4 on -> logits (B, C, H/4, W/4), by SegFormer's head with any norm."""

    def __init__(self, channels: list[int], reductions: list[int], num_labels: int, norm: str = "batch"):
        super().__init__()
        self.used = [i for i, reduction in enumerate(reductions) if reduction >= 4]
        widths = [channels[i] for i in self.used]
        config = SegformerConfig(hidden_sizes=widths, num_encoder_blocks=len(widths), num_labels=num_labels)
        self.head = ShortHead(config)
        self.head.batch_norm = norm_layer(norm, config.decoder_hidden_size, act=True)
        self.head.activation = activation_after(self.head.batch_norm)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        return self.head([features[i] for i in self.used])
