"""Colours and noise."""

import cv2
import numpy as np


def rgb(codes: str) -> np.ndarray:
    """Colours from hex codes: (N, 3) float, 0..255."""
    return np.array([list(bytes.fromhex(code)) for code in codes.split()], float)


# One palette for facades, walls, vehicles and clothes: colour alone must not tell them apart.
PAINTS = rgb(
    "e2d6bc a8523e ca9e58 969694 5c708a 849676 bc7658 e4e4de 4a4c52 "
    "3e8084 cc9896 deba4a 344268 765642 b02828 78a0be 282a2e 5a8250"
)
ROOFS, BARKS = PAINTS[[1, 3, 6, 8, 13]], PAINTS[[13, 8]]
CAR_GREYS = rgb("1e2024 b0b2b6 e2e2e2")
GREENS = rgb("486830 5e7a38 3a5838 74803c 867634 546e46")
GREYS = rgb("5c5c5e 747270 88847e 686c72 969088 4e4e52")
GLASS = rgb("343e4a 465460 282c32 60707c")
SKIN = rgb("e0b496 c4906e 8c6046 5c3e2e")


def pick(rng: np.random.Generator, palette: np.ndarray, spread: float = 0.22) -> np.ndarray:
    """A colour near one of the palette's rows: (3,) float."""
    colour = palette[rng.integers(len(palette))] * rng.uniform(1 - spread, 1 + spread / 2)
    return np.clip(colour + rng.normal(0, 3 if palette is GREYS else 8, 3), 12, 245)


def noise(rng: np.random.Generator, height: int, width: int, cell: float, octaves: int = 4) -> np.ndarray:
    """Cloudy value noise with features of about `cell` pixels: (height, width) float32, variance about 1."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        step = max(cell / 2**octave, 1.0)
        grid = rng.standard_normal((int(height / step) + 3, int(width / step) + 3)).astype(np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.6**octave
    return total


def scatter(column: np.ndarray, row: np.ndarray, more: float = 0.0) -> np.ndarray:
    """A number in 0..1 for each stone or window, from its place in the wall."""
    return np.mod(np.sin(column * 12.9898 + row * 78.233 + more) * 43758.5453, 1.0)
