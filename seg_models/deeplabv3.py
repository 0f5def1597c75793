"""DeepLabV3 (Chen et al., 2017, arXiv 1706.05587): atrous spatial pyramid pooling on the last feature map."""

import itertools

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.segmentation.deeplabv3 import ASPPPooling

from .norms import bias_instead_of_norm, convert_norms

ATROUS_RATES = {8: (12, 24, 36), 16: (6, 12, 18)}  # by output stride: section 3.3 of the paper
WIDTH = 256  # of every branch: section 4 of the paper


class AtrousConv(nn.Conv2d):
    """A 3x3 convolution with padding equal to its dilation, computed without the taps that see only padding.

    The upper and lower taps see only padding if the map is no higher than the rate, the left and right ones if it is no
    wider (section 3.3 of the paper has a figure). With rate 36 at output stride 8, this holds for crops of up to 288
    pixels. A traced or exported network keeps all taps, so that it works for images of any size.

    Without gradients, in bf16 on a CPU, each tap is a 1x1 convolution of the positions that it sees. PyTorch's atrous
    convolutions are up to 8 times as slow there (docs/experiments.md).
    """

    def __init__(self, in_channels: int, out_channels: int, rate: int):
        super().__init__(in_channels, out_channels, 3, padding=rate, dilation=rate, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_tracing() or torch.compiler.is_exporting():
            return super().forward(x)
        if x.dtype == torch.bfloat16 and x.device.type == "cpu" and not torch.is_grad_enabled():
            return self._sum_of_taps(x)
        sees = [side > rate for side, rate in zip(x.shape[2:], self.dilation, strict=True)]
        rows, columns = (slice(None) if some else slice(1, 2) for some in sees)
        padding = [rate if some else 0 for some, rate in zip(sees, self.dilation, strict=True)]
        return F.conv2d(x, self.weight[:, :, rows, columns], self.bias, 1, padding, self.dilation)

    def _sum_of_taps(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output for (B, C, H, W), summed in float32 over the taps."""
        height, width = x.shape[2:]
        weight = self.weight.to(x.dtype)
        total = F.conv2d(x, weight[:, :, 1:2, 1:2]).float()
        for row, column in itertools.product(range(3), repeat=2):
            down, right = (row - 1) * self.dilation[0], (column - 1) * self.dilation[1]
            if (down, right) == (0, 0) or abs(down) >= height or abs(right) >= width:
                continue
            seen = x[:, :, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
            part = total[:, :, max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)]
            part += F.conv2d(seen, weight[:, :, row : row + 1, column : column + 1])
        return total.to(x.dtype)


class PyramidPooling(nn.Module):
    """torchvision's ASPP with `AtrousConv`s: the same layers under the same names, made in the same order, so that its
    weights load and a seed gives the same ones."""

    def __init__(self, in_channels: int, rates: tuple[int, ...]):
        super().__init__()
        point = nn.Conv2d(in_channels, WIDTH, 1, bias=False)
        branches = [nn.Sequential(point, nn.BatchNorm2d(WIDTH), nn.ReLU())]
        for rate in rates:
            branches.append(nn.Sequential(AtrousConv(in_channels, WIDTH, rate), nn.BatchNorm2d(WIDTH), nn.ReLU()))
        self.convs = nn.ModuleList([*branches, ASPPPooling(in_channels, WIDTH)])
        merge = nn.Conv2d(len(self.convs) * WIDTH, WIDTH, 1, bias=False)
        self.project = nn.Sequential(merge, nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.project(torch.cat([branch(x) for branch in self.convs], dim=1))


class DeepLabV3Head(nn.Sequential):
    """torchvision's head with any norm. Maps the encoder's features to logits (B, C, h, w)."""

    def __init__(self, channels: list[int], reductions: list[int], num_labels: int, norm: str):
        if reductions[-1] not in ATROUS_RATES:
            raise ValueError(f"DeepLabV3 works at output stride 8 or 16, not {reductions[-1]}")
        super().__init__(
            PyramidPooling(channels[-1], ATROUS_RATES[reductions[-1]]),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.Conv2d(WIDTH, num_labels, 1),
        )
        convert_norms(self, norm)
        if norm == "instance":
            # The pooled branch is constant over the map. An instance norm after the 1x1 projection would subtract it,
            # and all global context with it.
            bias_instead_of_norm(self[0].project, 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        return super().forward(features[-1])
