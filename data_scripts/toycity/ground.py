"""The ground: road, kerbs, pavements, strips and yards, with shadows on them."""

import cv2
import numpy as np

from .atmosphere import Light
from .camera import Camera
from .canvas import Canvas, Frame, sixteenths
from .classes import PARKING, RAIL_TRACK, ROAD, SIDEWALK, TERRAIN
from .palette import GREENS, GREYS, pick
from .street import SIZES, Side, Street


class Ground:
    """The pixels below the horizon: street coordinates, labels, colours and noise for texture, all (h, w)."""

    def __init__(self, camera: Camera, rng: np.random.Generator):
        top = int(np.ceil(camera.horizon + camera.focal * camera.rise / 180))
        self.window = (slice(top, camera.height), slice(0, camera.width))
        z = (camera.focal * camera.rise / (np.arange(top, camera.height) - camera.horizon))[:, None]
        self.x = camera.rays()[None] * z - camera.centre(z)
        self.z = np.broadcast_to(z, self.x.shape)
        self.pixels = camera.focal / self.z  # per metre across the view
        self.flat = camera.rise / self.z  # foreshortening along the view
        tile = rng.standard_normal((256, 256)).astype(np.float32)
        self.coarse = self.look_up(tile, 0.7)
        self.fine = self.look_up(tile, 9) * np.clip(self.pixels * self.flat / 8, 0, 1)
        self.label = np.full(self.x.shape, ROAD, np.uint8)
        self.colour = np.zeros((*self.x.shape, 3))

    def look_up(self, tile: np.ndarray, scale: float) -> np.ndarray:
        """Sample a periodic texture with `scale` texels per metre."""
        x, z = (np.mod(axis * scale, len(tile)).astype(np.float32) for axis in (self.x, self.z))
        return cv2.remap(tile, x, z, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)

    def line(self, away: np.ndarray, width: float) -> np.ndarray:
        """Return how much of each pixel a line of `width` metres covers, 0..1, given the distance `away` from it."""
        return np.clip((width / 2 - np.abs(away)) * self.pixels + 0.5, 0, 1)

    def lines(self, value: np.ndarray, pitch: float, width: float) -> np.ndarray:
        """Return the same for lines every `pitch` metres. They fade out where they are too dense to be drawn."""
        away = np.abs(np.mod(value / pitch + 0.5, 1) - 0.5) * pitch
        return self.line(away, width) * np.clip(pitch * self.pixels * self.flat / 2, 0, 1)

    def textured(self, colour: np.ndarray, fine: float, coarse: float, dark: float | np.ndarray = 0.0) -> np.ndarray:
        """Return a colour (3,) with `fine` and `coarse` times the noises added, darkened by `dark` (h, w)."""
        return colour * (1 + fine * self.fine + coarse * self.coarse - dark)[..., None]


def paint_ground(canvas: Canvas, street: Street, rng: np.random.Generator) -> None:
    """Paint the whole ground, pixel by pixel in street coordinates."""
    ground = Ground(canvas.camera, rng)
    paint_road(ground, street, pick(rng, GREYS) * (0.75 if canvas.light.rain else 1.0))
    for side in street.sides.values():
        paint_side(ground, side, canvas.light, rng)
    for kind in np.unique(ground.label):
        canvas.begin(int(kind))
        canvas.surface(ground.window, ground.label == kind, ground.colour, ground.z)


def paint_road(ground: Ground, street: Street, asphalt: np.ndarray) -> None:
    """Paint asphalt with a broken middle line, the borders of the parking bays, zebra crossing and stop line."""
    x, z = ground.x, ground.z
    ground.colour += ground.textured(asphalt, 0.07, 0.05)
    paint = ground.line(x, 0.14) * (np.mod(z, 6.0) < 3.5)
    if street.zebra:
        on_zebra = (z > street.zebra) & (z < street.zebra + 3)
        paint = np.where(on_zebra, ground.line(np.mod(x, 1.0) - 0.5, 0.5), paint)
        stop = np.abs(z - street.zebra + 1.2) < 0.2
        paint = np.where(stop & (x > 0) & (x < street.sides[1].kerb), 1, paint)
    for side in street.sides.values():
        if side.bay:
            paint = np.maximum(paint, ground.line(side.sign * x - side.kerb + 2.2, 0.12))
    ground.colour += paint[..., None] * (208 - ground.colour) * (0.75 + 0.1 * ground.fine[..., None])


def paint_side(ground: Ground, side: Side, light: Light, rng: np.random.Generator) -> None:
    """Paint everything from the parking bay outwards, and the shadow of this side's houses."""
    away = side.sign * ground.x
    kerb = side.kerb
    slabs = pick(rng, GREYS)
    grass = pick(rng, GREENS) * light.season
    pitch = rng.choice([0.5, 0.8, 1.2])
    joints = np.maximum(ground.lines(ground.x, pitch, 0.05), ground.lines(ground.z, pitch, 0.06))
    lawn = ground.textured(grass, 0.22, 0.12)
    paving = ground.textured(slabs, 0.05, 0.06, 0.32 * joints)
    zones = [(side.walk, side.edge + 0.3, SIDEWALK, paving), (side.edge + 0.3, np.inf, TERRAIN, lawn)]
    if side.bay == PARKING:
        marked = ground.colour * (1.1 - 0.2 * ground.lines(ground.z, 5.5, 0.1))[..., None]
        zones += [(kerb - 2.2, kerb, PARKING, marked)]
    if side.strip == TERRAIN:
        zones += [(kerb, side.walk, TERRAIN, lawn)]
    if side.strip == RAIL_TRACK:
        sleepers = ground.lines(ground.z, 0.7, 0.26)
        bed = ground.textured(np.array((118, 104, 92)), 0.2, 0.0, 0.3 * sleepers)
        rails = np.maximum(*(ground.line(away - kerb - 1.7 + k, 0.14) for k in (-0.72, 0.72)))
        zones += [(kerb, side.walk, RAIL_TRACK, bed + rails[..., None] * (168 - bed))]
    for low, high, kind, texture in zones:
        inside = (away >= low) & (away < high)
        ground.label[inside] = kind
        ground.colour[inside] = texture[inside]
    ground.colour += ground.line(away - kerb, 0.26)[..., None] * (slabs * 1.25 - ground.colour)
    ground.label[(np.abs(away - kerb) < 0.13) & (ground.label == ROAD)] = SIDEWALK
    if light.sun[0] * side.sign > 0.25 and light.strength > 0.3:  # these houses hide the sun
        profile = [(lot.z0, lot.tall if lot.kind == "building" else 3.0) for lot in side.lots]
        tall = np.interp(ground.z, *np.array(profile).T)
        reach = side.edge - tall * light.sun[0] * side.sign / light.sun[1] * 0.6
        ground.colour *= 1 - 0.42 * light.strength * np.clip((away - reach) * 4, 0, 1)[..., None]


def paint_shadows(canvas: Canvas, street: Street) -> None:
    """Darken the ground below and beside everything that stands on it."""
    camera, light = canvas.camera, canvas.light
    mask = np.zeros((camera.height, camera.width), np.uint8)
    slant = -light.sun / light.sun[1] * np.clip(light.strength * 2, 0.05, 1) * (1, 0, 1)
    for thing in street.things:
        length, width, tall = SIZES[thing.kind]
        frame = Frame(canvas, thing.x, thing.z, camera.heading(thing.z))
        corners = frame.world([(a, 0, b) for a in (-0.1, length) for b in (-width / 2, width / 2)])
        cast = corners + slant * min(tall, 5) * 0.9
        hull = cv2.convexHull(camera.uv(np.concatenate([corners, cast])).astype(np.float32))[:, 0]
        cv2.fillPoly(mask, [sixteenths(hull)], 255, cv2.LINE_AA, 4)
    mask = cv2.blur(mask, (3, 3))[..., None].astype(np.float32) / 255
    canvas.image[:] = canvas.image * (1 - (0.25 + 0.22 * light.strength) * mask)
