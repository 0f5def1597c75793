"""People, bicycles and motorcycles. Each painter takes (canvas, thing, rng)."""

import numpy as np

from .canvas import Canvas, Frame, circle
from .classes import BICYCLE, MOTORCYCLE, PERSON, RIDER
from .palette import PAINTS, SKIN, pick
from .street import Thing


def paint_person(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """Paint a person walking across the view, arms and legs swinging."""
    canvas.begin(PERSON, thing.z)
    frame = Frame(canvas, thing.x, thing.z, np.pi / 2 * rng.choice([-1, 1]) + thing.turn)
    tall = rng.uniform(1.55, 1.9)
    coat = pick(rng, PAINTS)
    trousers = pick(rng, PAINTS) * 0.6
    skin = pick(rng, SKIN, 0.1)
    hair = pick(rng, SKIN[2:]) * 0.5
    stride = rng.uniform(0.08, 0.36)
    hip = 0.5 * tall
    neck = 0.84 * tall
    chest, hem = neck - 0.14, hip - (0.25 if rng.random() < 0.4 else 0.02)
    frame.limb((0, hip), (-stride, 0.06), 0.22, 0.13, trousers * 0.8)
    frame.limb((0, neck - 0.08), (stride * 0.9, hip), 0.15, 0.1, coat * 0.75)
    frame.limb((0.02, hip), (stride, 0.04), 0.22, 0.13, trousers)
    for a in (-stride, stride):
        frame.limb((a - 0.06, 0.04), (a + 0.18, 0.04), 0.11, 0.08, (30, 28, 28))
    torso = [(-0.19, hem), (0.21, hem), (0.17, chest), (0.1, neck), (-0.1, neck), (-0.19, chest)]
    frame.polygon(torso, coat)
    frame.limb((-0.03, neck - 0.08), (-stride * 0.9, hip), 0.15, 0.11, coat * 0.85)
    frame.limb((0, neck - 0.02), (0, neck + 0.08), 0.1, 0.1, skin)
    frame.disc(-0.02, neck + 0.16, 0.135, hair)
    frame.disc(0.02, neck + 0.13, 0.115, skin)
    if rng.random() < 0.4:
        backpack = [(-0.14, hip + 0.1), (-0.36, hip + 0.12), (-0.38, neck - 0.1), (-0.14, neck - 0.05)]
        frame.polygon(backpack, pick(rng, PAINTS))


def begin_bike(canvas: Canvas, thing: Thing, label: int) -> Frame:
    """Begin a two-wheeler or rider. Returns its frame, with a = 0 at its middle, turned from the line of sight."""
    canvas.begin(label, thing.z)
    x, _, z = canvas.camera.world(thing.x, thing.z)
    return Frame(canvas, thing.x, thing.z, np.arctan2(x, z) + thing.turn)


def paint_bicycle(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """Paint two spoked wheels (labelled as full discs) and a diamond frame."""
    frame = begin_bike(canvas, thing, BICYCLE)
    paint = pick(rng, PAINTS)
    for a in (-0.55, 0.55):
        frame.disc(a, 0.36, 0.36)
        rim = circle(16) * 0.33 + (a, 0.36)
        for start, end in zip(rim, np.roll(rim, -1, axis=0), strict=True):
            frame.limb(start, end, 0.08, 0.08, (26, 26, 28))
        for start, end in zip(rim[:8:2], rim[8::2], strict=True):
            frame.limb(start, end, 0.02, 0.02, (150, 150, 150))
    rear, pedal, seat = (-0.55, 0.36), (-0.08, 0.32), (-0.22, 0.88)
    head, fork, bar = (0.38, 0.86), (0.55, 0.36), (0.34, 1.04)
    tubes = (rear, pedal), (rear, seat), (pedal, seat), (pedal, head), (seat, head), (head, fork), (head, bar)
    for start, end in tubes:
        frame.limb(start, end, 0.06, 0.06, paint)
    frame.limb((-0.34, 0.93), (-0.1, 0.93), 0.09, 0.06, (24, 24, 24))
    frame.limb((0.26, 1.06), (0.46, 1.06), 0.05, 0.05, (24, 24, 24))


def paint_motorcycle(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """Paint fat solid wheels under a heavy body with tank, seat, exhaust and lamp."""
    frame = begin_bike(canvas, thing, MOTORCYCLE)
    paint = pick(rng, PAINTS)
    for a in (-0.68, 0.7):
        for radius, colour in ((0.34, (22, 22, 24)), (0.2, (128, 128, 132)), (0.08, (40, 40, 42))):
            frame.disc(a, 0.34, radius, colour)
    frame.limb((0.7, 0.34), (0.45, 0.95), 0.1, 0.1, (150, 150, 154))
    frame.polygon([(-0.5, 0.3), (0.4, 0.26), (0.5, 0.62), (-0.45, 0.66)], (52, 52, 56))
    body = [(-0.95, 0.72), (-0.2, 0.6), (0.45, 0.62), (0.62, 0.92), (0.2, 0.98), (-0.15, 0.8), (-0.9, 0.88)]
    frame.polygon(body, paint)
    frame.limb((-0.75, 0.88), (-0.1, 0.86), 0.12, 0.14, (24, 24, 26))
    frame.limb((-0.9, 0.34), (0.1, 0.3), 0.13, 0.08, (176, 176, 180))
    frame.disc(0.64, 0.88, 0.11, (244, 240, 210))
    frame.limb((0.3, 1.1), (0.52, 1.0), 0.06, 0.06, (24, 24, 24))


def paint_rider(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """Paint a bicycle or motorcycle with a person on it."""
    if thing.kind == "cyclist":
        paint_bicycle(canvas, thing, rng)
        lean = 0.26
        head = 0.16 if rng.random() < 0.5 else 0.12
    else:
        paint_motorcycle(canvas, thing, rng)
        lean, head = 0.16, 0.16
    frame = begin_bike(canvas, thing, RIDER)
    coat = pick(rng, PAINTS)
    trousers = pick(rng, PAINTS) * 0.6
    skin = pick(rng, SKIN, 0.1)
    hip = (-0.22, 0.98)
    a = -0.22 + lean
    y = 1.52
    for knee, foot in (((0.16, 0.78), (-0.02, 0.3)), ((0.2, 0.86), (0.08, 0.42))):
        frame.limb(hip, knee, 0.22, 0.17, trousers)
        frame.limb(knee, foot, 0.17, 0.12, trousers)
        frame.limb(foot, (foot[0] + 0.18, foot[1] - 0.02), 0.1, 0.07, (30, 28, 28))
    frame.limb(hip, (a, y), 0.36, 0.34, coat)
    frame.limb((a, y - 0.08), (0.34, 1.08), 0.15, 0.1, coat * 0.8)
    frame.disc(a + 0.08, y + 0.15, 0.13, skin)
    frame.disc(a + 0.04, y + 0.2, head, pick(rng, PAINTS))


PEOPLE = {"person": paint_person, "bicycle": paint_bicycle, "motorcycle": paint_motorcycle}
PEOPLE |= {"cyclist": paint_rider, "motorcyclist": paint_rider}
