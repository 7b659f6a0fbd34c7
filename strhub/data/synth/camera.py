"""How a camera sees the word: where it stands, what it focuses, what its sensor and file format leave."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import cv2
import numpy as np

from strhub.data.synth.paint import grain

Point = tuple[float, float]


@dataclass
class View:
    """A projection of the plane of the word onto a picture of `size` (width, height)."""

    matrix: np.ndarray  # (3, 3), from mask coordinates after shrinking
    size: tuple[int, int]
    shrink: float  # masks are shrunk by this first, lest small pictures alias

    def project(self, mask: np.ndarray) -> np.ndarray:
        """The mask as seen, uint8 (h, w)."""
        if self.shrink < 1:
            mask = cv2.resize(mask, None, fx=self.shrink, fy=self.shrink, interpolation=cv2.INTER_AREA)
        return cv2.warpPerspective(mask, self.matrix, self.size, flags=cv2.INTER_LINEAR)


def look_at(box: tuple[float, float, float, float], height: float, rng: Random, difficulty: float) -> View:
    """A view of the word in `box`, which gets about `height` pixels high, cropped as annotators do."""
    left, top, right, bottom = box
    scale = height / (bottom - top)
    stretch = min(max(math.exp(rng.gauss(0, 0.05 + 0.15 * difficulty)), 0.6), 1.7)
    corners = _corners((right - left) * scale * stretch, height, rng, difficulty)
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    margins = [_margin(rng, difficulty) * height for _ in range(4)]
    x0, y0 = min(xs) - margins[0], min(ys) - margins[1]
    size = max(round(max(xs) - x0 + margins[2]), 8), max(round(max(ys) - y0 + margins[3]), 8)
    shrink = 1.4 * scale if 1.4 * scale < 0.75 else 1.0
    source = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32) * np.float32(shrink)
    target = np.array([(x - x0, y - y0) for x, y in corners], np.float32)
    return View(cv2.getPerspectiveTransform(source, target), size, shrink)


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
    if rng.random() < 0.2 * difficulty:
        corners = [(x + rng.uniform(-0.07, 0.07) * height, y + rng.uniform(-0.07, 0.07) * height) for x, y in corners]
    # Most words hang level; a few climb, long ones less steeply for their picture would be all corners.
    steepest = 0.45 if width < 4 * height else 0.25
    angle = rng.gauss(0, 0.035) if rng.random() < 0.85 else rng.gauss(0, 0.2)
    angle = min(max(angle, -steepest), steepest) * difficulty
    cosine, sine = math.cos(angle), math.sin(angle)
    return [(cosine * x - sine * y, sine * x + cosine * y) for x, y in corners]


def _margin(rng: Random, difficulty: float) -> float:
    """Space between word and edge as a share of the word's height: mostly little, at times letters are cut a bit."""
    kind = rng.random()
    if kind < 0.12 * difficulty:
        return rng.uniform(-0.06, 0)
    if kind < 0.85:
        return rng.uniform(0, 0.2)
    return rng.uniform(0.1, 0.45)


def blur(picture: np.ndarray, capital: float, rng: Random, difficulty: float) -> np.ndarray:
    """Out of focus or shaken, by a share of the capitals' height that leaves them readable."""
    kind = rng.random()
    if kind < 0.5 * difficulty:
        sigma = 0.3 + capital * 0.075 * rng.random() ** 1.5
        return cv2.GaussianBlur(picture, (0, 0), sigma)
    if kind < 0.6 * difficulty:
        length = int(capital * rng.uniform(0.05, 0.2)) | 1
        if length >= 3:
            kernel = np.zeros((length, length), np.float32)
            middle, angle = length // 2, rng.uniform(0, math.pi)
            dx, dy = round(middle * math.cos(angle)), round(middle * math.sin(angle))
            cv2.line(kernel, (middle - dx, middle - dy), (middle + dx, middle + dy), 1.0, 1)
            return cv2.filter2D(picture, -1, kernel / kernel.sum())
    return picture


def sense(picture: np.ndarray, rng: Random, difficulty: float) -> np.ndarray:
    """Sensor noise, sharpening and JPEG: float (h, w, 3) in, uint8 out."""
    if rng.random() < 0.35 * difficulty:
        noise = grain((picture.shape[1], picture.shape[0]), rng, coloured=rng.random() < 0.4)
        strength = 1 + 10 * rng.random() ** 2
        if rng.random() < 0.6:  # enlarged after it was taken
            noise, strength = cv2.blur(noise, (3, 3)), 2 * strength
        picture = picture + noise * np.float32(strength)
    if rng.random() < 0.2 * difficulty:
        share = rng.uniform(0.3, 1.3)
        picture = cv2.addWeighted(picture, 1 + share, cv2.GaussianBlur(picture, (5, 5), 1.2), -share, 0)
    pixels = np.clip(picture, 0, 255).astype(np.uint8)
    if rng.random() < 0.6 * difficulty:
        done, data = cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_QUALITY, rng.randint(25, 95)])
        if done:
            pixels = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return pixels
