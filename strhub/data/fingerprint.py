"""What tells the words of a data set from any others, in a line: for the record of a run."""

from __future__ import annotations

from hashlib import sha256
from itertools import islice
from typing import Any

import numpy as np

from strhub.data.base import WordDataset
from strhub.data.dataset import LmdbDataset
from strhub.data.labelindex import META_BYTES
from strhub.data.synth.dataset import RenderedDataset
from strhub.data.synth.render import paint

RENDERED = 8  # words to draw: another renderer, or other fonts, show in these


def fingerprints(words: Any) -> dict[str, str]:
    """A digest of each part of a data set, by its place: equal for equal words, wherever they lie."""
    if isinstance(words, WordDataset):
        return {str(words.root): f'{len(words)} words {_digest(words)}'}
    if isinstance(words, RenderedDataset):
        return {'rendered': f'{len(words)} words {_rendered(words)}'}
    parts = getattr(words, 'parts', ())
    found: dict[str, str] = {}
    for part in parts.values() if isinstance(parts, dict) else parts:
        found |= fingerprints(part)
    return found


def _digest(words: WordDataset) -> str:
    """Of an LMDB, its size and the numbers that each change to it raises; of a folder, names, sizes and labels."""
    digest = sha256(np.ascontiguousarray(words.records).tobytes())
    if isinstance(words, LmdbDataset):
        file = words.root / 'data.mdb'
        with file.open('rb') as stream:
            digest.update(f'{file.stat().st_size}'.encode() + stream.read(META_BYTES))
    else:
        for record in words.records.tolist():
            path = words.encoded(record)
            size = path.stat().st_size if not isinstance(path, bytes) and path.is_file() else 0
            name = '' if isinstance(path, bytes) else path.name
            digest.update(f'{name}\t{size}\t{words.raw_label(record)}\n'.encode())
    return digest.hexdigest()[:16]


def _rendered(words: RenderedDataset) -> str:
    digest = sha256()
    for key in islice(range(0, len(words), max(1, len(words) // RENDERED)), RENDERED):
        attempts, label = words.attempts(key)
        picture, _ = paint(attempts)
        digest.update(label.encode() + picture.tobytes())
    return digest.hexdigest()[:16]
