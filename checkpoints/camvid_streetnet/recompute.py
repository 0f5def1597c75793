"""Gradient checkpointing (Chen et al., 2016, arXiv 1604.06174).

A block keeps only its input and recomputes its activations in the backward pass. This takes less memory and more time,
and gives the same numbers.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from .errors import ModelError


def recompute_blocks(model: nn.Module) -> None:
    """Turn on gradient checkpointing for every `GradientCheckpointingLayer` (encoder block) of `model`, in place.

    Raises ModelError if there is none.
    """
    blocks = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not blocks:
        raise ModelError("--gradient_checkpointing: this network has no blocks to recompute")
    for block in blocks:
        contexts = partial(_forward_and_again, block)
        block.gradient_checkpointing = True
        block._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False, context_fn=contexts)


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


def recomputed_blocks(net: nn.Module) -> None:
    """Turn the blocks of another library's network into `GradientCheckpointingLayer`s, in place.

    Blocks are the innermost modules that lie in a Sequential and have submodules. Larger modules stay as they are,
    because they may change their inputs. Parameter names stay the same.
    """

    def blocks_in(module: nn.Module) -> list[nn.Module]:
        sequentials = [part for part in module.modules() if isinstance(part, nn.Sequential)]
        return [part for sequential in sequentials for part in sequential if is_block(part)]

    def is_block(part: nn.Module) -> bool:
        return not type(part).__module__.startswith("torch.") and any(True for _ in part.children())

    for block in {block for block in blocks_in(net) if not blocks_in(block)}:
        kind = type(block)
        # Its library has built it, so its class can only be changed now; its layers and their names stay.
        block.__class__ = type(kind.__name__, (GradientCheckpointingLayer, kind), {})
