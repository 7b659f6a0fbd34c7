"""How a camera sees the word: where it stands, what it focuses, what its sensor and file format leave."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import cv2
import numpy as np


@dataclass
class View:
    """A projection of the plane of the word onto a picture of `size` (width, height)."""

    matrix: np.ndarray  # (3, 3), from mask coordinates
    size: tuple[int, int]
    scale: float  # pixels of the picture per pixel of the mask
    shrink: float  # masks are shrunk by this first, lest small pictures alias

    def project(self, mask: np.ndarray) -> np.ndarray:
        """The mask as seen, float (h, w) from 0 to 1."""
        if self.shrink < 1:
            mask = cv2.resize(mask, None, fx=self.shrink, fy=self.shrink, interpolation=cv2.INTER_AREA)
        seen = cv2.warpPerspective(mask, self.matrix, self.size, flags=cv2.INTER_LINEAR)
        return seen.astype(np.float32) * np.float32(1 / 255)


def look_at(box: tuple[float, float, float, float], height: float, rng: Random, difficulty: float) -> View:
    """A view of the word in `box`, whose letters get about `height` pixels high, cropped as annotators do."""
    left, top, right, bottom = box
    scale = height / (bottom - top)
    word_width, word_height = (right - left) * scale, height
    stretch = math.exp(rng.gauss(0, 0.12 * difficulty + 0.05))
    stretch = max(min(stretch, 1.6), 0.6)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float64) * (word_width * stretch / 2, word_height / 2)
    if difficulty > 0:
        steepest = 0.5 if word_width > 1.5 * word_height else 0.25
        angle = rng.gauss(0, 0.05) if rng.random() < 0.85 else rng.gauss(0, 0.18)
        angle = max(min(angle, steepest), -steepest) * difficulty
        shear = rng.gauss(0, 0.1) * difficulty
        corners[:, 0] += shear * corners[:, 1]
        if rng.random() < 0.4 * difficulty:  # from the side: one end is nearer
            side, nearer = rng.choice((-1, 1)), rng.uniform(0.04, 0.3)
            corners[:, 1] *= 1 + side * nearer * np.sign(corners[:, 0])
        if rng.random() < 0.2 * difficulty:
            corners += np.array([[rng.uniform(-0.08, 0.08) for _ in range(2)] for _ in range(4)]) * word_height
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        corners = corners @ turn
    low, high = corners.min(0), corners.max(0)
    margins = np.array([_margin(rng, difficulty) for _ in range(4)]) * word_height
    low -= margins[:2]
    high += margins[2:]
    size = max(int(round(high[0] - low[0])), 8), max(int(round(high[1] - low[1])), 8)
    shrink = min(1.0, 1.4 * scale)
    if shrink > 0.75:
        shrink = 1.0
    source = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32) * np.float32(shrink)
    matrix = cv2.getPerspectiveTransform(source, (corners - low).astype(np.float32))
    return View(matrix, size, scale, shrink)


def _margin(rng: Random, difficulty: float) -> float:
    """Space between word and edge as a share of the word's height: mostly little, at times some letters are cut."""
    kind = rng.random()
    if kind < 0.12 * difficulty:
        return rng.uniform(-0.06, 0)
    if kind < 0.8:
        return rng.uniform(0, 0.18)
    return rng.uniform(0.1, 0.45)


def blur(picture: np.ndarray, height: float, rng: Random, difficulty: float) -> np.ndarray:
    """Out of focus or shaken, by a share of the letters' height that leaves them readable."""
    kind = rng.random()
    if kind < 0.45 * difficulty:
        sigma = height * 0.055 * rng.random() ** 1.5 + 0.3
        return cv2.GaussianBlur(picture, (0, 0), sigma)
    if kind < 0.55 * difficulty:
        length = int(height * rng.uniform(0.05, 0.16)) | 1
        if length >= 3:
            kernel = np.zeros((length, length), np.float32)
            middle, angle = length // 2, rng.uniform(0, math.pi)
            dx, dy = round(middle * math.cos(angle)), round(middle * math.sin(angle))
            cv2.line(kernel, (middle - dx, middle - dy), (middle + dx, middle + dy), 1.0, 1)
            return cv2.filter2D(picture, -1, kernel / kernel.sum())
    return picture


def sense(picture: np.ndarray, rng: Random, noise: np.random.Generator, difficulty: float) -> np.ndarray:
    """Sensor noise, sharpening and JPEG: float (h, w, 3) in, uint8 out."""
    if rng.random() < 0.5 * difficulty:
        strength = 14 * rng.random() ** 2 + 1
        height, width = picture.shape[:2]
        grain = noise.standard_normal((height, width, 3 if rng.random() < 0.5 else 1), np.float32)
        if rng.random() < 0.5:  # enlarged after it was taken
            grain = cv2.GaussianBlur(grain, (3, 3), 0).reshape(height, width, -1) * 1.6
        picture = picture + grain * strength
    if rng.random() < 0.2 * difficulty:
        picture = picture + rng.uniform(0.3, 1.5) * (picture - cv2.GaussianBlur(picture, (0, 0), 1.2))
    pixels = np.clip(picture, 0, 255).astype(np.uint8)
    if rng.random() < 0.6 * difficulty:
        quality = rng.randint(25, 95)
        done, data = cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if done:
            pixels = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return pixels
