"""./train.py from its words to its checkpoints, on pictures that the test draws."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from PIL import Image, ImageDraw

from strhub.engine import fit as fit_module
from strhub.engine.callbacks import StopOnSignal, TrainingFailedError, TrainingInterruptedError
from strhub.engine.configure import checkpoint_of, compose, quote, settled, value_of
from strhub.engine.curves import MOST_POINTS, Curves
from strhub.engine.devices import precision, share_cores
from strhub.engine.fit import exiting, fit, main
from strhub.models.zoo import MODELS, config_dir, hparams, load_from_checkpoint

pytestmark = [pytest.mark.filterwarnings('ignore')]
ROOT = Path(__file__).parents[2]
WORDS = ['stop', 'exit', 'open', '24', 'cafe', 'taxi']
# A CRNN of a few thousand parameters and a handful of steps.
SMALL = [
    '+experiment=crnn-tiny',
    'model.width=0.05',
    'model.hidden_size=8',
    'model.batch_size=4',
    'charset=36_lowercase',
    'data.num_workers=0',
    'threads=1',  # more than the machine has free are far slower
    'trainer=cpu',
    'trainer.max_epochs=2',
    'trainer.val_check_interval=2',
]


@pytest.fixture(scope='module')
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled folder of twelve pictures."""
    folder = tmp_path_factory.mktemp('words')
    lines = []
    for index, word in enumerate(WORDS * 2):
        picture = Image.new('RGB', (96, 32), 'white')
        ImageDraw.Draw(picture).text((6, 8), word, fill='black')
        picture.save(folder / f'{index}.png')
        lines.append(f'{index}.png\t{word}\n')
    (folder / 'labels.tsv').write_text(''.join(lines))
    return folder


@pytest.fixture
def small(words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words of a command that trains in seconds, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['train.py'])
    return [*SMALL, f'data.train_dir={words}', f'data.val_dir={words}']


def mixed_with(words: Path) -> list[str]:
    """Rendered words and a folder, as many in an epoch as the folder alone has."""
    own = [f'+data.mix.own={{path: {words}, weight: 0.5, drop_outside: true}}', '+data.mix.rendered.augment=false']
    return ['dataset=mixed', *own, 'data.mix.real.weight=0', 'data.mix_count=12']


def run_dir() -> Path:
    (folder,) = Path('outputs/crnn-tiny').iterdir()
    return folder


# Configurations


@pytest.mark.parametrize('experiment', list(MODELS))
def test_hydra_and_the_zoo_compose_the_same_model(experiment: str) -> None:
    model: Any = OmegaConf.to_container(compose([f'+experiment={experiment}']).model, resolve=True)
    assert model == hparams(experiment)


@pytest.mark.parametrize('group', ['charset', 'dataset', 'model', 'trainer', 'averaging'])
def test_every_option_of_every_group_composes(group: str) -> None:
    options = [path.stem for path in (config_dir() / group).glob('*.yaml')]
    assert options
    for option in options:
        assert isinstance(compose([f'{group}={option}']), DictConfig)


def test_the_charset_of_a_word_list(tmp_path: Path) -> None:
    words = tmp_path / 'words.txt'
    words.write_text('δγ βα\nab\n', encoding='utf-8')
    config = compose(['charset=words', f'data.rendered.words={words}'])
    assert config.model.charset_train == config.model.charset_test == ' abαβγδ'
    assert not config.data.normalize_unicode
    with pytest.raises(OmegaConfBaseException, match=r'give data\.rendered\.words=FILE'):
        OmegaConf.to_container(compose(['charset=words']), resolve=True)


def test_defaults_are_the_published_recipe() -> None:
    config = compose()
    assert (config.model.name, config.model.batch_size, config.data.train_dir) == ('parseq', 384, 'real')
    trainer = config.trainer
    assert (trainer.max_epochs, trainer.val_check_interval, trainer.gradient_clip_val) == (20, 1000, 20)
    assert (config.averaging.kind, config.averaging.start, config.checkpoint.top_k) == ('swa', 0.75, 3)
    assert compose(['dataset=synth']).trainer.limit_train_batches == 0.20496
    assert compose(['dataset=rendered']).data.train_dir == 'rendered'


def test_precision_follows_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert precision('16-mixed', 'auto') == '16-mixed'
    assert precision('auto', 'cpu') == '32-true'
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: True)
    assert precision('auto', 'auto') == 'bf16-mixed'
    assert precision('auto', 'cpu') == '32-true'
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: False)
    assert precision('auto', 'gpu') == '32-true'


@pytest.mark.parametrize(
    ('cores', 'gpus', 'train_dir', 'workers', 'threads'),
    [
        (1, 0, 'rendered', 0, 1),
        (2, 0, 'rendered', 1, 1),
        (16, 0, 'rendered', 4, 12),
        (16, 0, 'real', 4, 12),
        (32, 2, 'rendered', 15, None),
        (32, 2, 'real', 8, None),
    ],
)
def test_cores_are_shared_and_never_used_twice(
    cores: int, gpus: int, train_dir: str, workers: int, threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpus > 0)
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: False)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: gpus)
    monkeypatch.setattr(torch, 'set_num_threads', used.append)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: range(cores), raising=False)
    settings: dict[str, Any] = OmegaConf.to_container(compose([f'data.train_dir={train_dir}']), resolve=True)  # type: ignore[assignment]
    share_cores(settings)
    assert settings['data']['num_workers'] == workers
    assert used == ([] if threads is None else [threads])


# The command line


@pytest.mark.parametrize(
    ('word', 'value'),
    [
        ('ckpt_path=outputs/step=1-acc=2.ckpt', 'outputs/step=1-acc=2.ckpt'),
        ('pretrained=/my pictures/a(1)/b, c.ckpt', '/my pictures/a(1)/b, c.ckpt'),
        ("data.root_dir=/o'brien\\data\\", "/o'brien\\data\\"),
        ("ckpt_path='a=b.ckpt'", 'a=b.ckpt'),
        ('ckpt_path=null', None),
        ('data.train_dir=/ünïcode/ß', '/ünïcode/ß'),
    ],
)
def test_paths_need_no_quotes(word: str, value: str | None) -> None:
    assert value_of([word], word.partition('=')[0]) == value
    assert OmegaConf.select(compose([word]), word.partition('=')[0]) == value
    assert quote(quote(word)) == quote(word)


def test_paths_of_sources_need_no_quotes() -> None:
    config = compose(['dataset=mixed', '+data.mix.own.path=/a=b, c', 'data.mix.real.path=/(mine)'])
    assert (config.data.mix.own.path, config.data.mix.real.path) == ('/a=b, c', '/(mine)')


@pytest.mark.parametrize(
    'word', ['model.lr=1e-3,1e-4', 'model.img_size=[32,128]', '+experiment=parseq', '--cfg', 'job']
)
def test_other_words_stay_as_they_are(word: str) -> None:
    assert quote(word) == word


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (['+experiment=parsec'], 'there is no experiment/parsec: did you mean parseq?'),
        (['model=lstm'], 'there is no model/lstm: there are abinet, crnn'),
        (
            ['model.imgsize=[32,128]'],
            'there is no key model.imgsize in the configuration: did you mean model.img_size?',
        ),
        (['nonsense=1'], 'there is no key nonsense in the configuration: ./train.py --help'),
        (['model.img_size=[32'], "'model.img_size=[32' cannot be read: give key=value"),
        (['crnn'], 'crnn is no override: did you mean +experiment=crnn?'),
        (['model.img_size=32'], 'img_size'),
        (['+model.widht=2'], "'widht'"),
        (['model.lr=fast'], "lr is 'fast': give a number"),
        (['model.batch_size=0'], 'batch_size'),
        (['averaging=swa', 'averaging.start=2'], 'averaging.start is 2'),
        (['trainer.val_check_interval=0'], 'trainer.val_check_interval is 0'),
        (
            ['+trainer.max_epoch=1'],
            "trainer.max_epoch is no argument of Lightning's Trainer: did you mean trainer.max_",
        ),
        (['trainer.max_steps=abc'], "trainer.max_steps is 'abc': give a whole number, or -1 for no end"),
        (['trainer.max_steps=null'], 'trainer.max_steps is None'),
        (['trainer.max_epochs=abc'], "trainer.max_epochs is 'abc': give a whole number, -1 for no end, or null"),
        (['trainer.max_epochs=1.5'], 'trainer.max_epochs is 1.5'),
        (['trainer.accelerator=tpux'], 'tpux'),
        (['trainer.precision=9'], '9'),
        (['trainer.strategy=magic'], 'Lightning refuses the trainer section'),
        (['checkpoint.top_k=-1'], 'checkpoint.top_k is -1'),
        (['data.train_dir=/no/such/folder'], '/no/such/folder'),
        (['data=3'], 'data'),
        (['dataset=mixed'], 'data.mix names rendered, real but data.train_dir is '),
        (['data.train_dir=mixed'], 'data.mix is {}: name sources'),
        (['data.mix.own.path=here'], 'there is no key data.mix.own.path in the configuration: '),
        (['data.train_dir=mixed', '+data.mix.own.wieght=1'], 'data.mix.own.wieght is no key of a source: did you mean'),
        (['data.train_dir=mixed', '+data.mix.own.weight=1'], 'data.mix.own: neither data/train/own nor own exists'),
        (['data.val_dir=null'], 'val does not exist: say with data.val_dir=… which'),
        (['trainer=null'], 'Config group override must be a string'),
        (['ckpt_path=/no/such.ckpt'], 'ckpt_path=/no/such.ckpt: there is no checkpoint there'),
        (['pretrained=parsec'], 'parsec'),
        (['pretrained=crnn', 'ckpt_path=labels.tsv'], 'labels.tsv'),
        (['threads=many'], 'threads'),
        (['seed=x'], 'seed'),
    ],
)
def test_wrong_words_get_one_sentence(
    small: list[str], wrong: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    given = {word.partition('=')[0] for word in wrong}
    with pytest.raises(SystemExit) as status:
        main([*(word for word in small if word.partition('=')[0] not in given), *wrong])
    error = capfd.readouterr().err.splitlines()
    assert status.value.code == 2, error
    assert error[-1].startswith('error: ')
    assert message in error[-1]
    assert not any('Traceback' in line for line in error)
    assert not list(Path.cwd().iterdir())


def test_a_refused_run_leaves_what_was_there(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    notes = Path('mine', 'notes.txt')
    notes.parent.mkdir()
    notes.touch()
    Path('outputs', 'crnn-tiny', 'earlier').mkdir(parents=True)
    elsewhere = tmp_path_factory.mktemp('elsewhere')
    for folder in ([], ['hydra.run.dir=mine'], [f'hydra.run.dir={elsewhere / "run"}']):
        with pytest.raises(SystemExit):
            main([*small, *folder, 'data.train_dir=/no/such/folder'])
    assert notes.is_file()
    assert not list(elsewhere.iterdir())
    assert [path.name for path in Path('outputs', 'crnn-tiny').iterdir()] == ['earlier']


def test_forgotten_plus_is_named() -> None:
    with pytest.raises(ValueError, match=r'write it with a \+, as \+experiment=NAME'):
        compose(['experiment=crnn'])


def test_help_and_cfg_show_what_there_is(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        main(['--help'])
    text = capsys.readouterr().out
    assert status.value.code in (0, None)
    for line in ('usage: ./train.py', 'experiment: abinet', '+experiment=parseq-tiny', 'pretrained=', 'averaging: ema'):
        assert line in text
    main(['--cfg', 'job', *small])
    config = yaml.safe_load(capsys.readouterr().out)
    assert config['model']['hidden_size'] == 8
    assert not Path('outputs').exists()


# Runs


def test_training_leaves_checkpoints_logs_and_a_next_step(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(small)
    folder = run_dir()
    names = {path.name for path in (folder / 'checkpoints').iterdir()}
    assert {'last.ckpt', 'previous.ckpt'} < names
    assert len(names) == 5
    assert not any('=' in name for name in names)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / 'tensorboard')).Reload()
    assert [event.step for event in events.Images('samples')] == [2, 4, 6]
    assert [event.step for event in events.Tensors('samples/text_summary')] == [2, 4, 6]
    pytest.importorskip('matplotlib')
    with Image.open(folder / 'curves.png') as curves:
        assert curves.size == (1210, 462)
    config = yaml.safe_load((folder / 'config.yaml').read_text())
    assert config['model']['width'] == 0.05
    out, err = capsys.readouterr()
    best = re.search(r'Best checkpoint: (\S+)', out)[1]
    assert f'./test.py {best}' in out
    assert f'./read.py {best} --images' in out
    assert 'step 6: val_accuracy' in err  # readable where there is no terminal
    system = load_from_checkpoint(best)
    assert system.hparams['name'] == 'crnn-tiny'
    assert system.hparams['hidden_size'] == 8


def test_averaged_weights_are_validated_and_saved(small: list[str]) -> None:
    main([*small, 'averaging=swa', 'averaging.snapshots=2', 'averaging.bn_batches=2'])
    (path,) = (run_dir() / 'checkpoints').glob('averaged-acc_*.ckpt')
    averaged = load_from_checkpoint(path)
    last = load_from_checkpoint(run_dir() / 'checkpoints' / 'last.ckpt')
    for name, tensor in averaged.state_dict().items():
        torch.testing.assert_close(tensor, last.state_dict()[name], msg=name)


@pytest.mark.parametrize('precision', ['32-true', 'bf16-mixed', 'bf16-true'])
def test_gradients_are_clipped_in_every_precision(small: list[str], tmp_path: Path, precision: str) -> None:
    norms: list[float] = []

    class Norms(pl.Callback):
        def on_before_zero_grad(self, trainer: pl.Trainer, system: pl.LightningModule, optimizer: Any) -> None:
            grads = [p.grad.float() for p in system.parameters() if p.grad is not None]
            if grads:
                norms.append(float(torch.nn.utils.get_total_norm(grads)))

    build = fit_module.build_trainer
    clip = 0.01
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_module, 'build_trainer', lambda s, f, callbacks: build(s, f, [*callbacks, Norms()]))
        fit(
            compose([*small, f'trainer.precision={precision}', f'trainer.gradient_clip_val={clip}']),
            run_dir=tmp_path / 'run',
        )
    assert norms
    assert max(norms) == pytest.approx(clip, rel=0.02)


def test_fit_is_a_function(small: list[str], tmp_path: Path) -> None:
    best = fit(compose(small), run_dir=tmp_path / 'mine')
    assert best is not None
    assert best.parent == tmp_path / 'mine' / 'checkpoints'
    assert best.is_file()


def test_the_points_of_curves_stay_few(tmp_path: Path) -> None:
    curves = Curves(tmp_path)
    trainer: Any = SimpleNamespace(accumulate_grad_batches=2, global_step=0)
    system: Any = None
    for batch in range(60_000):
        trainer.global_step = batch // 2 + 1
        curves.on_train_batch_end(trainer, system, {'loss': torch.tensor(trainer.global_step / 2)}, None, batch)
        if batch % 5000 == 0:
            curves.settle()
    curves.settle()
    steps, losses = zip(*curves.losses, strict=True)
    assert MOST_POINTS / 4 < len(steps) <= MOST_POINTS
    assert list(steps) == sorted(steps)
    assert losses[-1] == pytest.approx(steps[-1], abs=curves.every)
    assert losses[0] == pytest.approx(steps[0] / 2, abs=1)


@pytest.mark.parametrize('data', ['folder', 'mixture'])
def test_killed_run_goes_on_from_its_folder_alone(
    small: list[str], words: Path, data: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resumed run needs no word but its folder, stays in it, and its weights end as those of a whole run."""
    if data == 'mixture':
        small = [*(word for word in small if not word.startswith('data.train_dir')), *mixed_with(words)]
    main([*small, 'hydra.run.dir=whole', 'averaging=swa', 'averaging.snapshots=2', 'averaging.bn_batches=1'])

    class StopAtFive(fit_module.StopOnSignal):
        def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
            if trainer.global_step == 5:
                os.kill(os.getpid(), signal.SIGINT)
            super().on_train_batch_end(trainer, *rest)

    monkeypatch.setattr(fit_module, 'StopOnSignal', StopAtFive)
    with pytest.raises(SystemExit) as status:
        main([*small, 'hydra.run.dir=a=b', 'averaging=swa', 'averaging.snapshots=2', 'averaging.bn_batches=1'])
    monkeypatch.setattr(fit_module, 'StopOnSignal', StopOnSignal)
    assert status.value.code == 128 + signal.SIGINT
    assert 'Go on:  ./train.py ckpt_path=a=b/checkpoints/last.ckpt' in capsys.readouterr().out
    assert torch.load('a=b/checkpoints/last.ckpt', weights_only=True)['global_step'] == 5

    # What the experiment is by now does not matter.
    saved = Path('a=b/hydra/overrides.yaml')
    saved.write_text(saved.read_text().replace('hidden_size=8', 'hidden_size=16'))
    main(['ckpt_path=a=b'])
    ended, whole = (torch.load(f'{run}/checkpoints/last.ckpt', weights_only=True) for run in ('a=b', 'whole'))
    assert ended['global_step'] == whole['global_step'] == 6
    curves = ended['callbacks']['Curves']
    assert curves == whole['callbacks']['Curves']
    assert [point[0] for point in curves['validations']] == [2, 4, 6]
    assert Path('a=b/curves.png').exists() == (find_spec('matplotlib') is not None)
    for name, tensor in whole['state_dict'].items():
        torch.testing.assert_close(ended['state_dict'][name], tensor, rtol=0, atol=0, msg=name)
    assert {p.name for p in Path('a=b/checkpoints').iterdir()} == {p.name for p in Path('whole/checkpoints').iterdir()}


def test_resumed_mixture_has_the_sources_it_had(tmp_path: Path) -> None:
    """Whatever sources dataset/mixed.yaml may have by now, and with what the words change."""
    (tmp_path / 'checkpoints').mkdir()
    torch.save({}, tmp_path / 'checkpoints' / 'last.ckpt')
    (tmp_path / 'config.yaml').write_text('data: {train_dir: mixed, mix: {own: {weight: 1}, rendered: {weight: 2}}}')
    words = ['dataset=mixed', '+data.mix.own.weight=3', f'ckpt_path={tmp_path}']
    config = settled(compose(words), words[1:])
    assert config.data.mix == {'own': {'weight': 3}, 'rendered': {'weight': 2}}


def test_resuming_another_model_or_mere_weights_is_refused(small: list[str], tmp_path: Path) -> None:
    fit(compose(small), run_dir=tmp_path / 'first')
    last = tmp_path / 'first' / 'checkpoints' / 'last.ckpt'
    assert checkpoint_of(tmp_path / 'first') == last
    with pytest.raises(ValueError, match=r'is of another model: model.hidden_size=8 there and 16 here'):
        fit(compose([*small, f'ckpt_path={last}', 'model.hidden_size=16']), run_dir=tmp_path / 'second')
    with pytest.raises(ValueError, match=r'had model.batch_size=4 and this one has 6'):
        fit(compose([*small, f'ckpt_path={last}', 'model.batch_size=6']), run_dir=tmp_path / 'second')
    weights = tmp_path / 'weights.pt'
    torch.save(torch.load(last, weights_only=True)['state_dict'], weights)
    with pytest.raises(ValueError, match=r'start a new one from them with pretrained='):
        fit(compose([*small, f'ckpt_path={weights}']), run_dir=tmp_path / 'second')


def test_fine_tuning_shows_what_was_kept_resized_and_new(
    small: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(compose(small), run_dir=tmp_path / 'first')
    last = tmp_path / 'first' / 'checkpoints' / 'last.ckpt'
    caplog.set_level(logging.INFO)
    tuning = [*small, f'pretrained={last}', 'charset=94_full', 'trainer.max_epochs=1', 'model.img_size=[32,128]']
    best = fit(compose(tuning), run_dir=tmp_path / 'second')
    table = next(record.getMessage() for record in caplog.records if 'starting from the weights' in record.getMessage())
    assert 'kept' in table
    assert re.search(r'resized +rnn.1.linear.weight +37 x 16 -> 95 x 16 +36 characters kept, 58 new', table)
    assert load_from_checkpoint(best).hparams['img_size'] == [32, 128]


def test_weights_of_a_wholly_different_model_are_refused(small: list[str], tmp_path: Path) -> None:
    fit(compose([*small, 'trainer.max_epochs=1']), run_dir=tmp_path / 'first')
    last = tmp_path / 'first' / 'checkpoints' / 'last.ckpt'
    with pytest.raises(ValueError, match='fit'):
        fit(compose([*small, f'pretrained={last}', 'model.hidden_size=24', 'model.width=0.1']), run_dir=tmp_path / 'b')


def test_loss_that_is_no_number_ends_the_command(
    small: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflow(self: Any, images: torch.Tensor, labels: list[str]) -> Any:
        loss = next(self.parameters()).sum() * float('inf')
        return torch.zeros(len(labels), 2, len(self.tokenizer)), loss, 1

    monkeypatch.setattr('strhub.models.base.CTCSystem.forward_logits_loss', overflow)
    with pytest.raises(SystemExit) as status:
        main(small)
    assert status.value.code == 1  # not 2: the command was right
    assert capfd.readouterr().err.splitlines()[-1].startswith('error: the loss of step 1 is nan or inf')
    assert list(run_dir().glob('nonfinite_step_000001_rank_0.pt'))


def test_a_breakdown_for_want_of_memory_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    text = 'training stopped: CUDA out of memory; go on with the same command and ckpt_path=auto'
    with pytest.raises(SystemExit) as status, exiting('./train.py'):
        raise TrainingFailedError(text)
    assert status.value.code == 1
    assert capsys.readouterr().err == f'error: {text}\n'


def test_interrupt_from_python(small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class AtOnce(fit_module.StopOnSignal):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            super().on_train_start(trainer, pl_module)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(fit_module, 'StopOnSignal', AtOnce)
    with pytest.raises(TrainingInterruptedError) as stop:
        fit(compose(small), run_dir=tmp_path / 'run')
    assert stop.value.checkpoint == tmp_path / 'run' / 'checkpoints' / 'last.ckpt'
    assert stop.value.signum == signal.SIGTERM


def test_rendered_words_need_no_data(small: list[str], tmp_path: Path) -> None:
    words = [word for word in small if not word.startswith('data.')]
    options = ['dataset=rendered', 'data.num_workers=0', 'data.rendered.count=8', 'trainer.limit_val_batches=2']
    best = fit(compose([*words, *options, 'trainer.max_epochs=1']), run_dir=tmp_path / 'run')
    assert best is not None


def test_ctrl_c_at_the_keyboard(small: list[str], tmp_path: Path) -> None:
    """The real thing: another process, its workers, a signal to the whole group."""
    words = [word for word in small if not word.startswith(('data.num_workers', 'trainer.max_epochs'))]
    command = [sys.executable, str(ROOT / 'train.py'), *words, 'data.num_workers=1', 'trainer.max_epochs=500']
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, text=True, stdout=-1, stderr=-1, start_new_session=True
    )
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob('outputs/*/*/checkpoints/last.ckpt')) and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 130, err
    assert 'Traceback' not in err
    assert 'Go on:' in out
    last = re.search(r'ckpt_path=(\S+)', out)[1]
    assert torch.load(tmp_path / last, weights_only=True)['global_step'] > 0
