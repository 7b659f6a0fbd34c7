"""Picture -> tensor: the opening and the one transform that training, test and reading share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, ImageStat
from torch import Tensor

from strhub.data.augment import RandAugment

MAX_PIXELS = 64_000_000  # 192 MB as RGB: a large photograph fits, a decompression bomb does not
MAX_SIDE = 4096  # of a picture to be turned or sheared: a strip of 60000 x 10 would become a square of gigabytes
# Formats that decode pictures and nothing else: PIL's EPS, for one, would start a PostScript interpreter.
FORMATS = ('JPEG', 'MPO', 'PNG', 'WEBP', 'BMP', 'GIF', 'TIFF', 'PPM', 'JPEG2000', 'AVIF', 'ICO', 'TGA')


# 0...255 -> [-1, 1] by the very operations of torchvision; looking a pixel up costs a third of computing it
SCALED = torch.arange(256, dtype=torch.float32).div(255).sub(0.5).div(0.5).numpy()


class UnreadablePictureError(ValueError):
    """The file is missing, is not a picture, is damaged, or is too large; the message says which."""


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def open_image(source: bytes | str | Path, *, name: str = '') -> Image.Image:
    """Decodes a picture, upright and RGB, whatever its mode: grey, 16-bit, CMYK, palette, transparent, animated.

    Args:
        source: the encoded picture, or the path of one.
        name: what errors call it; the path by default.

    Raises:
        UnreadablePictureError: one sentence, beginning with the name.
    """
    name = name or ('the picture' if isinstance(source, bytes) else str(source))
    if isinstance(source, bytes):
        if not source:
            raise UnreadablePictureError(f'{name} is empty')
        stream: BytesIO | Path = BytesIO(source)
    else:
        stream = Path(source)
    try:
        with Image.open(stream, formats=_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image.load()
            _turn_upright(image)
            return to_rgb(image)
    except FileNotFoundError:
        raise UnreadablePictureError(f'{name} does not exist') from None
    except Image.UnidentifiedImageError:
        raise UnreadablePictureError(f'{name} is not a picture of a known format') from None
    except Image.DecompressionBombError:
        raise UnreadablePictureError(f'{name} has more than {MAX_PIXELS} pixels: make it smaller') from None
    except Exception as error:  # decoders raise whatever a damaged file leads them into
        reason = getattr(error, 'strerror', None) or ' '.join(str(error).split()) or type(error).__name__
        raise UnreadablePictureError(f'{name} cannot be read as a picture ({reason[:100]})') from None


def image_size(source: bytes | str | Path) -> tuple[int, int] | None:
    """Width and height from the header alone, before any turning; None if there is no readable header."""
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=_formats()) as image:
            return image.size
    except Exception:
        return None


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts any mode to RGB; what is transparent shows black behind bright ink and white behind dark ink."""
    if image.mode == 'RGB' and 'transparency' not in image.info:
        return image
    if image.mode.startswith('I') or image.mode == 'F':
        image = _to_8_bit(image)
    if not image.has_transparency_data:
        return image.convert('RGB')
    image = image.convert('RGBA')
    alpha = image.getchannel('A')
    if alpha.getextrema() == (255, 255):
        return image.convert('RGB')
    ink = ImageStat.Stat(image.convert('L'), alpha.point(lambda a: 255 if a > 127 else 0))
    backdrop = Image.new('RGB', image.size, 'black' if ink.count[0] and ink.mean[0] > 127 else 'white')
    backdrop.paste(image, mask=alpha)
    return backdrop


def _to_8_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    if image.mode == 'F':  # of no agreed range
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        values = np.nan_to_num((values - low) * (255 / (high - low or 1)))
    elif image.mode.startswith('I;16') or values.max() > 255:
        values = values / 257  # 65535 is white
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))


def _turn_upright(image: Image.Image) -> None:
    with suppress(Exception):  # a damaged tag says nothing about the pixels
        ImageOps.exif_transpose(image, in_place=True)


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
