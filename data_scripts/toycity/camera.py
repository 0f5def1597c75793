"""The camera: from street metres to world metres to pixels."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Camera:
    """A pinhole camera above flat ground. The street is yawed and bent: X = yaw Z + bend Z^2 + x - lane."""

    height: int  # pixels
    width: int
    focal: float  # pixels
    horizon: float  # row of the vanishing line
    rise: float  # metres above the ground
    lane: float  # street x of the camera
    yaw: float
    bend: float

    def centre(self, z: float | np.ndarray) -> float | np.ndarray:
        """Return the world X of the street's middle line at depth z."""
        return self.yaw * z + self.bend * z * z - self.lane

    def heading(self, z: float) -> float:
        """Return the angle between street and viewing direction at depth z, in radians."""
        return float(np.arctan(self.yaw + 2 * self.bend * z))

    def world(self, x: float, z: float, y: float = 0.0) -> np.ndarray:
        """Return the world point (3,) that lies y metres above street position (x, z)."""
        return np.array([x + self.centre(z), y, z])

    def uv(self, points: np.ndarray) -> np.ndarray:
        """Project world points (N, 3) to pixels (N, 2)."""
        z = np.maximum(points[:, 2], 0.6)
        u = self.width / 2 + self.focal * points[:, 0] / z
        return np.stack([u, self.horizon + self.focal * (self.rise - points[:, 1]) / z], axis=1)

    def rays(self) -> np.ndarray:
        """Return X / Z of every column, (width,)."""
        return (np.arange(self.width) - self.width / 2) / self.focal

    def street_depth(self, x: float) -> np.ndarray:
        """Return the depth where each column's ray meets the upright sheet along the street at x, or inf, (width,)."""
        offset, slope = x - self.lane, self.yaw - self.rays()
        root = np.sqrt(np.maximum(slope * slope - 4 * self.bend * offset, 0))
        with np.errstate(divide="ignore", invalid="ignore"):
            depths = np.stack([2 * offset / (-slope - root), 2 * offset / (-slope + root)])
        depths[~((depths > 0) & (slope * slope >= 4 * self.bend * offset))] = np.inf
        return depths.min(axis=0)


def sample_camera(rng: np.random.Generator, size: tuple[int, int], lane_width: float) -> Camera:
    focal, horizon = rng.uniform(0.72, 0.9) * size[1], rng.uniform(0.4, 0.5) * size[0]
    rise = rng.uniform(1.3, 2.1)
    lane = lane_width / 2 + rng.uniform(-0.3, 0.3)
    yaw, bend = rng.uniform(-0.06, 0.06), rng.uniform(-0.0012, 0.0012)
    return Camera(*size, focal, horizon, rise, lane, yaw, bend)
