"""ONNX files: those that cannot be read with say why, and the doors take the others for checkpoints."""

import json
import re
from pathlib import Path

import pytest
from exporting import export

import strhub
from strhub.engine import evaluate, read
from strhub.models.base import BaseSystem
from strhub.models.zoo import load_from_checkpoint
from strhub.runtime.description import KEY, Description
from strhub.runtime.session import Session
from strhub.runtime.trained import describe

ROOT = Path(__file__).parents[2]
DEMO = ROOT / 'demo_images'


@pytest.mark.parametrize('system', ['crnn', 'vitstr'], indirect=True, scope='session')
def test_a_description_is_kept_in_json(system: BaseSystem, exported: Path) -> None:
    description = describe(system)
    assert Description.from_json(description.to_json()) == description == Session(exported).description
    record = json.loads(description.to_json())
    assert record['format'] == 1
    assert record['decoding'] == ('ctc' if description.name == 'crnn' else 'attention')
    assert (record['img_size'], record['mean'], record['std'], record['resample']) == ([32, 128], 0.5, 0.5, 'bicubic')


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        ({'format': 2}, 'format 2, and this version of strhub reads format 1'),
        ({'format': None}, 'none that strhub wrote'),
        ({'charset': None}, 'charset=None'),
        ({'charset': 'abca'}, "charset='abca'"),
        ({'img_size': [32]}, r'img_size=\[32\]'),
        ({'decoding': 'beam'}, "decoding='beam', where attention or ctc"),
        ({'max_label_length': 0}, 'max_label_length=0'),
        ({'mean': 0.4}, 'mean'),
        ({'resample': 'nearest'}, "resample='nearest'"),
        ({'hparams': []}, r'hparams=\[\]'),
    ],
)
def test_a_description_that_cannot_be_is_one_sentence(system: BaseSystem, change: dict, says: str) -> None:
    record = json.loads(describe(system).to_json()) | change
    with pytest.raises(ValueError, match=says):
        Description.from_json(json.dumps(record))
    (key,) = change
    del record[key]
    with pytest.raises(ValueError, match='none that strhub wrote' if key == 'format' else f'lacks {key}'):
        Description.from_json(json.dumps(record))


@pytest.mark.parametrize('text', ['', 'no JSON', '[]', '{}', '{"format": "1"}'])
def test_what_is_no_description(text: str) -> None:
    with pytest.raises(ValueError, match='none that strhub wrote'):
        Description.from_json(text)


def test_files_that_cannot_be_read_with(system: BaseSystem, exported: Path, tmp_path: Path) -> None:
    def sentence(path: Path) -> str:
        with pytest.raises((ValueError, FileNotFoundError), match=re.escape(str(path))) as caught:
            strhub.Reader(path)
        assert '\n' not in str(caught.value)
        return str(caught.value)

    assert 'there is no file' in sentence(tmp_path / 'missing.onnx')
    for name, content in {'cut': exported.read_bytes()[:-900], 'text': b'hello', 'empty': b''}.items():
        (tmp_path / f'{name}.onnx').write_bytes(content)
        assert 'damaged or no ONNX model' in sentence(tmp_path / f'{name}.onnx')
    assert 'strhub did not export it' in sentence(export(system, tmp_path / 'foreign.onnx', {}))
    assert 'none that strhub wrote' in sentence(export(system, tmp_path / 'odd.onnx', {KEY: 'yes'}))


def test_another_network_than_described(system: BaseSystem, exported: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip('onnx')
    model = onnx.load(exported)
    onnx.compose.add_prefix_graph(model.graph, 'my_', inplace=True)
    onnx.save(model, tmp_path / 'renamed.onnx')
    with pytest.raises(ValueError, match='takes my_images and gives my_logits, where images and logits are expected'):
        Session(tmp_path / 'renamed.onnx')
    model = onnx.load(exported)
    record = json.loads(describe(system).to_json())
    onnx.helper.set_model_props(model, {KEY: json.dumps(record | {'img_size': [32, 100]})})
    onnx.save(model, tmp_path / 'wider.onnx')
    with pytest.raises(ValueError, match=r'\[N, 3, 32, 100\] is expected'):
        Session(tmp_path / 'wider.onnx')
    onnx.helper.set_model_props(model, {KEY: json.dumps(record | {'charset': record['charset'] + 'éèê'})})
    onnx.save(model, tmp_path / 'more.onnx')
    with pytest.raises(ValueError, match='for a charset of 97 characters'):
        strhub.Reader(tmp_path / 'more.onnx')(DEMO / '01.jpg')


def test_it_cannot_be_trained(exported: Path) -> None:
    with pytest.raises(ValueError, match='an ONNX model, which can read'):
        load_from_checkpoint(exported)


# The doors


def printed(capsys: pytest.CaptureFixture[str], main, *words: object) -> str:
    main([*map(str, words), '--device', 'cpu'])
    return capsys.readouterr().out


@pytest.mark.parametrize('system', ['crnn', 'vitstr'], indirect=True, scope='session')
def test_read_prints_the_same(checkpoint: Path, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = [DEMO / '01.jpg', DEMO / '02.jpg', DEMO / '03.jpg']
    words = ['--topk', 2, '--images', *pictures]
    assert printed(capsys, read.main, exported, *words) == printed(capsys, read.main, checkpoint, *words)
    ours, theirs = (
        [json.loads(line) for line in printed(capsys, read.main, source, '--json', *words).splitlines()]
        for source in (exported, checkpoint)
    )
    for one, other in zip(ours, theirs, strict=True):
        assert one['text'] == other['text']
        assert one['confidence'] == pytest.approx(other['confidence'], rel=1e-3)


@pytest.mark.parametrize('system', ['crnn', 'vitstr'], indirect=True, scope='session')
def test_test_prints_the_same(checkpoint: Path, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ['--sets', DEMO, '--batch_size', 5, '--num_workers', 0, 'charset_test:str=abcdef']
    ours, theirs = (printed(capsys, evaluate.main, source, *words).splitlines() for source in (exported, checkpoint))
    assert 'judged in 6 characters: abcdef' in ours[0]
    assert ours[1:-1] == theirs[1:-1]
    assert any('Combined' in line for line in ours)


@pytest.mark.parametrize(
    ('words', 'says'),
    [
        (['--compile'], 'takes no --compile'),
        (['--precision', 'bf16'], 'takes no --precision bf16'),
        (['decode_ar=false'], 'takes no decode_ar'),
        (['--explain', '{folder}'], 'shows only what it reads'),
    ],
)
def test_what_was_fixed_at_export(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    words = [word.format(folder=tmp_path / 'explained') for word in words]
    with pytest.raises(SystemExit) as caught:
        printed(capsys, read.main, exported, '--images', DEMO / '01.jpg', *words)
    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.count('\n')) == (2, '', 1)
    assert says in err
