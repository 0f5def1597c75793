"""Trees, lamps, traffic lights, signs and bins. Each painter takes (canvas, thing, rng)."""

import cv2
import numpy as np

from .canvas import Box, Canvas, Frame, circle
from .classes import DYNAMIC, LIGHT, POLE, SIGN, STATIC, VEGETATION
from .palette import BARKS, GREENS, GREYS, PAINTS, pick, rgb
from .street import Thing

LAMPS = rgb("ec281e f6b028 32dc78")
SIGNS = rgb("c41e22 f0f0ec 1e1e1e  f0f0ec 1e4a9e f0f0ec  f0f0ec be1e22 f0f0ec  282828 f0be32 282828")
SIGNS = SIGNS.reshape(4, 3, 3)  # rim, inside and mark of each


def paint_tree(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """Paint a trunk and a crown of leaf clumps, dark below and light above. A bush is a crown on the ground."""
    canvas.begin(VEGETATION, thing.z)
    camera = canvas.camera
    light = canvas.light
    low = thing.kind == "bush"
    frame = Frame(canvas, thing.x, thing.z, np.pi / 2)
    green = pick(rng, GREENS) * light.season
    middle, radius = (0.6, rng.uniform(0.8, 1.3)) if low else (rng.uniform(3.6, 5), rng.uniform(1.5, 2.3))
    if not low:
        fork = (rng.normal(0, 0.15), middle)
        thick = rng.uniform(0.3, 0.45)
        frame.limb((0, 0), fork, thick, 0.2, pick(rng, BARKS) * 0.8)
    count = int(np.clip(900 / thing.z, 14, 110))
    turns = rng.uniform(0, 2 * np.pi, count)
    away = np.sqrt(rng.random(count)) * radius
    spots = np.stack([away * np.cos(turns), away * np.sin(turns) * (0.55 if low else 0.85)], axis=1)
    spots = spots[np.argsort(spots[:, 1] + rng.normal(0, 0.3 * radius, count))]
    side = 0.15 * np.sign(spots[:, 0]) * light.sun[0] * light.strength
    tones = 0.82 + 0.3 * spots[:, 1] / radius + 0.12 * rng.normal(size=count) + side
    colours = np.clip(green * tones[:, None], 0, 255).tolist()
    pixels = camera.uv(frame.world(np.maximum(spots + (0, middle), (-99, 0.1)))) * 16
    sizes = np.maximum(rng.uniform(0.14, 0.3, count) * radius * camera.focal / thing.z * 16, 12)
    for point, size, colour in zip(pixels.clip(-3e5, 3e5).astype(int).tolist(), sizes, colours, strict=True):
        cv2.circle(canvas.image, point, int(size), colour, -1, cv2.LINE_AA, 4)
        cv2.circle(canvas.tag, point, int(size), canvas.current, -1, cv2.LINE_8, 4)


def begin_post(canvas: Canvas, thing: Thing) -> Frame:
    """Begin a pole. Returns a frame across the view, whose axis a points to the middle of the road."""
    canvas.begin(POLE, thing.z)
    return Frame(canvas, thing.x, thing.z, -np.pi / 2 * np.sign(thing.x))


def paint_lamp(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """Paint a street lamp, or a mast that carries the tram's wire."""
    frame = begin_post(canvas, thing)
    paint = pick(rng, GREYS)
    tall = rng.uniform(5.5, 7.5)
    frame.limb((0, 0), (0, tall), 0.24, 0.15, paint)
    if thing.kind == "mast":
        frame.limb((0, 5.5), (2.0, 5.5), 0.12, 0.08, paint)
        return
    frame.limb((0, 0), (0, 0.7), 0.36, 0.3, paint * 0.8)
    frame.limb((0, tall), (1.3, tall + 0.25), 0.14, 0.1, paint)
    bulb = (255, 220, 150) if canvas.light.dusk else paint * 1.1
    frame.limb((1.0, tall + 0.2), (1.7, tall + 0.26), 0.22, 0.14, bulb)


def paint_light(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """Paint a traffic light: a dark box with three lamps on a pole."""
    frame = begin_post(canvas, thing)
    case = rng.uniform(24, 50) * np.ones(3)
    frame.limb((0, 0), (0, 2.6), 0.18, 0.16, pick(rng, GREYS))
    canvas.begin(LIGHT, thing.z)
    lit = rng.integers(3)
    frame.polygon([(-0.24, 2.3), (0.24, 2.3), (0.24, 3.5), (-0.24, 3.5)], case)
    for k, colour in enumerate(LAMPS):
        frame.disc(0, 3.28 - 0.38 * k, 0.15, colour * (1.0 if k == lit else 0.32))


def paint_sign(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """Paint a traffic sign: a bordered disc, triangle, square or octagon on a pole."""
    frame = begin_post(canvas, thing)
    up = rng.uniform(2.3, 2.7)
    size = rng.uniform(0.4, 0.52)
    frame.limb((0, 0), (0, up), 0.13, 0.12, pick(rng, GREYS))
    canvas.begin(SIGN, thing.z)
    shapes = [(20, 0), (3, np.pi / 2), (3, -np.pi / 2), (4, np.pi / 4), (4, 0), (8, np.pi / 8)]
    shape = circle(*shapes[rng.integers(6)])
    rim, inside, mark = SIGNS[rng.integers(4)]
    frame.polygon(shape * size + (0, up), rim)
    frame.polygon(shape * size * 0.74 + (0, up), inside)
    frame.limb((-0.45 * size, up), (0.45 * size, up), 0.3 * size, 0.3 * size, mark)


def paint_bin(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """Paint a bin. One in two is movable and so labelled "dynamic"."""
    canvas.begin(DYNAMIC if thing.seed % 2 else STATIC, thing.z)
    frame = Frame(canvas, thing.x, thing.z, canvas.camera.heading(thing.z))
    paint = pick(rng, PAINTS)
    Box(frame, (0, 0.6), (-0.3, 0.3), (0.05, 1.0), paint * 0.8, (-0.05, -0.05, -0.05))
    Box(frame, (-0.05, 0.65), (-0.36, 0.36), (1.0, 1.12), paint * 0.6)


FURNITURE = {"tree": paint_tree, "bush": paint_tree, "lamp": paint_lamp, "mast": paint_lamp}
FURNITURE |= {"light": paint_light, "sign": paint_sign, "bin": paint_bin}
