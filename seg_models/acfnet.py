"""ACFNet (Zhang et al., 2019, arXiv 1909.09408): tell each pixel what the classes look like in this image.

    coarse   logits of a base network, here DeepLabV3
    centres  for each class, the mean of the features weighted by the coarse probabilities (class centre block)
    context  for each pixel, the mean of the centres weighted by its coarse probabilities (class attention block)
    logits   computed from the features and that context, concatenated

The centres are only meaningful if the coarse logits are, so these have their own loss in training.
"""

import torch
from torch import nn

from .deeplabv3 import WIDTH, DeepLabV3Head
from .evonorm import at_least_float32
from .layers import conv_norm_act


class ACFHead(nn.Module):
    """Map the encoder's features to logits (B, C, h, w) at the last map's stride.

    In training, returns (logits, coarse logits). Features have DeepLabV3's width; the paper's base networks have 512
    channels.
    """

    def __init__(self, channels: list[int], reductions: list[int], num_labels: int, norm: str):
        super().__init__()
        self.base = DeepLabV3Head(channels, reductions, num_labels, norm)
        self.reduce = conv_norm_act(norm, WIDTH, WIDTH, 1)
        self.refine = nn.Conv2d(WIDTH, WIDTH, 1)
        self.fuse = conv_norm_act(norm, 2 * WIDTH, WIDTH)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(WIDTH, num_labels, 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        *layers, classifier = self.base
        x = features[-1]
        for layer in layers:
            x = layer(x)
        coarse = classifier(x)
        context = self.refine(class_context(self.reduce(x), coarse))
        logits = self.classifier(self.dropout(self.fuse(torch.cat([x, context], dim=1))))
        return (logits, coarse) if self.training else logits


def class_context(features: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
    """Return the context (B, D, H, W) of features (B, D, H, W) and coarse logits (B, C, H, W): equations 2 to 4."""
    device = "cpu" if features.is_meta else features.device.type  # "meta" has no autocast
    with torch.autocast(device, enabled=False):  # a pixel's share of a class is too small for fp16
        probabilities = at_least_float32(coarse).softmax(1).flatten(2)  # (B, C, HW)
        shares = probabilities / probabilities.sum(2, keepdim=True).clamp(min=1e-6)
        centres = features.flatten(2).to(shares.dtype) @ shares.mT  # (B, D, C)
        return (centres @ probabilities).view_as(features).to(features.dtype)
