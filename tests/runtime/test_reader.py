"""strhub.Reader: what it takes, that torch and ONNX Runtime read the same, that it needs no torch, and its threads."""

import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import strhub
from strhub.data.picture import UnreadablePictureError, open_image
from strhub.engine.read import read_images
from strhub.models.base import BaseSystem

ROOT = Path(__file__).parents[2]
PICTURES = sorted((ROOT / 'demo_images').glob('*.jpg'))[:7]


def assert_same(readings: list[strhub.Reading], expected: list[strhub.Reading]) -> None:
    assert [one.text for one in readings] == [one.text for one in expected]
    for one, other in zip(readings, expected, strict=True):
        assert one.confidence == pytest.approx(other.confidence, rel=1e-3)
        assert [c.confidence for c in one.characters] == pytest.approx(
            [c.confidence for c in other.characters], abs=1e-4
        )


@pytest.mark.parametrize('system', ['crnn', 'vitstr'], indirect=True, scope='session')
@pytest.mark.parametrize('top_k', [0, 3])
def test_torch_and_onnx_read_as_the_engine_does(
    system: BaseSystem, checkpoint: Path, exported: Path, top_k: int
) -> None:
    expected = read_images(system, [open_image(path) for path in PICTURES], top_k=top_k)
    assert len({one.text for one in expected}) > 2
    for source in (checkpoint, exported):
        reader = strhub.Reader(source, device='cpu', batch_size=3, threads=1)
        readings = reader(PICTURES, top_k=top_k)
        assert_same(readings, expected)
        for one, other in zip(readings, expected, strict=True):
            for c, d in zip(one.characters, other.characters, strict=True):
                assert [char for char, _ in c.alternatives] == [char for char, _ in d.alternatives]
                assert len(c.alternatives) == top_k


def test_every_kind_of_picture_is_read_alike(exported: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    reader = strhub.Reader(exported)
    file = tmp_path / 'word.png'
    Image.fromarray(pixels).save(file)
    opaque = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    kinds = [file, str(file), file.read_bytes(), Image.open(file), pixels, opaque, pixels / 255]
    kinds += [(pixels / 255).astype(np.float32), pixels[:, ::-1][:, ::-1]]
    expected = reader(file)
    assert isinstance(expected, strhub.Reading)
    assert reader(kinds) == [expected] * len(kinds)
    assert [reader(kind) for kind in kinds] == pytest.approx([expected] * len(kinds))
    grey = np.asarray(Image.fromarray(pixels).convert('L'))
    assert reader(grey) == reader(Image.fromarray(grey)) == reader(grey[..., None]) == reader(grey / 255)


def test_many_are_a_list_and_one_is_not(exported: Path, pixels: np.ndarray) -> None:
    reader = strhub.Reader(exported, batch_size=2)
    one = reader(pixels)
    assert reader([pixels]) == [one]
    assert reader(np.stack([pixels] * 5)) == [one] * 5
    assert reader(pixels for _ in range(3)) == [one] * 3
    assert reader([]) == []
    assert (one.characters[0].char, type(one.characters[0])) == (one.text[0], strhub.Character)


@pytest.mark.parametrize(
    ('picture', 'says'),
    [
        ('missing.png', 'missing.png does not exist'),
        (b'', 'is empty'),
        (b'no picture', 'not a picture of a known format'),
        (np.zeros((2, 3, 5), np.uint8), r'shape \(2, 3, 5\)'),
        (np.zeros(7), r'shape \(7,\)'),
        (np.zeros((0, 9, 3), np.uint8), 'without pixels'),
        (np.zeros((4, 9), np.int64), 'int64'),
        (np.full((4, 9), 255.0), r'floats from 255 to 255: give floats in \[0, 1\]'),
        (np.full((4, 9), np.nan), 'nan'),
        (Image.new('RGB', (0, 9)), 'no pixels'),
        (None, 'NoneType'),
    ],
)
def test_what_is_no_picture_is_one_sentence(exported: Path, pixels: np.ndarray, picture: object, says: str) -> None:
    reader = strhub.Reader(exported)
    with pytest.raises(ValueError, match=says):
        reader(picture)
    with pytest.raises(UnreadablePictureError, match=says) as caught:
        reader([pixels, picture])
    assert '\n' not in str(caught.value)
    assert 'picture 2' in str(caught.value) or picture == 'missing.png'


def test_a_cut_off_picture_of_pil(exported: Path, pixels: np.ndarray) -> None:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, 'JPEG')
    cut = Image.open(io.BytesIO(content.getvalue()[:-400]))  # PIL decodes it only when it is used
    with pytest.raises(UnreadablePictureError, match='the picture cannot be read as a picture'):
        strhub.Reader(exported)(cut)


@pytest.mark.parametrize('system', ['crnn', 'vitstr'], indirect=True, scope='session')
def test_many_threads_read_as_one_does(checkpoint: Path, exported: Path) -> None:
    for source in (checkpoint, exported):
        reader = strhub.Reader(source, device='cpu', threads=1, batch_size=2)
        alone = [reader(path) for path in PICTURES]
        with ThreadPoolExecutor(16) as pool:
            together = list(pool.map(reader, PICTURES * 6))
        assert_same(together, alone * 6)


@pytest.mark.parametrize('is_blocked', [False, True])
def test_an_onnx_file_needs_no_torch(exported: Path, tmp_path: Path, is_blocked: bool) -> None:
    """In an interpreter of its own, also where torch cannot be imported."""
    if is_blocked:
        (tmp_path / 'torch.py').write_text('raise ImportError("torch is not here")')
    code = (
        'import sys, strhub\n'
        'print(strhub.Reader(sys.argv[1])(sys.argv[2]).text)\n'
        'print(*{name.partition(".")[0] for name in sys.modules})'
    )
    environment = {**os.environ, 'PYTHONPATH': f'{tmp_path}{os.pathsep}{ROOT}'}
    command = [sys.executable, '-c', code, str(exported), str(PICTURES[0])]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text, modules = done.stdout.splitlines()
    assert text == strhub.Reader(exported)(PICTURES[0]).text
    assert 'onnxruntime' in modules.split()
    assert not {'torch', 'torchvision', 'timm', 'lightning', 'yaml', 'onnx', 'cv2'} & set(modules.split())


def test_a_name_is_that_of_published_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(file: str) -> Path:
        asked.append(file)
        raise FileNotFoundError(file)

    monkeypatch.setattr('strhub.models.zoo.fetch', fetch)
    for name in ('parseq_tiny', 'parseq-tiny', 'pretrained=parseq_tiny'):
        with pytest.raises(FileNotFoundError):
            strhub.Reader(name)
    assert len(asked) == 3
    assert len(set(asked)) == 1


def test_overrides_reach_the_network(checkpoint: Path) -> None:
    reader = strhub.Reader(checkpoint, charset_train='abc', device='cpu')
    assert reader.description.charset == 'abc'
    assert set(''.join(one.text for one in reader(PICTURES))) <= set('abc')


@pytest.mark.parametrize(
    ('how', 'says'),
    [
        ({'batch_size': 0}, 'batch_size is 0'),
        ({'threads': 0}, 'threads is 0'),
        ({'device': 'cpu:1'}, 'cpu:1 is not there'),
        ({'device': 'tpu'}, 'tpu is not there'),
    ],
)
def test_bad_arguments_are_one_sentence(checkpoint: Path, exported: Path, how: dict[str, object], says: str) -> None:
    for source in (checkpoint, exported):
        with pytest.raises(ValueError, match=says):
            strhub.Reader(source, **how)
