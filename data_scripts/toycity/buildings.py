"""Buildings, walls and fences along the street, and the skyline at its end."""

import numpy as np

from .canvas import Canvas, circle, footprint
from .classes import BUILDING, FENCE, VEGETATION, WALL
from .palette import GLASS, GREENS, PAINTS, ROOFS, pick, scatter
from .street import Lot, Side


def paint_skyline(canvas: Canvas, rng: np.random.Generator) -> None:
    """Far houses and trees that close the view behind the last lots."""
    camera = canvas.camera
    step = camera.focal / 140  # pixels per metre at that distance
    for _ in range(40):
        middle = camera.width / 2 + (camera.yaw + camera.bend * 130) * camera.focal + rng.normal(0, 45) * step
        tall, wide = rng.uniform(4, 22) * step, rng.uniform(4, 10) * step
        if rng.random() < 0.6:
            canvas.begin(BUILDING, 170.0)
            left, right, low, top = middle - wide / 2, middle + wide / 2, 2 * step, -tall
            house = [(left, low), (left, top), (middle, top * 1.15), (right, top), (right, low)]
            canvas.polygon(np.array(house) + (0, camera.horizon), pick(rng, PAINTS))
        else:
            canvas.begin(VEGETATION, 150.0)
            clump = np.resize(circle(9), (10, 2))  # closed
            for _ in range(6):
                spot = middle + rng.normal(0, wide * 0.4), camera.horizon - rng.uniform(0, 5) * step
                canvas.polygon(2.5 * step * clump + spot, pick(rng, GREENS) * canvas.light.season)


def facade(along: np.ndarray, up: np.ndarray, tall: float, rng: np.random.Generator, dusk: bool) -> np.ndarray:
    """Return the colours (h, w, 3) of a house front `tall` metres high, from metres along (1, w) and up (h, w)."""
    pixel = footprint(along) + 1e-3
    storey, pitch = rng.uniform(2.8, 3.7), rng.uniform(1.8, 3.4)
    wide, high = rng.uniform(0.36, 0.66), rng.uniform(0.45, 0.66)
    paint, trim, glass = pick(rng, PAINTS), pick(rng, PAINTS), pick(rng, GLASS)
    style = rng.choice(["plaster", "brick", "bands"])
    sharp = np.clip(pitch / (3 * pixel), 0, 1)[..., None]  # distant windows fade into the wall
    column, row = np.floor(along / pitch), np.floor(up / storey)
    s, t = np.abs(along / pitch - column - 0.5), np.abs(up / storey - row - 0.52)
    colour = np.broadcast_to(paint, (*up.shape, 3)).copy()
    if style == "brick":
        course = np.floor(up / 0.28)
        joints = (np.mod(up, 0.28) < 0.06) | (np.mod(along + 0.35 * np.mod(course, 2), 0.7) < 0.07)
        colour *= 1 - 0.2 * (joints * np.clip(0.3 / pixel - 1, 0, 1))[..., None]
    elif style == "bands":
        colour[np.abs(up / storey - row) < 0.07] = trim
    shop = (row == 0) & (rng.random() < 0.7)
    wide, high = np.where(shop, 0.42, wide / 2), np.where(shop, 0.36, high / 2)
    lot = scatter(column, row, paint[0])
    below = up < tall - 0.5
    frame = (s < wide + 0.05) & (t < high + 0.045) & below
    pane = (s < wide) & (t < high) & below & ((s >= 0.02) | shop)
    windows = glass * (0.65 + 0.6 * lot + 0.45 * np.clip(up / storey - row - 0.4, 0, 1))[..., None]
    windows[lot > (0.45 if dusk else 0.93)] = (248, 206, 130)
    colour += frame[..., None] * sharp * (np.clip(trim * 0.4 + 130, 0, 255) - colour)
    colour += pane[..., None] * sharp * (windows - colour)
    door = (row == 0) & (np.mod(column, 4) == 1) & (s < 0.3) & (up < 2.3)
    colour[door] = trim * 0.6
    colour[shop & (up > storey * 0.86)] = trim
    colour[up > tall - 0.4] = paint * 0.8
    colour[up < 0.5] *= 0.75
    return colour


def paint_building(canvas: Canvas, lot: Lot, side: Side, rng: np.random.Generator) -> None:
    """Paint roof and gable, then the wall that faces the camera, then the front along the street."""
    camera = canvas.camera
    light = canvas.light
    sign = side.sign
    x = sign * (side.edge + lot.setback)
    near = max(lot.z0, 1.2)
    canvas.begin(BUILDING)
    seed = int(rng.integers(2**31))
    roof = rng.uniform(2, 5) if rng.random() < 0.6 and lot.tall < 18 else 0.0
    if roof:
        colour = pick(rng, ROOFS) * (0.85 + 0.3 * light.strength * light.sun[1])
        eaves = [camera.world(x, z, lot.tall) for z in (near, lot.z1)]
        ridge = [camera.world(x + sign * 5, z, lot.tall + roof) for z in (lot.z1, near)]
        canvas.facet(eaves + ridge, colour)
        canvas.depth[canvas.tag == canvas.current] = near + 6
        gable = [eaves[0], ridge[1], ridge[1] + (sign * 5, -roof, 0)]
        canvas.facet(gable, pick(np.random.default_rng(seed), PAINTS) * 0.8)
    corner = x + camera.centre(near)
    outward = sorted((corner, corner + sign * 14))
    for part, normal in (
        (canvas.front(*outward, near, lot.tall), (0, 0, -1)),
        (canvas.sheet(x, near, lot.z1, lot.tall), (-sign, 0, 0)),
    ):
        if part:
            window, along, up, mask, depth = part
            colour = facade(along, up, lot.tall, np.random.default_rng(seed), light.dusk)
            shade = 0.78 + 0.32 * light.strength * max(float(np.dot(normal, light.sun)), 0)
            canvas.surface(window, mask, colour * shade * (1 - 0.12 * np.exp(-up / 1.5))[..., None], depth)


def paint_barrier(canvas: Canvas, lot: Lot, side: Side, rng: np.random.Generator) -> None:
    """Paint a wall (courses of stone under a coping) or a fence (bars with gaps) along the pavement."""
    wall = lot.barrier == "wall"
    tall = rng.uniform(1.9, 2.7) if wall else rng.uniform(1.6, 2.2)
    part = canvas.sheet(side.sign * (side.edge + 0.2), max(lot.z0, 1.0), lot.z1, tall)
    if not part:
        return
    window, along, up, mask, depth = part
    canvas.begin(WALL if wall else FENCE)
    paint = pick(rng, PAINTS)
    joint = rng.uniform(0.55, 0.75)
    if wall:
        course = np.floor(up / 0.45)
        step = along / 0.9 + 0.5 * np.mod(course, 2)
        colour = paint * (0.82 + 0.3 * scatter(np.floor(step), course))[..., None]
        colour[(np.mod(up, 0.45) < 0.07) | (np.mod(step, 1) < 0.08)] *= joint
        colour[up > tall - 0.22] = np.clip(paint * 1.25 + 12, 0, 255)
        colour[(up < tall - 0.22) & (up > tall - 0.32)] *= 0.6
        canvas.surface(window, mask, colour * 0.95, depth)
        return
    pitch, bar = rng.uniform(0.42, 0.6), rng.uniform(0.1, 0.15)
    bar = pitch * 0.6 if rng.random() < 0.4 else bar  # wooden slats or iron bars
    pickets = (np.mod(along, pitch) < bar + footprint(along) * 0.3) & (up < tall - 0.08)
    stiff = (np.abs(up - 0.3) < 0.06) | (np.abs(up - tall + 0.3) < 0.06) | (np.mod(along, 3.0) < 0.2)
    canvas.surface(window, mask, canvas.image[window].copy(), depth)  # the gaps are labelled fence too
    canvas.surface(window, mask & (pickets | stiff), paint * np.where(stiff, 0.85, 1.0)[..., None], depth)
