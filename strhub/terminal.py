"""Text of unknown origin on a terminal: file names, labels, what foreign files hold, and what was read in pictures."""

from __future__ import annotations

import logging
import re
import sys
from typing import TextIO

# Escape codes and other control characters, line separators, and what turns the direction of all that follows.
CONTROLS = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]')
OWN_COLOURS = ('ray',)  # loggers that send escape codes on purpose


def plain(text: object, *, spared: str = '') -> str:
    r"""The text on one line, with what a terminal would act on shown as Python spells it: `\x1b[2J`, `\n`.

    Args:
        spared: characters to leave as they are.
    """
    return CONTROLS.sub(lambda m: m[0] if m[0] in spared else m[0].encode('unicode_escape').decode(), str(text))


def say(*lines: object, file: TextIO | None = None) -> None:
    """Prints texts of one or more lines, each on lines of its own; commands that say what is foreign do it by this."""
    print(*(plain(text, spared='\n\t') for text in lines), sep='\n', file=file or sys.stdout, flush=True)


class PlainRecord(logging.LogRecord):
    """What is logged, with all but its lines shown as by `plain`."""

    def getMessage(self) -> str:  # noqa: N802 - logging's own name
        message = super().getMessage()
        return message if self.name.split('.')[0] in OWN_COLOURS else plain(message, spared='\n\t')
