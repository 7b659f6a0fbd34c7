"""The data module: what is loaded, in which order, on how many processes, from where on."""

import string

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from strhub.data.module import SceneTextDataModule
from strhub.data.sampler import EpochSampler
from strhub.data.transforms import get_transform

FULL = string.digits + string.ascii_letters + string.punctuation
LOWER = string.digits + string.ascii_lowercase
WORDS = [f'w{i}' for i in range(23)]


@pytest.fixture
def root(tmp_path, make_lmdb, make_folder):
    make_lmdb(tmp_path / 'train' / 'real' / 'a', WORDS[:10])
    make_folder(tmp_path / 'train' / 'real' / 'b', WORDS[10:])
    make_folder(tmp_path / 'val' / 'v', ['Hello!', 'World', '中', '...', 'x' * 30])
    make_lmdb(tmp_path / 'test' / 'SVT', ['One', 'Two-2', 'x y'], broken=[1])
    return tmp_path


def module_of(root, **options) -> SceneTextDataModule:
    settings = {
        'root_dir': root,
        'train_dir': 'real',
        'img_size': (8, 32),
        'max_label_length': 25,
        'charset_train': FULL,
        'charset_test': LOWER,
        'batch_size': 4,
        'num_workers': 0,
        'augment': True,
    }
    return SceneTextDataModule(**{**settings, **options})


# The order


@given(
    length=st.integers(1, 200),
    world=st.integers(1, 5),
    epoch=st.integers(0, 3),
    shuffle=st.booleans(),
    equal=st.booleans(),
)
def test_all_processes_together_serve_each_key_of_the_epoch(length, world, epoch, shuffle, equal):
    samplers = [
        EpochSampler(length, shuffle=shuffle, seed=3, rank=rank, world=world, equal=equal) for rank in range(world)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    served = [list(sampler) for sampler in samplers]
    assert [len(keys) for keys in served] == [len(sampler) for sampler in samplers]
    together = [key for keys in served for key in keys]
    assert set(together) == set(range(epoch * length, (epoch + 1) * length))
    if equal:
        assert len(set(map(len, served))) == 1
        assert len(together) < length + world
    else:
        assert len(together) == length


def test_order_differs_by_seed_and_epoch_and_repeats_itself():
    def order(seed, epoch):
        sampler = EpochSampler(100, shuffle=True, seed=seed)
        sampler.set_epoch(epoch)
        return [key - epoch * 100 for key in sampler]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)
    assert order(0, 0) != list(range(100))


def test_keys_go_beyond_32_bits():
    sampler = EpochSampler(2_000_000, shuffle=True)
    sampler.set_epoch(3000)  # keys beyond 32 bits
    first = next(iter(sampler))
    assert first // 2_000_000 == 3000


def test_a_run_may_start_in_the_middle_of_an_epoch(root):
    whole = module_of(root, seed=7)
    loader = whole.train_dataloader()
    loader.sampler.set_epoch(1)
    expected = list(loader)

    resumed = module_of(root, seed=7)
    resumed.start_batch = 2
    loader = resumed.train_dataloader()
    assert len(loader) == 6
    loader.sampler.set_epoch(1)
    first = list(loader)
    assert len(first) == 4
    for (images, labels), (same, spelt) in zip(expected[2:], first, strict=True):
        assert torch.equal(images, same)
        assert labels == spelt
    loader.sampler.set_epoch(2)
    assert len(list(loader)) == 6  # only the first epoch is cut short


def test_the_epoch_to_start_in_can_be_named(root):
    module = module_of(root)
    module.start_batch, module.start_epoch = 2, 1
    loader = module.train_dataloader()
    lengths = []
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        lengths.append(len(list(loader)))
    assert lengths == [6, 4, 6]


class Recorder(pl.LightningModule):
    """Trains nothing to speak of and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, tuple[str, ...], float]] = []

    def training_step(self, batch, batch_idx):
        images, labels = batch
        self.seen.append((self.current_epoch, tuple(labels), float(images.double().sum())))
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_lightning_tells_the_epoch(root, tmp_path):
    def run():
        system = Recorder()
        trainer = pl.Trainer(
            max_epochs=2,
            accelerator='cpu',
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(system, datamodule=module_of(root))
        return system.seen

    seen = run()
    assert seen == run()
    by_epoch = [[step for step in seen if step[0] == epoch] for epoch in (0, 1)]
    assert [sorted(label for _, labels, _ in steps for label in labels) for steps in by_epoch] == [sorted(WORDS)] * 2
    assert [labels for _, labels, _ in by_epoch[0]] != [labels for _, labels, _ in by_epoch[1]]


# What is loaded


def test_batches_are_images_and_labels(root):
    images, labels = next(iter(module_of(root).train_dataloader()))
    assert images.shape == (4, 3, 8, 32)
    assert images.dtype == torch.float32
    assert -1 <= images.min() < images.max() <= 1
    assert isinstance(labels, list)
    assert set(labels) <= set(WORDS)


def test_positional_arguments_are_those_users_know(root):
    module = SceneTextDataModule(root, 'real', (8, 32), 25, FULL, LOWER, 4, 0, True, True, True, 0, 90, None)
    assert module.rotation == 90
    assert len(module.train_dataset) == len(WORDS)


def test_workers_load_the_same(root):
    alone, helped = (module_of(root, num_workers=n).train_dataloader() for n in (0, 2))
    for (images, labels), (same, spelt) in zip(alone, helped, strict=True):
        assert torch.equal(images, same)
        assert labels == spelt


def test_validation_is_judged_in_the_characters_of_the_test(root):
    module = module_of(root)
    batches = list(module.val_dataloader())
    assert [label for _, labels in batches for label in labels] == ['hello', 'world']
    assert torch.equal(batches[0][0], next(iter(module.val_dataloader()))[0])  # never augmented


def test_validation_holds_only_what_the_network_can_learn(root):
    labels = [label for _, labels in module_of(root, charset_train='hel').val_dataloader() for label in labels]
    assert labels == ['hell', 'l']
    with pytest.raises(ValueError, match='charset_test'):
        module_of(root, charset_train='HEL').val_dataloader()


@pytest.mark.parametrize('where', ['path', 'file', 'below'])
def test_data_may_be_anywhere(root, tmp_path, make_folder, where):
    make_folder(tmp_path / 'mine', ['own'])
    make_folder(tmp_path / 'train' / 'mine', ['own'])
    path = {'path': tmp_path / 'mine', 'file': tmp_path / 'mine' / 'labels.tsv', 'below': 'mine'}[where]
    module = module_of(root, train_dir=str(path), val_dir=str(tmp_path / 'mine'))
    assert [label for _, labels in module.train_dataloader() for label in labels] == ['own']
    assert [label for _, labels in module.val_dataloader() for label in labels] == ['own']


@pytest.mark.parametrize('options', [{'train_dir': 'synth'}, {'root_dir': '/nowhere'}])
def test_missing_data_names_the_commands_that_make_it(root, options):
    with pytest.raises(FileNotFoundError, match=r'strhub convert.*dataset=rendered'):
        module_of(root, **options).train_dataloader()


def test_a_charset_beyond_ascii_with_normalisation_is_warned_of(root, caplog):
    len(module_of(root, charset_train=LOWER + 'é').train_dataset)
    assert 'normalize_unicode=false' in caplog.text


@pytest.mark.parametrize('options', [{'batch_size': 0}, {'num_workers': -1}, {'seed': -1}, {'img_size': (32,)}])
def test_impossible_settings_are_refused(root, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        module_of(root, **options).train_dataloader()


# Tests


def test_test_sets_come_in_order_under_their_names(root, make_folder):
    other = make_folder(root / 'other', ['a', 'b'])
    loaders = module_of(root).test_dataloaders(['SVT', other])
    assert list(loaders) == ['SVT', str(other)]
    dataset = loaders['SVT'].dataset
    assert [label for _, labels in loaders['SVT'] for label in labels] == ['one', 'two2', 'xy']
    assert [dataset.is_unreadable(i) for i in range(3)] == [False, True, False]
    assert dataset.name_of(1) in dataset.unreadable[0]


def test_a_missing_test_set_is_told_before_any_is_opened(root):
    with pytest.raises(FileNotFoundError, match='CUTE80'):
        module_of(root).test_dataloaders(SceneTextDataModule.TEST_BENCHMARK)


def test_benchmark_names():
    assert SceneTextDataModule.TEST_BENCHMARK_SUB == ('IIIT5k', 'SVT', 'IC13_857', 'IC15_1811', 'SVTP', 'CUTE80')
    assert SceneTextDataModule.TEST_BENCHMARK == ('IIIT5k', 'SVT', 'IC13_1015', 'IC15_2077', 'SVTP', 'CUTE80')
    assert SceneTextDataModule.TEST_NEW == ('ArT', 'COCOv1.4', 'Uber')


def test_get_transform_is_public_and_static():
    image = torch.zeros(1)
    from PIL import Image

    picture = Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    image = SceneTextDataModule.get_transform([32, 128])(picture)
    assert torch.equal(image, get_transform((32, 128))(picture))


# Rendered words


def test_rendered_words_need_no_folder(tmp_path):
    module = module_of(
        tmp_path / 'nowhere', train_dir='rendered', charset_train=LOWER, rendered={'count': 6, 'warmup': 0}
    )
    loader = module.train_dataloader()
    (images, labels), (_, rest) = loader
    assert images.shape == (4, 3, 8, 32)
    assert len(labels + rest) == 6
    loader.sampler.set_epoch(1)
    assert next(iter(loader))[1] != labels  # new words in each epoch
    assert all(set(label) <= set(LOWER) for label in labels)

    held_out = module.val_dataset
    assert len(held_out) == 2000
    other = module_of(tmp_path, train_dir='rendered', charset_train=LOWER, seed=5).val_dataset
    image, label = held_out[3]
    assert torch.equal(image, other[3][0])  # the same for every run
    assert label == other[3][1]
    assert not torch.equal(image, module.train_dataset[3][0])


def test_rendered_words_may_be_validated_on_real_ones(root):
    module = module_of(root, train_dir='rendered', val_dir=str(root / 'val'))
    assert [module.val_dataset.label(i) for i in range(2)] == ['hello', 'world']
