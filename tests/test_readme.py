"""Every command of README.md is run as it stands there; trainings are cut to a few steps, the rest is marked."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from strhub.models.zoo import MODELS, in_the_box

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r'^```(sh|python)\n(.*?)^```', (ROOT / 'README.md').read_text(encoding='utf-8'), re.M | re.S)
COMMANDS = [line.split(' #')[0].strip() for kind, block in BLOCKS if kind == 'sh' for line in block.splitlines()]
SCRIPTS = [block for kind, block in BLOCKS if kind == 'python']

FEW_STEPS = (
    'trainer.max_steps=2 trainer.limit_train_batches=1.0 trainer.limit_val_batches=1 data.num_workers=0 '
    'model.batch_size=4 averaging=none ++data.rendered.count=64'
)
RUN_TO_RESUME = 'outputs/crnn-tiny/2026-01-31_12-00-00'


def marks(command: str) -> list[pytest.MarkDecorator]:
    """What keeps a command out of the ordinary suite."""
    if command.startswith(('./read.py pretrained=parseq', './test.py pretrained=parseq', 'pip ')):
        return [pytest.mark.network]
    if command.startswith(('strhub demo', 'strhub serve')):
        return [pytest.mark.skip(reason='runs until it is ended; test_demo.py and engine/test_serve.py start both')]
    if command in ('make demo', 'make test'):  # tests/test_quickstart.py has the former in short; the latter runs this
        return [pytest.mark.skip(reason='the suite itself, or ten minutes of training')]
    if (
        'devices=2' in command
        or command == './train.py +experiment=parseq'
        or 'torch-' in command
        or 'tune_abinet' in command
    ):
        return [pytest.mark.slow]
    return []


@pytest.fixture(scope='module')
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the checkout after a quick start, with data in the places that the README names."""
    folder = tmp_path_factory.mktemp('readme')
    for path in ROOT.iterdir():
        if path.suffix == '.py' or path.name in ('strhub', 'configs', 'demo_images', 'Makefile'):
            (folder / path.name).symlink_to(path)
    shutil.copytree(ROOT / 'requirements', folder / 'requirements')  # make torch-cpu writes there
    checkpoints = folder / 'outputs/quickstart/run/checkpoints'
    checkpoints.mkdir(parents=True)
    run(folder, f'./train.py +experiment=crnn-tiny dataset=rendered {FEW_STEPS} hydra.run.dir={RUN_TO_RESUME}')
    shutil.copy(folder / RUN_TO_RESUME / 'checkpoints/last.ckpt', checkpoints)
    for name in ('outputs/quickstart/words', 'data/train/real', 'data/train/synth', 'data/val'):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(ROOT / 'demo_images')
    return folder


def run(folder: Path, command: str) -> str:
    """Runs a command as a user in the activated environment would, and returns what it printed."""
    environment = {
        **os.environ,
        'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
        'PYTHONPATH': str(folder),
        'OMP_NUM_THREADS': '1',
    }
    done = subprocess.run(['bash', '-c', command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f'{command}\n{done.stdout}\n{done.stderr}'
    return done.stdout


@pytest.mark.parametrize('command', [pytest.param(c, marks=marks(c), id=c[:60]) for c in COMMANDS])
def test_command(command: str, workspace: Path) -> None:
    if command.startswith('./train.py') and 'ckpt_path' not in command:
        command += f' {FEW_STEPS}'
    if command.startswith('./tune.py'):
        # Ray leaves a token at home
        command = f'HOME=$PWD {command} {FEW_STEPS} tune.num_samples=1 tune.cpus_per_trial=1 threads=1'
    if command.startswith('./bench.py'):
        command += ' min_run_time=0.001 warmup=0 threads=1'
    command = re.sub('^strhub', f'{sys.executable} -m strhub', command)
    run(workspace, command)


@pytest.mark.parametrize('script', SCRIPTS, ids=[f'script {i}' for i in range(len(SCRIPTS))])
def test_script(script: str, workspace: Path) -> None:
    (workspace / 'script.py').write_text(script, encoding='utf-8')
    run(workspace, f'{sys.executable} script.py')


def test_models_and_weights_are_in_the_tables() -> None:
    table = set(re.findall(r'^\| `([\w-]+)` \|', (ROOT / 'README.md').read_text(encoding='utf-8'), re.M))
    assert table == {*MODELS, *in_the_box()}
