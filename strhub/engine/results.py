"""Scores as people and programs read them: a table, a record, and the files that keep both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from strhub.metrics import Score
from strhub.models.zoo import published_name

HEAD = ['Dataset', '# samples', 'Accuracy', '1 - NED', 'Confidence', 'Label Length']


def combined(scores: Mapping[str, Score]) -> dict[str, Score]:
    """The scores of some sets, and that of all their pictures together."""
    return {**scores, 'Combined': sum(scores.values(), Score())}


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of rows, the first of which is its head; all columns but the first hold numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *numbers in rows:
        cells = [name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))]
        lines.append(f'| {" | ".join(cells)} |')
    rule = [f':{"-" * widths[0]}-', *(f'-{"-" * width}:' for width in widths[1:])]
    lines.insert(1, f'|{"|".join(rule)}|')
    return '\n'.join(lines)


def table(scores: Mapping[str, Score]) -> str:
    """One row a set and a Combined row, which weighs each set by its pictures; all but the lengths in percent."""
    rows = [HEAD]
    for name, score in combined(scores).items():
        values = (score.accuracy, score.one_minus_ned, score.mean_confidence, score.mean_label_length)
        rows.append([name, str(score.num_samples), *(f'{value:.2f}' for value in values)])
    return aligned(rows)


def as_record(scores: Mapping[str, Score]) -> dict[str, dict[str, float]]:
    """The numbers of the table, unrounded."""
    return {
        name: {
            'samples': score.num_samples,
            'accuracy': score.accuracy,
            'one_minus_ned': score.one_minus_ned,
            'confidence': score.mean_confidence,
            'label_length': score.mean_label_length,
        }
        for name, score in combined(scores).items()
    }


def results_path(checkpoint: str) -> Path:
    """Where the results of a checkpoint go: beside it, or into outputs/ for weights given by name."""
    published = published_name(checkpoint)
    if published is not None:
        return Path('outputs') / f'{published}.results.txt'
    path = Path(checkpoint)  # a folder may end in / or be called .
    path = path if path.name else path.absolute()
    return path.with_name(f'{path.name}.results.txt')


def append(path: Path, text: str) -> None:
    """Adds to a file, which holds either the old text or all of it: a killed run leaves no half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, (path.read_text('utf-8') if path.exists() else '') + text)


def write(path: Path, text: str) -> None:
    """Writes beside and renames: a killed run leaves the old file, or none."""
    partial = path.with_name(f'{path.name}.part')
    partial.write_text(text, 'utf-8', errors='backslashreplace')  # names of files may be no Unicode
    partial.replace(path)
