"""./bench.py on models of a few thousand parameters: what it counts, what it measures, what it refuses."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from strhub.engine.bench import compare, timing
from strhub.engine.bench.cli import main
from strhub.engine.bench.counts import FUSED_ATTENTION, Counts, count
from strhub.engine.bench.options import Case
from strhub.engine.bench.subjects import endless
from strhub.engine.bench.timing import Timing, of_times
from strhub.models.modules import Attention
from strhub.models.zoo import MODELS, config_dir, create_model, hparams

pytestmark = [pytest.mark.filterwarnings('ignore')]
ROOT = Path(__file__).parents[2]
SMALL = {
    'embed_dim': 24,
    'num_heads': 2,
    'enc_num_heads': 2,
    'enc_depth': 1,
    'dec_num_heads': 2,
    'd_model': 16,
    'nhead': 2,
    'd_inner': 32,
    'v_num_layers': 1,
    'l_num_layers': 1,
    'width': 0.0625,
    'hidden_size': 8,
    'output_channel': 16,
    'num_fiducial': 4,
    'max_label_length': 5,
}
QUICK = ['min_run_time=0.001', 'warmup=1', 'threads=1']
every_model = pytest.mark.parametrize('name', MODELS)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['bench.py'])


def small(name: str) -> dict[str, Any]:
    return {key: value for key, value in SMALL.items() if key in hparams(name)}


def shrunk(name: str) -> list[str]:
    """Words that make a model of the hub small."""
    return [f'+experiment={name}', *(f'model.{key}={value}' for key, value in small(name).items()), *QUICK]


def numbers(*words: str) -> dict[str, Any]:
    """What the command writes to its file."""
    main([*words, 'json=numbers.json'])
    return json.loads(Path('numbers.json').read_text('utf-8'))


def rows(printed: str, first: str) -> list[list[str]]:
    """The cells of the table whose head begins with `first`, without the head."""
    lines = printed.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f'| {first}'))
    table = []
    for line in lines[start + 2 :]:
        if not line.startswith('|'):
            break
        table.append([cell.strip() for cell in line.strip('|').split('|')])
    return table


# Counts


class OfImages(nn.Module):
    """Gives a layer what it is to be counted with, in place of pictures."""

    def __init__(self, layer: nn.Module, given: Tensor) -> None:
        super().__init__()
        self.layer, self.given = layer, given

    def forward(self, images: Tensor, max_length: int | None) -> Any:
        return self.layer(self.given)


def counted(layer: nn.Module, given: Tensor) -> Counts:
    return count(OfImages(layer, given), torch.zeros(1, 3, 4, 4))


def test_a_linear_layer_is_one_multiply_add_a_weight_and_row() -> None:
    counts = counted(nn.Linear(8, 5), torch.ones(3, 8))
    assert (counts.parameters, counts.flops, counts.activations) == (8 * 5 + 5, 3 * 8 * 5, 3 * 5)


def test_fused_attention_counts_as_its_two_products() -> None:
    class OfItself(Attention):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x[:, :3], self.keys_values(x))

    width, heads, queries, keys = 8, 2, 3, 5
    counts = counted(OfItself(width, heads), torch.ones(1, keys, width))
    projections = (queries + 2 * keys + queries) * width
    assert counts.flops == projections * width + 2 * queries * keys * width
    assert counts.activations == projections + heads * queries * keys + queries * width


def test_an_lstm_counts_its_weights_at_every_step() -> None:
    steps, inputs, hidden = 7, 6, 4
    lstm = nn.LSTM(inputs, hidden, bidirectional=True, batch_first=True)

    class Columns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = lstm

        def forward(self, x: Tensor) -> Tensor:
            return self.lstm(x)[0]

    counts = counted(Columns(), torch.ones(1, steps, inputs))
    assert counts.flops == steps * sum(p.numel() for p in lstm.parameters() if p.ndim == 2)
    assert counts.activations == steps * 2 * (4 * hidden + 4 * hidden)


def test_all_that_torch_has_of_fused_attention_is_counted() -> None:
    names = {schema.name for schema in torch._C._jit_get_all_schemas()}
    forward = {name for name in names if 'scaled_dot_product' in name and 'backward' not in name}
    assert forward <= set(FUSED_ATTENTION)


def test_a_bool_is_no_obstacle() -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            mask = x > 0
            mask[:, -1] |= len(x) > 1
            return x.where(mask, 0) @ x.T

    assert counted(Masked(), torch.ones(3, 8)).flops == 3 * 8 * 3


def test_what_is_not_counted_is_named(caplog: pytest.LogCaptureFixture) -> None:
    class Distances(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cdist(x, x)

    counted(Distances(), torch.ones(3, 8))
    assert 'the flops are without those of aten::cdist (1 times)' in caplog.text


def test_parseq_against_the_line_of_its_authors() -> None:
    """23.833 M, 3.255 G, 8.214 M: they project the picture's keys and values in each of four passes, and we in one."""
    system = create_model('parseq', decode_ar=False, refine_iters=3)
    counts = count(system.model, torch.zeros(1, 3, 32, 128))
    spared = 3 * 2 * 128 * 384  # iterations, keys and values, tokens of the picture, width
    assert counts.parameters == 23_832_671
    assert (counts.flops + spared * 384) / 1e9 == pytest.approx(3.255, abs=0.001)
    assert (counts.activations + spared) / 1e6 == pytest.approx(8.214, abs=0.001)


# Reading


@every_model
def test_reading(name: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    content = numbers(*shrunk(name), 'batch_size=[1,2]', 'depth=1')
    assert 'without those of' not in caplog.text  # every operator is known
    (model,) = content['models']
    system = create_model(name, **small(name))
    assert model['name'] == name
    assert model['parameters'] == sum(parameter.numel() for parameter in system.parameters())
    assert model['flops'] > model['activations'] > 0
    for reading, batch in zip(model['readings'], [1, 2], strict=True):
        assert (reading['batch_size'], reading['threads'], reading['max_length']) == (batch, 1, None)
        assert reading['pictures_per_second'] == pytest.approx(batch / reading['median_seconds'])
        assert reading['runs'] >= timing.MIN_TIMES
    printed = capsys.readouterr().out
    assert [row[:2] for row in rows(printed, 'Batch')] == [['1', '1'], ['2', '1']]
    children = {child for child, module in system.model.named_children() if list(module.parameters())}
    listed = [row[0] for row in rows(printed, 'module')]
    assert listed[0] == 'network'
    assert children <= {row.split('.')[0] for row in listed}


def test_each_length_of_word(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    original = timing.reading

    def watched(*args: Any) -> Any:
        read = original(*args)
        seen.append(tuple(read().shape))
        return read

    monkeypatch.setattr('strhub.engine.bench.cli.reading', watched)
    content = numbers(*shrunk('parseq'), '+range=true', 'model.decode_ar=false', 'model.refine_iters=0')
    assert [row[0] for row in rows(capsys.readouterr().out, 'Characters')] == ['1', '2', '3', '4', '5']
    assert [reading['max_length'] for reading in content['models'][0]['readings']] == [1, 2, 3, 4, 5]
    assert [shape[1] for shape in seen] == [2, 3, 4, 5, 6]  # and the end


def test_options_reach_the_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    content = numbers(*shrunk('parseq'), 'precision=bf16', 'channels_last=false', 'threads=[1,2]', 'device=cpu')
    assert content['options']['precision'] == 'bf16'
    assert content['options']['channels_last'] is False
    assert [reading['threads'] for reading in content['models'][0]['readings']] == [1, 2]
    assert {'strhub', 'torch', 'python', 'time', 'machine'} <= content.keys()
    assert content['machine']['processor']
    assert ', bf16, torch' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['parseq', 'trba', 'abinet', 'vitstr'])
def test_random_words_never_end(name: str) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        system = endless(create_model(name, **small(name)).eval())
        with torch.inference_mode():
            reading = system(torch.rand(2, 3, 32, 128)).argmax(-1)
        assert reading.shape == (2, 6)
        assert (reading != system.tokenizer.eos_id).all()


def test_given_weights(parseq_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = numbers(f'pretrained={parseq_checkpoint}', 'model.refine_iters=0', *QUICK)
    assert content['models'][0]['parameters'] < 1_000_000  # those of the checkpoint, not of the default
    with pytest.raises(SystemExit) as stop:
        main([f'pretrained={parseq_checkpoint}', 'model=crnn', *QUICK])
    assert stop.value.code == 2
    assert 'is parseq and not crnn' in capsys.readouterr().err


def test_what_cannot_be_compiled_is_not_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, bool]] = []
    monkeypatch.setattr('strhub.engine.bench.subjects.compile_parts', lambda *_, **how: asked.append(how))
    with pytest.raises(SystemExit) as stop:
        main([*shrunk('crnn-tiny'), 'compile=true'])
    assert asked == [{'only_reads': True}]
    assert stop.value.code == 2
    assert 'torch cannot compile here' in capsys.readouterr().err


def test_nothing_is_written_unasked(tmp_path: Path) -> None:
    main(shrunk('crnn-tiny'))
    assert not list(tmp_path.iterdir())


# Training


@every_model
def test_training_steps(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    content = numbers(*shrunk(name), '+train=true', 'batch_size=2')
    (step,) = content['models'][0]['steps']
    parts = list(step['parts_seconds'])
    assert parts[0] == 'data'
    assert parts[-2:] == ['backward', 'optimiser']
    assert ('encoder' in parts) == hasattr(create_model(name, **small(name)).model, 'encode')
    assert len(parts) > 4 or name == 'abinet-lm'  # of which the language model is trained alone
    assert all(seconds >= 0 for seconds in step['parts_seconds'].values())
    assert step['pictures_per_second'] == pytest.approx(2 / step['seconds'])
    assert step['peak_memory_bytes'] > 50_000_000  # torch alone
    table = rows(capsys.readouterr().out, 'Part')
    assert [row[0] for row in table] == parts
    assert sum(float(row[2].rstrip(' %')) for row in table) == pytest.approx(100, abs=0.5)


@pytest.mark.parametrize('workers', [0, 1])
def test_training_on_rendered_words(workers: int) -> None:
    words = ['train=true', 'dataset=rendered', f'data.num_workers={workers}', 'data.rendered.count=64', 'batch_size=2']
    (step,) = numbers(*shrunk('crnn-tiny'), *words)['models'][0]['steps']
    assert step['parts_seconds']['data'] > 0


# Side by side


def test_models_side_by_side(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ['model.width=0.0625', 'model.hidden_size=8', *QUICK, 'batch_size=[1,2]']
    content = numbers('+compare=[crnn,crnn-tiny]', *words)
    table = rows(capsys.readouterr().out, 'Model')
    assert [row[0] for row in table] == ['crnn', 'crnn-tiny']
    for row, model in zip(table, content['models'], strict=True):
        own = create_model(model['name'], width=0.0625, hidden_size=8)
        assert model['parameters'] == sum(parameter.numel() for parameter in own.parameters())
        assert float(row[1]) == pytest.approx(model['parameters'] / 1e6, abs=5e-4)
        assert len(row) == 3 + 2 * 2  # ms and pictures/s at each size
        assert all(reading['runs'] >= timing.ROUNDS.start for reading in model['readings'])
    assert {path.name for path in tmp_path.iterdir()} == {'numbers.json', 'compare.png'}
    assert (tmp_path / 'compare.png').read_bytes().startswith(b'\x89PNG')


def test_models_take_turns() -> None:
    calls: list[str] = []
    options = type('Options', (), {'warmup': 0, 'seconds': 1e-9})
    reads: dict[str, Any] = {name: lambda name=name: calls.append(name) for name in 'ab'}
    timings = timing.measure_in_turns(reads, Case(4, 1), options)  # type: ignore[arg-type]
    assert calls == list('ab' * (1 + timing.ROUNDS.start))
    assert timings['a'].runs == timing.ROUNDS.start


def test_median_and_middle_half() -> None:
    found = of_times(Case(8, 1), [1.0, 2.0, 3.0, 4.0, 100.0], 5)
    assert (found.median, found.iqr, found.pictures_per_second) == (3.0, 2.0, 8 / 3)
    assert not found.is_steady


def test_the_table_does_without_matplotlib(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition('.')[0] == 'matplotlib':
            raise ModuleNotFoundError("No module named 'matplotlib'", name='matplotlib')
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', without)
    main(['compare=crnn-tiny', *QUICK])
    printed = capsys.readouterr()
    assert rows(printed.out, 'Model')[0][0] == 'crnn-tiny'
    assert 'matplotlib is not installed: pip install strhub[bench]' in printed.err
    assert not list(tmp_path.iterdir())


def test_names_of_near_points_do_not_cover_each_other() -> None:
    from matplotlib import pyplot

    figure, panel = pyplot.subplots()
    panel.set_xlim(0, 10)
    panel.set_ylim(0, 10)
    points = {'first': (5.0, 5.0), 'second': (5.1, 5.1), 'third': (9.9, 5.0)}
    figure.canvas.draw()
    compare.place_names(panel, points)
    boxes = [text.get_window_extent() for text in panel.texts]
    assert [text.get_text() for text in panel.texts] == list(points)
    assert not any(compare.overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(compare.outside(box, panel.get_window_extent()) == 0 for box in boxes)
    pyplot.close(figure)


@pytest.mark.parametrize('slowest', [2.0, 50.0])
def test_every_case_has_a_panel(slowest: float, tmp_path: Path) -> None:
    counts = {name: Counts(10**6, 1, 1, '') for name in 'ab'}
    timings = {
        name: [Timing(Case(batch, 1), seconds, 0.0, 3) for batch in (1, 8)]
        for name, seconds in (('a', 1.0), ('b', slowest))
    }
    compare.plot(tmp_path / 'plot.svg', counts, timings, title='title')
    assert (tmp_path / 'plot.svg').read_text().count('<g id="axes_') == 2


# The door


@pytest.mark.parametrize(
    ('words', 'says'),
    [
        ('device=gpu', 'this machine has cpu'),
        ('device=rocm', 'not built for ROCm'),
        ('batch_size=0', 'batch_size is 0: give a whole number, at least 1'),
        ('batch_size=[1,x]', "batch_size is 'x'"),
        ('threads=0', 'threads is 0'),
        ('threads=[]', 'empty list'),
        ('warmup=-1', 'at least 0'),
        ('min_run_time=0', 'more than 0'),
        ('precision=16', 'give 32 or bf16'),
        ('compile=maybe', 'give true or false'),
        ('model=crnn range=true', 'crnn reads every column of the picture, so its output has one length'),
        ('model=trbc max_length=3', 'leave out max_length=3'),
        ('max_length=26', 'parseq reads at most 25 characters'),
        ('range=true train=true', 'range and train are different measurements'),
        ('range=true max_length=2', 'leave it out'),
        ('compare=[parsq]', "did you mean 'parseq'"),
        ('compare=[]', 'compare=[parseq,crnn]'),
        ('compare=[crnn,crnn]', 'more than once'),
        ('compare=[crnn] model=crnn', 'leave out model='),
        ('compare=[crnn] model.decode_ar=false', 'none of crnn has a hyper-parameter'),
        ('compare=[crnn,parseq] range=true', 'different measurements'),
        ('compare=[crnn] pretrained=crnn', 'leave out pretrained='),
        ('foo=1', 'there is no key foo in the configuration: ./bench.py --help'),
        ('+bach_size=1', 'did you mean batch_size?'),
        ('+model.foo=1', "parseq has no hyper-parameter 'foo'"),
        ('model=parseq-tiny', 'write +experiment=parseq-tiny'),
        ('trainer.max_epochs=3', 'trainer is for ./train.py'),
        ('dataset=rendered', 'add train=true'),
        ('train=true data.num_workers=x', 'data.num_workers is'),
        ('train=true dataset=real', 'data/train/real'),
        ('pretrained=nowhere.ckpt', 'there is no file nowhere.ckpt'),
        ('json=no/where.json', 'in a folder that does not exist, no'),
        ('parseq', 'did you mean +experiment=parseq?'),
    ],
)
def test_bad_input_is_one_sentence(words: str, says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    if 'device=gpu' in words and pytest.importorskip('torch').cuda.is_available():
        says = 'this machine has cpu, cuda:0'
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith('error: ')
    assert error.count('\n') == 1
    assert says in error
    assert not list(tmp_path.iterdir())


def test_the_door_itself(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / 'bench.py'), *shrunk('crnn-tiny')]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('crnn-tiny on ')
    assert 'Traceback' not in done.stderr


def test_help_names_every_key_and_model(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(['--help'])
    printed = capsys.readouterr().out
    assert stop.value.code in (None, 0)
    own = yaml.safe_load((config_dir() / 'bench.yaml').read_text('utf-8'))
    for key in [*own.keys() - {'defaults', 'hydra'}, 'threads', 'seed', 'pretrained']:
        assert f'{key}=' in printed
    for name in MODELS:
        assert name in printed
