"""Encoded picture -> pixels: the one way in which data sets, converters and readers open pictures; without torch."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, ImageStat

MAX_PIXELS = 64_000_000  # 192 MB as RGB: a large photograph fits, a decompression bomb does not
# Of these all samples are decoded as 32 bits, in two copies: 19 to 24 bytes a pixel, where others take 3 to 14.
WIDE = {'JPEG2000': MAX_PIXELS // 2}
# A JPEG may come in any number of scans, each over all pixels for a few bytes; usual are 1 to 10.
MAX_SCANNED = 100 * MAX_PIXELS
MAX_REMARKS = 1_000_000  # bytes before the first frame of a GIF, which Pillow joins in time that grows by their square
BAND = 1_000_000  # pixels that are brought to 8 bits at once: in float64 a whole picture could be gigabytes
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
    most = MAX_PIXELS
    if source == b'':
        raise UnreadablePictureError(f'{name} is empty')
    try:
        with _stream(source) as stream, Image.open(_checked(stream), formats=_formats()) as image:
            most = WIDE.get(image.format or '', MAX_PIXELS)
            if image.width * image.height > most:
                raise Image.DecompressionBombError
            if image.format in ('JPEG', 'MPO') and is_endless(_all(stream), image.size):
                raise UnreadablePictureError(f'{name} is a JPEG of so many scans that it would take minutes to read')
            image.load()
            _turn_upright(image)
            return to_rgb(image)
    except UnreadablePictureError:
        raise
    except FileNotFoundError:
        raise UnreadablePictureError(f'{name} does not exist') from None
    except Image.UnidentifiedImageError:
        raise UnreadablePictureError(f'{name} is not a picture of a known format') from None
    except Image.DecompressionBombError:
        raise UnreadablePictureError(f'{name} has more than {most} pixels: make it smaller') from None
    except Exception as error:  # decoders raise whatever a damaged file leads them into
        reason = getattr(error, 'strerror', None) or ' '.join(str(error).split()) or type(error).__name__
        raise UnreadablePictureError(f'{name} cannot be read as a picture ({reason[:100]})') from None


def is_endless(jpeg: bytes, size: tuple[int, int]) -> bool:
    """Whether a JPEG has more scans than a picture of that size can need: of a few kilobytes they may take minutes."""
    return jpeg.count(b'\xff\xda') * size[0] * size[1] > MAX_SCANNED


def _stream(source: bytes | str | Path) -> BinaryIO:
    return BytesIO(source) if isinstance(source, bytes) else Path(source).open('rb')


def _all(stream: BinaryIO) -> bytes:
    stream.seek(0)
    return stream.read()


def _checked(stream: BinaryIO) -> BinaryIO:
    """The stream from its start, if it is not a GIF with more remarks than Pillow joins in a second."""
    head = stream.read(13)
    if head.startswith(b'GIF8') and len(head) == 13:
        stream.seek(3 << (head[10] & 7) + 1 if head[10] & 0x80 else 0, 1)  # over the palette
        while stream.read(1) == b'!' and stream.tell() < MAX_REMARKS:
            stream.seek(1, 1)
            while (length := stream.read(1)) > b'\0' and stream.tell() < MAX_REMARKS:
                stream.seek(length[0], 1)
        if stream.tell() >= MAX_REMARKS:
            raise ValueError('remarks of more than a megabyte')
    stream.seek(0)
    return stream


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
    values = np.asarray(image).reshape(-1)
    low, scale = 0.0, 1.0
    if image.mode == 'F':  # of no agreed range
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
        scale = 255 / (high - low or 1)
    elif image.mode.startswith('I;16') or values.max() > 255:
        scale = 1 / 257  # 65535 is white
    shown = np.empty(len(values), np.uint8)
    for at in range(0, len(values), BAND):
        band = (values[at : at + BAND].astype(np.float64) - low) * scale
        shown[at : at + BAND] = np.nan_to_num(band).clip(0, 255).round()
    return Image.fromarray(shown.reshape(image.height, image.width))


def _turn_upright(image: Image.Image) -> None:
    with suppress(Exception):  # a damaged tag says nothing about the pixels
        ImageOps.exif_transpose(image, in_place=True)
