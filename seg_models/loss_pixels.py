"""Further losses of single pixels: weighted, smoothed and focal cross entropy, of hard pixels only, or stressing edges.

The contract is that of losses.py. Networks that were saved do not need this file, so it is not copied with them.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .evonorm import at_least_float32
from .losses import Sums, log_probability

EDGE_RADIUS, EDGE_WEIGHT = 2, 5.0


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


def smoothed_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    smoothing: float,
    class_weights: torch.Tensor | None = None,
    ignore_index: int = 255,
) -> Sums:
    """Return the cross entropy with a target of 1 - smoothing for the label plus smoothing / C for each class.

    With `class_weights` (C,), each class's term has its weight, and the weight of a pixel is that of its label, as in
    torch. Szegedy et al., 2016, arXiv 1512.00567, section 7.
    """
    valid = labels != ignore_index
    target = labels.long().masked_fill(~valid, 0)
    log_p = F.log_softmax(at_least_float32(logits), dim=1)
    weights = valid
    if class_weights is not None:
        class_weights = class_weights.to(log_p)
        log_p = log_p * class_weights[:, None, None]
        weights = torch.where(valid, class_weights[target], 0)
    mixed = (1 - smoothing) * log_p.gather(1, target[:, None])[:, 0] + smoothing * log_p.mean(1)
    return -torch.where(valid, mixed, 0).sum(), weights.sum()


def ohem_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    threshold: float = 0.7,
    min_kept: int = 100_000,
    class_weights: torch.Tensor | None = None,
    ignore_index: int = 255,
) -> Sums:
    """Return N times the mean of -log p over the hard pixels, and the number N of valid pixels.

    A pixel is hard if the probability of its label is at most `threshold`. If there are fewer than `min_kept` hard
    pixels an image, the `min_kept` hardest an image are taken. These are the hardest of all images of the call, so the
    choice is made per process and micro-batch. With `class_weights` (C,), the mean is weighted; the choice is not.
    Shrivastava et al., 2016, arXiv 1604.03540, for boxes; for pixels, the defaults and the count per image are those of
    mmsegmentation's Cityscapes networks.
    """
    log_p, valid = log_probability(logits, labels, ignore_index)
    if not labels.numel():  # no image, no hardest pixel
        return -log_p.sum(), valid.sum()
    with torch.no_grad():
        values = log_p.masked_fill(~valid, math.inf).flatten()
        # topk, because kthvalue is not deterministic on CUDA
        last = values.topk(min(min_kept * len(labels), len(values)), largest=False, sorted=False).values.max()
        hard = valid & ~(log_p > last.clamp(min=math.log(threshold)))  # not `<=`, so that NaN is kept and noticed
    count = valid.sum()
    weights = hard.to(log_p)
    if class_weights is not None:
        weights = weights * class_weights.to(log_p)[labels.long().masked_fill(~valid, 0)]
    total = weights.sum()
    return -torch.where(hard, weights * log_p, 0).sum() * torch.where(total > 0, count / total, 0), count


def near_edges(labels: torch.Tensor, radius: int, ignore_index: int = 255) -> torch.Tensor:
    """Return a mask of the valid pixels whose square of side 2 radius + 1 holds a valid pixel of another class."""
    valid = labels != ignore_index
    side = 2 * radius + 1
    classes = labels[:, None].float()  # four dimensions, because pooling takes (0, H, W) for a single image
    outside = ~valid[:, None]
    highest = F.max_pool2d(classes.masked_fill(outside, -math.inf), side, stride=1, padding=radius)
    lowest = -F.max_pool2d(-classes.masked_fill(outside, math.inf), side, stride=1, padding=radius)
    return valid & (highest > lowest)[:, 0]


def boundary_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, ignore_index: int = 255) -> Sums:
    """Return the sums of -w log p and of w over valid pixels. w is `EDGE_WEIGHT` near edges between classes, else 1.

    Near means at most `EDGE_RADIUS` pixels away. Borders of ignored regions are no edges, because the class beyond is
    not known. Weights near borders go back to Ronneberger et al., 2015, arXiv 1505.04597, section 3; the constant
    weight in a band is this project's, and a Sobel filter of the labels marks the same pixels for a radius of 1.
    """
    log_p, valid = log_probability(logits, labels, ignore_index)
    weights = torch.where(near_edges(labels, EDGE_RADIUS, ignore_index), EDGE_WEIGHT, 1.0).to(log_p) * valid
    return -(weights * log_p).sum(), weights.sum()


def enet_class_weights(pixels: Sequence[int], constant: float = 1.02) -> list[float]:
    """Return the class weights 1 / ln(constant + share of the pixels), for pixels by class and a `constant` above 1.

    A constant of 1.02 gives weights from 1.4 to 50.5 (Paszke et al., 2016, arXiv 1606.02147, section 5.2), 1.10 gives
    1.3 to 10.5.
    """
    total = max(sum(pixels), 1)
    return [1 / math.log(constant + count / total) for count in pixels]


def class_balanced_weights(pixels: Sequence[int], images: int, beta: float) -> list[float]:
    """Return class weights 1 / E, scaled to a mean of 1, where E = (1 - beta^n) / (1 - beta).

    E is the effective number of n samples (Cui et al., 2019, arXiv 1901.05555, proposition 1): n for a beta near 1, and
    1 for a beta of 0. Here n counts images: a class's share of the `pixels`, times the number of `images`. (With n in
    pixels, which are far from independent, all classes would have the same weight for the paper's betas of 0.9 to
    0.9999.) A class without pixels gets the weight of the rarest of the others.
    """
    total = max(sum(pixels), 1)
    effective = [(1 - beta ** (images * count / total)) / (1 - beta) for count in pixels]
    least = min((number for number in effective if number > 0), default=1.0)
    inverse = [1 / max(number, least) for number in effective]
    return [weight * len(inverse) / sum(inverse) for weight in inverse]
