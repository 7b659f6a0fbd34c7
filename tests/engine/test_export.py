"""Exported files: they read as the checkpoint, say what they are, and are not there if they differ."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import shrunk
import torch
from samples import draw_word, save_checkpoint
from torch import Tensor

from strhub.engine.export import cli
from strhub.engine.export.check import batches, first_difference, rendered
from strhub.engine.export.formats import SUFFIXES, load, write
from strhub.engine.export.rounding import changed, changed_in_sets
from strhub.models.base import BaseSystem
from strhub.models.reader import Recogniser
from strhub.models.zoo import create_model
from strhub.runtime.description import KEY, Description

# One of each kind of network; the others of the registry have other sizes alone.
KINDS = ['parseq', 'abinet', 'abinet-sv', 'crnn', 'trba', 'trbc', 'vitstr']
OTHERS = ['parseq-tiny', 'parseq-patch16-224', 'abinet-lm', 'crnn-tiny']

Export = Callable[..., Path]


def small(name: str, **overrides: object) -> BaseSystem:
    """A network that reads words of several lengths, so that some of a batch end before the others."""
    torch.manual_seed(1)
    system = create_model(name, **shrunk.small(name), **overrides)
    with torch.no_grad():
        for parameter in system.parameters():
            parameter.mul_(1.2)
    return system.eval()


@pytest.fixture(scope='module')
def exported(parseq_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PARSeq, character by character and refined, by the door."""
    for package in cli.NEEDED['onnx']:
        pytest.importorskip(package)
    out = tmp_path_factory.mktemp('export') / 'parseq.onnx'
    cli.main([str(parseq_checkpoint), '--format', 'onnx', '--out', str(out)])
    return out


@pytest.fixture(scope='module')
def calm_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its logits do not hang on the last bit of a picture, as those of `tiny_crnn` do."""
    return save_checkpoint(small('crnn'), tmp_path_factory.mktemp('export') / 'crnn.ckpt')


@pytest.fixture
def export(calm_checkpoint: Path, tmp_path: Path) -> Export:
    def run(*words: str, kind: str = 'torchscript') -> Path:
        out = tmp_path / f'out/crnn{SUFFIXES[kind]}'
        cli.main([str(calm_checkpoint), '--format', kind, '--out', str(out), *words])
        return out

    return run


def pictures(system: Recogniser, count: int) -> Tensor:
    return torch.rand(count, 3, *system.hparams['img_size'], generator=torch.Generator().manual_seed(2)) * 2 - 1


def agree(system: Recogniser, path: Path, kind: str) -> None:
    """In batches of several sizes, up to the end of each text: after the longest one of a batch nothing is computed."""
    noise = pictures(system, 40)
    assert first_difference(system, load(path, kind), [(str(i), image) for i, image in enumerate(noise)]) == (40, None)


def test_a_file_reads_as_the_checkpoint(tiny_parseq: BaseSystem, exported: Path) -> None:
    run = load(exported, 'onnx')
    found = run(pictures(tiny_parseq, 5))
    assert found.shape == (5, tiny_parseq.hparams['max_label_length'] + 1, len(tiny_parseq.tokenizer) - 2)
    count, difference = first_difference(tiny_parseq, run, rendered(tiny_parseq))
    assert (count, difference) == (40, None)
    assert not list(exported.parent.glob('.*'))


def test_a_file_says_what_it_is(tiny_parseq: BaseSystem, exported: Path) -> None:
    import onnx

    model = onnx.load(exported)
    (text,) = (entry.value for entry in model.metadata_props if entry.key == KEY)
    description = Description.from_json(text)
    assert json.loads(text)['format'] == 1
    assert description.name == 'parseq'
    assert description.decoding == 'attention'
    assert description.charset == tiny_parseq.hparams['charset_train']
    assert description.img_size == (32, 128)
    assert description.hparams['refine_iters'] == tiny_parseq.hparams['refine_iters']
    assert [value.name for value in [*model.graph.input, *model.graph.output]] == ['images', 'logits']


def test_a_loop_stops_when_all_words_have_ended(tiny_parseq: BaseSystem, exported: Path) -> None:
    """What is left of the steps nobody computes: their number is that of the longest word."""
    import onnx
    import onnxruntime

    model = onnx.load(exported)
    model.graph.output.append(onnx.helper.make_tensor_value_info('num_answers', onnx.TensorProto.INT64, [1]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    images = pictures(tiny_parseq, 4)
    (steps,) = session.run(['num_answers'], {'images': images.numpy()})
    tiny_parseq.model.refine_iters = 0
    try:
        with torch.inference_mode():
            expected = tiny_parseq(images).shape[1]
    finally:
        tiny_parseq.model.refine_iters = 1
    assert steps.tolist() == [expected]


def test_rounding_is_reported(tiny_parseq: BaseSystem, exported: Path, tmp_path: Path) -> None:
    import onnx

    from strhub.engine.export.graph import quantised

    model = quantised(onnx.load(exported))
    assert 'MatMulInteger' in {node.op_type for node in model.graph.node}
    onnx.save(model, path := tmp_path / 'int8.onnx')
    run = load(path, 'onnx')
    found = list(rendered(tiny_parseq))
    report = changed(tiny_parseq, run, found)
    assert report.partition(' of ')[2].startswith('40 texts changed (')
    assert changed(tiny_parseq, tiny_parseq.forward, found) == '0 of 40 texts changed (0.00 %)'
    folder = tmp_path / 'words'
    folder.mkdir()
    for word in ('Exit', 'Way'):
        draw_word(word).save(folder / f'{word}.png')
    (line,) = changed_in_sets(tiny_parseq, run, [str(folder)])
    assert line.startswith('words: ')
    assert 'of 2 texts changed; accuracy 0.00 % before, 0.00 % after' in line


def test_torchscript_has_its_description(export: Export, capsys: pytest.CaptureFixture) -> None:
    out = export()
    assert '40 texts are those of the checkpoint' in capsys.readouterr().out
    extra = {KEY: ''}
    torch.jit.load(out, _extra_files=extra)
    assert Description.from_json(extra[KEY]).decoding == 'ctc'
    agree(small('crnn'), out, 'torchscript')


def test_own_pictures_are_compared(export: Export, words: Path, capsys: pytest.CaptureFixture) -> None:
    export('--images', str(words))
    assert '40 texts are those' in capsys.readouterr().out  # few are repeated, for batches of all sizes


@pytest.mark.parametrize('wrong', [0.5, np.nan])
def test_a_file_that_differs_is_not_left(
    wrong: float, export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def broken(path: Path, kind: str) -> Callable[[Tensor], Tensor]:
        run = load(path, kind)

        def spoilt(images: Tensor) -> Tensor:
            logits = run(images).clone()
            if len(logits) == 7:
                logits[2, 3, 1] += wrong
            return logits

        return spoilt

    monkeypatch.setattr(cli, 'load', broken)
    with pytest.raises(SystemExit) as stopped:
        export()
    assert stopped.value.code == 1
    error = capsys.readouterr().err
    assert 'was not written: in a batch of 7, rendered word 3 (' in error
    assert f'logits differ by {wrong:.2g} at place 4' in error
    assert not list((tmp_path / 'out').iterdir())


@pytest.mark.parametrize(
    ('words', 'kind', 'expected'),
    [
        (['--int8'], 'torchscript', '--int8 is for --format onnx'),
        (['--set', 'words'], 'torchscript', '--set goes with --int8 or --fp16'),
        (['--compile'], 'torchscript', 'unrecognized arguments: --compile'),
        (['--out', 'model.onnx'], 'torchscript', 'a file of torchscript ends in .pt'),
        (['--out', '{here}/crnn.pt/deep.pt'], 'torchscript', 'crnn.pt is no folder'),
        (['--out', '{here}/folder.pt'], 'torchscript', 'folder.pt is a folder'),
        (['--out', '/proc/crnn.pt'], 'torchscript', '/proc/crnn.pt cannot be written'),
        (['--images', 'nowhere'], 'torchscript', 'no picture was found in nowhere'),
        (['--format', 'tflite'], 'torchscript', 'invalid choice'),
    ],
)
def test_bad_input_is_one_sentence(
    words: list[str], kind: str, expected: str, export: Export, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / 'crnn.pt').touch()
    (tmp_path / 'folder.pt').mkdir()
    with pytest.raises(SystemExit) as stopped:
        export(*(word.format(here=tmp_path) for word in words), kind=kind)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert expected in error
    assert len(error.splitlines()) == 1


def test_help_has_only_what_is_taken(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        cli.main(['--help'])
    options = set(re.findall(r'^  (--\w+)', capsys.readouterr().out, re.MULTILINE))
    assert options == {'--format', '--out', '--overwrite', '--images', '--int8', '--fp16', '--set'}


def test_a_file_that_is_there_stays(export: Export, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'out').mkdir()
    (out := tmp_path / 'out/crnn.pt').write_text('mine')
    with pytest.raises(SystemExit) as stopped:
        export()
    assert stopped.value.code == 2
    assert '--overwrite replaces it' in capsys.readouterr().err
    assert out.read_text() == 'mine'


@pytest.mark.parametrize(('kind', 'package'), [('onnx', 'onnxruntime'), ('openvino', 'openvino')])
def test_a_missing_package_names_the_extra(
    kind: str, package: str, export: Export, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit) as stopped:
        export(kind=kind)
    assert stopped.value.code == 2
    assert 'pip install strhub[export]' in capsys.readouterr().err


def test_what_is_no_checkpoint_is_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (path := tmp_path / 'notes.ckpt').write_text('no weights')
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(path), '--format', 'torchscript', '--out', str(tmp_path / 'out.pt')])
    assert stopped.value.code == 2
    assert 'notes.ckpt' in capsys.readouterr().err


def test_batches_have_all_sizes() -> None:
    few = [(str(i), torch.zeros(1)) for i in range(3)]
    assert [len(batch) for batch in batches(few)] == [1, 7, 32]
    many = [(str(i), torch.zeros(1)) for i in range(100)]
    found = list(batches(many))
    assert [len(batch) for batch in found] == [1, 7, 32, 32, 28]
    assert [name for batch in found for name, _ in batch] == [str(i) for i in range(100)]


@pytest.mark.slow
@pytest.mark.parametrize('name', KINDS)
def test_onnx_reads_as_each_network(name: str, tmp_path: Path) -> None:
    pytest.importorskip('onnxscript')
    pytest.importorskip('onnxruntime')
    system = small(name)
    write(system, path := tmp_path / 'model.onnx', 'onnx')
    agree(system, path, 'onnx')


@pytest.mark.slow
@pytest.mark.parametrize('name', KINDS + OTHERS)
def test_torchscript_reads_as_each_model(name: str, tmp_path: Path) -> None:
    system = small(name)
    write(system, path := tmp_path / 'model.pt', 'torchscript')
    agree(system, path, 'torchscript')


@pytest.mark.slow
@pytest.mark.parametrize('name', ['parseq', 'crnn'])
def test_openvino_reads_as_the_network(name: str, tmp_path: Path) -> None:
    openvino = pytest.importorskip('openvino')
    pytest.importorskip('onnxscript')
    system = small(name)
    write(system, path := tmp_path / 'model.xml', 'openvino')
    agree(system, path, 'openvino')
    text = openvino.Core().read_model(path).get_rt_info(KEY).astype(str)
    assert Description.from_json(text).name == name


@pytest.mark.slow
@pytest.mark.parametrize('overrides', [{'decode_ar': False}, {'dec_depth': 2, 'refine_iters': 0}])
def test_ways_of_reading(overrides: dict[str, object], tmp_path: Path) -> None:
    pytest.importorskip('onnxscript')
    pytest.importorskip('onnxruntime')
    system = small('parseq', **overrides)
    write(system, path := tmp_path / 'model.onnx', 'onnx')
    agree(system, path, 'onnx')


@pytest.mark.slow
def test_fp16_reads_nearly_the_same(tmp_path: Path) -> None:
    pytest.importorskip('onnxscript')
    pytest.importorskip('onnxruntime')
    checkpoint = save_checkpoint(small('trbc'), tmp_path / 'trbc.ckpt')
    cli.main([str(checkpoint), '--format', 'onnx', '--out', str(path := tmp_path / 'half.onnx'), '--fp16'])
    system = small('trbc')
    images = pictures(system, 7)
    with torch.inference_mode():
        expected = system(images)
    torch.testing.assert_close(load(path, 'onnx')(images), expected, atol=0.2, rtol=0)  # of some tens
