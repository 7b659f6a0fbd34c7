"""Encoded picture -> array for training: the common kinds by OpenCV, in a fraction of Pillow's time, others by Pillow.

What is not certain to look the same in both is left to Pillow, and so is what OpenCV cannot read. Only of a damaged
JPEG OpenCV may show what Pillow refuses, about one in a hundred.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np

from strhub.data.picture import MAX_PIXELS, open_image

cv2.setNumThreads(0)  # the pictures are small and the workers are the parallelism

PLAIN = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
# Chunks that do not change how Pillow shows a PNG; others may turn it, or make it transparent or an animation.
PNG_CHUNKS = {b'IHDR', b'IDAT', b'IEND', b'gAMA', b'cHRM', b'sRGB', b'iCCP', b'sBIT', b'pHYs', b'bKGD', b'tIME'}
JPEG_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive
JPEG_EXIF = 0xE1  # may say that the picture lies on its side
JPEG_SCAN = 0xDA  # what follows is not made of segments

Size = tuple[int, int]  # width, height


def open_pixels(source: bytes | str | Path, *, name: str = '', enough: Size | None = None) -> np.ndarray:
    """Decodes a picture as `open_image` does, to an array (height, width, 3) of bytes.

    Args:
        source: the encoded picture, or the path of one.
        name: what errors call it; the path by default.
        enough: width and height that do: a JPEG of at least twice that comes reduced, but not to less.

    Raises:
        UnreadablePictureError: one sentence, beginning with the name.
    """
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        if size := _png_size(data):
            factor = 1
        elif size := _jpeg_size(data):
            factor = _reduction(size, enough or size)
        if size and 0 < size[0] * size[1] <= MAX_PIXELS:
            flags = PLAIN if factor == 1 else REDUCED[factor] | PLAIN
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
            if pixels is not None:
                return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    except (OSError, IndexError, cv2.error):  # Pillow finds the words for it
        pass
    return np.array(open_image(source, name=name))  # a copy, for Pillow's own cannot be written to


def _reduction(size: Size, enough: Size) -> int:
    factor = min(size[0] // max(enough[0], 1), size[1] // max(enough[1], 1), 8)
    return 1 << (factor.bit_length() - 1) if factor > 1 else 1


def _png_size(data: bytes) -> Size | None:
    """Width and height of a whole PNG of 8 bits that is grey or RGB and plain; None for anything else."""
    if data[:8] != b'\x89PNG\r\n\x1a\n' or data[24] != 8 or data[25] not in (0, 2):
        return None
    at = 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], 'big')
        kind = data[at + 4 : at + 8]
        if kind not in PNG_CHUNKS or zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], 'big'):
            return None
        if kind == b'IEND':
            return int.from_bytes(data[16:20], 'big'), int.from_bytes(data[20:24], 'big')
        at = end
    return None


def _jpeg_size(data: bytes) -> Size | None:
    """Width and height of a JPEG of 8 bits that has an end, is grey or in colours and not turned; None for others."""
    if data[:2] != b'\xff\xd8' or b'\xff\xd9' not in data[-32:]:
        return None
    at, size = 2, None
    while data[at] == 0xFF:
        kind = data[at + 1]
        if kind == JPEG_SCAN:
            return size
        if kind == JPEG_EXIF or not 0xC0 <= kind <= 0xFE:
            return None
        if kind in JPEG_FRAMES:
            if data[at + 4] != 8 or data[at + 9] not in (1, 3):
                return None
            size = int.from_bytes(data[at + 7 : at + 9], 'big'), int.from_bytes(data[at + 5 : at + 7], 'big')
        at += 2 + int.from_bytes(data[at + 2 : at + 4], 'big')
    return None
