"""What a prediction will take, known before it is begun: bytes of memory, and pixels that the network sees.

The network runs once on the meta device, where tensors have a size and no content. So the numbers hold for any network,
and take milliseconds.
"""

import copy
import weakref
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from .predictor import smallest_side

# There is more than the tensors that the code names: other layouts of a layer's input, workspaces, and pieces of freed
# memory that nothing else fits into. Measured on a CPU, with freed memory kept as `keep_memory` keeps it: a forward
# pass of StreetNet takes 1.4 to 1.8 times its tensors, DeepLabV3 on ResNet-50 1.2 to 1.5, SegFormer-B0 1.8 to 2.2.
FORWARD_MARGIN = {"cpu": 2.0}  # elsewhere as much as scores
MARGIN = 1.25


def view_sizes(
    model: PreTrainedModel, image_size: Sequence[int], scales: Sequence[float], size: Sequence[int] | None = None
) -> list[tuple[int, int]]:
    """(H, W) that the network sees of an image at each scale, as a `Predictor` of the same `size` makes them."""
    least = smallest_side(model)
    return [tuple(max(least, round(side * scale)) for side in size or image_size) for scale in scales]


def prediction_pixels(
    model: PreTrainedModel,
    image_size: Sequence[int],
    scales: Sequence[float],
    flip: bool,
    size: Sequence[int] | None = None,
) -> int:
    """Pixels that the network sees of one image, over all its views."""
    return (2 if flip else 1) * sum(height * width for height, width in view_sizes(model, image_size, scales, size))


def prediction_memory(
    model: PreTrainedModel,
    image_size: Sequence[int],
    scales: Sequence[float],
    flip: bool,
    size: Sequence[int] | None = None,
) -> int:
    """Bytes that a `Predictor` of float32 needs for one image of `image_size` (H, W), beside the weights.

    `size` is the Predictor's: the size that the network sees at scale 1, the image's own if None. The largest view
    decides. The model's parameters and buffers may lie on any device; they stay where they are.
    """
    views, mirrored = view_sizes(model, image_size, scales, size), 2 if flip else 1
    largest = max(views, key=lambda view: view[0] * view[1])
    several, pixels = flip or len(scales) > 1, image_size[0] * image_size[1]
    scores = 4 * model.config.num_labels * pixels
    image = (2 * 3 + 3 * 4 * 3) * pixels  # its bytes, twice, and its values while they are normalised
    view = 2 * 4 * 3 * mirrored * largest[0] * largest[1]  # resized, and put together with the mirrored one
    forward = FORWARD_MARGIN.get(model.device.type, MARGIN) * forward_memory(model, largest, mirrored)
    # The sum of the views before, and the last one's logits and probabilities, are there while the network computes.
    seeing = forward + MARGIN * ((1 + 2 * mirrored) * scores if len(scales) > 1 else 0)
    # Then come the logits, the probabilities, these mirrored back and added up, and the sum before and after.
    adding = MARGIN * (2 * mirrored + 3 if several else 3) * scores
    return int(image + view + max(seeing, adding))


def forward_memory(model: PreTrainedModel, view: Sequence[int], images: int = 1) -> int:
    """The most bytes of activations that are there at once while the network sees `images` images of size `view`."""
    twin = on_meta(model)
    pixels = torch.empty(images, 3, *view, device="meta").contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), FusedAttention(), LiveMemory() as memory:
        twin.eval()(pixels)
    return memory.peak


def on_meta(model: torch.nn.Module) -> torch.nn.Module:
    """A copy of `model` without content."""
    tensors = [*model.parameters(), *model.buffers()]
    memo = {id(tensor): empty_like(tensor) for tensor in tensors}
    return copy.deepcopy(model, memo)


def empty_like(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return torch.nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else empty


class FusedAttention(TorchFunctionMode):
    """Attention makes no map of all pairs of positions, as its kernels on CPUs and GPUs make none."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.scaled_dot_product_attention:
            query, _, value = args[:3]
            return query.new_empty(*query.shape[:-1], value.shape[-1])
        return function(*args, **(kwargs or {}))


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of the tensors that are made while it is active: `live` now, `peak` at most."""

    def __init__(self):
        super().__init__()
        self.live, self.peak, self.known = 0, 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
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
