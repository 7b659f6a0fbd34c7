"""Colours, backgrounds and light: what a word is written with, and on."""

from __future__ import annotations

import colorsys
from random import Random

import cv2
import numpy as np

Colour = tuple[float, float, float]  # RGB, 0 to 255
LUMA = np.array((0.299, 0.587, 0.114), np.float32)


def luma(colour: Colour) -> float:
    return float(np.dot(colour, LUMA))


def with_luma(colour: Colour, target: float) -> Colour:
    """The colour made lighter or darker until it has that luma, 0 to 255."""
    now = luma(colour)
    if target <= now:
        factor = target / max(now, 1.0)
        return colour[0] * factor, colour[1] * factor, colour[2] * factor
    share = (target - now) / max(255.0 - now, 1.0)
    red, green, blue = (value + (255 - value) * share for value in colour)
    return red, green, blue


def some_colour(rng: Random, value: float) -> Colour:
    """A colour of that luma as painted things have it: mostly near grey, seldom vivid."""
    kind = rng.random()
    saturation = rng.random() * (0.15 if kind < 0.5 else 0.5 if kind < 0.85 else 1.0)
    # paint, wood and brick lie between red and yellow, sky and sign blue at 0.6; magenta and violet are rare
    hue = rng.choice(
        (rng.gauss(0.08, 0.05), rng.gauss(0.6, 0.05), rng.gauss(0.0, 0.02), rng.gauss(0.37, 0.08), rng.random())
    )
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, 1.0)
    return with_luma((255 * red, 255 * green, 255 * blue), value)


def colour_pair(rng: Random, least: float) -> tuple[Colour, Colour]:
    """Colours of ground and ink whose lumas differ by at least `least` of 255."""
    ground = rng.choice((rng.uniform(20, 110), rng.uniform(110, 190), rng.uniform(190, 250), rng.uniform(10, 245)))
    room_below, room_above = max(ground - least, 0.0), max(255 - ground - least, 0.0)
    darker = rng.random() < room_below**2 / max(room_below**2 + room_above**2, 1e-6)
    if rng.random() < 0.55:  # black or white paint
        ink = rng.uniform(0, 0.35) * room_below if darker else 255 - rng.uniform(0, 0.2) * room_above
    else:
        ink = rng.uniform(0, 1) * room_below if darker else 255 - rng.uniform(0, 1) * room_above
    plain_ink = rng.random() < 0.5
    value = some_colour(rng, ink)
    if plain_ink:
        mean = luma(value)
        value = (mean + 0.2 * (value[0] - mean), mean + 0.2 * (value[1] - mean), mean + 0.2 * (value[2] - mean))
    return some_colour(rng, ground), value


def filled(size: tuple[int, int], colour: Colour) -> np.ndarray:
    picture = np.empty((size[1], size[0], 3), np.float32)
    picture[:] = colour
    return picture


def clouds(size: tuple[int, int], noise: np.random.Generator, cells: float) -> np.ndarray:
    """Smooth random values (h, w), about -1 to 1, with `cells` bumps along the shorter side."""
    width, height = size
    unit = min(width, height) / cells
    grid = noise.random((int(height / unit) + 2, int(width / unit) + 2), np.float32) * 2 - 1
    return cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC)


def ramp(size: tuple[int, int], rng: Random) -> np.ndarray:
    """A plane (h, w) that rises from -1 to 1 in some direction."""
    width, height = size
    x, y = rng.uniform(-1, 1), rng.uniform(-1, 1)
    total = max(abs(x) + abs(y), 1e-3)
    return np.add.outer(
        np.linspace(-y / total, y / total, height, dtype=np.float32),
        np.linspace(-x / total, x / total, width, dtype=np.float32),
    )


def background(
    size: tuple[int, int], ground: Colour, rng: Random, noise: np.random.Generator, difficulty: float
) -> np.ndarray:
    """What the word stands on, float (h, w, 3): mostly plain, as signs are, else grained, blotched or crossed by edges."""
    picture = filled(size, ground)
    if rng.random() > difficulty:
        return picture
    kind = rng.random()
    if kind < 0.35:
        return picture
    if kind < 0.55:
        change = np.array([rng.uniform(-40, 40) for _ in range(3)], np.float32) * 0.5 + rng.uniform(-35, 35)
        return picture + ramp(size, rng)[..., None] * change
    if kind < 0.85:
        for cells, strength in ((rng.uniform(1, 3), 25), (rng.uniform(4, 12), 12), (min(size) / 1.5, 9)):
            if rng.random() < 0.6:
                picture += (clouds(size, noise, cells) * rng.uniform(0.2, 1) * strength)[..., None]
        return picture
    return _shapes(picture, ground, rng)


def _shapes(picture: np.ndarray, ground: Colour, rng: Random) -> np.ndarray:
    """Edges of boards, frames and windows behind or beside the word."""
    height, width = picture.shape[:2]
    for _ in range(rng.randint(1, 3)):
        value = min(max(luma(ground) + rng.gauss(0, 45), 0), 255)
        colour = some_colour(rng, value)
        kind = rng.random()
        if kind < 0.4:  # a border along one side
            share = rng.uniform(0.03, 0.15)
            edge = rng.choice((
                ((0, 0), (width, int(share * height))), ((0, int((1 - share) * height)), (width, height)),
                ((0, 0), (int(share * width), height)), ((int((1 - share) * width), 0), (width, height)),
            ))  # fmt: skip
            cv2.rectangle(picture, edge[0], edge[1], colour, -1)
        elif kind < 0.75:
            ends = [
                (rng.randint(-width // 4, width), rng.randint(-height // 4, height + height // 4)) for _ in range(2)
            ]
            cv2.line(picture, ends[0], ends[1], colour, rng.randint(1, max(1, height // 12)), cv2.LINE_AA)
        else:
            corner = rng.randint(-width // 2, width), rng.randint(-height // 2, height)
            cv2.rectangle(
                picture, corner, (corner[0] + rng.randint(2, width), corner[1] + rng.randint(2, height)), colour, -1
            )
    return picture


def lay(picture: np.ndarray, coverage: np.ndarray, ink: np.ndarray | Colour, opacity: float = 1.0) -> np.ndarray:
    """Puts ink, a colour or a picture, on the picture where there is coverage, float (h, w) from 0 to 1."""
    alpha = (coverage * opacity if opacity != 1 else coverage)[..., None]
    return picture + alpha * (np.asarray(ink, np.float32) - picture)


def light(picture: np.ndarray, rng: Random, noise: np.random.Generator, difficulty: float) -> np.ndarray:
    """Uneven light, shade, reflections and haze over the whole."""
    height, width = picture.shape[:2]
    size = width, height
    if rng.random() < 0.45 * difficulty:
        picture = picture * (1 + rng.uniform(0.05, 0.4) * ramp(size, rng))[..., None]
    if rng.random() < 0.25 * difficulty:
        picture = picture * (1 + rng.uniform(0.05, 0.3) * clouds(size, noise, rng.uniform(0.8, 2.5)))[..., None]
    if rng.random() < 0.08 * difficulty:  # a reflection
        spot = clouds(size, noise, 1.2)
        picture = picture + np.maximum(spot - rng.uniform(0.1, 0.5), 0)[..., None] * rng.uniform(60, 200)
    if rng.random() < 0.35 * difficulty:  # haze, under- and overexposure
        low, high = rng.uniform(0, 60), rng.uniform(150, 275)
        picture = picture * ((high - low) / 255) + low
    if rng.random() < 0.25 * difficulty:  # the lamp's colour
        picture = picture * np.array([rng.uniform(0.8, 1.1) for _ in range(3)], np.float32)
    return picture
