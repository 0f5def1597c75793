"""ToyCity: procedurally drawn street scenes in exactly MiniCity's files, to try everything offline.

    python -m data_scripts.toycity OUT --train 24 --val 8 --test 8 --size 512 1024 --seed 0

It writes OUT/leftImg8bit/{train,val,test}/NAME_leftImg8bit.png (RGB) and, for train and val, into OUT/gtFine/
NAME_gtFine_labelIds.png (Cityscapes source ids) and NAME_gtFine_instanceIds.png (16 bit).

A scene is made in five steps: camera -> layout (what stands where, in metres) -> painters (ground, street
fronts, things, back to front) -> atmosphere (light, haze, rain, lens) -> files. There are two coordinate
frames. World: X to the right, Y up from the ground, Z ahead of the camera, in metres. Street: x across the
(yawed, bent) street from its middle line, negative on the left, at depth Z. Colours are RGB, 0..255.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

EGO, STATIC, PARKING, RAIL_TRACK = 1, 4, 9, 10  # void ids: never trained on, never scored
ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, LIGHT, SIGN = 7, 8, 11, 12, 13, 17, 19, 20
VEGETATION, TERRAIN, SKY, PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE = (
    *range(21, 29),
    31,
    32,
    33,
)
INSTANCE_CLASSES = (PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE)

# The schedule. Of each row, every block of three images of a split hands each theme to one of the three
# (a split of one or two images hands out all of them): each theme shows in a third of the images.
THEMES = (("bus", "train", "truck"), ("wall", "fence", "park"), ("motorcycle", "cyclist", "crossing"))
# Least share of the pixels that a class must show, else the scene is drawn again from the next seed.
COMMON_SHARE = {
    ROAD: 0.1,
    SIDEWALK: 0.007,
    BUILDING: 0.03,
    VEGETATION: 0.006,
    SKY: 0.005,
    CAR: 0.005,
    PERSON: 0.0015,
    POLE: 0.002,
    SIGN: 0.0006,
    EGO: 0.0,
}
THEME_SHARE = {
    "bus": {BUS: 0.015},
    "train": {TRAIN: 0.015},
    "truck": {TRUCK: 0.015},
    "wall": {WALL: 0.012},
    "fence": {FENCE: 0.012},
    "park": {TERRAIN: 0.006},
    "motorcycle": {MOTORCYCLE: 0.002, RIDER: 0.001},
    "cyclist": {BICYCLE: 0.002, RIDER: 0.001},
    "crossing": {LIGHT: 0.0006},
}

# One palette for facades, walls, vehicles and clothes: colour alone must not tell them apart.
PAINTS = np.array(
    [
        (226, 214, 188),
        (168, 82, 62),
        (202, 158, 88),
        (150, 150, 148),
        (92, 112, 138),
        (132, 150, 118),
        (188, 118, 88),
        (228, 228, 222),
        (74, 76, 82),
        (62, 128, 132),
        (204, 152, 150),
        (222, 186, 74),
        (52, 66, 104),
        (118, 86, 66),
        (176, 40, 40),
        (120, 160, 190),
        (40, 42, 46),
        (90, 130, 80),
    ],
    float,
)
GREENS = np.array(
    [(72, 104, 48), (94, 122, 56), (58, 88, 56), (116, 128, 60), (134, 118, 52), (84, 110, 70)], float
)
GREYS = np.array(
    [(92, 92, 94), (116, 114, 112), (136, 132, 126), (104, 108, 114), (150, 144, 136), (78, 78, 82)], float
)
GLASS = np.array([(52, 62, 74), (70, 84, 96), (40, 44, 50), (96, 112, 124)], float)
SKIN = np.array([(224, 180, 150), (196, 144, 110), (140, 96, 70), (92, 62, 46)], float)


def pick(rng, palette, spread=0.22):
    """A colour near one of the palette's rows: (3,) float."""
    colour = palette[rng.integers(len(palette))] * rng.uniform(1 - spread, 1 + spread / 2)
    return np.clip(colour + rng.normal(0, 3 if palette is GREYS else 8, 3), 12, 245)


def noise(rng, height, width, cell, octaves=4):
    """Cloudy value noise with features of about `cell` pixels: (height, width) float32, variance about 1."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        step = max(cell / 2**octave, 1.0)
        grid = rng.standard_normal((int(height / step) + 3, int(width / step) + 3)).astype(np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.6**octave
    return total


# ------------------------------------------------------------ camera


@dataclass(frozen=True)
class Camera:
    """A pinhole above flat ground. The street is yawed and bent: X = yaw Z + bend Z^2 + x - lane."""

    height: int  # pixels
    width: int
    focal: float  # pixels
    horizon: float  # row of the vanishing line
    rise: float  # metres above the ground
    lane: float  # street x of the camera
    yaw: float
    bend: float

    def centre(self, z):
        """World X of the street's middle line at depth z."""
        return self.yaw * z + self.bend * z * z - self.lane

    def heading(self, z):
        """Angle of the street against the viewing direction at depth z, in radians."""
        return float(np.arctan(self.yaw + 2 * self.bend * z))

    def uv(self, points):
        """World points (N, 3) -> pixels (N, 2)."""
        z = np.maximum(points[:, 2], 0.6)
        return np.stack(
            [
                self.width / 2 + self.focal * points[:, 0] / z,
                self.horizon + self.focal * (self.rise - points[:, 1]) / z,
            ],
            axis=1,
        )

    def rays(self):
        """X / Z of every column: (width,)."""
        return (np.arange(self.width) - self.width / 2) / self.focal

    def street_depth(self, x):
        """Depth at which each column's ray meets the upright sheet along the street at x or inf: (width,)."""
        offset, slope = x - self.lane, self.yaw - self.rays()
        root = np.sqrt(np.maximum(slope * slope - 4 * self.bend * offset, 0))
        with np.errstate(divide="ignore", invalid="ignore"):
            depths = np.stack([2 * offset / (-slope - root), 2 * offset / (-slope + root)])
        depths[~((depths > 0) & (slope * slope >= 4 * self.bend * offset))] = np.inf
        return depths.min(axis=0)


def sample_camera(rng, size, lane_width):
    height, width = size
    return Camera(
        height,
        width,
        focal=rng.uniform(0.72, 0.9) * width,
        horizon=rng.uniform(0.4, 0.5) * height,
        rise=rng.uniform(1.3, 2.1),
        lane=lane_width / 2 + rng.uniform(-0.3, 0.3),
        yaw=rng.uniform(-0.06, 0.06),
        bend=rng.uniform(-0.0012, 0.0012),
    )


# ------------------------------------------------------------ layout


@dataclass(frozen=True)
class Lot:
    """A stretch z0..z1 of one street side: a building at the pavement, or a yard / park behind it."""

    sign: int
    z0: float
    z1: float
    kind: str  # building, yard or park
    barrier: str | None  # wall or fence along the pavement
    setback: float  # metres from the pavement's far edge to the building
    tall: float  # metres
    seed: int


@dataclass
class Side:
    """One side of the street. Distances from the middle line, in metres: kerb <= walk < edge."""

    sign: int
    kerb: float
    walk: float
    edge: float
    strip: int | None  # what lies between kerb and walk: TERRAIN, RAIL_TRACK or nothing
    bay: int  # what cars park on: ROAD or PARKING
    lots: list[Lot] = field(default_factory=list)


@dataclass(frozen=True)
class Thing:
    """Something that stands at street position (x, z); `turn` is its angle against the street in radians."""

    kind: str
    x: float
    z: float
    seed: int
    turn: float = 0.0


@dataclass
class Street:
    lane: float
    sides: dict[int, Side]
    zebra: float | None  # depth of a crossing
    things: list[Thing] = field(default_factory=list)


# Length along the street, width and height in metres, for shadows, for spacing and for the order of painting.
SIZES = {
    "car": (4.4, 1.8, 1.5),
    "bus": (11, 2.6, 3.2),
    "train": (24, 2.6, 3.6),
    "truck": (8, 2.5, 3.6),
    "person": (0.5, 0.6, 1.75),
    "cyclist": (1.7, 0.8, 1.8),
    "motorcyclist": (2.0, 0.9, 1.7),
    "bicycle": (1.7, 0.5, 1.1),
    "motorcycle": (2, 0.7, 1.2),
    "tree": (1, 1, 6),
    "bush": (1.4, 1.4, 1.4),
    "lamp": (0.2, 0.2, 7),
    "light": (0.3, 0.3, 3.4),
    "sign": (0.2, 0.4, 3),
    "bin": (0.6, 0.6, 1.1),
    "mast": (0.3, 0.3, 6.4),
}


def sample_lots(rng, side, barrier, park):
    """Fill one side with lots up to the far end; the near ones carry the promised themes."""
    z = -4.0
    while z < 130:
        length = rng.uniform(9, 20)
        kind, fenced = str(rng.choice(["building", "yard", "park"], p=[0.72, 0.16, 0.12])), None
        if (barrier or park) and z < 24:
            length, kind = 28.0 + rng.uniform(0, 8), "park" if park and rng.random() < 0.6 else "yard"
            fenced = barrier
        side.lots.append(
            Lot(
                side.sign,
                z,
                z + length,
                kind,
                fenced,
                rng.uniform(5, 9) if kind == "yard" else 0.0,
                rng.uniform(6, 19) if rng.random() < 0.8 else rng.uniform(19, 32),
                int(rng.integers(2**31)),
            )
        )
        z += length


def sample_street(rng, themes):
    """The ground plan: road, kerbs, strips, lots; then everything that stands on it."""
    lane = rng.uniform(3.1, 3.7)
    sides = {}
    barrier_side, park_side = (-1, 1) if rng.random() < 0.4 else (1, -1)
    for sign in (-1, 1):
        barriers = [name for name in ("wall", "fence") if name in themes]
        barrier = (
            barriers[0] if barriers and sign == barrier_side else barriers[-1] if len(barriers) > 1 else None
        )
        park = "park" in themes and sign == park_side
        kerb = lane + (0.3 if barrier or rng.random() < 0.5 else 2.3)
        strip = (
            RAIL_TRACK if sign < 0 and "train" in themes else TERRAIN if park or rng.random() < 0.3 else None
        )
        walk = kerb + {RAIL_TRACK: 3.4, TERRAIN: rng.uniform(1.2, 2.2), None: 0.0}[strip]
        side = Side(
            sign, kerb, walk, walk + rng.uniform(2.2, 3.8), strip, PARKING if rng.random() < 0.3 else ROAD
        )
        sample_lots(rng, side, barrier, park)
        sides[sign] = side
    street = Street(lane, sides, rng.uniform(9, 18) if "crossing" in themes or rng.random() < 0.25 else None)
    sample_traffic(rng, street, themes)
    sample_pavement(rng, street, themes)
    return street


def place(street, rng, kind, x, z, turn=0.0, gap=0.6):
    """Put a thing there unless something stands in its way; z is its near end."""
    length, width, _ = SIZES[kind]
    for other in street.things:
        other_length, other_width, _ = SIZES[other.kind]
        if (
            abs(x - other.x) < (width + other_width) / 2 + gap / 2
            and z - gap < other.z + other_length
            and other.z - gap < z + length
        ):
            return
    street.things.append(Thing(kind, x, z, int(rng.integers(2**31)), turn))


def sample_traffic(rng, street, themes):
    lane, left, right = street.lane, street.sides[-1], street.sides[1]
    oncoming, ahead = -lane / 2, lane / 2
    if "train" in themes:
        place(street, rng, "train", -left.kerb - 1.7, rng.uniform(13, 18))
    lanes = [(oncoming, np.pi, (11, 17)), (ahead, 0.0, (13, 19))]
    if rng.random() < 0.4 or "train" in themes:
        lanes.reverse()
    large = [kind for kind in ("bus", "truck") if kind in themes]
    large += [kind for kind in ("bus", "truck") if not large and rng.random() < 0.1]
    for kind, (x, turn, (near, far)) in zip(large, lanes, strict=False):
        place(street, rng, kind, x + rng.uniform(-0.2, 0.2), rng.uniform(near, far), turn)
    for theme, kind in (("motorcycle", "motorcyclist"), ("cyclist", "cyclist")):
        for _ in range(int(theme in themes) + int(rng.random() < 0.3)):
            crossing = rng.random() < 0.4
            x = (
                rng.uniform(-lane * 0.9, lane * 1.3)
                if crossing
                else rng.choice([ahead + 1.1, oncoming + 1.2, ahead - 0.6])
            )
            place(
                street,
                rng,
                kind,
                x,
                rng.uniform(6.5, 12),
                rng.choice([-1, 1]) * (rng.uniform(1.1, 1.6) if crossing else rng.uniform(0.5, 0.9)),
            )
    for side in (left, right):
        bay = side.kerb > 1.5 * lane
        fenced = any(lot.barrier for lot in side.lots)
        z = rng.uniform(4, 10)
        while z < 70:
            chance = 0.75 if bay else 0.25 if not fenced or z > 25 else 0.4 * (z < 8)
            if rng.random() < chance and not (street.zebra and abs(z + 2 - street.zebra) < 5):
                place(
                    street,
                    rng,
                    "car",
                    side.sign * (side.kerb - 1.1),
                    z,
                    np.pi * (rng.random() < (0.75 if side.sign < 0 else 0.1)),
                )
            z += rng.uniform(5.2, 7.5)
    for x, turn in ((oncoming, np.pi), (ahead, 0.0)):
        for z in np.cumsum(rng.uniform(9, 24, 3)) + rng.uniform(-1, 5):
            if rng.random() < 0.8:
                place(street, rng, "car", x + rng.uniform(-0.3, 0.3), z, turn, gap=1.5)
    if street.zebra:
        for _ in range(rng.integers(1, 4)):
            place(
                street,
                rng,
                "person",
                rng.uniform(-left.kerb, right.kerb),
                street.zebra + rng.uniform(0.3, 2.6),
                rng.normal(0, 0.3),
            )


def sample_pavement(rng, street, themes):
    """What stands beside the road: poles, people, trees, bins, parked bicycles."""
    for side in street.sides.values():
        post = side.sign * (side.walk + 0.35)
        if "crossing" in themes or (street.zebra and rng.random() < 0.6):
            place(street, rng, "light", post, max(street.zebra + 3.3, rng.uniform(11.5, 14) - side.sign))
        for _ in range(rng.integers(1, 4)):
            place(street, rng, "sign", post, rng.uniform(9, 24))
        for z in np.arange(rng.uniform(9, 20), 90, rng.uniform(14, 22)):
            place(street, rng, "mast" if side.strip == RAIL_TRACK else "lamp", post, z)
        for _ in range(rng.integers(3, 7)):
            place(
                street,
                rng,
                "person",
                side.sign * rng.uniform(side.walk + 0.7, side.edge - 0.4),
                rng.uniform(8, 26) if rng.random() < 0.7 else rng.uniform(25, 60),
                rng.normal(0, 0.4),
            )
        for kind, chance in (("bicycle", 0.4), ("motorcycle", 0.15), ("bin", 0.5)):
            if rng.random() < chance:
                place(
                    street,
                    rng,
                    kind,
                    side.sign * rng.uniform(side.walk + 0.8, side.edge - 0.5),
                    rng.uniform(9, 18),
                    rng.uniform(0.5, 1.4),
                )
        if side.strip == TERRAIN or rng.random() < 0.55:
            fenced = any(lot.barrier for lot in side.lots)
            for z in np.arange(
                rng.uniform(20, 26) if fenced else rng.uniform(8, 16), 100, rng.uniform(9, 14)
            ):
                place(
                    street,
                    rng,
                    "tree",
                    side.sign * ((side.kerb + side.walk) / 2 if side.strip == TERRAIN else side.walk + 0.8),
                    z,
                )
        for lot in side.lots:
            if lot.kind == "building" or lot.z1 < 8:
                continue
            deep = lot.setback or 16.0
            for _ in range(rng.integers(4, 8)):
                kind = "tree" if rng.random() < (0.35 if lot.setback else 0.6) else "bush"
                away = rng.uniform(1.8, deep - 1.0)
                place(
                    street,
                    rng,
                    kind,
                    side.sign * (side.edge + away),
                    rng.uniform(max(lot.z0, 5) + 1, lot.z1 - 1),
                )


# ------------------------------------------------------------ canvas


class Canvas:
    """The picture under way: RGB image, tags (which object is seen in each pixel), depth of surfaces."""

    def __init__(self, camera, light):
        self.camera, self.light = camera, light
        self.image = np.zeros((camera.height, camera.width, 3), np.uint8)
        self.tag = np.zeros((camera.height, camera.width), np.uint16)
        self.depth = np.full((camera.height, camera.width), 1e4, np.float32)
        self.labels, self.instances, self.depths = [], [], []  # by tag; a depth of 0 stands for the depth map

    def begin(self, label, depth=0.0):
        """What is painted from here on is one object of this class."""
        number = self.labels.count(label)
        self.labels.append(label)
        self.instances.append(label * 1000 + number if label in INSTANCE_CLASSES else label)
        self.depths.append(depth)

    def ids(self, table, dtype=np.uint16):
        """What `table` (labels, instances or depths) says about each pixel: (H, W)."""
        return np.array(table, dtype)[self.tag]

    def polygon(self, pixels, colour=None):
        """Fill a polygon (N, 2): smooth edges in the image, hard ones in the tags. No colour: tags only."""
        points = [np.clip(np.round(pixels * 16), -3e5, 3e5).astype(np.int32)]
        if colour is not None:
            cv2.fillPoly(self.image, points, np.clip(colour, 0, 255).tolist(), cv2.LINE_AA, 4)
        cv2.fillPoly(self.tag, points, len(self.labels) - 1, cv2.LINE_8, 4)

    def surface(self, window, mask, colour, depth):
        """Write colours (h, w, 3) where mask (h, w) is true in a window of the picture."""
        self.image[window][mask] = np.clip(colour, 0, 255).astype(np.uint8)[mask]
        self.tag[window][mask] = len(self.labels) - 1
        self.depth[window][mask] = np.broadcast_to(depth, mask.shape)[mask]

    def sheet(self, x, z0, z1, tall):
        """The upright sheet along the street at x: window, metres along (1, w) and up (h, w), mask, depth."""
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


class Frame:
    """Local coordinates of a thing: a ahead, y up, b to its right, from a ground point, turned by heading."""

    def __init__(self, canvas, x, z, heading):
        self.canvas, self.origin = canvas, np.array([x, 0.0, z])
        sine, cosine = np.sin(heading), np.cos(heading)
        self.axes = np.array([[sine, 0, cosine], [0, 1, 0], [cosine, 0, -sine]])

    def world(self, points):
        points = np.asarray(points, float)
        if points.shape[1] == 2:
            points = np.concatenate([points, np.zeros((len(points), 1))], axis=1)
        return points @ self.axes + self.origin

    def polygon(self, points, colour=None):
        """A polygon of local points (N, 2: a, y) or (N, 3: a, y, b)."""
        self.canvas.polygon(self.canvas.camera.uv(self.world(points)), colour)

    def disc(self, a, y, radius, colour=None):
        turns = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        self.polygon(np.stack([a + radius * np.cos(turns), y + radius * np.sin(turns)], axis=1), colour)

    def limb(self, start, end, thick, thin, colour=None):
        """A tapering stick between two points of the a-y plane."""
        start, end = np.array(start, float), np.array(end, float)
        across = np.array([start[1] - end[1], end[0] - start[0]]) / (np.hypot(*(end - start)) + 1e-6) / 2
        self.polygon(
            [start + across * thick, end + across * thin, end - across * thin, start - across * thick], colour
        )

    def box(self, a, b, y, colour, taper=(0.0, 0.0, 0.0)):
        """A box over the ranges a, b, y; the top is drawn in by `taper` (back, front, sides).

        Returns the visible faces, name -> world corners (4, 3): low start, low end, high end, high start.
        """
        low = [(a[0], y[0], b[0]), (a[1], y[0], b[0]), (a[1], y[0], b[1]), (a[0], y[0], b[1])]
        back, front, side = taper
        high = [
            (a[0] + back, y[1], b[0] + side),
            (a[1] - front, y[1], b[0] + side),
            (a[1] - front, y[1], b[1] - side),
            (a[0] + back, y[1], b[1] - side),
        ]
        corner = self.world(low + high)
        ahead, up, right = self.axes
        sides = {
            "left": ((0, 1, 5, 4), -right),
            "right": ((3, 2, 6, 7), right),
            "back": ((0, 3, 7, 4), -ahead),
            "front": ((1, 2, 6, 5), ahead),
            "top": ((4, 5, 6, 7), up),
        }
        light, faces = self.canvas.light, {}
        for name, (indices, normal) in sides.items():
            face = corner[list(indices)]
            if normal @ (face[0] - (0, self.canvas.camera.rise, 0)) < 0:
                shade = 0.8 + 0.36 * max(float(normal @ light.sun), 0) * light.strength
                self.canvas.polygon(self.canvas.camera.uv(face), np.asarray(colour) * shade)
                faces[name] = face
        return faces

    def panel(self, face, s0, t0, s1, t1, colour):
        """A patch of a face, from fractions (s0, t0) to (s1, t1): s along its lower edge, t up."""
        if face is not None:
            self.on_face(face, [(s0, t0), (s1, t0), (s1, t1), (s0, t1)], colour)

    def on_face(self, face, places, colour):
        s, t = np.asarray(places, float).T[:, :, None]
        points = (face[0] * (1 - s) + face[1] * s) * (1 - t) + (face[3] * (1 - s) + face[2] * s) * t
        self.canvas.polygon(self.canvas.camera.uv(points), colour)

    def wheel(self, face, s, radius, length, tall, low):
        """A wheel that stands on the ground, on the side face of a box that begins `low` metres up."""
        turns = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        for size, colour in ((1.0, (24, 24, 26)), (0.55, (120, 120, 124))):
            places = [
                (
                    s + size * radius / length * np.cos(turn),
                    (radius - low + size * radius * np.sin(turn)) / tall,
                )
                for turn in turns
            ]
            self.on_face(face, places, colour)


# ------------------------------------------------------------ light


@dataclass(frozen=True)
class Light:
    """Weather, hour and lens of one picture."""

    sun: np.ndarray  # unit vector towards the sun
    strength: float  # 0 overcast .. 1 clear
    zenith: np.ndarray  # sky colours
    rim: np.ndarray
    gain: np.ndarray  # exposure times white balance, (3,)
    sight: float  # metres over which haze takes 63 %
    dusk: bool
    rain: bool
    season: np.ndarray  # tint of the greens
    blur: float  # pixels at a height of 512


def sample_light(rng):
    hour = str(rng.choice(["clear", "overcast", "dusk"], p=[0.5, 0.3, 0.2]))
    zenith, rim, strength = {
        "clear": ((88, 134, 196), (196, 214, 228), rng.uniform(0.6, 1.0)),
        "overcast": ((172, 176, 180), (214, 214, 210), rng.uniform(0.0, 0.15)),
        "dusk": ((74, 84, 132), (238, 172, 122), rng.uniform(0.3, 0.6)),
    }[hour]
    turn, up = rng.uniform(-np.pi, np.pi), rng.uniform(0.5, 1.0) if hour != "dusk" else 0.3
    sun = np.array([np.sin(turn), up, np.cos(turn)])
    balance = {"clear": (1.02, 1.0, 0.96), "overcast": (0.97, 1.0, 1.03), "dusk": (1.02, 0.92, 0.9)}[hour]
    gain = np.array(balance) * (1 + rng.normal(0, 0.03, 3)) * rng.uniform(0.98, 1.3)
    return Light(
        sun / np.linalg.norm(sun),
        strength,
        np.array(zenith) + rng.normal(0, 14, 3),
        np.array(rim) + rng.normal(0, 5, 3) + rng.normal(0, 8),
        gain,
        float(np.exp(rng.uniform(np.log(90), np.log(900)))),
        hour == "dusk",
        rng.random() < 0.15,
        rng.choice([(1, 1, 1), (1, 1, 1), (1.35, 0.98, 0.8), (0.95, 1.08, 0.95)]) * rng.uniform(0.85, 1.2),
        rng.uniform(0.0, 0.9),
    )


# ------------------------------------------------------------ ground and fronts


def paint_sky(canvas, rng):
    camera, light = canvas.camera, canvas.light
    canvas.begin(SKY)
    height = np.clip((camera.horizon - np.arange(camera.height)) / camera.horizon, 0, 1)[:, None, None] ** 0.7
    sky = light.rim * (1 - height) + light.zenith * height
    clouds = noise(rng, camera.height // 2 + 1, camera.width // 4 + 1, camera.width / 14)
    clouds = np.clip(cv2.resize(clouds, (camera.width, camera.height)) * 0.5 + rng.uniform(-0.5, 0.4), 0, 1)[
        ..., None
    ]
    canvas.image[:] = np.clip(sky + (light.rim * 0.4 + 148 - sky) * clouds * 0.85, 0, 255)


def paint_skyline(canvas, rng):
    """Far houses and trees that close the view behind the last lots."""
    camera = canvas.camera
    step = camera.focal / 140
    for _ in range(40):
        middle = camera.width / 2 + (camera.yaw + camera.bend * 130) * camera.focal + rng.normal(0, 45) * step
        tall, wide = rng.uniform(4, 22) * step, rng.uniform(4, 10) * step
        if rng.random() < 0.6:
            canvas.begin(BUILDING, 170.0)
            left, right, top, low = (
                middle - wide / 2,
                middle + wide / 2,
                camera.horizon - tall,
                camera.horizon + 2 * step,
            )
            canvas.polygon(
                np.array([(left, low), (left, top), (middle, top - tall * 0.15), (right, top), (right, low)]),
                pick(rng, PAINTS),
            )
        else:
            canvas.begin(VEGETATION, 150.0)
            for _ in range(6):
                turns = np.linspace(0, 2 * np.pi, 10)
                spot = np.array(
                    [middle + rng.normal(0, wide * 0.4), camera.horizon - rng.uniform(0, 5) * step]
                )
                canvas.polygon(
                    spot + 2.5 * step * np.stack([np.cos(turns), np.sin(turns)], 1),
                    pick(rng, GREENS) * canvas.light.season,
                )


def wrapped(tile, x, z, scale):
    """Look up a periodic texture at ground coordinates; `scale` is texels per metre."""
    size = tile.shape[0]
    return cv2.remap(
        tile,
        np.mod(x * scale, size).astype(np.float32),
        np.mod(z * scale, size).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )


def paint_ground(canvas, street, rng):
    """Road, kerbs, pavements, strips and yards, pixel by pixel in street coordinates."""
    camera, light = canvas.camera, canvas.light
    top = int(np.ceil(camera.horizon + camera.focal * camera.rise / 180))
    window = (slice(top, camera.height), slice(0, camera.width))
    z = (camera.focal * camera.rise / (np.arange(top, camera.height) - camera.horizon))[:, None]
    x = camera.rays()[None] * z - camera.centre(z)
    z = np.broadcast_to(z, x.shape)
    pixels = camera.focal / z  # per metre, across
    flat = camera.rise / z  # foreshortening along
    tile = rng.standard_normal((256, 256)).astype(np.float32)
    coarse, fine = wrapped(tile, x, z, 0.7), wrapped(tile, x, z, 9) * np.clip(pixels * flat / 8, 0, 1)

    def lines(value, pitch, width):
        """How far a pixel is covered by lines of `width` metres every `pitch` metres, 0..1."""
        away = np.abs(np.mod(value / pitch + 0.5, 1) - 0.5) * pitch
        return np.clip((width / 2 - away) * pixels + 0.5, 0, 1) * np.clip(pitch * pixels * flat / 2, 0, 1)

    asphalt = pick(rng, GREYS) * (0.75 if light.rain else 1.0)
    colour = np.broadcast_to(asphalt, (*x.shape, 3)) * (1 + 0.07 * fine + 0.05 * coarse)[..., None]
    label = np.full(x.shape, ROAD, np.uint8)
    paint = np.clip((0.07 - np.abs(x)) * pixels + 0.5, 0, 1) * (np.mod(z, 6.0) < 3.5)
    if street.zebra:
        on_zebra = (z > street.zebra) & (z < street.zebra + 3)
        paint = np.where(on_zebra, np.clip((0.25 - np.abs(np.mod(x, 1.0) - 0.5)) * pixels + 0.5, 0, 1), paint)
        stop = np.abs(z - street.zebra + 1.2) < 0.2
        paint = np.where(stop & (x > 0) & (x < street.sides[1].kerb), 1, paint)
    for side in street.sides.values():
        if side.kerb > 1.5 * street.lane:
            paint = np.maximum(
                paint, np.clip((0.06 - np.abs(side.sign * x - side.kerb + 2.2)) * pixels + 0.5, 0, 1)
            )
    colour += paint[..., None] * (208 - colour) * (0.75 + 0.1 * fine[..., None])
    for side in street.sides.values():
        away = side.sign * x
        slabs, grass = pick(rng, GREYS), pick(rng, GREENS) * light.season
        pitch = rng.choice([0.5, 0.8, 1.2])
        joints = np.maximum(lines(x, pitch, 0.05), lines(z, pitch, 0.06))
        paving = slabs * (1 + 0.05 * fine + 0.06 * coarse - 0.32 * joints)[..., None]
        lawn = grass * (1 + 0.22 * fine + 0.12 * coarse)[..., None]
        zones = (
            [(side.kerb - 2.2, side.kerb, PARKING, None)]
            if side.bay == PARKING and side.kerb > 1.5 * street.lane
            else []
        )
        zones += [(side.walk, side.edge + 0.3, SIDEWALK, paving)]
        if side.strip == TERRAIN:
            zones += [(side.kerb, side.walk, TERRAIN, lawn)]
        if side.strip == RAIL_TRACK:
            sleepers = lines(z, 0.7, 0.26)
            bed = np.array((118, 104, 92)) * (1 + 0.2 * fine - 0.3 * sleepers)[..., None]
            rails = np.maximum(
                *(
                    np.clip((0.07 - np.abs(away - side.kerb - 1.7 + k)) * pixels + 0.5, 0, 1)
                    for k in (-0.72, 0.72)
                )
            )
            zones += [(side.kerb, side.walk, RAIL_TRACK, bed + rails[..., None] * (168 - bed))]
        for low, high, kind, texture in zones:
            inside = (away >= low) & (away < high)
            label[inside] = kind
            if texture is not None:
                colour[inside] = texture[inside]
            else:
                colour[inside] *= (1.1 - 0.2 * lines(z, 5.5, 0.1))[inside][:, None]
        beyond = away >= side.edge + 0.3
        label[beyond], colour[beyond] = TERRAIN, lawn[beyond]
        kerb = np.clip((0.13 - np.abs(away - side.kerb)) * pixels + 0.5, 0, 1)[..., None]
        colour += kerb * (slabs * 1.25 - colour)
        label[(np.abs(away - side.kerb) < 0.13) & (label == ROAD)] = SIDEWALK
        if (
            light.sun[0] * side.sign > 0.25 and light.strength > 0.3
        ):  # this side's houses stand before the sun
            tall = np.interp(
                z, *np.array([(lot.z0, lot.tall if lot.kind == "building" else 3.0) for lot in side.lots]).T
            )
            reach = side.edge - tall * light.sun[0] * side.sign / light.sun[1] * 0.6
            colour *= 1 - 0.42 * light.strength * np.clip((away - reach) * 4, 0, 1)[..., None]
    for kind in np.unique(label):
        canvas.begin(int(kind))
        canvas.surface(window, label == kind, colour, z)


def paint_shadows(canvas, street):
    """Darken the ground below and beside everything that stands on it."""
    camera, light = canvas.camera, canvas.light
    mask = np.zeros((camera.height, camera.width), np.uint8)
    slant = -light.sun[[0, 2]] / light.sun[1] * np.clip(light.strength * 2, 0.05, 1)
    for thing in street.things:
        length, width, tall = SIZES[thing.kind]
        frame = Frame(canvas, thing.x + camera.centre(thing.z), thing.z, camera.heading(thing.z))
        corners = frame.world([(a, 0, b) for a in (-0.1, length) for b in (-width / 2, width / 2)])
        cast = corners + np.array([slant[0], 0, slant[1]]) * min(tall, 5) * 0.9
        hull = cv2.convexHull(camera.uv(np.concatenate([corners, cast])).astype(np.float32))[:, 0]
        cv2.fillPoly(mask, [np.clip(np.round(hull * 16), -3e5, 3e5).astype(np.int32)], 255, cv2.LINE_AA, 4)
    mask = cv2.blur(mask, (3, 3))[..., None].astype(np.float32) / 255
    canvas.image[:] = canvas.image * (1 - (0.25 + 0.22 * light.strength) * mask)


def facade(along, up, tall, rng, dusk, footprint):
    """Colours of a house front: (h, w, 3). `footprint` is the metres along that one pixel covers, (1, w)."""
    storey, pitch = rng.uniform(2.8, 3.7), rng.uniform(1.8, 3.4)
    wide, high = rng.uniform(0.36, 0.66), rng.uniform(0.45, 0.66)
    paint, trim, glass = pick(rng, PAINTS), pick(rng, PAINTS), pick(rng, GLASS)
    style = rng.choice(["plaster", "brick", "bands"])
    sharp = np.clip(pitch / (3 * footprint), 0, 1)  # far windows melt into the wall
    column, row = np.floor(along / pitch), np.floor(up / storey)
    s, t = np.abs(along / pitch - column - 0.5), np.abs(up / storey - row - 0.52)
    colour = np.broadcast_to(paint, (*up.shape, 3)).copy()
    if style == "brick":
        course = np.floor(up / 0.28)
        joints = (np.mod(up, 0.28) < 0.06) | (np.mod(along + 0.35 * np.mod(course, 2), 0.7) < 0.07)
        colour *= 1 - 0.2 * (joints * np.clip(0.3 / footprint - 1, 0, 1))[..., None]
    elif style == "bands":
        colour[np.abs(up / storey - row) < 0.07] = trim
    shop = (row == 0) & (rng.random() < 0.7)
    wide, high = np.where(shop, 0.42, wide / 2), np.where(shop, 0.36, high / 2)
    lot = np.mod(
        np.sin(column * 12.9898 + row * 78.233 + paint[0]) * 43758.5453, 1.0
    )  # a number for each window
    frame = (s < wide + 0.05) & (t < high + 0.045) & (up < tall - 0.5)
    pane = (s < wide) & (t < high) & (up < tall - 0.5) & ~((np.abs(s) < 0.02) & ~shop)
    shade = 0.65 + 0.6 * lot + 0.45 * np.clip(up / storey - row - 0.4, 0, 1)
    windows = glass * shade[..., None]
    windows[lot > (0.45 if dusk else 0.93)] = (248, 206, 130)
    light = np.clip(trim * 0.4 + 130, 0, 255)
    colour += (frame * sharp)[..., None] * (light - colour)
    colour += (pane * sharp)[..., None] * (windows - colour)
    door = (row == 0) & (np.mod(column, 4) == 1) & (s < 0.3) & (up < 2.3)
    colour[door] = trim * 0.6
    colour[shop & (up > storey * 0.86)] = trim
    colour[up > tall - 0.4] = paint * 0.8
    colour[up < 0.5] *= 0.75
    return colour


def paint_building(canvas, lot, side, rng):
    camera, light = canvas.camera, canvas.light
    x, near = lot.sign * (side.edge + lot.setback), max(lot.z0, 1.2)
    canvas.begin(BUILDING)
    seed = int(rng.integers(2**31))
    wall_x = x + camera.centre(near)
    roof = rng.uniform(2, 5) if rng.random() < 0.6 and lot.tall < 18 else 0.0
    if roof:
        ends = [
            (near, x, lot.tall),
            (lot.z1, x, lot.tall),
            (lot.z1, x + lot.sign * 5, lot.tall + roof),
            (near, x + lot.sign * 5, lot.tall + roof),
        ]
        colour = pick(rng, PAINTS[[1, 3, 6, 8, 13]])
        world = [(px + camera.centre(z), y, z) for z, px, y in ends]
        canvas.polygon(camera.uv(np.array(world)), colour * (0.85 + 0.3 * light.strength * light.sun[1]))
        canvas.depth[canvas.tag == len(canvas.labels) - 1] = near + 6
        gable = np.array([world[0], world[3], (world[3][0] + lot.sign * 5, lot.tall, near)])
        canvas.polygon(camera.uv(gable), pick(np.random.default_rng(seed), PAINTS) * 0.8)
    outward = sorted((wall_x, wall_x + lot.sign * 14))
    for part, normal in (
        (canvas.front(*outward, near, lot.tall), (0, 0, -1)),
        (canvas.sheet(x, near, lot.z1, lot.tall), (-lot.sign, 0, 0)),
    ):
        if part is None:
            continue
        window, along, up, mask, depth = part
        footprint = np.abs(np.gradient(along[0]))[None] + 1e-3 if along.shape[1] > 1 else np.ones((1, 1))
        colour = facade(along, up, lot.tall, np.random.default_rng(seed), light.dusk, footprint)
        shade = 0.78 + 0.32 * light.strength * max(float(np.dot(normal, light.sun)), 0)
        canvas.surface(window, mask, colour * shade * (1 - 0.12 * np.exp(-up / 1.5))[..., None], depth)


def paint_barrier(canvas, lot, side, rng):
    """A wall (solid courses of stone under a coping) or a fence (bars to look through) along the pavement."""
    x = lot.sign * (side.edge + 0.2)
    tall = rng.uniform(1.9, 2.7) if lot.barrier == "wall" else rng.uniform(1.6, 2.2)
    part = canvas.sheet(x, max(lot.z0, 1.0), lot.z1, tall)
    if part is None:
        return
    window, along, up, mask, depth = part
    canvas.begin(WALL if lot.barrier == "wall" else FENCE)
    paint, joint = pick(rng, PAINTS), rng.uniform(0.55, 0.75)
    if lot.barrier == "wall":
        course = np.floor(up / 0.45)
        step = along / 0.9 + 0.5 * np.mod(course, 2)
        stone = np.mod(np.sin(np.floor(step) * 12.9898 + course * 78.233) * 43758.5453, 1.0)
        colour = paint * (0.82 + 0.3 * stone)[..., None]
        colour[(np.mod(up, 0.45) < 0.07) | (np.mod(step, 1) < 0.08)] *= joint
        colour[up > tall - 0.22] = np.clip(paint * 1.25 + 12, 0, 255)
        colour[(up < tall - 0.22) & (up > tall - 0.32)] *= 0.6
        canvas.surface(window, mask, colour * 0.95, depth)
        return
    pitch, bar = rng.uniform(0.42, 0.6), rng.uniform(0.1, 0.15)
    wooden = rng.random() < 0.4
    pickets = (
        np.mod(along, pitch) < (pitch * 0.6 if wooden else bar) + np.abs(np.gradient(along[0]))[None] * 0.3
    )
    rails = (np.abs(up - 0.3) < 0.06) | (np.abs(up - tall + 0.3) < 0.06)
    posts = np.mod(along, 3.0) < 0.2
    solid = mask & ((pickets & (up < tall - 0.08)) | rails | posts)
    before = canvas.image[window].copy()
    canvas.surface(window, mask, before, depth)
    canvas.surface(
        window,
        solid,
        np.broadcast_to(paint, before.shape) * np.where(posts | rails, 0.85, 1.0)[..., None],
        depth,
    )


# ------------------------------------------------------------ things
# Each painter takes (canvas, frame, thing, rng); the frame stands at the thing's near end.


def vehicle_frame(canvas, thing, length):
    """The frame of a vehicle with a = 0 at its tail, whichever way it drives."""
    camera = canvas.camera
    toward = abs(thing.turn) > 1.6
    z = thing.z + (length if toward else 0)
    return Frame(canvas, thing.x + camera.centre(z), z, camera.heading(z) + (np.pi if toward else 0.0))


def lamps(frame, faces, low, high, wide=0.16):
    """Red lamps and a number plate behind, white lamps before."""
    for name, colour in (("back", (196, 30, 26)), ("front", (250, 246, 220))):
        face = faces.get(name)
        frame.panel(face, 0.04, low, 0.04 + wide, high, colour)
        frame.panel(face, 0.96 - wide, low, 0.96, high, colour)
        frame.panel(face, 0.36, low - 0.12, 0.64, low + 0.06, (226, 226, 216))


def paint_car(canvas, thing, rng):
    canvas.begin(CAR, thing.z)
    frame = vehicle_frame(canvas, thing, 4.3)
    paint = pick(
        rng,
        PAINTS if rng.random() < 0.7 else np.array([(30, 32, 36), (176, 178, 182), (226, 226, 226)], float),
    )
    glass, belt, tall = pick(rng, GLASS) * 0.8, rng.uniform(0.85, 0.95), rng.uniform(1.42, 1.55)
    shape = rng.choice(["hatch", "sedan", "van"])
    tail, nose, tall = {
        "hatch": (0.05, 2.9, tall),
        "sedan": (0.7, 3.0, tall),
        "van": (0.05, 3.6, tall + 0.35),
    }[shape]
    frame.box((0.1, 4.2), (-0.85, 0.85), (0.1, 0.4), (26, 26, 28))
    for b in (-0.72, 0.72):
        frame.box((0.2, 0.7), (b - 0.11, b + 0.11), (0.0, 0.4), (22, 22, 24))
        frame.box((3.4, 3.9), (b - 0.11, b + 0.11), (0.0, 0.4), (22, 22, 24))
    body = frame.box((0, 4.3), (-0.9, 0.9), (0.25, belt), paint, (0.06, 0.12, 0.03))
    lamps(frame, body, 0.55, 0.85)
    for name in ("back", "front"):
        frame.panel(body.get(name), 0, 0, 1, 0.22, paint * 0.55)
    for name in ("left", "right"):
        if name in body:
            frame.wheel(body[name], 0.2, 0.33, 4.3, belt - 0.25, 0.25)
            frame.wheel(body[name], 0.8, 0.33, 4.3, belt - 0.25, 0.25)
    cabin = frame.box(
        (tail, nose), (-0.86, 0.86), (belt, tall), paint, (0.3, 0.6 if shape != "van" else 0.35, 0.14)
    )
    for name in ("back", "front"):
        frame.panel(cabin.get(name), 0.08, 0.1, 0.92, 0.86, glass)
        frame.panel(cabin.get(name), 0.12, 0.5, 0.6, 0.82, glass * 1.3)
    for name in ("left", "right"):
        frame.panel(cabin.get(name), 0.1, 0.1, 0.48, 0.84, glass)
        frame.panel(cabin.get(name), 0.53, 0.1, 0.88, 0.84, glass)


def paint_bus(canvas, thing, rng):
    canvas.begin(BUS, thing.z)
    frame = vehicle_frame(canvas, thing, 11.0)
    paint, second, glass = pick(rng, PAINTS), pick(rng, PAINTS), pick(rng, GLASS) * 0.7
    for a in (1.9, 7.8):
        frame.box((a, a + 1.0), (-1.2, 1.2), (0, 0.6), (20, 20, 22))
    body = frame.box((0, 11), (-1.25, 1.25), (0.32, 3.1), paint, (0.05, 0.1, 0.05))
    frame.box((2, 6), (-0.8, 0.8), (3.1, 3.35), paint * 0.8)
    for name in ("left", "right"):
        face = body.get(name)
        frame.panel(face, 0, 0, 1, 0.2, second)
        for k in range(7):
            frame.panel(face, 0.03 + k * 0.137, 0.42, 0.145 + k * 0.137, 0.84, glass * (1 + 0.25 * (k % 2)))
        if face is not None:
            for s in (0.215, 0.75):
                frame.wheel(face, s, 0.5, 11, 2.78, 0.32)
            if name == "right":
                for s in (0.42, 0.87):
                    frame.panel(face, s, 0.04, s + 0.1, 0.84, glass * 1.3)
    for name, low in (("back", 0.5), ("front", 0.36)):
        face = body.get(name)
        frame.panel(face, 0, 0, 1, 0.2, second)
        frame.panel(face, 0.06, low, 0.94, 0.82, glass)
        frame.panel(face, 0.1, low + 0.1, 0.45, 0.8, glass * 1.35)
        frame.panel(face, 0.2, 0.86, 0.8, 0.96, (30, 30, 30))
        frame.panel(face, 0.3, 0.885, 0.7, 0.935, (250, 170, 50))
    lamps(frame, body, 0.2, 0.28)


def paint_train(canvas, thing, rng):
    """A tram on its own track: long low-skirted jointed cars, a slanting dark nose and a pantograph."""
    camera = canvas.camera
    paint, second, glass = pick(rng, PAINTS), pick(rng, PAINTS), pick(rng, GLASS) * 0.55
    canvas.begin(TRAIN, thing.z)
    for number in (2, 1, 0):
        z = thing.z + 8 * number
        frame = Frame(canvas, thing.x + camera.centre(z), z, camera.heading(z + 4))
        frame.box((7.6, 8.1), (-1.1, 1.1), (0.3, 3.2), (40, 40, 42))
        body = frame.box((0.0, 7.7), (-1.28, 1.28), (0.15, 3.4), paint, (0.9 if number == 0 else 0, 0, 0.12))
        for name in ("left", "right"):
            face = body.get(name)
            frame.panel(face, 0, 0.0, 1, 0.14, (50, 50, 54))
            frame.panel(face, 0, 0.24, 1, 0.34, second)
            frame.panel(face, 0.05 if number == 0 else 0.02, 0.46, 0.98, 0.86, glass)
            frame.panel(face, 0.42, 0.14, 0.6, 0.86, glass * 1.7)
            frame.panel(face, 0.505, 0.14, 0.515, 0.86, (20, 20, 22))
        if number == 0:
            face = body.get("back")
            frame.panel(face, 0, 0.0, 1, 0.12, (50, 50, 54))
            if face is not None:
                frame.on_face(face, [(0.08, 0.42), (0.92, 0.42), (0.97, 0.84), (0.03, 0.84)], glass)
                frame.on_face(face, [(0.14, 0.5), (0.5, 0.5), (0.4, 0.82), (0.1, 0.82)], glass * 1.4)
                for s, t in ((0.14, 0.3), (0.86, 0.3), (0.5, 0.93)):
                    frame.panel(face, s - 0.08, t - 0.03, s + 0.08, t + 0.03, (252, 248, 224))
                frame.on_face(face, [(0.0, 0.14), (1, 0.14), (0.5, 0.26)], second)
        if number == 1:
            roof = Frame(canvas, thing.x + camera.centre(z), z, camera.heading(z))
            for start, end in (((1, 3.4), (3, 4.2)), ((3, 4.2), (1.4, 5.0))):
                roof.limb(start, end, 0.12, 0.12, (40, 40, 44))
        frame.box((2.0, 6.0), (-0.8, 0.8), (3.4, 3.7), paint * 0.7)
    wire = camera.uv(np.array([(thing.x + camera.centre(z), 5.4, z) for z in (3.0, 12, 25, 45, 80)]))
    cv2.polylines(
        canvas.image, [np.round(wire * 16).astype(np.int32)], False, (44, 44, 48), 1, cv2.LINE_AA, 4
    )


def paint_truck(canvas, thing, rng):
    canvas.begin(TRUCK, thing.z)
    frame = vehicle_frame(canvas, thing, 8.0)
    paint, cargo = pick(rng, PAINTS), pick(rng, PAINTS)

    def cab():
        body = frame.box((6.1, 8.0), (-1.15, 1.15), (0.45, 2.7), paint, (0, 0.25, 0.06))
        frame.panel(body.get("front"), 0.07, 0.52, 0.93, 0.92, (40, 48, 56))
        frame.panel(body.get("front"), 0.2, 0.12, 0.8, 0.42, (38, 38, 40))
        for name in ("left", "right"):
            frame.panel(body.get(name), 0.35, 0.52, 0.85, 0.9, (46, 54, 62))
            if name in body:
                frame.wheel(body[name], 0.5, 0.5, 1.9, 2.25, 0.45)
        lamps(frame, body, 0.12, 0.22)

    def load():
        chassis = frame.box((0, 6.2), (-1.05, 1.05), (0.5, 1.0), (34, 34, 36))
        for a in (0.6, 1.8):
            frame.box((a, a + 0.9), (-1.15, 1.15), (0, 0.95), (22, 22, 24))
        for name in ("left", "right"):
            if name in chassis:
                for s in (0.17, 0.36):
                    frame.wheel(chassis[name], s, 0.5, 6.2, 0.5, 0.5)
        box = frame.box((0, 5.9), (-1.25, 1.25), (1.0, 3.6), cargo)
        for name in ("left", "right"):
            for k in range(12):
                frame.panel(box.get(name), k / 12 + 0.02, 0.04, k / 12 + 0.035, 0.96, cargo * 0.7)
        face = box.get("back")
        frame.panel(face, 0.03, 0.03, 0.97, 0.97, cargo * 0.82)
        for s in (0.06, 0.515):
            frame.panel(face, s, 0.06, s + 0.425, 0.94, cargo * 0.98)
        for s in (0.4, 0.58):
            frame.panel(face, s, 0.08, s + 0.03, 0.92, (60, 60, 62))
        lamps(frame, chassis, 0.3, 0.8)

    steps = (load, cab) if abs(thing.turn) > 1.6 else (cab, load)
    for step in steps:
        step()


def paint_person(canvas, thing, rng):
    """Somebody walking across the view, arms and legs swinging."""
    canvas.begin(PERSON, thing.z)
    camera = canvas.camera
    frame = Frame(
        canvas, thing.x + camera.centre(thing.z), thing.z, np.pi / 2 * rng.choice([-1, 1]) + thing.turn
    )
    tall = rng.uniform(1.55, 1.9)
    coat, trousers, skin, hair = (
        pick(rng, PAINTS),
        pick(rng, PAINTS) * 0.6,
        pick(rng, SKIN, 0.1),
        pick(rng, SKIN[2:]) * 0.5,
    )
    stride, hip, neck = rng.uniform(0.08, 0.36), 0.5 * tall, 0.84 * tall
    frame.limb((0, hip), (-stride, 0.06), 0.22, 0.13, trousers * 0.8)
    frame.limb((0, neck - 0.08), (stride * 0.9, hip), 0.15, 0.1, coat * 0.75)
    frame.limb((0.02, hip), (stride, 0.04), 0.22, 0.13, trousers)
    for a in (-stride, stride):
        frame.limb((a - 0.06, 0.04), (a + 0.18, 0.04), 0.11, 0.08, (30, 28, 28))
    skirt = 0.25 if rng.random() < 0.4 else 0.02
    frame.polygon(
        [
            (-0.19, hip - skirt),
            (0.21, hip - skirt),
            (0.17, neck - 0.14),
            (0.1, neck),
            (-0.1, neck),
            (-0.19, neck - 0.14),
        ],
        coat,
    )
    frame.limb((-0.03, neck - 0.08), (-stride * 0.9, hip), 0.15, 0.11, coat * 0.85)
    frame.limb((0, neck - 0.02), (0, neck + 0.08), 0.1, 0.1, skin)
    frame.disc(-0.02, neck + 0.16, 0.135, hair)
    frame.disc(0.02, neck + 0.13, 0.115, skin)
    if rng.random() < 0.4:
        frame.polygon(
            [(-0.14, hip + 0.1), (-0.36, hip + 0.12), (-0.38, neck - 0.1), (-0.14, neck - 0.05)],
            pick(rng, PAINTS),
        )


def bike_frame(canvas, thing):
    """The frame of a two-wheeler, a = 0 amid. Its turn counts from the line of sight: it never looks thin."""
    x = thing.x + canvas.camera.centre(thing.z)
    return Frame(canvas, x, thing.z, np.arctan2(x, thing.z) + thing.turn)


def paint_bicycle(canvas, thing, rng):
    """Two spoked wheels (labelled as full discs) and a diamond frame; a = 0 is the middle."""
    canvas.begin(BICYCLE, thing.z)
    frame, paint = bike_frame(canvas, thing), pick(rng, PAINTS)
    for a in (-0.55, 0.55):
        frame.disc(a, 0.36, 0.36)
        turns = np.linspace(0, 2 * np.pi, 17)
        rim = np.stack([a + 0.33 * np.cos(turns), 0.36 + 0.33 * np.sin(turns)], axis=1)
        for start, end in zip(rim[:-1], rim[1:], strict=True):
            frame.limb(start, end, 0.08, 0.08, (26, 26, 28))
        for start, end in zip(rim[:8:2], rim[8:16:2], strict=True):
            frame.limb(start, end, 0.02, 0.02, (150, 150, 150))
    joints = {
        "rear": (-0.55, 0.36),
        "pedal": (-0.08, 0.32),
        "seat": (-0.22, 0.88),
        "head": (0.38, 0.86),
        "fork": (0.55, 0.36),
        "bar": (0.34, 1.04),
    }
    for start, end in (
        ("rear", "pedal"),
        ("rear", "seat"),
        ("pedal", "seat"),
        ("pedal", "head"),
        ("seat", "head"),
        ("head", "fork"),
        ("head", "bar"),
    ):
        frame.limb(joints[start], joints[end], 0.06, 0.06, paint)
    frame.limb((-0.34, 0.93), (-0.1, 0.93), 0.09, 0.06, (24, 24, 24))
    frame.limb((0.26, 1.06), (0.46, 1.06), 0.05, 0.05, (24, 24, 24))


def paint_motorcycle(canvas, thing, rng):
    """Fat solid wheels under a heavy body with tank, seat, exhaust and lamp."""
    canvas.begin(MOTORCYCLE, thing.z)
    frame, paint = bike_frame(canvas, thing), pick(rng, PAINTS)
    for a in (-0.68, 0.7):
        for radius, colour in ((0.34, (22, 22, 24)), (0.2, (128, 128, 132)), (0.08, (40, 40, 42))):
            frame.disc(a, 0.34, radius, colour)
    frame.limb((0.7, 0.34), (0.45, 0.95), 0.1, 0.1, (150, 150, 154))
    frame.polygon([(-0.5, 0.3), (0.4, 0.26), (0.5, 0.62), (-0.45, 0.66)], (52, 52, 56))
    frame.polygon(
        [(-0.95, 0.72), (-0.2, 0.6), (0.45, 0.62), (0.62, 0.92), (0.2, 0.98), (-0.15, 0.8), (-0.9, 0.88)],
        paint,
    )
    frame.limb((-0.75, 0.88), (-0.1, 0.86), 0.12, 0.14, (24, 24, 26))
    frame.limb((-0.9, 0.34), (0.1, 0.3), 0.13, 0.08, (176, 176, 180))
    frame.disc(0.64, 0.88, 0.11, (244, 240, 210))
    frame.limb((0.3, 1.1), (0.52, 1.0), 0.06, 0.06, (24, 24, 24))


def paint_rider(canvas, thing, rng, lean, helmet):
    """Whoever sits on the bicycle or motorcycle just painted."""
    canvas.begin(RIDER, thing.z)
    frame = bike_frame(canvas, thing)
    coat, trousers, skin = pick(rng, PAINTS), pick(rng, PAINTS) * 0.6, pick(rng, SKIN, 0.1)
    hip, neck = (-0.22, 0.98), (-0.22 + lean, 1.52)
    for knee, foot in (((0.16, 0.78), (-0.02, 0.3)), ((0.2, 0.86), (0.08, 0.42))):
        frame.limb(hip, knee, 0.22, 0.17, trousers)
        frame.limb(knee, foot, 0.17, 0.12, trousers)
        frame.limb(foot, (foot[0] + 0.18, foot[1] - 0.02), 0.1, 0.07, (30, 28, 28))
    frame.limb(hip, neck, 0.36, 0.34, coat)
    frame.limb((neck[0], neck[1] - 0.08), (0.34, 1.08), 0.15, 0.1, coat * 0.8)
    frame.disc(neck[0] + 0.08, neck[1] + 0.15, 0.13, skin)
    frame.disc(neck[0] + 0.04, neck[1] + 0.2, 0.16 if helmet else 0.12, pick(rng, PAINTS))


def paint_cyclist(canvas, thing, rng):
    paint_bicycle(canvas, thing, rng)
    paint_rider(canvas, thing, rng, 0.26, rng.random() < 0.5)


def paint_motorcyclist(canvas, thing, rng):
    paint_motorcycle(canvas, thing, rng)
    paint_rider(canvas, thing, rng, 0.16, True)


def paint_tree(canvas, thing, rng):
    """A trunk and a crown of leaf clumps, dark below and light above; a bush is a crown on the ground."""
    canvas.begin(VEGETATION, thing.z)
    camera, low = canvas.camera, thing.kind == "bush"
    frame = Frame(canvas, thing.x + camera.centre(thing.z), thing.z, np.pi / 2)
    green = pick(rng, GREENS) * canvas.light.season
    middle, radius = (0.6, rng.uniform(0.8, 1.3)) if low else (rng.uniform(3.6, 5), rng.uniform(1.5, 2.3))
    if not low:
        frame.limb(
            (0, 0),
            (rng.normal(0, 0.15), middle),
            rng.uniform(0.3, 0.45),
            0.2,
            pick(rng, PAINTS[[13, 8]]) * 0.8,
        )
    count = int(np.clip(900 / thing.z, 14, 110))
    turns, away = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.random(count)) * radius
    spots = np.stack([away * np.cos(turns), away * np.sin(turns) * (0.55 if low else 0.85)], axis=1)
    spots = spots[np.argsort(spots[:, 1] + rng.normal(0, 0.3 * radius, count))]
    side = 0.15 * np.sign(spots[:, 0]) * canvas.light.sun[0] * canvas.light.strength
    tones = 0.82 + 0.3 * spots[:, 1] / radius + 0.12 * rng.normal(size=count) + side
    colours = np.clip(green * tones[:, None], 0, 255).tolist()
    pixels = camera.uv(frame.world(np.maximum(spots + (0, middle), (-99, 0.1)))) * 16
    sizes = (
        np.maximum(rng.uniform(0.14, 0.3, count) * radius * camera.focal / thing.z * 16, 12)
        .astype(int)
        .tolist()
    )
    for point, size, colour in zip(pixels.clip(-3e5, 3e5).astype(int).tolist(), sizes, colours, strict=True):
        cv2.circle(canvas.image, point, size, colour, -1, cv2.LINE_AA, 4)
        cv2.circle(canvas.tag, point, size, len(canvas.labels) - 1, -1, cv2.LINE_8, 4)


def post_frame(canvas, thing):
    """A frame across the view whose a points towards the road's middle."""
    return Frame(canvas, thing.x + canvas.camera.centre(thing.z), thing.z, -np.pi / 2 * np.sign(thing.x))


def paint_lamp(canvas, thing, rng):
    canvas.begin(POLE, thing.z)
    frame, paint, tall = post_frame(canvas, thing), pick(rng, GREYS), rng.uniform(5.5, 7.5)
    frame.limb((0, 0), (0, tall), 0.24, 0.15, paint)
    if thing.kind == "mast":
        frame.limb((0, 5.5), (2.0, 5.5), 0.12, 0.08, paint)
    else:
        frame.limb((0, 0), (0, 0.7), 0.36, 0.3, paint * 0.8)
        frame.limb((0, tall), (1.3, tall + 0.25), 0.14, 0.1, paint)
        frame.limb(
            (1.0, tall + 0.2),
            (1.7, tall + 0.26),
            0.22,
            0.14,
            (255, 220, 150) if canvas.light.dusk else paint * 1.1,
        )


def paint_light(canvas, thing, rng):
    """A dark box with three lamps on a pole."""
    canvas.begin(POLE, thing.z)
    frame, case = post_frame(canvas, thing), rng.uniform(24, 50) * np.ones(3)
    frame.limb((0, 0), (0, 2.6), 0.18, 0.16, pick(rng, GREYS))
    canvas.begin(LIGHT, thing.z)
    lit = rng.integers(3)
    frame.polygon([(-0.24, 2.3), (0.24, 2.3), (0.24, 3.5), (-0.24, 3.5)], case)
    for k, colour in enumerate(((236, 40, 30), (246, 176, 40), (50, 220, 120))):
        frame.disc(0, 3.28 - 0.38 * k, 0.15, np.array(colour) * (1.0 if k == lit else 0.32))


def paint_sign(canvas, thing, rng):
    """A bordered disc, triangle, square or octagon on a pole."""
    canvas.begin(POLE, thing.z)
    frame, up, size = post_frame(canvas, thing), rng.uniform(2.3, 2.7), rng.uniform(0.4, 0.52)
    frame.limb((0, 0), (0, up), 0.13, 0.12, pick(rng, GREYS))
    canvas.begin(SIGN, thing.z)
    corners, start = [(20, 0), (3, np.pi / 2), (3, -np.pi / 2), (4, np.pi / 4), (4, 0), (8, np.pi / 8)][
        rng.integers(6)
    ]
    rim, inner, mark = [
        ((196, 30, 34), (240, 240, 236), (30, 30, 30)),
        ((240, 240, 236), (30, 74, 158), (240, 240, 236)),
        ((240, 240, 236), (190, 30, 34), (240, 240, 236)),
        ((40, 40, 40), (240, 190, 50), (40, 40, 40)),
    ][rng.integers(4)]
    turns = start + np.linspace(0, 2 * np.pi, corners, endpoint=False)
    shape = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    for scale, colour in ((1.0, rim), (0.74, inner)):
        frame.polygon(shape * size * scale + (0, up), np.array(colour))
    frame.limb((-0.45 * size, up), (0.45 * size, up), 0.3 * size, 0.3 * size, mark)


def paint_bin(canvas, thing, rng):
    canvas.begin(STATIC, thing.z)
    frame, paint = (
        Frame(canvas, thing.x + canvas.camera.centre(thing.z), thing.z, canvas.camera.heading(thing.z)),
        pick(rng, PAINTS),
    )
    frame.box((0, 0.6), (-0.3, 0.3), (0.05, 1.0), paint * 0.8, (-0.05, -0.05, -0.05))
    frame.box((-0.05, 0.65), (-0.36, 0.36), (1.0, 1.12), paint * 0.6)


PAINTERS = {
    "car": paint_car,
    "bus": paint_bus,
    "train": paint_train,
    "truck": paint_truck,
    "person": paint_person,
    "cyclist": paint_cyclist,
    "motorcyclist": paint_motorcyclist,
    "bicycle": paint_bicycle,
    "motorcycle": paint_motorcycle,
    "tree": paint_tree,
    "bush": paint_tree,
    "lamp": paint_lamp,
    "mast": paint_lamp,
    "light": paint_light,
    "sign": paint_sign,
    "bin": paint_bin,
}


def painting_order(things, lane):
    """Back to front. Of two things beside each other (depths overlap) the one farther out comes first."""

    def hides(near, far):
        near_end, far_end = near.z + SIZES[near.kind][0], far.z + SIZES[far.kind][0]
        if near_end <= far.z or far_end <= near.z:
            return near.z < far.z
        same = (near.x - lane) * (far.x - lane) > 0
        return abs(near.x - lane) < abs(far.x - lane) if same else near.z < far.z

    rest, order = sorted(things, key=lambda thing: -thing.z), []
    while rest:
        free = [
            thing for thing in rest if not any(hides(thing, other) for other in rest if other is not thing)
        ]
        order.append(free[0] if free else rest[0])
        rest.remove(order[-1])
    return order


def paint_scene(canvas, street, rng):
    """Sky, ground and shadows, then both rows of lots from far to near, then the street's things."""
    camera, (sky_rng, ground_rng) = canvas.camera, rng.spawn(2)
    paint_sky(canvas, sky_rng)
    paint_skyline(canvas, rng)
    paint_ground(canvas, street, ground_rng)
    paint_shadows(canvas, street)
    order = painting_order(street.things, camera.lane)
    beyond = [thing for thing in order if abs(thing.x) > street.sides[int(np.sign(thing.x) or 1)].edge]
    lots = sorted(
        ((lot, side) for side in street.sides.values() for lot in side.lots if lot.z1 > 1.5),
        key=lambda pair: -pair[0].z0,
    )
    for lot, side in lots:
        lot_rng = np.random.default_rng(lot.seed)
        if lot.kind != "park":
            paint_building(canvas, lot, side, lot_rng)
        for thing in beyond:
            if thing.x * lot.sign > 0 and lot.z0 <= thing.z < lot.z1:
                PAINTERS[thing.kind](canvas, thing, np.random.default_rng(thing.seed))
        if lot.barrier:
            paint_barrier(canvas, lot, side, lot_rng)
    for thing in order:
        sheet = camera.street_depth(np.sign(thing.x) * street.sides[int(np.sign(thing.x) or 1)].edge)
        column = int(
            np.clip(
                camera.width / 2 + camera.focal * (thing.x + camera.centre(thing.z)) / thing.z,
                0,
                camera.width - 1,
            )
        )
        if thing not in beyond and sheet[column] > thing.z - 0.5:  # else it is round the bend
            PAINTERS[thing.kind](canvas, thing, np.random.default_rng(thing.seed))
    paint_hood(canvas, rng)


def paint_hood(canvas, rng):
    """The bonnet of the camera's own car."""
    camera = canvas.camera
    canvas.begin(EGO, 1.0)
    top = camera.height * (1 - rng.uniform(0.03, 0.09))
    turns = np.linspace(-1, 1, 25)
    arch = np.stack(
        [camera.width * (0.5 + 0.56 * turns), top + (camera.height - top) * 1.1 * np.abs(turns) ** 2.6],
        axis=1,
    )
    paint = pick(rng, PAINTS) * 0.6
    for drop, tone in ((0, 0.7), (0.012, 1.0), (0.03, 1.12)):
        canvas.polygon(
            np.concatenate(
                [
                    arch + (0, drop * camera.height),
                    [(camera.width * 1.1, camera.height * 1.2), (-camera.width * 0.1, camera.height * 1.2)],
                ]
            ),
            paint * tone,
        )


# ------------------------------------------------------------ atmosphere


def develop(canvas, rng):
    """From painted colours to a photograph: grain of leaves, haze, rain, exposure, lens, sensor noise."""
    camera, light = canvas.camera, canvas.light
    shape = (camera.height, camera.width)
    label, depth = canvas.ids(canvas.labels), canvas.ids(canvas.depths, np.float32)
    depth = np.where(depth > 0, depth, canvas.depth)
    image = canvas.image.astype(np.float32)
    speckle = noise(rng, *shape, camera.height / 80, 2)
    rough = np.array(
        [
            {VEGETATION: 0.17, TERRAIN: 0.1, BUILDING: 0.02, WALL: 0.05, ROAD: 0.015}.get(i, 0.01)
            for i in range(34)
        ],
        np.float32,
    )
    image *= (1 + rough[label] * speckle)[..., None]
    image *= (1 + 0.04 * cv2.resize(noise(rng, 9, 17, 5, 2), shape[::-1], interpolation=cv2.INTER_CUBIC))[
        ..., None
    ]
    clear = np.exp(-depth / light.sight)[..., None]
    clear[label == SKY] = 1
    image = image * clear + light.rim.astype(np.float32) * (1 - clear)
    if light.rain:
        streaks = (rng.random(shape) > 0.996).astype(np.float32) * 255
        image += cv2.blur(streaks, (1, max(camera.height // 24, 3)))[..., None] * 0.9
    scale = camera.height / 512
    if light.blur * scale > 0.25:
        image = cv2.GaussianBlur(image, (0, 0), light.blur * scale)
    rows, columns = np.linspace(-1, 1, shape[0])[:, None], np.linspace(-1, 1, shape[1])[None]
    image *= (light.gain * (1.0 - 0.13 * (rows**2 + columns**2))[..., None]).astype(np.float32)
    image += rng.normal(0, rng.uniform(1.0, 3.5), shape).astype(np.float32)[..., None]
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def themes_of(seed, split, index, count):
    """The themes that image `index` of a split of `count` images must show (see THEMES)."""
    block = min(3, count)
    found = set()
    for row, names in enumerate(THEMES):
        slots = np.random.default_rng([seed, split, index // block, row, 7]).permutation(block)
        found |= {name for k, name in enumerate(names) if slots[k % block] == index % block}
    return found


def draw(size, themes, seeds):
    """Paint one scene (the same at every size). Returns the canvas and its generator."""
    rng = np.random.default_rng(seeds)
    street = sample_street(rng, themes)
    canvas = Canvas(sample_camera(rng, size, street.lane), sample_light(rng))
    paint_scene(canvas, street, rng)
    return canvas, rng


def make_scene(seed, split, index, size, count=3):
    """One scene: image (H, W, 3) uint8 RGB, source ids (H, W) uint8, instance ids (H, W) uint16.

    `split` is 0 train, 1 val, 2 test; `count`, the number of images of the split, matters only when below 3.
    A scene that fails to show what the schedule promises (COMMON_SHARE, THEME_SHARE) is drawn again; that is
    found out on a small draft of it.
    """
    themes = themes_of(seed, split, index, count)
    needs = dict(COMMON_SHARE)
    for theme in sorted(themes):
        needs.update(THEME_SHARE[theme])
    draft = (min(size[0], 128), max(round(size[1] * min(size[0], 128) / size[0]), 1))
    tries = []
    for attempt in range(20):
        canvas, _ = draw(draft, themes, [seed, split, index, attempt])
        share = np.bincount(canvas.ids(canvas.labels).ravel(), minlength=34) / canvas.tag.size
        short = [kind for kind, least in needs.items() if share[kind] < least]
        tries.append((sum(share[kind] == 0 for kind in short), len(short), attempt))
        if not short:
            break
    canvas, rng = draw(size, themes, [seed, split, index, min(tries)[2]])
    return develop(canvas, rng), canvas.ids(canvas.labels, np.uint8), canvas.ids(canvas.instances)


# ------------------------------------------------------------ files


def save(path, image):
    """Write a PNG under another name, then rename it: a killed run leaves no half file."""
    ok, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 2])
    if not ok:
        raise OSError(f"cannot encode {path}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data.tobytes())
    os.replace(temporary, path)


def write_toycity(out, train=24, val=8, test=8, size=(512, 1024), seed=0):
    """Write the three splits below the folder `out`."""
    out = Path(out)
    counts = {"train": train, "val": val, "test": test}
    with tqdm(total=sum(counts.values()), desc=f"ToyCity in {out}", unit="image", disable=None) as progress:
        for split, (name, count) in enumerate(counts.items()):
            folders = [out / "leftImg8bit" / name] + ([out / "gtFine" / name] if name != "test" else [])
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                image, label, instance = make_scene(seed, split, index, size, count)
                stem = f"toycity_{split:06d}_{index:06d}"
                save(folders[0] / f"{stem}_leftImg8bit.png", image[..., ::-1])
                if name != "test":
                    save(folders[1] / f"{stem}_gtFine_labelIds.png", label)
                    save(folders[1] / f"{stem}_gtFine_instanceIds.png", instance)
                progress.update()


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description="Draw ToyCity, street scenes in MiniCity's files.", allow_abbrev=False
    )
    parser.add_argument("out", type=Path, help="folder to write")
    for name, count in (("train", 24), ("val", 8), ("test", 8)):
        parser.add_argument(
            f"--{name}", type=int, default=count, help=f"images of the {name} split (default {count})"
        )
    parser.add_argument(
        "--size", type=int, nargs=2, default=(512, 1024), metavar=("H", "W"), help="pixels (default 512 1024)"
    )
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes (default 0)")
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that is not empty")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    problem = None
    if min(args.train, args.val, args.test, args.seed) < 0:
        problem = "--train, --val, --test and --seed must be 0 or more"
    elif not all(32 <= value <= 4096 for value in args.size):
        problem = f"--size {args.size[0]} {args.size[1]}: height and width must lie in 32..4096"
    elif args.out.exists() and not args.out.is_dir():
        problem = f"{args.out} is a file; name a folder"
    elif args.out.exists() and any(args.out.iterdir()) and not args.overwrite:
        problem = f"{args.out} is not empty; name another folder or add --overwrite"
    if problem:
        print(f"toycity: {problem}", file=sys.stderr)
        return 1
    write_toycity(args.out, args.train, args.val, args.test, tuple(args.size), args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
