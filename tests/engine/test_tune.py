"""./tune.py: the space and its mistakes, what ends a trial, a search from its words to the command it prints."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from test_fit import SMALL, words  # noqa: F401  # a fixture
from test_survival import assert_equal

from strhub.engine.configure import compose
from strhub.engine.tune import records
from strhub.engine.tune.cli import main, spelled
from strhub.engine.tune.options import read_options, steps_of
from strhub.engine.tune.report import best_record, command, table
from strhub.engine.tune.space import Dimension, read_space, spread

pytestmark = [pytest.mark.filterwarnings('ignore')]
ROOT = Path(__file__).parents[2]


def settings_of(*overrides: str) -> dict[str, Any]:
    config = compose(spelled(overrides), 'tune')
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


# The space


def test_the_default_space_is_a_decade_around_the_models_own_rate() -> None:
    (dimension,) = read_space(settings_of('+experiment=crnn'))
    assert dimension == Dimension('model.lr', 'loguniform', 5.1e-5, 5.1e-3)


@pytest.mark.parametrize(
    ('word', 'expected'),
    [
        ('+tune.space.model.dropout=uniform(0,0.3)', Dimension('model.dropout', 'uniform', 0, 0.3)),
        ("tune.space.model.dropout='uniform(0, 0.3)'", Dimension('model.dropout', 'uniform', 0, 0.3)),
        ('tune.space.model.lr=loguniform(1e-5,1e-3)', Dimension('model.lr', 'loguniform', 1e-5, 1e-3)),
        ('tune.space.model.dec_depth=randint(1,3)', Dimension('model.dec_depth', 'randint', 1, 3)),
        ('tune.space.model.batch_size=choice(64,128)', Dimension('model.batch_size', 'choice', options=(64, 128))),
        ('tune.space.averaging.kind=choice(swa,ema)', Dimension('averaging.kind', 'choice', options=('swa', 'ema'))),
        ('tune.space.data.augment=choice(true,false)', Dimension('data.augment', 'choice', options=(True, False))),
    ],
)
def test_forms_of_the_space(word: str, expected: Dimension) -> None:
    assert expected in read_space(settings_of(word))


@pytest.mark.parametrize(
    ('word', 'message'),
    [
        ('tune.space.model.dropuot=uniform(0,1)', 'names no key of the configuration: did you mean tune.space.model.d'),
        ('tune.space.model=uniform(0,1)', 'tune.space.model is a section'),
        ('tune.space.ckpt_path=choice(a,b)', 'tune.space.ckpt_path is nothing to search'),
        ('tune.space.model.dropout=0.3', 'give one of the forms uniform(0,0.3)'),
        ('tune.space.model.dropout=normal(0,1)', 'give one of the forms'),
        ('tune.space.model.dropout=uniform(0)', 'give two numbers as bounds'),
        ('tune.space.model.dropout=uniform(0,x)', 'give two numbers as bounds'),
        ('tune.space.model.dropout=uniform(0,inf)', 'give two numbers as bounds'),
        ('tune.space.model.dropout=uniform(0.3,0.1)', 'the lower bound, 0.3, has to be less than the upper, 0.1'),
        ('tune.space.model.lr=loguniform(0,0.1)', 'a logarithmic scale takes more than 0'),
        ('tune.space.model.dec_depth=randint(1,2.5)', 'give two whole numbers as bounds'),
        ('tune.space.model.dec_depth=uniform(1,3)', 'model.dec_depth is a whole number: search it by randint'),
        ('tune.space.data.augment=uniform(0,1)', 'data.augment is true, no number: search it by choice'),
        ('tune.space.model.dropout=choice(0.1)', 'give two values or more'),
        ('tune.space.model.dropout=choice(0.1,much)', 'much is no number, as model.dropout=0.1 is'),
        ('tune.space.model.dropout=choice(0.1,0.1)', 'named more than once'),
        ('tune.space.model.lr=null', 'tune.space is empty'),
        ('tune.num_samples=0', 'tune.num_samples is 0: give a whole number, at least 1'),
        ('tune.metric=accuracy', 'tune.metric is'),
        ('+tune.num_sample=3', 'did you mean tune.num_samples?'),
        ('tune.workers_per_trial=0', 'tune.workers_per_trial is 0: give a whole number, at least 1'),
        ('tune.workers_per_trial=1000', 'give at most as many'),
        ('tune.gpus_per_trial=2', 'give at most 1, or tune.workers_per_trial=2 as well'),
        ('trainer.devices=2', 'tune.workers_per_trial says how many train'),
        ('launcher=ray', 'launcher= is for ./train.py: leave it out'),
        ('tune.cpus_per_trial=1000', 'tune.cpus_per_trial is 1000'),
        ('tune.smoothing=1', 'tune.smoothing is 1'),
        ('trainer.max_epochs=-1', 'the trials would never end'),
        ('ckpt_path=x.ckpt', 'x.ckpt'),
        ('tune.resume_dir=/no/such/folder', 'there is no such folder'),
    ],
)
def test_a_mistake_is_one_sentence(
    word: str,
    message: str,
    words: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['tune.py'])
    small = [] if 'resume' in word else ['model.enc_depth=1', f'data.train_dir={words}', f'data.val_dir={words}']
    with pytest.raises(SystemExit) as status:
        main([*small, word])
    error = capsys.readouterr().err.splitlines()
    assert status.value.code == 2, error
    assert error[-1].startswith('error: ')
    assert message in error[-1]
    assert not list(tmp_path.iterdir())


def test_resuming_takes_no_other_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more, message in ([], 'no search was started there'), (['model.lr=1'], 'model.lr=1 does not go with'):
        with pytest.raises(SystemExit):
            main([f'tune.resume_dir={tmp_path}', *more])
        assert message in capsys.readouterr().err


def test_first_points_are_even_in_log_scale() -> None:
    rate, depth = Dimension('lr', 'loguniform', 1e-4, 1e-2), Dimension('depth', 'randint', 1, 5)
    points = spread([rate, depth], 5, seed=0)
    assert points[0]['lr'] == pytest.approx(1e-3)  # the model's own comes first
    assert sorted(point['lr'] for point in points) == pytest.approx([1e-4, 10**-3.5, 1e-3, 10**-2.5, 1e-2], rel=1e-4)
    assert sorted(point['depth'] for point in points) == [1, 2, 3, 4, 5]
    assert points == spread([rate, depth], 5, seed=0)
    assert spread([rate], 1, seed=0) == [{'lr': pytest.approx(1e-3)}]
    assert spread([rate], 0, seed=0) == []


def test_steps_of_a_trial() -> None:
    settings = settings_of('model.batch_size=4', 'trainer.max_epochs=3', 'trainer.accumulate_grad_batches=2')
    assert steps_of(settings, 18) == 9
    assert steps_of(settings | {'trainer': settings['trainer'] | {'max_steps': 5}}, 18) == 5
    assert steps_of(settings | {'tune': settings['tune'] | {'workers_per_trial': 2}}, 18) == 6


# What a trial takes


@pytest.mark.parametrize(
    ('overrides', 'bundles'),
    [
        ([], [{'CPU': 2, 'GPU': 1}]),  # half of the cores, as there are two GPUs
        (['tune.gpus_per_trial=0.25'], [{'CPU': 1, 'GPU': 0.25}]),
        (['tune.gpus_per_trial=0.25', 'tune.cpus_per_trial=0.5'], [{'CPU': 0.5, 'GPU': 0.25}]),
        (['+experiment=tune_abinet-lm'], [{'CPU': 1, 'GPU': 0.25}]),
        (['tune.workers_per_trial=2'], [{'CPU': 2, 'GPU': 1}] * 2),
        (['tune.workers_per_trial=2', 'tune.cpus_per_trial=3'], [{'CPU': 1, 'GPU': 1}] * 2),
        (['tune.workers_per_trial=2', 'trainer=cpu'], [{'CPU': 2}] * 2),
        (['tune.workers_per_trial=2', 'tune.gpus_per_trial=0', 'tune.cpus_per_trial=1'], [{'CPU': 0.5}] * 2),
    ],
)
def test_ray_is_asked_for_shares_of_gpus(
    overrides: list[str], bundles: list[dict[str, float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('ray')
    from strhub.engine.tune import search

    monkeypatch.delenv('RAY_ADDRESS', raising=False)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr('strhub.engine.tune.options.cores', lambda: 4)
    options = read_options(settings_of(*overrides))
    assert search.trainable(tmp_path, {}, options)._resources.bundles == bundles


@pytest.mark.parametrize('override', ['tune.gpus_per_trial=1', 'tune.gpus_per_trial=0.5'])
def test_processes_that_train_together_share_no_gpu(override: str) -> None:
    with pytest.raises(ValueError, match=r'take a GPU each; give 2, as tune\.workers_per_trial is, or 0'):
        read_options(settings_of(override, 'tune.workers_per_trial=2'))


def test_a_trial_divides_its_own_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip('ray')
    from strhub.engine.tune.trial import configured

    monkeypatch.setattr('strhub.engine.tune.options.cores', lambda: 32)
    for given, expected in {
        ('tune.cpus_per_trial=8',): (2, 6),
        ('tune.cpus_per_trial=8', 'tune.workers_per_trial=2'): (1, 3),
        ('tune.cpus_per_trial=0.5',): (0, 1),
        ('tune.cpus_per_trial=8', 'threads=3', 'data.num_workers=5'): (5, 3),
    }.items():
        settings = settings_of('trainer=cpu', *given)
        config = configured(settings, {'model.lr': 0.5}, read_options(settings))
        assert (config.data.num_workers, config.threads, config.model.lr) == (*expected, 0.5)


def test_all_processes_of_a_trial_forget_the_job_that_ray_runs_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('ray')
    from strhub.engine.tune.workers import follow

    seen: dict[str, str] = {}
    monkeypatch.setattr(os, 'environ', {'SLURM_NTASKS': '1', 'SLURM_JOB_NAME': 'ray', 'SLURM_PROCID': '0'})
    monkeypatch.setattr(os, 'chdir', lambda _: None)
    logger = logging.getLogger('strhub')
    before = logger.level
    try:
        follow._function({'NODE_RANK': '1'}, tmp_path, lambda callbacks: seen.update(os.environ), [])
    finally:
        logger.setLevel(before)
    assert seen == {'NODE_RANK': '1', 'LOCAL_RANK': '0'}


# What is best


def test_a_trial_that_broke_down_is_never_the_best(tmp_path: Path) -> None:
    for number, (trial, accuracy) in enumerate({'good': 10.0, 'nan': 90.0, 'died': 80.0}.items()):
        assert records.number_of(tmp_path, trial) == number + 1
        (tmp_path / trial).mkdir()
        records.write_params(tmp_path / trial, {'model.lr': 10.0**number})
        report = {'val_accuracy': accuracy, 'val_NED': accuracy, 'val_loss': 1.0, 'step': 5, 'steps': 9}
        records.append_report(tmp_path / trial, report)
    records.end(tmp_path / 'nan', records.DIVERGED)
    trials = records.read_records(tmp_path, 'val_accuracy', {'died': 'RuntimeError: out of memory'})
    best = best_record(trials, 'val_accuracy')
    assert best is not None
    assert best.trial_id == 'good'
    rows = table(trials, read_options(settings_of('trainer=cpu'))).splitlines()[2:]
    reasons = [row.split('|')[-2].strip() for row in rows]
    assert reasons == [records.UNFINISHED, records.DIVERGED, 'RuntimeError: out of memory']


# What ends a trial


def trend(**changed: Any) -> Any:
    stopping = pytest.importorskip('strhub.engine.tune.stopping')
    return stopping.Trend(**{'sign': 1, 'patience': 3, 'min_delta': 0.1, 'smoothing': 0.5, **changed})


def reasons(values: list[float], **changed: Any) -> list[str | None]:
    judge = trend(**changed)
    return [judge.add(value) for value in values]


def test_a_trend_is_followed() -> None:
    assert not any(reasons([1, 2, 3, 4, 5, 6, 7, 8]))
    assert not any(reasons([1, 5, 2, 6, 3, 7, 4, 8, 5, 9]))  # noise on the way up
    assert reasons([5, 5, 5, 5]) == [None, None, None, records.STAGNATES]
    assert reasons([5, 4, 3, 2]) == [None, None, None, records.FALLS]
    assert reasons([2, 3, 4, 5], sign=-1) == [None, None, None, records.FALLS]
    assert not any(reasons([5, 4, 3, 2, 1], sign=-1))


def test_stale_trials_end_after_their_warm_up_and_remember_what_was_before_a_resume(tmp_path: Path) -> None:
    stopping = pytest.importorskip('strhub.engine.tune.stopping')
    reports = [{'val_accuracy': 5.0, 'step': step, 'steps': 100} for step in range(10, 101, 10)]
    stopped = {}
    for trial, before in ('fresh', 0), ('resumed', 4):
        (tmp_path / trial).mkdir()
        stop = stopping.StopStale(
            tmp_path, metric='val_accuracy', grace=30, sign=1, patience=3, min_delta=0.1, smoothing=0.5
        )
        for report in reports[:before]:
            records.append_report(tmp_path / trial, report)
        stopped[trial] = next(report['step'] for report in reports[max(0, before - 1) :] if stop(trial, report))
        assert records.why_ended(tmp_path / trial) == records.STAGNATES
    assert stopped == {'fresh': 60, 'resumed': 60}
    assert not stop('late', reports[-1])  # nothing is saved by ending what has ended


def test_optuna_learns_from_what_was_tried() -> None:
    pytest.importorskip('ray')
    from strhub.engine.tune.search import searcher

    options = read_options(settings_of('+experiment=crnn', 'tune.cpus_per_trial=1', 'tune.num_samples=20'))
    runs = []
    for _ in range(2):
        search, tried = searcher(options), []
        for number in range(20):
            rate = search.suggest(str(number))['model.lr']  # type: ignore[index]
            tried.append(rate)
            score = -abs(rate - 1e-3)
            search.on_trial_complete(str(number), {'score': score, 'training_iteration': 1})
        runs.append(tried)
    assert runs[0] == runs[1]  # seeded
    assert all(5.1e-5 <= rate <= 5.1e-3 for rate in runs[0])
    assert min(abs(rate - 1e-3) for rate in runs[0][5:]) < min(abs(rate - 1e-3) for rate in runs[0][:5])


# Whole searches


def environment(home: Path) -> dict[str, str]:
    home.mkdir(exist_ok=True)  # Ray leaves a token there
    return {**os.environ, 'HOME': str(home), 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT), 'COLUMNS': '120'}


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    log = (folder / 'log.txt').open('w')
    return subprocess.Popen(
        [sys.executable, str(ROOT / 'tune.py'), *arguments],
        cwd=folder,
        env=environment(folder / 'home'),
        stdout=log,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def tune(folder: Path, *arguments: str) -> str:
    process = start(folder, *arguments)
    status = process.wait(timeout=300)
    text = (folder / 'log.txt').read_text()
    assert status == 0, text
    return text


@pytest.mark.slow
def test_a_search_ends_in_a_command_that_trains(tmp_path: Path, words: Path) -> None:  # noqa: F811
    pytest.importorskip('ray')
    own = [*SMALL, f'data.train_dir={words}', f'data.val_dir={words}']
    text = tune(
        tmp_path,
        *own,
        'tune.num_samples=3',
        'tune.initial_points=2',
        'tune.cpus_per_trial=1',
        'tune.space.model.hidden_size=choice(8,16)',
        'hydra.run.dir=search',
    )
    results = json.loads((tmp_path / 'search/results.json').read_text())
    assert [trial['ended'] for trial in results['trials']] == [records.FINISHED] * 3
    for trial in results['trials']:
        assert [report['step'] for report in trial['reports']] == [2, 4, 6]
        assert trial['reports'][0].keys() == {'val_accuracy', 'val_NED', 'val_loss', 'step', 'steps'}
        assert len(list((tmp_path / 'search' / trial['trial_id']).glob('checkpoint_*/last.ckpt'))) == 1
    assert {trial['params']['model.lr'] for trial in results['trials'][:2]} == {0.0024, 0.24}
    assert (tmp_path / 'search/search.png').stat().st_size > 1000
    assert len(re.findall(r'^trial \d, step \d/6: val_accuracy', text, re.M)) == 9
    printed = (tmp_path / 'search/train.sh').read_text().strip()
    assert printed in text
    program, *overrides = shlex.split(printed)
    assert program == './train.py'
    config = compose(overrides)
    assert config.model.lr == results['best']['params']['model.lr']
    assert config.model.hidden_size == results['best']['params']['model.hidden_size']
    assert (config.model.width, config.data.train_dir) == (0.05, str(words))


def test_the_command_keeps_odd_words() -> None:
    text = command(
        ['data.train_dir=/a b=c', 'model.lr=1', 'tune.num_samples=3', 'hydra.run.dir=x'],
        {'model.lr': 1e-5},
        './train.py',
    )
    config = compose(shlex.split(text)[1:])
    assert (config.data.train_dir, config.model.lr) == ('/a b=c', 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('signum', [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_search_goes_on_without_repeating_trials(
    tmp_path: Path,
    words: Path,  # noqa: F811
    signum: signal.Signals,
) -> None:
    pytest.importorskip('ray')
    long = ['trainer.max_epochs=100', 'trainer.val_check_interval=20', 'tune.patience=20', 'tune.median_trials=9']
    process = start(
        tmp_path,
        *SMALL,
        f'data.train_dir={words}',
        f'data.val_dir={words}',
        *long,
        'tune.num_samples=4',
        'tune.cpus_per_trial=1',
        'hydra.run.dir=search',
    )
    log, deadline = tmp_path / 'log.txt', time.monotonic() + 200
    while not re.search(r'trial 1 ended(.|\n)*trial 3, step', log.read_text()):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    os.killpg(process.pid, signum)
    status = process.wait(timeout=60)
    if signum == signal.SIGINT:
        assert status == 130
        assert 'Go on:  ./tune.py tune.resume_dir=search' in log.read_text()
    folder = tmp_path / 'search'
    before = {path.parent.name: path.read_text() for path in folder.glob('*/reports.jsonl')}
    ended = [path.parent.name for path in folder.glob('*/ended.txt')]
    third = (folder / records.ORDER).read_text().split()[2]
    assert ended
    text = tune(tmp_path, 'tune.resume_dir=search')
    results = json.loads((folder / 'results.json').read_text())
    assert len(results['trials']) == 4
    assert records.UNFINISHED not in {trial['ended'] for trial in results['trials']}
    for name in ended:
        assert (folder / name / 'reports.jsonl').read_text() == before[name]
    after = (folder / third / 'reports.jsonl').read_text()
    assert after.startswith(before[third])
    steps = [json.loads(line)['step'] for line in after.splitlines()]
    assert steps == sorted(set(steps)), text  # it went on from its own checkpoint


@pytest.mark.slow
def test_every_way_in_which_a_trial_ends(tmp_path: Path, words: Path) -> None:  # noqa: F811
    pytest.importorskip('ray')
    text = tune(
        tmp_path,
        '+experiment=vitstr',
        *['model.embed_dim=32', 'model.num_heads=2', 'model.batch_size=6', 'charset=36_lowercase'],
        *['data.num_workers=0', 'data.augment=false', f'data.train_dir={words}', f'data.val_dir={words}'],
        *['threads=1', 'trainer=cpu', 'trainer.max_epochs=8', 'trainer.val_check_interval=2', 'averaging=none'],
        *['tune.num_samples=4', 'tune.initial_points=4', 'tune.metric=val_loss', 'hydra.run.dir=search'],
        *['tune.patience=4', 'tune.min_delta=0.001', 'tune.smoothing=0', 'tune.median_trials=1'],
        'tune.space.model.lr=choice(1e-8,1e-9,0.01,1e6)',  # tried are the second, the third, the first, the last
    )
    results = json.loads((tmp_path / 'search/results.json').read_text())
    ended = {trial['params']['model.lr']: trial['ended'] for trial in results['trials']}
    assert ended == {
        1e-9: records.STAGNATES,
        0.01: records.FINISHED,
        1e-8: records.MEDIAN,
        1e6: records.DIVERGED,
    }, text
    assert [trial['reports'][-1]['step'] for trial in results['trials'][:3]] == [10, 16, 2], text
    assert results['best']['params'] == {'model.lr': 0.01}
    assert (tmp_path / 'search/trials.md').read_text().splitlines()[-1].endswith(f'{records.DIVERGED} |')


@pytest.mark.slow
def test_a_trial_of_two_processes_is_the_training_that_its_command_runs(
    tmp_path: Path,
    words: Path,  # noqa: F811
) -> None:
    pytest.importorskip('ray')
    own = [*SMALL, f'data.train_dir={words}', f'data.val_dir={words}']
    tune(tmp_path, *own, 'tune.num_samples=1', 'tune.workers_per_trial=2', 'hydra.run.dir=search')
    (trial,) = json.loads((tmp_path / 'search/results.json').read_text())['trials']
    assert trial['ended'] == records.FINISHED
    assert [report['step'] for report in trial['reports']] == [2, 4]
    _, *printed = shlex.split((tmp_path / 'search/train.sh').read_text())
    assert printed[-1] == 'trainer.devices=2'
    line = [sys.executable, str(ROOT / 'train.py'), *printed, 'hydra.run.dir=run']
    subprocess.run(line, cwd=tmp_path, env=environment(tmp_path / 'home'), check=True, capture_output=True, timeout=200)
    assert_equal(tmp_path / 'search' / trial['trial_id'] / 'run', tmp_path / 'run')
