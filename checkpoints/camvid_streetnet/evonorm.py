"""EvoNorm (Liu et al., 2020, arXiv 2004.02967), a normalisation and an activation in one.

With autograd, a layer would keep several map-sized tensors for the backward pass and read each many times. Here the
gradients are written by hand. They need only the layer's input and a few numbers per image and channel; everything else
is recomputed.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import FunctionCtx, once_differentiable

NO_EPS = 1e-20  # 1 + NO_EPS is 1. Zero itself is refused by the batch norm of torch 2.11.


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Return half-precision tensors as float32, others unchanged."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def num_groups(channels: int, most: int = 32) -> int:
    """Return the largest divisor of `channels` up to `most` (32 groups: Wu and He, 2018, section 4)."""
    return max(groups for groups in range(1, most + 1) if channels % groups == 0)


@torch.no_grad()
def image_statistics(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and biased variance of each channel of each image (B, C, H, W): two (B, C), at least float32.

    The variance is computed about the mean. On a CPU, batch norm's kernel reads a channels_last image twenty times as
    fast as torch.var_mean. Exporters do not know it.
    """
    if not x.is_cpu or torch.compiler.is_exporting():
        var, mean = torch.var_mean(at_least_float32(x), dim=(2, 3), correction=0)
        return mean, var
    unused = at_least_float32(x.new_zeros(x.shape[1]))  # running statistics; their dtype is that of the results
    pairs = [torch.batch_norm_update_stats(image, unused, unused.clone(), 0.0) for image in x.split(1)]
    mean, var = (torch.stack(part) for part in zip(*pairs, strict=True))
    return mean, var


def sums(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sums of a * b and of a over the pixels of (B, C, H, W): two (B, C), at least float32.

    On a CPU, the kernel for the gradients of batch norm's weight and bias computes them without storing the product.
    """
    if not a.is_cpu:
        return at_least_float32(a * b).sum((2, 3)), at_least_float32(a).sum((2, 3))
    zeros = at_least_float32(a.new_zeros(a.shape[1]))
    ones = torch.ones_like(zeros)
    only_parameters = [False, True, True]
    backward = torch.ops.aten.native_batch_norm_backward
    pairs = [
        backward(a_image, b_image, ones, zeros, ones, None, None, False, 0.0, only_parameters)[1:]
        for a_image, b_image in zip(a.split(1), b.split(1), strict=True)
    ]
    product, total = (torch.stack(part) for part in zip(*pairs, strict=True))
    return product, total


def scaled_and_shifted(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Return x * scale + shift in the dtype of `x` (B, C, H, W), with `scale` and `shift` (B, C).

    The result is rounded only once, since the two terms may cancel. On a CPU, batch norm's kernel computes it, with
    mean 0 and variance 1.
    """
    if not x.is_cpu:
        return torch.addcmul(shift[..., None, None], at_least_float32(x), scale[..., None, None]).to(x.dtype)
    zeros = torch.zeros_like(scale[0])
    ones = torch.ones_like(scale[0])
    images = zip(x.split(1), scale, shift, strict=True)
    return torch.cat([F.batch_norm(image, zeros, ones, *factors, eps=NO_EPS) for image, *factors in images])


def on_map(t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Reshape (C,) to (1, C, 1, 1), or (B, C) to (B, C, 1, 1), in the dtype of `x`."""
    return t.view(-1, x.shape[1], 1, 1).to(x.dtype)


def on_channels(t: torch.Tensor, channels: int) -> torch.Tensor:
    """Repeat a number per image and group (B, G) for each channel of the group: (B, C)."""
    return t[..., None].expand(-1, -1, channels // t.shape[1]).reshape(len(t), channels)


class EvoNorm(nn.Module):
    """Base class of the layers, (B, C, H, W) -> (B, C, H, W), with weight, bias and the activation's v, each (C,).

    With `act=False` the layer is only `x * weight + bias`, which the paper uses where no activation follows directly.
    """

    def __init__(self, channels: int, act: bool, eps: float):
        super().__init__()
        self.act, self.eps = act, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.v = nn.Parameter(torch.ones(channels)) if act else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.act:
            return self.normalize_and_activate(x)
        # Batch norm with mean 0 and variance 1 takes one pass over the map, and one for all gradients.
        mean = torch.zeros_like(self.bias)
        var = torch.ones_like(self.weight)
        return F.batch_norm(x, mean, var, self.weight, self.bias, eps=NO_EPS)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, act={self.act}"


class EvoNormS0(EvoNorm):
    """EvoNorm-S0 (table 1), which needs no batch statistics. The variance is that of a group of channels in an image:

    y = x * sigmoid(v * x) / sqrt(var_group(x) + eps) * weight + bias
    """

    def __init__(self, channels: int, act: bool = True, eps: float = 1e-5):
        super().__init__(channels, act, eps)
        self.groups = num_groups(channels)

    def normalize_and_activate(self, x: torch.Tensor) -> torch.Tensor:
        # The variance of a group is the mean of its channels' variances plus the variance of their means.
        mean, var = (t.view(len(x), self.groups, -1) for t in image_statistics(x))
        var = var.mean(2) + mean.var(2, correction=0)
        return S0.apply(x, self.weight, self.bias, self.v, mean.mean(2), torch.rsqrt(var + self.eps))


class S0(torch.autograd.Function):
    """EvoNorm-S0 with hand-written gradients.

    `mean` and `scale` = 1 / sqrt(var + eps) are those of each image and group, (B, G). They get no gradients: the
    gradient of `x` includes the path through them.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        v: torch.Tensor,
        mean: torch.Tensor,
        scale: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight, v, mean, scale)
        gated = (x * on_map(v, x)).sigmoid_().mul_(x)
        return torch.addcmul(on_map(bias, x), gated, on_map(on_channels(scale, len(v)) * weight, x))

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, v, mean, scale = ctx.saved_tensors
        channels = len(v)
        pixels = x.shape[2:].numel() * channels // scale.shape[1]  # values in a group
        by_channel = on_channels(scale, channels)

        gate = (x * on_map(v, x)).sigmoid_()
        gated = x * gate
        dy_gated, dy_sum = sums(dy, gated)
        curve = torch.addcmul(gated, gated, gate, value=-1)  # x * gate * (1 - gate): gated by v is x times that
        dy_curve, _ = sums(dy, torch.mul(curve, x, out=gated))

        # Through the variance: d scale / dx = -scale ** 3 * (x - mean) / pixels
        factor = (dy_gated * weight).view(*scale.shape, -1).sum(2) * scale**3 / -pixels
        dx = scaled_and_shifted(x, on_channels(factor, channels), on_channels(-factor * mean, channels))
        dx.addcmul_(gate.addcmul_(curve, on_map(v, x)).mul_(dy), on_map(by_channel * weight, x))
        dweight = (dy_gated * by_channel).sum(0)
        dv = (dy_curve * by_channel).sum(0) * weight
        return dx, dweight, dy_sum.sum(0), dv, None, None


class EvoNormB0(EvoNorm):
    """EvoNorm-B0 (table 1), which uses the variances of the batch and of each image, channel by channel:

        y = x / max(sqrt(var_batch(x) + eps), v * x + sqrt(var_image(x) + eps)) * weight + bias

    In train mode, `running_var` follows the unbiased variance of the batch; in eval mode it replaces it. A batch may
    have a single image. Each of several processes uses the variance of its own images.
    """

    def __init__(self, channels: int, act: bool = True, eps: float = 1e-3, momentum: float = 0.1):
        super().__init__(channels, act, eps)
        self.momentum = momentum
        self.register_buffer("running_var", torch.ones(channels) if act else None)

    def normalize_and_activate(self, x: torch.Tensor) -> torch.Tensor:
        mean, var = image_statistics(x)
        of_batch = self.running_var
        if self.training:
            of_batch = var.mean(0) + mean.var(0, correction=0)
            values = x.numel() // x.shape[1]
            unbiased = of_batch * (values / max(values - 1, 1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        std, batch_std = (var + self.eps).sqrt(), (of_batch + self.eps).sqrt()
        return B0.apply(x, self.weight, self.bias, self.v, mean, std, batch_std, self.training)


class B0(torch.autograd.Function):
    """EvoNorm-B0 with hand-written gradients.

    `mean` and `std` are those of each image and channel, (B, C). `batch_std` (C,) is that of this batch if `training`,
    else a constant. They get no gradients: the gradient of `x` includes the paths through them. There are many
    arguments because autograd takes each tensor as its own.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        v: torch.Tensor,
        mean: torch.Tensor,
        std: torch.Tensor,
        batch_std: torch.Tensor,
        training: bool,
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight, v, mean, std, batch_std)
        ctx.training = training
        divisor = torch.addcmul(on_map(std, x), x, on_map(v, x))
        divisor = torch.maximum(divisor, on_map(batch_std, x), out=divisor)
        return torch.addcmul(on_map(bias, x), torch.div(x, divisor, out=divisor), on_map(weight, x))

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, v, mean, std, batch_std = ctx.saved_tensors
        pixels = x.shape[2:].numel()
        of_image = torch.addcmul(on_map(std, x), x, on_map(v, x))
        divisor = torch.maximum(of_image, on_map(batch_std, x))
        normalized = x / divisor
        dy_normalized, dy_sum = sums(dy, normalized)

        dx = torch.div(dy, divisor, out=divisor)
        both, _ = sums(dx, normalized)
        # Zero where the batch's deviation is the divisor. ReLU's kernel does this ten times as fast as torch.where.
        excess = of_image.sub_(on_map(batch_std, x))
        through_image = torch.ops.aten.threshold_backward(normalized.mul_(dx), excess, 0)
        image_x, image_sum = sums(through_image, x)
        dx.addcmul_(through_image, on_map(v, x), value=-1).mul_(on_map(weight, x))

        # Through the variances: d std / dx = (x - mean) / (std * pixels)
        factor = -image_sum * weight / (std * pixels)
        shift = -factor * mean
        if ctx.training:
            batch_factor = -(both - image_sum).sum(0) * weight / (batch_std * pixels * len(x))
            factor, shift = factor + batch_factor, shift - batch_factor * mean.mean(0)
        dx.add_(scaled_and_shifted(x, factor, shift))
        return dx, dy_normalized.sum(0), dy_sum.sum(0), -image_x.sum(0) * weight, None, None, None, None
