"""What RandAugment does to the pixels of a word, as opposed to moving them: arrays (height, width, 3) of bytes, RGB.

An effect is given the picture at the size at which it will be seen, with `scale`: how many of these pixels one of the
picture as it was is wide and high. So it costs no more for a large picture, and looks as if done before the resize.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import cv2
import numpy as np

Scale = tuple[float, float]
Effect = Callable[[np.ndarray, float, np.random.Generator, Scale], np.ndarray]

VALUES = np.arange(256)
LUMA = np.array([0.299, 0.587, 0.114])
SMOOTH = math.sqrt(6 / 13)  # standard deviation of the 3 x 3 kernel that Pillow's Sharpness blends with
SHEET = 512  # pixels: more than a word has


def signed(value: float, rng: np.random.Generator) -> float:
    return value if rng.random() < 0.5 else -value


def _map_values(pixels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Replaces each value by that of `table`, (256,), or (256, 3) with a column for each colour."""
    return cv2.LUT(pixels, (table.clip(0, 255) + 0.5).astype(np.uint8).reshape(1, 256, -1))


def autocontrast(pixels: np.ndarray, level: float, rng: np.random.Generator, scale: Scale) -> np.ndarray:
    low, high = np.array([cv2.minMaxLoc(plane)[:2] for plane in cv2.split(pixels)]).T
    return _map_values(pixels, (VALUES[:, None] - low) * (255 / np.maximum(high - low, 1)))


def equalize(pixels: np.ndarray, level: float, rng: np.random.Generator, scale: Scale) -> np.ndarray:
    return cv2.merge([cv2.equalizeHist(plane) for plane in cv2.split(pixels)])


def invert(pixels: np.ndarray, level: float, rng: np.random.Generator, scale: Scale) -> np.ndarray:
    return cv2.bitwise_not(pixels)


def posterize(pixels: np.ndarray, level: float, rng: np.random.Generator, scale: Scale) -> np.ndarray:
    return pixels & np.uint8(256 - 2 ** round(4 * level))


def solarize(pixels: np.ndarray, level: float, rng: np.random.Generator, scale: Scale) -> np.ndarray:
    return _map_values(pixels, np.where(256 * (1 - level) > VALUES, VALUES, 255 - VALUES))


def colour(pixels: np.ndarray, level: float, rng: np.random.Generator, scale: Scale) -> np.ndarray:
    amount = 1 + signed(0.9 * level, rng)
    return cv2.transform(pixels, amount * np.eye(3) + (1 - amount) * LUMA)


def contrast(pixels: np.ndarray, level: float, rng: np.random.Generator, scale: Scale) -> np.ndarray:
    amount, mean = 1 + signed(0.9 * level, rng), round(LUMA @ cv2.mean(pixels)[:3])
    return _map_values(pixels, mean + amount * (VALUES - mean))


def brightness(pixels: np.ndarray, level: float, rng: np.random.Generator, scale: Scale) -> np.ndarray:
    return _map_values(pixels, (1 + signed(0.9 * level, rng)) * VALUES)


def sharpness(pixels: np.ndarray, level: float, rng: np.random.Generator, scale: Scale) -> np.ndarray:
    amount, smooth = 1 + signed(0.9 * level, rng), _blur(pixels, SMOOTH, scale)
    return cv2.addWeighted(pixels, amount, smooth, 1 - amount, 0)


def gaussian_blur(pixels: np.ndarray, level: float, rng: np.random.Generator, scale: Scale) -> np.ndarray:
    # radius in units of a 32-pixel line: beyond 2 of them strokes run together
    shorter = min(pixels.shape[1] / scale[0], pixels.shape[0] / scale[1])
    return _blur(pixels, rng.uniform(0, 2 * level) * shorter / 32, scale)


def _blur(pixels: np.ndarray, radius: float, scale: Scale) -> np.ndarray:
    if not radius:
        return pixels
    return cv2.GaussianBlur(pixels, (0, 0), sigmaX=radius * scale[0], sigmaY=radius * scale[1])


def poisson_noise(pixels: np.ndarray, level: float, rng: np.random.Generator, scale: Scale) -> np.ndarray:
    """Photon noise: its variance grows with the light; the normal approximation, cut from a sheet.

    Where the picture was made smaller, noise is averaged away; where it was enlarged, noise has its grain.
    """
    height, width = pixels.shape[:2]
    spread = rng.uniform(0, 50 * level) / math.sqrt(255)  # in grey levels, at white
    spread *= math.sqrt(min(scale[0], 1) * min(scale[1], 1))
    columns, rows = (min(math.ceil(side / max(by, 1)), SHEET) for side, by in zip((width, height), scale, strict=True))
    x, y = (int(rng.integers(SHEET - side + 1)) for side in (columns, rows))
    noise = _sheet()[y : y + rows, x : x + columns]
    if (rows, columns) != (height, width):
        noise = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    light = cv2.LUT(pixels, np.sqrt(VALUES, dtype=np.float32) * np.float32(spread))
    return cv2.add(pixels, cv2.multiply(light, noise), dtype=cv2.CV_8U)


@cache
def _sheet() -> np.ndarray:
    """Noise to cut from, for drawing it costs more than all the rest."""
    return np.random.default_rng(1).standard_normal((SHEET, SHEET, 3), dtype=np.float32)


EFFECTS: tuple[Effect, ...] = (
    *(autocontrast, equalize, invert, posterize, solarize),
    *(colour, contrast, brightness, sharpness, gaussian_blur, poisson_noise),
)
