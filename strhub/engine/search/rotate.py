"""A picture is read in several positions, and the reading with the highest confidence is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from strhub.data.steady import SteadyLoader, word_datasets
from strhub.data.transforms import WordTransform, get_transform
from strhub.engine.search.options import ReadingOptions


class Rotations:
    """Picture -> (R, 3, H, W): the picture in each of R positions, as `WordTransform` has it in one.

    Words are wide: a position in which the picture is taller than wide is not tried, unless the picture came in it, or
    there is no other. It is NaN.

    Args:
        rotations: degrees, counter-clockwise.
        rotation: by which every picture is turned besides.
    """

    def __init__(self, img_size: Sequence[int], rotations: Sequence[float], *, rotation: float = 0) -> None:
        self.img_size, self.rotations, self.rotation = tuple(img_size), tuple(rotations), rotation
        self.transforms = [get_transform(img_size, rotation=rotation + one) for one in rotations]

    def open(self, source: bytes | str | Path, *, name: str = '') -> Any:
        return self.transforms[0].open(source, name=name)

    def __call__(self, image: Image.Image | np.ndarray, rng: np.random.Generator | None = None) -> Tensor:
        width, height = image.size if isinstance(image, Image.Image) else image.shape[1::-1]
        nothing = torch.full((3, *self.img_size), torch.nan)
        tried = [self._is_tried(rotation, width, height) for rotation in self.rotations]
        pairs = zip(self.transforms, tried, strict=True)
        return torch.stack([t(image) if is_tried or not any(tried) else nothing for t, is_tried in pairs])

    def _is_tried(self, rotation: float, width: int, height: int) -> bool:
        if rotation % 360 == 0:
            return True
        lies = (rotation + self.rotation) % 180 == 90
        stands = (rotation + self.rotation) % 180 == 0
        return not (lies and width > height) and not (stands and height > width)

    def together(self, images: Sequence[Any], rngs: Iterable[np.random.Generator]) -> Sequence[Tensor]:
        return [self(image) for image in images]


def transform_for(
    img_size: Sequence[int], options: ReadingOptions | None, *, rotation: float = 0
) -> WordTransform | Rotations:
    """What makes pictures into what is read with these options."""
    if options is not None and options.rotations:
        return Rotations(img_size, options.rotations, rotation=rotation)
    return get_transform(img_size, rotation=rotation)


def turn(
    loaders: Mapping[str, SteadyLoader], img_size: Sequence[int], options: ReadingOptions, *, rotation: float = 0
) -> None:
    """Has loaders that were not yet asked give their pictures as they are read with these options."""
    for loader in loaders.values():
        for words in word_datasets(loader.dataset):
            words.transform = transform_for(img_size, options, rotation=rotation)
