"""U-Net (Ronneberger et al., 2015, arXiv 1505.04597), also with attention gates (Oktay et al., 2018, arXiv 1804.03999).

It comes with the plain encoder of the challenge's starting code, or on any other encoder.
"""

from itertools import pairwise

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .layers import conv_norm_act, upsample_like

SHAPES = {  # widths of the stages, stride of the first one
    # The paper's last stage is twice as wide, because its upsampling halves the channels.
    "unet": ((64, 128, 256, 512, 512), 1),
    "maxpool": ((64, 128, 256, 512, 2048), 2),
}
STEPS = [32, 64, 128, 256]  # decoder widths on other encoders: segmentation_models.pytorch's but for its last, 16


class TwoConvs(GradientCheckpointingLayer):
    """Two 3x3 convolutions, each with norm and activation. `stride` is that of the first one."""

    def __init__(self, norm: str, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.first = conv_norm_act(norm, in_channels, out_channels, stride=stride)
        self.second = conv_norm_act(norm, out_channels, out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


class UNetEncoder(nn.Module):
    """Map (B, 3, H, W) to five feature maps (B, channels[i], H/r, W/r), r = reductions[i].

    `build_encoder` checks `output_stride`, which is that of the last map.
    """

    def __init__(self, name: str, norm: str, output_stride: int | None):
        super().__init__()
        widths, stride = SHAPES[name]
        strides = (stride, *[1] * (len(widths) - 1))
        shapes = zip(pairwise((3, *widths)), strides, strict=True)
        self.stages = nn.ModuleList(TwoConvs(norm, *channels, first) for channels, first in shapes)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.channels = list(widths)
        self.reductions = [stride * 2**i for i in range(len(widths))]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        features = []
        for stage in self.stages:
            x = stage(self.pool(x) if features else x)
            features.append(x)
        return features


class AttentionGate(nn.Module):
    """Weight a skip connection by the coarser features: skip * sigmoid(psi(relu(W_skip skip + W_gate gate))).

    psi, W_skip and W_gate are 1x1 convolutions (equations 1 and 2).
    """

    def __init__(self, skip_channels: int, gate_channels: int):
        super().__init__()
        width = skip_channels // 2
        self.skip, self.gate = nn.Conv2d(skip_channels, width, 1), nn.Conv2d(gate_channels, width, 1)
        self.psi = nn.Conv2d(width, 1, 1)

    def forward(self, skip: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return skip * torch.sigmoid(self.psi(torch.relu(self.skip(skip) + self.gate(gate))))


def step_channels(channels: list[int], reductions: list[int]) -> list[tuple[int, int, int]]:
    """Return the channels (coarser features, skip connection, result) of each decoder step, finest step first."""
    outs = [channels[0], *channels[:-2]] if reductions[0] == 1 else STEPS[-len(channels) + 1 :]
    return list(zip([*outs[1:], channels[-1]], channels[:-1], outs, strict=True))


class UNetHead(nn.Module):
    """Map the encoder's features to logits (B, C, h, w) at the first map's stride.

    Starting from the last map, each step upsamples its input and concatenates it with the encoder's next finer map.
    """

    def __init__(self, channels: list[int], reductions: list[int], num_labels: int, norm: str):
        super().__init__()
        steps = step_channels(channels, reductions)
        self.steps = nn.ModuleList(TwoConvs(norm, below + skip, out) for below, skip, out in steps)
        self.classifier = nn.Conv2d(steps[0][-1], num_labels, 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        *skips, x = features
        for i in reversed(range(len(skips))):
            x = upsample_like(x, skips[i])
            x = self.steps[i](torch.cat([self.skipped(i, skips[i], x), x], dim=1))
        return self.classifier(x)

    def skipped(self, step: int, skip: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return skip


class AttentionUNetHead(UNetHead):
    """U-Net's head with an attention gate on each skip connection."""

    def __init__(self, channels: list[int], reductions: list[int], num_labels: int, norm: str):
        super().__init__(channels, reductions, num_labels, norm)
        self.gates = nn.ModuleList(AttentionGate(skip, below) for below, skip, _ in step_channels(channels, reductions))

    def skipped(self, step: int, skip: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self.gates[step](skip, x)
