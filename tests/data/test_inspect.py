"""strhub inspect: the report and the sheet."""

import pytest
from PIL import Image

from strhub.data.inspect import main


@pytest.mark.parametrize('kind', ['make_lmdb', 'make_folder'])
def test_the_report_counts_and_the_sheet_shows(tmp_path, kind, request, capsys):
    root = request.getfixturevalue(kind)(tmp_path / 'set', ['abc', 'a b', 'É', '中文', 'x' * 30], broken=[1])
    main([str(root), '--sheet', str(tmp_path / 'sheets' / 'sheet.png')])
    report = capsys.readouterr().out
    assert '3 words, left out: 1 label without a character of the charset, 1 label longer than 25 characters' in report
    for line in ('    3         2 ####', '   30         1 ####', 'characters outside the charset: 4 of 4 kinds'):
        assert line in report
    assert '中  U+4E2D         1' in report
    assert 'sizes of 2 pictures' in report
    assert '1 picture without a readable header' in report
    with Image.open(tmp_path / 'sheets' / 'sheet.png') as sheet:
        colours = sheet.convert('RGB').getcolors(1 << 20)
    assert (255, 0, 0) in [colour for _, colour in colours]  # the unreadable one
    assert len(colours) > 500  # pictures, not blanks


def test_a_tree_is_shown_by_its_sets(tmp_path, make_lmdb, make_folder, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_lmdb(tmp_path / 'data' / 'one', ['a', 'b'])
    make_folder(tmp_path / 'data' / 'two', ['c'])
    main(['data'])
    report = capsys.readouterr().out
    assert '2 words' in report
    assert '3 words' in report
    assert (tmp_path / 'outputs' / 'inspect' / 'data.png').is_file()


def test_the_rules_can_be_chosen(tmp_path, make_folder, capsys):
    root = make_folder(tmp_path / 'set', ['中文', 'Ab'])
    main([str(root), '--charset', '中文', '--no-normalize_unicode', '--sheet', str(tmp_path / 'a.png')])
    report = capsys.readouterr().out
    assert ' 1 word, left out: ' in report
    assert 'A  U+0041' in report


@pytest.mark.parametrize(
    ('option', 'value'),
    [('--pictures', '0'), ('--min_image_dim', '-4'), ('--sheet', 'sheet.xyz'), ('--sheet', 'sheet')],
)
def test_impossible_options_are_refused_before_anything_is_read(option, value):
    with pytest.raises(ValueError, match=f'{option} is {value}: give'):
        main(['nowhere', option, value])


def test_nothing_usable_is_told_after_the_counts(tmp_path, make_folder, capsys):
    root = make_folder(tmp_path / 'set', ['中文'])
    with pytest.raises(ValueError, match='no word is usable'):
        main([str(root), '--sheet', str(tmp_path / 'a.png')])
    assert '1 label without a character of the charset' in capsys.readouterr().out
    assert not (tmp_path / 'a.png').exists()
