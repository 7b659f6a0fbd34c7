"""A trial of several processes: the trial's own is the first, Ray starts the others beside it, and DDP joins them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import ray
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from omegaconf import DictConfig
from ray.exceptions import WorkerCrashedError
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from strhub.engine.callbacks import NonFiniteLossError, TrainingFailedError
from strhub.engine.fit import fit

LOOK_EVERY = 1.0  # seconds between two looks at whether all processes are alive


def fit_over(workers: int, config: DictConfig, run_dir: Path, callbacks: Sequence[pl.Callback]) -> None:
    """`fit` in `workers` processes, this one first; each has one bundle of the trial's placement group.

    Args:
        callbacks: for each process, which gets a copy.

    Raises:
        NonFiniteLossError: the loss became nan or inf.
        TrainingFailedError: one of the other processes died.
    """
    if workers == 1:
        fit(config, run_dir=run_dir, callbacks=callbacks)
        return
    group = get_current_placement_group()
    assert group is not None  # Tune gives each trial one
    place = {'MASTER_ADDR': ray.util.get_node_ip_address(), 'MASTER_PORT': str(find_free_network_port())}
    config.trainer.num_nodes = workers  # each sees one device, as if it were a machine of its own
    others = [
        follow.options(
            num_cpus=bundle.get('CPU', 0),
            num_gpus=bundle.get('GPU', 0),
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, rank),
        ).remote({**place, 'NODE_RANK': str(rank)}, Path.cwd(), partial(fit, config, run_dir=run_dir), callbacks)
        for rank, bundle in enumerate(group.bundle_specs)
        if rank > 0
    ]
    join({**place, 'NODE_RANK': '0'})
    failures: list[BaseException] = []

    def lead() -> None:
        try:
            fit(config, run_dir=run_dir, callbacks=callbacks)
        except BaseException as error:  # Ray ends a trial by SystemExit
            failures.append(error)

    # Apart, since whoever waits for a dead process in a collective does not wake up.
    leader = threading.Thread(target=lead, daemon=True)
    leader.start()
    while leader.is_alive():
        leader.join(LOOK_EVERY)
        done, _ = ray.wait(others, num_returns=len(others), timeout=0)
        try:
            ray.get(done)  # raises what went wrong there
        except WorkerCrashedError as error:
            raise TrainingFailedError('a process of the trial died, perhaps for want of memory') from error
    if failures:
        raise failures[0]


@ray.remote(max_calls=1, max_retries=0)  # each has a process of its own, and is started again with its trial alone
def follow(place: dict[str, str], cwd: Path, task: Any, callbacks: Sequence[pl.Callback]) -> None:
    """What the other processes do."""
    os.chdir(cwd)
    leave_slurm()
    logging.getLogger('strhub').setLevel(logging.WARNING)
    join(place)
    with suppress(NonFiniteLossError):  # the first process has it, too, and says it
        task(callbacks=callbacks)


def leave_slurm() -> None:
    """Forgets the job that Ray runs in, which Lightning would take for one of its own."""
    for name in [name for name in os.environ if name.startswith('SLURM_')]:
        del os.environ[name]


def join(place: dict[str, str]) -> None:
    """Tells Lightning which of the trial's processes this one is."""
    os.environ.update(place, LOCAL_RANK='0')
