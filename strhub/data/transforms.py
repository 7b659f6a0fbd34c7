"""Picture -> tensor: the one transform that training, test and reading share; strhub.data.picture opens pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from strhub.data.augment import RandAugment
from strhub.data.picture import MAX_PIXELS, UnreadablePictureError, image_size, open_image, to_rgb

__all__ = [
    'MAX_PIXELS',
    'UnreadablePictureError',
    'WordTransform',
    'get_transform',
    'image_size',
    'open_image',
    'to_rgb',
]

MAX_SIDE = 4096  # of a picture to be turned or sheared: a strip of 60000 x 10 would become a square of gigabytes

# 0...255 -> [-1, 1] by the very operations of torchvision; looking a pixel up costs a third of computing it
SCALED = torch.arange(256, dtype=torch.float32).div(255).sub(0.5).div(0.5).numpy()


class WordTransform:
    """Picture -> (3, H, W) float in [-1, 1]: augment (option), turn (option), resize bicubic, scale.

    Without augmentation the numbers are exactly those of torchvision's Resize, ToTensor and Normalize(0.5, 0.5).
    """

    def __init__(self, img_size: Sequence[int], *, augment: bool = False, rotation: float = 0) -> None:
        if len(img_size) != 2 or min(img_size) < 1:
            raise ValueError(f'img_size is {list(img_size)}: expected [height, width] in pixels, e.g. [32, 128]')
        self.height, self.width = (int(side) for side in img_size)
        self.rotation = rotation
        self.augment = RandAugment() if augment else None

    def __call__(self, image: Image.Image, rng: np.random.Generator | None = None) -> Tensor:
        """Transforms a picture; `rng` is where augmentation takes its randomness from (default: a fresh one)."""
        image = to_rgb(image)
        if (self.augment is not None or self.rotation) and max(image.size) > MAX_SIDE:
            image = image.reduce(-(-max(image.size) // MAX_SIDE))
        if self.augment is not None:
            # A photograph's detail does not survive the resize below, yet each operation would have to carry it.
            factor = min(image.width // (2 * self.width), image.height // (2 * self.height))
            image = self.augment(image.reduce(factor) if factor > 1 else image, rng or np.random.default_rng())
        if self.rotation:
            image = image.rotate(self.rotation, expand=True)
        image = image.resize((self.width, self.height), Image.Resampling.BICUBIC)
        planes = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
        return torch.from_numpy(SCALED.take(planes))


def get_transform(img_size: Sequence[int], augment: bool = False, rotation: float = 0) -> WordTransform:
    """The transform of a network with pictures of `img_size` (height, width).

    Args:
        img_size: height and width in pixels.
        augment: RandAugment for text, in training.
        rotation: degrees by which each picture is turned counter-clockwise first; the whole of it is kept.
    """
    return WordTransform(img_size, augment=augment, rotation=rotation)
