"""PaddleOCR's label lists, for recognition and for detection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from strhub.data.convert.base import Option, SetInfo, Skipped
from strhub.data.convert.parsing import find_file, parse_json, read_lines
from strhub.data.convert.regions import AS_STORED, Page, Region, inside, pages

FILES = ('rec_gt_train.txt', 'rec_gt.txt', 'train.txt', 'Label.txt', 'label.txt', 'train_label.txt', 'rec_gt_test.txt')


@pages
def paddleocr(root: Path, *, images: str = '') -> Iterator[Page | Skipped]:
    """The words of a list; `root` is the list, or the folder that holds it."""
    file = root if root.is_file() else find_file(root, *FILES)
    folder = Path(images) if images else file.parent
    for number, line in read_lines(file):
        names, tab, label = line.partition('\t')
        if not tab:
            yield Skipped('line without a tab', f'{file} line {number}')
            continue
        texts = _json(label, '[{')
        regions = [Region(label, whole=True)] if texts is None else [_region(text) for text in texts]
        for name in _json(names, '["') or [names.strip()]:  # several pictures may share a label
            yield Page(inside(folder, str(name)), str(name), regions)


def _json(text: str, start: str) -> list[Any] | None:
    """The list that a text is, None if it is a plain text, which may well begin with a bracket."""
    if not text.startswith(start):
        return [] if start == '[{' and text.strip() == '[]' else None
    try:
        value = parse_json(text, 'a line')
    except ValueError:
        return None
    return value if isinstance(value, list) else None


def _region(text: Any) -> Region:
    if not isinstance(text, dict):
        return Region(None)
    illegible = text.get('difficult') is True or text.get('transcription') == '*'
    return Region(text.get('transcription'), text.get('points'), ruled_out='illegible' if illegible else '')


SETS = {
    'paddleocr': SetInfo(
        paddleocr,
        title="a label list of PaddleOCR's, for recognition or detection",
        download=('nothing: this is a list of your own',),
        home='your own',
        licence='your own',
        layout=f"""\
SRC is the list, or a folder with one called
  {', '.join(FILES)};
UTF-8, lines such as
  train/word_1.png<TAB>label
  ["train/1.png", "train/2.png"]<TAB>label of both
  img/1.jpg<TAB>[{{"transcription": "text", "points": [[x1, y1], …]}}]    ### and "difficult": true are illegible
pictures relative to the folder of the list, or to --images""",
        language='any',
        options=(
            Option('images', '', 'folder that pictures are relative to (default: that of the list)'),
            AS_STORED,
        ),
        example='PPOCRLabel/Label.txt data/train/real/mine',
    ),
}
