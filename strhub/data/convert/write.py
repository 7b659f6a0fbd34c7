"""What all converters share: words are cropped, checked, written and reported here and nowhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from itertools import chain, groupby, islice
from pathlib import Path

from PIL import Image

from strhub.data.convert.base import Skipped, Word
from strhub.data.labels import tally
from strhub.data.lmdb import LmdbWriter
from strhub.data.transforms import UnreadablePictureError, open_image

MAX_EXAMPLES = 3  # named for each reason
AT_ONCE = 256  # pictures in memory


@dataclass
class Report:
    """What became of the words."""

    kept: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def skip(self, skipped: Skipped) -> None:
        self.skipped[skipped.reason] += skipped.count
        examples = self.examples.setdefault(skipped.reason, [])
        if skipped.where and len(examples) < MAX_EXAMPLES:
            examples.append(skipped.where)

    def __str__(self) -> str:
        lines = [f'{self.kept} words kept, {sum(self.skipped.values())} skipped']
        for reason, count in self.skipped.most_common():
            named = ', '.join(self.examples[reason]) + (', …' if count > len(self.examples[reason]) else '')
            lines.append(f'  {count} {reason}' + (f': {named}' if self.examples[reason] else ''))
        return '\n'.join(lines)


def write_words(
    words: Iterable[Word | Skipped],
    target: Path,
    *,
    overwrite: bool = False,
    min_size: int = 1,
    workers: int = 4,
    progress: Callable[[int], object] = lambda done: None,
) -> Report:
    """Writes words to the LMDB `target`, which appears only when it is complete.

    A picture that is a whole file keeps its bytes; a part of one is stored as PNG, without loss.

    Args:
        words: in the order in which they are written; neighbours of one picture have it opened once.
        min_size: pictures with a side shorter than this are skipped.
        workers: threads that open pictures.
        progress: called with the number of words done since it was last called.
    """
    report = Report()
    writer = LmdbWriter(target, overwrite=overwrite)
    groups = (list(group) for _, group in groupby(words, key=lambda word: getattr(word, 'picture', None)))
    batch = list(islice(groups, AT_ONCE))  # a source that cannot be read ends it here, before a folder is made
    with writer, ThreadPoolExecutor(workers) as pool:
        while batch:
            for result in chain.from_iterable(pool.map(lambda group: list(_load(group, min_size)), batch)):
                if isinstance(result, Skipped):
                    report.skip(result)
                else:
                    writer.write(*result)
                    report.kept += 1
                progress(1)
            batch = list(islice(groups, AT_ONCE))
        if not report.kept:
            why = tally(report.skipped) or 'there are no words'
            raise ValueError(f'no word is usable, so {target} was not made: {why}')
    return report


def _load(group: list[Word | Skipped], min_size: int) -> Iterator[tuple[bytes, str] | Skipped]:
    """The encoded pictures and labels of words that are all in one file; what is skipped passes through."""
    words = [word for word in group if isinstance(word, Word)]
    yield from (word for word in group if isinstance(word, Skipped))
    if not words:
        return
    path = words[0].picture
    assert isinstance(path, Path)
    try:
        encoded = path.read_bytes()
        image = open_image(encoded, name=str(path))
    except FileNotFoundError:
        yield Skipped('picture missing', str(path), len(words))
    except (UnreadablePictureError, OSError):
        yield Skipped('picture unreadable', str(path), len(words))
    else:
        yield from (_crop(encoded, image, word, min_size) for word in words)


def _crop(encoded: bytes, image: Image.Image, word: Word, min_size: int) -> tuple[bytes, str] | Skipped:
    if not word.label.strip():
        return Skipped('empty label', str(word.picture))
    if word.box is not None:
        left, top, right, bottom = (round(side) for side in word.box)
        box = max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height)
        if box[0] >= box[2] or box[1] >= box[3]:
            return Skipped('box outside the picture', str(word.picture))
        image = image.crop(box)
    if min(image.size) < min_size:
        return Skipped(f'picture with a side under {min_size} pixels', str(word.picture))
    if word.box is None:
        return encoded, word.label
    stream = BytesIO()
    image.save(stream, 'PNG')
    return stream.getvalue(), word.label
