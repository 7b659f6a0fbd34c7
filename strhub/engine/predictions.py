"""What was read in each picture of a test, as a file for other programs: one JSON object a line, or a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from strhub.engine.read import Reading

COLUMNS = ('set', 'picture', 'label', 'prediction', 'correct', 'confidence', 'text', 'characters')
SUFFIXES = ('.jsonl', '.csv')


@dataclass(frozen=True)
class Judged:
    """One picture of a set, read and judged."""

    set: str
    picture: str
    label: str
    prediction: str  # the reading in the charset of the test, which is what was judged
    correct: bool
    reading: Reading  # as the network gave it

    def as_record(self) -> dict[str, Any]:
        """`text` is the whole reading; `characters` are aligned with it."""
        reading = self.reading.as_record()
        return {
            'set': self.set,
            'picture': self.picture,
            'label': self.label,
            'prediction': self.prediction,
            'correct': self.correct,
            'confidence': reading['confidence'],
            'text': reading['text'],
            'characters': reading['characters'],
        }


class PredictionWriter:
    """Writes predictions to a .jsonl or .csv, which appears under its name only when it is complete.

    In .csv the characters are their probabilities, in percent and parted by spaces.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.suffix not in SUFFIXES:
            raise ValueError(f'{path} is neither {" nor ".join(SUFFIXES)}: predictions are written as one of these')
        if self.path.is_dir():
            raise IsADirectoryError(f'{path} is a folder: give the name of a file for the predictions')
        self.partial = self.path.with_name(f'{self.path.name}.part')

    def __enter__(self) -> Callable[[Judged], None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file: TextIO = self.partial.open('w', encoding='utf-8', errors='backslashreplace', newline='')
        if self.path.suffix == '.csv':
            self._rows = csv.DictWriter(self.file, COLUMNS, lineterminator='\n')
            self._rows.writeheader()
            return self._write_row
        return self._write_json

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        if kind is None:
            self.partial.replace(self.path)
        else:
            self.partial.unlink()

    def _write_json(self, judged: Judged) -> None:
        self.file.write(json.dumps(judged.as_record(), ensure_ascii=False) + '\n')

    def _write_row(self, judged: Judged) -> None:
        record = judged.as_record()
        record['characters'] = ' '.join(f'{100 * c["confidence"]:.2f}' for c in record['characters'])
        self._rows.writerow(record)
