"""Frames: things are drawn in coordinates of their own, in metres, as flat shapes and boxes."""

import numpy as np

from .canvas import circle


class Frame:
    """Local coordinates of a thing at street position (x, z): a ahead, y up, b to its right, in metres.

    `heading` is the angle from the viewing direction to a, in radians.
    """

    def __init__(self, canvas, x, z, heading):
        self.canvas, self.origin = canvas, canvas.camera.world(x, z)
        sine, cosine = np.sin(heading), np.cos(heading)
        self.axes = np.array([[sine, 0, cosine], [0, 1, 0], [cosine, 0, -sine]])

    def world(self, points):
        """Local points (N, 2: a, y) or (N, 3: a, y, b) -> world points (N, 3)."""
        points = np.asarray(points, float)
        return points @ self.axes[: points.shape[1]] + self.origin

    def polygon(self, points, colour=None):
        self.canvas.facet(self.world(points), colour)

    def disc(self, a, y, radius, colour=None):
        self.polygon(circle(20) * radius + (a, y), colour)

    def limb(self, start, end, thick, thin, colour=None):
        """A stick between two points of the a-y plane, `thick` at the start and `thin` at the end."""
        start, end = np.array(start, float), np.array(end, float)
        across = np.array([start[1] - end[1], end[0] - start[0]]) / (np.hypot(*(end - start)) + 1e-6) / 2
        corners = [start + across * thick, end + across * thin, end - across * thin, start - across * thick]
        self.polygon(corners, colour)


class Box:
    """A painted box over the ranges a, b, y of a frame; its top is drawn in by `taper` (back, front, sides).

    `faces` holds the visible ones: name -> world corners (4, 3): low start, low end, high end, high start.
    Patches lie on faces ("left right": on whichever is visible) in fractions: s along the lower edge, t up.
    """

    def __init__(self, frame, a, b, y, colour, taper=(0.0, 0.0, 0.0)):
        self.canvas, self.length, self.low, self.tall = frame.canvas, a[1] - a[0], y[0], y[1] - y[0]
        back, front, side = taper
        low = [(a[i], y[0], b[j]) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
        a, b = (a[0] + back, a[1] - front), (b[0] + side, b[1] - side)
        high = [(a[i], y[1], b[j]) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
        corners, (ahead, up, right) = frame.world(low + high), frame.axes
        light, eye, self.faces = self.canvas.light, (0, self.canvas.camera.rise, 0), {}
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

    def patch(self, names, places, colour):
        """A polygon of (s, t) places on each of the named faces."""
        s, t = np.asarray(places, float).T[:, :, None]
        for face in (self.faces[name] for name in names.split() if name in self.faces):
            self.canvas.facet(
                (face[0] * (1 - s) + face[1] * s) * (1 - t) + (face[3] * (1 - s) + face[2] * s) * t, colour
            )

    def panel(self, names, s0, t0, s1, t1, colour):
        """A rectangle from (s0, t0) to (s1, t1) on each of the named faces."""
        self.patch(names, [(s0, t0), (s1, t0), (s1, t1), (s0, t1)], colour)

    def wheels(self, places, radius):
        """Wheels that stand on the ground, at fractions s of the left or right face."""
        for s in places:
            for size, colour in ((1.0, (24, 24, 26)), (0.55, (120, 120, 124))):
                rim = circle(16) * size * radius + (0, radius - self.low)
                self.patch("left right", rim / (self.length, self.tall) + (s, 0), colour)
