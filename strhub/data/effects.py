"""What RandAugment does to the pixels of a word, as opposed to moving them: arrays (height, width, 3) of bytes, RGB.

Each function draws an effect of a strength from 0 to 1. An effect is given the picture at the size at which it will be
seen, or near it, and `scale`: how many of these pixels one of the picture as it was is wide and high. So it costs no
more for a large picture, and looks as if done before the resize.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import cv2
import numpy as np

Scale = tuple[float, float]
Effect = Callable[[np.ndarray, Scale], np.ndarray]
Draw = Callable[[float, np.random.Generator], Effect]

VALUES = np.arange(256)
LUMA = np.array([0.299, 0.587, 0.114])
SMOOTH = math.sqrt(6 / 13)  # standard deviation of the 3 x 3 kernel that Pillow's Sharpness blends with
SHEET = 512  # pixels: more than a word has


def signed(value: float, rng: np.random.Generator) -> float:
    return value if rng.random() < 0.5 else -value


def _map_values(pixels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Replaces each value by that of `table`, (256,), or (256, 3) with a column for each colour."""
    return cv2.LUT(pixels, (table.clip(0, 255) + 0.5).astype(np.uint8).reshape(1, 256, -1))


def autocontrast(level: float, rng: np.random.Generator) -> Effect:
    def stretch(pixels: np.ndarray, scale: Scale) -> np.ndarray:
        low, high = np.array([cv2.minMaxLoc(plane)[:2] for plane in cv2.split(pixels)]).T
        return _map_values(pixels, (VALUES[:, None] - low) * (255 / np.maximum(high - low, 1)))

    return stretch


def equalize(level: float, rng: np.random.Generator) -> Effect:
    return lambda pixels, scale: cv2.merge([cv2.equalizeHist(plane) for plane in cv2.split(pixels)])


def invert(level: float, rng: np.random.Generator) -> Effect:
    return lambda pixels, scale: cv2.bitwise_not(pixels)


def posterize(level: float, rng: np.random.Generator) -> Effect:
    kept = np.uint8(256 - 2 ** round(4 * level))
    return lambda pixels, scale: pixels & kept


def solarize(level: float, rng: np.random.Generator) -> Effect:
    table = np.where(256 * (1 - level) > VALUES, VALUES, 255 - VALUES)
    return lambda pixels, scale: _map_values(pixels, table)


def colour(level: float, rng: np.random.Generator) -> Effect:
    amount = 1 + signed(0.9 * level, rng)
    return lambda pixels, scale: cv2.transform(pixels, amount * np.eye(3) + (1 - amount) * LUMA)


def contrast(level: float, rng: np.random.Generator) -> Effect:
    amount = 1 + signed(0.9 * level, rng)

    def blend(pixels: np.ndarray, scale: Scale) -> np.ndarray:
        mean = round(LUMA @ cv2.mean(pixels)[:3])
        return _map_values(pixels, mean + amount * (VALUES - mean))

    return blend


def brightness(level: float, rng: np.random.Generator) -> Effect:
    amount = 1 + signed(0.9 * level, rng)
    return lambda pixels, scale: _map_values(pixels, amount * VALUES)


def sharpness(level: float, rng: np.random.Generator) -> Effect:
    amount = 1 + signed(0.9 * level, rng)
    return lambda pixels, scale: cv2.addWeighted(pixels, amount, _blurred(pixels, SMOOTH, scale), 1 - amount, 0)


def gaussian_blur(level: float, rng: np.random.Generator) -> Effect:
    radius = rng.uniform(0, 2 * level) / 32  # of a line's height: beyond 2 of 32 pixels strokes run together

    def blur(pixels: np.ndarray, scale: Scale) -> np.ndarray:
        shorter = min(pixels.shape[1] / scale[0], pixels.shape[0] / scale[1])
        return _blurred(pixels, radius * shorter, scale)

    return blur


def _blurred(pixels: np.ndarray, radius: float, scale: Scale) -> np.ndarray:
    if not radius:
        return pixels
    return cv2.GaussianBlur(pixels, (0, 0), sigmaX=radius * scale[0], sigmaY=radius * scale[1])


def poisson_noise(level: float, rng: np.random.Generator) -> Effect:
    """Photon noise: its variance grows with the light; the normal approximation, cut from a sheet.

    Where the picture was made smaller, noise is averaged away; where it was enlarged, noise has its grain.
    """
    spread = rng.uniform(0, 50 * level) / math.sqrt(255)  # in grey levels, at white
    across, down = rng.random(2).tolist()  # where to cut

    def add(pixels: np.ndarray, scale: Scale) -> np.ndarray:
        height, width = pixels.shape[:2]
        columns = min(math.ceil(width / max(scale[0], 1)), SHEET)
        rows = min(math.ceil(height / max(scale[1], 1)), SHEET)
        x, y = int(across * (SHEET - columns + 1)), int(down * (SHEET - rows + 1))
        noise = _sheet()[y : y + rows, x : x + columns]
        if (rows, columns) != (height, width):
            noise = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        averaged = spread * math.sqrt(min(scale[0], 1) * min(scale[1], 1))
        light = cv2.LUT(pixels, np.sqrt(VALUES, dtype=np.float32) * np.float32(averaged))
        return cv2.add(pixels, cv2.multiply(light, noise), dtype=cv2.CV_8U)

    return add


@cache
def _sheet() -> np.ndarray:
    """Noise to cut from, for drawing it costs more than all the rest."""
    return np.random.default_rng(1).standard_normal((SHEET, SHEET, 3), dtype=np.float32)


EFFECTS: tuple[Draw, ...] = (
    *(autocontrast, equalize, invert, posterize, solarize),
    *(colour, contrast, brightness, sharpness, gaussian_blur, poisson_noise),
)
