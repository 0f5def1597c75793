"""The views of an image that a prediction averages over: sizes and mirror images."""

from collections.abc import Sequence
from dataclasses import dataclass

from .arguments import ViewOptions
from .names import AVERAGES, MULTI_SCALE


@dataclass(frozen=True)
class Views:
    """The views of an image that a network sees; by default the image alone.

    size     (H, W) of the image at scale 1 (`--test_size`); None: the image's own size
    scales   scales at which the network sees the image
    flip     show it the mirrored image at each scale too
    average  what to average over several views: "probabilities" or "logits"

    Raises ValueError for a scale that is not positive, or another `average`.
    """

    size: Sequence[int] | None = None
    scales: Sequence[float] = (1.0,)
    flip: bool = False
    average: str = "probabilities"

    def __post_init__(self):
        if self.average not in AVERAGES:
            raise ValueError(f"average must be {' or '.join(AVERAGES)}, not {self.average!r}")
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"scales must be one or more numbers above 0, not {self.scales}")

    @property
    def per_scale(self) -> int:
        """The number of views at each scale."""
        return 2 if self.flip else 1

    @property
    def count(self) -> int:
        """The number of views."""
        return self.per_scale * len(self.scales)

    def sizes(self, image_size: Sequence[int], least: int = 1) -> list[tuple[int, int]]:
        """Return the (H, W) at each scale of an image of `image_size` (H, W). Shorter sides are enlarged to `least`."""
        return [tuple(max(least, round(side * scale)) for side in self.size or image_size) for scale in self.scales]


ONE_VIEW = Views()  # the image itself


def make_views(options: ViewOptions, size: Sequence[int] | None) -> Views:
    """Return the views that the flags ask for. `size` is the model's, used without `--test_size`."""
    several = bool(options.mst or options.scales)
    scales = tuple(options.scales or (MULTI_SCALE if options.mst else (1.0,)))
    return Views(options.test_size or size, scales, options.flip and several, options.average)
