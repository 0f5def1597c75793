"""The canvas: image, tags and depths of the scene under way."""

import cv2
import numpy as np

from .classes import INSTANCE_CLASSES


def circle(corners, start=0.0):
    """Corners of a regular polygon around the origin: (corners, 2)."""
    turns = start + np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([np.cos(turns), np.sin(turns)], axis=1)


def sixteenths(pixels):
    """Pixels as OpenCV takes them with shift=4: int32."""
    return np.clip(np.round(pixels * 16), -3e5, 3e5).astype(np.int32)


def footprint(along):
    """Metres along a surface that one pixel covers, from the pixels' places along it, both (1, w)."""
    return np.abs(np.gradient(along[0]))[None] if along.shape[1] > 1 else np.full((1, 1), 0.999)


class Canvas:
    """The picture under way: RGB image, tags (which object is seen in each pixel), depth of surfaces."""

    def __init__(self, camera, light):
        self.camera, self.light = camera, light
        self.image = np.zeros((camera.height, camera.width, 3), np.uint8)
        self.tag = np.zeros((camera.height, camera.width), np.uint16)
        self.depth = np.full((camera.height, camera.width), 1e4, np.float32)
        self.labels, self.instances, self.depths = [], [], []  # by tag; a depth of 0 stands for the depth map

    def begin(self, label, depth=0.0):
        """What is painted from here on is one object of this class, `depth` metres away."""
        number = self.labels.count(label)
        self.labels.append(label)
        self.instances.append(label * 1000 + number if label in INSTANCE_CLASSES else label)
        self.depths.append(depth)
        self.current = len(self.labels) - 1

    def ids(self, table, dtype=np.uint16):
        """What `table` (labels, instances or depths) says about each pixel: (H, W)."""
        return np.array(table, dtype)[self.tag]

    def polygon(self, pixels, colour=None):
        """Fill a polygon (N, 2): smooth edges in the image, hard ones in the tags. No colour: tags only."""
        points = [sixteenths(pixels)]
        if colour is not None:
            cv2.fillPoly(self.image, points, np.clip(colour, 0, 255).tolist(), cv2.LINE_AA, 4)
        cv2.fillPoly(self.tag, points, self.current, cv2.LINE_8, 4)

    def facet(self, points, colour=None):
        """Fill a polygon of world points (N, 3)."""
        self.polygon(self.camera.uv(np.asarray(points)), colour)

    def surface(self, window, mask, colour, depth):
        """Write colours (h, w, 3) where mask (h, w) is true in a window of the picture."""
        self.image[window][mask] = np.clip(colour, 0, 255).astype(np.uint8)[mask]
        self.tag[window][mask] = self.current
        self.depth[window][mask] = np.broadcast_to(depth, mask.shape)[mask]

    def sheet(self, x, z0, z1, tall):
        """Pixels of the upright sheet along the street at x from z0 to z1, `tall` metres high.

        Returns None if it is out of sight, else the window (two slices), metres along (1, w) and up (h, w),
        the mask of the sheet in the window (h, w) and the depth (1, w).
        """
        z = self.camera.street_depth(x)
        return self._upright(z, z, (z >= max(z0, 0.8)) & (z < z1), tall)

    def front(self, x0, x1, z, tall):
        """Pixels of the upright rectangle across the view at depth z, world X in x0..x1, as `sheet`."""
        across = self.camera.rays() * z
        return self._upright(np.full(self.camera.width, z), across, (across >= x0) & (across < x1), tall)

    def _upright(self, z, along, inside, tall):
        columns = np.flatnonzero(inside)
        if not len(columns):
            return None
        span = slice(columns[0], columns[-1] + 1)
        camera, near = self.camera, z[columns].min()
        top = max(int(camera.horizon - camera.focal * (tall - camera.rise) / near), 0)
        bottom = min(int(camera.horizon + camera.focal * camera.rise / near) + 2, camera.height)
        if bottom <= top:
            return None
        depth = np.where(inside, z, near)[None, span].astype(np.float32)
        up = camera.rise - (np.arange(top, bottom)[:, None] - camera.horizon) * depth / camera.focal
        along = np.where(inside, along, along[columns[0]])[None, span].astype(np.float32)
        return (slice(top, bottom), span), along, up, (up >= 0) & (up < tall) & inside[None, span], depth
