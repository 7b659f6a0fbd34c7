"""A word's part of a picture, cut out along the axes where it lies along them, and turned upright where it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from strhub.data.convert.base import Word

Points = NDArray[np.float64]  # (corners, 2)

SLACK = 0.08  # of a quad's shorter side: corners that close to those of its bounding box are meant to be there
FLATTEST = 0.05  # sine of a quad's corner: with a flatter one it is a triangle, and its perspective nonsense
MARGIN = 3  # pixels around a quad that interpolation looks at
FARTHEST = 1e6  # a coordinate beyond it is none
LONGEST = 32_000  # pixels of a side: OpenCV counts in 16 bits
TURNS = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)


class UnusableError(ValueError):
    """There is no picture of the word; the message is the reason under which it is counted."""


def cut(image: Image.Image, word: Word, *, orientation: int = 1, rectify: bool = True) -> Image.Image:
    """The part of `image` that shows `word`; the whole of it if the word names no part.

    A box, a polygon, and a quad nearly along the axes are cut out as their bounding box, without a loss; such a quad is
    turned by 90 degrees as often as its first corner says. Any other quad is rectified to the lengths of its sides.

    Args:
        image: as it is displayed.
        orientation: the EXIF orientation that brought it there, 1 ... 8.
        rectify: False: quads, too, are cut out as their bounding box, and not turned.

    Raises:
        UnusableError: the coordinates are no numbers, enclose nothing, or lie outside the picture.
    """
    if word.polygon is not None:
        points = np.array(word.polygon, dtype=np.float64)
    elif word.box is not None:
        left, top, right, bottom = word.box
        if right <= left or bottom <= top:
            raise UnusableError('box without area')
        points = _corners(left, top, right, bottom)
    else:
        return image
    if not np.isfinite(points).all():
        raise UnusableError('coordinates that are no numbers')
    if word.as_stored:
        points = as_displayed(points, orientation, image.size)
    bounds = _bounds(points, image.size)
    if not (rectify and word.polygon is not None and len(points) == 4):
        return _cut_box(image, bounds)
    quad = _checked(points)
    turns = _quarter_turns(quad, bounds)
    if turns is None:
        return _rectified(image, quad)
    part, turn = _cut_box(image, bounds), TURNS[turns]
    return part if turn is None else part.transpose(turn)


def as_displayed(points: Points, orientation: int, size: tuple[int, int]) -> Points:
    """Where points of the stored picture are in the displayed one, whose size is given."""
    x, y = points.T
    width, height = size
    places = {
        2: (width - x, y),
        3: (width - x, height - y),
        4: (x, height - y),
        5: (y, x),
        6: (width - y, x),
        7: (width - y, height - x),
        8: (y, height - x),
    }
    return np.stack(places.get(orientation, (x, y)), axis=1)


def _corners(left: float, top: float, right: float, bottom: float) -> Points:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=np.float64)


def _bounds(points: Points, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The bounding box; at least half of it lies in the picture, which bounds its size."""
    if np.abs(points).max() > FARTHEST:
        raise UnusableError('word outside the picture')
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    area = (right - left) * (bottom - top)
    if area <= 0:
        raise UnusableError('box without area')
    seen = max(min(right, size[0]) - max(left, 0), 0) * max(min(bottom, size[1]) - max(top, 0), 0)
    if seen < area / 2:
        raise UnusableError('word outside the picture')
    return left, top, right, bottom


def _cut_box(image: Image.Image, bounds: tuple[float, float, float, float]) -> Image.Image:
    left, top, right, bottom = map(round, bounds)
    box = max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height)
    if box[0] >= box[2] or box[1] >= box[3]:
        raise UnusableError('box without area')
    return image.crop(box)


def _checked(quad: Points) -> Points:
    """The quad, clockwise; some sets let a few go round the other way."""
    sides = np.roll(quad, -1, axis=0) - quad
    x, y = quad.T
    if x @ np.roll(y, -1) < y @ np.roll(x, -1):  # twice the area, less than nothing
        return _checked(quad[[0, 3, 2, 1]])
    following = np.roll(sides, -1, axis=0)
    turning = sides[:, 0] * following[:, 1] - sides[:, 1] * following[:, 0]
    lengths = np.hypot(*sides.T)
    if (turning <= FLATTEST * lengths * np.roll(lengths, -1)).any():
        raise UnusableError('quad that is none: it crosses itself, caves in, or has corners that fall together')
    return quad


def _quarter_turns(quad: Points, bounds: tuple[float, float, float, float]) -> int | None:
    """How often to turn the quad's box by 90 degrees counter-clockwise; None if it does not lie along the axes."""
    left, top, right, bottom = bounds
    slack = max(1, SLACK * min(right - left, bottom - top))
    corners = _corners(*bounds)
    for turns in range(4):
        if np.abs(quad - np.roll(corners, -turns, axis=0)).max() <= slack:
            return turns
    return None


def _rectified(image: Image.Image, quad: Points) -> Image.Image:
    import cv2

    lengths = np.hypot(*(np.roll(quad, -1, axis=0) - quad).T)
    width, height = (max(round(float(max(lengths[i], lengths[i + 2]))), 1) for i in (0, 1))
    low = np.maximum(np.floor(quad.min(axis=0)).astype(int) - MARGIN, 0)
    high = np.minimum(np.ceil(quad.max(axis=0)).astype(int) + MARGIN, image.size)
    if max(width, height, *(high - low)) > LONGEST:
        raise UnusableError(f'word longer than {LONGEST} pixels')
    region: NDArray[Any] = np.asarray(image.crop((*low.tolist(), *high.tolist())))
    # Corners are corners of pixels, where OpenCV counts from their centres.
    source = (quad - low - 0.5).astype(np.float32)
    target = (_corners(0, 0, width, height) - 0.5).astype(np.float32)
    warp = cv2.getPerspectiveTransform(source, target)
    flat = cv2.warpPerspective(region, warp, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return Image.fromarray(flat)
