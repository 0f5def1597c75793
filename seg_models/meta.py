"""Networks on the meta device, where tensors have a size but no content: nothing is computed, only shapes."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def on_meta(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of `model` on the meta device."""
    tensors = [*model.parameters(), *model.buffers()]
    memo = {id(tensor): empty_like(tensor) for tensor in tensors}
    return copy.deepcopy(model, memo)


def empty_like(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of this shape on the meta device, a parameter if `tensor` is one."""
    empty = torch.empty_like(tensor, device="meta")
    return torch.nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else empty


class QuickNorms(TorchDispatchMode):
    """Find the sizes of the results of batch norm and layer norm, and of their gradients, at once.

    On the meta device, PyTorch finds them with all of the norm's arithmetic, in Python. That takes more than half of
    the time of a network with batch norm.
    """

    def __torch_dispatch__(
        self, function: Callable, types: Sequence[type], args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        aten = torch.ops.aten
        if function is aten.native_batch_norm.default:
            maps = args[0]
            statistics = maps.shape[1]
            return torch.empty_like(maps), maps.new_empty(statistics), maps.new_empty(statistics)
        if function is aten.native_layer_norm.default:
            maps, shape = args[:2]
            statistics = (*maps.shape[: -len(shape)], *(1 for _ in shape))
            return maps.new_empty(maps.shape), maps.new_empty(statistics), maps.new_empty(statistics)
        if function is aten.native_batch_norm_backward.default:
            _, maps, weight, *_, wanted = args
            return _gradients(torch.empty_like(maps), weight, wanted)
        if function is aten.native_layer_norm_backward.default:
            _, maps, _, _, _, weight, _, wanted = args
            return _gradients(maps.new_empty(maps.shape), weight, wanted)
        return function(*args, **(kwargs or {}))


def _gradients(maps: torch.Tensor, weight: torch.Tensor | None, wanted: Sequence[bool]) -> tuple:
    """Return `maps`, and as many values as `weight` has for the weight and for the bias: None where not wanted."""
    for_maps, for_weight, for_bias = wanted
    return (
        maps if for_maps else None,
        torch.empty_like(weight) if for_weight else None,
        torch.empty_like(weight) if for_bias else None,
    )
