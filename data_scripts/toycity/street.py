"""The ground plan of a scene: what stands where, in street coordinates and metres."""

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from .classes import PARKING, RAIL_TRACK, ROAD, TERRAIN

# Length along the street, width and height, in metres: used for shadows, spacing and the painting order.
SIZES = {"car": (4.4, 1.8, 1.5), "bus": (11, 2.6, 3.2), "train": (24, 2.6, 3.6), "truck": (8, 2.5, 3.6)}
SIZES |= {"person": (0.5, 0.6, 1.75), "cyclist": (1.7, 0.8, 1.8), "motorcyclist": (2.0, 0.9, 1.7)}
SIZES |= {"bicycle": (1.7, 0.5, 1.1), "motorcycle": (2, 0.7, 1.2), "bin": (0.6, 0.6, 1.1)}
SIZES |= {"tree": (1, 1, 6), "bush": (1.4, 1.4, 1.4), "lamp": (0.2, 0.2, 7), "mast": (0.3, 0.3, 6.4)}
SIZES |= {"light": (0.3, 0.3, 3.4), "sign": (0.2, 0.4, 3)}

Themes = dict[str, dict[int, float]]  # name -> class that it must show -> least share of the pixels


@dataclass(frozen=True)
class Lot:
    """A stretch z0..z1 of one side of the street: a building at the pavement, or a yard or park."""

    z0: float
    z1: float
    kind: str  # building, yard or park
    barrier: str | None  # wall or fence along the pavement
    setback: float  # metres from the pavement's far edge to the building
    tall: float  # metres
    seed: int


@dataclass
class Side:
    """One side of the street. Distances are from the middle line, in metres: kerb <= walk < edge."""

    sign: int  # -1 left, 1 right
    kerb: float
    walk: float
    edge: float
    strip: int | None  # between kerb and walk: TERRAIN, RAIL_TRACK or nothing
    bay: int | None  # where cars park beside the kerb: ROAD, PARKING or nowhere
    fenced: bool  # whether a wall or fence stands there
    lots: list[Lot]


@dataclass(frozen=True)
class Thing:
    """Something that stands at street position (x, z); `turn` is its angle against the street in radians."""

    kind: str
    x: float
    z: float  # of its near end
    seed: int
    turn: float = 0.0

    @property
    def end(self) -> float:
        return self.z + SIZES[self.kind][0]


@dataclass
class Street:
    lane: float  # width of one of the two lanes
    sides: dict[int, Side]  # by sign
    zebra: float | None  # depth of a crossing
    things: list[Thing] = field(default_factory=list)

    def side_of(self, thing: Thing) -> Side:
        return self.sides[int(np.sign(thing.x) or 1)]

    def place(
        self, rng: np.random.Generator, kind: str, x: float, z: float, turn: float = 0.0, gap: float = 0.6
    ) -> None:
        """Place a thing at (x, z) unless another one is in the way."""
        length, width, _ = SIZES[kind]
        for other in self.things:
            beside = abs(x - other.x) >= (width + SIZES[other.kind][1]) / 2 + gap / 2
            if not beside and z - gap < other.end and other.z - gap < z + length:
                return
        self.things.append(Thing(kind, x, z, int(rng.integers(2**31)), turn))


def sample_lots(rng: np.random.Generator, barrier: str | None, park: bool) -> list[Lot]:
    """Return the lots from behind the camera to the far end. The near ones show the scheduled themes."""
    lots = []
    z = -4.0
    while z < 130:
        length = rng.uniform(9, 20)
        kind = rng.choice(["building", "yard", "park"], p=[0.72, 0.16, 0.12])
        fenced = None
        if (barrier or park) and z < 24:
            length = 28.0 + rng.uniform(0, 8)
            fenced = barrier
            kind = "park" if park and rng.random() < 0.6 else "yard"
        setback = rng.uniform(5, 9) if kind == "yard" else 0.0
        tall = rng.uniform(6, 19) if rng.random() < 0.8 else rng.uniform(19, 32)
        lots.append(Lot(z, z + length, kind, fenced, setback, tall, int(rng.integers(2**31))))
        z += length
    return lots


def sample_side(rng: np.random.Generator, sign: int, lane: float, train: bool, barrier: str | None, park: bool) -> Side:
    kerb = lane + (0.3 if barrier or rng.random() < 0.5 else 2.3)
    if sign < 0 and train:
        strip = RAIL_TRACK
    else:
        strip = TERRAIN if park or rng.random() < 0.3 else None
    walk = kerb + {RAIL_TRACK: 3.4, TERRAIN: rng.uniform(1.2, 2.2), None: 0.0}[strip]
    edge = walk + rng.uniform(2.2, 3.8)
    bay = PARKING if rng.random() < 0.3 else ROAD
    lots = sample_lots(rng, barrier, park)
    bay = bay if kerb > lane + 2 else None
    return Side(sign, kerb, walk, edge, strip, bay, barrier is not None, lots)


def sample_street(rng: np.random.Generator, themes: Themes) -> Street:
    """Return the ground plan: road, kerbs, strips and lots, then everything that stands on them."""
    lane = rng.uniform(3.1, 3.7)
    barriers = [name for name in ("wall", "fence") if name in themes] + [None, None]
    first = -1 if rng.random() < 0.4 else 1  # the side of the first barrier; a park lies opposite
    sides = {}
    for sign in (-1, 1):
        park = "park" in themes and sign != first
        sides[sign] = sample_side(rng, sign, lane, "train" in themes, barriers[sign != first], park)
    street = Street(lane, sides, rng.uniform(9, 18) if "crossing" in themes or rng.random() < 0.25 else None)
    sample_large(rng, street, themes)
    sample_riders(rng, street, themes)
    sample_cars(rng, street)
    sample_pavement(rng, street, themes)
    return street


def sample_large(rng: np.random.Generator, street: Street, themes: Themes) -> None:
    """Place train, bus and truck where nothing hides them."""
    lanes = [(-street.lane / 2, np.pi, 11, 17), (street.lane / 2, 0.0, 13, 19)]  # x, turn, z from, z to
    if "train" in themes:
        street.place(rng, "train", -street.sides[-1].kerb - 1.7, rng.uniform(13, 18))
    if rng.random() < 0.4 or "train" in themes:
        lanes.reverse()
    large = [kind for kind in ("bus", "truck") if kind in themes]
    large = large or [kind for kind in ("bus", "truck") if rng.random() < 0.1]
    for kind, (x, turn, near, far) in zip(large, lanes, strict=False):
        street.place(rng, kind, x + rng.uniform(-0.2, 0.2), rng.uniform(near, far), turn)


def sample_riders(rng: np.random.Generator, street: Street, themes: Themes) -> None:
    """Place riders on the road. Those that cross it are seen from the side, the others at an angle."""
    lane = street.lane
    for theme, kind in (("motorcycle", "motorcyclist"), ("cyclist", "cyclist")):
        for _ in range((theme in themes) + (rng.random() < 0.3)):
            if rng.random() < 0.4:
                x = rng.uniform(-lane * 0.9, lane * 1.3)
                turns = (1.1, 1.6)
            else:
                x = rng.choice([lane / 2 + 1.1, -lane / 2 + 1.2, lane / 2 - 0.6])
                turns = (0.5, 0.9)
            street.place(rng, kind, x, rng.uniform(6.5, 12), rng.choice([-1, 1]) * rng.uniform(*turns))


def sample_cars(rng: np.random.Generator, street: Street) -> None:
    """Place parked cars, then driving ones."""
    put = partial(street.place, rng)
    for side in street.sides.values():
        z = rng.uniform(4, 10)
        while z < 70:
            if side.bay:
                chance = 0.75
            else:
                chance = 0.25 if not side.fenced or z > 25 else 0.4 * (z < 8)
            if rng.random() < chance and not (street.zebra and abs(z + 2 - street.zebra) < 5):
                turn = np.pi * (rng.random() < (0.75 if side.sign < 0 else 0.1))
                put("car", side.sign * (side.kerb - 1.1), z, turn)
            z += rng.uniform(5.2, 7.5)
    for x, turn in ((-street.lane / 2, np.pi), (street.lane / 2, 0.0)):
        for z in np.cumsum(rng.uniform(9, 24, 3)) + rng.uniform(-1, 5):
            if rng.random() < 0.8:
                put("car", x + rng.uniform(-0.3, 0.3), z, turn, gap=1.5)


def sample_pavement(rng: np.random.Generator, street: Street, themes: Themes) -> None:
    """Place people on the zebra, poles, people, trees, bins and bikes beside the road, and plants in the yards."""
    put = partial(street.place, rng)
    for _ in range(rng.integers(1, 4) if street.zebra else 0):
        x = rng.uniform(-street.sides[-1].kerb, street.sides[1].kerb)
        put("person", x, street.zebra + rng.uniform(0.3, 2.6), rng.normal(0, 0.3))
    for side in street.sides.values():
        sign = side.sign
        post = side.sign * (side.walk + 0.35)
        if "crossing" in themes or (street.zebra and rng.random() < 0.6):
            put("light", post, max(street.zebra + 3.3, rng.uniform(11.5, 14) - sign))
        for _ in range(rng.integers(1, 4)):
            put("sign", post, rng.uniform(9, 24))
        for z in np.arange(rng.uniform(9, 20), 90, rng.uniform(14, 22)):
            put("mast" if side.strip == RAIL_TRACK else "lamp", post, z)
        for _ in range(rng.integers(3, 7)):
            x = sign * rng.uniform(side.walk + 0.7, side.edge - 0.4)
            z = rng.uniform(8, 26) if rng.random() < 0.7 else rng.uniform(25, 60)
            put("person", x, z, rng.normal(0, 0.4))
        for kind, chance in (("bicycle", 0.4), ("motorcycle", 0.15), ("bin", 0.5)):
            if rng.random() < chance:
                x = sign * rng.uniform(side.walk + 0.8, side.edge - 0.5)
                put(kind, x, rng.uniform(9, 18), rng.uniform(0.5, 1.4))
        if side.strip == TERRAIN or rng.random() < 0.55:
            x = sign * ((side.kerb + side.walk) / 2 if side.strip == TERRAIN else side.walk + 0.8)
            start = rng.uniform(20, 26) if side.fenced else rng.uniform(8, 16)
            for z in np.arange(start, 100, rng.uniform(9, 14)):
                put("tree", x, z)
        for lot in side.lots:
            for _ in range(0 if lot.kind == "building" or lot.z1 < 8 else rng.integers(4, 8)):
                kind = "tree" if rng.random() < (0.35 if lot.setback else 0.6) else "bush"
                x = sign * (side.edge + rng.uniform(1.8, (lot.setback or 16.0) - 1.0))
                put(kind, x, rng.uniform(max(lot.z0, 5) + 1, lot.z1 - 1))
