"""Gradient checkpointing (Chen et al., 2016, arXiv 1604.06174).

A block keeps only its input and recomputes its activations in the backward pass. This takes less memory and more time,
and gives the same numbers.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from .errors import ModelError
from .timm_encoder import TimmEncoder


def recompute_blocks(model: nn.Module) -> None:
    """Turn on gradient checkpointing for every block of `model`, in place.

    Blocks are transformers' `GradientCheckpointingLayer`s, and what `blocks_of_timm` finds. Raises ModelError if there
    is none.
    """
    ours = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    theirs = [
        block for module in model.modules() if isinstance(module, TimmEncoder) for block in blocks_of_timm(module.net)
    ]
    if not ours and not theirs:
        raise ModelError("--gradient_checkpointing: this network has no blocks to recompute")
    for block in ours:
        block.gradient_checkpointing = True
        block._gradient_checkpointing_func = _checkpoint_of(block)
    for block in theirs:
        block.forward = partial(_forward_of_timm, block, block.forward)


def blocks_of_timm(net: nn.Module) -> list[nn.Module]:
    """Return the innermost modules of a timm network that lie in a Sequential and have submodules.

    Larger modules are left out, because they may change their inputs.
    """

    def blocks_in(module: nn.Module) -> list[nn.Module]:
        sequentials = [part for part in module.modules() if isinstance(part, nn.Sequential)]
        return [part for sequential in sequentials for part in sequential if is_block(part)]

    def is_block(part: nn.Module) -> bool:
        return not type(part).__module__.startswith("torch.") and any(True for _ in part.children())

    return [block for block in dict.fromkeys(blocks_in(net)) if not blocks_in(block)]


def _forward_of_timm(block: nn.Module, forward: Callable, *inputs: Any, **options: Any) -> Any:
    """Call the `forward` that timm wrote for `block`, and keep only its inputs in training."""
    return _checkpoint_of(block)(forward, *inputs, **options) if block.training else forward(*inputs, **options)


def _checkpoint_of(block: nn.Module) -> Callable:
    """Return torch's `checkpoint` with the settings for `block`."""
    return partial(checkpoint, use_reentrant=False, context_fn=partial(_forward_and_again, block))


def _forward_and_again(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    return nullcontext(), _running_statistics_stay(block)


@contextmanager
def _running_statistics_stay(block: nn.Module) -> Iterator[None]:
    """Keep running statistics in the second forward pass, because the first has updated them with this batch."""
    norms = [module for module in block.modules() if getattr(module, "running_var", None) is not None]
    momenta = [norm.momentum for norm in norms]
    counters = [norm.num_batches_tracked for norm in norms if hasattr(norm, "num_batches_tracked")]
    counts = [counter.clone() for counter in counters]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for counter, count in zip(counters, counts, strict=True):
            counter.copy_(count)
