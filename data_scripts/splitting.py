"""Divide images into parts, such as folds, that show the classes equally often."""

from collections.abc import Sequence

import numpy as np

from .labels import DataError


def divide(counts: np.ndarray, groups: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Return the part of each image, int (N,), from 0 to len(shares) - 1. The result depends on the arguments alone.

    This is iterative stratification (Sechidis et al., 2011, "On the stratification of multi-label data") without
    its random choices, for groups of images. It takes the class that is left in the fewest groups, and gives these
    groups to the parts in turn: first to a part that lacks the class, then to the one that is furthest from its share.
    Part sizes come first, so a part can still lack a class that only a few groups show.

    counts  pixels of each class in each image, int (N, C)
    groups  id of each image's group, (N,); a group stays together
    shares  share of the images for each part; they sum to 1

    Raises DataError if there are fewer groups than parts.
    """
    group = np.unique(groups, return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(group)
    if len(sizes) < len(shares):
        raise DataError(f"{len(group)} images in {len(sizes)} groups cannot be divided into {len(shares)} parts")
    shown, pixels = (_sums(values, group) for values in (counts > 0, counts))
    room = _whole_shares(len(group), shares)
    missing_images, missing_pixels = (np.outer(shares, values.sum(0)) for values in (shown, pixels))
    part = np.full(len(sizes), -1)

    def place(member: int, of_class: int | None) -> None:
        """Give a group to a part. `of_class` is the class to divide, or None if the group shows no class."""
        empty = ~np.isin(np.arange(len(shares)), part)
        open_parts = room >= sizes[member]
        if (part < 0).sum() <= empty.sum():  # the last groups, one for each empty part
            open_parts = empty
        elif not open_parts.any():
            open_parts = room == room.max()
        keys = [room]  # from the least to the most important
        if of_class is not None:
            lacks = [not shown[part == i, of_class].any() for i in range(len(shares))]
            keys = [missing_pixels[:, of_class], missing_images[:, of_class].round(6), lacks]
        chosen = np.lexsort([-np.arange(len(shares)), *keys, open_parts])[-1]
        part[member] = chosen
        room[chosen] -= sizes[member]
        missing_images[chosen] -= shown[member]
        missing_pixels[chosen] -= pixels[member]

    while (part < 0).any():
        left = np.flatnonzero(part < 0)
        spread = (shown[left] > 0).sum(0)
        if not spread.any():
            for member in left[np.argsort(-sizes[left], kind="stable")]:
                place(member, None)
            break
        rarest = np.where(spread > 0, spread, len(sizes) + 1).argmin()
        members = left[shown[left, rarest] > 0]
        for member in members[np.lexsort([members, -pixels[members, rarest], -sizes[members]])]:
            place(member, rarest)
    return part[group]


def _sums(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the sums of the rows of `values` (N, C) in each group, int (G, C)."""
    totals = np.zeros((group.max() + 1, values.shape[1]), np.int64)
    np.add.at(totals, group, values)
    return totals


def _whole_shares(total: int, shares: Sequence[float]) -> np.ndarray:
    """Return `total` times each share, rounded so that the numbers sum to `total` and none is 0."""
    exact = total * np.asarray(shares, float)
    whole = np.floor(exact + 1e-9).astype(int)
    whole[np.argsort(whole - exact, kind="stable")[: total - whole.sum()]] += 1
    while (whole == 0).any():
        whole[whole.argmax()] -= 1
        whole[(whole == 0).argmax()] += 1
    return whole
