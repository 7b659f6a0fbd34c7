"""What a label is to a network: characters <-> ids, and the charset a reading is judged in."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, overload

import numpy as np
import torch
from torch import Tensor

from strhub.decoding import RULES, Words, code_points

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
        folded = self.fold(label)
        if self._known.issuperset(folded):  # most are, and this is the fastest way to know
            return folded
        return ''.join(c for c in folded if c in self._known)


def _padded(rows: list[list[int]], value: int) -> Tensor:
    """(N, L) long; one tensor made at once, for one a row takes ten times as long."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows], dtype=torch.long)


class BaseTokenizer(ABC):
    """Common part: the special token `first`, then the charset, then those of `last`, each with the next id.

    Attributes:
        decoding: which of strhub.decoding.RULES reads.
    """

    decoding: ClassVar[str]

    def __init__(self, charset: str, first: str, last: tuple[str, ...] = ()) -> None:
        self.charset = check_charset(charset)
        self._tokens = (first, *self.charset, *last)
        self._ids = {token: i for i, token in enumerate(self._tokens)}
        self._num_readable = 1 + len(self.charset)  # the last ones never reach a text
        self._table = np.array(self._tokens, dtype=object)

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
        best, ids = self._best(probs)
        if raw:
            return self._table[ids.cpu().numpy()].tolist(), list(best)
        words = self._words(best, ids)
        texts = words.texts(code_points(self.charset))
        values, lengths = words.probs, words.lengths
        if not split_end:
            values = np.insert(values, lengths.cumsum()[words.has_end], words.ends[words.has_end])
            lengths = lengths + words.has_end
        # As many tensors as words, but one conversion, and one copy to the device
        rows = list(_like(best, values).split(lengths.tolist()))
        return (texts, rows, _like(best, words.ends)) if split_end else (texts, rows)

    def decode_words(self, probs: Tensor) -> tuple[list[str], list[float]]:
        """The texts of `decode(probs)` and the confidence of each: the product over its characters and its end."""
        words = self._words(*self._best(probs))
        return words.texts(code_points(self.charset)), words.confidences().tolist()

    def _best(self, probs: Tensor) -> tuple[Tensor, Tensor]:
        """The probability and the id, (N, L), of the best readable token; of probs (N, L, C)."""
        if probs.ndim != 3 or probs.shape[-1] < self._num_readable:
            raise ValueError(
                f'expected probabilities (N, L, C) with C >= {self._num_readable} for a charset of '
                f'{len(self.charset)} characters, got {tuple(probs.shape)}'
            )
        best, ids = probs[..., : self._num_readable].max(-1)
        return best, ids

    def _words(self, best: Tensor, ids: Tensor) -> Words:
        # One copy from the device: no charset has so many characters that float32 could not tell their ids apart
        exact = torch.promote_types(best.dtype, torch.float32)
        host = torch.stack([best.detach().to(exact), ids.to(exact)]).cpu().numpy()
        return RULES[self.decoding](host[1].astype(np.int64), host[0].astype(np.float64))


def _like(best: Tensor, values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).to(best.dtype).to(best.device)


class Tokenizer(BaseTokenizer):
    """For attention models. Ids: [E] = 0, the n characters 1…n, [B] = n + 1, [P] = n + 2."""

    EOS, BOS, PAD = RESERVED
    decoding = 'attention'

    def __init__(self, charset: str) -> None:
        super().__init__(charset, self.EOS, (self.BOS, self.PAD))
        self.eos_id, self.bos_id, self.pad_id = (self._ids[token] for token in RESERVED)

    def encode(self, labels: Sequence[str], device: torch.device | str | None = None) -> Tensor:
        return _padded([[self.bos_id, *ids, self.eos_id] for ids in self._encode_all(labels)], self.pad_id).to(device)


class CTCTokenizer(BaseTokenizer):
    """For CTC models (Graves et al., ICML 2006). Ids: blank = 0, the n characters 1…n."""

    BLANK = '[B]'
    decoding = 'ctc'

    def __init__(self, charset: str) -> None:
        super().__init__(charset, self.BLANK)
        self.blank_id = self._ids[self.BLANK]

    def encode(self, labels: Sequence[str], device: torch.device | str | None = None) -> Tensor:
        return _padded(self._encode_all(labels), self.blank_id).to(device)
