"""Picture -> the numbers that a network sees; without torch, for what reads without it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from strhub.data.picture import to_rgb

MAX_SIDE = 4096  # of a picture to be turned: a strip of 60000 x 10 would become a square of gigabytes
# 0...255 -> [-1, 1] by the very operations of torchvision; looking a pixel up costs a third of computing it
SCALED = (np.arange(256, dtype=np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)


def to_planes(image: Image.Image, size: Sequence[int], *, rotation: float = 0) -> np.ndarray:
    """Turns a picture of any mode counter-clockwise, keeping the whole of it, and resizes it: (3, H, W) bytes.

    Args:
        image: of any mode.
        size: height and width.
        rotation: degrees.
    """
    height, width = size
    return np.asarray(turned(image, rotation).resize((width, height), Image.Resampling.BICUBIC)).transpose(2, 0, 1)


def turned(image: Image.Image, rotation: float) -> Image.Image:
    """RGB, turned by so many degrees."""
    image = to_rgb(image)
    if not rotation:
        return image
    if max(image.size) > MAX_SIDE:
        image = image.reduce(-(-max(image.size) // MAX_SIDE))
    return image.rotate(rotation, expand=True)


def to_floats(planes: np.ndarray) -> np.ndarray:
    """Bytes -> float32 in [-1, 1]."""
    return SCALED.take(planes)
