"""strhub convert: folders become LMDBs, whole or not at all."""

from pathlib import Path

import pytest
from pictures import encode, make_picture

from strhub.data.convert.base import Skipped, Word
from strhub.data.convert.cli import main
from strhub.data.convert.write import write_words
from strhub.data.lmdb import LmdbReader
from strhub.data.transforms import open_image


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


@pytest.mark.parametrize('interruption', [KeyboardInterrupt, OSError])
def test_an_interruption_leaves_no_half_target(tmp_path, interruption):
    (tmp_path / 'a.png').write_bytes(encode(make_picture(0)))

    def words():
        for _ in range(1000):
            yield Word(tmp_path / 'a.png', 'x', (0, 0, 9, 9))
        raise interruption

    with pytest.raises(interruption):
        write_words(words(), tmp_path / 'dst')
    assert [path.name for path in tmp_path.iterdir()] == ['a.png']


def test_an_existing_target_is_replaced_only_when_asked(tmp_path, make_folder):
    source, target = make_folder(tmp_path / 'src', ['new']), tmp_path / 'dst'
    main(['folder', str(source), str(target)])
    with pytest.raises(FileExistsError, match='exists already'):
        main(['folder', str(source), str(target)])
    main(['folder', str(source), str(target), '--overwrite'])
    with pytest.raises(FileExistsError, match='not an LMDB'):
        main(['folder', str(source), str(source), '--overwrite'])
    assert (source / 'labels.tsv').is_file()


def test_nothing_usable_makes_nothing(tmp_path, make_folder):
    source = make_folder(tmp_path / 'src', ['x', 'y'], broken=[0, 1])
    with pytest.raises(ValueError, match='2 picture unreadable'):
        main(['folder', str(source), str(tmp_path / 'dst')])
    assert not (tmp_path / 'dst').exists()


def test_wrong_sources_are_told(tmp_path, make_lmdb):
    with pytest.raises(FileNotFoundError, match='does not exist'):
        main(['folder', str(tmp_path / 'nowhere'), str(tmp_path / 'deep' / 'dst')])
    assert not (tmp_path / 'deep').exists()
    make_lmdb(tmp_path / 'set', ['x'])
    with pytest.raises(ValueError, match='LMDB already'):
        main(['folder', str(tmp_path / 'set'), str(tmp_path / 'dst')])
    with pytest.raises(SystemExit) as error:
        main(['nothing', 'a', 'b'])
    assert error.value.code == 2
    assert not (tmp_path / 'dst').exists()
