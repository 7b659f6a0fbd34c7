"""The page of ./test.py --report: its numbers, what it does with hostile labels, two checkpoints, what it refuses."""

from __future__ import annotations

import html
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from string import punctuation
from typing import Any

import pytest
from PIL import Image
from samples import draw_word, save_checkpoint

from strhub.data.picture import UnreadablePictureError
from strhub.engine.evaluate import main
from strhub.engine.predictions import Judged
from strhub.engine.report import page as page_module
from strhub.engine.report.charts import confusion_table
from strhub.engine.report.figures import (
    Share,
    Word,
    Words,
    aligned,
    by_confidence,
    by_length,
    calibration_error,
    confusions,
    paired,
)
from strhub.engine.report.markup import literal
from strhub.engine.report.page import Side, chosen, kind_of, write_report
from strhub.metrics import Score
from strhub.models.base import BaseSystem
from strhub.models.utils import create_model
from strhub.runtime.readings import Reading

HOSTILE = '</script><img src=x onerror=alert(1)>"\'&$title\u202e\x00'


def word(label: str, prediction: str, confidence: float = 0.5, *, picture: str = '1.png', place: int = 0) -> Word:
    return Word('set', place, picture, label, prediction, confidence)


class Page(HTMLParser):
    """What a browser would make of a page, as far as these tests ask."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ''
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def cards(self) -> list[dict[str, str | None]]:
        return [attributes for _, attributes in self.tags if attributes.get('class') == 'card']


# The numbers


def test_words_know_their_places() -> None:
    words = Words()
    for name in ('a', 'a', 'b'):
        words.note(Judged(name, 'x.png', 'x', 'y', False, Reading('y', 0.25, ())))
    assert [(one.set, one.place, one.is_right) for one in words] == [('a', 0, False), ('a', 1, False), ('b', 0, False)]


def test_alignment_pairs_what_was_put_in_and_left_out() -> None:
    assert aligned('cafe', 'caffe') == [('c', 'c'), ('a', 'a'), ('f', 'f'), ('', 'f'), ('e', 'e')]
    assert aligned('stop', 'top') == [('s', ''), ('t', 't'), ('o', 'o'), ('p', 'p')]
    assert aligned('o', '0') == [('o', '0')]
    pairs = confusions([word('oo', '0o'), word('o', 'o'), word('o', '')])
    assert pairs == {('o', '0'): 1, ('o', 'o'): 2, ('o', ''): 1}


def test_confidence_is_compared_with_accuracy() -> None:
    words = [word('a', 'a', 0.95), word('a', 'b', 0.95), word('a', 'a', 1.0), word('a', 'b', 0.0)]
    shares = by_confidence(words)
    assert [share.count for share in shares] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 3]
    assert calibration_error(shares) == pytest.approx(0.75 * (2.9 / 3 - 2 / 3))
    assert math.isnan(calibration_error(by_confidence([])))


def test_lengths_are_those_of_labels() -> None:
    shares = by_length([word('abc', 'a'), word('a', 'a'), word('b', 'x')])
    assert list(shares) == [1, 3]
    assert (shares[1].count, shares[1].right, shares[3].right) == (2, 1, 0)
    assert Share().accuracy == 0


def test_only_words_under_one_label_are_compared() -> None:
    first = [word('a', 'a', picture='1'), word('b', 'x', picture='2'), word('c', 'c', picture='3')]
    second = [word('a', 'y', picture='1'), word('B', 'b', picture='2')]
    pairs = paired(first, second)
    assert [kind_of(pair) for pair in pairs] == ['second']
    twice = [word('a', 'b', picture='1'), word('b', 'b', picture='1')]
    assert [kind_of(pair) for pair in paired(twice, twice)] == ['both', '']


def test_errors_are_chosen_from_all_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, 'MOST_CARDS', 12)
    right, far, near = word('abcd', 'abcd', 1), word('abcd', 'wxyz', 0.1), word('abcd', 'abcx', 0.2)
    sure = word('abcd', 'abcy', 0.9)
    pairs = [*[(near, right)] * 50, (sure, right), (far, right), (right, near), *[(right, right)] * 5]
    found = chosen(pairs, is_comparison=True)
    assert [kind_of(pair) for pair in found] == ['first'] * 4 + ['second']
    assert {(sure, right), (far, right)} <= set(found)


def test_a_large_charset_shows_its_worst_characters() -> None:
    charset = [chr(0x4E00 + i) for i in range(100)]
    pairs = confusions([word(char, char) for char in charset] + [word(charset[77], charset[5])] * 3)
    table = confusion_table(pairs)
    assert f'{charset[77]} read as {charset[5]}, 3 times' in table
    assert '40 of 100 characters' in table
    assert len(table) < 200_000


def test_a_table_of_markdown_shows_any_text() -> None:
    plugin = pytest.importorskip('tensorboard.plugin_util')
    for text in (punctuation, 'a|b', '*a* _b_ [c](javascript:alert(1))', '<img src=x>', '`\\|'):
        table = plugin.markdown_to_safe_html(f'| label | read |\n|---|---|\n| {literal(text)} | x |')
        assert [html.unescape(cell) for cell in re.findall('<td>(.*?)</td>', table)] == [text, 'x']


# The page


def write(folder: Path, *sides: Side, size: tuple[int, int] = (96, 32)) -> str:
    drawn = draw_word('x', size)

    def open_word(one: Word) -> Image.Image:
        if one.picture == 'broken':
            raise UnreadablePictureError('broken')
        return drawn

    return write_report(folder, sides, header=HOSTILE, notes=[HOSTILE], open_word=open_word).read_text('utf-8')


def side(words: list[Word], name: str = 'model') -> Side:
    score = Score(len(words), sum(one.is_right for one in words), 0.0, 0.0, 0)
    return Side(name, {'Sets': {'set': score}}, words)


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    words = [
        Word(HOSTILE, 0, HOSTILE, HOSTILE, f'{HOSTILE}x', 0.5),
        Word(HOSTILE, 1, 'broken', 'אבג', 'دمشق', 0.1),
        Word(HOSTILE, 2, '\ud800.png', 'a b', 'a\nb', 0.1),
    ]
    name = HOSTILE
    text = write(tmp_path, Side(name, {HOSTILE: {HOSTILE: Score()}}, words))
    page = Page(text)
    assert [tag for tag, _ in page.tags].count('script') == 1
    assert not any(key.startswith('onerror') for _, attributes in page.tags for key in attributes)
    assert [a['src'].split(',')[0] for tag, a in page.tags if tag == 'img' and a['src']] == [
        'data:image/jpeg;base64'
    ] * 2
    assert 'cannot be read' in page.text
    assert '\u202e' not in text
    assert '\x00' not in text


def test_the_page_needs_nothing_else_and_stays_small(tmp_path: Path) -> None:
    words = [word('abc', f'abd{i}', i / 1000, picture=f'{i}.png', place=i) for i in range(1000)]
    text = write(tmp_path, side(words), size=(600, 400))
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]*"|url\(|@import|https?://', text)
    assert len(Page(text).cards()) == page_module.MOST_CARDS
    assert len(text) < 3_000_000
    assert f'{page_module.MOST_CARDS} of 1000' in text


def test_two_side_by_side(tmp_path: Path) -> None:
    first = [word('aa', 'aa', picture='1'), word('bb', 'bx', picture='2'), word('cc', 'c', picture='3')]
    second = [word('aa', 'a', picture='1'), word('bb', 'bb', picture='2'), word('cc', 'cx', picture='3')]
    page = Page(write(tmp_path, side(first, 'one'), side([*second, word('dd', 'dd', picture='4')], 'two')))
    assert sorted(str(card['data-kind']) for card in page.cards()) == ['both', 'first', 'second']
    assert {card['data-text'] for card in page.cards()} == {
        'aa\u2003aa\u2003a',
        'bb\u2003bx\u2003bb',
        'cc\u2003c\u2003cx',
    }
    assert 'Not compared: 1,' in page.text
    for words in ('only the first is right', 'only the second is wrong (1)', 'one', 'two'):
        assert words in page.text


def test_no_words_at_all(tmp_path: Path) -> None:
    assert Page(write(tmp_path, side([]))).text.count('There are no words.') == 3
    assert 'Not one.' in Page(write(tmp_path, side([word('a', 'a')]))).text


# The door


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    try:
        main([*map(str, argv), '--device', 'cpu', '--num_workers', '0'])
        status = 0
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    return status, *capsys.readouterr()


@pytest.fixture
def words_set(tmp_path: Path) -> Path:
    folder = tmp_path / 'words'
    folder.mkdir()
    for name in ('alpha', 'beta', 'gamma'):
        draw_word(name).save(folder / f'{name}.png')
    (folder / 'broken.png').write_text('no picture')
    names = ('alpha', 'beta', 'gamma', 'broken')
    (folder / 'labels.tsv').write_text(''.join(f'{name}.png\t{name}\n' for name in names))
    return folder


def test_a_picture_is_opened_where_the_first_checkpoint_had_it(tmp_path: Path) -> None:
    first, second = word('a', 'a', place=0), word('a', 'x', place=7)  # of another, the label is too long for the first
    opened = []

    def open_word(one: Word) -> Image.Image:
        opened.append(one.place)
        return draw_word('x')

    results = {'Sets': {'set': Score()}}
    sides = [Side('first', results, [first]), Side('second', results, [second])]
    write_report(tmp_path, sides, header='', notes=[], open_word=open_word)
    assert opened == [0]


def test_the_report_of_two_checkpoints(
    crnn_checkpoint: Path, parseq_checkpoint: Path, words_set: Path, tmp_path: Path, capsys: Any
) -> None:
    folder = tmp_path / 'new' / 'report'
    argv = [crnn_checkpoint, '--sets', words_set, '--predictions', tmp_path / 'p.jsonl', '--report', folder]
    status, out, _ = run(capsys, *argv, '--against', parseq_checkpoint)
    assert status == 0
    assert f'the report is {folder / "index.html"}' in out
    assert f'now {parseq_checkpoint} (parseq)' in out
    assert len((tmp_path / 'p.jsonl').read_text('utf-8').splitlines()) == 4
    page = Page((folder / 'index.html').read_text('utf-8'))
    assert len(page.cards()) == 4
    assert 'cannot be read' in page.text
    assert 'Side by side' in page.text


def test_a_checkpoint_may_be_compared_with_itself_read_otherwise(
    parseq_checkpoint: Path, words_set: Path, tmp_path: Path, capsys: Any
) -> None:
    argv = ['--sets', words_set, '--report', tmp_path / 'report', '--against', parseq_checkpoint]
    assert run(capsys, parseq_checkpoint, 'decode_ar=false', *argv)[0] == 0
    status, _, err = run(capsys, parseq_checkpoint, *argv)
    assert status == 2
    assert 'is the checkpoint itself' in err


@pytest.mark.parametrize(
    ('argv', 'expected'),
    [
        (['--against', '{other}'], '--against goes into the page of --report'),
        (['--report', '{words}/labels.tsv'], '--report {words}/labels.tsv is no folder'),
        (['--report', '{folder}', '--against', 'missing.ckpt'], 'missing.ckpt'),
        (['--report', '{folder}', '--against', '{greek}'], "does not read 'abcdefghij'"),
    ],
)
def test_bad_usage_is_one_sentence(
    argv: list[str], expected: str, crnn_checkpoint: Path, words_set: Path, tmp_path: Path, capsys: Any
) -> None:
    greek: BaseSystem = create_model(
        'crnn', width=0.0625, hidden_size=16, charset_train='0123456789αβγ', charset_test='αβγ'
    )
    places = {'other': crnn_checkpoint, 'words': words_set, 'folder': tmp_path / 'report'}
    places['greek'] = save_checkpoint(greek, tmp_path / 'greek.ckpt')
    argv = [one.format(**places) for one in argv]
    status, _, err = run(capsys, crnn_checkpoint, '--sets', words_set, *argv)
    errors = [line for line in err.splitlines() if line.startswith('error: ')]
    assert (status, len(errors)) == (2, 1)
    assert expected.format(**places) in errors[0]
    assert not places['folder'].exists()
