"""Gradient checkpointing (Chen et al., 2016, arXiv 1604.06174): a block keeps only its input, and computes the rest
again for its backward pass. Less memory, more time, the same numbers."""

from contextlib import contextmanager, nullcontext
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer


def recompute_blocks(model: nn.Module) -> None:
    """Every `GradientCheckpointingLayer` of `model` (blocks of encoders) computes again what its backward needs."""
    norms = [module for module in model.modules() if getattr(module, "running_var", None) is not None]
    contexts = partial(_forward_and_again, norms)
    blocks = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not blocks:
        raise ValueError("this network has no blocks that could be computed again: leave gradient checkpointing out")
    for block in blocks:
        block.gradient_checkpointing = True
        block._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False, context_fn=contexts)


def _forward_and_again(norms: list[nn.Module]):
    return nullcontext(), _running_statistics_stay(norms)


@contextmanager
def _running_statistics_stay(norms: list[nn.Module]):
    """They have seen this batch already."""
    before = [(norm, norm.momentum, getattr(norm, "num_batches_tracked", None)) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, batches in before:
            norm.momentum, norm.num_batches_tracked = momentum, batches


def recomputed_blocks(net: nn.Module) -> None:
    """Turn the blocks of a foreign network, in place, into such layers; the names of parameters stay. Blocks are here
    the modules in Sequentials that have parts of their own but no blocks in them: larger ones may change their inputs.
    """

    def blocks_in(module: nn.Module) -> list[nn.Module]:
        sequentials = [part for part in module.modules() if isinstance(part, nn.Sequential)]
        return [part for sequential in sequentials for part in sequential if is_block(part)]

    def is_block(part: nn.Module) -> bool:
        return not type(part).__module__.startswith("torch.") and any(True for _ in part.children())

    for block in {block for block in blocks_in(net) if not blocks_in(block)}:
        kind = type(block)
        block.__class__ = type(kind.__name__, (GradientCheckpointingLayer, kind), {})
