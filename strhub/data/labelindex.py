"""The label index: which records of an LMDB the rules keep, so that only the first opening has to read every label.

It is the file `.strhub-index-HASH` beside data.mdb, one for each set of rules, or below the user's cache folder where
the LMDB's own cannot be written to; where neither can, there is no index. Whatever does not fit exactly (another or a
changed database, other rules, damage) is not used and written anew; deleting the files is always safe.

    8 bytes    MAGIC, with the version
    4 bytes    CRC-32 of all that follows
    4 bytes    length of the header
    header     JSON: of which database and rules, and how many records were left out for which reason
    records    uint32 each, all little-endian; mapped into memory, so that processes share them
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

logger = logging.getLogger(__name__)

MAGIC = b'strhub-1'  # another number whenever the format, or what rules of equal identity do, changes
START = struct.Struct('<8sII')
PREFIX, PARTIAL = '.strhub-index-', '.partial'
MIN_RECORDS = 10_000  # fewer are scanned in the time of a blink: no file for them
META_BYTES = 1 << 17  # LMDB's two meta pages, however large its pages are: they change with every transaction
ABANDONED = 3600  # seconds after which a half-written file is that of a process that was killed


class Selection(NamedTuple):
    """The records that are kept, in order, and how many are not, by reason."""

    records: np.ndarray
    dropped: Counter[str]
    is_mapped: bool = False  # records lie in a file, which another process had better open itself


def select(
    root: Path, rules: Mapping[str, Any], scan: Callable[[], Selection], *, database: Mapping[str, Any]
) -> Selection:
    """What `scan` finds in the LMDB `root`: from the index, or else by calling it, and then an index is left behind.

    Args:
        rules: all that the outcome depends on beside the database; plain values.
        database: what `identify` said of `root` before `scan`'s reader opened it. If it is another one by now, no one
            knows which of them is open: then there is no index.
    """
    places = [root, *_cache_places(root)]
    name = PREFIX + _digest(dict(rules))
    subject = {'database': dict(database), 'rules': dict(rules)}
    for place in places:
        if (found := _read(place / name, subject)) and identify(root) == database:
            return found
    selection = scan()
    if identify(root) != database:
        return selection
    for place in places:
        try:
            _write(place / name, subject, selection)
        except OSError as error:
            logger.debug('no label index in %s (%s)', place, error)
        else:
            # mapped from now on, as in the next process
            return _read(place / name, subject) or selection
    return selection


def identify(root: Path) -> dict[str, Any]:
    """What tells this database, in this state, from any other; a copy is another one."""
    with (root / 'data.mdb').open('rb') as file:
        stat, meta = os.fstat(file.fileno()), file.read(META_BYTES)
    # st_ctime too, for `cp -p`, rsync and touch set mtime as they like; no st_dev, which may be new after each mount
    return {
        'inode': stat.st_ino,
        'size': stat.st_size,
        'mtime': stat.st_mtime_ns,
        'ctime': stat.st_ctime_ns,
        'meta': sha256(meta).hexdigest(),
    }


def _read(path: Path, subject: dict[str, Any]) -> Selection | None:
    """The selection in a file, if it is whole and of that subject."""
    try:
        with path.open('rb') as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        magic, checksum, length = START.unpack_from(content)
        if magic != MAGIC or checksum != crc32(memoryview(content)[12:]):
            raise ValueError('damaged, or of another version')
        header = json.loads(content[START.size : START.size + length])
        if header['subject'] != subject:
            raise ValueError('of another database, or another state of it')
    except FileNotFoundError:
        return None
    except (OSError, ValueError, struct.error) as error:
        logger.debug('label index %s is not used (%s)', path, error)
        return None
    start = START.size + length
    records = np.ndarray((len(content) - start) // 4, '<u4', content, start)
    return Selection(records, Counter(header['dropped']), True)


def _write(path: Path, subject: dict[str, Any], selection: Selection) -> None:
    """Writes beside, then renames: processes that write at once each leave a whole file, and the last one's stays."""
    header = json.dumps({'subject': subject, 'dropped': selection.dropped}).encode()
    header += b' ' * (-len(header) % 4)
    length = struct.pack('<I', len(header))
    records = np.ascontiguousarray(selection.records, '<u4')
    checksum = crc32(records.data.cast('B') if len(records) else b'', crc32(length + header))
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear(path.parent, subject)
    partial = path.with_name(f'{path.name}-{token_hex(4)}{PARTIAL}')
    try:
        with partial.open('xb') as file:
            file.write(MAGIC + struct.pack('<I', checksum) + length + header)
            file.write(records.data)
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        raise


def _clear(folder: Path, subject: dict[str, Any]) -> None:
    """Removes what is left of earlier states of the database, under any rules, and of killed processes."""
    for path in folder.glob(f'{PREFIX}*'):
        with suppress(OSError):
            if path.name.endswith(PARTIAL):
                is_old = time.time() - path.stat().st_mtime > ABANDONED
            else:
                is_old = _database_of(path) != subject['database']
            if is_old:
                path.unlink()


def _database_of(path: Path) -> Any:
    try:
        with path.open('rb') as file:
            _, _, length = START.unpack(file.read(START.size))
            return json.loads(file.read(min(length, 1 << 20)))['subject']['database']
    except (ValueError, struct.error, KeyError, TypeError):
        return None


def _cache_places(root: Path) -> Iterator[Path]:
    """The folder for the indices of `root` in the user's cache; nothing where there is no home."""
    try:
        if os.path.isabs(os.environ.get('XDG_CACHE_HOME', '')):  # noqa: PTH117
            cache = Path(os.environ['XDG_CACHE_HOME'])
        elif sys.platform == 'win32':
            cache = Path(os.environ.get('LOCALAPPDATA') or Path.home() / 'AppData' / 'Local')
        else:
            cache = Path.home() / ('Library/Caches' if sys.platform == 'darwin' else '.cache')
    except RuntimeError:
        return
    yield cache / 'strhub' / 'index' / _digest(str(root.resolve()))


def _digest(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
