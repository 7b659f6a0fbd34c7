"""What every model of the hub must keep to; a new one is tested here as soon as it is in MODELS."""

import copy
import pickle
from inspect import Parameter, signature
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from shrunk import images, small
from torch import Tensor
from torch.utils.data import DataLoader

from strhub.models.base import BaseSystem
from strhub.models.parseq.model import DECODINGS
from strhub.models.zoo import (
    MODELS,
    config_dir,
    create_model,
    hparams,
    load_from_checkpoint,
    load_reader,
    save_safetensors,
)
from strhub.tokenizer import CTCTokenizer

LABELS = ['Read', 'Me!', '2', 'day']

every_model = pytest.mark.parametrize('name', MODELS)


def make(name: str, **overrides: object) -> BaseSystem:
    """A small one in eval mode, with random weights far enough apart to tell the readings of two pictures apart."""
    torch.manual_seed(0)
    return create_model(name, **{**small(name), **overrides}).eval()


@torch.inference_mode()
def logits(system: BaseSystem, pictures: Tensor) -> Tensor:
    return system.eval()(pictures, system.hparams['max_label_length'])


@every_model
def test_hyper_parameters_are_those_of_the_constructor(name: str) -> None:
    accepted = {
        key
        for cls in MODELS[name].load_class().__mro__
        if issubclass(cls, BaseSystem)
        for key, parameter in signature(cls.__init__).parameters.items()
        if parameter.kind is Parameter.KEYWORD_ONLY
    }
    assert set(hparams(name)) == accepted - {'tokenizer'}
    assert dict(make(name).hparams) == hparams(name, **small(name))


@every_model
def test_hydra_composes_the_same_numbers(name: str) -> None:
    hydra = pytest.importorskip('hydra')
    omegaconf = pytest.importorskip('omegaconf')
    with hydra.initialize_config_dir(str(config_dir()), version_base='1.3'):
        config = hydra.compose('main', overrides=[f'+experiment={name}'])
    assert omegaconf.OmegaConf.to_container(config.model) == hparams(name)


@every_model
def test_logits_are_finite_and_have_a_class_per_character(name: str) -> None:
    system = make(name)
    out = logits(system, images(2, system.hparams.img_size))
    assert len(out) == 2
    if isinstance(system.tokenizer, CTCTokenizer):
        assert out.shape[1] > system.hparams.max_label_length
    else:
        assert out.shape[1] == system.hparams.max_label_length + 1
    assert len(system.tokenizer) - 2 <= out.shape[2] <= len(system.tokenizer)
    assert out.isfinite().all()


@every_model
def test_batch_equals_single_pictures_every_time(name: str) -> None:
    system = make(name).double()  # in float32 convolutions of one picture and of three round differently
    pictures = images(3, system.hparams.img_size).double()
    together = logits(system, pictures)
    torch.testing.assert_close(together, logits(system, pictures), rtol=0, atol=0)
    apart = torch.cat([logits(system, picture) for picture in pictures.split(1)])
    torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-9)


def ways(name: str) -> list[dict[str, object]]:
    """How a model may be told to read."""
    if 'refine_iters' not in hparams(name):
        return [{}]
    orders: list[dict[str, object]] = [{'decode_ar': False}, *({'decode': way} for way in DECODINGS)]
    return [{**order, 'refine_iters': count} for order in orders for count in (0, 1)]


@pytest.mark.parametrize(('name', 'way'), [(name, way) for name in MODELS for way in ways(name)], ids=str)
def test_no_pictures_have_logits_without_rows(name: str, way: dict[str, object], tmp_path: Path) -> None:
    system = make(name, **way)
    save_safetensors(system, tmp_path / 'model.safetensors')
    for reader in (system, load_reader(tmp_path / 'model.safetensors').eval()):
        for max_length in (None, 0, 3, 99):
            none, one = (reader(images(count, system.hparams.img_size), max_length) for count in (0, 1))
            assert len(none) == 0
            assert none.shape[2] == one.shape[2]
            assert none.dtype == one.dtype
            assert none.shape[1] == one.shape[1] or max_length is None  # where reading may stop early
        assert reader.read(images(0, system.hparams.img_size)) == ([], [])
        with pytest.raises(ValueError, match='expected images'):
            reader(torch.rand(0, 3, 5, 7))


@every_model
def test_reads_with_the_confidence_of_each_character(name: str) -> None:
    system = make(name)
    texts, probs = system.read(images(2, system.hparams.img_size))
    for text, p in zip(texts, probs, strict=True):
        assert set(text) <= set(system.hparams.charset_train)
        assert len(p) - len(text) in (0, 1)
        assert ((p >= 0) & (p <= 1)).all()


class Gradients(pl.Callback):
    """Remembers which parameters a training step left without a gradient."""

    missing: list[str] | None = None

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: object) -> None:
        self.missing = [
            name
            for name, parameter in pl_module.named_parameters()
            if parameter.requires_grad and (parameter.grad is None or not parameter.grad.isfinite().all())
        ]


@pytest.fixture(scope='module', params=MODELS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """A model after one step of training, the checkpoint of it, and what had no gradient."""
    folder, gradients = tmp_path_factory.mktemp('trained'), Gradients()
    system = make(request.param).train()
    trainer = pl.Trainer(
        accelerator='cpu',
        max_steps=1,
        limit_val_batches=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[gradients],
        default_root_dir=folder,
    )
    loader = DataLoader(list(zip(images(4, system.hparams.img_size), LABELS, strict=True)), batch_size=2)
    trainer.fit(system, loader, loader)
    trainer.save_checkpoint(folder / 'last.ckpt')
    return system, folder / 'last.ckpt', gradients.missing


def test_every_parameter_has_a_gradient(trained: tuple) -> None:
    assert trained[2] == []


def test_checkpoint_of_a_training_run_loads(trained: tuple) -> None:
    system, path, _ = trained
    assert_same(load_from_checkpoint(path), system)


@every_model
@pytest.mark.parametrize('way', ['safetensors', 'pickle', 'deepcopy'])
def test_saves_and_loads(name: str, way: str, tmp_path: Path) -> None:
    system = make(name, charset_test='abc')
    if way == 'safetensors':
        save_safetensors(system, tmp_path / 'model.safetensors')
        loaded = load_from_checkpoint(tmp_path / 'model.safetensors')
    elif way == 'pickle':
        loaded = pickle.loads(pickle.dumps(system))
    else:
        loaded = copy.deepcopy(system)
    assert_same(loaded, system)


@every_model
def test_a_reader_reads_as_its_system(name: str, tmp_path: Path) -> None:
    system = make(name, charset_test='abc')
    save_safetensors(system, tmp_path / 'model.safetensors')
    height, width = system.hparams.img_size
    for overrides in ({}, {'charset_test': 'xyz'}, {'charset_train': system.hparams.charset_train[::-1]}):
        reader = load_reader(tmp_path / 'model.safetensors', **overrides)
        same = load_from_checkpoint(tmp_path / 'model.safetensors', **overrides)
        assert not isinstance(reader, pl.LightningModule)
        assert dict(reader.hparams) == dict(same.hparams)
        assert reader.state_dict().keys() == same.state_dict().keys()
        assert not any(tensor.is_meta for tensor in (*reader.parameters(), *reader.buffers()))
        pictures = images(2, (height, width))
        torch.testing.assert_close(reader.probabilities(pictures), same.probabilities(pictures), rtol=0, atol=0)
        assert reader.read(pictures)[0] == same.read(pictures)[0]
    wider = load_reader(tmp_path / 'model.safetensors', img_size=[height, width + 64])
    assert wider.probabilities(images(1, (height, width + 64))).isfinite().all()


def test_readers_refuse_what_systems_refuse(tmp_path: Path) -> None:
    path = tmp_path / 'model.safetensors'
    save_safetensors(make('parseq'), path)
    for wrong in (
        *({'refine': 1}, {'refine_iters': -1}, {'embed_dim': 96}, {'img_size': [30, 128]}, {'max_label_length': 0}),
        *({'charset_test': 'aa'}, {'charset_train': ''}, {'name': 'crnn'}, {'decode_ar': 'perhaps'}),
    ):
        messages = []
        for load in (load_from_checkpoint, load_reader):
            with pytest.raises(ValueError, match=r'.') as error:
                load(path, **wrong)
            messages.append(str(error.value))
        assert messages[0] == messages[1]


def test_a_reader_of_half_precision_computes_in_single(tmp_path: Path) -> None:
    system = make('crnn')
    torch.save({key: value.half() for key, value in system.model.state_dict().items()}, tmp_path / 'half.pt')
    reader = load_reader(tmp_path / 'half.pt', **{**system.hparams})
    assert {parameter.dtype for parameter in reader.parameters()} == {torch.float32}


def assert_same(loaded: BaseSystem, system: BaseSystem) -> None:
    assert type(loaded) is type(system)
    assert dict(loaded.hparams) == dict(system.hparams)
    pictures = images(2, system.hparams.img_size)
    torch.testing.assert_close(logits(loaded, pictures), logits(system, pictures), rtol=0, atol=0)
    assert loaded.read(pictures)[0] == system.read(pictures)[0]


@every_model
def test_weights_of_a_character_follow_it_to_another_charset(name: str, tmp_path: Path) -> None:
    """In another order nothing is lost: the readings are the same. That fails if a table is not in adapt.CHARACTERS."""
    system = make(name)
    save_safetensors(system, tmp_path / 'model.safetensors')
    charset = system.hparams.charset_train
    pictures = images(4, system.hparams.img_size)
    shuffled = load_from_checkpoint(tmp_path / 'model.safetensors', charset_train=charset[::-1])
    assert shuffled.hparams.charset_train == charset[::-1]
    assert shuffled.read(pictures)[0] == system.read(pictures)[0]
    load_from_checkpoint(tmp_path / 'model.safetensors', charset_train=charset[10:] + 'äöü')


@every_model
@pytest.mark.parametrize(('length', 'wider'), [(40, 32), (9, 64)])
def test_weights_adapt_to_other_words_and_pictures(name: str, length: int, wider: int, tmp_path: Path) -> None:
    system = make(name)
    save_safetensors(system, tmp_path / 'model.safetensors')
    height, width = system.hparams.img_size
    sizes = {'max_label_length': length, 'img_size': [height, width + wider]}
    adapted = load_from_checkpoint(tmp_path / 'model.safetensors', **sizes)
    out = logits(adapted, images(1, sizes['img_size']))
    assert out.isfinite().all()
    if not isinstance(system.tokenizer, CTCTokenizer):
        assert out.shape[1] == length + 1
