"""Draws one word as a camera might have seen it: layout, view, paint, light, lens, and whether it can still be read."""

from __future__ import annotations

import math
from functools import cache
from random import Random

import cv2
import numpy as np
from PIL import Image

from strhub.data.synth import camera, layout, paint
from strhub.data.synth.fonts import CAP_HEIGHT, Face, FontBook
from strhub.data.synth.words import WordSource

cv2.setNumThreads(0)  # the pictures are small and the workers are the parallelism

ATTEMPTS = 6  # at a readable picture; then a plain one
LEAST_HEIGHT = 7.0  # pixels of a capital
LEAST_CONTRAST = 24.0  # of 255, between the letters and what is next to them
LEAST_SEPARATION = 1.0  # the same in standard deviations


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
    for attempt in range(ATTEMPTS):
        pixels = _draw(label, face, rng, difficulty * (1 - attempt / ATTEMPTS), words)
        if pixels is not None:
            return Image.fromarray(pixels), label
    return Image.fromarray(_plain(label, face)), label


def _draw(label: str, face: Face, rng: Random, difficulty: float, words: WordSource) -> np.ndarray | None:
    """One attempt, uint8 RGB (h, w, 3); None if it cannot be read."""
    noise = np.random.default_rng(rng.getrandbits(64))
    mask = layout.set_line(
        face, label, tracking=_tracking(rng), wobble=0.03 if rng.random() < 0.05 * difficulty else 0, rng=rng
    )
    if len(label) > 2 and rng.random() < 0.15 * difficulty:
        mask = layout.bend(mask, rng.choice((1, 1, -1)) * rng.uniform(0.15, 1.0 + 0.8 * (rng.random() < 0.3)))
    line = layout.frame(mask)
    if rng.random() < 0.2 * difficulty:
        layout.add_neighbours(line, face, rng, [words.draw(rng) for _ in range(rng.randint(1, 2))])

    height = min(max(rng.lognormvariate(math.log(30), 0.45), 12), 80)  # of the whole line, in pixels
    capital = height * CAP_HEIGHT / (line.box[3] - line.box[1])
    if capital < LEAST_HEIGHT:
        height *= LEAST_HEIGHT / capital
        capital = LEAST_HEIGHT
    view = camera.look_at(line.box, height, rng, difficulty)
    ground, ink = paint.colour_pair(rng, 45 + 60 * (1 - difficulty))
    picture = paint.background(view.size, ground, rng, noise, difficulty)
    coverage = view.project(line.mask)
    picture = _ink(picture, line, view, coverage, ink, ground, rng, noise, difficulty)
    picture = paint.light(picture, rng, noise, difficulty)
    picture = camera.blur(picture, capital, rng, difficulty)
    pixels = camera.sense(picture, rng, noise, difficulty)
    return pixels if is_readable(pixels, coverage) else None


def _tracking(rng: Random) -> float:
    kind = rng.random()
    return rng.gauss(0, 0.02) if kind < 0.7 else rng.uniform(-0.06, 0.1) if kind < 0.9 else rng.uniform(0.1, 0.5)


def _ink(picture, line, view, coverage, ink, ground, rng, noise, difficulty):  # noqa: ANN001, ANN202
    if line.others is not None:
        picture = paint.lay(picture, view.project(line.others), ink)
    depth = CAP_HEIGHT * rng.uniform(0.03, 0.14)
    kind = rng.random() / max(difficulty, 1e-6)
    if kind < 0.14:  # a shadow
        shift = np.float32([[1, 0, rng.uniform(-1, 1) * depth], [0, 1, rng.uniform(0, 1) * depth]])
        shadow = cv2.warpAffine(line.mask, shift, line.mask.shape[::-1])
        if rng.random() < 0.6:
            shadow = cv2.GaussianBlur(shadow, (0, 0), rng.uniform(0.5, 3))
        dark = paint.some_colour(rng, rng.uniform(0, 50) if paint.luma(ink) > 90 or rng.random() < 0.5 else 230)
        picture = paint.lay(picture, view.project(shadow), dark, rng.uniform(0.4, 1))
    elif kind < 0.26:  # an outline
        width = 2 * round(depth / 2) + 1
        thick = cv2.dilate(line.mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
        value = paint.luma(ground)
        contrary = 255 - rng.uniform(0, 60) if paint.luma(ink) < 128 else rng.uniform(0, 60)
        edge = paint.some_colour(rng, contrary if rng.random() < 0.8 else value)
        picture = paint.lay(picture, view.project(thick), edge)
    elif kind < 0.30:  # letters that stand out from the wall
        dark = paint.with_luma(ink, paint.luma(ink) * rng.uniform(0.3, 0.7))
        dx, dy = rng.choice((-1, 1)) * rng.uniform(0.3, 1), rng.uniform(0.2, 1)
        solid = line.mask
        for step in range(1, 2 + int(depth)):
            moved = cv2.warpAffine(line.mask, np.float32([[1, 0, dx * step], [0, 1, dy * step]]), line.mask.shape[::-1])
            solid = np.maximum(solid, moved)
        picture = paint.lay(picture, view.project(solid), dark)
    paint_of = np.asarray(ink, np.float32)
    if rng.random() < 0.2 * difficulty:  # worn or shaded paint
        shade = paint.ramp(view.size, rng) if rng.random() < 0.5 else paint.clouds(view.size, noise, rng.uniform(2, 8))
        paint_of = paint_of + (shade * rng.uniform(5, 45))[..., None]
    return paint.lay(picture, coverage, paint_of, 1 if rng.random() < 0.9 else rng.uniform(0.7, 1))


def is_readable(pixels: np.ndarray, coverage: np.ndarray) -> bool:
    """Whether letters, float coverage (h, w), stand out from what is next to them in uint8 pixels (h, w, 3)."""
    letters = (coverage > 0.6).astype(np.uint8)
    near = cv2.dilate((coverage > 0.05).astype(np.uint8), np.ones((5, 5), np.uint8))
    ground = near - (coverage > 0.05).astype(np.uint8)
    if letters.sum() < 8 or ground.sum() < 8:
        return False
    ink_mean, ink_spread = cv2.meanStdDev(pixels, mask=letters)
    mean, spread = cv2.meanStdDev(pixels, mask=ground)
    contrast = np.abs(ink_mean - mean)
    return bool(
        contrast.max() >= LEAST_CONTRAST and (contrast / (ink_spread + spread + 1)).max() >= LEAST_SEPARATION / 2
    )


def _plain(label: str, face: Face) -> np.ndarray:
    """Black on white: the word that no attempt could show otherwise."""
    mask = cv2.copyMakeBorder(layout.set_line(face, label), 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=0)
    return np.repeat((255 - mask)[..., None], 3, axis=2)
