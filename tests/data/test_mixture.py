"""A mixture of sources: exact shares, every record in turn, the same series for whoever asks."""

import logging
import math
import pickle
import string
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from strhub.data.dataset import build_tree_dataset
from strhub.data.labels import LabelRules
from strhub.data.mixture import BLOCK, MixtureDataset
from strhub.data.module import SceneTextDataModule
from strhub.data.sampler import permuted
from strhub.data.sources import Source, read_sources
from strhub.data.synth import RenderedDataset
from strhub.tokenizer import RESERVED

FULL = string.digits + string.ascii_letters + string.punctuation
LOWER = string.digits + string.ascii_lowercase
UPPER = string.digits + string.ascii_uppercase
DEFAULT = Source(path='mixed', charset=FULL, max_label_length=25)


class Sized:
    """Stands for a part of which only the length matters."""

    def __init__(self, length: int = 1) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length


@pytest.fixture
def root(tmp_path, make_lmdb, make_folder):
    make_lmdb(tmp_path / 'train' / 'shop', [f's{i}' for i in range(7)], broken=[3])
    make_folder(tmp_path / 'train' / 'tree' / 'a', [f'a{i}' for i in range(4)])
    make_lmdb(tmp_path / 'train' / 'tree' / 'b', [f'b{i}' for i in range(9)])
    make_folder(tmp_path / 'train' / 'signs', ['STOP', '24', 'A-1', 'É7', '中5'])
    make_folder(tmp_path / 'val', ['stop'])
    return tmp_path


MIX = {
    'rendered': {'weight': 0.5, 'augment': False, 'rendered': {'warmup': 0}},
    'shop': {'weight': 0.3},
    'forest': {'path': 'tree', 'weight': 0.2},
}


def module_of(root, **options) -> SceneTextDataModule:
    settings = {
        'root_dir': root,
        'train_dir': 'mixed',
        'mix': MIX,
        'mix_count': 60,
        'img_size': (8, 32),
        'max_label_length': 25,
        'charset_train': FULL,
        'charset_test': LOWER,
        'batch_size': 8,
        'num_workers': 0,
        'augment': True,
    }
    return SceneTextDataModule(**{**settings, **options})


def batches_of(module, epoch=0):
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def assert_same(batches, others):
    for (images, labels), (same, spelt) in zip(batches, others, strict=True):
        assert torch.equal(images, same)
        assert labels == spelt


# The order of records


@given(length=st.integers(1, 300), cycle=st.integers(0, 10**9), seed=st.integers(0, 2**70))
def test_each_record_comes_once_in_every_cycle(length, cycle, seed):
    draws = np.arange(cycle * length, (cycle + 2) * length)
    first, second = permuted(draws, length, seed=seed).reshape(2, length).tolist()
    assert sorted(first) == sorted(second) == list(range(length))


def test_orders_differ_by_cycle_and_seed_and_look_random():
    length = 5000
    first, second = permuted(np.arange(2 * length), length, seed=1).reshape(2, length)
    other = permuted(np.arange(length), length, seed=2)
    straight = np.arange(length)
    for a, b in [(first, second), (first, other), (first, straight), (np.diff(first), np.diff(straight))]:
        assert (a == b).sum() < 10  # two random orders agree in one place
    for order in (first, second, other):
        assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.06  # four times what chance allows
        assert abs(np.corrcoef(order, straight)[0, 1]) < 0.06


def test_fifteen_million_records_need_no_list():
    length = 15_000_000
    records = permuted(np.arange(3 * length - 500, 3 * length + 500), length, seed=5)
    assert len(set(records[:500].tolist())) == len(set(records[500:].tolist())) == 500
    assert records.min() >= 0
    assert records.max() < length


# The shares


weights_of = st.lists(st.floats(1e-3, 1e3) | st.integers(1, 10**7), min_size=1, max_size=8)


@given(weights=weights_of, first=st.integers(0, 10**12), keys=st.integers(0, 5000))
def test_shares_are_exact_however_long_the_training(weights, first, keys):
    mixture = MixtureDataset({str(i): Sized() for i in range(len(weights))}, {str(i): w for i, w in enumerate(weights)})
    before, after = mixture.drawn(first), mixture.drawn(first + keys)
    assert sum(before) == first
    assert sum(after) == first + keys
    exact = [Fraction(str(weight)) for weight in weights]
    for weight, had, has in zip(exact, before, after, strict=True):
        assert has >= had
        assert abs(had - first * weight / sum(exact)) < len(weights)


@given(weights=weights_of, block=st.integers(0, 10**6))
def test_every_key_is_a_turn_of_one_source_and_its_next_draw(weights, block):
    parts = {str(i): Sized() for i in range(len(weights))}  # which have no records, so that draws come as they are
    mixture = MixtureDataset(parts, {str(i): w for i, w in enumerate(weights)}, seed=3)
    turns = [mixture.locate(key) for key in range(block * BLOCK, (block + 1) * BLOCK)]
    bounds = zip(mixture.drawn(block * BLOCK), mixture.drawn((block + 1) * BLOCK), strict=True)
    for name, (first, end) in zip(parts, bounds, strict=True):
        assert [draw for turn, draw in turns if turn == name] == list(range(first, end))


def test_tenths_are_exact_in_every_block_and_mixed_within():
    mixture = MixtureDataset({name: Sized() for name in 'abc'}, {'a': 0.5, 'b': 0.3, 'c': 0.2})
    for block in (0, 1, 10**6):
        names = [mixture.locate(key)[0] for key in range(block * BLOCK, (block + 1) * BLOCK)]
        assert Counter(names) == {'a': BLOCK // 2, 'b': 3 * BLOCK // 10, 'c': BLOCK // 5}
        for at in range(0, BLOCK, 100):
            assert 25 < names[at : at + 100].count('a') < 75  # 5 standard deviations
            assert 25 < names[at : at + 100 : 2].count('a') * 2 < 75 + 25  # what the first of two processes gets


def test_without_weights_shares_go_by_size_and_an_epoch_is_all():
    mixture = MixtureDataset({'small': Sized(250), 'large': Sized(750)})
    assert len(mixture) == 1000
    assert mixture.drawn(1000) == [250, 750]
    assert mixture.drawn(10**6) == [250_000, 750_000]


# Items


def test_items_depend_on_the_key_alone(root):
    mixture = module_of(root).train_dataset
    keys = [0, 59, 5, 999, 1000, 31, 1002, 10**9]
    items = {key: mixture[key] for key in keys}
    copy = pickle.loads(pickle.dumps(module_of(root).train_dataset))
    for key in sorted(keys, reverse=True):
        image, label = copy[key]
        assert label == items[key][1]
        assert torch.equal(image, items[key][0])
    for key, (image, label) in zip(keys, copy.__getitems__(keys), strict=True):  # as loaders ask
        assert label == items[key][1]
        assert torch.equal(image, items[key][0])


def test_each_word_comes_once_before_any_comes_again(root):
    rules = LabelRules(FULL, 25)
    parts = {name: build_tree_dataset(root / 'train' / name, rules, seed=1) for name in ('shop', 'tree')}
    mixture = MixtureDataset(parts, {'shop': 1, 'tree': 2}, seed=1)
    drawn = {'shop': [], 'tree': []}
    for key in range(2 * BLOCK):
        name, index = mixture.locate(key)
        drawn[name].append(index)
        if key < 50:
            assert mixture.name_of(key) == parts[name].name_of(index)
            assert mixture[key][1] == parts[name].label(index)
    for name, indices in drawn.items():
        size = len(parts[name])
        cycles = [indices[at : at + size] for at in range(0, len(indices) - size + 1, size)]
        assert len(cycles) > 40
        assert all(sorted(cycle) == list(range(size)) for cycle in cycles)
        assert all(cycle != after for cycle, after in pairwise(cycles[:20]))


def test_augmentation_differs_between_two_turns_of_a_word(root):
    mixture = module_of(root, mix={'shop': {}}).train_dataset
    turns = [key for key in range(60) if mixture.locate(key) == ('shop', 0)]
    pictures = [mixture[key][0] for key in turns]
    assert len({picture.numpy().tobytes() for picture in pictures}) > len(pictures) // 2
    plain = module_of(root, mix={'shop': {'augment': False}}).train_dataset
    assert len({plain[key][0].numpy().tobytes() for key in turns}) == 1


def test_rendered_words_grow_harder_by_how_many_were_drawn():
    rendered = RenderedDataset(LabelRules(LOWER, 25), warmup=1000, count=10)
    mixture = MixtureDataset({'rendered': rendered, 'rest': Sized()}, {'rendered': 1, 'rest': 3})
    numbers = [number for name, number in map(mixture.locate, range(8000)) if name == 'rendered']
    assert numbers == list(range(2000))
    key = next(key for key in range(8000) if mixture.locate(key) == ('rendered', 1999))
    image, label = mixture[key]
    assert (image, label) == rendered[1999]


def test_an_unreadable_picture_is_replaced_named_and_counted(root, caplog):
    mixture = module_of(root, mix={'shop': {}, 'tree': {}}).train_dataset
    key = next(key for key in range(60) if mixture.locate(key) == ('shop', 3))
    assert mixture.unreadable == []
    _, label = mixture[key]
    assert label in {f's{i}' for i in range(7)} - {'s3'}
    assert mixture.unreadable == [mixture.name_of(key)]
    assert mixture.is_unreadable(key)
    assert not mixture.is_unreadable(next(key for key in range(60) if mixture.locate(key)[0] == 'tree'))
    assert 'another one takes its place' in caplog.text


# Loading


def test_a_run_may_go_on_in_the_middle_of_an_epoch(root):
    expected = batches_of(module_of(root, seed=7), epoch=1)
    resumed = module_of(root, seed=7)
    resumed.start_batch = 5
    assert_same(expected[5:], batches_of(resumed, epoch=1))
    assert len(expected) == 8


def test_workers_load_the_same(root):
    assert_same(batches_of(module_of(root)), batches_of(module_of(root, num_workers=2)))


def test_an_epoch_has_the_shares(root):
    mixture = module_of(root, mix_count=BLOCK).train_dataset
    sampler = module_of(root, mix_count=BLOCK).train_dataloader().sampler
    for epoch in (0, 3):
        sampler.set_epoch(epoch)
        assert Counter(mixture.locate(key)[0] for key in sampler) == {'rendered': 500, 'shop': 300, 'forest': 200}


def test_other_sources_do_not_change_a_sources_order(root):
    def order(mix):
        mixture = module_of(root, mix=mix).train_dataset
        return [index for name, index in map(mixture.locate, range(60)) if name == 'shop'][:15]

    assert order({'shop': {}}) == order({'tree': {}, 'shop': {}}) != list(range(7)) * 2 + [0]


def test_the_log_has_a_line_for_each_source(root, caplog):
    caplog.set_level(logging.INFO)
    rules = {'charset': LOWER, 'drop_outside': True, 'weight': 0.2, 'path': str(root / 'train' / 'signs')}
    len(module_of(root, mix={**MIX, 'forest': rules}).train_dataset)
    lines = {line.split()[0]: line for line in caplog.messages if line.startswith('data.mix.')}
    assert lines['data.mix.rendered'] == 'data.mix.rendered (rendered): rendered, 50.0% of all words, 30 in an epoch'
    assert lines['data.mix.shop'] == (
        'data.mix.shop (shop): 7 words, 30.0% of all words, each 2.6 times in an epoch, left out: none'
    )
    assert lines['data.mix.forest'] == (
        f'data.mix.forest ({rules["path"]}): 3 words, 20.0% of all words, each 4 times in an epoch, '
        'left out: 2 labels with a character outside the charset'
    )


@pytest.mark.parametrize(
    ('count', 'times'), [(3, '0.43'), (7, '1'), (18, '2.6'), (69, '9.9'), (2003, '286'), (10**7, '1428571')]
)
def test_how_often_a_word_comes_is_a_plain_number(root, count, times):
    mixture = module_of(root, mix={'shop': {}}, mix_count=count).train_dataset
    assert f', each {times} times in an epoch,' in mixture.summary('shop')


def test_a_word_that_hardly_ever_comes_has_a_plain_number_too(root):
    mixture = module_of(root, mix={'shop': {'weight': 1e-5}, 'tree': {'weight': 1}}, mix_count=100).train_dataset
    assert ', each 0.00014 times in an epoch,' in mixture.summary('shop')


# Rules of a source


@pytest.mark.parametrize(
    ('options', 'labels'),
    [
        ({}, ['24', '5', 'A-1', 'E7', 'STOP']),
        ({'charset': LOWER}, ['24', '5', 'a1', 'e7', 'stop']),
        ({'charset': LOWER, 'drop_outside': True}, ['24', 'e7', 'stop']),
        ({'drop_outside': True}, ['24', 'A-1', 'E7', 'STOP']),
        ({'charset': string.digits}, ['1', '24', '5', '7']),
        ({'charset': string.digits, 'drop_outside': True}, ['24']),
        ({'max_label_length': 2}, ['24', '5', 'E7']),
        ({'normalize_unicode': False}, ['24', '5', '7', 'A-1', 'STOP']),
        ({'normalize_unicode': False, 'drop_outside': True}, ['24', 'A-1', 'STOP']),
        ({'min_image_dim': 16}, ['24', '5', 'A-1', 'E7', 'STOP']),
    ],
)
def test_rules_of_a_source(root, options, labels):
    mixture = module_of(root, mix={'signs': options, 'shop': {'weight': None}}).train_dataset
    part = mixture.parts['signs']
    assert sorted(part.label(index) for index in range(len(part))) == labels
    assert len(mixture.parts['shop']) == 7  # to which they do not apply


def test_small_pictures_of_one_source_are_left_out(root):
    mixture = module_of(root, mix={'shop': {'min_image_dim': 17}, 'tree': {}}).train_dataset
    assert mixture.dropped == {'picture with a side under 17 pixels': 6}  # whether the broken one is small, none knows
    assert [len(part) for part in mixture.parts.values()] == [1, 13]


SPELLABLE = st.text(FULL, min_size=1, max_size=8).filter(lambda charset: not any(name in charset for name in RESERVED))


@given(charset=SPELLABLE, trained=st.sampled_from([FULL, LOWER, UPPER, 'aB']))
def test_labels_of_a_source_can_always_be_spelt(charset, trained):
    default = Source(path='', charset=trained, max_label_length=25)
    try:
        source = read_sources({'own': {'charset': charset}}, default)['own']
    except ValueError as error:
        assert 'has no character of charset_train' in str(error)  # noqa: PT017  # most charsets will do
        return
    assert set(source.charset) <= set(trained)
    for label in (FULL[:25], FULL[25:50], FULL[50:75], charset):
        assert set(source.rules(label) or '') <= set(trained)


def test_a_rendered_source_draws_what_it_is_to_teach(root, tmp_path):
    (tmp_path / 'codes.txt').write_text('a1\nb2\n')
    mix = {
        'numbers': {'path': 'rendered', 'charset': string.digits},
        'codes': {'path': 'rendered', 'rendered': {'words': str(tmp_path / 'codes.txt')}},
    }
    mixture = module_of(root, mix=mix, rendered={'count': 50, 'warmup': 0}).train_dataset
    assert len(mixture) == 60
    labels = {'numbers': [], 'codes': []}
    for key in range(60):
        labels[mixture.locate(key)[0]].append(mixture[key][1])
    assert all(set(label) <= set(string.digits) for label in labels['numbers'])
    assert {label.lower() for label in labels['codes']} == {'a1', 'b2'}
    assert len(labels['numbers']) > 10


def test_sources_left_out_need_not_be_there(root):
    mixture = module_of(root, mix={'shop': None, 'gone': {'weight': 0, 'path': '/nowhere'}}).train_dataset
    assert list(mixture.parts) == ['shop']


@pytest.mark.parametrize(
    ('mix', 'message'),
    [
        ({}, r'data\.mix is {}: name sources'),
        ({'shop': {'weight': -1}}, r'data\.mix\.shop\.weight is -1: give a number, 0 or more'),
        ({'shop': {'weight': math.nan}}, r'weight is nan'),
        ({'shop': {'weight': True}}, r'weight is True'),
        ({'shop': {'weight': 'much'}}, r"weight is 'much'"),
        ({'shop': {'weight': 0}}, r'the weights of shop in data\.mix are all 0'),
        ({'shop': {'weight': 1}, 'tree': {}}, r'data\.mix\.tree has no weight'),
        ({'shop': {'wieght': 1}}, r'data\.mix\.shop\.wieght is no key of a source: did you mean weight\?'),
        ({'shop': {'q': 1}}, r'there are path, charset'),
        ({'shop': 0.3}, r'data\.mix\.shop is 0\.3: a source is a section'),
        ({'shop': {'charset': 123}}, r'charset is 123: give a text, as in charset=."…". where it could be a number'),
        ({'shop': {'charset': 'é'}}, r"data\.mix\.shop\.charset 'é' has no character of charset_train"),
        ({'shop': {'max_label_length': 26}}, r"from 1 to the model's 25"),
        ({'shop': {'min_image_dim': -1}}, r'min_image_dim is -1'),
        ({'shop': {'augment': 'no'}}, r"augment is 'no': give true or false"),
        ({'shop': {'rendered': 3}}, r'rendered is 3: give a section'),
        (
            {'shop': {'rendered': {}}},
            r'mix\.shop is read from shop, where rendered does nothing: leave out data\.mix\.shop',
        ),
        ({'rendered': {'path': 'tree', 'rendered': {'warmup': 0}}}, r'read from tree, where rendered does nothing'),
        ({'rendered': {'min_image_dim': 8}}, r'mix\.rendered is rendered, where min_image_dim does nothing'),
        ({'own': {'path': 'rendered', 'min_image_dim': 0}}, r'own is rendered, where min_image_dim does nothing'),
    ],
)
def test_wrong_sources_get_one_sentence(root, mix, message):
    with pytest.raises(ValueError, match=message):
        module_of(root, mix=mix)


def test_faults_found_on_opening_name_the_source(root):
    remedy = r'or leave this source out with data\.mix\.elsewhere\.weight=0'
    with pytest.raises(FileNotFoundError, match=rf'data\.mix\.elsewhere: neither .* exists: .*; {remedy}$'):
        module_of(root, mix={'elsewhere': {}}).train_dataset  # noqa: B018
    with pytest.raises(ValueError, match=r'data\.mix\.rendered: rendered has no key cuont: there are count'):
        module_of(root, mix={'rendered': {'rendered': {'cuont': 1}}}).train_dataset  # noqa: B018
    with pytest.raises(ValueError, match=r'mix_count is 0'):
        module_of(root, mix_count=0).train_dataset  # noqa: B018
    with pytest.raises(ValueError, match=r'data\.mix names rendered, shop, forest but data\.train_dir is real'):
        module_of(root, train_dir='real')


def test_a_mixture_is_validated_on_real_words(root):
    assert [labels for _, labels in module_of(root).val_dataloader()] == [['stop']]
