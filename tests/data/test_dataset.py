"""Data sets: every form of labels, what is left out, keys, and pictures that cannot be read."""

import copyreg
import io
import json
import logging
import pickle
import string
import time

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import make_picture
from torch.utils.data import DataLoader

from strhub.data import base
from strhub.data.convert.folder import folder
from strhub.data.convert.write import write_words
from strhub.data.dataset import FolderDataset, LmdbDataset, TreeDataset, build_tree_dataset, find_sets
from strhub.data.labelfile import label_of_name, read_folder
from strhub.data.labels import LabelRules
from strhub.data.transforms import get_transform

FULL = string.digits + string.ascii_letters + string.punctuation
RULES = LabelRules(FULL, 25)
AUGMENT = get_transform((8, 32), augment=True)
PLAIN = get_transform((8, 32))


@pytest.fixture
def pictures(tmp_path):
    for i in range(1, 5):
        make_picture(i).save(tmp_path / f'word_{i}.png')
    return tmp_path


def labels_of(dataset) -> list[str]:
    return [dataset.label(i) for i in range(len(dataset))]


# Label files


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('labels.tsv', 'word_1.png\tone\nword_2.png\ttwo "2"\nword_3.png\ta\\"b,c\n'),
        ('labels.tsv', '\ufeffword_1.png\tone\r\nword_2.png\ttwo "2"\r\n\r\nword_3.png\ta\\"b,c'),
        ('labels.tsv', 'image\tlabel\nword_1.png\tone\nword_2.png\ttwo "2"\nword_3.png\ta\\"b,c'),
        ('labels.csv', 'word_1.png,one\nword_2.png,"two ""2"""\nword_3.png,"a\\""b,c"\n'),
        ('labels.csv', 'id,Label,Image\n1,one,word_1.png\n2,"two ""2""",word_2.png\n3,"a\\""b,c",word_3.png\n'),
        (
            'labels.jsonl',
            '\n'.join(
                json.dumps({'image': f'word_{i}.png', 'label': label, 'id': i})
                for i, label in enumerate(['one', 'two "2"', 'a\\"b,c'], 1)
            ),
        ),
        ('gt.txt', '\ufeffword_1.png, "one"\r\nword_2.png, "two \\"2\\""\r\nword_3.png, "a\\\\\\"b,c"\r\n'),
        ('gt.txt', 'word_1.png\tone\nword_2.png\ttwo "2"\nword_3.png\ta\\"b,c\n'),
        ('labels.tsv', 'word_1.png\tone\rword_2.png\ttwo "2"\rword_3.png\ta\\"b,c\r'),
        ('labels_2.tsv', 'word_1.png\tone\nword_2.png\ttwo "2"\nword_3.png\ta\\"b,c\n'),
    ],
)
def test_label_files_of_every_form_say_the_same(pictures, name, text):
    (pictures / name).write_bytes(text.encode())
    found = read_folder(pictures / name if name == 'labels_2.tsv' else pictures)
    assert found.labels == ['one', 'two "2"', 'a\\"b,c']
    assert found.pictures == ['word_1.png', 'word_2.png', 'word_3.png']
    assert not any(found.missing)
    assert not found.summary()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(label=st.text(st.characters(exclude_categories=['Cs'], exclude_characters='\r\n\0'), min_size=1))
@pytest.mark.parametrize('name', ['labels.tsv', 'labels.csv', 'labels.jsonl', 'gt.txt'])
def test_any_label_survives_any_form(pictures, name, label):
    if not label.strip():
        return
    text = {
        'labels.tsv': f'word_1.png\t{label}',
        'labels.csv': 'word_1.png,"{}"'.format(label.replace('"', '""')),
        'labels.jsonl': json.dumps({'image': 'word_1.png', 'label': label}),
        'gt.txt': 'word_1.png, "{}"'.format(label.replace('\\', '\\\\').replace('"', '\\"')),
    }[name]
    (pictures / name).write_bytes(text.encode())
    assert read_folder(pictures / name).labels == [label]


@pytest.mark.parametrize(
    ('name', 'line', 'reason'),
    [
        ('labels.tsv', b'word_2.png two', 'line 2: no tab'),
        ('labels.tsv', b'word_2.png\t\xff\xfe', 'line 2: not UTF-8'),
        ('labels.tsv', b'word_2.png\t', 'line 2: empty label'),
        ('labels.tsv', b'word_9.png\tnine', 'line 2: picture missing'),
        ('labels.tsv', b'../word_2.png\ttwo', 'line 2: picture outside the folder'),
        ('labels.tsv', b'/etc/passwd\ttwo', 'line 2: picture outside the folder'),
        ('labels.tsv', b'C:\\word_2.png\ttwo', 'line 2: picture outside the folder'),
        ('labels.tsv', b'\\\\server\\word_2.png\ttwo', 'line 2: picture outside the folder'),
        ('labels.tsv', b'\tlabel', 'line 2: no picture'),
        ('labels.tsv', b'a\0b\tlabel', 'line 2: no picture'),
        ('labels.csv', b'word_2.png', 'line 2: no comma'),
        ('labels.jsonl', b'{"image": "word_2.png"', 'line 2: not JSON'),
        ('labels.jsonl', b'[' * 100_000, 'line 2: not JSON'),
        ('labels.jsonl', b'{"image": "word_2.png", "label": 2}', 'line 2: not an object'),
        ('labels.jsonl', b'7', 'line 2: not an object'),
        ('gt.txt', b'word_2.png', 'line 2: neither'),
    ],
)
def test_a_broken_line_is_counted_and_named(pictures, name, line, reason, caplog):
    good = {
        'labels.tsv': b'word_%d.png\tgood',
        'labels.csv': b'word_%d.png,good',
        'labels.jsonl': b'{"image": "word_%d.png", "label": "good"}',
        'gt.txt': b'word_%d.png, "good"',
    }[name]
    (pictures / name).write_bytes(b'\n'.join([good % 1, line, good % 3]))
    dataset = FolderDataset(pictures, RULES, PLAIN, replace_unreadable=True)
    assert labels_of(dataset) == ['good', 'good']
    assert sum(dataset.dropped.values()) == 1
    assert reason in caplog.text
    assert name in caplog.text


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('labels.tsv', b'', 'is empty'),
        ('labels.tsv', b'word_1.png one\nword_2.png two', r'of 2 lines 2 no tab.*line 1'),
        ('labels.tsv', b'a.png\tone\nb.png\ttwo', 'of 2 lines 2 pictures missing.*line 1'),
        ('labels.tsv', 'word_1.png\tone'.encode('utf-16'), 'is UTF-16'),
        ('labels.csv', b'word_1.png,"one\nword_2.png,two', 'not valid CSV'),
        ('labels.jsonl', b'\x00\x01\xff', '1 not JSON'),
    ],
)
def test_a_file_that_is_mostly_broken_is_refused_in_one_sentence(pictures, name, content, message):
    (pictures / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_folder(pictures)
    assert '\n' not in str(error.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.text('word_123.png,"\\{}:\t\n\r ').map(str.encode))
@pytest.mark.parametrize('name', ['labels.tsv', 'labels.csv', 'labels.jsonl', 'gt.txt'])
def test_any_bytes_are_labels_or_a_sentence(pictures, name, content):
    (pictures / name).write_bytes(content)
    try:
        found = read_folder(pictures / name)
    except ValueError as error:
        message = str(error)
    else:
        message = found.summary()
    assert '\n' not in message


@pytest.mark.parametrize(
    'line', [b'word_1.png' + b' ' * 100_000 + b'x', b', "' * 50_000 + b'x'], ids=['spaces', 'quotes']
)
@pytest.mark.parametrize('name', ['labels.tsv', 'labels.csv', 'labels.jsonl', 'gt.txt'])
def test_a_huge_line_is_refused_at_once(pictures, name, line):
    (pictures / name).write_bytes(line)
    start = time.process_time()
    with pytest.raises(ValueError, match='line 1'):
        read_folder(pictures)
    assert time.process_time() - start < 5  # what grows with the square of the length takes minutes


def test_a_link_to_itself_hides_no_other_picture(pictures):
    (pictures / 'loop.png').symlink_to('loop.png')
    (pictures / 'labels.tsv').write_text('word_1.png\tone\nloop.png\ttwo\n')
    found = read_folder(pictures)
    assert found.missing == [False, True]


def test_slashes_of_windows_and_links_out_of_the_folder_are_followed(tmp_path, make_folder):
    elsewhere = make_folder(tmp_path / 'elsewhere', ['a', 'b'])
    here = tmp_path / 'here'
    here.mkdir()
    (here / 'pictures').symlink_to(elsewhere / 'images')
    (here / 'labels.tsv').write_text('pictures\\0.png\tx\npictures/1.png\ty\n')
    assert labels_of(FolderDataset(here, RULES)) == ['x', 'y']


# Labels in names


@pytest.mark.parametrize(
    ('name', 'label'),
    [
        ('Exit_7.png', 'Exit'),
        ('7_Exit.png', 'Exit'),
        ('Exit.png', 'Exit'),
        ('snake_case_12.jpg', 'snake_case'),
        ('12_34.png', '12'),
        ('12_a_3.png', '12_a'),
        ('_3.png', '_3'),
        ('a.b_1.png', 'a.b'),
    ],
)
def test_the_label_in_a_name(name, label):
    assert label_of_name(name) == label


def test_a_folder_without_a_label_file_takes_the_names(tmp_path):
    for name in ('Exit_1.png', '2_Stop.png', 'Go.png'):
        make_picture(0).save(tmp_path / name)
    (tmp_path / 'SOURCE.txt').write_text('not a label file')
    assert sorted(labels_of(build_tree_dataset(tmp_path, RULES))) == ['Exit', 'Go', 'Stop']


def test_numbered_pictures_are_no_labels(pictures):
    with pytest.raises(ValueError, match='numbered'):
        read_folder(pictures)
    (pictures / 'labels_857.tsv').write_text('word_1.png\ta')
    with pytest.raises(ValueError, match=r'there is .*labels_857\.tsv'):
        read_folder(pictures)


# What is left out


@pytest.mark.parametrize('kind', ['make_lmdb', 'make_folder'])
def test_labels_are_filtered_by_the_rules(tmp_path, kind, request):
    make = request.getfixturevalue(kind)
    root = make(tmp_path / 'set', ['½kg', 'x' * 26, '中文', 'Straße', 'a b'])
    dataset = build_tree_dataset(root, RULES, PLAIN)
    assert labels_of(dataset) == [label for _, label in dataset] == ['12kg', 'Strae', 'ab']
    assert dataset.dropped == {
        'label longer than 25 characters': 1,
        'label without a character of the charset': 1,
    }


@pytest.mark.parametrize('kind', ['make_lmdb', 'make_folder'])
def test_a_set_without_a_usable_word_says_why(tmp_path, kind, request):
    root = request.getfixturevalue(kind)(tmp_path / 'set', ['中文', '日本', 'x' * 26])
    with pytest.raises(ValueError, match='2 labels without a character of the charset, 1 label longer than 25'):
        build_tree_dataset(root, RULES)
    with pytest.raises(ValueError, match='normalize_unicode=false'):
        build_tree_dataset(root, LabelRules('中文', 25))
    assert len(build_tree_dataset(root, LabelRules('中文', 25, normalize_unicode=False))) == 1


@pytest.mark.parametrize('is_lmdb', [False, True])
def test_small_pictures_are_left_out(tmp_path, is_lmdb):
    for i, size in enumerate([(40, 16), (40, 7), (7, 40), (8, 8)]):
        make_picture(0, *size).save(tmp_path / f'{"abcd"[i]}.png')
    if is_lmdb:
        write_words(folder(tmp_path), tmp_path / 'set')
    dataset = build_tree_dataset(tmp_path / 'set' if is_lmdb else tmp_path, RULES, PLAIN, min_image_dim=8)
    assert labels_of(dataset) == ['a', 'd']
    assert dataset.dropped == {'picture with a side under 8 pixels': 2}


def test_records_without_a_label_are_left_out(tmp_path):
    lmdb = pytest.importorskip('lmdb')
    with lmdb.open(str(tmp_path / 'set'), map_size=1 << 20, lock=False) as env, env.begin(write=True) as txn:
        for key, value in ((b'num-samples', b'3'), (b'label-000000002', b'two'), (b'label-000000003', b'\xff')):
            txn.put(key, value)
    dataset = LmdbDataset(tmp_path / 'set', RULES)
    assert labels_of(dataset) == ['two']
    assert dataset.dropped == {'record without a label': 1, 'label not UTF-8': 1}


# Trees


def test_a_tree_holds_every_set_below_it(tmp_path, make_lmdb, make_folder):
    make_lmdb(tmp_path / 'b' / 'deep' / 'lmdb', ['one', 'two'])
    make_folder(tmp_path / 'a', ['three'])
    make_folder(tmp_path / '.hidden', ['never'])
    (tmp_path / 'c').mkdir()
    make_picture(0).save(tmp_path / 'c' / 'four_1.png')
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'loop').symlink_to(tmp_path)
    dataset = build_tree_dataset(tmp_path, RULES, PLAIN)
    assert isinstance(dataset, TreeDataset)
    assert labels_of(dataset) == ['three', 'one', 'two', 'four'] == [label for _, label in dataset]
    assert dataset[5][1] == 'one'  # keys go round
    assert dataset.name_of(1).endswith('lmdb#image-000000001')
    assert dataset.name_of(3).endswith('four_1.png')


def test_a_path_may_point_at_the_file(tmp_path, make_lmdb, make_folder):
    assert find_sets(make_lmdb(tmp_path / 'l', ['x']) / 'data.mdb') == [tmp_path / 'l']
    file = make_folder(tmp_path / 'f', ['x', 'y']) / 'labels.tsv'
    assert labels_of(build_tree_dataset(file, RULES)) == ['x', 'y']


@pytest.mark.parametrize('is_there', [True, False])
def test_a_missing_or_empty_folder_names_the_commands_that_make_data(tmp_path, is_there):
    path = tmp_path if is_there else tmp_path / 'nowhere'
    with pytest.raises(FileNotFoundError, match=r'strhub convert.*strhub render.*dataset=rendered'):
        build_tree_dataset(path, RULES)


def test_a_part_without_usable_words_is_named(tmp_path, make_lmdb, make_folder, caplog):
    make_lmdb(tmp_path / 'good', ['x'])
    make_folder(tmp_path / 'bad', ['中'])
    assert labels_of(build_tree_dataset(tmp_path, RULES)) == ['x']
    assert 'bad: no word is usable (1 label without' in caplog.text


# Keys


@pytest.mark.parametrize('kind', ['make_lmdb', 'make_folder', 'tree'])
def test_augmentation_comes_from_seed_and_key_alone(tmp_path, kind, make_lmdb, make_folder):
    labels = [f'w{i}' for i in range(6)]
    if kind == 'tree':
        make_lmdb(tmp_path / 'a', labels[:2])
        make_folder(tmp_path / 'b', labels[2:])
    else:
        {'make_lmdb': make_lmdb, 'make_folder': make_folder}[kind](tmp_path / 'a', labels)

    def draw(keys, seed=0):
        dataset = build_tree_dataset(tmp_path, RULES, AUGMENT, seed=seed)
        return [dataset[key] for key in keys]

    first, backwards = draw(range(60)), draw(range(59, -1, -1))[::-1]
    assert [label for _, label in first] == labels * 10
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(first, backwards, strict=True))
    of_one_word = [image for image, label in first if label == 'w3']
    assert len({image.numpy().tobytes() for image in of_one_word}) > 5
    other = draw(range(60), seed=1)
    assert sum(torch.equal(a, b) for (a, _), (b, _) in zip(first, other, strict=True)) < 30


def test_without_augmentation_every_epoch_is_the_same(tmp_path, make_lmdb):
    dataset = build_tree_dataset(make_lmdb(tmp_path / 'a', ['x', 'y']), RULES, PLAIN)
    assert torch.equal(dataset[0][0], dataset[2][0])
    assert torch.equal(dataset[-1][0], dataset[1][0])
    assert len(list(dataset)) == 2


# Unreadable pictures


@pytest.mark.parametrize('kind', ['make_lmdb', 'make_folder'])
def test_in_training_an_unreadable_picture_is_replaced_and_named_once(tmp_path, kind, request, caplog):
    root = request.getfixturevalue(kind)(tmp_path / 'set', list('abcdef'), [2, 4])
    first, second = (build_tree_dataset(root, RULES, AUGMENT, replace_unreadable=True) for _ in range(2))
    items = [first[key] for key in range(24)]
    assert all(torch.equal(a, second[key][0]) and b == second[key][1] for key, (a, b) in enumerate(items))
    assert {items[2][1], items[4][1]} <= set('abdf')
    assert len({items[key][1] for key in (2, 8, 14, 20)}) > 1  # not always the same in its stead
    assert first.unreadable == [first.name_of(2), first.name_of(4)]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert sum(first.name_of(2) in warning for warning in warnings) == 2  # once by each of the two


@pytest.mark.parametrize('kind', ['make_lmdb', 'make_folder'])
def test_in_a_test_an_unreadable_picture_is_blank_and_marked(tmp_path, kind, request, caplog):
    root = request.getfixturevalue(kind)(tmp_path / 'set', list('abc'), [1])
    dataset = build_tree_dataset(root, RULES, PLAIN)
    assert not dataset.is_unreadable(1)
    assert [label for _, label in dataset] == list('abc')
    assert [dataset.is_unreadable(i) for i in range(3)] == [False, True, False]
    assert (dataset[1][0] == 1).all()
    assert dataset.name_of(1) in caplog.text


def test_in_a_test_a_missing_picture_counts_as_well(tmp_path, make_folder):
    root = make_folder(tmp_path / 'set', list('abc'))
    (root / 'images' / '1.png').unlink()
    dataset = build_tree_dataset(root, RULES, PLAIN)
    assert [label for _, label in dataset] == list('abc')
    assert dataset.unreadable == [str(root / 'images' / '1.png')]
    training = build_tree_dataset(root, RULES, PLAIN, replace_unreadable=True)
    assert labels_of(training) == ['a', 'c']
    assert training.dropped == {'picture missing': 1}


def test_a_set_of_unreadable_pictures_ends_training(tmp_path, make_lmdb):
    dataset = build_tree_dataset(make_lmdb(tmp_path / 'a', list('ab'), [0, 1]), RULES, PLAIN, replace_unreadable=True)
    with pytest.raises(ValueError, match='cannot be read'):
        dataset[0]


@pytest.mark.parametrize(('method', 'workers'), [('fork', 2), ('spawn', 1)])  # a spawned one takes seconds to start
def test_workers_of_both_kinds_read_and_tell_what_they_could_not(tmp_path, method, workers, make_lmdb, make_folder):
    make_lmdb(tmp_path / 'a', list('abcdef'), [3])
    make_folder(tmp_path / 'b', list('ghijkl'), [0])
    dataset = build_tree_dataset(tmp_path, RULES, PLAIN)
    assert dataset[0][1] == 'a'  # this process has the LMDB open when the workers start
    loader = DataLoader(dataset, batch_size=4, num_workers=workers, multiprocessing_context=method)
    batches = list(loader)
    assert [label for _, labels in batches for label in labels] == list('abcdefghijkl')
    assert np.flatnonzero([dataset.is_unreadable(i) for i in range(12)]).tolist() == [3, 6]


def test_a_data_set_survives_pickling(tmp_path, make_lmdb):
    dataset = build_tree_dataset(make_lmdb(tmp_path / 'a', list('ab'), [1]), RULES, PLAIN)
    assert len(list(dataset)) == 2
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[0][0], dataset[0][0])
    assert copy.unreadable == dataset.unreadable


def generator_of(state: dict) -> np.random.Generator:
    bits = np.random.Philox()
    bits.state = state
    return np.random.Generator(bits)


def without_bits(rng: np.random.Generator) -> tuple:
    return generator_of, (rng.bit_generator.state,)


@pytest.mark.parametrize('reducers', [{}, {np.random.Generator: without_bits}], ids=['here', 'NumPy 1'])
def test_a_pickled_data_set_augments_as_before(tmp_path, make_lmdb, reducers):
    dataset = build_tree_dataset(make_lmdb(tmp_path / 'a', list('ab')), RULES, AUGMENT)
    travelling = io.BytesIO()
    pickler = pickle.Pickler(travelling)
    pickler.dispatch_table = {**copyreg.dispatch_table, **reducers}
    pickler.dump(dataset)
    copy = pickle.loads(travelling.getvalue())
    for key in range(20):
        assert torch.equal(copy[key][0], dataset[key][0])


# Many items at once


@pytest.mark.parametrize('replace', [False, True])
def test_many_items_are_what_each_is(tmp_path, make_lmdb, make_folder, replace, monkeypatch):
    make_lmdb(tmp_path / 'a', [f'a{i}' for i in range(23)], [3, 4, 20])
    make_folder(tmp_path / 'b', [f'b{i}' for i in range(5)], [0])
    dataset = build_tree_dataset(tmp_path, RULES, AUGMENT, replace_unreadable=replace, seed=3)
    keys = np.random.default_rng(0).integers(0, 1000, 60).tolist()
    alone = [dataset[key] for key in keys]
    for large in (base.LARGE, 1):  # together, and one after the other
        monkeypatch.setattr(base, 'LARGE', large)
        together = dataset.__getitems__(keys)
        assert [label for _, label in together] == [label for _, label in alone]
        for (image, _), (expected, _) in zip(together, alone, strict=True):
            assert torch.equal(image, expected)
    assert dataset.parts[0].__getitems__(keys[:3])[1][1] == dataset.parts[0][keys[1]][1]


def test_an_item_depends_on_seed_and_key_alone(tmp_path, make_lmdb):
    root = make_lmdb(tmp_path / 'a', list('abc'))
    first, again, other = (build_tree_dataset(root, RULES, AUGMENT, seed=seed) for seed in (1, 1, 2))
    drawn = [first[key][0] for key in (4, 1, 301, 2**70 + 1)]
    assert all(
        torch.equal(again[key][0], image) for key, image in zip((2**70 + 1, 301, 1, 4), drawn[::-1], strict=True)
    )
    distinct = {image.numpy().tobytes() for image in (first[3 * epoch][0] for epoch in range(30))}
    assert len(distinct) > 15  # nearly each epoch another one: at times no operation is applied
    assert any(not torch.equal(first[3 * epoch][0], other[3 * epoch][0]) for epoch in range(5))


def test_a_transform_without_its_own_way_to_open_is_given_pictures(tmp_path, make_lmdb):
    seen = []
    dataset = build_tree_dataset(make_lmdb(tmp_path / 'a', list('ab')), RULES, lambda image, rng: seen.append(image))
    assert [label for _, label in dataset] == ['a', 'b']
    assert [image.size for image in seen] == [(40, 16)] * 2


# The real sets


@pytest.mark.parametrize(
    ('path', 'count'),
    [('train/IC15', 4468), ('train/IIIT5k', 2000), ('train/SVT', 257), ('test/IC13_1095/labels_857.tsv', 857)],
)
def test_real_sets_open(shared, path, count):
    dataset = build_tree_dataset(shared / 'data' / path, RULES, PLAIN)
    assert len(dataset) == count
    assert dataset[count // 2][0].shape == (3, 8, 32)
    assert not dataset.unreadable
