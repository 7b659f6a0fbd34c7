"""strhub data: what goes in comes out, sorted as asked; sources stay as they are; nothing is half made."""

import json
import os
import signal
from hashlib import sha256
from pathlib import Path

import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encode, make_picture

from strhub.__main__ import main as strhub
from strhub.data.lmdb import LmdbReader, LmdbWriter
from strhub.data.tools.cli import main
from strhub.data.tools.stats import Stats
from strhub.data.tools.verify import open_for_verifying


def words_of(path: Path) -> list[tuple[bytes | None, str | None]]:
    reader = LmdbReader(path)
    return [(reader.image(record), reader.label(record)) for record in range(1, len(reader) + 1)]


def labels_of(path: Path) -> list[str | None]:
    return [label for _, label in words_of(path)]


def run(*arguments: object) -> None:
    main([str(argument) for argument in arguments])


def set_key(path: Path, key: bytes, value: bytes | None) -> None:
    with lmdb.open(str(path), lock=False) as env, env.begin(write=True) as txn:
        if value is None:
            txn.delete(key)
        else:
            txn.put(key, value)


def write_set(path: Path, words: list[tuple[bytes, str]]) -> Path:
    with LmdbWriter(path) as writer:
        for word in words:
            writer.write(*word)
    return path


# merge


def test_merge_keeps_order_and_bytes(tmp_path, make_lmdb, make_folder, capsys):
    one = make_lmdb(tmp_path / 'in' / 'one', ['a', 'b'], broken=[1])
    two = make_folder(tmp_path / 'in' / 'two', ['c\td', ' é '])
    (two / 'images' / 'gone.png').touch()
    (two / 'labels.tsv').write_text((two / 'labels.tsv').read_text() + 'images/none.png\tx\nrubbish\n')
    run('merge', two, one, tmp_path / 'all')
    pictures = [(two / 'images' / f'{i}.png').read_bytes() for i in (0, 1)]
    expected = [(pictures[0], 'c\td'), (pictures[1], ' é '), *words_of(one)]
    assert words_of(tmp_path / 'all') == expected
    report = capsys.readouterr().out
    assert '4 words kept, 2 skipped' in report
    assert '1 picture missing' in report
    assert '1 no' in report
    run('merge', tmp_path / 'in', tmp_path / 'tree')
    assert sorted(labels_of(tmp_path / 'tree')) == sorted(labels_of(tmp_path / 'all'))


def test_records_that_are_no_words_are_told_and_left_out(tmp_path, make_lmdb, capsys):
    source = make_lmdb(tmp_path / 'set', ['a', 'b', 'c', 'd', 'e', 'f'])
    set_key(source, b'label-000000001', None)
    set_key(source, b'label-000000002', b'\xff')
    set_key(source, b'label-000000003', b' ')
    set_key(source, b'image-000000004', None)
    set_key(source, b'image-000000005', b'')
    run('merge', source, tmp_path / 'out')
    assert labels_of(tmp_path / 'out') == ['f']
    report = capsys.readouterr().out
    for reason in ('1 label missing', '1 label not UTF-8', '1 empty label', '2 pictures missing'):
        assert f'  {reason}: {source}#image-00000000' in report


@pytest.mark.parametrize('command', [['merge'], ['filter', '--min_size', '1'], ['split', '--count', '1', 'other']])
def test_a_target_that_is_a_source_or_exists_is_refused(tmp_path, make_lmdb, command, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_lmdb(Path('set'), ['a', 'b'])
    make_lmdb(Path('more'), ['c'])
    before = sha256(Path('set/data.mdb').read_bytes()).digest()
    name, *options = command
    for target, extra in (('set', ['--overwrite']), ('more', [])):
        with pytest.raises(SystemExit) as exit_:
            strhub(['data', name, 'set', target, *options, *extra])
        assert exit_.value.code == 2
        assert capsys.readouterr().err.startswith('error: ')
    assert sha256(Path('set/data.mdb').read_bytes()).digest() == before
    assert labels_of(Path('more')) == ['c']
    assert sorted(path.name for path in tmp_path.iterdir()) == ['more', 'set']


# filter


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        (['--min_size', '16'], ['cat', 'Hotel', '日本', 'a#b']),
        (['--max_size', '40'], ['cat', 'Hotel', '日本', 'low']),
        (['--min-aspect', '2.6'], ['a#b', 'low']),
        (['--max_aspect', '2.5'], ['cat', 'Hotel', '日本']),
        (['--min_length', '3', '--max_length', '3'], ['cat', 'a#b', 'low']),
        (['--charset', 'abcdefghijklmnopqrstuvwxyz'], ['cat', 'low']),
        (['--match', '^[a-z]'], ['cat', 'a#b', 'low']),
        (['--not_match', '#|t'], ['日本', 'low']),
        (['--min_size', '16', '--match', 'o'], ['Hotel']),
    ],
)
@pytest.mark.parametrize('as_folder', [False, True])
def test_filter_keeps_what_meets_every_criterion(tmp_path, options, expected, as_folder):
    sizes = {'cat': (40, 16), 'Hotel': (40, 16), '日本': (20, 30), 'a#b': (90, 20), 'low': (40, 8)}
    source = write_set(
        tmp_path / 'set', [(encode(make_picture(i, *size)), w) for i, (w, size) in enumerate(sizes.items())]
    )
    if as_folder:
        run('export', source, tmp_path / 'folder')
        source = tmp_path / 'folder'
    run('filter', source, tmp_path / 'out', '--workers', '1', *options)
    assert labels_of(tmp_path / 'out') == expected


def test_processes_find_the_same_in_the_same_order(tmp_path, make_lmdb):
    source = make_lmdb(tmp_path / 'set', [f'w{i}' for i in range(600)], broken=[3, 300, 599])
    for workers in (1, 2):
        run('filter', source, tmp_path / f'out{workers}', '--max_size', '99', '--unique', '--workers', workers)
    assert words_of(tmp_path / 'out1') == words_of(tmp_path / 'out2')
    assert len(labels_of(tmp_path / 'out1')) == 597


def test_filter_unlike_leaves_out_what_the_other_set_shows(tmp_path, capsys):
    pictures = [make_picture(i) for i in range(6)]
    larger = [picture.resize((80, 32)) for picture in pictures]
    source = write_set(tmp_path / 'train', [(encode(picture), f'w{i}') for i, picture in enumerate(pictures)])
    other = write_set(tmp_path / 'test', [(encode(larger[4]), 'W4!'), (encode(larger[1]), 'no'), (b'broken', 'x')])
    run('filter', source, tmp_path / 'out', '--unlike', other, '--workers', 1, '--report', tmp_path / 'r' / 'likes.tsv')
    assert labels_of(tmp_path / 'out') == ['w0', 'w2', 'w3', 'w5']
    assert (
        f'2 pictures like one in {other}: {source}#image-000000002 ({other}#image-000000002)' in capsys.readouterr().out
    )
    lines = [line.split('\t') for line in (tmp_path / 'r' / 'likes.tsv').read_text().splitlines()]
    assert lines[0] == ['word', 'label', 'other', 'other_label', 'bits']
    assert [line[1:4] for line in lines[1:]] == [
        ['w1', f'{other}#image-000000002', 'no'],
        ['w4', f'{other}#image-000000001', 'W4!'],
    ]
    run('filter', source, tmp_path / 'labelled', '--unlike', other, '--same_label', '--workers', 1)
    assert labels_of(tmp_path / 'labelled') == ['w0', 'w1', 'w2', 'w3', 'w5']


def test_filter_unique_keeps_the_first_that_meets_the_criteria(tmp_path):
    picture = encode(make_picture(0))
    source = write_set(
        tmp_path / 'set',
        [(picture, 'long label'), (picture, 'a'), (encode(make_picture(1)), 'b'), (picture, 'A'), (picture, 'c')],
    )
    run('filter', source, tmp_path / 'out', '--unique', '--max_length', 5, '--workers', 1)
    assert labels_of(tmp_path / 'out') == ['a', 'b']
    run('filter', source, tmp_path / 'labelled', '--unique', '--same_label', '--workers', 1)
    assert labels_of(tmp_path / 'labelled') == ['long label', 'a', 'b', 'c']


def test_what_looks_alike_is_listed_even_if_no_word_is_left(tmp_path, make_lmdb):
    source = make_lmdb(tmp_path / 'set', ['a', 'b'])
    likes = tmp_path / 'likes.tsv'
    filter_all = ['filter', source, tmp_path / 'out', '--unlike', make_lmdb(tmp_path / 'test', ['c', 'd'])]
    with pytest.raises(ValueError, match='no word is left'):
        run(*filter_all, '--workers', 1, '--report', likes)
    assert [line.split('\t')[1] for line in likes.read_text().splitlines()] == ['label', 'a', 'b']
    assert not (tmp_path / 'out').exists()


def test_a_target_that_exists_is_refused_before_the_work(tmp_path, make_lmdb, monkeypatch):
    source, target = make_lmdb(tmp_path / 'set', ['a', 'b']), make_lmdb(tmp_path / 'out', ['c'])
    monkeypatch.setattr(LmdbReader, 'image', lambda reader, record: pytest.fail('a picture was read'))
    with pytest.raises(FileExistsError, match='out exists already'):
        run('filter', source, target, '--unique', '--workers', 1, '--report', tmp_path / 'likes.tsv')
    assert not (tmp_path / 'likes.tsv').exists()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ([], 'no criterion'),
        (['--match', '('], '--match is no regular expression'),
        (['--unique', '--distance', '40'], '--distance is 40'),
        (['--min_size', '1', '--report', 'x'], '--report lists'),
        (['--unique', '--report', 'set'], '--report is set, a folder'),
        (['--min_size', '1', '--workers', '0'], '--workers is 0'),
        (['--min_size', '-1'], '--min_size is -1: give a number, 0 or more'),
        (['--max_size=-5', '--unique'], '--max_size is -5'),
        (['--min_aspect', '-0.5'], '--min_aspect is -0.5'),
        (['--max_aspect', 'nan'], '--max_aspect is nan'),
        (['--max-aspect', 'inf'], '--max_aspect is inf'),
        (['--min_length', '-2'], '--min_length is -2'),
        (['--max_length', '-1'], '--max_length is -1'),
        (['--charset', ''], '--charset is empty'),
        (['--charset', ' '], '--charset is empty'),
        (['--min_size', '1000'], '2 pictures with a side under 1000 pixels'),
        (['--unlike', 'nowhere'], 'nowhere does not exist'),
    ],
)
def test_impossible_filters_are_told_in_one_sentence(tmp_path, make_lmdb, options, message, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_lmdb(tmp_path / 'set', ['a', 'b'])
    with pytest.raises(SystemExit) as exit_:
        strhub(['data', 'filter', 'set', 'out', *options])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count('\n') == 1
    assert [path.name for path in tmp_path.iterdir()] == ['set']


# split


def test_split_shares_all_words_out_and_repeats_itself(tmp_path, make_lmdb):
    labels = [f'w{i}' for i in range(40)]
    source = make_lmdb(tmp_path / 'set', labels)
    for name, seed in (('1', 0), ('2', 0), ('3', 1)):
        run('split', source, tmp_path / f'a{name}', tmp_path / f'b{name}', '--share', '0.25', '--seed', seed)
    first, second = labels_of(tmp_path / 'a1'), labels_of(tmp_path / 'b1')
    assert len(second) == 10
    assert sorted(first + second) == sorted(labels)
    assert [sorted(part, key=labels.index) for part in (first, second)] == [first, second]
    assert (labels_of(tmp_path / 'a2'), labels_of(tmp_path / 'b2')) == (first, second)
    assert labels_of(tmp_path / 'b3') != second


def test_split_together_parts_no_label(tmp_path, make_lmdb):
    labels = ['the', 'The', 'THE!', 'x', 'y', 'z', 'x', 'q', 'r', 'the'] * 3
    source = make_lmdb(tmp_path / 'set', labels)
    for seed in range(4):
        run('split', source, tmp_path / 'a', tmp_path / 'b', '--count', 12, '--together', '--seed', seed, '--overwrite')
        first, second = labels_of(tmp_path / 'a'), labels_of(tmp_path / 'b')
        plain = [{''.join(filter(str.isalpha, label)).lower() for label in part} for part in (first, second)]
        assert not plain[0] & plain[1]
        assert sorted(first + second) == sorted(labels)
        assert 9 <= len(second) <= 12


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--share', '0'], '--share is 0.0: give a number between 0 and 1'),
        (['--share', '1'], '--share is 1.0'),
        (['--share', 'nan'], '--share is nan'),
        (['--share', '0.1'], 'words for both sets'),
        (['--count', '3'], 'words for both sets'),
        (['--count', '-1'], 'words for both sets'),
    ],
)
def test_a_split_that_leaves_nothing_is_refused(tmp_path, make_lmdb, options, message):
    source = make_lmdb(tmp_path / 'set', ['a', 'b', 'c'])
    with pytest.raises(ValueError, match=message):
        run('split', source, tmp_path / 'a', tmp_path / 'b', *options)
    assert [path.name for path in tmp_path.iterdir()] == ['set']


# stats


def test_stats_count_what_is_stored(tmp_path, make_lmdb, make_folder, capsys):
    source = make_lmdb(tmp_path / 'set', ['abc', 'é', 'abc', 'Ab'], broken=[3])
    set_key(source, b'label-000000002', b'\xff')
    folder = make_folder(tmp_path / 'folder', ['é'])
    run('stats', source, folder, '--json', '--workers', 1)
    stats = json.loads(capsys.readouterr().out)
    assert stats['sets'] == [str(source), str(folder)]
    assert stats['words'] == 4
    assert stats['faults'] == {'label not UTF-8': 1}
    assert stats['formats'] == {'PNG': 3}
    assert stats['unreadable_headers'] == 1
    assert stats['label_lengths'] == {'1': 1, '2': 1, '3': 2}
    assert stats['characters'] == {'b': 3, 'a': 2, 'c': 2, 'é': 1, 'A': 1}
    assert stats['most_frequent_labels'] == {'abc': 2, 'Ab': 1, 'é': 1}
    assert stats['different_labels'] == 3
    assert stats['sizes']['width']['median'] == 40
    reader = LmdbReader(source)
    held = sum(len(reader.image(record)) for record in (1, 3, 4)) + (folder / 'images' / '0.png').stat().st_size
    assert stats['picture_bytes'] == held
    run('stats', tmp_path, '--workers', 1)
    report = capsys.readouterr().out
    for line in (
        '4 words',
        'and 1 label not UTF-8',
        '3 different labels, 1 of them several times',
        '    3         2 ####',
        'é  U+00E9         1',
        'sizes of 3 pictures',
    ):
        assert line in report


def test_parts_add_up_without_a_copy_of_what_is_there():
    stats = Stats(words=1, sizes=[np.ones((1, 2), np.int32)])
    sizes = stats.sizes
    for _ in range(3):
        stats += Stats(words=2, sizes=[np.ones((2, 2), np.int32)])
    assert stats.words == 7
    assert stats.sizes is sizes
    assert len(np.concatenate(sizes)) == 7


# verify


@pytest.mark.parametrize('kind', ['make_lmdb', 'make_folder'])
def test_a_whole_set_is_whole(tmp_path, kind, request, capsys):
    source = request.getfixturevalue(kind)(tmp_path / 'set', ['a', 'b'])
    run('verify', source, '--workers', 1)
    assert capsys.readouterr().out == '2 words, all whole\n'


def test_verify_finds_every_fault_and_cleans(tmp_path, make_lmdb, capsys):
    source = make_lmdb(tmp_path / 'set', [f'w{i}' for i in range(9)], broken=[1])
    picture = LmdbReader(source).image(3)
    set_key(source, b'image-000000003', picture[: len(picture) // 2])
    set_key(source, b'label-000000004', b'\xff')
    set_key(source, b'label-000000005', None)
    set_key(source, b'label-000000006', b'')
    set_key(source, b'image-000000007', None)
    set_key(source, b'num-samples', b'8')
    before = (source / 'data.mdb').read_bytes()
    with pytest.raises(SystemExit) as exit_:
        run('verify', source, '--workers', 2, '--clean', tmp_path / 'clean')
    assert exit_.value.code == 1
    report = capsys.readouterr().out
    assert '3 words kept, 7 skipped' in report
    for reason in (
        '2 pictures unreadable',
        '1 label not UTF-8',
        '1 label missing',
        '1 empty label',
        '1 picture missing',
        f'1 count of records wrong: {source}: num-samples is 8, yet there are records up to 9',
    ):
        assert reason in report
    assert labels_of(tmp_path / 'clean') == ['w0', 'w7', 'w8']
    assert (source / 'data.mdb').read_bytes() == before
    run('verify', tmp_path / 'clean', '--workers', 1)


@pytest.mark.parametrize('value', [None, b'many', b'99'])
def test_verify_recovers_a_count_that_is_none(tmp_path, make_lmdb, value, capsys):
    source = make_lmdb(tmp_path / 'set', ['a', 'b', 'c'])
    set_key(source, b'num-samples', value)
    with pytest.raises(SystemExit) as exit_:
        run('verify', source, '--workers', 1, '--clean', tmp_path / 'clean')
    assert exit_.value.code == 1
    assert 'num-samples' in capsys.readouterr().out
    assert labels_of(tmp_path / 'clean') == ['a', 'b', 'c']


def test_verify_tells_of_keys_that_should_be_there(tmp_path, make_lmdb, capsys):
    source = make_lmdb(tmp_path / 'set', ['a', 'b', 'c'])
    set_key(source, b'num-samples', b'5')
    with pytest.raises(SystemExit):
        run('verify', source, '--workers', 1)
    assert '3 words kept, 2 skipped\n  2 pictures missing' in capsys.readouterr().out


def test_verify_tells_of_what_cannot_be_opened(tmp_path, make_lmdb, make_folder, capsys):
    source = make_lmdb(tmp_path / 'all' / 'set', ['word'] * 50)
    os.truncate(source / 'data.mdb', (source / 'data.mdb').stat().st_size // 2)
    folder = make_folder(tmp_path / 'all' / 'folder', ['a', 'b'])
    (folder / 'images' / '1.png').unlink()
    with pytest.raises(SystemExit) as exit_:
        run('verify', tmp_path / 'all', '--workers', 1)
    assert exit_.value.code == 1
    report = capsys.readouterr().out
    assert 'is truncated' in report
    assert '1 picture missing' in report


def junk(path: Path, content: bytes) -> Path:
    path.mkdir(parents=True)
    (path / 'data.mdb').write_bytes(content)
    return path


def strange(path: Path) -> Path:
    """An LMDB of something else."""
    with lmdb.open(str(path), lock=False) as env, env.begin(write=True) as txn:
        txn.put(b'key', b'value')
    return path


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda path: junk(path, b'no LMDB'), 'set cannot be opened as an LMDB'),
        (lambda path: junk(path, b''), 'set cannot be opened as an LMDB'),
        (strange, 'set has no key num-samples, so it is not a set of words'),
    ],
)
@pytest.mark.parametrize('command', ['verify', 'stats'])
def test_what_is_no_data_set_at_all_is_refused(tmp_path, command, make, message, capsys):
    source = make(tmp_path / 'set')
    with pytest.raises(SystemExit) as exit_:
        strhub(['data', command, str(source), '--workers', '1'])
    assert exit_.value.code == 2
    output = capsys.readouterr()
    assert output.err.startswith('error: ')
    assert message in output.err
    assert not output.out


def test_what_is_no_data_set_is_a_fault_among_others_that_are(tmp_path, make_lmdb, capsys):
    make_lmdb(tmp_path / 'all' / 'set', ['a', 'b'])
    junk(tmp_path / 'all' / 'junk', b'no LMDB')
    with pytest.raises(SystemExit) as exit_:
        run('verify', tmp_path / 'all', '--workers', 1)
    assert exit_.value.code == 1
    assert '2 words kept, 1 skipped' in capsys.readouterr().out


@pytest.mark.parametrize('value', [None, b'2000'])
def test_records_are_looked_for_many_at_once(tmp_path, monkeypatch, value):
    source = write_set(tmp_path / 'set', [(b'x', 'a')] * 2500)
    set_key(source, b'num-samples', value)
    set_key(source, b'label-000002500', None)
    asked, values = [], LmdbReader.values
    monkeypatch.setattr(LmdbReader, 'values', lambda reader, keys: asked.append(len(keys)) or values(reader, keys))
    assert len(open_for_verifying([source])) == 2500
    assert len(asked) < 20


def test_a_damaged_page_hides_no_record_but_its_own(tmp_path, monkeypatch):
    source = write_set(tmp_path / 'set', [(b'x', 'a')] * 9)
    set_key(source, b'num-samples', None)
    values = LmdbReader.values

    def damaged(reader, keys):
        if b'label-000000009' in keys or b'image-000000003' in keys:
            raise ValueError('damaged')
        return values(reader, keys)

    monkeypatch.setattr(LmdbReader, 'values', damaged)
    assert len(open_for_verifying([source])) == 8


# export

LABELS = st.text(st.characters(exclude_categories=['Cs']), min_size=1, max_size=8).filter(str.strip)


@settings(max_examples=25)
@given(
    labels=st.lists(
        LABELS
        | st.sampled_from(['a\tb', '"', 'x,"y"', ' a ', 'a\nb', '\r', 'image', '\ufeff', '\\n']).filter(str.strip),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_exported_and_converted_is_the_same(tmp_path_factory, labels):
    folder = tmp_path_factory.mktemp('trip')
    source = write_set(folder / 'set', [(encode(make_picture(i)), label) for i, label in enumerate(labels)])
    run('export', source, folder / 'folder')
    strhub(['convert', 'folder', str(folder / 'folder'), str(folder / 'again'), '--workers', '1'])
    assert words_of(folder / 'again') == words_of(source)
    files = {path.name for path in (folder / 'folder').iterdir()}
    has_breaks = any('\n' in label or '\r' in label for label in labels)
    assert files == {'images', 'labels.jsonl' if has_breaks else 'labels.tsv'}


def test_export_names_pictures_by_their_format(tmp_path, capsys):
    images = []
    for name in ('JPEG', 'WEBP', 'GIF', 'BMP', 'TIFF', 'PPM'):
        make_picture(0).save(tmp_path / 'picture', name)
        images.append((tmp_path / 'picture').read_bytes())
    source = write_set(tmp_path / 'set', [(image, 'x') for image in [*images, b'broken']])
    run('export', source, tmp_path / 'folder')
    files = sorted((tmp_path / 'folder').rglob('images/*/*'))
    assert [path.name[8:] for path in files] == ['1.jpg', '2.webp', '3.gif', '4.bmp', '5.tif', '6.ppm']
    assert [path.read_bytes() for path in files] == images
    assert '1 picture without a readable header' in capsys.readouterr().out
    with pytest.raises(FileExistsError, match='exists already'):
        run('export', source, tmp_path / 'folder')


def test_an_export_of_nothing_is_told_in_one_sentence(tmp_path):
    source = write_set(tmp_path / 'set', [(b'broken', 'x'), (b'', 'y'), (b'broken', 'z')])
    why = '2 pictures without a readable header, 1 picture missing'
    with pytest.raises(ValueError, match=f'^no word could be exported, so {tmp_path / "folder"} was not made: {why}$'):
        run('export', source, tmp_path / 'folder')
    assert [path.name for path in tmp_path.iterdir()] == ['set']


# killed half-way


def killed_after(calls: int, command: list[str], *methods: tuple[type, str]) -> int:
    """Runs a command in a process of its own, which is killed before the next call of the methods; its signal."""
    if child := os.fork():
        return os.WTERMSIG(os.waitpid(child, 0)[1])
    done = []

    def counted(function):
        def wrapped(*arguments, **options):
            done.append(1)
            if len(done) > calls:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return wrapped

    try:
        for owner, name in methods:
            setattr(owner, name, counted(getattr(owner, name)))
        main(command)
    finally:
        os._exit(0)


@pytest.mark.parametrize(
    'command',
    [
        ['merge', 'set', 'out'],
        ['filter', 'set', 'out', '--unique', '--workers', '1'],
        ['split', 'set', 'out', 'other', '--count', '20'],
        ['verify', 'set', '--clean', 'out', '--workers', '1'],
        ['export', 'set', 'out'],
    ],
    ids=lambda command: command[0],
)
def test_a_killed_command_leaves_the_source_whole_and_no_target(tmp_path, make_lmdb, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = (make_lmdb(Path('set'), [f'w{i}' for i in range(40)]) / 'data.mdb').read_bytes()
    assert killed_after(20, command, (LmdbWriter, 'write'), (Path, 'write_bytes')) == signal.SIGKILL
    assert (tmp_path / 'set' / 'data.mdb').read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith('.')] == ['set']
    assert list(tmp_path.glob('.*.partial'))  # it was at work
    run(*command)
    assert (tmp_path / 'out').is_dir()
    assert not list(tmp_path.glob('.*'))


SPLIT = ['split', 'set', 'a', 'b', '--count', '2']


@pytest.mark.parametrize('is_last', [False, True])
def test_a_split_of_which_one_part_fails_makes_neither(tmp_path, make_lmdb, monkeypatch, is_last):
    monkeypatch.chdir(tmp_path)
    make_lmdb(Path('set'), ['v', 'w', 'x', 'y', 'z'])
    finish = LmdbWriter._finish

    def failing(writer):
        if writer.path.name == ('b' if is_last else 'a'):
            raise OSError('no space left')
        finish(writer)

    monkeypatch.setattr(LmdbWriter, '_finish', failing)
    with pytest.raises(OSError, match='no space left'):
        run(*SPLIT)
    assert [path.name for path in tmp_path.iterdir()] == ['set']


def assert_split(folder: Path) -> None:
    assert sorted(labels_of(folder / 'a') + labels_of(folder / 'b')) == ['v', 'w', 'x', 'y', 'z']
    assert sorted(path.name for path in folder.iterdir()) == ['a', 'b', 'set']
    assert [path.name for name in 'ab' for path in (folder / name).iterdir()] == ['data.mdb'] * 2


@pytest.mark.parametrize('renames', [0, 1])
def test_a_split_killed_as_it_appears_is_made_anew(tmp_path, make_lmdb, monkeypatch, renames):
    monkeypatch.chdir(tmp_path)
    make_lmdb(Path('set'), ['v', 'w', 'x', 'y', 'z'])
    assert killed_after(renames, SPLIT, (Path, 'rename')) == signal.SIGKILL
    assert [Path(name).exists() for name in 'ab'] == [renames == 1, False]
    run(*SPLIT)
    assert_split(tmp_path)


def test_a_split_killed_once_both_have_appeared_is_there(tmp_path, make_lmdb, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_lmdb(Path('set'), ['v', 'w', 'x', 'y', 'z'])
    assert killed_after(0, SPLIT, (Path, 'unlink')) == signal.SIGKILL
    with pytest.raises(FileExistsError, match='a exists already'):
        run(*SPLIT)
    run(*SPLIT, '--overwrite')
    assert_split(tmp_path)


@pytest.mark.parametrize('renames', range(4))
def test_a_killed_split_leaves_no_new_set_beside_an_old_one(tmp_path, make_lmdb, monkeypatch, renames):
    monkeypatch.chdir(tmp_path)
    make_lmdb(Path('set'), ['v', 'w', 'x', 'y', 'z'])
    for name in 'ab':
        make_lmdb(Path(name), ['old'])
    assert killed_after(renames, [*SPLIT, '--overwrite'], (Path, 'rename')) == signal.SIGKILL
    there = [labels_of(Path(name)) == ['old'] for name in 'ab' if Path(name).exists()]
    assert len(set(there)) <= 1
    run(*SPLIT, '--overwrite')
    assert_split(tmp_path)


def test_help_shows_examples(capsys):
    for arguments, text in ((['--help'], 'strhub data split all train val'), (['filter', '--help'], 'perceptual hash')):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 0
        assert text in capsys.readouterr().out
