"""Colours, grounds and light: what a word is written with, and on. Pictures are float (h, w, 3) from 0 to 255."""

from __future__ import annotations

from functools import cache
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
SHARES = [share for _, share in PALETTE]


def luma(colour: Colour) -> float:
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def shaded(colour: Colour, factor: float) -> Colour:
    red, green, blue = colour
    return red * factor, green * factor, blue * factor


def some_colour(rng: Random) -> Colour:
    red, green, blue = rng.choices(COLOURS, SHARES)[0]
    shift = rng.gauss(0, 14)
    return tuple(min(max(value + shift + rng.gauss(0, 9), 0), 255) for value in (red, green, blue))  # type: ignore[return-value]


def contrasting(colour: Colour, least: float, rng: Random) -> Colour:
    """A colour whose luma differs from that of `colour` by at least `least`."""
    own = luma(colour)
    if rng.random() < 0.4:  # letters are black or white more often than anything else
        value = rng.uniform(225, 255) if rng.random() > own / 255 else rng.uniform(5, 45)
        if abs(value - own) >= least:
            return value, value, value
    for _ in range(12):
        other = some_colour(rng)
        if abs(luma(other) - own) >= least:
            return other
    return (250, 250, 250) if own < 128 else (12, 12, 12)


def plain(size: Size, colour: Colour) -> np.ndarray:
    return np.repeat(row_of(colour, size), size[1], axis=0)


def wide(plane: np.ndarray) -> np.ndarray:
    """(h, w) -> (h, w, 3): arithmetic on equal shapes is several times as fast as broadcasting to three channels."""
    return cv2.merge((plane, plane, plane))


def row_of(values: Colour, size: Size) -> np.ndarray:
    """A colour as (1, w, 3), which broadcasts as fast as equal shapes do."""
    row = np.empty((1, size[0], 3), np.float32)
    row[:] = values
    return row


def clouds(size: Size, noise: np.random.Generator, cells: float) -> np.ndarray:
    """Smooth random values (h, w), about -1 to 1, with `cells` bumps along the shorter side."""
    width, height = size
    unit = min(width, height) / cells
    grid = noise.random((int(height / unit) + 2, int(width / unit) + 2), np.float32) * 2 - 1
    return cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC if cells < 6 else cv2.INTER_LINEAR)


def ramp(size: Size, rng: Random) -> np.ndarray:
    """A plane (h, w) that rises from -1 to 1 in some direction."""
    width, height = size
    x, y = rng.uniform(-1, 1), rng.uniform(-1, 1)
    total = max(abs(x) + abs(y), 1e-3)
    steps_y, steps_x = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    return ((steps_y * (2 / height) - 1) * (y / total))[:, None] + (steps_x * (2 / width) - 1) * (x / total)


@cache
def _grain() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((256, 2048), np.float32)


def grain(size: Size, rng: Random, *, coloured: bool) -> np.ndarray:
    """Sensor noise (h, w, 3) of standard deviation 1: cut from one sheet, for making it costs more than the rest."""
    width, height = min(size[0], 1024), min(size[1], 128)

    def cut() -> np.ndarray:
        x, y = rng.randrange(2048 - width), rng.randrange(256 - height)
        return _grain()[y : y + height, x : x + width]

    planes = cv2.merge((cut(), cut(), cut())) if coloured else wide(cut())
    return planes if (width, height) == size else cv2.resize(planes, size, interpolation=cv2.INTER_NEAREST)


def background(size: Size, ground: Colour, rng: Random, noise: np.random.Generator, difficulty: float) -> np.ndarray:
    """What the word stands on: mostly plain, as signs are, else shaded, blotched, grained or crossed by edges."""
    picture = plain(size, ground)
    if rng.random() > difficulty:
        return picture
    kind = rng.random()
    if kind < 0.4:
        return picture
    if kind < 0.55:
        change = [rng.gauss(0, 25)] * 3 if rng.random() < 0.6 else [rng.gauss(0, 25) for _ in range(3)]
        return picture + wide(ramp(size, rng)) * row_of((change[0], change[1], change[2]), size)
    if kind < 0.8:
        texture = clouds(size, noise, rng.uniform(1, 4)) * rng.uniform(3, 28)
        if rng.random() < 0.5:
            texture += clouds(size, noise, rng.uniform(5, max(min(size) / 1.5, 6))) * rng.uniform(3, 16)
        return picture + wide(texture)
    return _edges(picture, ground, rng)


def _edges(picture: np.ndarray, ground: Colour, rng: Random) -> np.ndarray:
    """Boards, frames, joints and windows behind or beside the word."""
    height, width = picture.shape[:2]
    for _ in range(rng.randint(1, 3)):
        colour = some_colour(rng) if rng.random() < 0.4 else shaded(ground, rng.uniform(0.5, 1.3))
        kind = rng.random()
        if kind < 0.5:  # a border along one side
            share = rng.uniform(0.03, 0.15)
            edge = rng.choice((
                ((0, 0), (width, int(share * height))), ((0, int((1 - share) * height)), (width, height)),
                ((0, 0), (int(share * height), height)), ((width - int(share * height), 0), (width, height)),
            ))  # fmt: skip
            cv2.rectangle(picture, edge[0], edge[1], colour, -1)
        elif kind < 0.8:
            start, end = [(rng.randint(-width // 4, width), rng.randint(-height // 4, height)) for _ in range(2)]
            cv2.line(picture, start, end, colour, rng.randint(1, max(1, height // 14)), cv2.LINE_AA)
        else:
            x, y = rng.randint(-width // 2, width), rng.randint(-height // 2, height)
            cv2.rectangle(picture, (x, y), (x + rng.randint(2, width), y + rng.randint(2, height)), colour, -1)
    return picture


def lay(picture: np.ndarray, coverage: np.ndarray, ink: np.ndarray | Colour, opacity: float = 1.0) -> np.ndarray:
    """Puts ink, a colour or a picture, on the picture where there is coverage, uint8 (h, w)."""
    alpha = wide(coverage.astype(np.float32) * np.float32(opacity / 255))
    paint = ink if isinstance(ink, np.ndarray) else row_of(ink, (picture.shape[1], picture.shape[0]))
    return picture + alpha * (paint - picture)


def light(picture: np.ndarray, rng: Random, noise: np.random.Generator, difficulty: float) -> np.ndarray:
    """Uneven light, shade, reflections and haze over the whole."""
    size = picture.shape[1], picture.shape[0]
    field = None
    if rng.random() < 0.4 * difficulty:
        field = 1 + rng.uniform(0.05, 0.4) * ramp(size, rng)
    if rng.random() < 0.25 * difficulty:
        patches = 1 + rng.uniform(0.05, 0.35) * clouds(size, noise, rng.uniform(0.8, 2.5))
        field = patches if field is None else field * patches
    if field is not None:
        picture = picture * wide(field)
    if rng.random() < 0.06 * difficulty:  # a reflection
        spot = clouds(size, noise, 1.2)
        picture = picture + wide(np.maximum(spot - rng.uniform(0.1, 0.5), 0) * rng.uniform(60, 200))
    gain, offset = 1.0, 0.0
    if rng.random() < 0.4 * difficulty:  # haze, under- and overexposure
        offset, high = rng.uniform(0, 60), rng.uniform(130, 285)
        gain = (high - offset) / 255
    tint = [rng.uniform(0.82, 1.08) for _ in range(3)] if rng.random() < 0.3 * difficulty else [1.0, 1.0, 1.0]
    if gain != 1 or tint[0] != 1:
        picture = picture * row_of((gain * tint[0], gain * tint[1], gain * tint[2]), size) + np.float32(offset)
    return picture
