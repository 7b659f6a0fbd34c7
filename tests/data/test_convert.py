"""strhub convert: its command line, and folders of pictures."""

import json
import subprocess
import sys
from dataclasses import replace
from inspect import signature
from pathlib import Path

import pytest
from pictures import encode, make_picture

from strhub.data.convert import all_sets
from strhub.data.convert.base import Option, Skipped, Word
from strhub.data.convert.cli import main
from strhub.data.convert.folder import folder
from strhub.data.convert.write import write_words
from strhub.data.lmdb import LmdbReader
from strhub.data.picture import open_image


def records(path: Path) -> list[tuple[bytes, str]]:
    reader = LmdbReader(path)
    return [(reader.image(i + 1), reader.label(i + 1)) for i in range(len(reader))]


def test_pictures_keep_their_bytes_and_labels(tmp_path, make_folder, capsys):
    source = make_folder(tmp_path / 'src', ['one', 'Straße', 'a b'])
    main(['folder', str(source), str(tmp_path / 'dst')])
    expected = [(source / 'images' / f'{i}.png').read_bytes() for i in range(3)]
    assert records(tmp_path / 'dst') == list(zip(expected, ['one', 'Straße', 'a b'], strict=True))
    assert '3 words kept, 0 skipped' in capsys.readouterr().out


def test_a_label_file_and_a_tree_are_sources_too(tmp_path, make_folder):
    make_folder(tmp_path / 'src' / 'a', ['one'])
    file = make_folder(tmp_path / 'src' / 'b', ['two', 'three']) / 'labels.tsv'
    main(['folder', str(tmp_path / 'src'), str(tmp_path / 'tree')])
    main(['folder', str(file), str(tmp_path / 'file')])
    assert [label for _, label in records(tmp_path / 'tree')] == ['one', 'two', 'three']
    assert [label for _, label in records(tmp_path / 'file')] == ['two', 'three']


@pytest.mark.parametrize('target', ['src', 'src/lmdb', 'link/lmdb'])
def test_a_set_that_is_searched_does_not_get_its_lmdb_in_it(tmp_path, make_folder, target):
    source = make_folder(tmp_path / 'src', ['one'])
    (tmp_path / 'link').symlink_to(source)
    before = sorted(tmp_path.rglob('*'))
    with pytest.raises(ValueError, match='where it would be taken for a part of the set: give another DST'):
        main(['folder', str(source), str(tmp_path / target)])
    assert sorted(tmp_path.rglob('*')) == before


def test_what_is_skipped_is_counted_by_reason_and_named(tmp_path, make_folder, capsys):
    source = make_folder(tmp_path / 'src', [f'w{i}' for i in range(8)], broken=[2])
    (source / 'images' / '3.png').unlink()
    make_picture(0, 5, 20).save(source / 'images' / '4.png')
    with (source / 'labels.tsv').open('a') as file:
        file.write('no tab here\n')
    main(['folder', str(source), str(tmp_path / 'dst'), '--min_size', '8', '--workers', '2'])
    report = capsys.readouterr().out
    assert [label for _, label in records(tmp_path / 'dst')] == ['w0', 'w1', 'w5', 'w6', 'w7']
    assert '5 words kept, 4 skipped' in report
    for reason in (
        f'1 picture unreadable: {source / "images" / "2.png"}',
        f'1 picture missing: {source / "images" / "3.png"}',
        f'1 picture with a side under 8 pixels: {source / "images" / "4.png"}',
        '1 no tab between picture and label',
    ):
        assert reason in report
    assert 'line 9' in report


def test_parts_of_a_picture_are_cut_out(tmp_path):
    page = make_picture(0, 100, 50)
    (tmp_path / 'page.png').write_bytes(encode(page))
    words = [
        Word(tmp_path / 'page.png', 'in', (10, 5, 30, 20)),
        Word(tmp_path / 'page.png', 'over the edge', (90.4, -2, 105, 10)),
        Word(tmp_path / 'page.png', 'outside', (200, 0, 220, 10)),
        Skipped('illegible', 'page.png word 4'),
        Word(tmp_path / 'page.png', 'again', (0, 0, 100, 50)),
    ]
    report = write_words(words, tmp_path / 'dst')
    written = records(tmp_path / 'dst')
    assert [label for _, label in written] == ['in', 'over the edge', 'again']
    assert open_image(written[0][0]).tobytes() == page.crop((10, 5, 30, 20)).tobytes()
    assert open_image(written[1][0]).size == (10, 10)
    assert report.skipped == {'word outside the picture': 1, 'illegible': 1}


def test_an_existing_target_is_replaced_only_when_asked(tmp_path, make_folder):
    source, target = make_folder(tmp_path / 'src', ['new']), tmp_path / 'dst'
    main(['folder', str(source), str(target)])
    with pytest.raises(FileExistsError, match='exists already'):
        main(['folder', str(source), str(target)])
    main(['folder', str(source), str(target), '--overwrite'])
    with pytest.raises(FileExistsError, match='not an LMDB'):
        main(['folder', str(source), str(make_folder(tmp_path / 'other', ['old'])), '--overwrite'])
    assert (tmp_path / 'other' / 'labels.tsv').is_file()


def test_nothing_usable_makes_nothing(tmp_path, make_folder):
    source = make_folder(tmp_path / 'src', ['x', 'y'], broken=[0, 1])
    with pytest.raises(ValueError, match='2 pictures unreadable'):
        main(['folder', str(source), str(tmp_path / 'dst')])
    assert not (tmp_path / 'dst').exists()


def test_wrong_sources_are_told(tmp_path, make_lmdb):
    with pytest.raises(FileNotFoundError, match='does not exist: give a folder of pictures or its label file'):
        main(['folder', str(tmp_path / 'nowhere'), str(tmp_path / 'deep' / 'dst')])
    assert not (tmp_path / 'deep').exists()
    make_lmdb(tmp_path / 'set', ['x'])
    with pytest.raises(ValueError, match='LMDB already'):
        main(['folder', str(tmp_path / 'set'), str(tmp_path / 'dst')])
    with pytest.raises(SystemExit) as error:
        main(['nothing', 'a', 'b'])
    assert error.value.code == 2
    assert not (tmp_path / 'dst').exists()


def test_words_that_are_not_wanted_are_left_out(tmp_path, make_folder, capsys):
    source = make_folder(tmp_path / 'src', ['one', 'Straße', 'a b', 'longer'])
    main(['folder', str(source), str(tmp_path / 'ascii'), '--ascii', '--max_label_length', '5'])
    assert [label for _, label in records(tmp_path / 'ascii')] == ['one', 'a b']
    main(['folder', str(source), str(tmp_path / 'few'), '--charset', 'eno'])
    assert [label for _, label in records(tmp_path / 'few')] == ['one']
    assert '3 labels with characters outside the charset' in capsys.readouterr().out


def test_the_report_lies_beside_the_records(tmp_path, make_folder):
    source = make_folder(tmp_path / 'src', ['one', 'two'], broken=[1])
    main(['folder', str(source), str(tmp_path / 'dst'), '--min-size', '2'])
    report = json.loads((tmp_path / 'dst' / 'report.json').read_text())
    assert report['set'] == 'folder'
    assert (report['source'], report['min_size'], report['kept']) == (str(source), 2, 1)
    broken = str(source / 'images' / '1.png')
    assert report['skipped'] == {'picture unreadable': {'count': 1, 'examples': [broken]}}


@pytest.mark.parametrize('option', ['--workers 0', '--min_size -1', '--max_label_length -1'])
def test_senseless_numbers_are_told(tmp_path, make_folder, option):
    source = make_folder(tmp_path / 'src', ['one'])
    with pytest.raises(ValueError, match=f'{option.split()[0]} is {option.split()[1]}: give at least'):
        main(['folder', str(source), str(tmp_path / 'dst'), *option.split()])


@pytest.mark.parametrize('charset', ['', ' '])
def test_an_empty_charset_is_told(tmp_path, make_folder, charset):
    source = make_folder(tmp_path / 'src', ['one'])
    with pytest.raises(ValueError, match=r'--charset is empty, .*: give the characters that labels may have'):
        main(['folder', str(source), str(tmp_path / 'dst'), '--charset', charset])
    assert not (tmp_path / 'dst').exists()


def test_ctrl_c_says_how_to_go_on(tmp_path, make_folder, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    source = make_folder(tmp_path / 'src', ['one'])
    monkeypatch.setattr('strhub.data.convert.write.cut_all', interrupted)
    with pytest.raises(KeyboardInterrupt):
        main(['folder', str(source), str(tmp_path / 'dst')])
    assert 'the same command goes on from there' in capsys.readouterr().err


def test_the_list_names_all_sets_or_one(capsys):
    main(['--list'])
    listed = capsys.readouterr().out
    assert [line.split(':')[0] for line in listed.splitlines() if line and not line.startswith(' ')] == list(all_sets())
    main(['--list', 'textocr'])
    one = capsys.readouterr().out
    assert one.startswith('textocr: ')
    assert one.strip() in listed
    with pytest.raises(ValueError, match=r'textocrs is not a set .*did you mean textocr'):
        main(['--list', 'textocrs'])
    with pytest.raises(ValueError, match=r'no set was named: .*--list'):
        main([])


def test_the_list_waits_for_no_package():
    code = "from strhub.data.convert.cli import main\nmain(['--list'])\nimport sys\nprint('!', *sys.modules)"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition('!')[2].split())
    assert not loaded & {'torch', 'cv2', 'lmdb', 'pyarrow', 'scipy', 'numpy', 'PIL'}


@pytest.mark.parametrize('name', sorted(all_sets()))
def test_arguments_of_a_converter_are_options_with_the_same_default(name):
    info = all_sets()[name]
    arguments = {p.name: p.default for p in signature(info.convert).parameters.values() if p.kind is p.KEYWORD_ONLY}
    options = {option.name: option.default for option in info.options}
    assert arguments.items() <= options.items()


def test_options_of_a_set_are_typed(tmp_path, monkeypatch, make_folder):
    taken = {}

    def invented(root: Path, **options):
        taken.update(options)
        return folder(root)

    options = (
        Option('split', 'train', 'the part', choices=('train', 'val')),
        Option('least', 3, 'how many %'),
        Option('share', 0.5, 'how much'),
        Option('hard_ones', False, 'these too'),
        Option('easy', True, 'those too'),
    )
    info = replace(all_sets()['folder'], convert=invented, options=options)
    monkeypatch.setattr('strhub.data.convert.cli.all_sets', lambda: {'invented': info})
    command = ['invented', str(make_folder(tmp_path / 'src', ['x']))]
    main([*command, str(tmp_path / 'a')])
    assert taken == {'split': 'train', 'least': 3, 'share': 0.5, 'hard_ones': False, 'easy': True}
    main([*command, str(tmp_path / 'b'), '--split', 'val', '--least', '7', '--hard-ones', '--no-easy'])
    assert taken == {'split': 'val', 'least': 7, 'share': 0.5, 'hard_ones': True, 'easy': False}
    with pytest.raises(SystemExit):
        main([*command, str(tmp_path / 'c'), '--split', 'test'])


def test_help_says_what_to_download(capsys):
    with pytest.raises(SystemExit):
        main(['textocr', '--help'])
    said = capsys.readouterr().out
    assert 'train_val_images.zip' in said
    assert '--split {' in said
