"""Models that read in turn: the best beginnings are kept from character to character."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from strhub.engine.search.guess import Guess, Guesses, best_first
from strhub.engine.search.trie import Trie

END = 0  # class of the end of a text


class Steps(Protocol):
    """A network that is asked for one character after another, for several texts of each picture.

    Attributes:
        num_pictures: N.
        num_positions: characters that it can be asked for, the end included.
    """

    num_pictures: int
    num_positions: int

    def advance(self, tokens: Tensor | None, parents: Tensor | None) -> Tensor:
        """Log-probabilities (M, C) of the next character.

        Args:
            tokens: (M,) the classes that the texts go on with, N times K of them; None at the beginning, where K is 1.
            parents: (M,) which text of the call before each of them continues.
        """


class Beams:
    """The texts that are kept, K for each of N pictures, the best first.

    Attributes:
        tokens: (N, K, L) classes; behind an end there are ends.
        logs: (N, K, L) log-probabilities; behind an end they are 0.
        scores: (N, K) their sums; -inf for what is no text.
    """

    def __init__(self, tokens: Tensor, logs: Tensor, scores: Tensor) -> None:
        self.tokens, self.logs, self.scores = tokens, logs, scores

    def weighed_with(self, others: Tensor) -> Beams:
        """The same texts with the geometric means of these probabilities and of `others`, logarithms (N, K, L)."""
        behind = (self.tokens == END).cumsum(-1) > 1  # the first end
        logs = (self.logs + others).masked_fill(behind, 0) / 2
        return Beams(self.tokens, logs, logs.sum(-1).masked_fill(self.scores == -torch.inf, -torch.inf))

    def guesses(self, charset: str) -> list[Guesses]:
        """Of each picture, the best first."""
        is_text = (self.scores > -torch.inf).tolist()
        found = zip(self.tokens.tolist(), self.logs.double().exp().tolist(), is_text, strict=True)
        return [
            best_first([_guess(ids, probs, charset) for ids, probs, is_one in zip(*some, strict=True) if is_one])
            for some in found
        ]


def _guess(tokens: list[int], probs: list[float], charset: str) -> Guess:
    length = tokens.index(END) if END in tokens else len(tokens)
    end = probs[length] if length < len(tokens) else 1.0
    return Guess(''.join(charset[i - 1] for i in tokens[:length]), tuple(probs[:length]), end)


def beam_search(steps: Steps, *, width: int, number: int, trie: Trie | None = None) -> Beams:
    """The texts with the highest probabilities, as far as a beam finds them; one of width 1 reads greedily.

    Args:
        width: how many beginnings are kept.
        number: how many texts are wanted, at most `width`; the search ends when no other can overtake these.
        trie: a lexicon that texts are taken from, with no word that is longer than the network reads.
    """
    N = steps.num_pictures  # noqa: N806
    logs = steps.advance(None, None)
    device, C = logs.device, logs.shape[-1]  # noqa: N806
    scores, ended = logs.new_zeros(N, 1), torch.zeros(N, 1, dtype=torch.bool, device=device)
    tokens, history = torch.zeros(N, 1, 0, dtype=torch.long, device=device), logs.new_zeros(N, 1, 0)
    nodes = np.zeros((N, 1), dtype=np.int64)
    rows = torch.arange(N, device=device)[:, None]
    for position in range(steps.num_positions):
        step = logs.view(N, -1, C)
        goes_on, following = step, None
        if trie is not None:
            following = _following(trie, nodes.ravel(), C)
            goes_on = step.masked_fill(torch.from_numpy(following < 0).to(device).view(step.shape), -torch.inf)
        # An ended text stays as it is.
        stays = torch.full_like(step, -torch.inf)
        stays[..., END] = 0
        options = scores[..., None] + torch.where(ended[..., None], stays, goes_on)
        scores, chosen = options.flatten(1).topk(min(width, options[0].numel()))
        parent, token = chosen // C, chosen % C
        added = torch.where(ended[rows, parent], 0, step[rows, parent, token])
        ended = ended[rows, parent] | (token == END)
        tokens = torch.cat([tokens[rows, parent], token[..., None]], -1)
        history = torch.cat([history[rows, parent], added[..., None]], -1)
        if following is not None:
            table = following.reshape(N, -1, C)
            at = (rows.numpy(force=True), parent.numpy(force=True), token.numpy(force=True))
            nodes = np.maximum(table[at], 0)
        # What goes on only becomes less probable.
        if position == steps.num_positions - 1 or bool((ended | (scores == -torch.inf))[:, :number].all()):
            break
        before = step.shape[1]
        logs = steps.advance(token.flatten(), (rows * before + parent).flatten())
    return Beams(tokens, history, scores)


def _following(trie: Trie, nodes: np.ndarray, num_classes: int) -> np.ndarray:
    """The node that each class leads to, (M, C), for nodes (M,); -1 where it leads nowhere, 0 at the end of a word."""
    table = np.full((len(nodes), num_classes), -1, dtype=np.int64)
    rows, children = trie.children(nodes)
    table[rows, trie.char[children]] = children
    table[trie.is_word[nodes], END] = 0
    return table
