"""Encoded picture -> pixels: the one way in which data sets, converters and readers open pictures; without torch."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, ImageStat

MAX_PIXELS = 64_000_000  # 192 MB as RGB: a large photograph fits, a decompression bomb does not
# Formats that decode pictures and nothing else: PIL's EPS, for one, would start a PostScript interpreter.
FORMATS = ('JPEG', 'MPO', 'PNG', 'WEBP', 'BMP', 'GIF', 'TIFF', 'PPM', 'JPEG2000', 'AVIF', 'ICO', 'TGA')


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


def image_header(source: bytes | str | Path) -> tuple[str, tuple[int, int]] | None:
    """Format (one of FORMATS), width and height, before any turning; None if there is no readable header."""
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=_formats()) as image:
            return image.format or '', image.size
    except Exception:
        return None


def image_size(source: bytes | str | Path) -> tuple[int, int] | None:
    """Width and height, before any turning; None if there is no readable header."""
    header = image_header(source)
    return None if header is None else header[1]


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
