"""The on-disk format: an LMDB with the keys `num-samples`, `image-%09d` and `label-%09d`, counted from 1."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from weakref import WeakValueDictionary

import lmdb

COUNT_KEY = b'num-samples'
STATE_KEY = b'writer-state'  # only until an LMDB is complete
AWAITED = '.strhub-awaits'  # in an LMDB until the last of those published with it appears: says where that is
BATCH_BYTES = 16 << 20  # written in one transaction: large enough to be fast, small enough to hold in memory
FIRST_MAP_SIZE = 64 << 20  # grows by doubling
BLOCK = 10_000  # records whose labels are read at once
_TAILS = [b'%04d' % i for i in range(BLOCK)]  # how their keys end: spelling all of each key would take half a read


def image_key(record: int) -> bytes:
    return b'image-%09d' % record


def label_key(record: int) -> bytes:
    return b'label-%09d' % record


def is_lmdb(path: str | Path) -> bool:
    return (Path(path) / 'data.mdb').is_file()


class NoLmdbError(ValueError):
    """What data.mdb holds is no LMDB."""


class _Environment:
    """One open LMDB: a process may open each only once, so that its readers share it; closed with the last of them."""

    def __init__(self, path: Path) -> None:
        try:
            # readonly and lock-free: no file is touched, and a forked worker may go on using it
            self.env = lmdb.open(str(path), readonly=True, lock=False, readahead=False, meminit=False, create=False)
        except lmdb.Error as error:
            raise NoLmdbError(f'{path} cannot be opened as an LMDB ({_reason(error, path)})') from None
        pages, size = self.env.info()['last_pgno'] + 1, self.env.stat()['psize']
        if (have := (path / 'data.mdb').stat().st_size) < pages * size:  # reading beyond the end kills the process
            self.env.close()
            raise ValueError(f'{path} is truncated: data.mdb has {have} of {pages * size} bytes; copy or make it again')

    def __del__(self) -> None:
        if hasattr(self, 'env'):
            self.env.close()


_open_environments: WeakValueDictionary[tuple[str, int, int], _Environment] = WeakValueDictionary()


def _environment(path: Path) -> _Environment:
    stat = (path / 'data.mdb').stat()
    key = str(path.resolve()), stat.st_ino, stat.st_mtime_ns
    environment = _open_environments.get(key)
    if environment is None:
        _open_environments[key] = environment = _Environment(path)
    return environment


class LmdbReader:
    """Reads records by number; opens the LMDB when it is first used, in each process for itself."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not is_lmdb(self.path):
            raise FileNotFoundError(f'{path} is not an LMDB: there is no data.mdb in it')
        self._handle: _Environment | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_handle': None}

    def __len__(self) -> int:
        """The number of records that the LMDB says it has."""
        value = self._get(COUNT_KEY)
        if value is None:
            raise ValueError(
                f'{self.path} has no key num-samples, so it is not a set of words: make one with '
                '`strhub convert folder SRC DST`'
            )
        try:
            count = int(value)
            if not 0 <= count <= self.entries():
                raise ValueError
        except ValueError:
            raise ValueError(
                f'{self.path} says that num-samples is {value[:40]!r}, which is no number from 0 to that of its keys, '
                f'{self.entries()}: copy or make it again'
            ) from None
        return count

    def value(self, key: bytes) -> bytes | None:
        """The value of any key, None if there is none."""
        return self._get(key)

    def values(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each key, in one transaction: each takes longer than many values."""
        try:
            with self._env().begin() as txn:
                return list(map(txn.get, keys))
        except lmdb.Error as error:
            raise self._damaged(error) from None

    def image(self, record: int) -> bytes | None:
        return self._get(image_key(record))

    def label(self, record: int) -> str | None:
        """The label of a record, None if it has none or one that is not UTF-8."""
        value = self.encoded_label(record)
        return None if value is None else decode(value)

    def encoded_label(self, record: int) -> bytes | None:
        return self._get(label_key(record))

    def labels(self) -> Iterator[tuple[int, str | None]]:
        """All (record, label) of records up to `num-samples` that have one; None for a label that is not UTF-8."""
        for first, values in self.encoded_labels():
            for record, value in enumerate(values, first):
                if value is not None:
                    yield record, decode(value)

    def encoded_labels(self) -> Iterator[tuple[int, list[bytes | None]]]:
        """The labels up to `num-samples` as they are stored, None where there is none, in blocks of neighbours.

        Each block comes with the number of its first record.
        """
        count = len(self)
        try:
            # Key by key, for the steps of a cursor let LMDB end the process where a page is damaged.
            with self._env().begin() as txn:
                for block in range(count // BLOCK + 1):
                    head = b'label-%05d' % block
                    first = block * BLOCK or 1
                    tails = _TAILS[first % BLOCK : count + 1 - block * BLOCK]
                    yield first, list(map(txn.get, [head + tail for tail in tails]))
        except lmdb.Error as error:
            raise self._damaged(error) from None

    def close(self) -> None:
        """Lets go of the LMDB until it is next used."""
        self._handle = None

    def entries(self) -> int:
        """The number of keys."""
        return self._env().stat()['entries']

    def _env(self) -> lmdb.Environment:
        if self._handle is None:
            self._handle = _environment(self.path)
        return self._handle.env

    def _get(self, key: bytes) -> bytes | None:
        return self.values([key])[0]

    def _damaged(self, error: lmdb.Error) -> ValueError:
        return ValueError(f'{self.path} is damaged ({_reason(error, self.path)}): copy or make it again')


class LmdbWriter:
    """Writes a new LMDB, which appears at `path` only when it is complete.

    Until then it is the hidden folder `.NAME.partial` beside it, removed when the `with` block ends by an error. With
    `resume` it is kept, and the next writer of the same path goes on after the `count` records that it holds; it finds
    `state` as it was when they were written, which may be anything that it needs to go on.

        with LmdbWriter('data/train/mine') as writer:
            writer.write(image_bytes, 'label')

    Several appear together if they are published at the end of their `with` block.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False, resume: bool = False) -> None:
        self.path = Path(os.path.abspath(path))  # noqa: PTH100  (Path.resolve would follow a link at the target)
        if not overwrite and os.path.lexists(self.path) and not _is_leftover(self.path):
            raise FileExistsError(f'{path} exists already: give another name, remove it, or replace it by --overwrite')
        if self.path.exists() and not (is_lmdb(self.path) or _is_empty_folder(self.path)):
            raise FileExistsError(f'{path} exists and is not an LMDB, so it is not overwritten: give another name')
        self.count = 0
        self.state = b''
        self.resume = resume
        self.partial = self.path.with_name(f'.{self.path.name}.partial')
        self._old = self.path.with_name(f'.{self.path.name}.old')
        self._batch: list[tuple[bytes, bytes]] = []
        self._bytes = 0
        self._env: lmdb.Environment | None = None

    def __enter__(self) -> LmdbWriter:
        self.partial.parent.mkdir(parents=True, exist_ok=True)
        if _is_leftover(self.path):
            self._set_aside()
            self._forget()
        if self.partial.exists() and not self.resume:  # of a run that was killed
            shutil.rmtree(self.partial)
        self._env = lmdb.open(str(self.partial), map_size=FIRST_MAP_SIZE, lock=False, sync=False)
        with self._env.begin() as txn:
            self.count = int(txn.get(COUNT_KEY, b'0'))
            self.state = txn.get(STATE_KEY, b'')
        return self

    def write(self, image: bytes, label: str) -> None:
        """Adds a record: the encoded picture as it is, and its label."""
        if self._env is None:
            raise ValueError(f'the writer of {self.path} is not open: use it in a `with` block')
        record = self.count + 1
        self._add(image_key(record), image)
        self._add(label_key(record), label.encode())
        self.count = record  # now that both are there: Ctrl-C may come between any two lines
        if self._bytes > BATCH_BYTES:
            self._flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._env is not None and kind is None:  # else it has been published, with others
                self.publish()
            elif self._env is not None and self.resume:
                self._flush()
        finally:
            self._close()
            if not self.resume:
                shutil.rmtree(self.partial, ignore_errors=True)

    def publish(self, *others: LmdbWriter) -> None:
        """Ends the writing and makes the LMDB appear, with others all at once as far as a disk can do that.

        All are whole and on the disk before the first is renamed, and what they replace is out of the way, so that none
        is ever beside an old one. If the process is killed between two renames, those that have appeared are leftovers,
        which the next writer of their path removes.
        """
        writers = [self, *others]
        for writer in writers:
            writer._finish()
            writer._close()
        for writer in writers[:-1]:
            (writer.partial / AWAITED).write_text(str(writers[-1].partial), encoding='utf-8', errors='surrogateescape')
        for writer in writers:
            writer._set_aside()
        for writer in writers:
            writer.partial.rename(writer.path)
        for writer in writers[:-1]:
            (writer.path / AWAITED).unlink()
        for writer in writers:
            writer._forget()

    def _add(self, key: bytes, value: bytes) -> None:
        self._batch.append((key, value))
        self._bytes += len(value)

    def _flush(self) -> None:
        assert self._env is not None
        # in the same transaction as the records, so that a killed run can be resumed
        self._batch += [(COUNT_KEY, b'%d' % self.count), (STATE_KEY, self.state)]
        while True:
            try:
                with self._env.begin(write=True) as txn:
                    for key, value in self._batch:
                        txn.put(key, value)
                break
            except lmdb.MapFullError:  # nothing of the transaction was written: double the room and write it again
                self._env.set_mapsize(2 * self._env.info()['map_size'])
            except lmdb.Error as error:
                raise OSError(f'{self.path} cannot be written ({_reason(error, self.partial)})') from None
        self._batch, self._bytes = [], 0

    def _finish(self) -> None:
        assert self._env is not None
        if not self.count:
            raise ValueError(f'there was no picture to write, so {self.path} was not made')
        self._flush()
        with self._env.begin(write=True) as txn:
            txn.delete(STATE_KEY)
        self._env.sync(True)

    def _close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None

    def _set_aside(self) -> None:
        if self.path.exists():
            self._forget()
            self.path.rename(self._old)

    def _forget(self) -> None:
        shutil.rmtree(self._old, ignore_errors=True)


def decode(value: bytes) -> str | None:
    """A stored label; None if it is not UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _is_leftover(path: Path) -> bool:
    """Whether it appeared first of several, and the process was killed before the last one did."""
    try:
        return Path((path / AWAITED).read_text(encoding='utf-8', errors='surrogateescape')).exists()
    except (FileNotFoundError, NotADirectoryError):
        return False


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _reason(error: lmdb.Error, path: Path) -> str:
    return str(error).removeprefix(f'{path}: ')
