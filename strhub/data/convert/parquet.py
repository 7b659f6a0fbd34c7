"""Parquet files as Hugging Face writes them: a column of encoded pictures and one of labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from strhub.data.convert.base import Cell, Option, SetInfo, Skipped, Word
from strhub.data.convert.parsing import open_parquet

ROWS = 64  # at once, for each has a picture


def parquet(
    root: Path, *, image_column: str = 'image', text_column: str = 'text', split: str = ''
) -> Iterator[Word | Skipped]:
    """The words of a file, or of all files below a folder in the order of their names."""
    files = [root] if root.is_file() else sorted(root.rglob(f'{split}*.parquet')) if root.is_dir() else []
    if not files:
        raise FileNotFoundError(f'{root} is no parquet file and holds no {split}*.parquet')
    for file in files:
        for row, (picture, label) in enumerate(_rows(file, image_column, text_column)):
            cell = Cell(file, row, _encoded(picture))
            yield Word(cell, label) if isinstance(label, str) else Skipped('no text', str(cell))


def _rows(file: Path, image_column: str, text_column: str) -> Iterator[tuple[object, object]]:
    with open_parquet(file) as table:
        columns = table.schema_arrow.names
        if missing := [column for column in (image_column, text_column) if column not in columns]:
            raise ValueError(
                f'{file} has no column {" and no column ".join(missing)} but {", ".join(columns)}: '
                'name them with --image_column and --text_column'
            )
        for batch in table.iter_batches(ROWS, columns=[image_column, text_column]):
            yield from zip(*(batch.column(name).to_pylist() for name in (image_column, text_column)), strict=True)


def _encoded(picture: object) -> bytes | None:
    """The bytes that a picture is, or has in the struct of `bytes` and `path` that Hugging Face writes."""
    if isinstance(picture, dict):
        picture = picture.get('bytes')
    return picture if isinstance(picture, bytes) else None


SETS = {
    'parquet': SetInfo(
        parquet,
        title='parquet files with pictures and labels, as Hugging Face has them',
        download=('the parquet files of a data set, or files of your own',),
        home='https://huggingface.co/datasets, or your own',
        licence='see the page of the data set',
        layout="""\
SRC is a parquet file, or a folder with some below it (data/train-00000-of-00002.parquet), with the columns
  image    {bytes, path} as Hugging Face writes pictures, or the encoded bytes alone
  text     the label""",
        language='any',
        options=(
            Option('image_column', 'image', 'the column of the pictures'),
            Option('text_column', 'text', 'the column of the labels'),
            Option('split', '', 'only files whose names begin so, e.g. train'),
        ),
        example='union14m/data data/train/real/mine --text_column label --split train',
    ),
}
