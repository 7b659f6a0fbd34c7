"""Picture -> tensor: the one transform that training, test and reading share; strhub.data.picture opens pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from strhub.data.picture import open_image
from strhub.data.planes import to_floats, to_planes, turned

# Of the size to come, what is left of a JPEG that is decoded reduced: 2 grey levels are then between it and the whole
# one, on average; with 1 it would be 3, with 2 it would be 1.5 and pay half as often.
DETAIL = 1.5


class WordTransform:
    """Picture -> (3, H, W) float in [-1, 1]: turn (option), augment (option), resize bicubic, scale.

    Without augmentation the numbers are exactly those of torchvision's Resize, ToTensor and Normalize(0.5, 0.5).
    """

    def __init__(self, img_size: Sequence[int], *, augment: bool = False, rotation: float = 0) -> None:
        if len(img_size) != 2 or min(img_size) < 1:
            raise ValueError(f'img_size is {list(img_size)}: expected [height, width] in pixels, e.g. [32, 128]')
        self.height, self.width = (int(side) for side in img_size)
        self.rotation = rotation
        self.augment = None
        if augment:
            from strhub.data.augment import RandAugment  # of OpenCV, which reading does without

            self.augment = RandAugment()

    def open(self, source: bytes | str | Path, *, name: str = '') -> Image.Image | np.ndarray:
        """Decodes a picture for this transform: by `open_image`, or faster where augmentation hides the difference.

        Raises:
            UnreadablePictureError: one sentence, beginning with the name.
        """
        if self.augment is None or self.rotation:
            return open_image(source, name=name)
        from strhub.data.pixels import open_pixels

        return open_pixels(source, name=name, enough=(int(DETAIL * self.width), int(DETAIL * self.height)))

    def __call__(self, image: Image.Image | np.ndarray, rng: np.random.Generator | None = None) -> Tensor:
        """Transforms a picture, or what `open` made of it.

        Args:
            image: of any mode; an array is RGB, (h, w, 3) bytes.
            rng: where augmentation takes its randomness from (default: a fresh one).
        """
        return self.together([image], [rng or np.random.default_rng()])[0]

    def together(
        self, images: Sequence[Image.Image | np.ndarray], rngs: Iterable[np.random.Generator]
    ) -> Sequence[Tensor]:
        """`self(image, rng)` of each, which is quicker; a generator is asked for when the one before has been used."""
        size = self.height, self.width
        if self.augment is not None:
            turn = self.rotation
            pixels = [image if isinstance(image, np.ndarray) else np.array(turned(image, turn)) for image in images]
            planes = self.augment.resized(pixels, size, rngs)
        else:
            pictures = (Image.fromarray(image) if isinstance(image, np.ndarray) else image for image in images)
            planes = [to_planes(picture, size, rotation=self.rotation) for picture in pictures]
        return to_tensor(np.stack(planes)).unbind()


def to_tensor(planes: np.ndarray) -> Tensor:
    """Bytes -> float in [-1, 1]."""
    return torch.from_numpy(to_floats(planes))


def get_transform(img_size: Sequence[int], augment: bool = False, rotation: float = 0) -> WordTransform:
    """The transform of a network with pictures of `img_size` (height, width).

    Args:
        img_size: height and width in pixels.
        augment: RandAugment for words, in training.
        rotation: degrees by which each picture is turned counter-clockwise first; the whole of it is kept.
    """
    return WordTransform(img_size, augment=augment, rotation=rotation)
