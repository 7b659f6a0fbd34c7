"""Models by name, their hyper-parameters, and published weights from a folder, the cache or a server."""

import hashlib
import shutil
import string
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from shrunk import images

from strhub.models import config, weights, zoo
from strhub.models.config import compose
from strhub.models.utils import create_model, load_from_checkpoint, parse_model_args
from strhub.models.zoo import MODELS, build, config_dir, hparams
from strhub.tokenizer import Tokenizer


@pytest.mark.parametrize('name', ['crnn-tiny', 'crnn_tiny'])
def test_names_may_have_the_underscores_of_the_hub(name: str) -> None:
    assert create_model(name).hparams.name == 'crnn-tiny'


@pytest.mark.parametrize('name', ['', 'PARSeq', 'parsec', 'parseq-tiny2', 'parseq tiny', '../parseq', 'crnn_', None, 3])
def test_other_names_are_refused_with_those_there_are(name: Any) -> None:
    with pytest.raises(ValueError, match=r'no model .*there are parseq, parseq-tiny') as error:
        create_model(name)
    if name in ('PARSeq', 'parsec', '../parseq'):
        assert "did you mean 'parseq'" in str(error.value)


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        ({'refine_iter': 2}, r"parseq-tiny has no hyper-parameter 'refine_iter': did you mean 'refine_iters'"),
        ({'hidden_size': 2}, r"no hyper-parameter 'hidden_size'"),
        ({'refine_iters': 1.5}, r'refine_iters is 1.5: give a whole number, e.g. 1'),
        ({'refine_iters': True}, r'refine_iters is True: give a whole number'),
        ({'refine_iters': 'many'}, r"refine_iters is 'many'"),
        ({'decode_ar': 'maybe'}, r"decode_ar is 'maybe': give true or false"),
        ({'decode_ar': 1}, r'decode_ar is 1'),
        ({'lr': None}, r'lr is None: give a number'),
        ({'img_size': 32}, r'img_size is 32: give whole numbers in a list'),
        ({'img_size': [32]}, r'img_size is \[32\]'),
        ({'img_size': '32,128'}, r"img_size is '32,128': give whole numbers in a list"),
        ({'img_size': [32, 128.0]}, r'img_size is'),
        ({'batch_size': 0}, r'batch_size is 0: give at least 1'),
        ({'lr': 0.0}, r'lr is 0.0 .*give a positive lr'),
        ({'lr': 'nan'}, r'lr is nan'),
        ({'weight_decay': -0.1}, r'weight_decay is -0.1'),
        ({'charset_test': 7}, r'charset_test is 7: give a text'),
        ({'embed_dim': 100, 'enc_num_heads': 3}, r'100 cannot be split among 3 heads'),
    ],
)
def test_hyper_parameters_that_make_no_sense_are_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model('parseq-tiny', **overrides)


def test_hyper_parameters_take_the_type_that_they_have_in_the_model() -> None:
    changed = hparams('parseq', lr=1, dropout='2e-1', decode_ar='No', refine_iters='3', img_size=(32, 64))
    assert changed['lr'] == 1.0
    assert type(changed['lr']) is float
    assert (changed['dropout'], changed['decode_ar'], changed['refine_iters']) == (0.2, False, 3)
    assert changed['img_size'] == [32, 64]


@pytest.mark.parametrize('file', sorted((config_dir() / 'charset').glob('[0-9]*.yaml')), ids=lambda file: file.stem)
def test_charsets_have_as_many_characters_as_their_name_says(file: Path) -> None:
    charset = yaml.safe_load(file.read_text('utf-8'))['model']['charset_train']
    assert len(Tokenizer(charset).charset) == int(file.stem.partition('_')[0])
    assert all(c in string.printable for c in charset)


@pytest.mark.parametrize('text', ['6e-3', '6E-03', '0.006', '.006', '+6e-3', '6.e-3', '0.06e-1'])
def test_numbers_in_configs_are_those_of_hydra(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    omegaconf = pytest.importorskip('omegaconf')
    shutil.copytree(config_dir(), tmp_path / 'configs')
    experiment = tmp_path / 'configs' / 'experiment' / 'crnn-tiny.yaml'
    experiment.write_text(f'defaults:\n  - _self_\n  - override /model: crnn\nmodel:\n  lr: {text}\n')
    monkeypatch.setattr(config, 'config_dir', lambda: tmp_path / 'configs')
    assert config.compose('crnn-tiny')['lr'] == omegaconf.OmegaConf.load(experiment).model.lr == 0.006
    assert hparams('crnn-tiny', lr='1e-3')['lr'] == 0.001


def test_what_only_looks_like_a_number_stays_a_text(tmp_path: Path) -> None:
    (tmp_path / 'texts.yaml').write_text('[e3, 1e, 1e3x, "1e3", 0x1e3, -e3]')
    texts = yaml.load((tmp_path / 'texts.yaml').read_text(), config.Loader)
    assert texts == ['e3', '1e', '1e3x', '1e3', 0x1E3, '-e3']


def test_hparams_are_fresh_every_time() -> None:
    hparams('crnn')['img_size'][0] = 1
    assert hparams('crnn')['img_size'] == [32, 128]


def test_build_asks_for_a_name_and_fills_in_what_is_left_out() -> None:
    with pytest.raises(ValueError, match='have no name'):
        build({'lr': 1.0})
    assert build({'name': 'crnn_tiny', 'lr': 1.0}).hparams.hidden_size == hparams('crnn-tiny')['hidden_size']


@pytest.mark.parametrize(
    ('arg', 'value'),
    [
        ('charset_test:str=abc=d', 'abc=d'),
        ('charset_test:str=', ''),
        ('refine_iters:int=2', 2),
        ('lr:float=1e-3', 1e-3),
        ('decode_ar:bool=false', False),
        ('decode_ar:bool=Yes', True),
        ('decode_ar:bool=0', False),
        ('img_size:list=[32, 128]', [32, 128]),
        ('refine_iters=2', '2'),
        ('charset_test=0123', '0123'),
    ],
)
def test_model_args(arg: str, value: Any) -> None:
    parsed = parse_model_args([arg])
    assert parsed == {arg.partition('=')[0].partition(':')[0]: value}


@pytest.mark.parametrize(
    'arg',
    ['', 'refine_iters', '=2', 'a b=2', '--x=2', 'x:int=two', 'x:bool=2', 'x:bool=', 'x:tensor=2', 'x:=2', 'x:list=2'],
)
def test_model_args_of_another_form_are_refused(arg: str) -> None:
    with pytest.raises(ValueError, match=r'give one of|write param=value|is no '):
        parse_model_args(['decode_ar=true', arg])


def test_untyped_model_args_take_the_type_of_the_parameter() -> None:
    args = parse_model_args(['decode_ar=no', 'refine_iters=2', 'charset_test=0123', 'img_size=[32,64]', 'lr=1e-3'])
    changed = hparams('parseq', **args)
    assert {key: changed[key] for key in args} == {
        'decode_ar': False,
        'refine_iters': 2,
        'charset_test': '0123',
        'img_size': [32, 64],
        'lr': 1e-3,
    }
    with pytest.raises(ValueError, match='decode_ar'):
        hparams('parseq', **parse_model_args(['decode_ar=perhaps']))


# Published weights


class Published:
    """A file of weights for crnn-tiny, as the registry names it, and a server whose answer a test chooses."""

    def __init__(self, content: bytes, system: Any) -> None:
        self.content, self.system, self.requests = content, system, 0
        self.file = f'crnn_tiny-{hashlib.sha256(content).hexdigest()[:8]}.pt'
        self.answer: Callable[[BaseHTTPRequestHandler], None] = self.send(content)

    def send(self, body: bytes, *, status: int = 200, length: int | None = None) -> Callable:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            handler.send_header('Content-Length', str(len(body) if length is None else length))
            handler.end_headers()
            handler.wfile.write(body)

        return answer


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    system = create_model('crnn-tiny', width=0.125, hidden_size=8)
    torch.save(system.state_dict(), tmp_path / 'weights.pt')
    this = Published((tmp_path / 'weights.pt').read_bytes(), system)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            this.requests += 1
            assert self.path == f'/{this.file}'
            this.answer(self)

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.delenv('STRHUB_WEIGHTS', raising=False)
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    monkeypatch.setattr(weights, 'BASE_URL', f'http://127.0.0.1:{server.server_port}/')
    monkeypatch.setitem(MODELS, 'crnn-tiny', zoo.Entry(MODELS['crnn-tiny'].system, this.file))
    small = {**compose('crnn-tiny'), 'width': 0.125, 'hidden_size': 8}
    monkeypatch.setattr(zoo, 'compose', lambda name: small if name == 'crnn-tiny' else compose(name))
    yield this
    server.shutdown()
    server.server_close()


def cached(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / 'hub' / 'checkpoints').glob('*')]


def assert_loaded(loaded: Any, published: Published) -> None:
    pictures = images(2, published.system.hparams.img_size)
    with torch.inference_mode():
        expected, got = published.system.eval()(pictures), loaded.eval()(pictures)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_weights_are_downloaded_once_with_progress(
    published: Published, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    assert_loaded(create_model('crnn_tiny', pretrained=True), published)
    assert '100%' in capfd.readouterr().err
    assert cached(tmp_path) == [published.file]
    assert_loaded(load_from_checkpoint('pretrained=crnn-tiny'), published)
    assert published.requests == 1


@pytest.mark.parametrize('damage', ['truncated', 'cut off', 'another file', 'empty'])
def test_a_damaged_download_never_stays_in_the_cache(published: Published, tmp_path: Path, damage: str) -> None:
    body = published.content
    published.answer = {
        'truncated': published.send(body[:-100]),
        'cut off': published.send(body[:-100], length=len(body)),
        'another file': published.send(b'<html>Sign in</html>'),
        'empty': published.send(b''),
    }[damage]
    with pytest.raises(ValueError, match=f'{published.file} arrived damaged .*STRHUB_WEIGHTS'):
        load_from_checkpoint('pretrained=crnn-tiny')
    assert cached(tmp_path) == []
    published.answer = published.send(body)
    assert_loaded(load_from_checkpoint('pretrained=crnn-tiny'), published)


def test_a_damaged_file_in_the_cache_is_replaced(published: Published, tmp_path: Path) -> None:
    load_from_checkpoint('pretrained=crnn-tiny')
    (tmp_path / 'hub' / 'checkpoints' / published.file).write_bytes(published.content[:-1])
    assert_loaded(load_from_checkpoint('pretrained=crnn-tiny'), published)
    assert published.requests == 2


def test_without_a_network_the_error_says_where_to_put_the_file(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand = f'by hand to {tmp_path / "hub" / "checkpoints" / published.file}, set STRHUB_WEIGHTS'
    published.answer = published.send(b'gone', status=404)
    with pytest.raises(ConnectionError, match='404') as error:
        load_from_checkpoint('pretrained=crnn-tiny')
    assert by_hand in str(error.value)
    monkeypatch.setattr(weights, 'BASE_URL', 'http://127.0.0.1:9/')
    with pytest.raises(ConnectionError, match=r'http://127.0.0.1:9/crnn_tiny') as error:
        load_from_checkpoint('pretrained=crnn-tiny')
    assert by_hand in str(error.value)
    assert 'or take pretrained=crnn-small-rendered, which needs no download' in str(error.value)
    assert cached(tmp_path) == []


def test_weights_from_a_folder_need_no_network(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / 'weights'
    monkeypatch.setenv('STRHUB_WEIGHTS', str(folder))
    message = f'STRHUB_WEIGHTS is {folder}, but there is no {published.file}.*crnn-small-rendered'
    with pytest.raises(FileNotFoundError, match=message):
        load_from_checkpoint('pretrained=crnn-tiny')
    folder.mkdir()
    (folder / published.file).write_bytes(published.content)
    assert_loaded(load_from_checkpoint('pretrained=crnn-tiny'), published)
    (folder / published.file).write_bytes(published.content[:-1])
    with pytest.raises(ValueError, match='is damaged'):
        load_from_checkpoint('pretrained=crnn-tiny')
    assert published.requests == 0


def test_pretrained_weights_adapt_to_overrides(published: Published) -> None:
    system = create_model('crnn-tiny', pretrained=True, charset_train='0123456789', lr=1e-3)
    assert system(images(1, system.hparams.img_size)).shape[-1] == 11


def test_models_without_published_weights_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r'no published weights of trbc; there are parseq, .*vitstr, which are downloaded'
    ):
        create_model('trbc', pretrained=True)


def test_registry_names_the_published_files() -> None:
    files = {name: entry.weights for name, entry in MODELS.items() if entry.weights}
    assert {name: weights.hash_prefix(file) for name, file in files.items()} == {
        'parseq': 'bb5792a6',
        'parseq-tiny': 'e7a21b54',
        'parseq-patch16-224': 'fcf06f5a',
        'abinet': '1d1e373e',
        'trba': 'cfaed284',
        'vitstr': '26d0fcf4',
        'crnn': '679d0e31',
    }
