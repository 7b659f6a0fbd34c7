"""Colours, grounds and light: what a word is written with, and on, as choices that say nothing of how to paint them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from random import Random

import cv2
import numpy as np

Colour = tuple[float, float, float]  # RGB, 0 to 255
Size = tuple[int, int]  # width, height

# Paint, plastic, stone and print as photographs show them, with how common they are; no neon.
PALETTE: tuple[tuple[Colour, float], ...] = (
    ((245, 245, 242), 16), ((222, 222, 218), 7), ((180, 182, 184), 5), ((130, 132, 136), 5), ((85, 86, 90), 6),
    ((45, 46, 50), 9), ((18, 18, 20), 12), ((200, 30, 38), 6), ((150, 28, 32), 4), ((96, 30, 28), 3),
    ((222, 96, 40), 2), ((240, 150, 40), 2), ((245, 205, 60), 4), ((205, 165, 85), 3), ((240, 228, 195), 5),
    ((214, 196, 160), 5), ((170, 145, 110), 4), ((122, 92, 66), 4), ((80, 56, 42), 4), ((30, 62, 44), 3),
    ((36, 110, 66), 4), ((120, 165, 70), 2), ((28, 120, 128), 2), ((22, 34, 78), 4), ((34, 70, 150), 6),
    ((66, 130, 196), 4), ((150, 190, 222), 3), ((92, 58, 120), 1), ((200, 90, 140), 1), ((232, 190, 190), 1),
)  # fmt: skip
COLOURS = [colour for colour, _ in PALETTE]
SHARES = list(accumulate(share for _, share in PALETTE))


@dataclass
class Ramp:
    """Values that rise from -1 to 1 across the picture, towards (x, y) of length 1 by the sum of its sides."""

    x: float
    y: float


@dataclass
class Clouds:
    """Smooth random values of about -1 to 1: a grid (h, w), to be enlarged linearly to the size of the picture."""

    grid: np.ndarray


Field = Ramp | Clouds


@dataclass
class Shape:
    """A board, frame, joint or window: an upright rectangle between two corners, or a line `width` pixels thick."""

    start: tuple[int, int]
    end: tuple[int, int]
    colour: Colour
    width: int = 0  # 0 for a rectangle


@dataclass
class Ground:
    """What the word stands on."""

    colour: Colour
    textures: list[tuple[Field, Colour]] = field(default_factory=list)  # added: the field times the colour
    shapes: list[Shape] = field(default_factory=list)  # on top of the textures, in this order


@dataclass
class Light:
    """What light makes of all colours: (colour times fields, plus glare) times gain, plus offset."""

    fields: list[tuple[Field, float]] = field(default_factory=list)  # each multiplies by 1 + strength times field
    glare: tuple[Clouds, float, float] | None = None  # adds what is above a threshold, times a strength
    gain: Colour = (1.0, 1.0, 1.0)
    offset: float = 0.0

    @property
    def is_neutral(self) -> bool:
        return self.gain == (1, 1, 1) and not self.offset


LUMA = (0.299, 0.587, 0.114)  # what red, green and blue add to brightness


def luma(colour: Colour) -> float:
    return LUMA[0] * colour[0] + LUMA[1] * colour[1] + LUMA[2] * colour[2]


def shaded(colour: Colour, factor: float) -> Colour:
    red, green, blue = colour
    return red * factor, green * factor, blue * factor


def grey(value: float) -> Colour:
    return value, value, value


def some_colour(rng: Random) -> Colour:
    red, green, blue = rng.choices(COLOURS, cum_weights=SHARES)[0]
    gauss = rng.gauss
    shift = gauss(0, 14)
    red, green, blue = red + shift + gauss(0, 9), green + shift + gauss(0, 9), blue + shift + gauss(0, 9)
    return min(max(red, 0), 255), min(max(green, 0), 255), min(max(blue, 0), 255)


def contrasting(colour: Colour, least: float, rng: Random) -> Colour:
    """A colour whose luma differs from that of `colour` by at least `least`."""
    own = luma(colour)
    if rng.random() < 0.4:  # letters are black or white more often than anything else
        value = rng.uniform(225, 255) if rng.random() > own / 255 else rng.uniform(5, 45)
        if abs(value - own) >= least:
            return grey(value)
    for _ in range(12):
        other = some_colour(rng)
        if abs(luma(other) - own) >= least:
            return other
    return (250, 250, 250) if own < 128 else (12, 12, 12)


@cache
def _sheet() -> np.ndarray:
    return np.random.default_rng(1).random((1024, 1024), np.float32) * 2 - 1


def clouds(size: Size, rng: Random, cells: float) -> Clouds:
    """Clouds with `cells` bumps along the shorter side: cut from one sheet, for a generator costs more than they do."""
    unit = min(size) / cells
    width, height = min(int(size[0] / unit) + 2, 512), min(int(size[1] / unit) + 2, 512)
    x, y = int(rng.random() * (1024 - width)), int(rng.random() * (1024 - height))
    grid = _sheet()[y : y + height, x : x + width]
    # coarse ones would show the corners of linear interpolation
    return Clouds(cv2.resize(grid, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC) if cells < 6 else grid)


def ramp(rng: Random) -> Ramp:
    x, y = rng.uniform(-1, 1), rng.uniform(-1, 1)
    total = max(abs(x) + abs(y), 1e-3)
    return Ramp(x / total, y / total)


def some_ground(size: Size, colour: Colour, rng: Random, difficulty: float) -> Ground:
    """Mostly plain, as signs are, else shaded, blotched, grained or crossed by edges."""
    ground = Ground(colour)
    if rng.random() > difficulty:
        return ground
    kind = rng.random()
    if kind < 0.4:
        return ground
    if kind < 0.55:
        change = (
            grey(rng.gauss(0, 25)) if rng.random() < 0.6 else (rng.gauss(0, 25), rng.gauss(0, 25), rng.gauss(0, 25))
        )
        ground.textures.append((ramp(rng), change))
    elif kind < 0.8:
        ground.textures.append((clouds(size, rng, rng.uniform(1, 4)), grey(rng.uniform(3, 28))))
        if rng.random() < 0.5:
            fine = clouds(size, rng, rng.uniform(5, max(min(size) / 1.5, 6)))
            ground.textures.append((fine, grey(rng.uniform(3, 16))))
    else:
        ground.shapes = [_shape(size, colour, rng) for _ in range(rng.randint(1, 3))]
    return ground


def _shape(size: Size, ground: Colour, rng: Random) -> Shape:
    width, height = size
    colour = some_colour(rng) if rng.random() < 0.4 else shaded(ground, rng.uniform(0.5, 1.3))
    kind = rng.random()
    if kind < 0.5:  # a border along one side
        share = rng.uniform(0.03, 0.15)
        start, end = rng.choice((
            ((0, 0), (width, int(share * height))), ((0, int((1 - share) * height)), (width, height)),
            ((0, 0), (int(share * height), height)), ((width - int(share * height), 0), (width, height)),
        ))  # fmt: skip
        return Shape(start, end, colour)
    if kind < 0.8:
        start, end = [(rng.randint(-width // 4, width), rng.randint(-height // 4, height)) for _ in range(2)]
        return Shape(start, end, colour, rng.randint(1, max(1, height // 14)))
    x, y = rng.randint(-width // 2, width), rng.randint(-height // 2, height)
    return Shape((x, y), (x + rng.randint(2, width), y + rng.randint(2, height)), colour)


def some_wear(size: Size, rng: Random, difficulty: float) -> tuple[Field, float] | None:
    """How the ink is at times faded or shaded: a field, and what to add of it."""
    if rng.random() > 0.2 * difficulty:
        return None
    shade = ramp(rng) if rng.random() < 0.5 else clouds(size, rng, rng.uniform(2, 8))
    return shade, rng.uniform(5, 45)


def some_light(size: Size, rng: Random, difficulty: float) -> Light:
    """Uneven light, shade, reflections and haze over the whole."""
    light = Light()
    if rng.random() < 0.4 * difficulty:
        light.fields.append((ramp(rng), rng.uniform(0.05, 0.4)))
    if rng.random() < 0.25 * difficulty:
        light.fields.append((clouds(size, rng, rng.uniform(0.8, 2.5)), rng.uniform(0.05, 0.35)))
    if rng.random() < 0.06 * difficulty:  # a reflection
        light.glare = clouds(size, rng, 1.2), rng.uniform(0.1, 0.5), rng.uniform(60, 200)
    gain = 1.0
    kind = rng.random()
    if kind < 0.3 * difficulty:  # at night
        light.offset, gain = rng.uniform(0, 45), rng.uniform(0.2, 0.65)
    elif kind < 0.6 * difficulty:  # haze, shade, engraved letters: dark or bright, without black or white
        middle, half = rng.uniform(40, 215), rng.uniform(25, 90)
        light.offset, gain = middle - half, 2 * half / 255
    elif kind < 0.76 * difficulty:  # under- and overexposure
        light.offset, high = rng.uniform(0, 60), rng.uniform(130, 285)
        gain = (high - light.offset) / 255
    tint = [rng.uniform(0.82, 1.08) for _ in range(3)] if rng.random() < 0.3 * difficulty else (1.0, 1.0, 1.0)
    light.gain = gain * tint[0], gain * tint[1], gain * tint[2]
    return light
