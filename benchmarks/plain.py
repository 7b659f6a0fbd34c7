"""An ordinary loader of words, to measure ours against: one transaction a record, and all of a picture by Pillow.

Its augmentation is also what the tests of ours compare with: the same operations in the same order, with the same
choices for equal generators, each at the full size of the picture and the resize after them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from strhub.data.lmdb import LmdbReader

Operation = Callable[[Image.Image, float, np.random.Generator], Image.Image]


def _signed(value: float, rng: np.random.Generator) -> float:
    return value if rng.random() < 0.5 else -value


def autocontrast(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return ImageOps.autocontrast(image)


def equalize(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    # ImageOps.equalize counts in whole steps, of which a small picture has few, and does less for it
    below = np.array(image.histogram()).reshape(3, 256).cumsum(1)
    first = below[np.arange(3), (below > 0).argmax(1)][:, None]  # pixels of the darkest value, which becomes 0
    table = (below - first) * (255 / np.maximum(below[:, -1:] - first, 1))
    return image.point(table.clip(0, 255).round().astype(int).ravel().tolist())


def invert(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return ImageOps.invert(image)


def posterize(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return ImageOps.posterize(image, 8 - round(4 * level))


def solarize(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return ImageOps.solarize(image, round(256 * (1 - level)))


def colour(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Color(image).enhance(1 + _signed(0.9 * level, rng))


def contrast(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(1 + _signed(0.9 * level, rng))


def brightness(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1 + _signed(0.9 * level, rng))


def sharpness(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(1 + _signed(0.9 * level, rng))


def gaussian_blur(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2 * level) * min(image.size) / 32))


def poisson_noise(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    light = np.asarray(image, dtype=np.float32)
    spread = np.float32(rng.uniform(0, 50 * level) / math.sqrt(255))
    noise = rng.standard_normal(light.shape, dtype=np.float32) * np.sqrt(light) * spread
    return Image.fromarray((light + noise).clip(0, 255).round().astype(np.uint8))


def _affine(
    image: Image.Image, size: tuple[int, int], back: tuple[float, ...], rng: np.random.Generator
) -> Image.Image:
    resample = Image.Resampling.BICUBIC if rng.random() < 0.5 else Image.Resampling.BILINEAR
    mean = image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    return image.transform(size, Image.Transform.AFFINE, back, resample, fillcolor=mean)


def _warp(image: Image.Image, a: float, b: float, c: float, d: float, rng: np.random.Generator) -> Image.Image:
    """(x, y) to (ax + by, cx + dy) on a canvas that holds the whole."""
    xs = [a * x + b * y for x in (0, image.width) for y in (0, image.height)]
    ys = [c * x + d * y for x in (0, image.width) for y in (0, image.height)]
    size = math.ceil(max(xs) - min(xs)), math.ceil(max(ys) - min(ys))
    det = a * d - b * c
    a, b, c, d = d / det, -b / det, -c / det, a / det  # Pillow asks where each pixel of the result comes from
    back = (a, b, a * min(xs) + b * min(ys), c, d, c * min(xs) + d * min(ys))
    return _affine(image, size, back, rng)


def rotate(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    angle = math.radians(_signed(30 * level, rng))
    return _warp(image, math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle), rng)


def shear_x(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return _warp(image, 1, _signed(0.9 * level, rng), 0, 1, rng)


def shear_y(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return _warp(image, 1, 0, _signed(0.3 * level, rng), 1, rng)


def translate_x(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return _affine(image, image.size, (1, 0, -_signed(0.1 * level * image.width, rng), 0, 1, 0), rng)


def translate_y(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return _affine(image, image.size, (1, 0, 0, 0, 1, -_signed(0.3 * level * image.height, rng)), rng)


OPERATIONS: tuple[Operation, ...] = (
    *(autocontrast, equalize, invert, posterize, solarize),
    *(colour, contrast, brightness, sharpness, gaussian_blur, poisson_noise),
    *(rotate, shear_x, shear_y, translate_x, translate_y),
)


def augment(
    image: Image.Image, rng: np.random.Generator, *, count: int = 3, level: float = 0.5, probability: float = 0.5
) -> Image.Image:
    chances, left = rng.random(2 * count), list(OPERATIONS)
    chosen = [left.pop(int(chance * len(left))) for chance in chances[:count]]
    for operation, chance in zip(chosen, chances[count:], strict=True):
        if chance < probability:
            image = operation(image, level, rng)
    return image


def decode(encoded: bytes) -> Image.Image:
    return Image.open(BytesIO(encoded)).convert('RGB')


def resize(image: Image.Image, height: int, width: int) -> Image.Image:
    return image.resize((width, height), Image.Resampling.BICUBIC)


def to_tensor(image: Image.Image) -> Tensor:
    """(3, H, W) in [-1, 1]."""
    planes = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
    return planes.float().div(255).sub(0.5).div(0.5)


class PlainDataset(Dataset):
    """The words of an LMDB, read one by one, each in a transaction of its own."""

    def __init__(self, root: str | Path, transform: Callable[[Image.Image], Any]) -> None:
        self.reader = LmdbReader(root)  # ours, since a process may open an LMDB only once
        self.transform = transform

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> tuple[Any, str]:
        encoded, label = self.record(index)
        return self.transform(decode(encoded)), label

    def record(self, index: int) -> tuple[bytes, str]:
        return self.reader.image(index + 1) or b'', self.reader.label(index + 1) or ''
