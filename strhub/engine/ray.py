"""launcher=ray: the same training in processes of a Ray cluster, which outlives those of them that die.

Ray starts as many workers as it is told; how many that is after a failure is decided here, and not by Ray's own elastic
scaling, since a run can only go on with a number that divides the one it began with.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from omegaconf import DictConfig, OmegaConf

from strhub.engine.callbacks import TrainingFailedError
from strhub.engine.checkpoints import LAST, alone, newest_whole
from strhub.engine.turns import accepted

log = logging.getLogger(__name__)

NAME = 'ray'
STORED = 'ray'  # folder of a run where Ray keeps what it needs for going on
SAY_EVERY = 60  # seconds, while it waits


def check(settings: Mapping[str, Any]) -> None:
    """Refuses a launcher section that makes no sense."""
    launcher = settings['launcher']
    for key, least in {'num_workers': 1, 'cpus_per_worker': 1, 'max_failures': 0, 'patience': 1}.items():
        if type(launcher[key]) is not int or launcher[key] < least:
            raise ValueError(f'launcher.{key} is {launcher[key]!r}: give a whole number, at least {least}')
    fewest, most = launcher['min_workers'], launcher['num_workers']
    if fewest is not None and (type(fewest) is not int or not 1 <= fewest <= most):
        raise ValueError(
            f'launcher.min_workers is {fewest!r}: give a whole number from 1 to launcher.num_workers, which is {most}, '
            'or null'
        )
    if launcher['use_gpu'] not in (True, False, 'auto'):
        raise ValueError(f'launcher.use_gpu is {launcher["use_gpu"]!r}: give true, false or auto')


def fit_on_ray(config: DictConfig, folder: Path) -> Path | None:
    """Trains as `config` says in `launcher.num_workers` processes; arguments and errors are those of `fit`.

    Returns:
        The newest checkpoint in `folder`, if this machine sees what the first process has written there.
    """
    import ray
    from ray import train
    from ray.train.torch import TorchConfig, TorchTrainer

    settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    check(settings)
    launcher, folder = settings['launcher'], folder.absolute()
    started = not ray.is_initialized()
    if started:
        try:
            ray.init(address=launcher['address'], log_to_driver=True, logging_level=logging.WARNING)
        except ConnectionError as error:
            raise ValueError(f'launcher.address={launcher["address"]}: there is no Ray cluster ({error})') from error
    try:
        resources = ray.cluster_resources()
        use_gpu = bool(resources.get('GPU')) if launcher['use_gpu'] == 'auto' else launcher['use_gpu']
        fewest = 'num_workers' if launcher['min_workers'] is None else 'min_workers'
        each = {'CPU': launcher['cpus_per_worker'], **({'GPU': 1} if use_gpu else {})}
        for kind, amount in each.items():
            if launcher[fewest] * amount > resources.get(kind, 0):
                raise ValueError(
                    f'launcher.{fewest}={launcher[fewest]} with {amount} {kind}s each: the cluster has '
                    f'{resources.get(kind, 0):.0f} {kind}s; give fewer workers, or another launcher.address='
                )
        storage = launcher['storage_path'] or folder / STORED
        leave_it_to_us: Any = {'max_failures': 0, 'controller_failure_limit': 0, 'max_preemption_failures': 0}
        failures = 0
        while True:
            trainer = TorchTrainer(
                work,
                train_loop_config={'settings': settings, 'folder': str(folder), 'cwd': str(Path.cwd())},
                scaling_config=train.ScalingConfig(
                    num_workers=gather(launcher, each), use_gpu=use_gpu, resources_per_worker=each
                ),
                torch_config=TorchConfig(backend=None if use_gpu else 'gloo'),
                run_config=train.RunConfig(
                    name=folder.name,  # under which Ray finds the last checkpoint again
                    storage_path=str(storage) if '://' in str(storage) else str(Path(storage).absolute()),
                    failure_config=train.FailureConfig(**leave_it_to_us),
                    checkpoint_config=train.CheckpointConfig(num_to_keep=2),
                ),
            )
            try:
                result = trainer.fit()
                break
            except train.TrainingFailedError as error:
                failures += isinstance(error, train.WorkerGroupError)  # and not a node taken away with notice
                reason = str(error).strip().splitlines()[-1]
                if failures > launcher['max_failures'] or is_beyond_help(error):
                    raise TrainingFailedError(
                        f'training stopped: {reason}; go on with the same command and '
                        f'hydra.run.dir={folder} ckpt_path=auto'
                    ) from error
                log.warning('going on from the last checkpoint: %s', reason)
        log.info('Ray keeps the checkpoints of this run in %s', result.path)
        return newest_whole(folder) if folder.is_dir() else None
    finally:
        if started:
            ray.shutdown()


def is_beyond_help(error: Exception) -> bool:
    """Whether Ray itself broke down, for another reason than that a node left before its workers had started."""
    cause = getattr(error, 'controller_failure', None)
    return cause is not None and not type(cause).__name__.startswith('WorkerGroupStartup')


def gather(launcher: Mapping[str, Any], each: Mapping[str, float]) -> int:
    """How many workers to start: all if there is room for them within `launcher.patience` seconds, or else the most
    that divide their number; waits as long as these are fewer than `launcher.min_workers`.
    """
    wanted, fewest = launcher['num_workers'], launcher['min_workers'] or launcher['num_workers']
    began = said = time.monotonic()
    while (there := room(each)) < wanted:
        now = time.monotonic()
        most = max((number for number in accepted(wanted) if number <= there), default=0)
        if now - began >= launcher['patience'] and most >= fewest:
            return most
        if now - said >= SAY_EVERY:
            log.warning('waiting for %d workers: the cluster has room for %d', fewest, there)
            said = now
        time.sleep(0.5)
    return wanted


def room(each: Mapping[str, float]) -> int:
    """How many workers that need `each` (CPU, GPU) the nodes of the cluster have room for now."""
    import ray

    def times(resources: Mapping[str, float]) -> int:
        return int(min(resources.get(kind, 0) // amount for kind, amount in each.items()))

    nodes = sum(times(node['Resources']) for node in ray.nodes() if node['Alive'])
    return min(nodes, times(ray.available_resources()))


def work(given: Mapping[str, Any]) -> None:
    """What each process does: `fit`, from Ray's last checkpoint if this is not the first try."""
    from ray import train

    from strhub.engine.fit import fit

    os.chdir(given['cwd'] if Path(given['cwd']).is_dir() else '.')
    settings = dict(given['settings'])
    settings['threads'] = settings['threads'] or settings['launcher']['cpus_per_worker']
    checkpoint = train.get_checkpoint()
    with checkpoint.as_directory() if checkpoint else nullcontext() as found:
        if found is not None:
            settings |= {'ckpt_path': str(Path(found, LAST)), 'pretrained': None}
        fit(
            OmegaConf.create(settings),
            run_dir=given['folder'],
            callbacks=[Report(Path(given['folder'], 'checkpoints'))],
        )


def trainer_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of Lightning's Trainer that are otherwise within a process of Ray."""
    from ray.train.lightning import RayDDPStrategy, RayFSDPStrategy, RayLightningEnvironment

    strategy = RayFSDPStrategy() if arguments['strategy'] == 'fsdp' else RayDDPStrategy()
    accelerator = 'auto' if torch.cuda.is_available() else 'cpu'
    environment = {'strategy': strategy, 'plugins': [RayLightningEnvironment()]}
    return {**environment, 'accelerator': accelerator, 'devices': 'auto', 'num_nodes': 1}


class Report(pl.callbacks.Checkpoint):
    """Gives Ray the last checkpoint after each validation, for which it has to be listed behind `Checkpoints`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        from ray import train

        if trainer.state.fn != 'fit' or trainer.sanity_checking:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        metrics['step'] = trainer.global_step
        if not trainer.is_global_zero:
            train.report(metrics)
            return
        with alone(self.folder / LAST) as folder:
            train.report(metrics, checkpoint=train.Checkpoint.from_directory(str(folder)))
