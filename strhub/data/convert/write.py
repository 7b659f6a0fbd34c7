"""Words -> an LMDB: in the order of the converter, by all cores, whole or not at all, and gone on with exactly."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import Any

from strhub.data.convert.base import Skipped, Word
from strhub.data.convert.cutter import Cut, Rules, cut_all
from strhub.data.convert.report import Report
from strhub.data.jobs import check_settings, ordered_map
from strhub.data.lmdb import LmdbWriter

CHUNK = 64  # words that a worker does at a time, and all others of the last one's picture ...
MAX_CHUNK = 1024  # ... if these are not too many
FEW = 8  # chunks: for fewer, more processes are not worth their start
NOTE = 'report.json'  # beside the records: how they were made, and in the end what was kept and skipped


def write_words(
    words: Iterable[Word | Skipped],
    target: Path,
    *,
    rules: Rules | None = None,
    settings: dict[str, Any] | None = None,
    overwrite: bool = False,
    workers: int = 1,
    progress: Callable[[int], object] = lambda done: None,
) -> Report:
    """Writes words to the LMDB `target`, which appears only when it is complete, with a report beside its records.

    A picture that is a whole file keeps its bytes; a part of a JPEG picture is stored as JPEG, of any other as PNG. If
    the work is interrupted, even by SIGKILL, the next call with the same arguments goes on with what is done, and ends
    with the very records and report of an uninterrupted one.

    Args:
        words: in the order in which they are written; neighbours of one picture have it opened once.
        settings: what else the words depend on; an interrupted run with others is not gone on with.
        workers: processes; the records do not depend on their number.
        progress: called with the number of words done since it was last called.

    Raises:
        ValueError: no word is usable, or an interrupted run had other settings or words.
    """
    rules = rules or Rules()
    settings = {**(settings or {}), **asdict(rules)}
    writer = LmdbWriter(target, overwrite=overwrite, resume=True)
    note = writer.partial / NOTE
    chunks = _chunks(words)
    first = list(islice(chunks, FEW))  # a source that cannot be read ends it here, before a folder is made
    workers = workers if len(first) == FEW else 1
    with writer:
        if writer.count or writer.state:
            check_settings(note, settings)
        _save(note, settings)
        run = _Run(writer)
        progress(run.items)
        with ordered_map(partial(cut_all, rules=rules), workers) as work:
            for results in work(run.still_to_do(chain(first, chunks))):
                progress(run.take(results))
        if not run.report.kept:
            writer.resume = False  # there is nothing to go on with
            from strhub.data.labels import tally  # brings torch, for which others need not wait

            why = tally(run.report.skipped) or 'there are no words'
            raise ValueError(f'no word is usable, so {target} was not made: {why}')
        _save(note, {**settings, **run.report.as_dict()})
    return run.report


def _chunks(words: Iterable[Word | Skipped]) -> Iterator[list[Word | Skipped]]:
    chunk: list[Word | Skipped] = []
    picture = None
    for item in words:
        is_of_another = isinstance(item, Word) and item.picture != picture
        if (len(chunk) >= CHUNK and is_of_another) or len(chunk) >= MAX_CHUNK:
            yield chunk
            chunk = []
        if isinstance(item, Word):
            picture = item.picture
        chunk.append(item)
    if chunk:
        yield chunk


class _Run:
    """How far the work is, which is kept with the records at every end of a chunk."""

    def __init__(self, writer: LmdbWriter) -> None:
        fresh = {'items': 0, 'digest': '', 'report': Report().as_dict()}
        state: dict[str, Any] = json.loads(writer.state) if writer.state else fresh
        self.writer = writer
        self.items: int = state['items']  # words that were taken from the converter and are done
        self.digest: str = state['digest']  # of these
        self.report = Report.from_dict(state['report'])
        self._under_way: deque[tuple[int, str]] = deque()  # the chunks that workers have: length, and digest at its end

    def still_to_do(self, chunks: Iterator[list[Word | Skipped]]) -> Iterator[list[Word | Skipped]]:
        """Leaves out what an earlier run has done, once it is sure that it was the same.

        Raises:
            ValueError: it was not.
        """
        passed, sha = 0, sha256()
        while passed < self.items and (chunk := next(chunks, [])):
            passed += len(chunk)
            sha.update(_as_bytes(chunk))
        if self.items and (passed, sha.hexdigest()) != (self.items, self.digest):
            raise ValueError(
                f'the annotations have changed since an interrupted run left its words in {self.writer.partial}: '
                'remove that folder to begin anew'
            )
        for chunk in chunks:
            sha.update(_as_bytes(chunk))
            self._under_way.append((len(chunk), sha.hexdigest()))
            yield chunk

    def take(self, results: Iterable[Cut | Skipped]) -> int:
        """Writes and counts what has become of a chunk; returns how many words it had."""
        for result in results:
            if isinstance(result, Skipped):
                self.report.skip(result)
                continue
            self.report.kept += 1
            if self.report.kept > self.writer.count:  # else it was written before an interruption within the chunk
                self.writer.write(*result)
        length, digest = self._under_way.popleft()
        self.items += length
        state = {'items': self.items, 'digest': digest, 'report': self.report.as_dict()}
        self.writer.state = json.dumps(state).encode()
        return length


def _as_bytes(chunk: list[Word | Skipped]) -> bytes:
    return repr(chunk).encode(errors='backslashreplace')


def _save(note: Path, content: dict[str, Any]) -> None:
    """Writes JSON whole or not at all; backslashes spell names that are not UTF-8."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    beside = note.with_suffix('.new')
    beside.write_text(text, encoding='utf-8', errors='backslashreplace')
    beside.replace(note)
