"""What a network sees of an image: scales and mirror images (test-time augmentation), and sliding windows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .arguments import ViewOptions
from .names import AVERAGES, MULTI_SCALE, OVERLAP, SMALLEST_WINDOW

if TYPE_CHECKING:  # the demo's page needs no torch
    import torch

# Windows begin at multiples of the encoders' largest stride. There the network's grid is that of the whole image, so
# what lies far enough from a window's border gets the same logits.
ALIGNMENT = 32


@dataclass(frozen=True)
class Window:
    """A part of an image.

    rows, columns  (start, stop) in the image
    size           (H, W) at which the network sees the part at scale 1
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    size: tuple[int, int]


@dataclass(frozen=True)
class Views:
    """The views of an image that a network sees; by default the image alone.

    size     (H, W) of the image at scale 1 (`--test_size`); None: the image's own size
    turn     exchange height and width of `size` for an image of the other orientation (upright or wide)
    scales   scales at which the network sees the image
    flip     show it the mirrored image at each scale too
    average  what to average over several views: "probabilities" or "logits"
    window   (H, W) of windows at scale 1; None: the image as a whole
    overlap  how much neighbouring windows overlap at least, as a share of the window

    Windows are predicted like images of their own, at all scales and mirrored, and blended.

    Raises ValueError for a scale or size that is not positive, another `average`, or a wrong window or overlap.
    """

    size: Sequence[int] | None = None
    scales: Sequence[float] = (1.0,)
    flip: bool = False
    average: str = "probabilities"
    window: Sequence[int] | None = None
    overlap: float = OVERLAP
    turn: bool = False

    def __post_init__(self):
        if self.average not in AVERAGES:
            raise ValueError(f"average must be {' or '.join(AVERAGES)}, not {self.average!r}")
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            raise ValueError(f"scales must be one or more numbers above 0, not {self.scales}")
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"a size must have at least 1 pixel a side, not {tuple(self.size)}")
        if self.window is not None and min(self.window) < SMALLEST_WINDOW:
            raise ValueError(f"a window must have at least {SMALLEST_WINDOW} pixels a side, not {tuple(self.window)}")
        if not 0 <= self.overlap <= 0.5:
            raise ValueError(f"the overlap must be between 0 and 0.5, not {self.overlap}")

    @property
    def per_scale(self) -> int:
        """The number of views of a window at each scale."""
        return 2 if self.flip else 1

    @property
    def count(self) -> int:
        """The number of views of a window."""
        return self.per_scale * len(self.scales)

    def sizes(self, size: Sequence[int], least: int = 1) -> list[tuple[int, int]]:
        """Return the (H, W) at each scale of what has `size` (H, W) at scale 1. Sides are enlarged to `least`."""
        return [tuple(max(least, round(side * scale)) for side in size) for scale in self.scales]

    def seen(self, image_size: Sequence[int]) -> tuple[int, int]:
        """Return the (H, W) at scale 1 of an image of `image_size` (H, W)."""
        height, width = self.size or image_size
        other_way = (height - width) * (image_size[0] - image_size[1]) < 0  # one is upright, the other is not
        return (width, height) if self.turn and other_way else (height, width)

    def windows(self, image_size: Sequence[int]) -> list[Window]:
        """Return the windows that cover an image of `image_size` (H, W), row by row. There may be only one."""
        seen = self.seen(image_size)
        if self.window is None:
            return [Window((0, image_size[0]), (0, image_size[1]), seen)]
        spans = [cover(whole, side, self.overlap) for whole, side in zip(seen, self.window, strict=True)]
        factors = [own / whole for own, whole in zip(image_size, seen, strict=True)]
        parts = [stretched(*side) for side in zip(spans, factors, strict=True)]
        if None in parts:  # the image is too small for its windows
            return [Window((0, image_size[0]), (0, image_size[1]), seen)]
        return [
            Window(rows, columns, (length(seen_rows), length(seen_columns)))
            for rows, seen_rows in zip(parts[0], spans[0], strict=True)
            for columns, seen_columns in zip(parts[1], spans[1], strict=True)
        ]

    def gives_probabilities(self, image_size: Sequence[int]) -> bool:
        """Whether the scores of an image of `image_size` (H, W) are averages of probabilities, and not logits."""
        several = self.count > 1 or len(self.windows(image_size)) > 1
        return several and self.average == "probabilities"


def length(span: tuple[int, int]) -> int:
    return span[1] - span[0]


def stretched(spans: list[tuple[int, int]], factor: float) -> list[tuple[int, int]] | None:
    """Return spans in an image that is `factor` times as large, or None if some would be empty or equal."""
    result = [(round(start * factor), round(stop * factor)) for start, stop in spans]
    return result if all(map(length, result)) and len(set(result)) == len(result) else None


def cover(whole: int, side: int, overlap: float) -> list[tuple[int, int]]:
    """Return the (start, stop) of windows of `side` pixels that cover `whole` pixels.

    They are spread evenly, overlap by `overlap` times `side` pixels or more, and start at multiples of `ALIGNMENT`. So
    the last one may be up to `ALIGNMENT` - 1 pixels shorter.
    """
    if side >= whole:
        return [(0, whole)]
    step = max(ALIGNMENT, int(side * (1 - overlap)) // ALIGNMENT * ALIGNMENT)
    gaps = math.ceil((whole - side) / step)
    last = math.ceil((whole - side) / ALIGNMENT)
    starts = [ALIGNMENT * (last * i // gaps) for i in range(gaps + 1)]
    return [(start, min(start + side, whole)) for start in starts]


ONE_VIEW = Views()  # the image itself


def make_views(options: ViewOptions, size: Sequence[int] | None, turn: bool = False) -> Views:
    """Return the views that the flags ask for. `size` is the model's, used without `--test_size`.

    turn  exchange height and width of the model's size for images that are upright where it is not
    """
    several = bool(options.mst or options.scales)
    scales = tuple(options.scales or (MULTI_SCALE if options.mst else (1.0,)))
    return Views(
        size=options.test_size or size,
        scales=scales,
        flip=options.flip and several,
        average=options.average,
        window=options.window,
        overlap=options.window_overlap,
        turn=turn and not options.test_size,
    )


def mirrored_together(views: Views, device: "torch.device") -> bool:
    """Whether a view and its mirror image share a forward pass. On a CPU, two passes take half the memory."""
    return views.flip and device.type != "cpu"
