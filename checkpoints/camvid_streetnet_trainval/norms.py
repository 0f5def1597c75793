"""Normalisation layers, `--norm batch|instance|group|evo|evo_b0`, and how they reach every layer of a network.

EvoNorm is a normalisation *and* an activation, so a ReLU that follows a norm has to go with it.
Networks of this package therefore ask for the pair: `norm_layer(norm, channels, act=True)` followed by
`activation_after(layer)`. Heads built by torchvision come with batch norm inside; `convert_norms` rewrites them.
"""

import torch
from torch import nn

from .evonorm import EvoNorm, EvoNormB0, EvoNormS0, num_groups

NORMS = ("batch", "instance", "group", "evo", "evo_b0")


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
    if norm == "evo_b0":
        return EvoNormB0(channels, act=act)
    raise ValueError(f"unknown norm {norm!r}: choose one of {', '.join(NORMS)}")


def activation_after(layer: nn.Module) -> nn.Module:
    """ReLU, or nothing when the norm `layer` is an activation already."""
    return nn.Identity() if isinstance(layer, EvoNorm) else nn.ReLU(inplace=True)


def convert_norms(module: nn.Module, norm: str) -> nn.Module:
    """Replace, in place, each batch norm inside the Sequentials of `module` by `norm`, and return `module`.

    A ReLU directly after it goes when the norm is an activation. After a pooling too little is left of an image to
    normalise it by: of one pixel an instance norm would make zero, and EvoNorm-B0 would divide it by next to nothing.
    With these there is no norm then, but a bias. Indices, and so the names of parameters, stay.
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
        if pooled and norm in ("instance", "evo_b0"):
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


def synchronize_batch_norm(model: nn.Module) -> nn.Module:
    """`model` with batch norms over the images of all processes, its weights and statistics the same tensors."""
    from timm.layers import convert_sync_batchnorm  # torch's own would take the activations out of timm's norms

    return convert_sync_batchnorm(model)


def freeze_batch_norm(encoder: nn.Module) -> None:
    """Batch norms use and keep their running statistics, and their weights and biases do not learn, in place: for
    encoders that start from trained weights. After each `train()`, which undoes half of it, it is due again."""
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval().requires_grad_(False)
