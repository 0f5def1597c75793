"""The atmosphere: weather, hour and sky, and the effects of air and lens on the painted picture."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from .classes import BUILDING, ROAD, SKY, TERRAIN, VEGETATION, WALL
from .palette import noise, rgb

if TYPE_CHECKING:  # canvas.py imports this file
    from .canvas import Canvas

# For each of clear, overcast and dusk: colour of the sky at the zenith and at its rim, white balance, sun's strength.
ZENITHS, RIMS = rgb("5886c4 acb0b4 4a5484"), rgb("c4d6e4 d6d6d2 eeac7a")
BALANCES = np.array([(1.02, 1.0, 0.96), (0.97, 1.0, 1.03), (1.02, 0.92, 0.9)])
WEAKEST, STRONGEST = (0.6, 0.0, 0.3), (1.0, 0.15, 0.6)
SEASONS = ((1, 1, 1), (1, 1, 1), (1.35, 0.98, 0.8), (0.95, 1.08, 0.95))


@dataclass(frozen=True)
class Light:
    """Weather, hour and lens of one picture."""

    sun: np.ndarray  # unit vector towards the sun, in world axes
    strength: float  # 0 overcast .. 1 clear
    zenith: np.ndarray  # sky colours
    rim: np.ndarray
    gain: np.ndarray  # exposure times white balance, (3,)
    sight: float  # metres over which haze takes 63 % of the contrast
    dusk: bool
    rain: bool
    season: np.ndarray  # tint of the greens
    blur: float  # pixels at a height of 512


def sample_light(rng: np.random.Generator) -> Light:
    hour = rng.choice(3, p=[0.5, 0.3, 0.2])
    strength = float(rng.uniform(WEAKEST, STRONGEST)[hour])
    turn = rng.uniform(-np.pi, np.pi)
    up = rng.uniform(0.5, 1.0) if hour != 2 else 0.3
    sun = np.array([np.sin(turn), up, np.cos(turn)])
    gain = BALANCES[hour] * (1 + rng.normal(0, 0.03, 3)) * rng.uniform(0.98, 1.3)
    zenith, rim = ZENITHS[hour] + rng.normal(0, 14, 3), RIMS[hour] + rng.normal(0, 5, 3) + rng.normal(0, 8)
    sight = float(np.exp(rng.uniform(np.log(90), np.log(900))))
    dusk, rain = hour == 2, rng.random() < 0.15
    season = rng.choice(SEASONS) * rng.uniform(0.85, 1.2)
    sun /= np.linalg.norm(sun)
    return Light(sun, strength, zenith, rim, gain, sight, dusk, rain, season, rng.uniform(0.0, 0.9))


def paint_sky(canvas: "Canvas", rng: np.random.Generator) -> None:
    camera, light = canvas.camera, canvas.light
    canvas.begin(SKY)
    height = np.clip((camera.horizon - np.arange(camera.height)) / camera.horizon, 0, 1)[:, None, None] ** 0.7
    sky = light.rim * (1 - height) + light.zenith * height
    clouds = noise(rng, camera.height // 2 + 1, camera.width // 4 + 1, camera.width / 14)
    clouds = cv2.resize(clouds, (camera.width, camera.height)) * 0.5 + rng.uniform(-0.5, 0.4)
    clouds = np.clip(clouds, 0, 1)[..., None]
    canvas.image[:] = np.clip(sky + (light.rim * 0.4 + 148 - sky) * clouds * 0.85, 0, 255)


def develop(canvas: "Canvas", rng: np.random.Generator) -> np.ndarray:
    """Turn painted colours into a photograph: surface texture, haze, rain, lens, exposure, sensor noise."""
    light = canvas.light
    shape = canvas.tag.shape
    label, depth = canvas.ids(canvas.labels), canvas.ids(canvas.depths, np.float32)
    depth = np.where(depth > 0, depth, canvas.depth)
    image = canvas.image.astype(np.float32)
    rough = np.full(34, 0.01, np.float32)
    rough[[VEGETATION, TERRAIN, BUILDING, WALL, ROAD]] = 0.17, 0.1, 0.02, 0.05, 0.015
    image *= (1 + rough[label] * noise(rng, *shape, shape[0] / 80, 2))[..., None]
    patches = cv2.resize(noise(rng, 9, 17, 5, 2), shape[::-1], interpolation=cv2.INTER_CUBIC)
    image *= (1 + 0.04 * patches)[..., None]
    clear = np.exp(-depth / light.sight)[..., None]
    clear[label == SKY] = 1
    image = image * clear + light.rim.astype(np.float32) * (1 - clear)
    if light.rain:
        streaks = (rng.random(shape) > 0.996).astype(np.float32) * 255
        image += cv2.blur(streaks, (1, max(shape[0] // 24, 3)))[..., None] * 0.9
    blur = light.blur * shape[0] / 512
    if blur > 0.25:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    rows, columns = np.linspace(-1, 1, shape[0])[:, None], np.linspace(-1, 1, shape[1])[None]
    image *= (light.gain * (1.0 - 0.13 * (rows**2 + columns**2))[..., None]).astype(np.float32)
    image += rng.normal(0, rng.uniform(1.0, 3.5), shape).astype(np.float32)[..., None]
    return np.clip(np.round(image), 0, 255).astype(np.uint8)
