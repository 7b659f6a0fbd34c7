"""Rendered words as an endless data set: nothing on the disk, short clean words first, then harder ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from strhub.data.labels import LabelRules
from strhub.data.synth.fonts import FontBook
from strhub.data.synth.plan import Draft, Plan, choose, plans
from strhub.data.synth.render import paint
from strhub.data.synth.words import WordSource

if TYPE_CHECKING:
    from strhub.data.synth.batch import Sketch

# A CTC network reads nothing for tens of thousands of pictures, and the harder they are the longer; short clean words
# bring it over that.
WARMUP = 40_000
MAX_REDRAWS = 100


class RenderedDataset(Dataset):
    """Word number `key` of a series, drawn when asked for; keys have no end, an epoch has `count`.

    Args:
        rules: which labels to keep, in which form; they decide what is drawn, too. What folding case would make of a
            word is no label if the charset lacks a part of it.
        transform: (picture, generator) -> item; None leaves PIL pictures.
        count: what `len` says: the keys of an epoch.
        seed: another one is another series, with no picture in common.
        warmup: keys over which difficulty rises from 0 to 1; 0 for full difficulty at once.
        difficulty: of the words after the warm-up, from 0 to 1.
        words: a file of words to draw, one a line, instead of the vendored ones.
        fonts: a folder of fonts to draw with, instead of the vendored ones.
        vertical: share of the words, of those that can, which stand in a column; their pictures are tall.
        words_per_line: at most, joined by blanks; by default 3 where labels keep the blank, 1 of a file of words.
        on_device: items hold a Draft in place of a picture, for `develop` to paint by the batch; auto where there is a
            CUDA device. The transform is not applied.

    Raises:
        ValueError: for arguments out of range, for rules under which no label could be right, and if no font can draw
            the words.
    """

    def __init__(
        self,
        rules: LabelRules,
        transform: Callable[[Image.Image, np.random.Generator], Any] | None = None,
        *,
        count: int = 200_000,
        seed: int = 0,
        warmup: int = WARMUP,
        difficulty: float = 1.0,
        words: str | Path | None = None,
        fonts: str | Path | None = None,
        vertical: float = 0.0,
        words_per_line: int | None = None,
        on_device: bool | str = False,
    ) -> None:
        if count < 1 or warmup < 0:
            raise ValueError(f'count is {count} and warmup {warmup}: expected at least 1 and at least 0')
        if not 0 <= difficulty <= 1:
            raise ValueError(f'difficulty is {difficulty}: expected 0 to 1')
        if not 0 <= vertical <= 1:
            raise ValueError(f'vertical is {vertical}: expected 0 to 1')
        if on_device not in (True, False, 'auto'):
            raise ValueError(f'on_device is {on_device!r}: expected true, false or auto')
        if rules.warning:
            raise ValueError(rules.warning)
        self.rules = rules
        self.on_device = torch.cuda.is_available() if on_device == 'auto' else bool(on_device)
        # A folded word may lose letters: the last one of ΟΔΟΣ, where ς is not in the charset.
        self._strict = LabelRules(
            rules.charset,
            rules.max_label_length,
            remove_whitespace=rules.remove_whitespace,
            normalize_unicode=rules.normalize_unicode,
            drop_outside=True,
        )
        self.transform = transform
        self.count = count
        self.seed = seed
        self.warmup = warmup
        self.difficulty = difficulty
        charset = both_cases(rules.charset)
        self.vertical = vertical
        if rules.remove_whitespace:  # what labels do not tell is not drawn
            charset = ''.join(charset.split())
        self.words = WordSource(charset, max_length=rules.max_label_length, path=words, words_per_line=words_per_line)
        self.fonts = FontBook(charset, folder=fonts)
        choose(self.words, self.fonts, Random(seed), difficulty)  # or it says now, not in a worker, what is wrong

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[Any, str]]:
        return (self[index] for index in range(len(self)))

    def difficulty_of(self, key: int) -> float:
        """Rises slowly at first: until a network reads anything at all, all that is harder delays it."""
        return self.difficulty * min(1.0, key / self.warmup) ** 2 if self.warmup else self.difficulty

    def __getitem__(self, key: int) -> tuple[Any, str]:
        attempts, label = self.attempts(key)
        if self.on_device:
            return Draft(next(attempts), key), label
        image, _ = paint(attempts)
        if self.transform is None:
            return image, label
        return self.transform(image, np.random.default_rng((self.seed % 2**64, key % 2**64))), label

    def attempts(self, key: int) -> tuple[Iterator[Plan], str]:
        """Plans for the word, each plainer than the one before, and its label."""
        for redraw in range(MAX_REDRAWS):
            # a word that the rules drop is drawn again, in a series of its own
            series = plans(
                self.seed + (redraw << 48),
                key,
                difficulty=self.difficulty_of(key),
                words=self.words,
                fonts=self.fonts,
                vertical=self.vertical,
            )
            first = next(series)
            if label := self._strict(first.label):
                return chain((first,), series), label
        raise ValueError(
            f'the label rules dropped {MAX_REDRAWS} words in a row, the last one {first.label!r}: loosen them'
        )

    def develop(self, sketched: Sketch, size: tuple[int, int]) -> Tensor:
        """Pictures (N, 3, H, W) in [-1, 1] of a batch of drafts, on the device where the sketch is."""
        from strhub.data.synth.batch import develop

        series: dict[int, Iterator[Plan]] = {}

        def again(key: int) -> Plan:
            if key not in series:
                series[key], _ = self.attempts(key)
                next(series[key])
            return next(series[key])

        return develop(sketched, size, again)


def both_cases(charset: str) -> str:
    """The charset, and if its letters have one case only, the other case, too: labels are folded, pictures are not."""
    if charset not in (charset.lower(), charset.upper()):
        return charset
    other = charset.upper() if charset == charset.lower() else charset.lower()
    # Only letters that fold back to themselves; the capital of ß, for one, is two.
    letters = (c for c in other if c.lower() in charset or c.upper() in charset)
    return ''.join(dict.fromkeys(charset + ''.join(letters)))
