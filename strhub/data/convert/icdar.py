"""A text file for each picture with a line for each text, as ICDAR has it: any such set, MLT 2019 and RCTW."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from strhub.data.convert.base import Option, SetInfo, Skipped
from strhub.data.convert.parsing import Pictures, find_file, numbers, read_lines, unquoted
from strhub.data.convert.regions import AS_STORED, LANGUAGE, Gallery, Page, Region, pages
from strhub.data.summary import counted

logger = logging.getLogger(__name__)

NUMBER = r'[-+]?\d+(?:\.\d+)?'
MORE = re.compile(rf'\s*({NUMBER}\s*,\s*{NUMBER}(?:\s*,\s*{NUMBER}\s*,\s*{NUMBER}){{4,}})\s*,(.*)', re.DOTALL)
FOUR = re.compile(rf'\s*({NUMBER}(?:\s*,\s*{NUMBER}){{7}})\s*,(.*)', re.DOTALL)
TWO = re.compile(rf'\s*({NUMBER}(?:(?:\s*,\s*|\s+){NUMBER}){{3}})(?:\s*,\s*|\s+)(.*)', re.DOTALL)
# What lines look like, by how many corners they have; a line that fits one fits those after it, too.
FORMS = {'4+': MORE, '4': FOUR, '2': TWO}
ENCODINGS = ('utf-8', 'gb18030')  # the second is what Chinese editors write, and holds GBK

Parse = Callable[[str], Region | None]


@pages
def icdar(root: Path, *, images: str = '', corners: str = 'any') -> Iterator[Page | Skipped]:
    """The texts of `gt_NAME.txt` or `NAME.txt`, with the picture NAME beside it or in a folder beside it."""
    if not root.is_dir():
        raise FileNotFoundError(f'{root} is not a folder: give the one that holds gt_*.txt and the pictures')
    files = sorted(root.rglob('gt_*.txt')) or sorted(path for path in root.rglob('*.txt') if _has_texts(path, corners))
    if not files:
        raise FileNotFoundError(f'{root} holds no text file with lines as x1,y1,…,x4,y4,text or x1,y1,x2,y2,text')
    find = _Finder(root, Path(images) if images else None)
    guessed: list[Path] = []
    for file in files:
        name = file.stem.removeprefix('gt_')
        yield from _page(file, name, find(file, name), _icdar_parser(file, corners, guessed))
    if guessed:
        logger.warning(
            '%s with more than 4 corners by one line alone, whose text may begin with numbers instead (the first is '
            '%s): --corners 4 or --corners 4+ says which',
            counted(len(guessed), 'file'),
            guessed[0],
        )


@pages
def mlt19(root: Path, *, form: str = 'any', rectify: bool = False) -> Iterator[Page | Skipped]:
    """The words that the organisers cut out (task 2) or, where they are not, those in whole pictures."""
    place = find_file(root, *(file for name, files in MLT_FORMS.items() if form in ('any', name) for file in files))
    if place.is_file():
        yield from _cut_out(place, rectify)
        return
    folders = [folder.name for folder in sorted(root.iterdir()) if folder.is_dir() and folder != place]
    gallery = Gallery(root, *folders, '.')
    for file in _text_files(place):
        name = file.stem.removeprefix('gt_')
        yield from _page(file, name, gallery(name), _mlt_line)


@pages
def rctw17(root: Path, *, difficult: bool = False) -> Iterator[Page | Skipped]:
    """The lines of text of one file for each picture; those marked as difficult only if asked for."""
    place = find_file(root, 'train_gts', 'gts', 'train_images', '.')
    gallery = Gallery(root, 'train_images', 'images', 'imgs', '.')
    for file in _text_files(place):
        yield from _page(file, file.stem, gallery(file.stem), lambda line: _rctw_line(line, difficult))


def _text_files(folder: Path) -> Sequence[Path]:
    files = sorted(folder.glob('*.txt'))
    if not files:
        raise FileNotFoundError(f'{folder} holds no text file: unpack the annotations there')
    return files


def _page(file: Path, name: str, picture: Path | None, parse: Parse) -> Iterator[Page | Skipped]:
    """The page of a text file, and the lines of it that say nothing."""
    regions = []
    try:
        for number, line in read_lines(file, ENCODINGS):
            region = parse(line)
            if region is None:
                yield Skipped('line without a text and its place', f'{file} line {number}')
            else:
                regions.append(region)
    except ValueError:  # one of thousands of files
        yield Skipped('annotations broken', str(file))
    else:
        yield Page(picture, name, regions)


def _icdar_parser(file: Path, corners: str, guessed: list[Path]) -> Parse:
    """Reads the lines of a file, with `any` number of corners as most of them have.

    No line says it alone: a text may begin with numbers, too, and a broken line has fewer than it should. A file in
    which one does is added to those `guessed`.
    """
    if corners != 'any':
        return partial(_icdar_line, corners=corners)
    try:
        lines = [line for _, line in read_lines(file, ENCODINGS)]
    except ValueError:  # its page will say so
        lines = []
    counts = {name: sum(form.fullmatch(line) is not None for line in lines) for name, form in FORMS.items()}
    usual = next(name for name, count in counts.items() if 2 * count >= counts['2'])
    if usual == '4+' and counts['4+'] == 1:
        guessed.append(file)
    return partial(_icdar_line, corners=usual, unclear=MORE if usual == '4' else None)


def _icdar_line(line: str, corners: str, unclear: re.Pattern[str] | None = None) -> Region | None:
    if unclear and unclear.fullmatch(line):
        return Region(None, ruled_out='line of 4 corners or more: --corners 4 or --corners 4+ says which')
    match = FORMS[corners].fullmatch(line) or (corners == '4+' and FOUR.fullmatch(line))
    if not match:
        return None
    if corners != '2':
        return Region(match[2].strip(), _numbers(match[1]))
    box = numbers(_numbers(match[1]), 4)
    return None if box is None else Region(unquoted(match[2]), box=(box[0], box[1], box[2], box[3]))


def _mlt_line(line: str) -> Region | None:
    match = FOUR.fullmatch(line)
    if match is None or ',' not in match[2]:
        return None
    script, _, text = match[2].partition(',')
    return Region(text, _numbers(match[1]), language=script.strip())


def _rctw_line(line: str, difficult: bool) -> Region | None:
    match = FOUR.fullmatch(line)
    flag, comma, text = match[2].partition(',') if match else ('', '', '')
    if match is None or not comma or flag.strip() not in ('0', '1'):
        return None
    ruled_out = 'difficult' if flag.strip() == '1' and not difficult else ''
    return Region(unquoted(text), _numbers(match[1]), ruled_out=ruled_out)


def _numbers(text: str) -> list[str]:
    return text.replace(',', ' ').split()


def _cut_out(list_file: Path, rectify: bool) -> Iterator[Page | Skipped]:
    """The pages, of one word each, of `gt.txt`; with `rectify` a word's corners in its picture count."""
    root = list_file.parent
    places: dict[str, list[str]] = {}
    if rectify:
        for _, line in read_lines(find_file(root, 'gt_coordinates.txt')):
            name, *values = line.split(',')
            places[name.strip()] = values[:8]
    gallery = Gallery(root, *(folder.name for folder in sorted(root.iterdir()) if folder.is_dir()), '.')
    for number, line in read_lines(list_file):
        if line.count(',') < 2:
            yield Skipped('line without a picture and its text', f'{list_file} line {number}')
            continue
        name, script, text = line.split(',', 2)
        region = Region(text, places.get(name.strip()), language=script.strip(), whole=not rectify)
        yield Page(gallery(name.strip()), name, [region])


def _has_texts(file: Path, corners: str) -> bool:
    """Whether the first line of a file is a text with its place."""
    try:
        first = next(read_lines(file, ENCODINGS), None)
    except (ValueError, OSError):
        return False
    form = FORMS['2' if corners == 'any' else corners.rstrip('+')]  # which all lines fit that have as many or more
    return first is not None and form.fullmatch(first[1]) is not None


class _Finder:
    """Finds the picture of a text file: in the folder that was given, or else as near to the file as there is one."""

    def __init__(self, root: Path, images: Path | None) -> None:
        if images is not None and not images.is_dir():
            raise FileNotFoundError(f'{images} is not a folder: give the one with the pictures')
        self._root = root
        self._given = images
        self._pictures: dict[Path, Pictures] = {}
        self._inners: dict[Path, list[Path]] = {}

    def __call__(self, file: Path, name: str) -> Path | None:
        own = self._in(self._given or file.parent, name)
        if own or self._given:
            return own
        # The nearest counts: train/gt/gt_img_1.txt means train/images/img_1.jpg and not test/images/img_1.jpg.
        for folder in (file.parent, *file.parent.parents):
            places = [place for inner in self._inner(folder) if (place := self._in(inner, name))]
            if len(places) > 1:
                raise ValueError(f'the picture of {file} is {places[0]} or {places[1]}: name the folder with --images')
            if places or folder == self._root:
                return places[0] if places else None
        return None

    def _inner(self, folder: Path) -> list[Path]:
        """A folder and those in it."""
        if folder not in self._inners:
            self._inners[folder] = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
        return self._inners[folder]

    def _in(self, folder: Path, name: str) -> Path | None:
        if folder not in self._pictures:
            self._pictures[folder] = Pictures(folder)
        return self._pictures[folder](name)


MLT_FORMS = {'words': ('gt.txt',), 'pages': ('train_gt_t13', 'gt')}

SETS = {
    'icdar': SetInfo(
        icdar,
        title='whole pictures with gt_*.txt, as ICDAR 2013, 2015 and many others have them',
        download=('the pictures and the localisation ground truth of a challenge, or files of your own',),
        home='https://rrc.cvc.uab.es (after registration), or your own',
        licence='of the challenge: see there',
        layout="""\
SRC/gt_img_1.txt or SRC/gt/gt_img_1.txt or the like; without gt_, too
  x1,y1,x2,y2,x3,y3,x4,y4,text    4 corners, clockwise from the upper left; commas may stand in the text
  x1,y1,…,x9,y9,text    more corners, with commas after each number
  left, top, right, bottom, "text"    2 corners, with or without commas and quotes
  ### is a text that cannot be read
SRC/img_1.jpg or SRC/images/img_1.jpg or the like""",
        counts='ICDAR 2013: 229 + 233 pictures; ICDAR 2015: 1,000 + 500',
        language='any',
        options=(
            Option('images', '', 'folder of the pictures, where it is not in SRC'),
            Option(
                'corners',
                'any',
                'how many lines have; any: what most lines of a file look like',
                ('any', '2', '4', '4+'),
            ),
            AS_STORED,
        ),
        example='ch4_training_gt data/train/real/IC15_pages --images ch4_training_images',
    ),
    'mlt19': SetInfo(
        mlt19,
        title='MLT 2019, scene text in ten languages (ICDAR 2019)',
        download=(
            'Task 2, cropped words: pictures and ground truth, or',
            'Task 1: ImagesPart1.zip, ImagesPart2.zip and train_gt_t13.zip',
        ),
        home='https://rrc.cvc.uab.es/?ch=15&com=downloads (after registration)',
        licence='CC BY-NC 4.0, by what others who pass it on say',
        layout="""\
SRC/gt.txt                         word_1.png,Latin,text
SRC/gt_coordinates.txt             word_1.png,x1,y1,…,x4,y4,…; for --rectify
SRC/word_1.png or SRC/PART/word_1.png
or, of whole pictures,
SRC/train_gt_t13/tr_img_00001.txt  x1,y1,x2,y2,x3,y3,x4,y4,Latin,text
SRC/ImagesPart1/tr_img_00001.jpg
SRC/ImagesPart2/…""",
        counts='10,000 pictures, about 89,000 words that are cut out',
        language='Arabic, Bangla, Chinese, Hindi, Japanese, Korean, Latin, Mixed, Symbols, None',
        options=(
            Option('form', 'any', 'which of the two to take where both are there', ('any', *MLT_FORMS)),
            Option('rectify', False, 'straighten words that are cut out by their corners in gt_coordinates.txt'),
            LANGUAGE,
            AS_STORED,
        ),
        example='MLT19 data/train/real/MLT19 --language Latin,Symbols',
    ),
    'rctw17': SetInfo(
        rctw17,
        title='RCTW-17, Chinese text in photographs and screenshots (ICDAR 2017)',
        download=('Training images and annotations v1.2',),
        home='http://rctw.vlrlab.net/dataset',
        licence='unknown',
        layout="""\
SRC/train_gts/image_0.txt      x1,y1,x2,y2,x3,y3,x4,y4,difficult,"text"; UTF-8 or GBK
SRC/train_images/image_0.jpg
or both in one folder""",
        counts='8,034 of 12,263 pictures are for training; lines of text: unknown',
        language='Chinese, some English',
        options=(Option('difficult', False, 'keep what is marked as difficult'), AS_STORED),
        example='RCTW data/train/real/RCTW17',
    ),
}
