"""Losses. Each maps logits (B, C, H, W), at label size, and labels (B, H, W) to `(sum, weight)`.

The training loop divides by the weight summed over all processes and accumulation steps: a mean of means would
weigh a pixel of a half-void image more than others. Ignored pixels add nothing to either and get a zero gradient;
with no valid pixel at all both are zero. The arithmetic is fp32, under autocast too.
"""

import torch
import torch.nn.functional as F

from .norms import at_least_float32


def cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, ignore_index: int = 255
) -> tuple[torch.Tensor, torch.Tensor]:
    """-log softmax(logits)[label] over valid pixels, and their number. Labels: train ids or `ignore_index`."""
    # log_softmax over dim 1 and gather: on a CPU 2.5 times faster than cross_entropy on (N, C) rows, and
    # deterministic on CUDA, where the kernel behind cross_entropy on (B, C, H, W) is not.
    valid = labels != ignore_index
    target = labels.long().masked_fill(~valid, 0)
    log_probabilities = F.log_softmax(at_least_float32(logits), dim=1).gather(1, target[:, None])[:, 0]
    return -torch.where(valid, log_probabilities, 0).sum(), valid.sum()


LOSSES = {"ce": cross_entropy}
