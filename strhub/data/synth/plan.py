"""All that is chosen at random for one word, before anything is painted: what painters, by the word or batch, share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import NamedTuple

import cv2
import numpy as np

from strhub.data.synth import camera, layout, paint
from strhub.data.synth.camera import Lens, Point, Sensor, View
from strhub.data.synth.fonts import CAP_HEIGHT, Face, FontBook
from strhub.data.synth.paint import Colour, Field, Ground, Light
from strhub.data.synth.scripts import density
from strhub.data.synth.words import WordSource

MAX_REDRAWS = 100  # for a word that a font can draw
ATTEMPTS = 6  # at a readable picture; then a plain one
EASE = 0.8  # by which pictures are at most easier than the difficulty says
LEAST_HEIGHT = 7.0  # pixels of a capital
ROOM = CAP_HEIGHT // 2  # around letters, for outlines and shadows


@dataclass
class Layer:
    """Paint of one colour where there is coverage, uint8 (h, w), which lies at `origin` in the plane of the word."""

    mask: np.ndarray
    colour: Colour
    opacity: float = 1.0
    origin: Point = (0, 0)


@dataclass
class Plan:
    """How to paint a word, from the back to the front and from the wall to the file."""

    label: str
    view: View
    ground: Ground
    layers: list[Layer]  # the last one is the word itself
    wear: tuple[Field, float] | None = None  # of the word's paint: adds the field times the number
    light: Light = field(default_factory=Light)
    lens: Lens = field(default_factory=Lens)
    sensor: Sensor = field(default_factory=Sensor)
    is_certain: bool = False  # readable without a look at it
    is_column: bool = False  # from top to bottom: painted as a line from left to right, then mirrored at the diagonal


class Draft(NamedTuple):
    """A word of a data set that is painted later, with others: its first plan, and its key if it needs another."""

    plan: Plan
    key: int


@cache
def _packed() -> tuple[WordSource, FontBook]:
    return WordSource(), FontBook()


def plans(
    seed: int,
    index: int,
    *,
    difficulty: float = 1.0,
    words: WordSource | None = None,
    fonts: FontBook | None = None,
    vertical: float = 0.0,
) -> Iterator[Plan]:
    """Attempts at the word number `index` of the series `seed`, each plainer; of the last one readers can be certain.

    Args:
        difficulty: 0 gives short words in plain letters on plain ground, 1 everything; between them a mixture.
        words: where labels come from; the vendored words and generators by default.
        fonts: faces to draw with; the vendored ones by default.
        vertical: share of the words, of those that can, which stand in a column.
    """
    if not 0 <= difficulty <= 1:
        raise ValueError(f'difficulty is {difficulty}: expected 0 to 1')
    words, fonts = words or _packed()[0], fonts or _packed()[1]
    rng = Random((seed % 2**64) << 64 | index % 2**64)
    label, face = choose(words, fonts, rng, difficulty)
    if face.caps_only and label != label.upper():
        if words.can_spell(label.upper()):
            label = label.upper()
        else:
            face = next((other for other in fonts.faces if not other.caps_only), face)
    is_column = vertical > 0 and rng.random() < vertical and layout.can_stand(face, label)
    # Of real words, too, many are printed cleanly and photographed well.
    effort = difficulty * (1 - EASE * rng.random() ** 2)
    for attempt in range(ATTEMPTS):
        yield _plan(label, face, rng, effort * (1 - attempt / ATTEMPTS), words, is_column)
    yield _plain(label, face, is_column)


def choose(words: WordSource, fonts: FontBook, rng: Random, difficulty: float) -> tuple[str, Face]:
    """A label, and a face that has its characters."""
    for _ in range(MAX_REDRAWS):
        label = words.draw(rng, difficulty=difficulty)
        if fonts.can_draw(label):
            return label, fonts.draw(rng, difficulty=difficulty, text=label)
    raise ValueError(
        f'none of {MAX_REDRAWS} words can be drawn, for no font has all of their characters, the last one {label!r}: '
        'give fonts that have (fonts=, --fonts), or other words'
    )


def _plan(label: str, face: Face, rng: Random, difficulty: float, words: WordSource, is_column: bool) -> Plan:
    line = _write(label, face, rng, difficulty, is_column)
    line_height, line_width = line.shape
    height = min(max(rng.lognormvariate(math.log(25), 0.45), 10), 64)  # of the whole line, in pixels
    height = max(height, LEAST_HEIGHT * density(label) * line_height / CAP_HEIGHT)
    view = camera.look_at((line_width, line_height), height, rng, difficulty)
    ground = paint.some_colour(rng)
    ink = paint.contrasting(ground, 45 + 75 * (1 - difficulty), rng)
    layers = []
    if rng.random() < 0.45 * difficulty and not is_column:
        layers.append(_neighbours(line, ink, face, rng, words))
    if relief := _relief(line, ink, ground, rng, difficulty):
        layers.append(relief)
    layers.append(Layer(line, ink))
    pitch = view.length(line.shape) / len(label) / density(label)
    return Plan(
        label,
        view,
        paint.some_ground(view.size, ground, rng, difficulty),
        layers,
        paint.some_wear(view.size, rng, difficulty),
        paint.some_light(view.size, rng, difficulty),
        camera.some_lens(height * CAP_HEIGHT / line_height, pitch, rng, difficulty),
        camera.some_sensor(view.size, rng, difficulty),
        is_column=is_column,
    )


def _write(label: str, face: Face, rng: Random, difficulty: float, is_column: bool) -> np.ndarray:
    """The mask of the word, cropped to its ink; of a column, lying on its side."""
    kind = rng.random()
    spread = 0.02 if kind < 0.72 else 0.06 if kind < 0.9 else 0.0
    tracking = rng.gauss(0, spread) if spread else rng.uniform(0.1, 0.5)
    wobble = 0.03 if rng.random() < 0.05 * difficulty else 0.0
    if is_column:
        mask = np.ascontiguousarray(layout.set_column(face, label, tracking=tracking).T)
    else:
        mask = layout.set_line(face, label, tracking=tracking, wobble=wobble, rng=rng)
    if (
        face.stroke < 0.2 and rng.random() < 0.2 * difficulty and density(label) == 1
    ):  # bolder than the face is: paint runs, tubes glow
        mask = cv2.dilate(mask, np.ones((rng.randint(2, 4), rng.randint(2, 4)), np.uint8))
    if len(label) > 2 and rng.random() < 0.1 * difficulty and not is_column:
        mask = layout.bend(mask, rng.choice((1, 1, -1)) * rng.uniform(0.15, 0.8 if rng.random() < 0.7 else 1.8))
    return mask


def _neighbours(mask: np.ndarray, ink: Colour, face: Face, rng: Random, words: WordSource) -> Layer:
    line = layout.frame(mask)
    layout.add_neighbours(line, face, rng, [words.draw(rng) for _ in range(rng.randint(1, 2))])
    assert line.others is not None
    return Layer(line.others, ink, origin=(-line.box[0], -line.box[1]))


def _relief(mask: np.ndarray, ink: Colour, ground: Colour, rng: Random, difficulty: float) -> Layer | None:
    """What lies below the letters: a shadow, an outline, or the sides of solid ones; mostly nothing."""
    kind = rng.random()
    if kind > 0.28 * difficulty:
        return None
    depth = CAP_HEIGHT * rng.uniform(0.03, 0.14)
    mask = cv2.copyMakeBorder(mask, ROOM, ROOM, ROOM, ROOM, cv2.BORDER_CONSTANT, value=0)
    if kind < 0.12 * difficulty:
        shadow = _shifted(mask, rng.uniform(-1, 1) * depth, rng.uniform(0.1, 1) * depth)
        if rng.random() < 0.6:
            shadow = cv2.GaussianBlur(shadow, (0, 0), rng.uniform(0.5, 3))
        below = paint.shaded(ground if rng.random() < 0.6 else ink, rng.uniform(0, 0.5))
        return Layer(shadow, below, rng.uniform(0.4, 1), (-ROOM, -ROOM))
    if kind < 0.23 * difficulty:
        width = 2 * round(depth / 2) + 1
        thick = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
        return Layer(thick, paint.contrasting(ink, 70, rng), origin=(-ROOM, -ROOM))
    x, y = rng.choice((-1, 1)) * rng.uniform(0.3, 1), rng.uniform(0.2, 1)
    solid = mask
    for step in range(1, 2 + int(depth)):
        solid = cv2.max(solid, _shifted(mask, x * step, y * step))
    return Layer(solid, paint.shaded(ink, rng.uniform(0.3, 0.7)), origin=(-ROOM, -ROOM))


def _shifted(mask: np.ndarray, x: float, y: float) -> np.ndarray:
    return cv2.warpAffine(mask, np.array(((1, 0, x), (0, 1, y)), np.float32), mask.shape[::-1])


def _plain(label: str, face: Face, is_column: bool) -> Plan:
    """Black on white: the word that no attempt could show otherwise."""
    mask = np.ascontiguousarray(layout.set_column(face, label).T) if is_column else layout.set_line(face, label)
    view = View(np.array(((1.0, 0, 4), (0, 1, 4), (0, 0, 1))), (mask.shape[1] + 8, mask.shape[0] + 8))
    return Plan(label, view, Ground((255, 255, 255)), [Layer(mask, (0, 0, 0))], is_certain=True, is_column=is_column)
