"""What is done to real runs of ./train.py, and what is kept: killed, terminated, without disk space, damaged."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from test_fit import ROOT, SMALL, small, words  # noqa: F401 (fixtures)

from strhub.engine.checkpoints import Checkpoints, has_ended, is_whole, newest_whole
from strhub.engine.configure import resumed
from strhub.engine.fit import main

pytestmark = [pytest.mark.filterwarnings('ignore')]
CHECKPOINT_FIRST = 240  # seconds to wait for it on a busy machine


def start(command: Sequence[str], folder: Path, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    line = [sys.executable, str(ROOT / 'train.py'), *command]
    return subprocess.Popen(
        line, cwd=folder, env=environment, text=True, stdout=-1, stderr=-1, start_new_session=True, **options
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + CHECKPOINT_FIRST
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.exists(), process.communicate()[1] if process.poll() is not None else 'too slow'


def state_of(run: Path) -> dict[str, Any]:
    return torch.load(run / 'checkpoints' / 'last.ckpt', weights_only=True)


def assert_equal(one: Path, other: Path) -> None:
    """Both runs ended with the same weights, bit for bit."""
    first, second = state_of(one), state_of(other)
    assert first['global_step'] == second['global_step']
    for name, tensor in first['state_dict'].items():
        torch.testing.assert_close(second['state_dict'][name], tensor, rtol=0, atol=0, msg=name)


def changed(path: Path) -> int:
    """When a file was last written; 0 while there is none, as between the two renames of a checkpoint."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@pytest.mark.slow
def test_killed_at_random_moments_a_run_ends_as_if_nothing_had_happened(small: list[str], tmp_path: Path) -> None:  # noqa: F811
    """SIGKILL to the run and its workers, again and again, until it gets through; each time it goes on by itself."""
    command = [word for word in small if not word.startswith(('data.num_workers', 'trainer.max_epochs'))]
    command += ['data.num_workers=1', 'trainer.max_epochs=60', 'trainer.enable_progress_bar=false']
    main([*command, 'hydra.run.dir=whole'])
    rng, kills, steps = random.Random(5), 0, [0]
    last = tmp_path / 'killed' / 'checkpoints' / 'last.ckpt'
    while kills < 6:
        stamp = changed(last)
        process = start([*command, 'hydra.run.dir=killed', 'ckpt_path=auto'], tmp_path)
        while process.poll() is None and changed(last) in (0, stamp):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.7))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        kills += 1
        found = newest_whole(tmp_path / 'killed')
        assert found is not None, 'a kill must leave a whole checkpoint'
        steps.append(torch.load(found, weights_only=True)['global_step'])
        assert steps[-1] >= steps[-2]
    assert steps[-1] > 0
    process = start([*command, 'hydra.run.dir=killed', 'ckpt_path=auto'], tmp_path)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert_equal(tmp_path / 'whole', tmp_path / 'killed')
    assert not list((tmp_path / 'killed' / 'checkpoints').glob('*.partial'))


def test_terminated_run_saves_and_goes_on_by_the_same_command(small: list[str], tmp_path: Path) -> None:  # noqa: F811
    """143, which is 128 + SIGTERM, is what schedulers requeue."""
    command = [word for word in small if not word.startswith('trainer.max_epochs')]
    command += ['trainer.max_epochs=100', 'trainer.limit_val_batches=1', 'hydra.run.dir=run', 'ckpt_path=auto']
    process = start(command, tmp_path)
    wait_for(tmp_path / 'run' / 'checkpoints' / 'last.ckpt', process)
    process.terminate()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    assert 'Traceback' not in err
    stopped = state_of(tmp_path / 'run')['global_step']
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('sys.argv', ['train.py'])
        main(command)
    assert state_of(tmp_path / 'run')['global_step'] == 300 > stopped
    assert len(json.loads((tmp_path / 'run' / 'record.json').read_text())) == 2


@pytest.mark.skipif(not hasattr(resource, 'prlimit'), reason='sets a limit on another process, which only Linux can')
def test_full_disk_ends_in_a_sentence_and_the_checkpoint_before_it_stays(small: list[str], tmp_path: Path) -> None:  # noqa: F811
    """A limit on the size of files, which refuses to write as a full disk does, comes once there is a checkpoint."""
    command = [word for word in small if not word.startswith('trainer.max_epochs')]
    process = start([*command, 'trainer.max_epochs=500', 'hydra.run.dir=run'], tmp_path)
    last = tmp_path / 'run' / 'checkpoints' / 'last.ckpt'
    wait_for(last, process)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (last.stat().st_size // 2, resource.RLIM_INFINITY))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert 'Traceback' not in err, err
    message = err.splitlines()[-1]
    assert message.startswith('error: training stopped: '), err
    assert 'file too large' in message
    assert 'once this is mended, go on with ckpt_path=run' in message
    assert newest_whole(tmp_path / 'run') is not None
    assert not list((tmp_path / 'run' / 'checkpoints').glob('*.partial'))


@pytest.mark.parametrize('damage', ['truncated', 'zeros', 'empty'])
def test_damaged_last_checkpoint_is_passed_over(
    small: list[str],  # noqa: F811
    tmp_path: Path,
    damage: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    main([*small, 'hydra.run.dir=whole'])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('strhub.engine.checkpoints.Checkpoints.on_train_end', lambda *_: None)  # killed before its end
        main([*small, 'hydra.run.dir=run', 'trainer.val_check_interval=1'])
    checkpoints = tmp_path / 'run' / 'checkpoints'
    size = (checkpoints / 'last.ckpt').stat().st_size
    with (checkpoints / 'last.ckpt').open('r+b') as file:  # and with it the best checkpoint which is the same file
        if damage == 'zeros':
            file.seek(size // 2)
            file.write(bytes(4096))
        else:
            file.truncate(size // 2 if damage == 'truncated' else 0)
    assert not is_whole(checkpoints / 'last.ckpt')
    found = newest_whole(tmp_path / 'run')
    assert found == checkpoints / 'previous.ckpt'
    assert torch.load(found, weights_only=True)['global_step'] == 5  # one checkpoint is lost, which was a step
    main([*small, 'hydra.run.dir=run', 'trainer.val_check_interval=1', 'ckpt_path=auto'])
    assert f'{Path("run/checkpoints/last.ckpt")} is damaged' in capsys.readouterr().err
    assert_equal(tmp_path / 'whole', tmp_path / 'run')


def test_auto_goes_on_begins_or_has_nothing_to_do(small: list[str], tmp_path: Path, capsys: Any) -> None:  # noqa: F811
    main([*small, 'hydra.run.dir=run', 'ckpt_path=auto'])
    assert has_ended(tmp_path / 'run' / 'checkpoints' / 'last.ckpt')
    capsys.readouterr()
    main([*small, 'hydra.run.dir=run', 'ckpt_path=auto'])
    assert capsys.readouterr().out == 'ckpt_path=auto: this run has ended; nothing is left to do\n'
    main([*small, 'ckpt_path=auto'])  # in outputs/ there is none
    (first,) = Path('outputs/crnn-tiny').iterdir()
    assert has_ended(first / 'checkpoints' / 'last.ckpt')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('strhub.engine.checkpoints.Checkpoints.on_train_end', lambda *_: None)
        start = f'pretrained={first / "checkpoints" / "last.ckpt"}'
        main([*small, start, 'ckpt_path=auto', 'hydra.run.dir=outputs/crnn-tiny/stopped'])
    capsys.readouterr()
    main([*small, start, 'ckpt_path=auto'])
    assert 'going on from outputs/crnn-tiny/stopped/checkpoints/last.ckpt' in capsys.readouterr().err
    assert len(list(Path('outputs/crnn-tiny').iterdir())) == 2


def test_last_checkpoint_is_written_between_validations(small: list[str], tmp_path: Path) -> None:  # noqa: F811
    seen: list[int] = []
    write = Checkpoints.save

    def save(self: Any, trainer: Any, path: Path, **options: Any) -> None:
        seen.append(trainer.global_step)
        write(self, trainer, path, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('strhub.engine.checkpoints.Checkpoints.save', save)
        main([*small, 'checkpoint.minutes=1e-9', 'trainer.val_check_interval=100'])
    assert seen == [1, 2, 3, 4, 5, 6, 6]  # but at the ends of epochs, where there is a validation


def test_one_seed_gives_one_result_and_another_another(small: list[str], tmp_path: Path) -> None:  # noqa: F811
    workers = ['data.num_workers=1', 'data.augment=true']
    command = [*(word for word in small if not word.startswith('data.num_workers')), *workers]
    for name, seed in {'one': 3, 'two': 3, 'three': 4}.items():
        main([*command, f'hydra.run.dir={name}', f'seed={seed}'])
    assert_equal(tmp_path / 'one', tmp_path / 'two')
    with pytest.raises(AssertionError):
        assert_equal(tmp_path / 'one', tmp_path / 'three')


def test_replay_does_it_again_and_says_what_is_not_the_same(
    small: list[str],  # noqa: F811
    words: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    main([*small, 'seed=7', 'hydra.run.dir=first'])
    (record,) = json.loads(Path('first/record.json').read_text())
    assert record['versions']['torch'] == torch.__version__.partition('+')[0]
    assert list(record['train']) == [str(words)]
    assert record['train'] == record['val']
    if (ROOT / '.git').exists():
        assert len(record['git']['commit']) == 40
    main(['--config-dir=first', 'hydra.run.dir=second'])
    assert_equal(tmp_path / 'first', tmp_path / 'second')
    before, after = (yaml.safe_load(Path(run, 'config.yaml').read_text()) for run in ('first', 'second'))
    assert after.pop('replay') == 'first'
    assert before.pop('replay') is None
    assert after == before
    assert 'not all as it was' not in capsys.readouterr().err

    record['train'] = {str(words): '13 words'}
    record['versions']['torch'] = '1.0'
    Path('first/record.json').write_text(json.dumps([record]))
    main(['--config-dir', 'first', 'hydra.run.dir=third', 'seed=8'])
    said = capsys.readouterr().err
    assert f'this is not all as it was in first: train {words} was 13 words and is 12 words' in said
    assert 'versions torch was 1.0 and is' in said
    assert yaml.safe_load(Path('third/config.yaml').read_text())['seed'] == 8


def test_replay_of_no_run_is_refused(small: list[str], capsys: Any) -> None:  # noqa: F811
    with pytest.raises(SystemExit) as status:
        main(['--config-dir=nowhere'])
    assert status.value.code == 2
    assert 'replay=nowhere: there is no config.yaml in it; give the folder of a run' in capsys.readouterr().err


def test_what_goes_on_starts_from_no_other_weights(tmp_path: Path) -> None:
    checkpoint = tmp_path / 'checkpoints/last.ckpt'
    for file in (checkpoint, tmp_path / 'hydra/overrides.yaml'):
        file.parent.mkdir()
        file.write_text('[+experiment=crnn-small-real]')  # which says pretrained: crnn-small-rendered
    assert resumed([f'ckpt_path={checkpoint}']) == [
        '+experiment=crnn-small-real',
        f'ckpt_path={checkpoint}',
        f'hydra.run.dir={tmp_path}',
        'pretrained=null',
    ]


def test_what_a_foreign_run_asks_of_hydra_is_left_out(tmp_path: Path) -> None:
    (tmp_path / 'hydra').mkdir()
    (tmp_path / 'config.yaml').write_text('seed: 1')
    (tmp_path / 'hydra' / 'overrides.yaml').write_text(
        '[seed=1, +hydra.callbacks.x._target_=os.system, hydra/output=x]'
    )
    assert resumed([f'replay={tmp_path}']) == ['seed=1', f'replay={tmp_path}']
