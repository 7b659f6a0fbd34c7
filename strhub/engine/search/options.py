"""How pictures are to be read, where greedily and as they are is not enough."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from math import isfinite

from strhub.data.summary import counted
from strhub.engine.commandline import finite, positive
from strhub.engine.search.lexicon import Lexicon

MODES = 'constrain', 'rerank'
BONUS = 100.0
QUARTERS = (0.0, 90.0, 180.0, 270.0)
LEXICON_BEAM = 8  # beginnings of words, where texts are read in turn
RERANK_BEAM = 8


@dataclass(frozen=True)
class ReadingOptions:
    """Switches of reading; all are off by default.

    Attributes:
        beam: beginnings of texts that are kept; 1 reads greedily.
        top: how many readings to give, with their probabilities; 0 gives the best one alone.
        lexicon: words that the reading is one of (`constrain`) or is likely to be one of (`rerank`).
        lexicon_mode: constrain, or rerank: the readings that a beam finds are ordered anew.
        lexicon_bonus: how much more probable rerank takes a word of the lexicon to be than the network does.
        rotations: degrees by which each picture is turned, counter-clockwise; the most confident reading is kept.
    """

    beam: int = 1
    top: int = 0
    lexicon: Lexicon | None = None
    lexicon_mode: str = MODES[0]
    lexicon_bonus: float = BONUS
    rotations: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.beam < 1 or self.top < 0:
            raise ValueError(f'beam is {self.beam} and top is {self.top}: give at least 1 and 0')
        if self.lexicon_mode not in MODES:
            raise ValueError(f'lexicon_mode is {self.lexicon_mode!r}: give {" or ".join(MODES)}')
        if not (isfinite(self.lexicon_bonus) and self.lexicon_bonus > 0):
            raise ValueError(f'lexicon_bonus is {self.lexicon_bonus}: give a factor above 0, e.g. {BONUS:g}')

    def __str__(self) -> str:
        """What is not as by default."""
        parts = [f'beam {self.beam}'] * (self.beam > 1) + [f'top {self.top}'] * (self.top > 0)
        if self.lexicon is not None:
            bonus = f' by {self.lexicon_bonus:g}' if self.lexicon_mode == 'rerank' else ''
            parts.append(f'a lexicon of {counted(len(self.lexicon.words), "word")} ({self.lexicon_mode}{bonus})')
        if self.rotations:
            parts.append(f'pictures turned by {", ".join(f"{one:g}" for one in self.rotations)} degrees')
        return ', '.join(parts) or 'nothing'

    @property
    def searches(self) -> bool:
        """Whether there is more to do than to take the most probable class of each place."""
        return self.beam > 1 or self.top > 0 or self.lexicon is not None

    @property
    def number(self) -> int:
        """How many readings are looked for."""
        return max(self.top, 1)

    @property
    def width(self) -> int:
        """How many beginnings are kept."""
        least = 1 if self.lexicon is None else LEXICON_BEAM if self.lexicon_mode == 'constrain' else RERANK_BEAM
        return max(self.beam, self.top, least)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command line."""
    group = parser.add_argument_group('reading with a search (slower; docs/reading.md)')
    group.add_argument('--beam', type=positive, default=1, metavar='N', help='keep the N best beginnings, not just one')
    group.add_argument('--top', type=positive, default=0, metavar='N', help='give the N best readings')
    group.add_argument(
        '--lexicon', metavar='FILE', help='a text file of words, one a line, that readings are taken from'
    )
    group.add_argument(
        '--lexicon_mode', choices=MODES, default=MODES[0], help='rerank only prefers words of the lexicon'
    )
    group.add_argument(
        '--lexicon_bonus', type=finite, default=BONUS, metavar='X', help='rerank: a word of it is X times as probable'
    )
    group.add_argument('--lexicon_any_case', action='store_true', help='its words may be in upper or lower case')
    group.add_argument(
        '--try_rotations', action='store_true', help='turn pictures by 0, 90, 180, 270 degrees; keep what is clearest'
    )


def options_of(arguments: argparse.Namespace) -> ReadingOptions | None:
    """What the options of `add_arguments` ask for; None if it is nothing."""
    told = (arguments.lexicon_mode, arguments.lexicon_bonus, arguments.lexicon_any_case)
    if arguments.lexicon is None and told != (MODES[0], BONUS, False):
        raise ValueError('--lexicon_mode, --lexicon_bonus and --lexicon_any_case need words: give --lexicon FILE, too')
    options = ReadingOptions(
        beam=arguments.beam,
        top=arguments.top,
        lexicon=Lexicon.read(arguments.lexicon, any_case=arguments.lexicon_any_case) if arguments.lexicon else None,
        lexicon_mode=arguments.lexicon_mode,
        lexicon_bonus=arguments.lexicon_bonus,
        rotations=QUARTERS if arguments.try_rotations else (),
    )
    return options if options != ReadingOptions() else None
