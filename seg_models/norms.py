"""Normalisation layers, `--norm batch|instance|group|evo`, and how they reach every layer of a network.

EvoNorm is a normalisation *and* an activation, so a ReLU that follows a norm has to go with it.
Networks of this package therefore ask for the pair: `norm_layer(norm, channels, act=True)` followed by
`activation_after(layer)`. Heads built by torchvision come with batch norm inside; `convert_norms` rewrites them.
"""

import torch
from torch import nn

NORMS = ("batch", "instance", "group", "evo")


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """float32 for half precision; float32 and float64 as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def num_groups(channels: int, most: int = 32) -> int:
    """The largest divisor of `channels` that is not above `most` (32 groups: Wu and He, 2018, section 4)."""
    return max(groups for groups in range(1, most + 1) if channels % groups == 0)


class EvoNormS0(nn.Module):
    """EvoNorm-S0 (Liu et al., 2020, arXiv 2004.02967, table 1), which needs no batch statistics:

        y = x * sigmoid(v * x) / sqrt(var_group(x) + eps) * weight + bias

    With `act=False` only the affine part is left, `y = x * weight + bias`: the paper's layer for places that
    have no activation directly after them. Input and output: (B, C, H, W).
    """

    def __init__(self, channels: int, act: bool = True, eps: float = 1e-5):
        super().__init__()
        self.groups, self.eps, self.act = num_groups(channels), eps, act
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.v = nn.Parameter(torch.ones(channels)) if act else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight, bias = (p.view(1, -1, 1, 1) for p in (self.weight, self.bias))
        if self.v is None:
            return x * weight.to(x.dtype) + bias.to(x.dtype)
        # The variance of a group is the mean of its channels' variances plus the variance of their means.
        # Taken this way no (B, G, C/G, H, W) view is needed, which would copy a channels_last tensor.
        var, mean = torch.var_mean(at_least_float32(x), dim=(2, 3), correction=0)
        var, mean = (t.view(len(x), self.groups, -1) for t in (var, mean))
        var = var.mean(2) + mean.var(2, correction=0)
        scale = torch.rsqrt(var + self.eps).repeat_interleave(x.shape[1] // self.groups, dim=1)[..., None, None]
        gate = torch.sigmoid(x * self.v.view(1, -1, 1, 1).to(x.dtype))
        return x * gate * (scale * weight).to(x.dtype) + bias.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, groups={self.groups}, act={self.act}"


class InstanceNorm(nn.InstanceNorm2d):
    """Instance norm (Ulyanov et al., 2016, arXiv 1607.08022) with weight and bias. On a 1x1 map, where torch refuses,
    nothing varies and what is left is the bias."""

    def __init__(self, channels: int):
        super().__init__(channels, affine=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[2:].numel() == 1:
            return (x - x) * self.weight.view(1, -1, 1, 1).to(x.dtype) + self.bias.view(1, -1, 1, 1).to(x.dtype)
        return super().forward(x)


def norm_layer(norm: str, channels: int, act: bool = False) -> nn.Module:
    """The layer of `--norm` for `channels`; `act` says that an activation follows it (see `activation_after`)."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "instance":
        return InstanceNorm(channels)
    if norm == "group":
        return nn.GroupNorm(num_groups(channels), channels)
    if norm == "evo":
        return EvoNormS0(channels, act=act)
    raise ValueError(f"unknown norm {norm!r}: choose one of {', '.join(NORMS)}")


def activation_after(layer: nn.Module) -> nn.Module:
    """ReLU, or nothing when the norm `layer` is an activation already."""
    return nn.Identity() if isinstance(layer, EvoNormS0) else nn.ReLU(inplace=True)


def convert_norms(module: nn.Module, norm: str) -> nn.Module:
    """Replace, in place, each batch norm inside the Sequentials of `module` by `norm`, and return `module`.

    A ReLU directly after it goes when the norm is an activation. After a pooling to 1x1 an instance norm would give
    zeros, whatever the input: there is no norm then, but a bias. Indices, and so the names of parameters, stay.
    """
    if norm == "batch":
        return module
    for child in module.children():
        convert_norms(child, norm)
    if not isinstance(module, nn.Sequential):
        return module
    pooled = any(isinstance(layer, nn.AdaptiveAvgPool2d) for layer in module)
    for i, layer in enumerate(module):
        if not isinstance(layer, nn.BatchNorm2d):
            continue
        if norm == "instance" and pooled:
            bias_instead_of_norm(module, i)
            continue
        before_relu = i + 1 < len(module) and isinstance(module[i + 1], nn.ReLU)
        module[i] = norm_layer(norm, layer.num_features, act=before_relu)
        if before_relu:
            module[i + 1] = activation_after(module[i])
    return module


def bias_instead_of_norm(sequential: nn.Sequential, index: int) -> None:
    """Take the norm at `index` away, in place, and give the convolution before it a bias."""
    conv = sequential[index - 1]
    conv.bias = nn.Parameter(torch.zeros(conv.out_channels))
    sequential[index] = nn.Identity()


def freeze_batch_norm(model: nn.Module) -> None:
    """Batch norms use and keep their running statistics, and their weights and biases do not learn, in place: for
    networks that start from trained weights. After each `model.train()`, which undoes half of it, it is due again."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval().requires_grad_(False)
