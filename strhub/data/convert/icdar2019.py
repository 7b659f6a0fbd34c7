"""ArT, LSVT and ReCTS: the ICDAR 2019 challenges whose annotations are JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from strhub.data.convert.base import Option, SetInfo, Skipped
from strhub.data.convert.parsing import check_kind, find_file, read_json
from strhub.data.convert.regions import AS_STORED, LANGUAGE, Gallery, Page, Region, pages

ART_FORMS = {'words': 'train_task2', 'pages': 'train'}


@pages
def art(root: Path, *, form: str = 'any') -> Iterator[Page | Skipped]:
    """The words that the organisers cut out (task 2) or, where they are not, those in whole pictures."""
    prefixes = [prefix for name, prefix in ART_FORMS.items() if form in ('any', name)]
    file = find_file(root, *(f'{prefix}_labels.json' for prefix in prefixes))
    prefix = file.name.removesuffix('_labels.json')
    yield from _by_stem(file, Gallery(root, f'{prefix}_images'), whole=prefix == ART_FORMS['words'])


@pages
def lsvt(root: Path) -> Iterator[Page | Skipped]:
    """The lines of text of the fully annotated pictures."""
    file = find_file(root, 'train_full_labels.json')
    yield from _by_stem(file, Gallery(root, 'train_full_images', 'train_full_images_0', 'train_full_images_1'))


def _by_stem(file: Path, gallery: Gallery, *, whole: bool = False) -> Iterator[Page | Skipped]:
    """The pages of {picture without suffix: [{points, transcription, illegibility, language}]}.

    Args:
        whole: each picture is a word that was cut out; its points are left aside.
    """
    for stem, texts in read_json(file, dict).items():
        regions = [_region(text, whole) for text in texts] if isinstance(texts, list) else []
        if not isinstance(texts, list):
            yield Skipped('annotations broken', stem)
        elif whole and len(regions) > 1:
            yield Skipped('several texts in the picture of one', stem, len(regions))
        else:
            yield Page(gallery(stem), stem, regions)


def _region(text: Any, whole: bool = False) -> Region:
    if not isinstance(text, dict):
        return Region(None)
    illegible = text.get('illegibility') is True or text.get('ignore') == 1
    return Region(
        text.get('transcription'),
        text.get('points'),
        language=str(text.get('language', '')),
        ruled_out='illegible' if illegible else '',
        whole=whole,
    )


@pages
def rects(root: Path, *, unit: str = 'lines') -> Iterator[Page | Skipped]:
    """The lines of text, or the characters, of one JSON file for each picture."""
    folder, gallery = find_file(root, 'gt'), Gallery(root, 'img')
    files = sorted(folder.glob('*.json'))
    if not files:
        raise FileNotFoundError(f'{folder} holds no JSON file: unpack the annotations of ReCTS there')
    for file in files:
        try:
            texts = check_kind(read_json(file, dict).get(unit), list, f'{unit!r} of {file}')
        except ValueError:  # one of 20,000 files
            yield Skipped('annotations broken', str(file))
            continue
        yield Page(gallery(file.stem), file.stem, [_region(text) for text in texts])


SETS = {
    'art': SetInfo(
        art,
        title='ArT, photographs with curved and slanted text (ICDAR 2019)',
        download=(
            'train_task2_images.tar.gz and train_task2_labels.json: words that are cut out, or',
            'train_images.tar.gz and train_labels.json: whole pictures',
        ),
        home='https://rrc.cvc.uab.es/?ch=14&com=downloads (after registration)',
        licence='unknown; holds Total-Text and SCUT-CTW1500',
        layout="""\
SRC/train_task2_labels.json    {"gt_0_0": [{"transcription": …, "points": …, "language": …, "illegibility": …}]}
SRC/train_task2_images/gt_0_0.jpg
or, of whole pictures,
SRC/train_labels.json
SRC/train_images/gt_0.jpg""",
        counts='5,603 pictures with about 50,000 words, illegible ones included',
        language='Latin and Chinese',
        options=(
            Option('form', 'any', 'which of the two to take where both are there', ('any', *ART_FORMS)),
            LANGUAGE,
            AS_STORED,
        ),
        example='ArT data/train/real/ArT --language Latin',
    ),
    'lsvt': SetInfo(
        lsvt,
        title='LSVT, street views of China, the part with full annotations (ICDAR 2019)',
        download=('train_full_images_0.tar.gz, train_full_images_1.tar.gz, train_full_labels.json',),
        home='https://rrc.cvc.uab.es/?ch=16&com=downloads (after registration)',
        licence='unknown',
        layout="""\
SRC/train_full_labels.json     {"gt_0": [{"transcription": …, "points": …, "illegibility": …}]}
SRC/train_full_images_0/gt_0.jpg
SRC/train_full_images_1/gt_15000.jpg
or all pictures in SRC/train_full_images""",
        counts='30,000 pictures; lines of text: unknown',
        language='Chinese, some English',
        options=(AS_STORED,),
        example='LSVT data/train/real/LSVT',
    ),
    'rects': SetInfo(
        rects,
        title='ReCTS, signboards of shops in China (ICDAR 2019)',
        download=('ReCTS.tar.gz, the training set',),
        home='https://rrc.cvc.uab.es/?ch=12&com=downloads (after registration)',
        licence='unknown',
        layout="""\
SRC/gt/train_ReCTS_000001.json    {"chars": […], "lines": [{"points": …, "transcription": …, "ignore": 0}]}
SRC/img/train_ReCTS_000001.jpg""",
        counts='20,000 pictures; lines of text: unknown',
        language='Chinese, some English',
        options=(Option('unit', 'lines', 'what is a word of the LMDB', ('lines', 'chars')), AS_STORED),
        example='ReCTS data/train/real/ReCTS',
    ),
}
