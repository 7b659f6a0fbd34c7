"""Union14M-L: four million words of fourteen public sets, sorted by how hard they are; as LMDBs or as lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from strhub.data.convert.base import Option, Record, SetInfo, Skipped, Word
from strhub.data.convert.lists import labelled, place
from strhub.data.convert.regions import inside

LEVELS = ('easy', 'medium', 'normal', 'hard', 'challenging')


def union14m(root: Path, *, part: str = 'train') -> Iterator[Word | Skipped]:
    """The words of all LMDBs, or else of all lists, that belong to a part."""
    names = LEVELS if part == 'train' else (part,)
    found = sorted(file.parent for file in root.rglob('data.mdb')) if root.is_dir() else []
    if found:
        folders = [folder for folder in found if folder == root or folder.name.endswith(names)]
        if not folders:
            raise FileNotFoundError(f'{root} holds no LMDB whose name ends in {" or ".join(names)}')
        for folder in folders:
            yield from _from_lmdb(folder)
        return
    files = [file for name in names for file in sorted(root.glob(f'train_annos/*/*{name}*.jsonl'))]
    files = files or [file for name in names for file in sorted(root.glob(f'train_annos/*/*{name}*.json'))]
    if not files:
        wanted = ', '.join(f'train_annos/*/*{name}*.jsonl' for name in names)
        raise FileNotFoundError(f'{root} holds neither an LMDB nor {wanted}')
    for file in files:
        yield from _from_list(root, file)


def _from_lmdb(folder: Path) -> Iterator[Word | Skipped]:
    from strhub.data.lmdb import LmdbReader, decode, image_key

    for first, values in LmdbReader(folder).encoded_labels():
        for record, value in enumerate(values, first):
            picture = Record(folder, image_key(record))
            label = None if value is None else decode(value)
            fault = 'record without a label' if value is None else 'label not UTF-8'
            yield Skipped(fault, str(picture)) if label is None else Word(picture, label)


def _from_list(root: Path, file: Path) -> Iterator[Word | Skipped]:
    base: Path | None = None
    for entry in labelled(file):
        if isinstance(entry, Skipped):
            yield entry
            continue
        name, label = entry
        if base is None:  # lists of different years begin their names at different folders
            places = (root, root / 'full_images', file.parent)
            base = next((folder for folder in places if (path := inside(folder, name)) and path.exists()), root)
        yield place(base, name, label)


SETS = {
    'union14m': SetInfo(
        union14m,
        title='Union14M-L, fourteen public sets in one, sorted by how hard they are',
        download=('Union14M-L (12 GB), as pictures or as LMDBs',),
        home='https://github.com/Mountchicken/Union14M',
        licence='those of the fourteen sets it is made of, some of them for research only',
        layout="""\
SRC/train_challenging/data.mdb, SRC/train_hard/data.mdb, … or SRC is one of these; or
SRC/train_annos/mmocr-0.x/train_easy.jsonl    {"filename": "full_images/…/1.jpg", "text": "Label"}; MMOCR 1's .json, too
SRC/full_images/art_curve/…""",
        counts='about 4 million words',
        language='English, some others',
        options=(
            Option(
                'part',
                'train',
                'all levels for training, one of them, or val',
                ('train', *LEVELS, 'val'),
            ),
        ),
        example='Union14M-L data/train/real/Union14M --part train',
        searched=True,
    ),
}
