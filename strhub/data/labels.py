"""Which labels can be learnt or tested, and in which form."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from strhub.data.summary import counted
from strhub.tokenizer import CharsetAdapter


class LabelRules:
    """Brings a raw label into the form that a charset can spell, or drops it. In this order:

    1. remove whitespace (`remove_whitespace`);
    2. Unicode compatibility decomposition, then only what is ASCII (`normalize_unicode`): `½kg` becomes `12kg`;
    3. drop it if it is longer than `max_label_length`;
    4. fold case if the charset has only one, delete characters that it lacks;
    5. drop it if nothing is left.

    With `drop_outside`, a label from which 2 or 4 would delete more than an accent is dropped: where few labels have
    such characters, that costs little, and no picture is taught under a label that it does not show.
    """

    def __init__(
        self,
        charset: str,
        max_label_length: int,
        *,
        remove_whitespace: bool = True,
        normalize_unicode: bool = True,
        drop_outside: bool = False,
    ) -> None:
        if max_label_length < 1:
            raise ValueError(f'max_label_length is {max_label_length}: give 1 or more')
        self.max_label_length = max_label_length
        self.remove_whitespace = remove_whitespace
        self.normalize_unicode = normalize_unicode
        self.drop_outside = drop_outside
        self.adapter = CharsetAdapter(charset)
        # Labels of these characters alone, which are nearly all, need no rule but that of length.
        self._untouched = frozenset(
            c
            for c in self.adapter.charset
            if not (remove_whitespace and c.isspace()) and (c.isascii() or not normalize_unicode)
        )
        self._touched_bytes = np.array([chr(b) not in self._untouched or b > 127 for b in range(256)])

    @property
    def charset(self) -> str:
        return self.adapter.charset

    def judge(self, label: str) -> tuple[str, str | None]:
        """Returns the label in its new form, and why it is dropped (None: it is kept)."""
        if 0 < len(label) <= self.max_label_length and self._untouched.issuperset(label):
            return label, None
        if self.remove_whitespace:
            label = ''.join(label.split())
        whole = label
        if self.normalize_unicode and not label.isascii():
            whole = ''.join(c for c in unicodedata.normalize('NFKD', label) if not unicodedata.combining(c))
            label = whole.encode('ascii', 'ignore').decode()
        if len(label) > self.max_label_length:
            return label, f'label longer than {self.max_label_length} characters'
        label = self.adapter(label)
        if self.drop_outside and label != self.adapter.fold(whole):
            return label, 'label with a character outside the charset'
        return label, None if label else 'label without a character of the charset'

    def keep(self, encoded: Sequence[bytes]) -> np.ndarray:
        """Of many labels in UTF-8, which are certainly kept, as they are; `judge` has to look at the others."""
        ends = np.cumsum([0, *map(len, encoded)])
        touched = np.cumsum(self._touched_bytes[np.frombuffer(b''.join(encoded), np.uint8)], dtype=np.int32)
        touched = np.concatenate([[0], touched])[ends]
        lengths = np.diff(ends)
        return (lengths > 0) & (lengths <= self.max_label_length) & (np.diff(touched) == 0)

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides what becomes of a label; rules of equal identity judge alike."""
        return {
            'charset': self.charset,
            'max_label_length': self.max_label_length,
            'remove_whitespace': self.remove_whitespace,
            'normalize_unicode': self.normalize_unicode,
            'drop_outside': self.drop_outside,
            'unicode': unicodedata.unidata_version,
        }

    def __call__(self, label: str) -> str | None:
        """Returns the label in its new form, or None where it is dropped."""
        label, reason = self.judge(label)
        return label if reason is None else None

    @property
    def warning(self) -> str:
        """What is likely wrong with the rules themselves; empty where nothing is."""
        if self.normalize_unicode and not self.charset.isascii():
            return (
                'the charset has characters beyond ASCII, which normalize_unicode=true removes from every label: '
                'set normalize_unicode=false'
            )
        return ''


def tally(reasons: Counter[str]) -> str:
    """`3 labels longer than 25 characters, 1 picture missing`: counts by reason, the most frequent first."""
    return ', '.join(counted(count, reason) for reason, count in reasons.most_common())
