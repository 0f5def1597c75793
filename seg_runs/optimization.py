"""Optimizers, and the learning rate at each step."""

import math

import torch
from torch import nn

POLY_POWER = 0.9  # Chen et al., 2017, arXiv 1606.00915, section 4.1


def lr_factor(kind: str, step: int, total_steps: int) -> float:
    """What the initial learning rate is multiplied by at `step` = 0 .. total_steps - 1."""
    progress = min(step / total_steps, 1.0)
    if kind == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    if kind == "poly":
        return (1 - progress) ** POLY_POWER
    return 1.0


def total_steps(steps_per_epoch: int, epochs: int, max_train_steps: int | None) -> int:
    """Optimizer steps of the whole run."""
    return max_train_steps or steps_per_epoch * epochs


def make_optimizer(model: nn.Module, kind: str, learning_rate: float, momentum: float, weight_decay: float):
    """SGD decays every parameter, as torchvision's recipes do; AdamW spares norms and biases."""
    if kind == "sgd":
        return torch.optim.SGD(model.parameters(), learning_rate, momentum=momentum, weight_decay=weight_decay)
    spared = [p for p in model.parameters() if p.ndim < 2]
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    groups = [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, learning_rate, weight_decay=weight_decay)


def make_scheduler(optimizer, kind: str, steps: int):
    """Steps once per optimizer step, whatever the number of processes: not to be prepared by accelerate."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(kind, step, steps))
