"""Estimate what a prediction or a training step costs before it starts: memory, and pixels that the network sees.

The network runs once on the meta device, where tensors have a size but no content. This works for any network and takes
milliseconds, or a second for a step of a large one.
"""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from .layers import resize_logits
from .meta import QuickNorms, on_meta
from .norms import is_frozen
from .sides import smallest_side
from .views import Views, length, mirrored_together

# A forward pass takes more memory than its tensors: inputs in other layouts, workspaces, and fragments of freed memory
# that fit nothing else. Measured on a CPU, where `keep_memory` keeps freed memory, it takes 1.4 to 1.8 times its
# tensors for StreetNet, 1.2 to 1.5 for DeepLabV3 on ResNet-50, and 1.8 to 2.2 for SegFormer-B0.
FORWARD_MARGIN = {"cpu": 2.0}  # other devices: MARGIN
MARGIN = 1.25


def prediction_pixels(model: PreTrainedModel, image_size: Sequence[int], views: Views) -> int:
    """Return the number of pixels that the network sees in all views of one image."""
    sizes = [size for window in views.windows(image_size) for size in views.sizes(window.size, smallest_side(model))]
    return views.per_scale * sum(height * width for height, width in sizes)


def prediction_memory(model: PreTrainedModel, image_size: Sequence[int], views: Views) -> int:
    """Return the bytes that a float32 `Predictor` needs for one image of `image_size` (H, W), weights not included.

    The largest view of the largest window determines the result. The model may be on any device and is not moved.
    """
    windows = views.windows(image_size)
    pixels = image_size[0] * image_size[1]
    part = (max(length(window.rows) for window in windows), max(length(window.columns) for window in windows))
    seen = (max(window.size[0] for window in windows), max(window.size[1] for window in windows))
    memory = window_memory(model, part, seen, views)
    if len(windows) > 1:  # the image's bytes, twice; the sum; then the classes of the pixels as int64 and as bytes
        blended = (4 * model.config.num_labels + 2 * 3) * pixels
        memory = blended + max(memory, (8 + 2) * pixels)
    return int(memory)


def window_memory(model: PreTrainedModel, part: Sequence[int], seen: Sequence[int], views: Views) -> float:
    """Return the bytes that one window takes.

    part  (H, W) of the window in the image
    seen  (H, W) at which the network sees it at scale 1
    """
    largest = max(views.sizes(seen, smallest_side(model)), key=lambda view: view[0] * view[1])
    images = 1 + mirrored_together(views, model.device)
    pixels = part[0] * part[1]
    scores = 4 * model.config.num_labels * pixels
    image = (2 * 3 + 3 * 4 * 3) * pixels  # its bytes, twice, and three float copies while it is normalised
    view = 2 * 4 * 3 * views.per_scale * largest[0] * largest[1]  # the resized image and its mirror image, and a copy
    forward = FORWARD_MARGIN.get(model.device.type, MARGIN) * forward_memory(model, largest, images)
    # During a forward pass, the sum of the earlier views and the last view's logits and probabilities exist too.
    seeing = forward + MARGIN * ((1 + 2 * images) * scores if views.count > 1 else 0)
    # Afterwards: logits, probabilities, the mirrored half flipped back and added, and the sum before and after.
    adding = MARGIN * (2 * images + 3 if views.count > 1 else 3) * scores
    return image + view + max(seeing, adding)


def forward_memory(model: PreTrainedModel, view: Sequence[int], images: int = 1) -> int:
    """Return the peak bytes of activations in a forward pass over `images` images of size `view` (H, W)."""
    twin = on_meta(model)
    pixels = torch.empty(images, 3, *view, device="meta").contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), FusedAttention(), QuickNorms(), LiveMemory() as memory:
        twin.eval()(pixels)
    return memory.peak


def training_memory(model: PreTrainedModel, crop: Sequence[int], images: int) -> int:
    """Return the peak bytes of activations and gradients in a training step, in float32, weights not included.

    crop    (H, W) that the network sees
    images  number of crops in a micro-batch

    It counts tensors only, so a real step takes more.
    """
    twin = on_meta(model).train()
    for layer in filter(is_frozen, twin.modules()):
        layer.eval()  # else it would not take a single image
    pixels = torch.empty(images, 3, *crop, device="meta").contiguous(memory_format=torch.channels_last)
    labels = torch.empty(images, *crop, device="meta", dtype=torch.int64)
    with FusedAttention(), QuickNorms(), LiveMemory() as memory:
        output = twin(pixel_values=pixels)
        maps = [output.logits, *(getattr(output, "aux_logits", None) or ())]
        losses = [F.cross_entropy(resize_logits(logits, tuple(crop)), labels, reduction="sum") for logits in maps]
        torch.stack(losses).sum().backward()
    return memory.peak


class FusedAttention(TorchFunctionMode):
    """Count no attention matrix, because the fused kernels on CPUs and GPUs never store one.

    On a CPU they do where a bias with a gradient is added to it, as in Swin: PyTorch has no fused kernel there.
    """

    def __torch_function__(
        self, function: Callable, types: Sequence[type], args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            bias = kwargs.get("attn_mask", args[3] if len(args) > 3 else None)
            if bias is None or not (bias.requires_grad and torch.is_grad_enabled()):
                return Attention.apply(*args[:3])
        return function(*args, **kwargs)


class Attention(torch.autograd.Function):
    """Stand in for a fused kernel: the sizes of what it returns and keeps for backward, without the numbers."""

    @staticmethod
    def forward(ctx: FunctionCtx, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        result = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, result)
        return result

    @staticmethod
    def backward(ctx: FunctionCtx, _: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


class LiveMemory(TorchDispatchMode):
    """Count the bytes of tensors created while this mode is active: `live` at the moment, `peak` at most."""

    def __init__(self):
        super().__init__()
        self.live = 0
        self.peak = 0
        self.known = set()

    def __torch_dispatch__(
        self, function: Callable, types: Sequence[type], args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        before = {tensor.untyped_storage()._cdata for tensor in tree_leaves(args) if isinstance(tensor, torch.Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage(), before)
        return result

    def _add(self, storage: torch.UntypedStorage, before: set[int]) -> None:
        key = storage._cdata
        if key not in before and key not in self.known:
            self.known.add(key)
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._remove, key, storage.nbytes())

    def _remove(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size
