"""A word's part of a picture, cut out along the axes where it lies along them, and turned upright where it does not."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from strhub.data.convert.base import Box, Polygon, Word
from strhub.data.picture import MAX_PIXELS

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
        points = word.polygon
    elif word.box is not None:
        left, top, right, bottom = word.box
        if right <= left or bottom <= top:
            raise UnusableError('box without area')
        points = _corners(left, top, right, bottom)
    else:
        return image
    if not all(math.isfinite(x) and math.isfinite(y) for x, y in points):
        raise UnusableError('coordinates that are no numbers')
    if word.as_stored:
        points = as_displayed(points, orientation, image.size)
    bounds = _bounds(points, image.size)
    if not (rectify and word.polygon is not None and len(points) == 4):
        return _cut_box(image, bounds)
    quad = _checked(points if word.ordered else level(points))
    turns = _quarter_turns(quad, bounds)
    if turns is None:
        return _rectified(image, quad, bounds)
    part, turn = _cut_box(image, bounds), TURNS[turns]
    return part if turn is None else part.transpose(turn)


def as_displayed(points: Polygon, orientation: int, size: tuple[int, int]) -> Polygon:
    """Where points of the stored picture are in the displayed one, whose size is given."""
    if orientation in (5, 6, 7, 8):  # the picture lies on its side
        points = tuple((y, x) for x, y in points)
    if orientation in (2, 3, 6, 7):
        points = tuple((size[0] - x, y) for x, y in points)
    if orientation in (3, 4, 7, 8):
        points = tuple((x, size[1] - y) for x, y in points)
    return points


def level(quad: Polygon) -> Polygon:
    """A quad whose first corner means nothing, clockwise and turned so that its text is as level as it can be."""
    ends = zip(quad, quad[1:] + quad[:1], strict=True)
    if sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in ends) < 0:  # twice the area, below 0 counter-clockwise
        quad = quad[::-1]
    return max((quad[i:] + quad[:i] for i in range(4)), key=lambda turned: _levelness(*turned))


def _levelness(*quad: tuple[float, float]) -> float:
    """From -1 to 1: how far the upper and lower sides of a quad point to the right."""
    upper_left, upper_right, lower_right, lower_left = quad
    x = upper_right[0] - upper_left[0] + lower_right[0] - lower_left[0]
    y = upper_right[1] - upper_left[1] + lower_right[1] - lower_left[1]
    return x / (math.hypot(x, y) or 1)


def _corners(left: float, top: float, right: float, bottom: float) -> Polygon:
    return (left, top), (right, top), (right, bottom), (left, bottom)


def _bounds(points: Polygon, size: tuple[int, int]) -> Box:
    """The bounding box; at least half of it lies in the picture, which bounds its size."""
    across, down = zip(*points, strict=True)
    left, top, right, bottom = min(across), min(down), max(across), max(down)
    if max(-left, -top, right, bottom) > FARTHEST:
        raise UnusableError('word outside the picture')
    area = (right - left) * (bottom - top)
    if area <= 0:
        raise UnusableError('box without area')
    seen = max(min(right, size[0]) - max(left, 0), 0) * max(min(bottom, size[1]) - max(top, 0), 0)
    if seen < area / 2:
        raise UnusableError('word outside the picture')
    return left, top, right, bottom


def _cut_box(image: Image.Image, bounds: Box) -> Image.Image:
    left, top, right, bottom = map(round, bounds)
    box = max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height)
    if box[0] >= box[2] or box[1] >= box[3]:
        raise UnusableError('box without area')
    return image.crop(box)


def _sides(quad: Polygon) -> list[tuple[float, float]]:
    return [(quad[i][0] - quad[i - 1][0], quad[i][1] - quad[i - 1][1]) for i in (1, 2, 3, 0)]


def _checked(quad: Polygon) -> Polygon:
    """The quad, clockwise; some sets let a few go round the other way."""
    sides = _sides(quad)
    # at each corner, the sine of how far the outline turns to the right
    turns = [
        (x * sides[i - 3][1] - y * sides[i - 3][0]) / ((math.hypot(x, y) * math.hypot(*sides[i - 3])) or math.inf)
        for i, (x, y) in enumerate(sides)
    ]
    if max(turns) < 0:
        return _checked((quad[0], quad[3], quad[2], quad[1]))
    if min(turns) < FLATTEST:
        raise UnusableError('quad whose sides cross or cave in, or whose corners fall together')
    return quad


def _quarter_turns(quad: Polygon, bounds: Box) -> int | None:
    """How often to turn the quad's box by 90 degrees counter-clockwise; None if it does not lie along the axes."""
    left, top, right, bottom = bounds
    slack = max(1, SLACK * min(right - left, bottom - top))
    corners = _corners(*bounds)
    for turns in range(4):
        pairs = zip(quad, corners[turns:] + corners[:turns], strict=True)
        if all(abs(x - corner_x) <= slack and abs(y - corner_y) <= slack for (x, y), (corner_x, corner_y) in pairs):
            return turns
    return None


def _rectified(image: Image.Image, quad: Polygon, bounds: Box) -> Image.Image:
    import cv2

    lengths = [math.hypot(*side) for side in _sides(quad)]
    width, height = (max(round(max(lengths[i], lengths[i + 2])), 1) for i in (0, 1))
    left, top, right, bottom = bounds
    low = max(math.floor(left) - MARGIN, 0), max(math.floor(top) - MARGIN, 0)
    high = min(math.ceil(right) + MARGIN, image.width), min(math.ceil(bottom) + MARGIN, image.height)
    if max(width, height, high[0] - low[0], high[1] - low[1]) > LONGEST:
        raise UnusableError(f'word longer than {LONGEST} pixels')
    if width * height > MAX_PIXELS:  # the four sides of a thin quad may all be long
        raise UnusableError(f'word of more than {MAX_PIXELS} pixels')
    region = np.asarray(image.crop((*low, *high)))
    # Corners are corners of pixels, where OpenCV counts from their centres.
    source = np.array([(x - low[0] - 0.5, y - low[1] - 0.5) for x, y in quad], dtype=np.float32)
    target = np.array(_corners(-0.5, -0.5, width - 0.5, height - 0.5), dtype=np.float32)
    warp = cv2.getPerspectiveTransform(source, target)
    flat = cv2.warpPerspective(region, warp, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return Image.fromarray(flat)
