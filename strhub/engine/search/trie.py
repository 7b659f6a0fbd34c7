"""The words of a lexicon by their beginnings, in arrays: a level at a time, children beside each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Trie:
    """A tree whose root is the empty text and whose other nodes are the beginnings of words.

    Attributes:
        char: (M,) the class that leads to a node: 1 for the first character of the charset; of the root 0.
        parent: (M,) the node before it; of the root itself.
        first, count: (M,) a node's children are the nodes first … first + count - 1.
        is_word: (M,) whether a word ends here.
        levels: where the nodes of each length begin, and M: those of length d are levels[d] … levels[d + 1] - 1.
    """

    def __init__(self, words: Sequence[str], charset: str) -> None:
        """Words are of characters of the charset; all but the empty one count, each once."""
        classes = {ord(char): chr(i) for i, char in enumerate(charset, 1)}
        rows = sorted({word.translate(classes) for word in words if word})
        length = max(map(len, rows), default=0)
        ids = np.array(rows, dtype=f'<U{max(length, 1)}').view('<u4').reshape(len(rows), max(length, 1))
        at = np.zeros(len(rows), dtype=np.int32)  # the node that each word has reached
        chars, parents, levels = [np.zeros(1, np.int32)], [np.zeros(1, np.int32)], [0, 1]
        differs = np.zeros(len(rows), dtype=bool)  # from the word before, up to this length
        differs[:1] = True
        for depth in range(length):
            column = ids[:, depth]
            differs[1:] |= column[1:] != column[:-1]
            begins = differs & (column > 0)
            chars.append(column[begins])
            parents.append(at[begins])
            at = np.where(column > 0, levels[-1] + begins.cumsum() - 1, at).astype(np.int32)
            levels.append(levels[-1] + int(begins.sum()))
        self.char, self.parent = np.concatenate(chars), np.concatenate(parents)
        self.levels = levels
        nodes = np.arange(len(self.char))
        # Behind the root nodes are in the order of their parents, which makes children neighbours.
        self.first = 1 + np.searchsorted(self.parent[1:], nodes)
        self.count = np.bincount(self.parent[1:], minlength=len(nodes))
        self.is_word = np.zeros(len(nodes), dtype=bool)
        self.is_word[at] = len(rows) > 0

    def __len__(self) -> int:
        return len(self.char)

    def children(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of nodes (B,) all children, (R,), and for each which of the nodes it belongs to, (R,)."""
        counts = self.count[nodes]
        rows = np.arange(len(nodes)).repeat(counts)
        within = np.arange(counts.sum()) - (counts.cumsum() - counts).repeat(counts)
        return rows, self.first[nodes].repeat(counts) + within

    def spell(self, node: int) -> list[int]:
        """The classes of the text that ends in a node."""
        ids: list[int] = []
        while node:
            ids.append(int(self.char[node]))
            node = int(self.parent[node])
        return ids[::-1]

    def words_below(self, node: int, number: int) -> list[int]:
        """The nodes of words that begin with that of `node`, the shortest first, about `number` of them."""
        found: list[int] = []
        level = np.array([node])
        while len(level) and len(found) < number:
            level = self.children(level)[1]
            found += level[self.is_word[level]].tolist()
        return found[:number]
