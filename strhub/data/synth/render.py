"""Draws one word as a camera might have seen it, and judges whether it can still be read."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import cv2
import numpy as np
from PIL import Image

from strhub.data.synth.compose import compose
from strhub.data.synth.fonts import FontBook
from strhub.data.synth.plan import Plan, plans
from strhub.data.synth.words import WordSource

LEAST_CONTRAST = 28.0  # of 255, between the letters and what is next to them
LEAST_SEPARATION = 0.6  # the same, in spreads of both
LETTER, TOUCHED = 150, 12  # coverage, of 255, above which a pixel is a letter, and is more than ground
BANDS = 4  # at most, side by side, to judge: one end of a word may vanish in a reflection
LEAST_INK = 4  # pixels of letters by which to judge
RING = np.ones((3, 5), np.uint8)  # how far around the letters to look, in every other row


def render_word(
    seed: int,
    index: int,
    *,
    difficulty: float = 1.0,
    words: WordSource | None = None,
    fonts: FontBook | None = None,
    vertical: float = 0.0,
) -> tuple[Image.Image, str]:
    """Draws the word number `index` of the endless series `seed`.

    The same arguments give the same picture in every process, on the same versions of NumPy, OpenCV and Pillow.

    Args:
        difficulty: 0 gives short words in plain letters on plain ground, 1 everything; between them a mixture.
        words: where labels come from; the vendored words and generators by default.
        fonts: faces to draw with; the vendored ones by default.
        vertical: share of the words, of those that can, which stand in a column; their pictures are tall.

    Returns:
        An RGB picture of the size that cropped words have (mostly 16 to 80 pixels high), and its label.
    """
    return paint(plans(seed, index, difficulty=difficulty, words=words, fonts=fonts, vertical=vertical))


def paint(attempts: Iterable[Plan]) -> tuple[Image.Image, str]:
    """The picture by the first plan that leaves the word readable, and its label."""
    for plan in attempts:
        pixels, coverage = compose(plan)
        if plan.is_certain or is_readable(pixels, coverage):
            break
    image = Image.frombuffer('RGB', plan.view.size, pixels, 'raw', 'RGB', 0, 1)
    return image.transpose(Image.Transpose.TRANSPOSE) if plan.is_column else image, plan.label


def is_readable(pixels: np.ndarray, coverage: np.ndarray) -> bool:
    """Whether letters, uint8 coverage (h, w), stand out all along the word in uint8 pixels (h, w, 3)."""
    height, width = coverage.shape
    pixels, coverage = pixels[::2], coverage[::2]  # a row says little that its neighbours do not
    letters = cv2.threshold(coverage, LETTER, 1, cv2.THRESH_BINARY)[1]
    touched = cv2.threshold(coverage, TOUCHED, 1, cv2.THRESH_BINARY)[1]
    ground = cv2.dilate(touched, RING) - touched
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    bands = min(max(width // height, 1), BANDS)
    edges = [band * width // bands for band in range(bands + 1)]
    is_seen = False
    for left, right in pairwise(edges):
        ink, around = letters[:, left:right], ground[:, left:right]
        if cv2.countNonZero(ink) < LEAST_INK:
            continue
        # Nearly always brightness tells; else letters may still differ in colour.
        if not _stands_out(grey[:, left:right], ink, around) and not _stands_out(pixels[:, left:right], ink, around):
            return False
        is_seen = True
    return is_seen


def _stands_out(pixels: np.ndarray, letters: np.ndarray, ground: np.ndarray) -> bool:
    (ink, ink_spread), (around, spread) = (
        [values.ravel().tolist() for values in cv2.meanStdDev(pixels, mask=mask)] for mask in (letters, ground)
    )
    contrast = [abs(a - b) for a, b in zip(ink, around, strict=True)]
    separation = (c / (a + b + 1) for c, a, b in zip(contrast, ink_spread, spread, strict=True))
    return max(contrast) >= LEAST_CONTRAST and max(separation) >= LEAST_SEPARATION
