"""launcher=ray on a real cluster of two nodes, against Lightning's own processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_fit import ROOT, small, words  # noqa: F401 (fixtures)
from test_survival import assert_equal, state_of
from test_turns import assert_same

pytest.importorskip('ray')
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings('ignore')]


@pytest.fixture(scope='module')
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('HOME', str(tmp_path_factory.mktemp('home')))
        patch.setenv('OMP_NUM_THREADS', '1')
        patch.setenv('PYTHONPATH', str(ROOT))
        cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 1})
        cluster.add_node(num_cpus=1)
        yield cluster
        cluster.shutdown()


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(ROOT / 'train.py'), *command]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)


def test_a_cluster_trains_as_lightning_does_and_outlives_its_workers(
    small: list[str],  # noqa: F811
    tmp_path: Path,
    cluster: Any,
) -> None:
    command = [word for word in small if not word.startswith('trainer.max_epochs')]
    command += ['trainer.max_epochs=30', 'trainer.enable_progress_bar=false']
    done = run([*command, 'trainer.devices=2', 'trainer.strategy=ddp', 'hydra.run.dir=ddp'], tmp_path)
    assert done.returncode == 0, done.stderr

    on_ray = [*command, 'launcher=ray', f'launcher.address={cluster.address}']
    done = run([*on_ray, 'hydra.run.dir=ray'], tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'Best checkpoint' in done.stdout
    assert_equal(tmp_path / 'ddp', tmp_path / 'ray')

    killed: list[int] = []

    def kill_one() -> None:
        last = tmp_path / 'killed' / 'checkpoints' / 'last.ckpt'
        while not last.exists():
            time.sleep(0.05)
        found = subprocess.run(['pgrep', '-f', 'ray::RayTrainWorker'], capture_output=True, text=True).stdout.split()
        os.kill(int(found[-1]), signal.SIGKILL)
        killed.append(int(found[-1]))

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    done = run([*on_ray, 'hydra.run.dir=killed'], tmp_path)
    assert done.returncode == 0, done.stderr
    assert killed
    assert_equal(tmp_path / 'ddp', tmp_path / 'killed')
    assert state_of(tmp_path / 'killed')['global_step'] == 60


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (['launcher.num_workers=9'], 'the cluster has 2 CPUs; give fewer workers'),
        (['launcher.use_gpu=true'], 'with 1 GPUs each: the cluster has 0 GPUs; give fewer workers'),
        (['launcher.num_workers=two'], "launcher.num_workers is 'two': give a whole number, at least 1"),
        (['launcher.use_gpu=maybe'], "launcher.use_gpu is 'maybe'"),
        (['launcher.min_workers=3'], 'launcher.min_workers is 3: give a whole number from 1 to launcher.num_workers'),
    ],
)
def test_wrong_launchers_get_one_sentence(
    small: list[str],  # noqa: F811
    tmp_path: Path,
    cluster: Any,
    wrong: list[str],
    message: str,
) -> None:
    done = run([*small, 'launcher=ray', f'launcher.address={cluster.address}', *wrong], tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr.splitlines()[-1]
    assert not re.search('Traceback', done.stderr)


def test_a_run_of_two_goes_on_with_one_when_a_node_is_gone_for_good(
    small: list[str],  # noqa: F811
    tmp_path: Path,
    cluster: Any,
) -> None:
    """The last test, for the node does not come back; Ray's checkpoints go where a URL says."""
    command = [word for word in small if not word.startswith('trainer.max_epochs')]
    command += ['trainer.max_epochs=30', 'trainer.val_check_interval=3', 'trainer.enable_progress_bar=false']
    done = run([*command, 'trainer.devices=2', 'trainer.strategy=ddp', 'hydra.run.dir=ddp'], tmp_path)
    assert done.returncode == 0, done.stderr

    def take_one() -> None:
        folder = tmp_path / 'ray' / 'checkpoints'
        while not list(folder.glob('step_0000[1-4]*')):
            time.sleep(0.02)
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    taker = threading.Thread(target=take_one, daemon=True)
    taker.start()
    on_ray = ['launcher=ray', f'launcher.address={cluster.address}', 'launcher.min_workers=1', 'launcher.patience=3']
    storage = f'launcher.storage_path={(tmp_path / "kept").as_uri()}'
    done = run([*command, *on_ray, storage, 'hydra.run.dir=ray'], tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'going on with 1 of 2 processes: each takes 2 batches where it took one' in done.stdout + done.stderr
    assert list((tmp_path / 'kept' / 'ray').rglob('last.ckpt'))
    assert state_of(tmp_path / 'ray')['global_step'] == 60
    assert_same(state_of(tmp_path / 'ddp'), state_of(tmp_path / 'ray'))
