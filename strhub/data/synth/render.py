"""Draws one word as a camera might have seen it: layout, view, paint, light, lens, and whether it can still be read."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise
from random import Random

import cv2
import numpy as np
from PIL import Image

from strhub.data.synth import camera, layout, paint
from strhub.data.synth.fonts import CAP_HEIGHT, Face, FontBook
from strhub.data.synth.paint import Colour
from strhub.data.synth.words import WordSource

cv2.setNumThreads(0)  # the pictures are small and the workers are the parallelism

ATTEMPTS = 6  # at a readable picture; then a plain one
EASE = 0.8  # by which pictures are at most easier than the difficulty says
LEAST_HEIGHT = 7.0  # pixels of a capital
LEAST_CONTRAST = 28.0  # of 255, between the letters and what is next to them
LEAST_SEPARATION = 0.6  # the same, in spreads of both
LEAST_INK = 8  # pixels of letters by which to judge


@cache
def _packed() -> tuple[WordSource, FontBook]:
    return WordSource(), FontBook()


def render_word(
    seed: int,
    index: int,
    *,
    difficulty: float = 1.0,
    words: WordSource | None = None,
    fonts: FontBook | None = None,
) -> tuple[Image.Image, str]:
    """Draws the word number `index` of the endless series `seed`.

    The same arguments give the same picture in every process, on the same versions of NumPy, OpenCV and Pillow.

    Args:
        difficulty: 0 gives short words in plain letters on plain ground, 1 everything; between them a mixture.
        words: where labels come from; the vendored words and generators by default.
        fonts: faces to draw with; the vendored ones by default.

    Returns:
        An RGB picture of the size that cropped words have (mostly 16 to 80 pixels high), and its label.
    """
    if not 0 <= difficulty <= 1:
        raise ValueError(f'difficulty is {difficulty}: expected 0 to 1')
    words, fonts = words or _packed()[0], fonts or _packed()[1]
    rng = Random((seed % 2**64) << 64 | index % 2**64)
    label = words.draw(rng, difficulty=difficulty)
    face = fonts.draw(rng, difficulty=difficulty)
    if face.caps_only and label != label.upper():
        if words.can_spell(label.upper()):
            label = label.upper()
        else:
            face = next((other for other in fonts.faces if not other.caps_only), face)
    # Of real words, too, many are printed cleanly and photographed well.
    effort = difficulty * (1 - EASE * rng.random() ** 2)
    for attempt in range(ATTEMPTS):
        pixels = _draw(label, face, rng, effort * (1 - attempt / ATTEMPTS), words)
        if pixels is not None:
            return Image.fromarray(pixels), label
    return Image.fromarray(_plain(label, face)), label


def _draw(label: str, face: Face, rng: Random, difficulty: float, words: WordSource) -> np.ndarray | None:
    """One attempt, uint8 RGB (h, w, 3); None if it cannot be read."""
    noise = np.random.default_rng(rng.getrandbits(64))
    line = _write(label, face, rng, difficulty, words)
    height = min(max(rng.lognormvariate(math.log(25), 0.45), 10), 64)  # of the whole line, in pixels
    line_height = line.box[3] - line.box[1]
    height = max(height, LEAST_HEIGHT * line_height / CAP_HEIGHT)
    view = camera.look_at(line.box, height, rng, difficulty)
    ground = paint.some_colour(rng)
    ink = paint.contrasting(ground, 45 + 75 * (1 - difficulty), rng)
    picture = paint.background(view.size, ground, rng, noise, difficulty)
    coverage = view.project(line.mask)
    if line.others is not None:
        picture = paint.lay(picture, view.project(line.others), ink)
    picture = _relief(picture, line.mask, view, ink, ground, rng, difficulty)
    picture = paint.lay(picture, coverage, _worn(ink, view.size, rng, noise, difficulty))
    picture = paint.light(picture, rng, noise, difficulty)
    picture = camera.blur(picture, height * CAP_HEIGHT / line_height, rng, difficulty)
    pixels = camera.sense(picture, rng, difficulty)
    return pixels if is_readable(pixels, coverage) else None


def _write(label: str, face: Face, rng: Random, difficulty: float, words: WordSource) -> layout.Line:
    kind = rng.random()
    spread = 0.02 if kind < 0.72 else 0.06 if kind < 0.9 else 0.0
    tracking = rng.gauss(0, spread) if spread else rng.uniform(0.1, 0.5)
    wobble = 0.03 if rng.random() < 0.05 * difficulty else 0.0
    mask = layout.set_line(face, label, tracking=tracking, wobble=wobble, rng=rng)
    if face.stroke < 0.2 and rng.random() < 0.2 * difficulty:  # bolder than the face is: paint runs, tubes glow
        mask = cv2.dilate(mask, np.ones((rng.randint(2, 4), rng.randint(2, 4)), np.uint8))
    if len(label) > 2 and rng.random() < 0.1 * difficulty:
        mask = layout.bend(mask, rng.choice((1, 1, -1)) * rng.uniform(0.15, 0.8 if rng.random() < 0.7 else 1.8))
    line = layout.frame(mask)
    if rng.random() < 0.2 * difficulty:
        layout.add_neighbours(line, face, rng, [words.draw(rng) for _ in range(rng.randint(1, 2))])
    return line


def _relief(
    picture: np.ndarray,
    mask: np.ndarray,
    view: camera.View,
    ink: Colour,
    ground: Colour,
    rng: Random,
    difficulty: float,
) -> np.ndarray:
    """What lies below the letters: a shadow, an outline, or the sides of solid ones; mostly nothing."""
    kind = rng.random()
    if kind > 0.28 * difficulty:
        return picture
    depth = CAP_HEIGHT * rng.uniform(0.03, 0.14)
    size = mask.shape[1], mask.shape[0]
    if kind < 0.12 * difficulty:
        shadow = cv2.warpAffine(mask, _shift(rng.uniform(-1, 1) * depth, rng.uniform(0.1, 1) * depth), size)
        if rng.random() < 0.6:
            shadow = cv2.GaussianBlur(shadow, (0, 0), rng.uniform(0.5, 3))
        below = ground if rng.random() < 0.6 else ink
        return paint.lay(picture, view.project(shadow), paint.shaded(below, rng.uniform(0, 0.5)), rng.uniform(0.4, 1))
    if kind < 0.23 * difficulty:
        width = 2 * round(depth / 2) + 1
        thick = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
        return paint.lay(picture, view.project(thick), paint.contrasting(ink, 70, rng))
    x, y = rng.choice((-1, 1)) * rng.uniform(0.3, 1), rng.uniform(0.2, 1)
    solid = mask
    for step in range(1, 2 + int(depth)):
        solid = cv2.max(solid, cv2.warpAffine(mask, _shift(x * step, y * step), size))
    return paint.lay(picture, view.project(solid), paint.shaded(ink, rng.uniform(0.3, 0.7)))


def _shift(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y]], np.float32)


def _worn(
    ink: Colour, size: paint.Size, rng: Random, noise: np.random.Generator, difficulty: float
) -> np.ndarray | Colour:
    """The ink, at times faded or shaded."""
    if rng.random() > 0.2 * difficulty:
        return ink
    shade = paint.ramp(size, rng) if rng.random() < 0.5 else paint.clouds(size, noise, rng.uniform(2, 8))
    return paint.plain(size, ink) + paint.wide(shade * np.float32(rng.uniform(5, 45)))


def is_readable(pixels: np.ndarray, coverage: np.ndarray) -> bool:
    """Whether letters, uint8 coverage (h, w), stand out all along the word in uint8 pixels (h, w, 3)."""
    letters = cv2.threshold(coverage, 150, 1, cv2.THRESH_BINARY)[1]
    touched = cv2.threshold(coverage, 12, 1, cv2.THRESH_BINARY)[1]
    ground = cv2.dilate(touched, np.ones((5, 5), np.uint8)) - touched
    height, width = coverage.shape
    bands = min(max(width // height, 1), 4)  # side by side: one end of a word may vanish in a reflection
    edges = [band * width // bands for band in range(bands + 1)]
    seen = [
        _stands_out(pixels[:, left:right], letters[:, left:right], ground[:, left:right])
        for left, right in pairwise(edges)
        if cv2.countNonZero(letters[:, left:right]) >= LEAST_INK
    ]
    return bool(seen) and all(seen)


def _stands_out(pixels: np.ndarray, letters: np.ndarray, ground: np.ndarray) -> bool:
    ink_mean, ink_spread = cv2.meanStdDev(pixels, mask=letters)
    ground_mean, ground_spread = cv2.meanStdDev(pixels, mask=ground)
    contrast = np.abs(ink_mean - ground_mean)
    separation = contrast / (ink_spread + ground_spread + 1)
    return bool(contrast.max() >= LEAST_CONTRAST and separation.max() >= LEAST_SEPARATION)


def _plain(label: str, face: Face) -> np.ndarray:
    """Black on white: the word that no attempt could show otherwise."""
    mask = cv2.copyMakeBorder(layout.set_line(face, label), 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=0)
    return np.repeat((255 - mask)[..., None], 3, axis=2)
