"""Pictures as people have them -> RGB: names of files, encoded bytes, PIL images, arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TypeGuard

import numpy as np
from PIL import Image

from strhub.data.picture import UnreadablePictureError, open_image, to_rgb

Picture = str | Path | bytes | Image.Image | np.ndarray

ACCEPTED = 'give the name of a file, its bytes, a PIL image, or an array (H, W), (H, W, 3) or (H, W, 4)'
MODES = {1: 'L', 3: 'RGB', 4: 'RGBA'}  # by the number of channels


def is_one(images: object) -> TypeGuard[Picture]:
    """Whether this is a picture rather than many; an array of four axes is many."""
    return isinstance(images, Picture) and not (isinstance(images, np.ndarray) and images.ndim == 4)


def to_image(picture: Picture, *, name: str) -> Image.Image:
    """Opens a picture, RGB; from a file or bytes it comes upright, as its EXIF data say.

    Args:
        picture: an array has bytes, or floats in [0, 1].
        name: what errors call it, unless it is a file.

    Raises:
        UnreadablePictureError: one sentence, beginning with the name.
    """
    if isinstance(picture, str | Path):
        return open_image(picture)
    if isinstance(picture, bytes):
        return open_image(picture, name=name)
    if isinstance(picture, np.ndarray):
        return to_rgb(_from_array(picture, name))
    if not isinstance(picture, Image.Image):
        raise UnreadablePictureError(f'{name} is of type {type(picture).__name__}: {ACCEPTED}')
    if 0 in picture.size:
        raise UnreadablePictureError(f'{name} has no pixels ({picture.width} x {picture.height})')
    try:
        picture.load()  # which PIL.Image.open has not done
        return to_rgb(picture)
    except Exception as error:  # decoders raise whatever a damaged file leads them into
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise UnreadablePictureError(f'{name} cannot be read as a picture ({reason[:100]})') from None


def _from_array(pixels: np.ndarray, name: str) -> Image.Image:
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    if planes.ndim != 3 or planes.shape[2] not in MODES:
        raise UnreadablePictureError(f'{name} is an array of shape {pixels.shape}: {ACCEPTED}')
    if 0 in planes.shape:
        raise UnreadablePictureError(f'{name} is an array without pixels, of shape {pixels.shape}')
    if planes.dtype.kind == 'f':
        low, high = planes.min(), planes.max()
        if not (low >= 0 and high <= 1):  # nor NaN
            raise UnreadablePictureError(
                f'{name} has floats from {low:g} to {high:g}: give floats in [0, 1], or bytes (uint8)'
            )
        planes = (planes * 255).round().astype(np.uint8)
    if planes.dtype != np.uint8:
        raise UnreadablePictureError(f'{name} is an array of {pixels.dtype}: give bytes (uint8), or floats in [0, 1]')
    return Image.fromarray(np.ascontiguousarray(planes[..., 0] if planes.shape[2] == 1 else planes))
