"""Models with CTC (Graves et al., ICML 2006): the probability of a text is the sum over all its alignments."""

from __future__ import annotations

import numpy as np

from strhub.engine.search.guess import Guess, Guesses, best_first
from strhub.engine.search.places import top
from strhub.engine.search.trie import Trie

BLANK = 0
FLOOR = 1e-12  # of a probability: words of 25 characters then stay above the smallest float64, 1e-308
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, from the golden ratio; of the keys of prefixes
NOTHING = np.uint64(0), np.uint64(2**64 - 1)  # keys of no prefix, and of none that one extends
EXACT_NODES = 30_000  # of a trie: about 8,000 words
KEPT_NODES = 400
SHORTLIST = 32  # words whose exact probabilities are compared
NODES_AT_ONCE = 1 << 21  # of pictures times nodes of a trie; 16 MB an array


def likeliest(probs: np.ndarray, charset: str, *, number: int) -> list[Guesses]:
    """Prefix beam search (Hannun et al., 2014): the best beginnings are kept from frame to frame.

    Args:
        probs: (N, T, C) of the blank, class 0, and the characters.
        number: how many beginnings are kept, and texts found; with enough of them the answer is exact.

    Returns:
        texts with their exact probabilities, whatever was not kept of them on the way
    """
    probs = np.maximum(probs[..., : len(charset) + 1].astype(np.float64), FLOOR)
    N, T, C = probs.shape  # noqa: N806
    rows = np.arange(N)[:, None]
    blank, label = np.ones((N, 1)), np.zeros((N, 1))  # of a prefix, ending in a blank or in its last character
    key, before = np.ones((N, 1), np.uint64), np.zeros((N, 1), np.uint64)  # of a prefix and of the one it extends
    last, length = np.zeros((N, 1), np.int64), np.zeros((N, 1), np.int64)
    ids = np.zeros((N, 1, T), np.int32)
    for frame in range(T):
        p = probs[:, frame]
        B = key.shape[1]  # noqa: N806
        total = blank + label
        stay_blank = total * p[:, :1]
        stay_label = label * p[rows, last]  # `label` of the empty prefix is 0
        longer = total[:, :, None] * p[:, None, 1:]
        n, b = np.nonzero(length)
        longer[n, b, last[n, b] - 1] = blank[n, b] * p[n, last[n, b]]  # the same again needs a blank between
        # A prefix may also be made of a shorter one that is kept, too.
        n, b, a = np.nonzero((before[:, :, None] == key[:, None, :]) & (length > 0)[:, :, None])
        stay_label[n, b] += longer[n, a, last[n, b] - 1]
        longer[n, a, last[n, b] - 1] = 0
        scores = np.concatenate([stay_blank + stay_label, longer.reshape(N, -1)], 1)
        chosen = np.argpartition(-scores, min(number, scores.shape[1]) - 1, axis=1)[:, :number]
        stays = chosen < B
        slot = np.where(stays, chosen, (chosen - B) // (C - 1))
        char = np.where(stays, 0, (chosen - B) % (C - 1) + 1)
        value = scores[rows, chosen]
        scale = np.maximum(value.max(1, keepdims=True), np.finfo(float).tiny)
        blank = np.where(stays, stay_blank[rows, slot], 0) / scale
        label = np.where(stays, stay_label[rows, slot], value) / scale
        old = key[rows, slot]
        before = np.where(stays, before[rows, slot], old)
        key = np.where(stays, old, old * MULTIPLIER + char.astype(np.uint64))
        nothing = value == 0  # what was moved to where it is kept already, and has no share in what comes
        key, before = np.where(nothing, NOTHING[0], key), np.where(nothing, NOTHING[1], before)
        last = np.where(stays, last[rows, slot], char)
        ids = ids[rows, slot]
        length = length[rows, slot]
        n, b = np.nonzero(~stays)
        ids[n, b, length[n, b]] = char[n, b]
        length = length + ~stays
    kept = [[ids[n, b, : length[n, b]] for b in np.flatnonzero(blank[n] + label[n])] for n in range(N)]
    return explain(probs, kept, charset)


def likeliest_words(probs: np.ndarray, charset: str, trie: Trie, *, number: int) -> list[Guesses]:
    """The most probable words of a lexicon; what they have in common is computed once.

    They are exact for a lexicon of some thousand words. Of a larger one the best beginnings are kept, so many that
    others are hardly ever missed.
    """
    probs = np.maximum(probs[..., : len(charset) + 1].astype(np.float64), FLOOR)
    words = np.flatnonzero(trie.is_word)
    found: list[list[np.ndarray]] = []
    if len(trie) > EXACT_NODES:
        found = [[np.array(trie.spell(int(node))) for node in _shortlist(rows, trie, number)] for rows in probs]
        return [guesses[:number] for guesses in explain(probs, found, charset)]
    together = max(1, NODES_AT_ONCE // len(trie))
    for start in range(0, len(probs), together):
        scores = _word_scores(probs[start : start + together], trie)[:, words]
        found += [[np.array(trie.spell(int(words[i]))) for i in top(row, number)] for row in scores]
    return explain(probs, found, charset)


def _shortlist(probs: np.ndarray, trie: Trie, number: int) -> list[int]:
    """The nodes of words that may be the best for probabilities (T, C): some more than `number`."""
    nodes, blank, label = np.zeros(1, np.int64), np.ones(1), np.zeros(1)
    for p in probs:
        rows, children = trie.children(nodes)
        total = blank + label
        known = np.union1d(nodes, children)
        old, new = np.searchsorted(known, nodes), np.searchsorted(known, children)
        repeats = trie.char[children] == trie.char[nodes[rows]]
        next_blank, next_label = np.zeros(len(known)), np.zeros(len(known))
        next_blank[old] = total * p[BLANK]
        next_label[old] = label * p[trie.char[nodes]]
        next_label[new] += np.where(repeats, blank[rows], total[rows]) * p[trie.char[children]]
        scores = next_blank + next_label
        kept = np.sort(top(scores, KEPT_NODES))
        most = scores.max()
        nodes, blank, label = known[kept], next_blank[kept] / most, next_label[kept] / most
    order = nodes[top(blank + label, len(nodes))]
    words = order[trie.is_word[order]].tolist()
    for start in order.tolist():  # where no kept beginning is a word, those that begin so
        if len(words) >= max(number, SHORTLIST):
            break
        words += trie.words_below(start, SHORTLIST)
    return list(dict.fromkeys(words))[: max(number, SHORTLIST)]


def _word_scores(probs: np.ndarray, trie: Trie) -> np.ndarray:
    """The probability of each node as a text, (N, M), but for a factor for each picture."""
    N, T, _ = probs.shape  # noqa: N806
    blank, label = np.zeros((N, len(trie))), np.zeros((N, len(trie)))
    blank[:, 0] = 1
    repeats = trie.char == trie.char[trie.parent]
    repeats[0] = False
    for frame in range(T):
        nodes = trie.levels[min(frame + 2, len(trie.levels) - 1)]  # as long as there were frames
        p = probs[:, frame]
        parent = trie.parent[:nodes]
        total = blank[:, :nodes] + label[:, :nodes]
        enters = np.where(repeats[:nodes], blank[:, parent], total[:, parent])
        grown = (label[:, :nodes] + enters) * p[:, trie.char[:nodes]]
        grown[:, 0] = 0
        scale = total.max(1, keepdims=True)
        label[:, :nodes] = grown / scale
        blank[:, :nodes] = total * p[:, :1] / scale
    return blank + label


def explain(probs: np.ndarray, texts: list[list[np.ndarray]], charset: str) -> list[Guesses]:
    """The exact probabilities of texts, and of each character given those before it.

    The probability that a text begins with some characters is that their last one is emitted at any time; how it
    shrinks with each character is what that character is given. What is left at the end is that nothing follows.

    Args:
        probs: (N, T, C), none of them 0.
        texts: for each picture the classes of its texts, each (L,).
    """
    owner = np.array([n for n, ids in enumerate(texts) for _ in ids], dtype=np.int64)
    flat = [ids for some in texts for ids in some]
    lengths = np.array([len(ids) for ids in flat], dtype=np.int64)
    width = int(lengths.max(initial=0))
    ids = np.zeros((len(flat), width + 1), np.int64)
    for row, text in enumerate(flat):
        ids[row, 1 : len(text) + 1] = text
    repeats = np.zeros_like(ids, dtype=bool)
    repeats[:, 2:] = ids[:, 2:] == ids[:, 1:-1]
    blank, label = np.zeros(ids.shape), np.zeros(ids.shape)
    blank[:, 0] = 1
    begins, scale = np.full(ids.shape, -np.inf), np.zeros((len(flat), 1))  # logarithms
    begins[:, 0] = 0
    with np.errstate(divide='ignore'):
        for frame in range(probs.shape[1]):
            p = probs[owner, frame]
            chars = np.take_along_axis(p, ids, 1)
            total = blank + label
            enters = np.zeros(ids.shape)
            enters[:, 1:] = np.where(repeats[:, 1:], blank[:, :-1], total[:, :-1]) * chars[:, 1:]
            begins = np.logaddexp(begins, np.log(enters) + scale)
            label = label * chars + enters
            label[:, 0] = 0
            blank = total * p[:, :1]
            most = (blank + label).max(1, keepdims=True)
            blank, label, scale = blank / most, label / most, scale + np.log(most)
        whole = np.log(np.take_along_axis(blank + label, lengths[:, None], 1)) + scale
    guesses: list[Guesses] = [[] for _ in texts]
    for row, n in enumerate(owner):
        length = lengths[row]
        if np.isfinite(whole[row, 0]):  # there are frames enough
            characters = np.exp(np.diff(begins[row, : length + 1]))
            end = float(np.exp(whole[row, 0] - begins[row, length]))
            spelled = ''.join(charset[i - 1] for i in ids[row, 1 : length + 1])
            guesses[n].append(Guess(spelled, tuple(characters.tolist()), end))
    return [best_first(some) for some in guesses]
