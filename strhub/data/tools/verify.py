"""`strhub data verify`: decodes every picture and checks every key, and can write a copy of what is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

from strhub.data.convert.base import Skipped
from strhub.data.convert.report import Report
from strhub.data.jobs import ordered_map
from strhub.data.lmdb import LmdbReader, image_key, label_key
from strhub.data.picture import UnreadablePictureError, open_image
from strhub.data.tools.records import Chunk, Item, Words, check_targets, write


def open_for_verifying(sources: Iterable[Path]) -> Words:
    """All that can be found of the sources; what is wrong with an LMDB as a whole is among the faults."""
    faults: list[Skipped] = []
    words = Words(sources, count=lambda path: _count(path, faults))
    words.faults += faults
    return words


def _count(path: Path, faults: list[Skipped]) -> int:
    """How many records there are, whatever num-samples says; a fault is noted if that is something else."""
    reader = LmdbReader(path)
    try:
        entries = reader.entries()
    except ValueError as error:
        faults.append(Skipped(str(error)))
        return 0
    try:
        said = len(reader)
    except ValueError as error:
        said = 0
        faults.append(Skipped(str(error)))
        wrong = ''
    else:
        wrong = f'num-samples is {said}, yet there are records up to'
    last = max((record for record in range(said + 1, entries + 1) if _has(reader, record)), default=said)
    if wrong and last > said:
        faults.append(Skipped(f'{wrong} {last}', str(path)))
    return last


def _has(reader: LmdbReader, record: int) -> bool:
    try:
        return reader.value(label_key(record)) is not None or reader.value(image_key(record)) is not None
    except ValueError:  # the page it would be on is damaged
        return False


def check(chunk: Chunk) -> list[Skipped | None]:
    """What is wrong with each word, None if nothing is."""
    return [_fault(item) for item in chunk]


def _fault(item: Item) -> Skipped | None:
    if isinstance(item, Skipped):
        return item
    try:
        open_image(item.image, name=item.name)
    except UnreadablePictureError as error:
        return Skipped('picture unreadable', str(error))
    return None


def verify(
    words: Words,
    target: Path | None = None,
    *,
    overwrite: bool = False,
    workers: int = 1,
    progress: Callable[[int], object] = lambda done: None,
) -> Report:
    """Looks at every word of `open_for_verifying`; what is whole is written to the LMDB `target`, if one is given."""
    with ordered_map(check, min(workers, len(words.chunks))) as work:
        verdicts = chain.from_iterable(work(words.chunks))
        if target is not None:
            check_targets(words, target)
            items = chain(words.faults, (verdict or item for item, verdict in zip(words, verdicts, strict=True)))
            return write(items, target, overwrite=overwrite, progress=progress)
        report = Report()
        for fault in words.faults:
            report.skip(fault)
        for verdict in verdicts:
            if verdict is None:
                report.kept += 1
            else:
                report.skip(verdict)
            progress(1)
    return report
