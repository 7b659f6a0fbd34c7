"""Models whose places do not depend on each other (ABINet, ViTSTR, PARSeq without autoregression): exact answers."""

from __future__ import annotations

import numpy as np

from strhub.engine.search.guess import Guess, Guesses, best_first
from strhub.engine.search.trie import Trie


def likeliest(probs: np.ndarray, charset: str, *, number: int) -> list[Guesses]:
    """The most probable texts, exactly.

    The best texts of some length are among the best beginnings, each with one of the best characters behind it: as many
    of them as texts are wanted, because nothing that follows tells them apart.

    Args:
        probs: (N, L, C) of the end, class 0, and the characters.
        number: of texts for each picture; there are fewer only if there are no more.
    """
    probs = probs[..., : len(charset) + 1].astype(np.float64)
    num_pictures, length, _ = probs.shape
    with np.errstate(divide='ignore'):
        logs = np.log(probs)
    scores = np.zeros((num_pictures, 1))  # of the best beginnings
    ids = np.zeros((num_pictures, 1, 0), dtype=np.int64)
    ended_scores, ended_ids = [], []
    for place in range(length + 1):
        # A text that fills all places has no end.
        ended_scores.append(scores + logs[:, place, :1] if place < length else scores)
        ended_ids.append(np.pad(ids, ((0, 0), (0, 0), (0, length - place))))
        if place < length:
            longer = (scores[:, :, None] + logs[:, place, None, 1:]).reshape(num_pictures, -1)
            chosen = np.argsort(-longer, axis=1, kind='stable')[:, :number]
            before, char = np.divmod(chosen, len(charset))
            scores = np.take_along_axis(longer, chosen, 1)
            ids = np.concatenate([np.take_along_axis(ids, before[:, :, None], 1), char[:, :, None] + 1], 2)
    all_scores, all_ids = np.concatenate(ended_scores, 1), np.concatenate(ended_ids, 1)
    order = np.argsort(-all_scores, axis=1, kind='stable')[:, :number]
    return [
        best_first([guess_at(probs[n], all_ids[n, i], charset) for i in order[n] if all_scores[n, i] > -np.inf])
        for n in range(num_pictures)
    ]


def guess_at(probs: np.ndarray, ids: np.ndarray | list[int], charset: str) -> Guess:
    """What a picture with probabilities (L, C) gives to the text of `ids`, which may be followed by zeros."""
    chars = [int(i) for i in ids if i]
    end = float(probs[len(chars), 0]) if len(chars) < len(probs) else 1.0
    return Guess(
        ''.join(charset[i - 1] for i in chars), tuple(float(probs[place, i]) for place, i in enumerate(chars)), end
    )


def likeliest_words(probs: np.ndarray, charset: str, trie: Trie, *, number: int) -> list[Guesses]:
    """The most probable words of a lexicon, none of which is longer than L; see `likeliest`."""
    probs = probs[..., : len(charset) + 1].astype(np.float64)
    words = np.flatnonzero(trie.is_word)
    depth = np.arange(len(trie.levels) - 1).repeat(np.diff(trie.levels))
    found = []
    for rows in probs:
        with np.errstate(divide='ignore'):
            logs = np.log(rows)
        scores = np.zeros(len(trie))
        for length in range(1, len(trie.levels) - 1):
            nodes = slice(trie.levels[length], trie.levels[length + 1])
            scores[nodes] = scores[trie.parent[nodes]] + logs[length - 1, trie.char[nodes]]
        ends = np.append(logs[:, 0], 0.0)
        best = top(scores[words] + ends[depth[words]], number)
        found.append(best_first([guess_at(rows, trie.spell(int(node)), charset) for node in words[best]]))
    return found


def top(scores: np.ndarray, number: int) -> np.ndarray:
    """Indices of the highest of scores (M,), the highest first."""
    if number >= len(scores):
        return np.argsort(-scores, kind='stable')
    chosen = np.argpartition(-scores, number)[:number]
    return chosen[np.argsort(-scores[chosen], kind='stable')]
