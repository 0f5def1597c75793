"""Measure the cost of a network: parameters, operations, training memory, images per second.

torch counts the operations: those of convolutions and matrix products in the forward pass of one image, and no others.
A multiplication with its addition is one MAC, or two FLOPs. SegFormer's heads (short_heads.py) count as published.
Memory is what a forward pass in float32 keeps for backward. `python -m seg_runs.complexity` prints a table.
"""

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from .cost import FusedAttention
from .meta import on_meta
from .short_heads import lengthen_heads
from .sides import refuse_smaller, smallest_side

PASSES = 6  # that are timed


def forward_macs(model: PreTrainedModel, size: tuple[int, int]) -> int:
    """Return the MACs of `model` for one image of `size` (H, W). The model may be on any device and is not moved.

    An image smaller than the network's smallest counts as that.
    """
    least = smallest_side(model)
    images = torch.empty(1, 3, *(max(side, least) for side in size), device="meta")
    return forward_flops(model, images) // 2


def forward_flops(model: torch.nn.Module, images: torch.Tensor) -> int:
    """Return the FLOPs of a forward pass over `images` (B, 3, H, W) on the meta device."""
    twin = on_meta(model)
    lengthen_heads(twin)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        twin.eval()(images)
    return counter.get_total_flops()


def measure(build: Callable[[], torch.nn.Module], size: tuple[int, int]) -> dict[str, float]:
    """Count what the network made by `build` costs for one image of `size` (H, W), on the meta device.

    Returns parameters, macs, flops, and memory, the bytes kept for backward. Raises `ModelError` if the image is too
    small.
    """
    with torch.device("meta"):
        model = build()
        images = torch.empty(1, 3, *size)
        refuse_smaller("--size", size, smallest_side(model))
        flops = forward_flops(model, images)
        own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
        kept = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                kept[storage._cdata] = storage  # a reference, so that no new storage gets the same address
            return tensor

        pair = torch.empty(2, 3, *size)  # 2 images, because batch norm refuses one value per channel
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), FusedAttention():
            model.train()(pair)
    memory = sum(storage.nbytes() for storage in kept.values()) / 2
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": parameters, "macs": flops / 2, "flops": flops, "memory": memory}


def images_per_second(build: Callable[[], torch.nn.Module], size: tuple[int, int]) -> float:
    """Time forward passes of one image of `size` (H, W) in float32, on the GPU if there is one.

    Returns images per second of the fastest of `PASSES`.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build().to(device).eval()
    images = torch.randn(1, 3, *size, device=device)
    best = float("inf")
    with torch.no_grad():
        for _ in range(PASSES):
            begun = time.perf_counter()
            model(images).logits.sum().item()
            best = min(best, time.perf_counter() - begun)
    return 1 / best
