"""Files of weights: those of ours, of the original, published ones, and everything else that users try."""

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save, save_file
from shrunk import images, small

from strhub.models.checkpoint import LEGACY_MAGIC, read_checkpoint
from strhub.models.zoo import MODELS, create_model, hparams, load_from_checkpoint


def make(name: str = 'crnn-tiny', **overrides: Any) -> Any:
    return create_model(name, **{**small(name), **overrides}).eval()


def assert_same(loaded: Any, system: Any) -> None:
    assert type(loaded) is type(system)
    pictures = images(2, system.hparams.img_size)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.eval()(pictures), system.eval()(pictures), rtol=0, atol=0)


def lightning(system: Any, **hyper_parameters: Any) -> dict[str, Any]:
    """The parts of a Lightning checkpoint that matter, and some that do not."""
    return {
        'epoch': 3,
        'pytorch-lightning_version': '2.2.0',
        'state_dict': system.state_dict(),
        'callbacks': {"ModelCheckpoint{'monitor': 'val_accuracy'}": {'best_model_score': torch.tensor(1.0)}},
        'hparams_name': 'kwargs',
        'hyper_parameters': {**system.hparams, **hyper_parameters},
    }


# What is accepted


@pytest.mark.parametrize('legacy', [False, True])
def test_lightning_checkpoint_of_the_original(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / 'epoch=3-step=100-val_accuracy=90.ckpt'
    system = make('abinet')
    content = lightning(system, l_lr='3e-4', _convert_='all', img_size=(32, 128))
    del content['hyper_parameters']['pretrain_pct']  # it has other hyper-parameters than ours
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    loaded = load_from_checkpoint(path, charset_test='abc', iter_size=3)
    assert_same(loaded, system)
    assert loaded.hparams.l_lr == 3e-4
    assert loaded.hparams.charset_test == 'abc'
    assert_same(load_from_checkpoint(str(path)), system)


def test_the_original_calls_patch16_224_by_the_name_of_parseq(tmp_path: Path) -> None:
    system = make('parseq-patch16-224')
    torch.save(lightning(system, name='parseq'), tmp_path / 'last.ckpt')
    assert_same(load_from_checkpoint(tmp_path / 'last.ckpt'), system)
    assert_same(load_from_checkpoint(tmp_path / 'last.ckpt', name='parseq-patch16-224'), system)


def test_hyper_parameters_that_we_do_not_have_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    system = make()
    torch.save(lightning(system, momentum=0.9), tmp_path / 'last.ckpt')
    assert_same(load_from_checkpoint(tmp_path / 'last.ckpt'), system)
    assert 'crnn-tiny does not know: momentum' in caplog.text


@pytest.mark.parametrize('name', [name for name, entry in MODELS.items() if entry.weights])
@pytest.mark.parametrize('prefix', ['', 'model.'])
def test_published_weights_are_known_by_their_file_name(
    name: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = make(name)
    monkeypatch.setattr('strhub.models.zoo.compose', lambda _: dict(system.hparams))
    path = tmp_path / MODELS[name].weights
    torch.save({prefix + key: value for key, value in system.model.state_dict().items()}, path)
    assert_same(load_from_checkpoint(path), system)
    with pytest.raises(ValueError, match=f'holds {name}, which is another network than trbc'):
        load_from_checkpoint(path, name='trbc')


@pytest.mark.parametrize('name', ['crnn-tiny', 'vitstr'])
@pytest.mark.parametrize('suffix', ['.pt', '.safetensors'])
def test_bare_weights_are_known_by_their_keys_and_shapes(name: str, suffix: str, tmp_path: Path) -> None:
    system, path = create_model(name).eval(), tmp_path / f'mine{suffix}'
    weights = system.model.state_dict()
    save_file(weights, path) if suffix == '.safetensors' else torch.save(weights, path)
    loaded = load_from_checkpoint(path)
    assert loaded.hparams.name == name
    assert_same(loaded, system)


def test_bare_weights_of_no_published_size_need_to_be_explained(tmp_path: Path) -> None:
    system = make(charset_train='abc')
    torch.save(system.state_dict(), tmp_path / 'mine.pt')
    with pytest.raises(ValueError, match=r"weights only, .* fit no model of the hub exactly: .*name='parseq'"):
        load_from_checkpoint(tmp_path / 'mine.pt')
    explained = {'name': 'crnn_tiny', 'charset_train': 'abc', **small('crnn-tiny')}
    assert_same(load_from_checkpoint(tmp_path / 'mine.pt', **explained), system)
    with pytest.raises(ValueError, match=r'do not fit crnn-tiny: \d+ of another shape'):
        load_from_checkpoint(tmp_path / 'mine.pt', **{**explained, 'charset_train': 'ab'})


def test_bare_weights_of_a_published_size_adapt(tmp_path: Path) -> None:
    torch.save(create_model('crnn-tiny').state_dict(), tmp_path / 'mine.pt')
    for name in ({}, {'name': 'crnn-tiny'}):
        loaded = load_from_checkpoint(tmp_path / 'mine.pt', charset_train='abc', **name)
        assert loaded(images(2, loaded.hparams.img_size)).shape[-1] == 4


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    system = create_model('crnn-tiny').eval()
    torch.save({key: value.half() for key, value in system.state_dict().items()}, tmp_path / 'half.pt')
    loaded = load_from_checkpoint(tmp_path / 'half.pt')
    assert loaded(images(2, loaded.hparams.img_size)).dtype is torch.float32


def test_a_checkpoint_is_no_other_model(tmp_path: Path) -> None:
    torch.save(lightning(make()), tmp_path / 'last.ckpt')
    with pytest.raises(ValueError, match=r'holds crnn-tiny, which is another network than vitstr'):
        load_from_checkpoint(tmp_path / 'last.ckpt', name='vitstr')
    with pytest.raises(ValueError, match="no hyper-parameter 'refine_iters'"):
        load_from_checkpoint(tmp_path / 'last.ckpt', refine_iters=1)
    torch.save(lightning(make(), name='my-model'), tmp_path / 'last.ckpt')
    with pytest.raises(ValueError, match="there is no model 'my-model'"):
        load_from_checkpoint(tmp_path / 'last.ckpt')


# What is refused


def write(path: Path, content: Any) -> Path:
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    return path


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


def junk(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    """Files by kind, with what must be said of them."""
    torch_file = write(tmp_path / 'good.pt', {'a': torch.rand(100)}).read_bytes()
    legacy = tmp_path / 'legacy.pt'
    torch.save({'a': torch.rand(100)}, legacy, _use_new_zipfile_serialization=False)
    Image.new('RGB', (4, 4)).save(tmp_path / 'picture.png')
    Image.new('RGB', (4, 4)).save(tmp_path / 'picture.jpg')
    with zipfile.ZipFile(tmp_path / 'archive.zip', 'w') as archive:
        archive.writestr('readme.txt', 'hello')
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / 'script.pt'))
    (tmp_path / 'empty folder').mkdir()
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'folder' / 'last.ckpt').touch()
    tensors = save({'a': torch.rand(9)})
    return {
        'missing': (tmp_path / 'missing.ckpt', r'there is no file .*missing.ckpt: give a .ckpt'),
        'folder': (tmp_path / 'folder', r'is a folder: give one of the files in it: last.ckpt'),
        'empty folder': (tmp_path / 'empty folder', r'is a folder: give a .ckpt'),
        'empty': (write(tmp_path / 'empty.pt', b''), r'is empty'),
        'truncated': (write(tmp_path / 'half.ckpt', torch_file[:-50]), r'is damaged: the end of the file is missing'),
        'truncated legacy': (write(tmp_path / 'half.pt', legacy.read_bytes()[:-50]), r'is damaged'),
        'web page': (write(tmp_path / 'page.pt', b'\n<!DOCTYPE html><p>404'), r'is a web page'),
        'text': (write(tmp_path / 'notes.txt', b'hello'), r'is a text file'),
        'git lfs': (write(tmp_path / 'lfs.pt', b'version https://git-lfs.github.com/spec/v1'), r'git lfs pull'),
        'png': (tmp_path / 'picture.png', r'is a picture \(PNG\)'),
        'jpeg': (tmp_path / 'picture.jpg', r'is a picture \(JPEG\)'),
        'onnx': (write(tmp_path / 'model.onnx', b'\x08\x07\x12\x07pytorch'), r'is an ONNX model'),
        'binary': (write(tmp_path / 'model.bin', b'\x08\x00\x12\x07'), r'is no file of weights'),
        'zip': (tmp_path / 'archive.zip', r'is a zip archive, but not one of torch.save'),
        'script': (tmp_path / 'script.pt', r'is a TorchScript program'),
        'pickle': (write(tmp_path / 'plain.pkl', pickle.dumps({'a': 1})), r'is a pickle that torch.save did not write'),
        'module': (write(tmp_path / 'module.pt', torch.nn.Linear(2, 2)), r'objects \(torch.nn.modules.linear.Linear\)'),
        'evil': (write(tmp_path / 'evil.pt', {'a': Evil(tmp_path / 'pwned')}), r'objects \(\w+.mkdir\).*any code'),
        'tensor': (write(tmp_path / 'tensor.pt', torch.rand(2)), r'holds a Tensor, not the weights'),
        'list': (write(tmp_path / 'list.pt', [1]), r'holds a list, not the weights'),
        'no weights': (write(tmp_path / 'none.pt', {}), r'holds nothing, not the weights'),
        'optimiser': (
            write(tmp_path / 'o.pt', {'state': {}, 'lr': 1}),
            r"holds nothing under 'state', not just weights",
        ),
        'other weights': (write(tmp_path / 'other.pt', {'a': torch.rand(2)}), r'1 tensors fit no model of the hub'),
        'sparse': (
            write(tmp_path / 'sparse.pt', {'a': torch.eye(2).to_sparse()}),
            r"holds 'a' in a form that no model here has",
        ),
        'meta': (write(tmp_path / 'meta.pt', {'a': torch.rand(2, device='meta')}), r"holds 'a' in a form"),
        'bad hparams': (
            write(tmp_path / 'bad.ckpt', {'state_dict': {'a': torch.rand(2)}, 'hyper_parameters': [1]}),
            r'holds a list in place of hyper-parameters',
        ),
        'safetensors': (write(tmp_path / 'half.safetensors', tensors[:-9]), r'is a damaged .safetensors file'),
        'safetensors hparams': (
            write(tmp_path / 'h.safetensors', save({'a': torch.rand(9)}, {'hparams': '{'})),
            r'is a damaged .safetensors file',
        ),
    }


KINDS = [
    'missing', 'folder', 'empty folder', 'empty', 'truncated', 'truncated legacy', 'web page', 'text', 'git lfs', 'png',
    'jpeg', 'onnx', 'binary', 'zip', 'script', 'pickle', 'module', 'evil', 'tensor', 'list', 'no weights', 'optimiser',
    'other weights', 'sparse', 'meta', 'bad hparams', 'safetensors', 'safetensors hparams',
]  # fmt: skip


@pytest.fixture(scope='module')
def junk_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    return junk(tmp_path_factory.mktemp('junk'))


@pytest.mark.parametrize('kind', KINDS)
def test_other_files_are_refused_in_one_sentence_that_says_what_they_are(
    kind: str, junk_files: dict[str, tuple[Path, str]]
) -> None:
    assert list(junk_files) == KINDS
    path, message = junk_files[kind]
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        load_from_checkpoint(path)
    assert '\n' not in str(error.value)
    assert str(path) in str(error.value)
    assert not (path.parent / 'pwned').exists()


def test_the_name_of_a_model_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match='for the weights of that name write pretrained=parseq_tiny'):
        load_from_checkpoint('parseq_tiny')
    torch.save(lightning(make()), 'pretrained=crnn')  # a path all the same, if it is there
    assert load_from_checkpoint('pretrained=crnn').hparams.name == 'crnn-tiny'


@pytest.fixture(scope='module')
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp('good') / 'file'
    system, files = make(width=0.05, hidden_size=2, charset_train='ab'), {}
    for kind, options in {'zip': {}, 'legacy': {'_use_new_zipfile_serialization': False}}.items():
        torch.save(lightning(system), path, **options)
        files[kind] = path.read_bytes()
    files['safetensors'] = save(system.state_dict(), {'hparams': json.dumps(dict(system.hparams))})
    return files


fuzz = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def load_or_refuse(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    said = 'loaded'
    try:
        load_from_checkpoint(path)
    except (ValueError, FileNotFoundError) as error:
        said = str(error)
    assert said
    assert '\n' not in said


HEADS = [b'', b'PK\x03\x04', LEGACY_MAGIC, b'\x10\0\0\0\0\0\0\0{', b'\x80\x02', b'<html']


@fuzz
@given(head=st.sampled_from(HEADS), tail=st.binary(max_size=400))
def test_any_bytes_load_or_are_refused(head: bytes, tail: bytes, tmp_path: Path) -> None:
    load_or_refuse(tmp_path / 'junk.ckpt', head + tail)


@fuzz
@given(data=st.data(), kind=st.sampled_from(['zip', 'legacy', 'safetensors']))
def test_damaged_checkpoints_load_or_are_refused(
    data: st.DataObject, kind: str, good: dict[str, bytes], tmp_path: Path
) -> None:
    content = bytearray(good[kind])
    # The pickles and headers, where damage does the most, are at the beginning, in zip archives also at the end.
    places = (
        st.integers(0, 3000) | st.integers(0, len(content) - 1) | st.integers(len(content) - 2000, len(content) - 1)
    )
    for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4)):
        content[place] = byte
    end = data.draw(st.none() | st.integers(0, len(content)))
    load_or_refuse(tmp_path / 'damaged.ckpt', bytes(content[:end]))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 999) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@fuzz
@given(key=st.sampled_from([*hparams('crnn-tiny'), 'other']), value=values)
def test_any_hyper_parameters_load_or_are_refused(key: str, value: Any, tmp_path: Path) -> None:
    content = lightning(make(width=0.05, hidden_size=2, charset_train='ab'), **{key: value})
    torch.save(content, tmp_path / 'last.ckpt')
    load_or_refuse(tmp_path / 'last.ckpt', (tmp_path / 'last.ckpt').read_bytes())


def test_reading_is_safe_by_construction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment may turn off torch's guard; ours stays."""
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    with pytest.raises(ValueError, match='could run any code'):
        read_checkpoint(write(tmp_path / 'evil.pt', {'a': Evil(tmp_path / 'pwned')}))
    assert not (tmp_path / 'pwned').exists()
