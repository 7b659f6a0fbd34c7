"""Probabilities -> readings."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from strhub.decoding import FIRST, RULES, code_points, runs_of
from strhub.runtime.readings import Character, Reading

Alternatives = list[tuple[tuple[str, float], ...]]  # for each character of a text, those it could be


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    exponents = np.exp(logits - logits.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def decode(probs: np.ndarray, *, charset: str, decoding: str, top_k: int = 0) -> list[Reading]:
    """Reads the most probable class at each position.

    Args:
        probs: (N, L, C); what follows the classes of the charset is ignored.
        charset: the characters of classes 1, 2, …
        decoding: one of strhub.decoding.RULES.
        top_k: how many alternatives to give for each character.

    Raises:
        ValueError: there are fewer classes than characters.
    """
    classes = len(charset) + 1
    if probs.ndim != 3 or probs.shape[-1] < classes:
        raise ValueError(
            f'expected (N, L, C) with C >= {classes} for a charset of {len(charset)} characters, got {probs.shape}'
        )
    probs = probs[..., :classes]
    ids = probs.argmax(-1)
    words = RULES[decoding](ids, np.take_along_axis(probs, ids[..., None], -1)[..., 0].astype(np.float64))
    confidences = words.probs.tolist()
    bounds = pairwise([0, *words.lengths.cumsum().tolist()])
    readings = []
    for i, (text, total, (start, end)) in enumerate(
        zip(words.texts(code_points(charset)), words.confidences().tolist(), bounds, strict=True)
    ):
        others = _alternatives(probs[i], ids[i], charset, decoding, top_k) if top_k else [()] * len(text)
        found = zip(text, confidences[start:end], others[: len(text)], strict=True)
        readings.append(Reading(text, total, tuple(Character(*one) for one in found)))
    return readings


def _alternatives(probs: np.ndarray, ids: np.ndarray, charset: str, decoding: str, top_k: int) -> Alternatives:
    """The `top_k` most probable characters of each place in the text; probs (L, C) and ids (L,) of one picture."""
    if decoding == 'ctc':
        # A character is a run of frames: take the frame where it is clearest.
        best = probs.max(-1)
        probs = probs[[first + int(best[first : last + 1].argmax()) for first, last in runs_of(ids.tolist())]]
    chars = probs[:, FIRST + 1 :]
    order = np.argsort(-chars, axis=-1, kind='stable')[:, :top_k]
    values = np.take_along_axis(chars, order, -1)
    return [
        tuple((charset[i], p) for i, p in zip(*row, strict=True))
        for row in zip(order.tolist(), values.tolist(), strict=True)
    ]
