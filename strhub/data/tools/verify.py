"""`strhub data verify`: decodes every picture and checks every key, and can write a copy of what is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

from strhub.data.convert.base import Skipped
from strhub.data.convert.report import Report
from strhub.data.jobs import ordered_map
from strhub.data.lmdb import LmdbReader, LmdbWriter, NoLmdbError, image_key, label_key
from strhub.data.picture import UnreadablePictureError, open_image
from strhub.data.tools.records import Chunk, Item, Words, check_targets, write

WRONG_COUNT = 'count of records wrong'
AT_ONCE = 1000  # records looked for in one transaction, which takes longer than looking


def open_for_verifying(sources: Iterable[Path]) -> Words:
    """All that can be found of the sources; what is wrong with an LMDB as a whole is among the faults.

    Raises:
        FileNotFoundError, ValueError: none of the sources is a data set.
    """
    faults: list[Skipped] = []
    strangers: list[str] = []  # what is wrong with LMDBs that are none, or hold no record
    words = Words(sources, count=lambda path: _count(path, faults, strangers))
    if len(strangers) == len(words.sets):
        raise ValueError(strangers[0])
    words.faults += [*(Skipped('no LMDB of words', stranger) for stranger in strangers), *faults]
    return words


def _count(path: Path, faults: list[Skipped], strangers: list[str]) -> int:
    """How many records there are, whatever num-samples says; a fault is noted if that is something else."""
    reader = LmdbReader(path)
    try:
        entries = reader.entries()
    except NoLmdbError as error:
        strangers.append(str(error))
        return 0
    except ValueError as error:
        faults.append(Skipped('LMDB damaged', str(error)))
        return 0
    try:
        said = len(reader)
    except ValueError as error:
        last = _last(reader, range(1, entries + 1))
        if last:
            faults.append(Skipped(WRONG_COUNT, str(error)))
        else:
            strangers.append(str(error))
        return last
    if last := _last(reader, range(said + 1, entries + 1)):
        faults.append(Skipped(WRONG_COUNT, f'{path}: num-samples is {said}, yet there are records up to {last}'))
    return max(said, last)


def _last(reader: LmdbReader, records: range) -> int:
    """The last of these records of which anything can be read, 0 if there is none."""
    if len(records) <= AT_ONCE:
        try:
            values = reader.values([key(record) for record in records for key in (label_key, image_key)])
        except ValueError:  # a page is damaged, and hides at least the record that is left in the end
            if len(records) == 1:
                return 0
        else:
            return max((records[at // 2] for at, value in enumerate(values) if value is not None), default=0)
    middle = len(records) // 2
    return _last(reader, records[middle:]) or _last(reader, records[:middle])


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
            return write(items, LmdbWriter(target, overwrite=overwrite), progress=progress)
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
