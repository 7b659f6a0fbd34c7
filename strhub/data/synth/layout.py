"""From characters to one mask of a line of text, straight or along an arc, perhaps with parts of its neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import cv2
import numpy as np

from strhub.data.synth.fonts import CAP_HEIGHT, Face
from strhub.data.synth.scripts import TURNED, is_square, needs_shaping

LONGEST_COLUMN = 8  # letters: more of them, squeezed into a picture for a network, are nothing but a strip
EM_ABOVE = 0.88  # of an ideograph's square, above the baseline
COLUMN_GAP, LEAST_GAP = 0.25, 0.08  # between the letters of a column, as shares of the cap height
PAD = 3 * CAP_HEIGHT // 4  # room around the word in a mask, for outlines, shadows and neighbours


@dataclass
class Line:
    """Coverage, uint8 (h, w), and the box (left, top, right, bottom) that the word itself takes in it."""

    mask: np.ndarray
    box: tuple[float, float, float, float]
    others: np.ndarray | None = None  # coverage of the neighbouring words


def set_line(
    face: Face, text: str, *, tracking: float = 0.0, wobble: float = 0.0, rng: Random | None = None
) -> np.ndarray:
    """Coverage of a straight line of text, cropped to its ink.

    Args:
        tracking: extra space between letters, as a share of the cap height.
        wobble: how far letters leave the baseline, as a share of the cap height.

    Both need single letters: text that has to be shaped goes without.
    """
    if needs_shaping(text):
        return face.shape(text)
    glyphs = [face.glyph(character) for character in text]
    pen, placed = 0.0, []
    for glyph in glyphs:
        rise = round(rng.gauss(0, wobble) * CAP_HEIGHT) if wobble and rng else 0
        placed.append((round(pen) + glyph.left, glyph.top + rise, glyph.mask))
        pen += glyph.advance + tracking * CAP_HEIGHT
    return _merged(placed)


def set_column(face: Face, text: str, *, tracking: float = 0.0) -> np.ndarray:
    """Coverage of text from top to bottom, upright letter below upright letter, as wide as a capital at least."""
    pen, placed = 0.0, []
    em = max((face.upright(c).advance for c in text if is_square(c)), default=0.0)
    for character in text:
        glyph = face.upright(character)
        x = round((em - glyph.advance) / 2) + glyph.left
        if em:  # ideographs and what is among them: each in a square
            placed.append((x, round(pen + EM_ABOVE * em) + glyph.top, glyph.mask))
            pen += em + tracking * CAP_HEIGHT
        elif character.isspace():
            pen += CAP_HEIGHT / 2
        else:
            left, top, width, height = cv2.boundingRect(glyph.mask)
            placed.append((-width // 2, round(pen), glyph.mask[top : top + height, left : left + width]))
            pen += height + max(COLUMN_GAP + tracking, LEAST_GAP) * CAP_HEIGHT
    column = _merged(placed)
    room = max(CAP_HEIGHT - column.shape[1], 0)
    return cv2.copyMakeBorder(column, 0, 0, room // 2, room - room // 2, cv2.BORDER_CONSTANT, value=0)


def can_stand(face: Face, text: str) -> bool:
    """Whether signs write it in a column, and the face has the forms for that."""
    return (
        1 < len(text) <= LONGEST_COLUMN and not needs_shaping(text) and all(face.turns(c) for c in text if c in TURNED)
    )


def _merged(placed: list[tuple[int, int, np.ndarray]]) -> np.ndarray:
    """One mask of many, each with its left upper corner."""
    left, top = min(x for x, _, _ in placed), min(y for _, y, _ in placed)
    right = max(x + mask.shape[1] for x, _, mask in placed)
    bottom = max(y + mask.shape[0] for _, y, mask in placed)
    line = np.zeros((bottom - top, right - left), np.uint8)
    for x, y, mask in placed:
        window = line[y - top : y - top + mask.shape[0], x - left : x - left + mask.shape[1]]
        np.maximum(window, mask, out=window)
    return line


def frame(mask: np.ndarray) -> Line:
    height, width = mask.shape
    padded = cv2.copyMakeBorder(mask, PAD, PAD, PAD, PAD, cv2.BORDER_CONSTANT, value=0)
    return Line(padded, (PAD, PAD, PAD + width, PAD + height))


def bend(mask: np.ndarray, angle: float) -> np.ndarray:
    """Lays a straight line along an arc of `angle` radians; positive arches upwards, as over a shop's door."""
    height, width = mask.shape
    up = angle > 0
    if not up:
        mask = mask[::-1, ::-1]
    angle = min(abs(angle), 2.6)
    inner = max(width / angle - height / 2, 0.2 * height)  # the arc through the middle of the letters keeps their width
    outer = inner + height
    reach = outer * math.sin(min(angle / 2, math.pi / 2))
    depth = outer - inner * math.cos(angle / 2)
    xs = np.arange(int(2 * reach) + 1, dtype=np.float32) - reach
    ys = outer - np.arange(int(depth) + 1, dtype=np.float32)
    x, y = np.meshgrid(xs, ys)
    map_x = (np.arctan2(x, y) / angle + 0.5) * width
    map_y = outer - np.sqrt(x * x + y * y)
    bent = cv2.remap(np.ascontiguousarray(mask), map_x, map_y, cv2.INTER_LINEAR)
    return bent if up else np.ascontiguousarray(bent[::-1, ::-1])


def add_neighbours(line: Line, face: Face, rng: Random, texts: list[str]) -> None:
    """Puts words beside, above or below, of which the frame shows no more than an edge."""
    others = np.zeros_like(line.mask)
    left, top, right, bottom = (int(edge) for edge in line.box)
    for text in filter(face.covers, texts):
        side = rng.choice(('above', 'below', 'left', 'right'))
        gap = int(CAP_HEIGHT * rng.uniform(0.2, 0.6))
        other = set_line(face, text)
        height, width = other.shape
        if side == 'above':
            x, y = left + rng.randint(-PAD, PAD), top - gap - height
        elif side == 'below':
            x, y = left + rng.randint(-PAD, PAD), bottom + gap
        elif side == 'left':
            x, y = left - gap - width, bottom - height
        else:
            x, y = right + gap, bottom - height
        _paste(others, other, x, y)
    line.others = others


def _paste(target: np.ndarray, mask: np.ndarray, x: int, y: int) -> None:
    height, width = target.shape
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + mask.shape[1], width), min(y + mask.shape[0], height)
    if x0 < x1 and y0 < y1:
        target[y0:y1, x0:x1] = np.maximum(target[y0:y1, x0:x1], mask[y0 - y : y1 - y, x0 - x : x1 - x])
