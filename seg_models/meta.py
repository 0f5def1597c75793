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


class QuickBatchNorm(TorchDispatchMode):
    """Find the sizes of the results of batch norm, and of its gradients, at once.

    On the meta device, PyTorch finds them with all of the norm's arithmetic, in Python. That takes more than half of
    the time of a network with batch norm.
    """

    def __torch_dispatch__(
        self, function: Callable, types: Sequence[type], args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if function is torch.ops.aten.native_batch_norm.default:
            maps = args[0]
            return torch.empty_like(maps), maps.new_empty(maps.shape[1]), maps.new_empty(maps.shape[1])
        if function is torch.ops.aten.native_batch_norm_backward.default:
            _, maps, weight, *_, wanted = args
            gradients = zip((maps, weight, weight), wanted, strict=True)
            return tuple(torch.empty_like(tensor) if needed else None for tensor, needed in gradients)
        return function(*args, **(kwargs or {}))
