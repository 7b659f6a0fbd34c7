"""How a camera sees the word: where it stands, what it focuses, what its sensor and file format leave."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from random import Random

import cv2
import numpy as np

from strhub.data.synth.paint import Size

Point = tuple[float, float]
SHEET = 2048, 256  # width and height of the sheet that sensor noise is cut from
LARGEST_CUT = 1024, 128  # of it; larger pictures enlarge that
# Shares of the distance between two letters, beyond which blur runs them together: words seen from the side are narrow.
MOST_SIGMA, MOST_SHAKE = 0.13, 0.45  # as strong as each other: a shake of length 1 has a standard deviation of 0.29


@dataclass
class View:
    """A projection of the plane of the word, in pixels of its mask, onto a picture of `size` (width, height)."""

    matrix: np.ndarray  # (3, 3)
    size: Size
    shrink: float = 1.0  # masks are shrunk by this first, lest small pictures alias

    def of(self, shape: tuple[int, ...], origin: Point, shrunk: tuple[int, ...]) -> np.ndarray:
        """The matrix for a mask (h, w) whose upper left corner lies at `origin`, after it was shrunk to (h, w)."""
        if shape == shrunk and origin == (0, 0):
            return self.matrix
        x, y = shape[1] / shrunk[1], shape[0] / shrunk[0]
        # what counts are the middles of pixels
        return self.matrix @ ((x, 0, origin[0] + (x - 1) / 2), (0, y, origin[1] + (y - 1) / 2), (0, 0, 1))

    def length(self, shape: tuple[int, ...]) -> float:
        """How many pixels of the picture lie between the middles of the left and right sides of a mask (h, w)."""
        (a, b, c), (d, e, f), (g, h, i) = self.matrix.tolist()
        y, right = shape[0] / 2, shape[1]
        left_depth, right_depth = h * y + i, g * right + h * y + i
        return math.hypot(
            (a * right + b * y + c) / right_depth - (b * y + c) / left_depth,
            (d * right + e * y + f) / right_depth - (e * y + f) / left_depth,
        )


@dataclass
class Lens:
    """Out of focus by a Gaussian of `sigma` pixels, or shaken along a kernel (k, k)."""

    sigma: float = 0.0
    kernel: np.ndarray | None = None


@dataclass
class Sensor:
    """Noise, sharpening and JPEG, in this order; 0 for none of it."""

    noise: float = 0.0  # standard deviation
    cuts: tuple[tuple[int, int], ...] = ()  # where in the sheet the noise lies: one corner for grey, three for coloured
    is_coarse: bool = False  # noise is as a 3 x 3 mean leaves it
    sharpening: float = 0.0  # how much of what a Gaussian takes away is added
    quality: int = 0  # of JPEG, to 100


def look_at(size: tuple[float, float], height: float, rng: Random, difficulty: float) -> View:
    """A view of a word of `size` (width, height), which gets about `height` pixels high, cropped as annotators do."""
    right, bottom = size
    scale = height / bottom
    # Walls are mostly seen from the side, where words are narrower than they are.
    stretch = min(max(math.exp(rng.gauss(-0.12 * difficulty, 0.05 + 0.17 * difficulty)), 0.45), 1.7)
    corners = _corners(right * scale * stretch, height, rng, difficulty)
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    x0, y0 = min(xs) - _margin(rng, difficulty) * height, min(ys) - _margin(rng, difficulty) * height
    x1, y1 = max(xs) + _margin(rng, difficulty) * height, max(ys) + _margin(rng, difficulty) * height
    source = np.array(((0, 0), (right, 0), (right, bottom), (0, bottom)), np.float32)
    target = np.array([(x - x0, y - y0) for x, y in corners], np.float32)
    shrink = 1.4 * scale if 1.4 * scale < 0.75 else 1.0
    return View(cv2.getPerspectiveTransform(source, target), (max(round(x1 - x0), 8), max(round(y1 - y0), 8)), shrink)


def _corners(width: float, height: float, rng: Random, difficulty: float) -> list[Point]:
    """Where the corners of the word come to lie, clockwise from the upper left, about the origin."""
    corners = [(-width / 2, -height / 2), (width / 2, -height / 2), (width / 2, height / 2), (-width / 2, height / 2)]
    if difficulty <= 0:
        return corners
    if rng.random() < 0.4 * difficulty:
        shear = rng.gauss(0, 0.12)
        corners = [(x + shear * y, y) for x, y in corners]
    if rng.random() < 0.35 * difficulty:  # from the side: one end is nearer
        nearer = rng.choice((-1, 1)) * rng.uniform(0.04, 0.28)
        corners = [(x, y * (1 + nearer * math.copysign(1, x))) for x, y in corners]
    if rng.random() < 0.5 * difficulty:  # the same, from above or below: lines climb and letters stay upright
        slope = min(max(rng.gauss(0, 0.16), -0.5), 0.5) * min(1.0, 3 * height / width) ** 0.5
        corners = [(x, y + slope * x) for x, y in corners]
    # Half of the words hang level and others climb, long ones less steeply for their picture would be all corners.
    kind = rng.random()
    steepest = 0.5 if width < 4 * height else 0.3
    angle = rng.gauss(0, 0.03 if kind < 0.5 else 0.11 if kind < 0.9 else 0.22)
    angle = min(max(angle, -steepest), steepest) * difficulty
    cosine, sine = math.cos(angle), math.sin(angle)
    return [(cosine * x - sine * y, sine * x + cosine * y) for x, y in corners]


def _margin(rng: Random, difficulty: float) -> float:
    """Space between word and edge as a share of the word's height: mostly little, at times letters are cut a bit."""
    kind = rng.random()
    if kind < 0.15 * difficulty:
        return rng.uniform(-0.08, 0)
    if kind < 0.7:
        return rng.uniform(0, 0.2)
    return rng.uniform(0.1, 0.5)


def some_lens(capital: float, pitch: float, rng: Random, difficulty: float) -> Lens:
    """Out of focus or shaken, by shares of the capitals' height and the letters' distance that leave them readable."""
    kind = rng.random()
    if kind < 0.65 * difficulty:
        return Lens(sigma=min(0.3 + capital * 0.1 * rng.random() ** 1.3, MOST_SIGMA * pitch))
    if kind < 0.77 * difficulty:
        length = min(int(capital * rng.uniform(0.08, 0.28)) | 1, int(MOST_SHAKE * pitch - 1) | 1)
        if length >= 3:
            return Lens(kernel=_shake(length, rng.uniform(0, math.pi)))
    return Lens()


def _shake(length: int, angle: float) -> np.ndarray:
    kernel = np.zeros((length, length), np.float32)
    middle = length // 2
    dx, dy = round(middle * math.cos(angle)), round(middle * math.sin(angle))
    cv2.line(kernel, (middle - dx, middle - dy), (middle + dx, middle + dy), 1.0, 1)
    return kernel / kernel.sum()


def some_sensor(size: Size, rng: Random, difficulty: float) -> Sensor:
    sensor = Sensor()
    if rng.random() < 0.35 * difficulty:
        free_x, free_y = (sheet - min(side, cut) for sheet, side, cut in zip(SHEET, size, LARGEST_CUT, strict=True))
        planes = 3 if rng.random() < 0.4 else 1
        sensor.cuts = tuple((int(rng.random() * free_x), int(rng.random() * free_y)) for _ in range(planes))
        sensor.noise = 1 + 10 * rng.random() ** 2
        if rng.random() < 0.6:  # enlarged after it was taken
            sensor.is_coarse, sensor.noise = True, 2 * sensor.noise
    if rng.random() < 0.35 * difficulty:  # up to the halos of small cameras
        sensor.sharpening = rng.uniform(0.3, 2.2)
    if rng.random() < 0.6 * difficulty:
        sensor.quality = rng.randint(25, 95)
    return sensor


@cache
def noise_sheet() -> np.ndarray:
    """Normal noise of standard deviation 1, (h, w): pictures take cuts, for making it costs more than the rest."""
    return np.random.default_rng(0).standard_normal(SHEET[::-1], np.float32)
