"""Encoded picture -> array for training: the common kinds by OpenCV, in a fraction of Pillow's time, others by Pillow.

What is not certain to look the same in both is left to Pillow, and so is what OpenCV cannot read. Only of a damaged
JPEG OpenCV may show what Pillow refuses, about one in a hundred.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from strhub.data.picture import MAX_PIXELS, is_endless, open_image

cv2.setNumThreads(0)  # the pictures are small and the workers are the parallelism

PLAIN = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
REDUCED = {1: 0, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
PNG_NEEDED = {b'IHDR', b'IDAT', b'IEND'}
# These do not change how Pillow shows a PNG; others may turn it, or make it transparent or an animation.
PNG_SPARED = {b'gAMA', b'cHRM', b'sRGB', b'iCCP', b'sBIT', b'pHYs', b'bKGD', b'tIME'}
JPEG_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive
JPEG_EXIF = 0xE1  # may say that the picture lies on its side
JPEG_SCAN = 0xDA  # what follows is not made of segments

Size = tuple[int, int]  # width, height

NOWHERE = os.open(os.devnull, os.O_WRONLY)  # once: to open it takes as long as all else about silence
_one_at_a_time = threading.Lock()  # or a second thread would take the silence of the first for the state to go back to


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
        plain, size, flags = _plain_png(data), _jpeg_size(data), PLAIN
        if plain:
            size = int.from_bytes(data[16:20], 'big'), int.from_bytes(data[20:24], 'big')
        elif size and not is_endless(data, size):
            plain, flags = data, PLAIN | REDUCED[_reduction(size, enough or size)]
        if plain and size and 0 < size[0] * size[1] <= MAX_PIXELS:
            with _silent_decoders():
                pixels = cv2.imdecode(np.frombuffer(plain, np.uint8), flags)
            if pixels is not None:
                return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    except (OSError, IndexError, cv2.error):  # Pillow finds the words for it
        pass
    return np.array(open_image(source, name=name))  # a copy, for Pillow's own cannot be written to


@contextmanager
def _silent_decoders() -> Iterator[None]:
    """libjpeg and libpng tell the terminal itself of damage and not in which picture; under Pillow they are silent."""
    with _one_at_a_time:
        terminal = os.dup(2)
        try:
            os.dup2(NOWHERE, 2)
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _reduction(size: Size, enough: Size) -> int:
    factor = min(size[0] // max(enough[0], 1), size[1] // max(enough[1], 1), 8)
    return 1 << (factor.bit_length() - 1) if factor > 1 else 1


def _plain_png(data: bytes) -> bytes | None:
    """A whole PNG of 8 bits that is grey or RGB and plain, without the chunks that OpenCV has no need of.

    libpng would complain of colour profiles on the terminal. None for anything else.
    """
    if data[:8] != b'\x89PNG\r\n\x1a\n' or data[24] != 8 or data[25] not in (0, 2):
        return None
    at, kept, dropped = 8, [data[:8]], False
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], 'big')
        kind = data[at + 4 : at + 8]
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], 'big'):
            return None
        if kind in PNG_NEEDED:
            kept.append(data[at:end])
        elif kind in PNG_SPARED:
            dropped = True
        else:
            return None
        if kind == b'IEND':
            return b''.join(kept) if dropped else data
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
