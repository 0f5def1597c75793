"""Normalisation layers for `--norm batch|instance|group|evo|evo_b0`.

EvoNorm is a normalisation *and* an activation: it replaces a norm together with the ReLU after it. Networks in this
package therefore build both: `norm_layer(norm, channels, act=True)`, then `activation_after(layer)`. torchvision builds
its heads with batch norm; `convert_norms` replaces it.
"""

import torch
from torch import nn

from .evonorm import EvoNorm, EvoNormB0, EvoNormS0, num_groups
from .names import NORMS


class InstanceNorm(nn.InstanceNorm2d):
    """Instance norm (Ulyanov et al., 2016, arXiv 1607.08022) with weight and bias.

    torch refuses a 1x1 map. Here the result for one is the bias, since a single pixel minus its mean is zero.
    """

    def __init__(self, channels: int):
        super().__init__(channels, affine=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[2:].numel() == 1:
            return (x - x) * self.weight.view(1, -1, 1, 1).to(x.dtype) + self.bias.view(1, -1, 1, 1).to(x.dtype)
        return super().forward(x)


class GroupNorm(nn.GroupNorm):
    """Group norm (Wu and He, 2018, arXiv 1803.08494).

    torch's module refuses a single value per group. Here the result for one is the bias, as its kernel computes it.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def norm_layer(norm: str, channels: int, act: bool = False) -> nn.Module:
    """Return the layer of `--norm` for `channels`.

    Pass `act=True` if an activation follows it, and build that with `activation_after`.
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "instance":
        return InstanceNorm(channels)
    if norm == "group":
        return GroupNorm(num_groups(channels), channels)
    if norm == "evo":
        return EvoNormS0(channels, act=act)
    if norm == "evo_b0":
        return EvoNormB0(channels, act=act)
    raise ValueError(f"unknown norm {norm!r}: choose one of {', '.join(NORMS)}")


def activation_after(layer: nn.Module) -> nn.Module:
    """Return the activation that follows a norm: ReLU, or the identity after an EvoNorm, which includes one."""
    return nn.Identity() if isinstance(layer, EvoNorm) else nn.ReLU(inplace=True)


def convert_norms(module: nn.Module, norm: str) -> nn.Module:
    """Replace each batch norm inside the Sequentials of `module` by `norm`, in place. Returns `module`.

    EvoNorm also replaces a ReLU directly after it. In a Sequential with pooling, instance norm and EvoNorm-B0 are
    replaced by a bias: instance norm of a single pixel is always zero, and EvoNorm-B0 would divide by a standard
    deviation close to zero. Indices do not change, so parameter names stay the same.
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
    """Remove the norm at `index` and give the convolution before it a bias, in place."""
    conv = sequential[index - 1]
    conv.bias = nn.Parameter(torch.zeros(conv.out_channels))
    sequential[index] = nn.Identity()


def freeze_batch_norm(*parts: nn.Module) -> None:
    """Freeze the running statistics, weights and biases of the batch norms in parts of a network, in place.

    Use it for parts that start from trained weights. Call it again after each `model.train()`, which unfreezes the
    statistics.
    """
    for module in (module for part in parts for module in part.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.eval().requires_grad_(False)


def is_frozen(layer: nn.Module) -> bool:
    """Whether `layer` is a batch norm that `freeze_batch_norm` froze, even if `model.train()` was called since."""
    learns = any(parameter.requires_grad for parameter in layer.parameters())
    return isinstance(layer, nn.BatchNorm2d) and layer.affine and not learns
