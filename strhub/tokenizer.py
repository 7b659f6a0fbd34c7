"""What a label is to a network: characters <-> ids, and the charset a reading is judged in."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import groupby
from math import prod
from typing import Literal, overload

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

RESERVED = ('[E]', '[B]', '[P]')  # end, beginning (blank in CTC), padding


def check_charset(charset: str) -> str:
    """Returns `charset` if each of its characters can have an id of its own; else raises ValueError."""
    for token in RESERVED:
        if token in charset:
            raise ValueError(
                f'charset contains {token}, which is reserved ({", ".join(RESERVED)}): '
                'remove it, or put its characters in another order'
            )
    if not charset:
        raise ValueError('charset is empty: give at least one character, e.g. 0123456789')
    if long := [c for c in charset if len(c) != 1]:
        raise ValueError(f'charset contains {long[0]!r}: each entry must be one character')
    if len(set(charset)) < len(charset):
        twice = ''.join(sorted(c for c in set(charset) if charset.count(c) > 1))
        raise ValueError(f'charset contains these characters more than once: {twice!r}; list each of them once')
    return ''.join(charset)


class CharsetAdapter:
    """Maps any text to the characters of `charset`: folds case where the charset has only one, deletes the rest."""

    def __init__(self, charset: str) -> None:
        self.charset = charset = check_charset(charset)
        self.lowercase_only = charset == charset.lower()  # true of digits alone as well
        self.uppercase_only = charset == charset.upper() and not self.lowercase_only
        self._known = frozenset(charset)

    def fold(self, label: str) -> str:
        """The label in the charset's case, with all its characters."""
        if self.lowercase_only:
            return label.lower()
        return label.upper() if self.uppercase_only else label

    def __call__(self, label: str) -> str:
        return ''.join(c for c in self.fold(label) if c in self._known)


class BaseTokenizer(ABC):
    """Common part: `specials_first`, then the charset, then `specials_last`, each with the next id."""

    def __init__(self, charset: str, specials_first: tuple[str, ...], specials_last: tuple[str, ...] = ()) -> None:
        self.charset = check_charset(charset)
        self._tokens = (*specials_first, *self.charset, *specials_last)
        self._ids = {token: i for i, token in enumerate(self._tokens)}
        self._num_readable = len(specials_first) + len(self.charset)  # specials_last never reach a text

    def __len__(self) -> int:
        return len(self._tokens)

    def _to_ids(self, label: str) -> list[int]:
        try:
            return [self._ids[c] for c in label]
        except KeyError as error:
            raise ValueError(
                f'label {label!r} contains {error.args[0]!r}, which is not in the charset {self.charset!r}: '
                'pass the label through CharsetAdapter first, or extend the charset'
            ) from None

    def _encode_all(self, labels: Sequence[str]) -> list[list[int]]:
        if isinstance(labels, str):
            raise ValueError(f'expected a list of labels, got the single string {labels!r}: wrap it in a list')
        if not labels:
            raise ValueError('there is no label to encode: give a list of at least one')
        return [self._to_ids(label) for label in labels]

    @abstractmethod
    def encode(self, labels: Sequence[str], device: torch.device | str | None = None) -> Tensor:
        """Returns the ids of `labels` as a padded (N, L) long tensor.

        Raises:
            ValueError: no labels, or a character outside the charset.
        """

    @abstractmethod
    def _read(self, ids: list[int], probs: list[float]) -> tuple[str, list[float], float | None]:
        """One row of greedy ids and their probabilities -> text, a probability per character, that of the end."""

    @overload
    def decode(self, probs: Tensor, raw: Literal[False] = False) -> tuple[list[str], list[Tensor]]: ...
    @overload
    def decode(self, probs: Tensor, raw: Literal[True]) -> tuple[list[list[str]], list[Tensor]]: ...
    @overload
    def decode(
        self, probs: Tensor, raw: Literal[False] = False, *, split_end: Literal[True]
    ) -> tuple[list[str], list[Tensor], Tensor]: ...

    def decode(self, probs, raw=False, *, split_end=False):  # type: ignore[no-untyped-def]  # the overloads say it
        """Reads the most probable token at each position.

        Args:
            probs: (N, L, C) probabilities (after softmax); columns beyond the last readable token are ignored.
            raw: return every position's token, unfiltered, and the (L,) probabilities.
            split_end: return the probability of the end apart.

        Returns:
            N texts and N tensors of probabilities, aligned with the characters, followed by one entry for the end (for
            CTC: for the blank frames); their product is the confidence of the word. A text that was cut off without an
            end has no such entry. With `split_end`: texts, exactly one probability per character, and an (N,) tensor
            of the end's probabilities (1 where there is none).
        """
        if probs.ndim != 3 or probs.shape[-1] < self._num_readable:
            raise ValueError(
                f'expected probabilities (N, L, C) with C >= {self._num_readable} for a charset of '
                f'{len(self.charset)} characters, got {tuple(probs.shape)}'
            )
        best, ids = probs[..., : self._num_readable].max(-1)
        if raw:
            return [[self._tokens[i] for i in row] for row in ids.tolist()], list(best)
        rows = [self._read(*row) for row in zip(ids.tolist(), best.tolist(), strict=True)]
        texts = [text for text, _, _ in rows]
        if split_end:
            ends = best.new_tensor([1.0 if end is None else end for _, _, end in rows])
            return texts, [best.new_tensor(chars) for _, chars, _ in rows], ends
        return texts, [best.new_tensor(chars if end is None else [*chars, end]) for _, chars, end in rows]


class Tokenizer(BaseTokenizer):
    """For attention models. Ids: [E] = 0, the n characters 1…n, [B] = n + 1, [P] = n + 2."""

    EOS, BOS, PAD = RESERVED

    def __init__(self, charset: str) -> None:
        super().__init__(charset, (self.EOS,), (self.BOS, self.PAD))
        self.eos_id, self.bos_id, self.pad_id = (self._ids[token] for token in RESERVED)

    def encode(self, labels: Sequence[str], device: torch.device | str | None = None) -> Tensor:
        rows = [torch.tensor([self.bos_id, *ids, self.eos_id]) for ids in self._encode_all(labels)]
        return pad_sequence(rows, batch_first=True, padding_value=self.pad_id).to(device)

    def _read(self, ids: list[int], probs: list[float]) -> tuple[str, list[float], float | None]:
        end = ids.index(self.eos_id) if self.eos_id in ids else None
        text = ''.join(self._tokens[i] for i in ids[:end])
        return text, probs[:end], None if end is None else probs[end]


class CTCTokenizer(BaseTokenizer):
    """For CTC models (Graves et al., ICML 2006). Ids: blank = 0, the n characters 1…n."""

    BLANK = '[B]'

    def __init__(self, charset: str) -> None:
        super().__init__(charset, (self.BLANK,))
        self.blank_id = self._ids[self.BLANK]

    def encode(self, labels: Sequence[str], device: torch.device | str | None = None) -> Tensor:
        rows = [torch.tensor(ids, dtype=torch.long) for ids in self._encode_all(labels)]
        return pad_sequence(rows, batch_first=True, padding_value=self.blank_id).to(device)

    def _read(self, ids: list[int], probs: list[float]) -> tuple[str, list[float], float | None]:
        """A character is a run of equal frames; its probability is the run's, so that all together give the path's."""
        text, chars, blanks = '', [], 1.0
        for token, run in groupby(zip(ids, probs, strict=True), key=lambda frame: frame[0]):
            p = prod(frame_prob for _, frame_prob in run)
            if token == self.blank_id:
                blanks *= p
            else:
                text += self._tokens[token]
                chars.append(p)
        return text, chars, blanks
