"""Make one scene: sample it, paint it back to front, check it against the schedule, and develop it."""

import numpy as np

from . import classes as c
from .atmosphere import develop, paint_sky, sample_light
from .buildings import paint_barrier, paint_building, paint_skyline
from .camera import sample_camera
from .canvas import Canvas
from .furniture import FURNITURE
from .ground import paint_ground, paint_shadows
from .people import PEOPLE
from .street import Street, Themes, Thing, sample_street
from .vehicles import VEHICLES, paint_hood

PAINTERS = VEHICLES | PEOPLE | FURNITURE

# The schedule. Each block of three images in a split shares out the themes of each row, one theme to each image, so
# that each theme appears in a third of the images. (In a split of one or two images, those share all themes.) A theme
# names the classes that its image must show, with their least share of the pixels. Every image must show the COMMON
# classes.
THEMES = (
    {"bus": {c.BUS: 0.015}, "train": {c.TRAIN: 0.015}, "truck": {c.TRUCK: 0.015}},
    {"wall": {c.WALL: 0.012}, "fence": {c.FENCE: 0.012}, "park": {c.TERRAIN: 0.006}},
    {
        "motorcycle": {c.MOTORCYCLE: 0.002, c.RIDER: 0.001},
        "cyclist": {c.BICYCLE: 0.002, c.RIDER: 0.001},
        "crossing": {c.LIGHT: 0.0006},
    },
)
COMMON = {c.ROAD: 0.1, c.SIDEWALK: 0.007, c.BUILDING: 0.03, c.VEGETATION: 0.006, c.SKY: 0.005, c.EGO: 0.0}
COMMON |= {c.CAR: 0.005, c.PERSON: 0.0015, c.POLE: 0.002, c.SIGN: 0.0006}


def themes_of(seed: int, split: int, index: int, count: int) -> Themes:
    """Return the themes of image `index` in a split of `count` images: name -> least shares of classes."""
    block = min(3, count)
    found = {}
    for row, themes in enumerate(THEMES):
        slots = np.random.default_rng([seed, split, index // block, row, 7]).permutation(block)
        found |= {name: themes[name] for k, name in enumerate(themes) if slots[k % block] == index % block}
    return found


def painting_order(things: list[Thing], lane: float) -> list[Thing]:
    """Sort things back to front. If two on one side of the camera overlap in depth, the one farther out comes first."""

    def hides(near: Thing, far: Thing) -> bool:
        if near.end <= far.z or far.end <= near.z or (near.x - lane) * (far.x - lane) <= 0:
            return near.z < far.z
        return abs(near.x - lane) < abs(far.x - lane)

    rest = sorted(things, key=lambda thing: -thing.z)
    order = []
    while rest:
        free = (one for one in rest if not any(hides(one, other) for other in rest if other is not one))
        order.append(next(free, rest[0]))
        rest.remove(order[-1])
    return order


def paint_scene(canvas: Canvas, street: Street, rng: np.random.Generator) -> None:
    """Paint sky, ground and shadows, then both rows of lots from far to near, then the things on the street."""
    camera = canvas.camera
    sky_rng, ground_rng = rng.spawn(2)
    paint_sky(canvas, sky_rng)
    paint_skyline(canvas, rng)
    paint_ground(canvas, street, ground_rng)
    paint_shadows(canvas, street)

    def paint(thing: Thing) -> None:
        PAINTERS[thing.kind](canvas, thing, np.random.default_rng(thing.seed))

    order = painting_order(street.things, camera.lane)
    beyond = [thing for thing in order if abs(thing.x) > street.side_of(thing).edge]
    lots = [(lot, side) for side in street.sides.values() for lot in side.lots if lot.z1 > 1.5]
    for lot, side in sorted(lots, key=lambda pair: -pair[0].z0):
        lot_rng = np.random.default_rng(lot.seed)
        if lot.kind != "park":
            paint_building(canvas, lot, side, lot_rng)
        for thing in beyond:
            if street.side_of(thing) is side and lot.z0 <= thing.z < lot.z1:
                paint(thing)
        if lot.barrier:
            paint_barrier(canvas, lot, side, lot_rng)
    for thing in order:
        side = street.side_of(thing)
        column = camera.uv(camera.world(thing.x, thing.z)[None])[0, 0]
        sheet = camera.street_depth(side.sign * side.edge)[int(np.clip(column, 0, camera.width - 1))]
        if thing not in beyond and sheet > thing.z - 0.5:  # otherwise the bend hides it
            paint(thing)
    paint_hood(canvas, rng)


def draw(size: tuple[int, int], themes: Themes, seeds: list[int]) -> tuple[Canvas, np.random.Generator]:
    """Paint one scene, the same at every size. Returns the canvas and the random generator."""
    rng = np.random.default_rng(seeds)
    street = sample_street(rng, themes)
    canvas = Canvas(sample_camera(rng, size, street.lane), sample_light(rng))
    paint_scene(canvas, street, rng)
    return canvas, rng


def make_scene(
    seed: int, split: int, index: int, size: tuple[int, int], count: int = 3
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return one scene: RGB image uint8 (H, W, 3), source ids uint8 (H, W), instance ids uint16 (H, W).

    `split` is 0 for train, 1 for val, 2 for test. `count`, the number of images in the split, matters only below 3.
    A scene must show what the schedule asks for. Up to 20 small drafts are drawn to find one. If all fail, the draft
    that lacks the fewest classes is used without a note.
    """
    themes = themes_of(seed, split, index, count)
    needs = COMMON | {kind: least for shares in themes.values() for kind, least in shares.items()}
    rows = min(size[0], 128)
    draft = (rows, max(round(size[1] * rows / size[0]), 1))
    tries = []
    for attempt in range(20):
        canvas, _ = draw(draft, themes, [seed, split, index, attempt])
        share = np.bincount(canvas.ids(canvas.labels).ravel(), minlength=34) / canvas.tag.size
        short = [kind for kind, least in needs.items() if share[kind] < least]
        tries.append((sum(share[kind] == 0 for kind in short), len(short), attempt))
        if not short:
            break
    canvas, rng = draw(size, themes, [seed, split, index, min(tries)[2]])
    image = develop(canvas, rng)
    rim = max(size[0] // 200, 1)
    canvas.begin(c.OUT_OF_ROI)  # a thin rim, as in Cityscapes
    canvas.tag[:rim] = canvas.tag[-rim:] = canvas.tag[:, :rim] = canvas.tag[:, -rim:] = canvas.current
    return image, canvas.ids(canvas.labels, np.uint8), canvas.ids(canvas.instances)
