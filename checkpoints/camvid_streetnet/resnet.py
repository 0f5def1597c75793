"""ResNet encoders (He et al., 2015, arXiv 1512.03385): torchvision's network with blocks that take any norm.

Parameter names are torchvision's, so its weights load. torchvision's blocks call one ReLU module two or three times.
EvoNorm replaces only some of these ReLUs, so we need blocks of our own. They take the eight arguments that
torchvision's ResNet passes to a block.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torchvision.models.resnet import ResNet
from transformers.modeling_layers import GradientCheckpointingLayer

from .norms import activation_after, norm_layer


class Bottleneck(GradientCheckpointingLayer):
    """1x1 -> 3x3 (strided, dilated) -> 1x1 with four times the channels, added to the shortcut."""

    expansion = 4

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        groups: int = 1,
        base_width: int = 64,
        dilation: int = 1,
        norm_layer: Callable[..., nn.Module] | None = None,
    ):
        super().__init__()
        width = int(planes * base_width / 64) * groups
        self.conv1 = nn.Conv2d(inplanes, width, 1, bias=False)
        self.bn1 = norm_layer(width, act=True)
        self.act1 = activation_after(self.bn1)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, groups, bias=False)
        self.bn2 = norm_layer(width, act=True)
        self.act2 = activation_after(self.bn2)
        self.conv3 = nn.Conv2d(width, planes * self.expansion, 1, bias=False)
        self.bn3 = norm_layer(planes * self.expansion)
        self.downsample = downsample
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.act2(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class BasicBlock(GradientCheckpointingLayer):
    """3x3 (strided, dilated) -> 3x3 (dilated), added to the shortcut. torchvision's block supports no dilation."""

    expansion = 1

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        groups: int = 1,
        base_width: int = 64,
        dilation: int = 1,
        norm_layer: Callable[..., nn.Module] | None = None,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, dilation, dilation, bias=False)
        self.bn1 = norm_layer(planes, act=True)
        self.act1 = activation_after(self.bn1)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, dilation, dilation, bias=False)
        self.bn2 = norm_layer(planes)
        self.downsample = downsample
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.act1(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


LAYERS = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


class ResNetEncoder(ResNet):
    """Map (B, 3, H, W) to five feature maps (B, channels[i], H/r, W/r), r = reductions[i].

    `output_stride` (8, 16 or 32; None: 8) is the stride of the last map. Stages that would exceed it are dilated
    instead.
    """

    def __init__(self, name: str, norm: str, output_stride: int | None):
        block, layers = LAYERS[name]
        output_stride = output_stride or 8
        if output_stride not in (8, 16, 32):
            raise ValueError(f"a ResNet has output stride 8, 16 or 32, not {output_stride}")
        dilate = (False, output_stride < 16, output_stride < 32)
        layer = partial(norm_layer, norm)
        super().__init__(block, layers, replace_stride_with_dilation=dilate, norm_layer=layer)
        del self.fc, self.avgpool
        self.bn1 = layer(64, act=True)
        self.relu = activation_after(self.bn1)
        self.channels = [64, *(planes * block.expansion for planes in (64, 128, 256, 512))]
        self.reductions = [min(stride, output_stride) for stride in (2, 4, 8, 16, 32)]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.relu(self.bn1(self.conv1(x)))
        features = [x]
        x = self.maxpool(x)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            features.append(x)
        return features
