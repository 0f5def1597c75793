"""The canvas holds image, tags and depths of a scene while it is painted; frames and boxes draw things on it."""

from collections.abc import Sequence

import cv2
import numpy as np

from .atmosphere import Light
from .camera import Camera
from .classes import INSTANCE_CLASSES

Colour = np.ndarray | tuple[int, int, int]
Points = np.ndarray | Sequence[Sequence[float]]  # (N, 2) or (N, 3)
Part = tuple[tuple[slice, slice], np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # see `Canvas.sheet`


def circle(corners: int, start: float = 0.0) -> np.ndarray:
    """Return the corners of a regular polygon around the origin, (corners, 2)."""
    turns = start + np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([np.cos(turns), np.sin(turns)], axis=1)


def sixteenths(pixels: np.ndarray) -> np.ndarray:
    """Return pixels as int32 sixteenths, which OpenCV takes with shift=4."""
    return np.clip(np.round(pixels * 16), -3e5, 3e5).astype(np.int32)


def footprint(along: np.ndarray) -> np.ndarray:
    """Return the metres of a surface that each pixel covers, from the pixels' positions along it, both (1, w)."""
    return np.abs(np.gradient(along[0]))[None] if along.shape[1] > 1 else np.full((1, 1), 0.999)


class Canvas:
    """An unfinished picture: RGB image, tags (the object seen in each pixel), and depth of surfaces."""

    def __init__(self, camera: Camera, light: Light):
        self.camera, self.light = camera, light
        self.image = np.zeros((camera.height, camera.width, 3), np.uint8)
        self.tag = np.zeros((camera.height, camera.width), np.uint16)
        self.depth = np.full((camera.height, camera.width), 1e4, np.float32)
        self.labels, self.instances, self.depths = [], [], []  # by tag; a depth of 0 means: see the depth map

    def begin(self, label: int, depth: float = 0.0) -> None:
        """Start a new object of this class, `depth` metres away. Everything painted from now on belongs to it."""
        number = self.labels.count(label)
        self.labels.append(label)
        self.instances.append(label * 1000 + number if label in INSTANCE_CLASSES else label)
        self.depths.append(depth)
        self.current = len(self.labels) - 1

    def ids(self, table: list[float], dtype: type = np.uint16) -> np.ndarray:
        """Return the entry of `table` (labels, instances or depths) for each pixel, (H, W)."""
        return np.array(table, dtype)[self.tag]

    def polygon(self, pixels: np.ndarray, colour: Colour | None = None) -> None:
        """Fill a polygon (N, 2), anti-aliased in the image, hard-edged in the tags. Without a colour: tags only."""
        points = [sixteenths(pixels)]
        if colour is not None:
            cv2.fillPoly(self.image, points, np.clip(colour, 0, 255).tolist(), cv2.LINE_AA, 4)
        cv2.fillPoly(self.tag, points, self.current, cv2.LINE_8, 4)

    def facet(self, points: Points, colour: Colour | None = None) -> None:
        """Fill a polygon of world points (N, 3)."""
        self.polygon(self.camera.uv(np.asarray(points)), colour)

    def surface(self, window: tuple[slice, slice], mask: np.ndarray, colour: np.ndarray, depth: np.ndarray) -> None:
        """Write colours (h, w, 3), tag and depth where `mask` (h, w) is true in a window of the picture."""
        self.image[window][mask] = np.clip(colour, 0, 255).astype(np.uint8)[mask]
        self.tag[window][mask] = self.current
        self.depth[window][mask] = np.broadcast_to(depth, mask.shape)[mask]

    def sheet(self, x: float, z0: float, z1: float, tall: float) -> Part | None:
        """Find the pixels of an upright sheet along the street at x, from z0 to z1, `tall` metres high.

        Returns None if it is out of sight. Otherwise returns the window (two slices), metres along (1, w) and up
        (h, w), the sheet's mask in the window (h, w), and its depth (1, w).
        """
        z = self.camera.street_depth(x)
        return self._upright(z, z, (z >= max(z0, 0.8)) & (z < z1), tall)

    def front(self, x0: float, x1: float, z: float, tall: float) -> Part | None:
        """Find the pixels of an upright rectangle across the view at depth z, world X in x0..x1. Returns as `sheet`."""
        across = self.camera.rays() * z
        return self._upright(np.full(self.camera.width, z), across, (across >= x0) & (across < x1), tall)

    def _upright(self, z: np.ndarray, along: np.ndarray, inside: np.ndarray, tall: float) -> Part | None:
        columns = np.flatnonzero(inside)
        if not len(columns):
            return None
        span = slice(columns[0], columns[-1] + 1)
        camera = self.camera
        near = z[columns].min()
        top = max(int(camera.horizon - camera.focal * (tall - camera.rise) / near), 0)
        bottom = min(int(camera.horizon + camera.focal * camera.rise / near) + 2, camera.height)
        if bottom <= top:
            return None
        depth = np.where(inside, z, near)[None, span].astype(np.float32)
        up = camera.rise - (np.arange(top, bottom)[:, None] - camera.horizon) * depth / camera.focal
        along = np.where(inside, along, along[columns[0]])[None, span].astype(np.float32)
        return (slice(top, bottom), span), along, up, (up >= 0) & (up < tall) & inside[None, span], depth


class Frame:
    """Local coordinates of a thing at street position (x, z), in metres: a points ahead, y up, b to its right.

    `heading` is the angle from the viewing direction to a, in radians.
    """

    def __init__(self, canvas: Canvas, x: float, z: float, heading: float):
        self.canvas = canvas
        self.origin = canvas.camera.world(x, z)
        sine = np.sin(heading)
        cosine = np.cos(heading)
        self.axes = np.array([[sine, 0, cosine], [0, 1, 0], [cosine, 0, -sine]])

    def world(self, points: Points) -> np.ndarray:
        """Map local points (N, 2: a, y) or (N, 3: a, y, b) to world points (N, 3)."""
        points = np.asarray(points, float)
        return points @ self.axes[: points.shape[1]] + self.origin

    def polygon(self, points: Points, colour: Colour | None = None) -> None:
        self.canvas.facet(self.world(points), colour)

    def disc(self, a: float, y: float, radius: float, colour: Colour | None = None) -> None:
        self.polygon(circle(20) * radius + (a, y), colour)

    def limb(
        self, start: Sequence[float], end: Sequence[float], thick: float, thin: float, colour: Colour | None = None
    ) -> None:
        """Draw a stick between two points of the a-y plane, `thick` metres wide at the start and `thin` at the end."""
        start, end = np.array(start, float), np.array(end, float)
        across = (end - start)[::-1] * (-1, 1) / (np.hypot(*(end - start)) + 1e-6) / 2
        low, high = across * thick, across * thin
        self.polygon([start + low, end + high, end - high, start - low], colour)


class Box:
    """A painted box over the ranges a, b, y of a frame. Its top is narrower by `taper` (back, front, sides).

    `faces` maps the name of each visible face to its world corners (4, 3): low start, low end, high end, high start.
    Patches lie on faces ("left right" means on those that are visible). Their coordinates are fractions of the face:
    s along the lower edge, t upwards.
    """

    def __init__(
        self,
        frame: Frame,
        a: tuple[float, float],
        b: tuple[float, float],
        y: tuple[float, float],
        colour: Colour,
        taper: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ):
        self.canvas = frame.canvas
        self.length = a[1] - a[0]
        self.low = y[0]
        self.tall = y[1] - y[0]
        back, front, side = taper
        low = [(a[i], y[0], b[j]) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
        a, b = (a[0] + back, a[1] - front), (b[0] + side, b[1] - side)
        high = [(a[i], y[1], b[j]) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
        corners = frame.world(low + high)
        ahead, up, right = frame.axes
        light = self.canvas.light
        eye = (0, self.canvas.camera.rise, 0)
        self.faces = {}
        for name, indices, normal in (
            ("left", (0, 1, 5, 4), -right),
            ("right", (3, 2, 6, 7), right),
            ("back", (0, 3, 7, 4), -ahead),
            ("front", (1, 2, 6, 5), ahead),
            ("top", (4, 5, 6, 7), up),
        ):
            face = corners[list(indices)]
            if normal @ (face[0] - eye) < 0:
                shade = 0.8 + 0.36 * max(float(normal @ light.sun), 0) * light.strength
                self.canvas.facet(face, np.asarray(colour) * shade)
                self.faces[name] = face

    def patch(self, names: str, colour: Colour, places: Points) -> None:
        """Paint a polygon of (s, t) points on each of the named faces."""
        s, t = np.asarray(places, float).T[:, :, None]
        for a, b, c, d in (self.faces[name] for name in names.split() if name in self.faces):
            self.canvas.facet((a * (1 - s) + b * s) * (1 - t) + (d * (1 - s) + c * s) * t, colour)

    def panel(self, names: str, colour: Colour, *rectangles: tuple[float, float, float, float]) -> None:
        """Paint rectangles (s from, t from, s to, t to) on each of the named faces."""
        for s0, t0, s1, t1 in rectangles:
            self.patch(names, colour, [(s0, t0), (s1, t0), (s1, t1), (s0, t1)])

    def wheels(self, places: Sequence[float], radius: float) -> None:
        """Paint wheels that stand on the ground, at fractions s of the left or right face."""
        for s in places:
            for size, colour in ((1.0, (24, 24, 26)), (0.55, (120, 120, 124))):
                rim = circle(16) * size * radius + (0, radius - self.low)
                self.patch("left right", colour, rim / (self.length, self.tall) + (s, 0))
