"""Losses. Each maps logits (B, C, H, W) at label size and labels (B, H, W) to `(sum, weight)`.

The training loop divides by the weight summed over all processes and accumulation steps. (A mean of means would give
pixels more weight in images with many ignored pixels.) Ignored pixels add nothing to sum or weight and get a zero
gradient; without valid pixels both are zero. The weight depends on the labels only, so auxiliary logits share it. The
arithmetic is fp32, also under autocast.

This file is copied next to saved networks. They need cross entropy only; what else training can minimise is in
loss_pixels.py, loss_regions.py and objective.py, which are not copied.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .evonorm import at_least_float32

Sums = tuple[torch.Tensor, torch.Tensor]


def log_probability(logits: torch.Tensor, labels: torch.Tensor, ignore_index: int) -> Sums:
    """Return log softmax(logits)[label], zero where ignored, and a mask of the valid pixels, both (B, H, W)."""
    # log_softmax and gather are 2.5 times faster on a CPU than cross_entropy on (N, C) rows. They are deterministic on
    # CUDA, unlike cross_entropy on (B, C, H, W).
    valid = labels != ignore_index
    target = labels.long().masked_fill(~valid, 0)
    log_probabilities = F.log_softmax(at_least_float32(logits), dim=1).gather(1, target[:, None])[:, 0]
    return torch.where(valid, log_probabilities, 0), valid


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, ignore_index: int = 255) -> Sums:
    """Return the sum of -log p over valid pixels, where p is the label's probability, and their number."""
    log_p, valid = log_probability(logits, labels, ignore_index)
    return -log_p.sum(), valid.sum()


def weighted_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, class_weights: torch.Tensor, ignore_index: int = 255
) -> Sums:
    """Return the sums of -w log p and of w over valid pixels, where w is the label's entry in `class_weights` (C,)."""
    log_p, valid = log_probability(logits, labels, ignore_index)
    weights = class_weights.to(log_p)[labels.long().masked_fill(~valid, 0)]
    weights = torch.where(valid, weights, 0)
    return -(weights * log_p).sum(), weights.sum()


def focal_loss(logits: torch.Tensor, labels: torch.Tensor, gamma: float = 2.0, ignore_index: int = 255) -> Sums:
    """Return the sum of -(1 - p)^gamma log p over valid pixels, and their number.

    Lin et al., 2017, arXiv 1708.02002, equation 4.
    """
    log_p, valid = log_probability(logits, labels, ignore_index)
    rest = (-torch.expm1(log_p)).clamp(min=1e-8)  # 1 - p, above 0: a power below 1 has an infinite gradient at 0
    return -(rest**gamma * log_p).sum(), valid.sum()


def enet_class_weights(pixels: Sequence[int], constant: float = 1.02) -> list[float]:
    """Return the class weights 1 / ln(constant + share of the pixels), for pixels by class and a `constant` above 1.

    A constant of 1.02 gives weights from 1.4 to 50.5 (Paszke et al., 2016, arXiv 1606.02147, section 5.2), 1.10 gives
    1.3 to 10.5.
    """
    total = max(sum(pixels), 1)
    return [1 / math.log(constant + count / total) for count in pixels]
