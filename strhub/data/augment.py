"""RandAugment for words: https://arxiv.org/abs/1909.13719, with operations and ranges that leave a word readable."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageChops, ImageEnhance, ImageFilter

VALUES = np.arange(256)
BAND_STARTS = np.array([0, 256, 512], dtype=np.uint16)
Operation = Callable[[Image.Image, float, np.random.Generator], Image.Image]


class RandAugment:
    """Draws `count` different operations for a picture and applies each with probability `probability`.

    Every choice comes from the generator it is called with, so equal generators give equal pictures.

    Args:
        magnitude: strength on a scale from 0 to 10.
    """

    def __init__(self, count: int = 3, magnitude: float = 5, *, probability: float = 0.5) -> None:
        if not 0 <= count <= len(OPERATIONS) or not 0 <= magnitude <= 10 or not 0 <= probability <= 1:
            raise ValueError(
                f'RandAugment takes 0 to {len(OPERATIONS)} operations, magnitude 0 to 10 and probability 0 to 1, '
                f'got {count}, {magnitude} and {probability}'
            )
        self.count = count
        self.level = magnitude / 10
        self.probability = probability

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        chosen = rng.permutation(len(OPERATIONS))[: self.count]
        for index, chance in zip(chosen, rng.random(self.count), strict=True):
            if chance < self.probability:
                image = OPERATIONS[index](image, self.level, rng)
        return image


def _signed(value: float, rng: np.random.Generator) -> float:
    return value if rng.random() < 0.5 else -value


def _warp(image: Image.Image, matrix: tuple[float, float, float, float], rng: np.random.Generator) -> Image.Image:
    """Maps (x, y) to (ax + by, cx + dy) on a canvas that holds the whole result, for a word cut off is another word."""
    a, b, c, d = matrix
    width, height = image.size
    xs = [a * x + b * y for x in (0, width) for y in (0, height)]
    ys = [c * x + d * y for x in (0, width) for y in (0, height)]
    size = (math.ceil(max(xs) - min(xs)), math.ceil(max(ys) - min(ys)))
    det = a * d - b * c
    inverse = (d / det, -b / det, -c / det, a / det)  # PIL asks where each pixel of the result comes from
    left, top = min(xs), min(ys)
    back = (
        *(inverse[0], inverse[1], inverse[0] * left + inverse[1] * top),
        *(inverse[2], inverse[3], inverse[2] * left + inverse[3] * top),
    )
    return _affine(image, size, back, rng)


def _affine(
    image: Image.Image, size: tuple[int, int], back: tuple[float, ...], rng: np.random.Generator
) -> Image.Image:
    resample = Image.Resampling.BILINEAR if rng.random() < 0.5 else Image.Resampling.BICUBIC
    mean = image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    return image.transform(size, Image.Transform.AFFINE, back, resample, fillcolor=mean)


def rotate(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    angle = math.radians(_signed(30 * level, rng))
    return _warp(image, (math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)), rng)


def shear_x(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return _warp(image, (1, _signed(0.9 * level, rng), 0, 1), rng)


def shear_y(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    # a word is wide: its ends move far
    return _warp(image, (1, 0, _signed(0.3 * level, rng), 1), rng)


def translate_x(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    # a tenth of the width is about half a character
    return _affine(image, image.size, (1, 0, _signed(0.1 * level * image.width, rng), 0, 1, 0), rng)


def translate_y(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return _affine(image, image.size, (1, 0, 0, 0, 1, _signed(0.3 * level * image.height, rng)), rng)


def _map_values(image: Image.Image, table: np.ndarray) -> Image.Image:
    """Replaces each value by that of `table`, (256,) or (3, 256) for one per band; quicker than Image.point."""
    pixels = np.asarray(image)
    mapped = table[pixels] if table.ndim == 1 else table.ravel()[pixels + BAND_STARTS]
    return Image.fromarray(mapped)


def autocontrast(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    low, high = np.array(image.getextrema(), dtype=np.float32).T[:, :, None]
    table = (VALUES - low) * (255 / np.maximum(high - low, 1))
    return _map_values(image, table.clip(0, 255).astype(np.uint8))


def equalize(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    below = np.array(image.histogram()).reshape(3, 256).cumsum(1)
    first = below[np.arange(3), (below > 0).argmax(1)][:, None]  # pixels of the darkest value, which becomes 0
    table = (below - first) * (255 / np.maximum(below[:, -1:] - first, 1))
    return _map_values(image, table.clip(0, 255).astype(np.uint8))


def invert(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return ImageChops.invert(image)


def posterize(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    step = 2 ** round(4 * level)
    return _map_values(image, (VALUES // step * step).astype(np.uint8))


def solarize(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return _map_values(image, np.where(256 * (1 - level) > VALUES, VALUES, 255 - VALUES).astype(np.uint8))


def colour(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Color(image).enhance(1 + _signed(0.9 * level, rng))


def contrast(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(1 + _signed(0.9 * level, rng))


def brightness(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1 + _signed(0.9 * level, rng))


def sharpness(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(1 + _signed(0.9 * level, rng))


def gaussian_blur(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    # radius in units of a 32-pixel line: beyond 2 of them strokes run together
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2 * level) * min(image.size) / 32))


def poisson_noise(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    """Photon noise: its variance grows with the light; the normal approximation, which is far quicker to draw."""
    light = np.asarray(image, dtype=np.float32)
    spread = np.float32(rng.uniform(0, 50 * level) / math.sqrt(255))  # in grey levels, at white
    noise = rng.standard_normal(light.shape, dtype=np.float32) * np.sqrt(light) * spread
    return Image.fromarray((light + noise).clip(0, 255).astype(np.uint8))


OPERATIONS: tuple[Operation, ...] = (
    *(autocontrast, equalize, invert, posterize, solarize),
    *(rotate, shear_x, shear_y, translate_x, translate_y),
    *(colour, contrast, brightness, sharpness, gaussian_blur, poisson_noise),
)
