"""Distillation: a network learns from the predictions of trained networks, its teachers, besides the labels.

Both methods turn logits into distributions and minimise the Kullback-Leibler divergence of the network's from the
teachers':

    kl   a distribution over the classes for each position (Hinton et al., 2015, arXiv 1503.02531)
    cwd  a distribution over the positions for each class (Shu et al., 2021, arXiv 2011.13256, equations 5 and 6)

With several teachers, the network learns the mean of their distributions. The divergence is computed at the size of the
network's logits, to which those of the teachers are resized.

Ignored pixels take no part, as in every loss: where they are, there is no divergence, and for cwd no probability. So
padding, which has no content, teaches nothing. A position of the logits is ignored if the pixel at its centre is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .arguments import DistillOptions
from .evonorm import at_least_float32
from .layers import resize_logits
from .losses import Sums

# (weight, temperature). For cwd, those that its authors publish for logits. For kl, the divergence as it is.
DEFAULTS = {"cwd": (3.0, 4.0), "kl": (1.0, 1.0)}


@dataclass(frozen=True)
class Distillation:
    """What a network learns from its teachers.

    teachers     networks in evaluation mode, whose classes have the network's order
    method       one of `names.DISTILL`
    weight       factor on the mean divergence
    temperature  divides the logits before the softmax
    """

    teachers: Sequence[nn.Module]
    method: str
    weight: float
    temperature: float

    @classmethod
    def from_flags(cls, options: DistillOptions, teachers: Sequence[nn.Module]) -> "Distillation":
        """Return the distillation that the flags describe."""
        weight, temperature = DEFAULTS[options.distill]
        weight = weight if options.distill_weight is None else options.distill_weight
        temperature = temperature if options.distill_temperature is None else options.distill_temperature
        return cls(teachers, options.distill, weight, temperature)

    @torch.no_grad()
    def teacher_logits(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """Return the logits (B, C, h, w) of each teacher, at its own stride."""
        return [teacher(pixel_values=pixel_values).logits for teacher in self.teachers]

    def loss(self, logits: torch.Tensor, teacher_logits: Sequence[torch.Tensor], labels: torch.Tensor) -> Sums:
        """Return the sum over images of divergence times valid pixels, and the number of valid pixels.

        logits          (B, C, h, w) of the network
        teacher_logits  of the same images, at any size
        labels          (B, H, W) at any size
        """
        return distillation_loss(logits, teacher_logits, labels, self.method, self.temperature)


def distillation_loss(
    logits: torch.Tensor,
    teacher_logits: Sequence[torch.Tensor],
    labels: torch.Tensor,
    method: str,
    temperature: float,
    ignore_index: int = 255,
) -> Sums:
    """Return the sum over images of divergence times valid pixels, and the number of valid pixels.

    The divergence of an image is `temperature`^2 times the mean over its valid positions for kl, and over the classes
    for cwd. Each image has a divergence of its own, so the sums of two halves of a batch add up.
    """
    valid = labels != ignore_index
    inside = F.interpolate(valid[:, None].float(), logits.shape[-2:], mode="nearest-exact")[:, 0] > 0
    with torch.no_grad():
        resized = [resize_logits(x, logits.shape[-2:]) for x in teacher_logits]
        theirs = [log_distribution(x, inside, method, temperature) for x in resized]
        theirs = theirs[0] if len(theirs) == 1 else torch.stack(theirs).logsumexp(0) - math.log(len(theirs))
    ours = log_distribution(logits, inside, method, temperature)
    terms = torch.where(inside[:, None], theirs.exp() * (theirs - ours), 0).flatten(1).sum(1)
    number = inside.flatten(1).sum(1).clamp(min=1) if method == "kl" else logits.shape[1]
    pixels = valid.flatten(1).sum(1)
    return (temperature**2 * terms / number * pixels).sum(), pixels.sum()


def log_distribution(logits: torch.Tensor, inside: torch.Tensor, method: str, temperature: float) -> torch.Tensor:
    """Return the log of the softmax over the classes (kl) or over the positions `inside` (cwd), (B, C, h, w).

    Outside, the log is minus infinity for cwd, or NaN in an image without a position inside.
    """
    logits = at_least_float32(logits) / temperature
    if method == "kl":
        return logits.log_softmax(1)
    return logits.masked_fill(~inside[:, None], -math.inf).flatten(2).log_softmax(2).view_as(logits)
