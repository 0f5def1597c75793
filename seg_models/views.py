"""The views of an image that the flags ask for.

predictor.py is copied next to saved networks, which do not need flags. So what reads them is here.
"""

from collections.abc import Sequence

from .arguments import ViewOptions
from .names import MULTI_SCALE
from .predictor import Views


def make_views(options: ViewOptions, size: Sequence[int] | None) -> Views:
    """Return the views that the flags ask for. `size` is the model's, used without `--test_size`."""
    several = bool(options.mst or options.scales)
    scales = tuple(options.scales or (MULTI_SCALE if options.mst else (1.0,)))
    return Views(options.test_size or size, scales, options.flip and several, options.average)
