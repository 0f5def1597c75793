"""StreetNet: a small CNN that trains well from scratch on a few hundred images, also on a CPU.

    encoder   3x3 stride 2 -> 3x3 stride 2 -> residual stages at stride 4, 8 and 16, the last one dilated
    context   the last stage has dilations 1, 2, 4, 8, and the global average gates its channels, as in BiSeNet
              (Yu et al., 2018, arXiv 1808.00897). If it were added, instance norm would remove it as a constant
    decoder   stride 16 -> 8 -> 4, each step adding the encoder's map through a 1x1 convolution
    fine      the same, then 4 -> 2 with the stem's first map, for poles and signs a few pixels wide

Every expensive convolution is a dense 3x3 with a multiple of 32 channels. These run near the peak of a CPU's or GPU's
matrix units; depthwise convolutions have fewer operations but do not.
"""

from functools import partial

import torch
from torch import nn

from .layers import conv_norm_act, upsample_like
from .norms import norm_layer
from .resnet import BasicBlock

STEM = 32  # channels at stride 2
SHAPES = {  # widths and depths of the stages, dilations of the last stage's blocks, whether there is a map at stride 2
    "streetnet": ((64, 128, 192), (1, 2, 4), (1, 2, 4, 8), False),
    "streetnet_fine": ((64, 128, 192), (1, 2, 4), (1, 2, 4, 8), True),
    "streetnet_large": ((64, 128, 256), (2, 3, 6), (1, 2, 4, 8, 1, 2), False),
}


class StreetNetEncoder(nn.Module):
    """Map (B, 3, H, W) to feature maps (B, channels[i], H/r, W/r), r = reductions[i].

    There are three maps, at strides 4, 8 and 16. streetnet_fine has one more before them, at stride 2. `build_encoder`
    checks `output_stride`, which is 16.
    """

    def __init__(self, name: str, norm: str, output_stride: int | None):
        super().__init__()
        widths, depths, dilations, fine = SHAPES[name]
        self.fine = fine
        self.stem = nn.Sequential(
            conv_norm_act(norm, 3, STEM, stride=2),
            conv_norm_act(norm, STEM, widths[0], stride=2),
        )
        self.stages = nn.ModuleList()
        in_channels = widths[0]
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = []
            for j in range(depth):
                stride = 2 if i and not j else 1
                last = i == len(widths) - 1
                blocks.append(self._block(norm, in_channels, width, stride, dilations[j] if last else 1))
                in_channels = width
            self.stages.append(nn.Sequential(*blocks))
        self.channels = list(widths)
        self.reductions = [4, 8, 16]
        if fine:
            self.channels, self.reductions = [STEM, *widths], [2, 4, 8, 16]

    @staticmethod
    def _block(norm: str, in_channels: int, out_channels: int, stride: int, dilation: int) -> BasicBlock:
        shortcut = None
        if stride != 1 or in_channels != out_channels:
            conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            shortcut = nn.Sequential(conv, norm_layer(norm, out_channels))
        layer = partial(norm_layer, norm)
        return BasicBlock(in_channels, out_channels, stride, shortcut, dilation=dilation, norm_layer=layer)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        first = self.stem[0](x)
        x = self.stem[1](first)
        features = [first] if self.fine else []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class StreetNetHead(nn.Module):
    """Map features at strides 4, 8, 16 to logits (B, C, H/4, W/4), at strides 2, 4, 8, 16 to (B, C, H/2, W/2)."""

    def __init__(self, channels: list[int], reductions: list[int], num_labels: int, norm: str):
        super().__init__()
        *fine, low, middle, high = channels
        self.pool = nn.Conv2d(high, 128, 1)  # has a bias and no norm, because its input is 1x1
        self.high = conv_norm_act(norm, high, 128, 1)
        self.middle = conv_norm_act(norm, middle, 128, 1)
        self.fuse_middle = conv_norm_act(norm, 128, 64)
        self.low = conv_norm_act(norm, low, 64, 1)
        self.fuse_low = conv_norm_act(norm, 64, 64)
        if fine:
            self.narrow = conv_norm_act(norm, 64, 32, 1)
            self.fine = conv_norm_act(norm, fine[0], 32, 1)
            self.fuse_fine = conv_norm_act(norm, 32, 32)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(32 if fine else 64, num_labels, 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        *fine, low, middle, high = features
        x = self.high(high) * torch.sigmoid(self.pool(high.mean((2, 3), keepdim=True)))
        x = self.fuse_middle(upsample_like(x, middle) + self.middle(middle))
        x = self.fuse_low(upsample_like(x, low) + self.low(low))
        if fine:
            x = self.fuse_fine(upsample_like(self.narrow(x), fine[0]) + self.fine(fine[0]))
        return self.classifier(self.dropout(x))
