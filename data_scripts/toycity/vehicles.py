"""Vehicles made of boxes. Each painter takes (canvas, thing, rng)."""

import cv2
import numpy as np

from .canvas import Box, Canvas, Frame, sixteenths
from .classes import BUS, CAR, EGO, TRAIN, TRUCK
from .palette import CAR_GREYS, GLASS, PAINTS, pick
from .street import Thing


def begin_vehicle(canvas: Canvas, thing: Thing, label: int, length: float) -> Frame:
    """Begin a vehicle. Returns its frame, with a = 0 at its tail in either driving direction."""
    canvas.begin(label, thing.z)
    toward = abs(thing.turn) > 1.6
    z = thing.z + (length if toward else 0)
    return Frame(canvas, thing.x, z, canvas.camera.heading(z) + (np.pi if toward else 0.0))


def lamps(box: Box, low: float, high: float) -> None:
    """Paint red lamps at the back, white lamps at the front, and number plates, from `low` to `high` of the face."""
    for name, colour in (("back", (196, 30, 26)), ("front", (250, 246, 220))):
        box.panel(name, colour, (0.04, low, 0.2, high), (0.8, low, 0.96, high))
        box.panel(name, (226, 226, 216), (0.36, low - 0.12, 0.64, low + 0.06))


def paint_car(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """Paint a body with wheels under a glazed cabin. The dark boxes below are underside and tyres."""
    frame = begin_vehicle(canvas, thing, CAR, 4.3)
    paint = pick(rng, PAINTS if rng.random() < 0.7 else CAR_GREYS)
    glass = pick(rng, GLASS) * 0.8
    belt = rng.uniform(0.85, 0.95)
    tall = rng.uniform(1.42, 1.55)
    shapes = ((0.05, 2.9, 0, 0.6), (0.7, 3.0, 0, 0.6), (0.05, 3.6, 0.35, 0.35))  # hatchback, saloon, van
    tail, nose, more, slope = shapes[rng.choice(3)]
    Box(frame, (0.1, 4.2), (-0.85, 0.85), (0.1, 0.4), (26, 26, 28))
    for b in (-0.72, 0.72):
        for a in (0.2, 3.4):
            Box(frame, (a, a + 0.5), (b - 0.11, b + 0.11), (0.0, 0.4), (22, 22, 24))
    body = Box(frame, (0, 4.3), (-0.9, 0.9), (0.25, belt), paint, (0.06, 0.12, 0.03))
    lamps(body, 0.55, 0.85)
    body.panel("back front", paint * 0.55, (0, 0, 1, 0.22))
    body.wheels((0.2, 0.8), 0.33)
    cabin = Box(frame, (tail, nose), (-0.86, 0.86), (belt, tall + more), paint, (0.3, slope, 0.14))
    cabin.panel("back front", glass, (0.08, 0.1, 0.92, 0.86))
    cabin.panel("back front", glass * 1.3, (0.12, 0.5, 0.6, 0.82))
    cabin.panel("left right", glass, (0.1, 0.1, 0.48, 0.84), (0.53, 0.1, 0.88, 0.84))


def paint_bus(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """Paint one long box with a row of windows, doors on the right and a lit destination board."""
    frame = begin_vehicle(canvas, thing, BUS, 11.0)
    paint = pick(rng, PAINTS)
    second = pick(rng, PAINTS)
    glass = pick(rng, GLASS) * 0.7
    for a in (1.9, 7.8):
        Box(frame, (a, a + 1.0), (-1.2, 1.2), (0, 0.6), (20, 20, 22))
    body = Box(frame, (0, 11), (-1.25, 1.25), (0.32, 3.1), paint, (0.05, 0.1, 0.05))
    Box(frame, (2, 6), (-0.8, 0.8), (3.1, 3.35), paint * 0.8)
    body.panel("left right", second, (0, 0, 1, 0.2))
    for k in range(7):
        s = k * 0.137
        body.panel("left right", glass * (1 + 0.25 * (k % 2)), (0.03 + s, 0.42, 0.145 + s, 0.84))
    body.wheels((0.215, 0.75), 0.5)
    body.panel("right", glass * 1.3, (0.42, 0.04, 0.52, 0.84), (0.87, 0.04, 0.97, 0.84))
    for name, low in (("back", 0.5), ("front", 0.36)):
        body.panel(name, second, (0, 0, 1, 0.2))
        body.panel(name, glass, (0.06, low, 0.94, 0.82))
        body.panel(name, glass * 1.35, (0.1, low + 0.1, 0.45, 0.8))
        body.panel(name, (30, 30, 30), (0.2, 0.86, 0.8, 0.96))
        body.panel(name, (250, 170, 50), (0.3, 0.885, 0.7, 0.935))
    lamps(body, 0.2, 0.28)


def paint_train(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """Paint a tram on its own track: long, low, jointed cars with a slanting dark nose and a pantograph."""
    camera = canvas.camera
    paint = pick(rng, PAINTS)
    second = pick(rng, PAINTS)
    glass = pick(rng, GLASS) * 0.55
    canvas.begin(TRAIN, thing.z)
    for number in (2, 1, 0):
        z = thing.z + 8 * number
        first = number == 0
        frame = Frame(canvas, thing.x, z, camera.heading(z + 4))
        Box(frame, (7.6, 8.1), (-1.1, 1.1), (0.3, 3.2), (40, 40, 42))
        body = Box(frame, (0.0, 7.7), (-1.28, 1.28), (0.15, 3.4), paint, (0.9 if first else 0, 0, 0.12))
        body.panel("left right", (50, 50, 54), (0, 0.0, 1, 0.14))
        body.panel("left right", second, (0, 0.24, 1, 0.34))
        body.panel("left right", glass, (0.05 if first else 0.02, 0.46, 0.98, 0.86))
        body.panel("left right", glass * 1.7, (0.42, 0.14, 0.6, 0.86))
        body.panel("left right", (20, 20, 22), (0.505, 0.14, 0.515, 0.86))
        if first:
            body.panel("back", (50, 50, 54), (0, 0.0, 1, 0.12))
            body.patch("back", glass, [(0.08, 0.42), (0.92, 0.42), (0.97, 0.84), (0.03, 0.84)])
            body.patch("back", glass * 1.4, [(0.14, 0.5), (0.5, 0.5), (0.4, 0.82), (0.1, 0.82)])
            corners = (0.06, 0.27, 0.22, 0.33), (0.78, 0.27, 0.94, 0.33), (0.42, 0.9, 0.58, 0.96)
            body.panel("back", (252, 248, 224), *corners)
            body.patch("back", second, [(0.0, 0.14), (1, 0.14), (0.5, 0.26)])
        if number == 1:
            roof = Frame(canvas, thing.x, z, camera.heading(z))
            for start, end in (((1, 3.4), (3, 4.2)), ((3, 4.2), (1.4, 5.0))):
                roof.limb(start, end, 0.12, 0.12, (40, 40, 44))
        Box(frame, (2.0, 6.0), (-0.8, 0.8), (3.4, 3.7), paint * 0.7)
    wire = sixteenths(camera.uv(np.array([camera.world(thing.x, z, 5.4) for z in (3.0, 12, 25, 45, 80)])))
    cv2.polylines(canvas.image, [wire], False, (44, 44, 48), 1, cv2.LINE_AA, 4)


def paint_truck(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """Paint a cab in front of a ribbed cargo box on a chassis."""
    frame = begin_vehicle(canvas, thing, TRUCK, 8.0)
    parts = [(paint_cab, pick(rng, PAINTS)), (paint_cargo, pick(rng, PAINTS))]
    for part, paint in reversed(parts) if abs(thing.turn) > 1.6 else parts:
        part(frame, paint)


def paint_cab(frame: Frame, paint: np.ndarray) -> None:
    body = Box(frame, (6.1, 8.0), (-1.15, 1.15), (0.45, 2.7), paint, (0, 0.25, 0.06))
    body.panel("front", (40, 48, 56), (0.07, 0.52, 0.93, 0.92))
    body.panel("front", (38, 38, 40), (0.2, 0.12, 0.8, 0.42))
    body.panel("left right", (46, 54, 62), (0.35, 0.52, 0.85, 0.9))
    body.wheels((0.5,), 0.5)
    lamps(body, 0.12, 0.22)


def paint_cargo(frame: Frame, paint: np.ndarray) -> None:
    chassis = Box(frame, (0, 6.2), (-1.05, 1.05), (0.5, 1.0), (34, 34, 36))
    for a in (0.6, 1.8):
        Box(frame, (a, a + 0.9), (-1.15, 1.15), (0, 0.95), (22, 22, 24))
    chassis.wheels((0.17, 0.36), 0.5)
    box = Box(frame, (0, 5.9), (-1.25, 1.25), (1.0, 3.6), paint)
    for k in range(12):
        box.panel("left right", paint * 0.7, (k / 12 + 0.02, 0.04, k / 12 + 0.035, 0.96))
    box.panel("back", paint * 0.82, (0.03, 0.03, 0.97, 0.97))
    box.panel("back", paint * 0.98, (0.06, 0.06, 0.485, 0.94), (0.515, 0.06, 0.94, 0.94))
    box.panel("back", (60, 60, 62), (0.4, 0.08, 0.43, 0.92), (0.58, 0.08, 0.61, 0.92))
    lamps(chassis, 0.3, 0.8)


def paint_hood(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint the bonnet of the camera's own car."""
    width, height = canvas.camera.width, canvas.camera.height
    canvas.begin(EGO, 1.0)
    top = height * (1 - rng.uniform(0.03, 0.09))
    turns = np.linspace(-1, 1, 25)
    arch = [width * (0.5 + 0.56 * turns), top + (height - top) * 1.1 * np.abs(turns) ** 2.6]
    paint = pick(rng, PAINTS) * 0.6
    below = [(width * 1.1, height * 1.2), (-width * 0.1, height * 1.2)]
    for drop, tone in ((0, 0.7), (0.012, 1.0), (0.03, 1.12)):
        canvas.polygon(np.concatenate([np.stack(arch, axis=1) + (0, drop * height), below]), paint * tone)


VEHICLES = {"car": paint_car, "bus": paint_bus, "train": paint_train, "truck": paint_truck}
