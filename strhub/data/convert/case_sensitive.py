"""Labels with case and punctuation for pictures of the benchmarks that were published without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from strhub.data.convert.base import Option, SetInfo, Skipped, Word
from strhub.data.convert.lists import labelled, place
from strhub.data.convert.parsing import Pictures, read_text


def case_sensitive(root: Path, *, images: str = '') -> Iterator[Word | Skipped]:
    """The words of a set of the repository (`IMG` and `label`), of all of them, or of a list for given pictures."""
    if root.is_file():
        yield from _from_list(root, Path(images) if images else root.parent)
        return
    folders = [root, *sorted(root.iterdir())] if root.is_dir() else []
    sets = [folder for folder in folders if (folder / 'label').is_dir() and (folder / 'IMG').is_dir()]
    if not sets:
        raise FileNotFoundError(f'{root} holds no folder with IMG and label in it, and is no list of labels')
    for folder in sets:
        yield from _from_folder(folder)


def _from_list(file: Path, images: Path) -> Iterator[Word | Skipped]:
    for entry in labelled(file):
        yield entry if isinstance(entry, Skipped) else place(images, *entry)


def _from_folder(folder: Path) -> Iterator[Word | Skipped]:
    pictures = Pictures(folder / 'IMG')
    files = (folder / 'label').glob('*.txt')
    for file in sorted(files, key=lambda file: (len(file.stem), file.stem)):  # 2 before 10
        picture = pictures(file.stem)
        try:
            label = read_text(file).strip()
        except ValueError:
            yield Skipped('label not UTF-8', str(file))
            continue
        yield Skipped('picture missing', str(file)) if picture is None else Word(picture, label)


SETS = {
    'case_sensitive': SetInfo(
        case_sensitive,
        title='IIIT5k, SVT, SVTP and CUTE80 with case and punctuation, or any list of labels for given pictures',
        download=(
            'the repository, for IIIT5k, SVT, SVTP and CUTE80',
            'ICDAR 2013 and 2015 have case and punctuation in their own gt.txt (https://rrc.cvc.uab.es)',
        ),
        home='https://github.com/Jyouhou/Case-Sensitive-Scene-Text-Recognition-Datasets',
        licence='unknown',
        layout="""\
SRC/label/1.txt    the label and nothing else
SRC/IMG/1.jpg
SRC may hold several such folders; or it is a list, with pictures relative to --images:
  .json     {"1.jpg": "Label"} or [{"filename": "1.jpg", "text": "Label"}]
  .jsonl    {"filename": "1.jpg", "text": "Label"}
  .txt      1.jpg<TAB>Label, or 1.jpg, "Label", or 1.jpg Label""",
        counts='IIIT5k 3,000 test and 2,000 train, SVT 647 and 257, SVTP 645, CUTE80 288',
        language='English',
        options=(Option('images', '', 'folder of the pictures of a list (default: that of the list)'),),
        example='svt_test data/test/SVT',
    ),
}
