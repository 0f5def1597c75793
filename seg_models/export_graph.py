"""A network as one graph, from the bytes of a photo to classes, for programs that run it without this package."""

from collections.abc import Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import nn
from transformers import SwinPreTrainedModel

from .errors import ModelError, first_line
from .predictor import normalize
from .sides import smallest_side

OUTPUTS = ("classes", "probabilities")
INPUT = "image"
SMALLEST, LARGEST = 64, 2**14  # sides of the photos that a file for any size takes, in pixels


class PhotoGraph(nn.Module):
    """Map a photo, uint8 (1, H, W, 3) in RGB, to its classes or to their probabilities, at the photo's size.

    The classes are train ids, uint8 (1, H, W); the probabilities are float32 (1, C, H, W). The result is that of a
    `Predictor` with one view.

    size    (H, W) at which the network sees the photo; None: the photo's own
    output  one of `OUTPUTS`
    half    compute the network in float16. Normalisation, resizing and probabilities stay in float32.

    The graph holds a copy of the network.
    """

    def __init__(
        self,
        model: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        size: Sequence[int] | None = None,
        output: str = "classes",
        half: bool = False,
    ):
        super().__init__()
        self.model = deepcopy(model)
        replace_pooling(self.model)
        if half:
            self.model.half()
        self.mean, self.std, self.output = mean, std, output
        self.size = None if size is None else tuple(max(side, smallest_side(model)) for side in size)
        self.dtype = torch.float16 if half else torch.float32
        self.requires_grad_(False).eval()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        pixels = normalize(image.permute(0, 3, 1, 2), self.mean, self.std)
        if self.size is not None:
            pixels = shrink_or_enlarge(pixels, self.size)
        logits = self.model(pixels.to(self.dtype)).logits.float()
        # `resize_logits` would ask whether this is needed, and so bind the graph to sizes with the same answer.
        scores = F.interpolate(logits, size=image.shape[1:3], mode="bilinear", align_corners=False)
        if self.output == "probabilities":
            return scores.softmax(1)
        return scores.argmax(1).to(torch.uint8 if scores.shape[1] <= 256 else torch.int32)


def shrink_or_enlarge(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Resize (..., H, W) to `size` as two matrix products, as F.interpolate does with mode="bilinear", antialias=True.

    OpenVINO's counterpart of this interpolation ignores `antialias`.
    """
    rows, columns = (triangle_weights(length, side, x) for length, side in zip(x.shape[-2:], size, strict=True))
    return rows @ x @ columns.mT


def triangle_weights(length: int, side: int, like: torch.Tensor) -> torch.Tensor:
    """Return the weights (side, length) with which each of `side` resized positions averages `length` given ones.

    A weight falls linearly with the distance between the two centres, to 0 at the larger of the two spacings. Distances
    are integers, in 1 / (2 side) of a given position. The weights have the type of `like`.
    """
    given = 2 * torch.arange(length, device=like.device) + 1
    wanted = 2 * torch.arange(side, device=like.device)[:, None] + 1
    width = (torch.ones_like(wanted[:1]) * length).clamp(min=side)
    weights = (1 - (given * side - wanted * length).abs() / (2 * width)).clamp(min=0)
    return (weights / weights.sum(1, keepdim=True)).to(like.dtype)


class GridAverages(nn.Module):
    """nn.AdaptiveAvgPool2d(side) as two matrix products. ONNX has this pooling for maps of one fixed size only."""

    def __init__(self, side: int):
        super().__init__()
        self.side = side

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = (cell_weights(length, self.side, x) for length in x.shape[2:])
        return rows @ x @ columns.mT


def cell_weights(length: int, cells: int, like: torch.Tensor) -> torch.Tensor:
    """Return the weights (cells, length) of the positions in the average over each of `cells` adjacent cells.

    Cell i reaches from i * length / cells, rounded down, to (i + 1) * length / cells, rounded up, as in PyTorch. The
    weights have the type and the device of `like`.
    """
    positions = torch.arange(length, device=like.device)
    starts = torch.arange(cells, device=like.device)[:, None] * length
    ends = (starts + length + cells - 1) // cells
    starts = starts // cells
    inside = (positions >= starts) & (positions < ends)
    return (inside / (ends - starts)).to(like.dtype)


def replace_pooling(model: nn.Module) -> None:
    """Replace each pooling to a grid of more than one cell by `GridAverages`, in place."""
    for parent in list(model.modules()):
        for name, module in parent.named_children():
            if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size not in (1, (1, 1)):
                setattr(parent, name, GridAverages(module.output_size))


def least_side(graph: PhotoGraph) -> int:
    """Return the smallest height and width, in pixels, of photos that a graph for any size takes."""
    return SMALLEST if graph.size else max(SMALLEST, smallest_side(graph.model))


@torch.no_grad()
def trace(graph: PhotoGraph, size: Sequence[int] | None) -> torch.export.ExportedProgram:
    """Return the program of a graph for photos of `size` (H, W), or of any size if it is None.

    Raises ModelError if torch.export does not support the network.
    """
    if not size and not graph.size and any(isinstance(part, SwinPreTrainedModel) for part in graph.modules()):
        raise ModelError(
            "torch.export does not end within 20 minutes for a Swin transformer and photos of any size, because its "
            "windows pad every map: give --size H W"
        )
    # A program for any size is traced with sides that no stride divides: a network that pads such sides then does so
    # for all of them.
    sample = torch.zeros(1, *(size or (97, 131)), 3, dtype=torch.uint8)
    sides = {} if size else {name: torch.export.Dim(name, min=least_side(graph), max=LARGEST) for name in ("H", "W")}
    shapes = {INPUT: {1: sides["H"], 2: sides["W"]}} if sides else None
    try:
        # Without the last option, what holds for all but a few sizes (a map is smaller than its image) is an error.
        program = torch.export.export(
            graph, (sample,), dynamic_shapes=shapes, prefer_deferred_runtime_asserts_over_guards=True
        )
    except Exception as error:  # tracing fails in many ways, none of which is documented
        any_size = "" if size else " for photos of any size, so give --size H W"
        raise ModelError(f"torch.export does not support this network{any_size}: {first_line(error)}") from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine, for each operation
    return program
