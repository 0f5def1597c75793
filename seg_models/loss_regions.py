"""Losses of overlaps between regions: Lovasz-Softmax, Dice, Tversky and focal Tversky.

The contract is that of losses.py, but the overlap of a class is not a sum over pixels. So each call computes the loss
of its own images: those of one process and one micro-batch. It returns N times the loss and the number N of valid
pixels, so that the training loop's division gives the mean over the calls, in which each pixel counts the same. Only
the Lovasz loss per image does not depend on how images are divided among processes and micro-batches.

A class counts if the labels of the call have it. Others have no overlap to maximise; wrong pixels of theirs are missed
by the classes that they belong to.
"""

import torch
import torch.nn.functional as F

from .evonorm import at_least_float32
from .losses import Sums

FALSE_POSITIVES, FALSE_NEGATIVES = 0.3, 0.7  # best in both papers on the Tversky loss
FOCAL_EXPONENT = 0.75


def lovasz_softmax(
    logits: torch.Tensor, labels: torch.Tensor, per_image: bool = False, ignore_index: int = 255
) -> Sums:
    """Return the mean over classes of the Lovasz extension of 1 - IoU, times the number of valid pixels, and that.

    With `per_image`, return the sums over images that have a valid pixel of A times the image's own loss, and of A,
    where A is the number of pixels of an image.

    Berman et al., 2018, arXiv 1705.08790, section 3 and algorithm 1.
    """
    if per_image and len(labels):
        # split, because the gradient of a slice would be a tensor of the size of all images
        images = [
            lovasz_softmax(*image, False, ignore_index) for image in zip(logits.split(1), labels.split(1), strict=True)
        ]
        area = labels[0].numel()
        means = [total / count.clamp(min=1) for total, count in images]
        return area * torch.stack(means).sum(), area * sum((count > 0).long() for _, count in images)
    probabilities = F.softmax(at_least_float32(logits), dim=1)
    with torch.no_grad():
        slopes, constant = lovasz_slopes(probabilities, labels, ignore_index)
    count = (labels != ignore_index).sum()
    return count * ((slopes * probabilities).sum() + constant), count


def lovasz_slopes(
    probabilities: torch.Tensor, labels: torch.Tensor, ignore_index: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradient of the loss in the probabilities (B, C, H, W), and the loss that it leaves at 0.

    The loss is linear in the probabilities as long as the order of the errors stays the same: its gradient depends on
    the order only, and the loss is the gradient times the probabilities, plus a constant.
    """
    valid = labels != ignore_index
    truths = [valid & (labels == label) for label in range(probabilities.shape[1])]
    sizes = torch.stack([truth.sum() for truth in truths]).tolist()
    present = sum(size > 0 for size in sizes)
    slopes = torch.zeros(probabilities.shape, dtype=probabilities.dtype, device=probabilities.device)
    by_pixel = slopes.flatten(2)
    constant = slopes.new_zeros(())
    for label, (truth, size) in enumerate(zip(truths, sizes, strict=True)):
        if size == 0:
            continue
        scores = probabilities[:, label]
        # Once all pixels of the class are missed, the IoU is 0 and cannot fall further. So other pixels matter only if
        # their error is larger than the smallest error of the class. These are few, except for a hesitant network.
        matters = truth | (valid & (scores > 1 - scores[truth].max()))
        where = matters.flatten().nonzero()[:, 0]
        inside = truth.flatten()[where]
        errors = scores.flatten()[where]
        order = descending(torch.where(inside, 1 - errors, errors))
        where, inside = where[order], inside[order]
        rises = jaccard_rises(inside, size, slopes.dtype) / present
        by_pixel[where // by_pixel.shape[2], label, where % by_pixel.shape[2]] = torch.where(inside, -rises, rises)
        constant += torch.where(inside, rises, 0).sum()
    return slopes, constant


def jaccard_rises(inside: torch.Tensor, size: int, dtype: torch.dtype) -> torch.Tensor:
    """Return by how much 1 - IoU rises with each pixel that is wrong, one after the other.

    inside  whether each pixel belongs to the class
    size    number of the class's pixels

    With f pixels inside and b outside wrong, the IoU is (size - f) / (size + b). The differences are written without a
    subtraction of nearly equal numbers.
    """
    missed = inside.cumsum(0)
    union = (size + torch.arange(1, len(inside) + 1, device=inside.device) - missed).to(dtype)
    return torch.where(inside, 1, (size - missed).to(dtype) / (union - 1).clamp(min=1)) / union


def descending(errors: torch.Tensor) -> torch.Tensor:
    """Return the indices that sort `errors`, which are not negative, from the largest to the smallest."""
    # The bits of floats that are not negative sort as integers do. On a CPU, torch sorts integers upwards by radix, ten
    # times faster than floats.
    return errors.clamp(min=0).view({4: torch.int32, 8: torch.int64}[errors.element_size()]).neg().sort().indices


def dice_loss(logits: torch.Tensor, labels: torch.Tensor, ignore_index: int = 255) -> Sums:
    """Return the mean over classes of 1 - Dice = 1 - 2 overlap / (predicted + true), times the valid pixels, and these.

    Milletari et al., 2016, arXiv 1606.04797, without their squares: Drozdzal et al., 2016, arXiv 1608.04117.
    """
    return tversky_loss(logits, labels, 0.5, 0.5, ignore_index=ignore_index)


def tversky_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    false_positives: float = FALSE_POSITIVES,
    false_negatives: float = FALSE_NEGATIVES,
    exponent: float = 1.0,
    ignore_index: int = 255,
) -> Sums:
    """Return the mean over classes of (1 - T)^exponent, times the number of valid pixels, and that number.

    T = TP / (TP + a FP + b FN), where a, b are the weights of false positives and false negatives, and TP, FP, FN are
    sums of probabilities. Salehi et al., 2017, arXiv 1706.05721.
    """
    probabilities = F.softmax(at_least_float32(logits), dim=1)
    valid = (labels != ignore_index)[:, None]
    classes = torch.arange(logits.shape[1], device=labels.device)[:, None, None]
    truth = valid & (labels[:, None] == classes)
    hits, predicted, true = (x.sum((0, 2, 3)) for x in (probabilities * truth, probabilities * valid, truth))
    present = true > 0
    union = hits + false_positives * (predicted - hits) + false_negatives * (true - hits)
    missing = 1 - hits / torch.where(present, union, 1)
    if exponent != 1:
        missing = missing.clamp(min=1e-8) ** exponent  # above 0: a power below 1 has an infinite gradient at 0
    loss = torch.where(present, missing, 0).sum() / present.sum().clamp(min=1)
    count = valid.sum()
    return count * loss, count


def focal_tversky_loss(logits: torch.Tensor, labels: torch.Tensor, ignore_index: int = 255) -> Sums:
    """Return the Tversky loss with the exponent 1 / gamma = 0.75. Abraham and Khan, 2018, arXiv 1810.07842.

    An exponent below 1 gives classes that are nearly right a larger gradient.
    """
    return tversky_loss(logits, labels, exponent=FOCAL_EXPONENT, ignore_index=ignore_index)
