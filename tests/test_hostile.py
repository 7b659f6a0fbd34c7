"""Hostile input: what is made to exhaust, to mislead or to run code is read or gets one sentence (docs/hostile.md)."""

from __future__ import annotations

import io
import logging
import os
import pickle
import struct
import sys
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lmdb
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from strhub.data.dataset import build_tree_dataset
from strhub.data.labels import LabelRules
from strhub.data.picture import FORMATS, MAX_PIXELS, UnreadablePictureError, open_image
from strhub.data.pixels import open_pixels
from strhub.engine import evaluate, fit, read
from strhub.engine.configure import check, compose, value_of
from strhub.engine.errors import is_known, sentence
from strhub.models import zoo
from strhub.models.checkpoint import read_checkpoint
from strhub.models.utils import parse_model_args
from strhub.tokenizer import CharsetAdapter, CTCTokenizer, Tokenizer

LETTERS = 'abcdefghijklmnopqrstuvwxyz'


def told(error: BaseException) -> str:
    """What a door says of the error, after making sure that it is one sentence."""
    text = sentence(error)
    assert is_known(error)
    assert text
    assert not set(text) & set('\n\r')
    return text


def encoded(image: Image.Image, kind: str = 'PNG', **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


# Pictures


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def zeros(count: int) -> bytes:
    """`count` zeros, packed to a thousandth."""
    packer, million = zlib.compressobj(9), bytes(1 << 20)
    parts = [packer.compress(million[: min(len(million), count - at)]) for at in range(0, count, len(million))]
    return b''.join(parts) + packer.flush()


def png(
    width: int, height: int, *, bits: int = 8, kind: int = 2, extra: bytes = b'', data: bytes | None = None
) -> bytes:
    header = struct.pack('>IIBBBBB', width, height, bits, kind, 0, 0, 0)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    data = zeros(height * (1 + (width * channels * bits + 7) // 8)) if data is None else data
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + extra + chunk(b'IDAT', data) + chunk(b'IEND', b'')


def many_scans(count: int) -> bytes:
    """A JPEG that goes over its pixels again and again, for 200 bytes each time."""
    whole = encoded(Image.new('L', (4000, 4000), 128), 'JPEG', progressive=True)
    return whole[:-2] + whole[whole.rfind(b'\xff\xda') : -2] * count + b'\xff\xd9'


def gif_of_remarks(count: int) -> bytes:
    whole = encoded(Image.new('P', (4, 4)), 'GIF')
    at = 13 + (3 << (whole[10] & 7) + 1 if whole[10] & 0x80 else 0)
    return whole[:at] + b'!\xfe' + (b'\xff' + b'a' * 255) * count + b'\0' + whole[at:]


def jpeg2000_header() -> bytes:
    """The first frame of a JPEG 2000, turned into one of 33 million pixels."""
    whole = bytearray(encoded(Image.new('RGB', (8, 8)), 'JPEG2000', no_jp2=True))
    whole[8:16] = struct.pack('>II', 33_000, 1000)  # SIZ: width and height
    return bytes(whole)


def icon(inner: bytes) -> bytes:
    """An icon that says it is of 256 x 256, around a PNG of any size."""
    return struct.pack('<HHHBBBBHHII', 0, 1, 1, 0, 0, 0, 0, 1, 32, len(inner), 22) + inner


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.new('RGB', (40, 20)), 'JPEG', exif=exif)


FRAMES: dict[str, Any] = {'save_all': True, 'append_images': [Image.new('RGB', (9, 5), 'red')] * 3}
LARGE_TEXT = zlib.compress(bytes(1 << 24), 9)
WIDE_GIF = b'GIF89a\1\0\1\0\x80\0\0' + bytes(6) + b',' + struct.pack('<HHHHB', 0, 0, 9000, 9000, 0) + b'\2\2\x4c\1\0;'

OPENED: dict[str, tuple[Callable[[], bytes], tuple[int, int]]] = {
    '1 x 1': (lambda: encoded(Image.new('RGB', (1, 1))), (1, 1)),
    'animated GIF': (lambda: encoded(Image.new('RGB', (9, 5)), 'GIF', **FRAMES), (9, 5)),
    'animated PNG': (lambda: encoded(Image.new('RGB', (9, 5)), 'PNG', **FRAMES), (9, 5)),
    'animated WebP': (lambda: encoded(Image.new('RGB', (9, 5)), 'WEBP', **FRAMES), (9, 5)),
    'CMYK': (lambda: encoded(Image.new('CMYK', (9, 5)), 'JPEG'), (9, 5)),
    '16 bits, grey': (lambda: png(9, 5, bits=16, kind=0), (9, 5)),
    '16 bits, colour': (lambda: png(9, 5, bits=16), (9, 5)),
    '16 bits, alpha': (lambda: png(9, 5, bits=16, kind=6), (9, 5)),
    'alpha': (lambda: png(9, 5, kind=6), (9, 5)),
    'turned': (lambda: turned(6), (20, 40)),
    'turned into nowhere': (lambda: turned(99), (40, 20)),
    'a GB behind the pixels': (lambda: png(9, 5, data=zeros(1 << 30)), (9, 5)),
    'numbers without bounds': (
        lambda: encoded(Image.fromarray(np.array([[np.nan, np.inf, -np.inf, 1, 2]], np.float32)), 'TIFF'),
        (5, 1),
    ),
}

REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    'truncated': (lambda: encoded(Image.effect_noise((99, 99), 50))[:2000], r'cannot be read as a picture'),
    'JPEG 2000 of 33 million pixels': (jpeg2000_header, 'has more than 32000000 pixels: make it smaller'),
    '30,000 x 30,000': (lambda: png(30_000, 30_000, data=b''), 'has more than 64000000 pixels: make it smaller'),
    'GIF with a frame beyond it': (lambda: WIDE_GIF, 'has more than 64000000 pixels: make it smaller'),
    'icon around a huge picture': (lambda: icon(png(30_000, 30_000, data=b'')), 'has more than 64000000 pixels'),
    'zTXt bomb': (lambda: png(9, 5, extra=chunk(b'zTXt', b'k\0\0' + LARGE_TEXT)), 'Decompressed data too large'),
    'iTXt bomb': (lambda: png(9, 5, extra=chunk(b'iTXt', b'k\0\1\0\0\0' + LARGE_TEXT)), 'Decompressed data too large'),
    '200 zTXt': (
        lambda: png(9, 5, extra=chunk(b'zTXt', b'k\0\0' + zlib.compress(bytes(1 << 19), 9)) * 200),
        'Too much memory used in text chunks',
    ),
    'JPEG of 2,000 scans': (lambda: many_scans(2000), 'is a JPEG of so many scans that it would take minutes to read'),
    'GIF of 10 MB of remarks': (lambda: gif_of_remarks(40_000), r'\(remarks of more than a megabyte\)'),
}


@pytest.mark.parametrize('kind', OPENED)
def test_odd_pictures_are_rgb(kind: str) -> None:
    make, size = OPENED[kind]
    image = open_image(make())
    assert (image.mode, image.size) == ('RGB', size)


@pytest.mark.parametrize('open_picture', [open_image, open_pixels])
@pytest.mark.parametrize('kind', REFUSED)
def test_bombs_are_refused_at_once(kind: str, open_picture: Callable[..., Any]) -> None:
    make, message = REFUSED[kind]
    data = make()
    started = time.process_time()
    with pytest.raises(UnreadablePictureError, match=message) as error:
        open_picture(data, name='word.png')
    told(error.value)
    assert time.process_time() - started < 2  # most of them took minutes


def test_a_profile_that_is_a_bomb_is_refused_or_not_looked_at() -> None:
    data = png(9, 5, extra=chunk(b'iCCP', b'k\0\0' + LARGE_TEXT))
    with pytest.raises(UnreadablePictureError, match='Decompressed data too large'):
        open_image(data)
    assert open_pixels(data).shape == (5, 9, 3)


def test_a_usual_progressive_jpeg_and_a_remark_are_no_bombs() -> None:
    assert open_image(many_scans(10)).size == (4000, 4000)
    assert open_image(gif_of_remarks(100)).size == (4, 4)


MEASURE = """
import resource, sys
from strhub.data.picture import open_image
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
open_image(sys.argv[1])
print((peak() - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='counts memory as Linux does')
@pytest.mark.parametrize('options', [{'bits': 16, 'kind': 0}, {'bits': 16, 'kind': 6}, {'kind': 6}, {}])
def test_the_largest_pictures_take_less_than_a_gigabyte(options: dict[str, int], tmp_path: Path) -> None:
    from subprocess import run

    (tmp_path / 'large.png').write_bytes(png(8000, MAX_PIXELS // 8000, **options))
    out = run([sys.executable, '-c', MEASURE, tmp_path / 'large.png'], capture_output=True, check=True).stdout
    assert int(out) < 1000


def samples() -> Iterator[bytes]:
    for kind in FORMATS:
        for mode in ('RGB', 'L', 'P', 'RGBA', 'CMYK', 'I;16', 'F', '1'):
            try:
                yield encoded(Image.new('I' if mode == 'I;16' else 'RGB', (24, 12), 99).convert(mode), kind)
            except (OSError, ValueError, KeyError):  # not every format has every mode
                continue


SAMPLES = list(samples())


@settings(max_examples=300)
@given(
    st.sampled_from(SAMPLES) | st.binary(max_size=99),
    st.lists(st.tuples(st.integers(0, 300), st.binary(min_size=1, max_size=6)), max_size=5),
    st.none() | st.integers(0, 2000),
)
def test_any_bytes_are_a_picture_of_bounded_size_or_a_sentence(
    data: bytes, patches: list[tuple[int, bytes]], end: int | None
) -> None:
    damaged = bytearray(data)
    for at, patch in patches:
        damaged[at : at + len(patch)] = patch
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # PIL's remarks on odd tags
        try:
            image = open_image(bytes(damaged[:end]), name='word')
        except UnreadablePictureError as error:
            said = told(error)
        else:
            said = 'word is read'
            assert image.mode == 'RGB'
            assert 0 < image.width * image.height <= MAX_PIXELS
    assert said.startswith('word ')


# Labels


def read_all(root: Path, **options: Any) -> None:
    """Every word below `root`, or one sentence; no picture from outside it."""
    logging.disable()
    try:
        dataset: Any = build_tree_dataset(root, LabelRules(LETTERS, 25), **options)
        for index in range(len(dataset)):
            picture, label = dataset[index]
            assert picture.mode == 'RGB'
            assert set(label) <= set(LETTERS)
            where = dataset.name_of(index).partition('#')[0]
            assert Path(where).resolve().is_relative_to((root if root.is_dir() else root.parent).resolve())
    except (ValueError, OSError) as error:
        told(error)
    finally:
        logging.disable(logging.NOTSET)


PIECES = [
    *(b'a.png', b'b.png', b'gone.png', b'word', b'\t', b',', b'"', b'\n', b'\r', b'\0', b'[', b'\xef\xbb\xbf'),
    *(b'../a.png', b'/etc/passwd', b'x/' * 3000, b'1' * 5000, b'[' * 9000, b'\xe2\x80\xa8', b'image,label'),
    *(b'{"image": "a.png", "label": "word"}', b'{"image": "a.png", "label": "\\ud800"}', b'{"image": 1e999}'),
]


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(PIECES) | st.binary(max_size=6), max_size=12).map(b''.join),
    st.sampled_from(['labels.tsv', 'labels.csv', 'labels.jsonl', 'gt.txt']),
    st.booleans(),
)
def test_any_label_file_gives_words_or_a_sentence(content: bytes, name: str, replaces: bool) -> None:
    with TemporaryDirectory() as folder:
        Path(folder, 'a.png').write_bytes(encoded(Image.new('RGB', (9, 5))))
        Path(folder, 'b.png').write_bytes(b'junk')
        Path(folder, name).write_bytes(content)
        read_all(Path(folder, name), replace_unreadable=replaces)


KEYS = st.builds(
    lambda kind, record: b'%s-%09d' % (kind, record), st.sampled_from([b'image', b'label', b'IMAGE']), st.integers(0, 6)
)
PNG = encoded(Image.new('RGB', (9, 5)))
VALUES = st.sampled_from([b'', b'word', b'Word-1', b'\xff', PNG, PNG[:40], PNG + b'junk']) | st.binary(max_size=20)


@settings(max_examples=150)
@given(
    st.dictionaries(KEYS | st.binary(min_size=1, max_size=9), VALUES, max_size=10),
    st.sampled_from([b'0', b'1', b'2', b'3', b'6', b' 2 ', b'1_0', b'\xd9\xa3', b'nan', None]),
    st.booleans(),
    st.integers(0, 6),
)
def test_an_lmdb_of_any_records_gives_words_or_a_sentence(
    records: dict[bytes, bytes], count: bytes | None, replaces: bool, min_image_dim: int
) -> None:
    with TemporaryDirectory() as folder:
        with lmdb.open(folder) as env, env.begin(write=True) as txn:
            for key, value in {**records, **({} if count is None else {b'num-samples': count})}.items():
                txn.put(key, value)
        read_all(Path(folder), replace_unreadable=replaces, min_image_dim=min_image_dim)


# Checkpoints


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f'touch {self.marker}',)


def evil_files(folder: Path, marker: Path) -> dict[str, Path]:
    """A pickle that runs a command, in all clothes that weights come in."""
    system = zoo.create_model('crnn-tiny', charset_train='ab', hidden_size=2, width=0.05)
    good = {'state_dict': system.state_dict(), 'hyper_parameters': dict(system.hparams)}
    state = {'loops': {}, 'optimizer_states': [], 'lr_schedulers': [], 'callbacks': {'Reproducible': {}}}
    evil = Evil(marker)
    contents: dict[str, Any] = {
        'weights.pt': {'a': evil},
        'hparams.ckpt': {**good, 'hyper_parameters': {**good['hyper_parameters'], 'name': evil}},
        'beside.ckpt': {**good, **state, 'other': evil},
        'callbacks.ckpt': {**good, **state, 'callbacks': {'Reproducible': evil}},
    }
    for name, content in contents.items():
        torch.save(content, folder / name)
    torch.save(contents['beside.ckpt'], folder / 'legacy.ckpt', _use_new_zipfile_serialization=False)
    (folder / 'plain.ckpt').write_bytes(pickle.dumps(evil))
    return {path.name: path for path in sorted(folder.iterdir())}


DOORS: dict[str, Callable[[Path], Any]] = {
    'read.py': lambda path: read.main([str(path), '--images', str(path.with_name('word.png')), '--device', 'cpu']),
    'test.py': lambda path: evaluate.main([str(path), '--sets', str(path.parent), '--device', 'cpu']),
    'train.py pretrained=': lambda path: fit.main(
        ['+experiment=crnn-tiny', 'dataset=rendered', f'pretrained={path}', 'trainer.max_steps=1']
    ),
    'train.py ckpt_path=': lambda path: fit.main(
        ['+experiment=crnn-tiny', 'dataset=rendered', f'ckpt_path={path}', 'trainer.max_steps=1']
    ),
}


@pytest.mark.parametrize('door', DOORS)
@pytest.mark.parametrize(
    'name', ['weights.pt', 'hparams.ckpt', 'beside.ckpt', 'callbacks.ckpt', 'legacy.ckpt', 'plain.ckpt']
)
def test_no_door_runs_what_is_in_a_checkpoint(
    door: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')  # even where torch's own guard is turned off
    (tmp_path / 'files').mkdir()
    marker = tmp_path / 'executed'
    path = evil_files(tmp_path / 'files', marker)[name]
    Image.new('RGB', (40, 20)).save(path.with_name('word.png'))
    with pytest.raises(SystemExit) as stop:
        DOORS[door](path)
    assert stop.value.code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error: ')]
    assert len(errors) == 1
    assert name in errors[0]
    assert not marker.exists()


def test_packed_checkpoints_are_refused_unread(tmp_path: Path) -> None:
    torch.save({'a': torch.zeros(1 << 24)}, tmp_path / 'plain.pt')
    with (
        zipfile.ZipFile(tmp_path / 'plain.pt') as plain,
        zipfile.ZipFile(tmp_path / 'packed.pt', 'w', zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert read_checkpoint(tmp_path / 'plain.pt').state_dict['a'].shape == (1 << 24,)
    with pytest.raises(ValueError, match=r'packed.pt is packed: its \d+ bytes would become 67\d+ in memory') as error:
        read_checkpoint(tmp_path / 'packed.pt')
    told(error.value)


CLAIMS: dict[str, list[dict[str, Any]]] = {
    'crnn-tiny': [
        {'hidden_size': 100_000},
        {'hidden_size': 10**30},
        {'width': 1e300},
        {'img_size': [100_000, 100_000]},
        {'max_label_length': 10**9},
    ],
    'parseq': [
        {'embed_dim': 96_000},
        {'enc_depth': 10**6},
        {'img_size': [1024, 1024]},
        {'max_label_length': 4000},
        {'refine_iters': 10**9},
    ],
    'abinet': [{'d_model': 96_000}, {'v_num_layers': 10**6}, {'iter_size': 10**9}],
    'trba': [{'output_channel': 100_000}, {'num_fiducial': 100_000}],
    'vitstr': [{'embed_dim': 96_000}],
}


@pytest.mark.parametrize('load', [zoo.load_reader, zoo.load_from_checkpoint])
@pytest.mark.parametrize('name', CLAIMS)
def test_a_checkpoint_that_claims_to_be_huge_is_refused_without_memory_or_time(
    name: str, load: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = tmp_path / 'huge.ckpt'
    for claim in CLAIMS[name]:
        torch.save({'state_dict': {'a': torch.zeros(1)}, 'hyper_parameters': {'name': name, **claim}}, path)
        started = time.process_time()
        with memory_left(1 << 30), pytest.raises(ValueError, match='give') as error:
            load(path)
        told(error.value)
        assert time.process_time() - started < 5


@contextmanager
def memory_left(size: int) -> Iterator[None]:
    """As much memory as this process has, and `size` bytes more."""
    if sys.platform != 'linux':
        yield
        return
    import resource

    used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_tensors_that_are_one_number_a_billion_times_are_refused(tmp_path: Path) -> None:
    torch.save({'a': torch.zeros(1).expand(100_000, 100_000)}, tmp_path / 'a.pt')
    with pytest.raises(ValueError, match=r'a\.pt is of \d+ bytes, but its tensors claim 40000000000 ') as error:
        read_checkpoint(tmp_path / 'a.pt')
    told(error.value)


@pytest.mark.parametrize(
    'content',
    [
        struct.pack('<Q', 10**12) + b'{',
        save({'a': torch.zeros(1)}, {'hparams': '[' * 100_000}),
        save({'a\nb': torch.zeros(1)}, {'hparams': '{"name": "a\\nb"}'}),
        save({'a': torch.zeros(1)}, {'hparams': '{"name": "../../etc/passwd"}'}),
    ],
)
def test_hostile_safetensors_get_one_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / 'a.safetensors').write_bytes(content)
    with pytest.raises(ValueError, match=r'damaged|there is no model') as error:
        zoo.load_reader(tmp_path / 'a.safetensors')
    told(error.value)


# Words of a command line


NAMES = [
    *('seed', 'threads', 'pretrained', 'ckpt_path', 'charset', 'dataset', 'model', '+experiment', '~model.lr', '+x'),
    *('++y', 'model.lr', 'model.charset_train', 'data.root_dir', 'data.mix', 'hydra.run.dir', 'trainer', 'a.b.c'),
]
ODD = ['${x}', '${oc.env:NO}', '${characters_of:/}', '[1,', '{a:1}', '1,2', 'range(1,9)', '???', 'null', '!!python/x:y']
TEXTS = st.sampled_from(ODD) | st.text(max_size=9) | st.text('[]{}",\'\\$ :=()*~0a\n', max_size=9)


@settings(max_examples=60)
@given(st.text(max_size=9) | st.builds('{}={}'.format, st.sampled_from(NAMES), TEXTS))
def test_any_word_of_training_gives_a_configuration_or_a_sentence(word: str) -> None:
    for ask in (check, compose, lambda words: value_of(words, 'ckpt_path')):
        try:
            ask([word])
        except Exception as error:
            told(error)


MODEL_TEXTS = st.sampled_from(
    [
        '-1',
        '0',
        'nan',
        'inf',
        '1e400',
        '9' * 5000,
        '99999999',
        '[0,0]',
        '[-1,5]',
        '[' * 3000,
        '&a [*a]',
        '[99999,99999]',
    ]
)


@settings(max_examples=100)
@given(
    st.lists(
        st.text(max_size=9)
        | st.builds(
            '{}{}={}'.format,
            st.sampled_from([*zoo.hparams('crnn-tiny')]),
            st.sampled_from(['', ':int', ':float', ':bool', ':list', ':str', ':x']),
            MODEL_TEXTS | st.text(max_size=9),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_parameter_of_a_model_is_taken_or_gets_a_sentence(words: list[str]) -> None:
    try:
        with torch.device('meta'):  # no memory, however large it says it is
            zoo.build_reader({**zoo.hparams('crnn-tiny'), **parse_model_args(words)})
    except ValueError as error:
        told(error)


# Charsets


@settings(max_examples=300)
@given(st.text(st.characters(exclude_categories=()), max_size=9) | st.text('[]EBP\0\udcff', max_size=6), st.data())
def test_any_charset_spells_its_labels_or_gets_a_sentence(charset: str, data: st.DataObject) -> None:
    try:
        tokenizer, ctc = Tokenizer(charset), CTCTokenizer(charset)
    except ValueError as error:
        told(error)
        return
    labels = data.draw(st.lists(st.text(charset, max_size=5), min_size=1, max_size=3))
    probs = torch.nn.functional.one_hot(tokenizer.encode(labels)[:, 1:], len(tokenizer)).float()
    assert tokenizer.decode(probs)[0] == tokenizer.decode_words(probs)[0] == labels
    apart = ''.join(dict.fromkeys(labels[0]))  # CTC reads what is repeated once, without a blank between
    probs = torch.nn.functional.one_hot(ctc.encode([apart or charset[0]]), len(ctc)).float()
    assert ctc.decode(probs)[0] == [apart or charset[0]]
    assert set(CharsetAdapter(charset)(labels[0])) <= set(charset)
