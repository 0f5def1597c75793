"""The schedule: which image must show what, so that every class occurs in every split."""

import numpy as np

from . import classes as c

# Of each row, every block of three images of a split hands each theme to one of the three (a split of one or
# two images hands out all of them): each theme shows in a third of the images.
THEMES = (("bus", "train", "truck"), ("wall", "fence", "park"), ("motorcycle", "cyclist", "crossing"))
# Least share of the pixels that a class must show, in every image and in those of a theme.
COMMON_SHARE = {
    c.ROAD: 0.1,
    c.SIDEWALK: 0.007,
    c.BUILDING: 0.03,
    c.VEGETATION: 0.006,
    c.SKY: 0.005,
    c.CAR: 0.005,
    c.PERSON: 0.0015,
    c.POLE: 0.002,
    c.SIGN: 0.0006,
    c.EGO: 0.0,
}
THEME_SHARE = {
    "bus": {c.BUS: 0.015},
    "train": {c.TRAIN: 0.015},
    "truck": {c.TRUCK: 0.015},
    "wall": {c.WALL: 0.012},
    "fence": {c.FENCE: 0.012},
    "park": {c.TERRAIN: 0.006},
    "motorcycle": {c.MOTORCYCLE: 0.002, c.RIDER: 0.001},
    "cyclist": {c.BICYCLE: 0.002, c.RIDER: 0.001},
    "crossing": {c.LIGHT: 0.0006},
}


def themes_of(seed, split, index, count):
    """The themes that image `index` of a split of `count` images must show."""
    block = min(3, count)
    found = set()
    for row, names in enumerate(THEMES):
        slots = np.random.default_rng([seed, split, index // block, row, 7]).permutation(block)
        found |= {name for k, name in enumerate(names) if slots[k % block] == index % block}
    return found


def needs_of(themes):
    """Least share of the pixels by class for an image with these themes."""
    needs = dict(COMMON_SHARE)
    for theme in sorted(themes):
        needs.update(THEME_SHARE[theme])
    return needs
