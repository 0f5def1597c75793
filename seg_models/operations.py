"""What a network costs: parameters, operations, memory for training, images a second.

Operations are torch's count, of convolutions and matrix products of one forward pass of one image, and nothing else; a
multiplication with its addition is one MAC and two FLOPs. SegFormer's heads (short_heads.py) are counted as published.
Memory is what a forward pass in float32 keeps for backward. `python -m seg_runs.complexity` prints a table.
"""

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from .predictor import refuse_smaller, smallest_side
from .short_heads import shorten_heads


def measure(build: Callable[[], torch.nn.Module], size: tuple[int, int]) -> dict[str, float]:
    """Count, for one image of `size` (H, W), what the network that `build` makes costs; nothing is computed.

    Returns parameters, macs, flops, and memory: bytes kept for backward. Raises `ModelError` if the image is too small.
    """
    with torch.device("meta"):
        model, images = build(), torch.empty(1, 3, *size)
        refuse_smaller("--size", size, smallest_side(model))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.eval()(images)
        own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
        kept = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                kept[storage._cdata] = storage  # held, so that no other can take its place
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = model.train()(torch.empty(2, 3, *size))  # of two: batch norm refuses one value per channel
    flops, memory = counter.get_total_flops(), sum(storage.nbytes() for storage in kept.values()) / 2
    del output
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": parameters, "macs": flops / 2, "flops": flops, "memory": memory}


def images_per_second(build: Callable[[], torch.nn.Module], size: tuple[int, int], repeats: int = 5) -> float:
    """Time forward passes of a single image of `size` (H, W), on the GPU if there is one, in float32.

    The heads are shortened, as a `Predictor` has them. Returns the rate of the fastest of `repeats` passes.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build().to(device).eval()
    shorten_heads(model, in_eval=True)
    images, best = torch.randn(1, 3, *size, device=device), float("inf")
    with torch.no_grad():
        for _ in range(repeats + 1):
            begun = time.perf_counter()
            model(images).logits.sum().item()
            best = min(best, time.perf_counter() - begun)
    return 1 / best
