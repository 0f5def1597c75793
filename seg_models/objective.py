"""What training minimises: a loss, auxiliary losses and distillation, as the flags choose them.

losses.py is copied next to saved networks, which do not need flags. So what reads them is here.

A sum of losses (`--loss ce+lovasz`) is the sum of their means, each with its factor. The mean of a loss is its sum
divided by its weight, and the weights of two losses may differ: cross entropy counts pixels, weighted_ce adds class
weights. So `weighted_sum` divides each loss by its own weight within a call, which sees the images of one process and
micro-batch, and returns the result with the number of valid pixels as its weight. Losses whose own weight is that
number (ce, focal, ohem, dice, tversky, focal_tversky, and lovasz over the batch) weigh in a sum exactly as they do
alone, however a step's images are divided. For the others (weighted_ce, class_balanced, boundary, and lovasz per
image), a step minimises the mean of the calls' means, in proportion to their valid pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from transformers.utils import ModelOutput

from .arguments import TAKE_WEIGHTS, LossOptions
from .distillation import Distillation
from .errors import ModelError
from .layers import resize_logits
from .loss_pixels import (
    boundary_cross_entropy,
    class_balanced_weights,
    enet_class_weights,
    focal_loss,
    ohem_cross_entropy,
    smoothed_cross_entropy,
    weighted_cross_entropy,
)
from .loss_regions import dice_loss, focal_tversky_loss, lovasz_softmax, tversky_loss
from .loss_terms import loss_terms
from .losses import Sums, cross_entropy

LossFunction = Callable[[torch.Tensor, torch.Tensor], Sums]  # of logits and labels
PLAIN = {  # losses without flags of their own
    "boundary": boundary_cross_entropy,
    "dice": dice_loss,
    "tversky": tversky_loss,
    "focal_tversky": focal_tversky_loss,
}


def aux_weight_of(options: LossOptions, default: float) -> float:
    """Return the weight of each auxiliary loss: the flag's, or the model's `default`. With 0, no head is needed."""
    return default if options.aux_weight is None else options.aux_weight


def check_class_weights(options: LossOptions, published: Sequence[float]) -> None:
    """Raise ModelError if the flags ask for published class weights and there are none."""
    if options.class_weights == "challenge" and not published:
        raise ModelError("--class_weights challenge needs the Cityscapes classes, or weights in classes.yaml: use enet")


def loss_from_flags(
    options: LossOptions,
    published: Sequence[float],
    pixels: Sequence[int],
    images: int,
    device: torch.device | None = None,
) -> LossFunction:
    """Return the loss as a function (logits, labels) -> (sum, weight).

    published  loss weights by train id that were published for the classes; () if there are none
    pixels     training pixels of each class
    images     number of training images
    device     where the class weights are kept
    """
    losses = []
    for name, factor in loss_terms(options.loss).items():
        weights = class_weights_of(name, options, published, pixels, images)
        on_device = None if weights is None else torch.tensor(weights, device=device)
        losses.append((factor, make_loss(name, options, on_device)))
    return losses[0][1] if len(losses) == 1 else partial(weighted_sum, losses)


def class_weights_of(
    name: str, options: LossOptions, published: Sequence[float], pixels: Sequence[int], images: int
) -> Sequence[float] | None:
    """Return the class weights of the loss `name`, or None. Those of weighted_ce are ENet's unless some are published.

    `loss_from_flags` explains the parameters.
    """
    defaults = {"class_balanced": "class_balanced", "weighted_ce": "challenge" if published else "enet"}
    given = options.class_weights if name in TAKE_WEIGHTS else None
    match given or defaults.get(name):
        case "challenge":
            return published
        case "enet":
            return enet_class_weights(pixels, options.class_weights_constant)
        case "class_balanced":
            return class_balanced_weights(pixels, images, options.class_balanced_beta)
    return None


def make_loss(name: str, options: LossOptions, class_weights: torch.Tensor | None = None) -> LossFunction:
    """Return the loss `name`, one of `LOSSES`, as a function (logits, labels) -> (sum, weight)."""
    smoothing = options.label_smoothing
    match name:
        case "ce":
            return partial(smoothed_cross_entropy, smoothing=smoothing) if smoothing else cross_entropy
        case "weighted_ce" | "class_balanced":
            if smoothing:
                return partial(smoothed_cross_entropy, smoothing=smoothing, class_weights=class_weights)
            return partial(weighted_cross_entropy, class_weights=class_weights)
        case "focal":
            return partial(focal_loss, gamma=options.focal_gamma)
        case "ohem":
            return partial(
                ohem_cross_entropy,
                threshold=options.ohem_threshold,
                min_kept=options.ohem_min_kept,
                class_weights=class_weights,
            )
        case "lovasz":
            return partial(lovasz_softmax, per_image=options.lovasz_per_image)
        case _:
            return PLAIN[name]


def weighted_sum(
    losses: Sequence[tuple[float, LossFunction]], logits: torch.Tensor, labels: torch.Tensor, ignore_index: int = 255
) -> Sums:
    """Return the sum of factor times mean loss, times the number of valid pixels, and that number."""
    count = (labels != ignore_index).sum()
    total = 0.0
    for factor, loss in losses:
        total = total + factor * at_weight(loss(logits, labels), count)
    return total, count


def at_weight(sums: Sums, weight: torch.Tensor) -> torch.Tensor:
    """Return the sum that gives the same mean with another `weight`."""
    total, own = sums
    return total * torch.where(own > 0, weight / own, 0)


@dataclass(frozen=True)
class Criterion:
    """What a training step minimises.

    loss_function  of the logits
    aux_weight     weight of the loss of each map of auxiliary logits
    distillation   what the network learns from teachers, or None
    """

    loss_function: LossFunction
    aux_weight: float = 0.0
    distillation: Distillation | None = None

    def teacher_logits(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """Return the logits of the teachers. Before the network's own forward pass, they take less memory."""
        return self.distillation.teacher_logits(pixel_values) if self.distillation else []

    def total(
        self, loss: Sums, output: ModelOutput, teacher_logits: Sequence[torch.Tensor], labels: torch.Tensor
    ) -> torch.Tensor:
        """Return the sum of the loss, the auxiliary losses and the distillation. Its weight is that of the loss.

        The divergence is brought to that weight within a call, as `weighted_sum` does. So with a loss whose own weight
        is not the number of valid pixels, it depends a little on how a step's images are divided.

        loss            the loss of the logits
        output          of the network
        teacher_logits  of the same images
        labels          (B, H, W)
        """
        total, weight = loss
        auxiliary = output.aux_logits if self.aux_weight else None  # transformers' own networks have no aux_logits
        for logits in auxiliary or ():
            total = total + self.aux_weight * self.loss_function(resize_logits(logits, labels.shape[-2:]), labels)[0]
        if self.distillation:
            sums = self.distillation.loss(output.logits, teacher_logits, labels)
            total = total + self.distillation.weight * at_weight(sums, weight)
        return total
