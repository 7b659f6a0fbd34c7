"""The words that a reading may be, or is likely to be."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from strhub.engine.search.trie import Trie
from strhub.tokenizer import CharsetAdapter


class Lexicon:
    """A list of words.

    A model whose charset has one case gets the words in it; to one that knows both, words differ by their case.

    Args:
        words: any number, blanks around them do not count.
        any_case: where the charset has both cases, take each word in lower case, in upper case and capitalised, too.

    Raises:
        ValueError: there is no word.
    """

    def __init__(self, words: Iterable[str], *, any_case: bool = False) -> None:
        self.words = list(dict.fromkeys(word for line in words if (word := line.strip())))
        if not self.words:
            raise ValueError('the lexicon has no word: give at least one, one a line')
        self.any_case = any_case
        self._known: dict[tuple[str, int | None], tuple[frozenset[str], Trie]] = {}

    @classmethod
    def read(cls, path: str | Path, *, any_case: bool = False) -> Lexicon:
        """Of a text file in UTF-8, one word a line.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no text, or has no word.
        """
        try:
            text = Path(path).read_text('utf-8-sig')
        except UnicodeDecodeError:
            raise ValueError(f'{path} is no text in UTF-8: a lexicon has one word a line') from None
        if not text.strip():
            raise ValueError(f'{path} has no word: a lexicon has one word a line')
        return cls(text.splitlines(), any_case=any_case)

    def spelled(self, charset: str, max_length: int | None) -> frozenset[str]:
        """The words as a model with that charset spells them, without those that it cannot read.

        Raises:
            ValueError: it can read none.
        """
        return self._of(charset, max_length)[0]

    def trie(self, charset: str, max_length: int | None) -> Trie:
        """A tree of `spelled`, made once for each charset."""
        return self._of(charset, max_length)[1]

    def _of(self, charset: str, max_length: int | None) -> tuple[frozenset[str], Trie]:
        key = charset, max_length
        if key not in self._known:
            adapter, known = CharsetAdapter(charset), frozenset(charset)
            has_case = not (adapter.lowercase_only or adapter.uppercase_only)
            words = {adapter.fold(word) for word in self.words}
            if self.any_case and has_case:
                words |= {form(word) for word in words for form in (str.lower, str.upper, str.capitalize)}
            fitting = frozenset(word for word in words if known.issuperset(word) and _fits(word, max_length))
            if not fitting:
                what = f', or {max_length} characters are too few' if max_length else ''
                raise ValueError(
                    f'none of the {len(self.words)} words of the lexicon is of the characters {charset}{what}'
                )
            self._known[key] = fitting, Trie(sorted(fitting), charset)
        return self._known[key]


def _fits(word: str, max_length: int | None) -> bool:
    return max_length is None or len(word) <= max_length
