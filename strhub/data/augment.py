"""RandAugment for words: https://arxiv.org/abs/1909.13719, with operations and ranges that leave a word readable.

All movements of a word and its resize are one step, and effects (see strhub.data.effects) are done at the size at which
the word will be seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from strhub.data.effects import EFFECTS, Draw, Effect, Scale, signed


class Place(NamedTuple):
    """Where a word lies on its canvas: its point (x, y) at (ax + by + left, cx + dy + top)."""

    a: float
    b: float
    c: float
    d: float
    left: float
    top: float
    width: int  # of the canvas
    height: int
    is_cubic: bool = False  # how its pixels are interpolated

    def mapped(self, a: float, b: float, c: float, d: float, rng: np.random.Generator) -> Place:
        """(x, y) of the canvas to (ax + by, cx + dy) of one that holds the whole, for a word cut off is another."""
        xs = [a * x + b * y for x in (0, self.width) for y in (0, self.height)]
        ys = [c * x + d * y for x in (0, self.width) for y in (0, self.height)]
        return Place(
            a=a * self.a + b * self.c,
            b=a * self.b + b * self.d,
            c=c * self.a + d * self.c,
            d=c * self.b + d * self.d,
            left=a * self.left + b * self.top - min(xs),
            top=c * self.left + d * self.top - min(ys),
            width=math.ceil(max(xs) - min(xs)),
            height=math.ceil(max(ys) - min(ys)),
            is_cubic=bool(rng.random() < 0.5),
        )

    def shifted(self, right: float, down: float, rng: np.random.Generator) -> Place:
        """Moved on the canvas, beyond whose edge some of it may be."""
        return self._replace(left=self.left + right, top=self.top + down, is_cubic=bool(rng.random() < 0.5))

    def scaled(self, width: int, height: int) -> Place:
        """On a canvas that is resized."""
        x, y = width / self.width, height / self.height
        a, b, c, d, left, top = self[:6]
        return Place(a * x, b * x, c * y, d * y, left * x, top * y, width, height, self.is_cubic)

    def of_one_scaled(self, x: float, y: float) -> Place:
        """The place, if the picture comes (x, y) times as large."""
        return self._replace(a=self.a / x, b=self.b / y, c=self.c / x, d=self.d / y)


Move = Callable[[Place, float, np.random.Generator], Place]


def rotate(place: Place, level: float, rng: np.random.Generator) -> Place:
    angle = math.radians(signed(30 * level, rng))
    return place.mapped(math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle), rng)


def shear_x(place: Place, level: float, rng: np.random.Generator) -> Place:
    return place.mapped(1, signed(0.9 * level, rng), 0, 1, rng)


def shear_y(place: Place, level: float, rng: np.random.Generator) -> Place:
    # a word is wide: its ends move far
    return place.mapped(1, 0, signed(0.3 * level, rng), 1, rng)


def translate_x(place: Place, level: float, rng: np.random.Generator) -> Place:
    # a tenth of the width is about half a character
    return place.shifted(signed(0.1 * level * place.width, rng), 0, rng)


def translate_y(place: Place, level: float, rng: np.random.Generator) -> Place:
    return place.shifted(0, signed(0.3 * level * place.height, rng), rng)


MOVES: tuple[Move, ...] = (rotate, shear_x, shear_y, translate_x, translate_y)


@dataclass
class Plan:
    """All that is to be done to one picture, in this order: effects do not ask where the word is.

    A picture is resized with care to what it takes up of the canvas, `seen`, so that it can then be moved with little.
    Effects come before or after that, whichever is less work.
    """

    effects: list[Effect]
    place: Place | None  # None if the word stays where it is
    seen: tuple[int, int]  # height, width
    scale: Scale

    def affect_first(self, pixels: np.ndarray) -> np.ndarray:
        return self._affected(pixels, (1, 1)) if self._enlarges else pixels

    def resize(self, pixels: np.ndarray) -> np.ndarray:
        """To planes (3, height, width)."""
        return resize(pixels, *self.seen)

    def affect_last(self, planes: np.ndarray) -> np.ndarray:
        if self._enlarges or not self.effects:
            return planes
        return self._affected(cv2.merge(list(planes)), self.scale).transpose(2, 0, 1)

    def move(self, planes: np.ndarray) -> np.ndarray:
        return planes if self.place is None else _placed(cv2.merge(list(planes)), self.place).transpose(2, 0, 1)

    @property
    def _enlarges(self) -> bool:
        return self.scale[0] * self.scale[1] > 1

    def _affected(self, pixels: np.ndarray, scale: Scale) -> np.ndarray:
        for effect in self.effects:
            pixels = effect(pixels, scale)
        return pixels


class RandAugment:
    """Draws `count` different operations for a picture and applies each with probability `probability`.

    Every choice comes from the generator it is called with, so equal generators give equal pictures.

    Args:
        magnitude: strength on a scale from 0 to 10.
    """

    def __init__(self, count: int = 3, magnitude: float = 5, *, probability: float = 0.5) -> None:
        operations = len(EFFECTS) + len(MOVES)
        if not 0 <= count <= operations or not 0 <= magnitude <= 10 or not 0 <= probability <= 1:
            raise ValueError(
                f'RandAugment takes 0 to {operations} operations, magnitude 0 to 10 and probability 0 to 1, '
                f'got {count}, {magnitude} and {probability}'
            )
        self.count = count
        self.level = magnitude / 10
        self.probability = probability

    def resized(
        self, pictures: Sequence[np.ndarray], size: tuple[int, int], rngs: Iterable[np.random.Generator]
    ) -> list[np.ndarray]:
        """RGB pictures (h, w, 3), augmented, with the whole word in sight: planes (3, height, width) of bytes.

        Args:
            rngs: one for each picture, asked for when the one before has been used.
        """
        plans = [self._plan(pixels, size, rng) for pixels, rng in zip(pictures, rngs, strict=True)]
        results = list(pictures)
        # One step for all, and then the next: so what it needs is in the processor's caches for all but the first.
        for step in (Plan.affect_first, Plan.resize, Plan.affect_last, Plan.move):
            results = list(map(step, plans, results))
        return results

    def draw(self, rng: np.random.Generator) -> tuple[list[Draw], list[Move]]:
        """The operations, effects and movements apart."""
        chances = rng.random(2 * self.count).tolist()
        left = list(range(len(EFFECTS) + len(MOVES)))
        chosen = [left.pop(int(chance * len(left))) for chance in chances[: self.count]]
        drawn = [
            index for index, chance in zip(chosen, chances[self.count :], strict=True) if chance < self.probability
        ]
        first = len(EFFECTS)
        return [EFFECTS[i] for i in drawn if i < first], [MOVES[i - first] for i in drawn if i >= first]

    def _plan(self, pixels: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> Plan:
        height, width = pixels.shape[:2]
        drawn, moves = self.draw(rng)
        place = Place(1, 0, 0, 1, 0, 0, width, height)
        for move in moves:
            place = move(place, self.level, rng)
        effects = [effect(self.level, rng) for effect in drawn]
        place = place.scaled(size[1], size[0])
        seen = (_seen(height, place.b, place.d), _seen(width, place.a, place.c)) if moves else size
        scale = seen[1] / width, seen[0] / height
        return Plan(effects, place.of_one_scaled(*scale) if moves else None, seen, scale)


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels (h, w, 3) -> planes (3, height, width), as by Pillow's bicubic, off by one at most."""
    planes = pixels.transpose(2, 0, 1)
    if planes.shape[1:] == (height, width):
        return planes
    # a row of calls on tensors would take as long as the resize itself
    batch = torch.from_numpy(planes[None])
    return F.interpolate(batch, (height, width), mode='bicubic', antialias=True).numpy()[0]


def _seen(side: int, x: float, y: float) -> int:
    """How long a side of a picture is on a canvas where each of its pixels is (x, y) long."""
    return max(1, round(side * math.hypot(x, y)))


def _placed(pixels: np.ndarray, place: Place) -> np.ndarray:
    """The canvas with the picture; around it is the picture's mean colour."""
    a, b, c, d, left, top, width, height, is_cubic = place
    # OpenCV counts from the middle of the first pixel, not from its corner.
    matrix = np.array(((a, b, left + (a + b - 1) / 2), (c, d, top + (c + d - 1) / 2)))
    flags = cv2.INTER_CUBIC if is_cubic else cv2.INTER_LINEAR
    return cv2.warpAffine(pixels, matrix, (width, height), flags=flags, borderValue=cv2.mean(pixels))
