"""U-Net (Ronneberger et al., 2015, arXiv 1505.04597), plain as the challenge's starting code has it, or on another
encoder, and with attention gates (Oktay et al., 2018, arXiv 1804.03999)."""

from itertools import pairwise

import torch
from torch import nn

from .layers import conv_norm_act, upsample_like

WIDTHS = (64, 128, 256, 512, 512)  # half as many in the last stage as in the paper: upsampling does not halve them here
STEPS = (32, 64, 128, 256)  # of the way up on another encoder, as in segmentation_models.pytorch


def two_convs(norm: str, in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        conv_norm_act(norm, in_channels, out_channels), conv_norm_act(norm, out_channels, out_channels)
    )


class UNetEncoder(nn.Module):
    """Input (B, 3, H, W); output a list of five maps (B, channels[i], H/r, W/r), r = reductions[i]."""

    def __init__(self, norm: str = "batch", widths=WIDTHS):
        super().__init__()
        self.stages = nn.ModuleList(two_convs(norm, *pair) for pair in pairwise((3, *widths)))
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.channels, self.reductions = list(widths), [2**i for i in range(len(widths))]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        features = []
        for stage in self.stages:
            x = stage(self.pool(x) if features else x)
            features.append(x)
        return features


class AttentionGate(nn.Module):
    """What of a skipped map matters, by what came up from below: skip * sigmoid(psi(relu(skip + gate))), each of the
    three by a 1x1 convolution (equations 1 and 2)."""

    def __init__(self, skip_channels: int, gate_channels: int):
        super().__init__()
        width = skip_channels // 2
        self.skip, self.gate = nn.Conv2d(skip_channels, width, 1), nn.Conv2d(gate_channels, width, 1)
        self.psi = nn.Conv2d(width, 1, 1)

    def forward(self, skip: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return skip * torch.sigmoid(self.psi(torch.relu(self.skip(skip) + self.gate(gate))))


class UNetHead(nn.Module):
    """The encoder's features -> logits (B, C, h, w) at the stride of the first: from the last map upwards, each step
    joins the map of its size."""

    attention = False

    def __init__(self, channels: list[int], reductions: list[int], num_labels: int, norm: str = "batch"):
        super().__init__()
        # Of the step that joins map 0, 1, 2, ...
        outs = [channels[0], *channels[:-2]] if reductions[0] == 1 else list(STEPS)
        ins = [*outs[1:], channels[-1]]
        self.steps = nn.ModuleList(
            two_convs(norm, below + skip, out) for below, skip, out in zip(ins, channels[:-1], outs, strict=True)
        )
        self.gates = nn.ModuleList(
            AttentionGate(skip, below) if self.attention else nn.Module()
            for below, skip in zip(ins, channels[:-1], strict=True)
        )
        self.classifier = nn.Conv2d(outs[0], num_labels, 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        *skips, x = features
        for step, gate, skip in zip(reversed(self.steps), reversed(self.gates), reversed(skips), strict=True):
            x = upsample_like(x, skip)
            x = step(torch.cat([gate(skip, x) if self.attention else skip, x], dim=1))
        return self.classifier(x)


class AttentionUNetHead(UNetHead):
    """With an attention gate on each skipped map."""

    attention = True
