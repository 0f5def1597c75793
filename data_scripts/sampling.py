"""Sample rare classes more often than they occur."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from datasets import (
    Dataset,
    are_progress_bars_disabled,
    concatenate_datasets,
    disable_progress_bars,
    enable_progress_bars,
)

REPEATS = 64  # different augmentations of one image within an epoch; further draws repeat them


def inverse_frequency(pixels: np.ndarray) -> np.ndarray:
    """Return weights (C,) that sum to 1, proportional to 1 / `pixels` (C,); 0 for a class without pixels."""
    weights = np.divide(1.0, pixels, out=np.zeros(len(pixels)), where=np.asarray(pixels) > 0)
    return weights / weights.sum()


def make_order(sampling: str, counts: np.ndarray) -> Callable[[np.random.Generator], list[int]]:
    """Return a function that maps an epoch's generator to the indices of the epoch's N items, in order.

    counts    (N, C): pixels of each class in each image
    sampling  "rare" draws, for each item, a class by inverse frequency, then one of the images that show it. This is
              rare class sampling (Hoyer et al., 2022, arXiv 2111.14887) without damped weights, so the only image
              with a rare class is repeated often. "balanced" takes the classes in turn, in a new order each round.
    """
    count = len(counts)
    weights = inverse_frequency(counts.sum(0))
    shows = [np.flatnonzero(counts[:, i]) for i in range(counts.shape[1])]
    classes = np.flatnonzero(weights)

    def order(rng: np.random.Generator) -> list[int]:
        if sampling == "rare":
            drawn = rng.choice(len(weights), count, p=weights)
        else:
            rounds = -(-count // len(classes))
            drawn = np.concatenate([rng.permutation(classes) for _ in range(rounds)])[:count]
        items = []
        seen = Counter()
        for kind in drawn:
            image = int(rng.choice(shows[kind]))
            items.append(image + count * (seen[image] % REPEATS))
            seen[image] += 1
        return items

    return order


def training_split(*splits: Dataset) -> Dataset:
    """Concatenate the splits. The result has the columns that all of them have, and a new `index`."""
    columns = [column for column in splits[0].column_names if all(column in split.column_names for split in splits)]
    joined = concatenate_datasets([split.select_columns(columns).remove_columns("index") for split in splits])
    with _no_bars():  # `add_column` shows one for rows that were selected
        return joined.add_column("index", np.arange(len(joined)))


@contextmanager
def _no_bars() -> Iterator[None]:
    """Hide the progress bars of `datasets` while the block runs."""
    hidden = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not hidden:
            enable_progress_bars()


def repeated(num_images: int) -> Dataset:
    """Return the items for `make_order`, in which image i has the indices i, N + i, 2 N + i and so on."""
    return Dataset.from_dict({"index": np.arange(REPEATS * num_images)})
