"""A training run: configuration -> data, system, callbacks, trainer -> fit."""

from __future__ import annotations

import inspect
import logging
import re
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from omegaconf import DictConfig, OmegaConf

from strhub.data.module import SceneTextDataModule
from strhub.engine.averaging import SWA, weight_average
from strhub.engine.callbacks import (
    DEVICES,
    FiniteLoss,
    NonFiniteLossError,
    Reproducible,
    StopOnSignal,
    TrainingFailedError,
    TrainingInterruptedError,
    ValidateEvery,
)
from strhub.engine.checkpoints import Checkpoints, newest_whole
from strhub.engine.compile import compile_parts
from strhub.engine.configure import checkpoint_of, run
from strhub.engine.curves import Curves
from strhub.engine.devices import check_devices, pick_device, precision, share_cores, trains_on_cpu
from strhub.engine.errors import INTERRUPTED, door, sentence
from strhub.engine.progress import Progress
from strhub.engine.record import keep_record
from strhub.engine.turns import take_turns
from strhub.models import zoo
from strhub.models.base import BaseSystem
from strhub.models.checkpoint import read_checkpoint
from strhub.terminal import plain

log = logging.getLogger(__name__)

FAILED = 1  # exit status of a run that broke down, as opposed to one that was started wrongly
# What a checkpoint needs for going on; published weights and averaged ones have none of it.
RESUMABLE = {'loops', 'optimizer_states', 'lr_schedulers', 'callbacks'}


def fit(config: DictConfig, *, run_dir: str | Path | None = None, callbacks: Sequence[pl.Callback] = ()) -> Path | None:
    """Trains as `config` says (see configs/main.yaml, and `strhub.engine.configure.compose` to make one).

    Args:
        run_dir: where checkpoints, logs and the resolved configuration go; default: a new folder in outputs/.
        callbacks: more of them for Lightning's Trainer.

    Returns:
        The best checkpoint; None if none was written.

    Raises:
        TrainingInterruptedError: a signal ended the training; it can be resumed.
        TrainingFailedError: it broke down: the loss became nan or inf, a disk is full.
        ValueError, FileNotFoundError: something in the configuration is wrong.
    """
    settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    check(settings)
    folder = Path(run_dir) if run_dir is not None else new_run_dir(settings['model']['name'])
    quieten()
    pl.seed_everything(settings['seed'], verbose=False)
    share_cores(settings)

    system = build_system(settings)
    data = build_data(settings)
    checkpoints = Checkpoints(folder / 'checkpoints', **settings['checkpoint'])
    averaging = weight_average(settings['averaging'])
    trainer = build_trainer(settings, folder, [checkpoints, *([averaging] if averaging else []), *callbacks])
    resume = None if settings['ckpt_path'] is None else checkpoint_of(settings['ckpt_path'])
    state = None if resume is None else check_resumable(resume, system)
    # opened before a file is written, for they may be missing
    words = len(data.train_dataset)  # type: ignore[arg-type]
    began = state['facts'][DEVICES] if state else settings['launcher'].get('num_workers')
    if began is not None:
        take_turns(trainer, system, data, began=began)
    if state is not None:
        compare(state, trainer)
    val_words = len(data.val_dataset) if trainer.limit_val_batches else 0  # type: ignore[arg-type]
    if trainer.is_global_zero:
        (folder / 'checkpoints').mkdir(parents=True, exist_ok=True)
        OmegaConf.save(OmegaConf.create(settings), folder / 'config.yaml')
        keep_record(folder, data, settings['replay'], validates=val_words > 0)

    log.info('training %s in %s on %d words, validating on %d', system.hparams['name'], folder, words, val_words)
    try:
        trainer.fit(system, datamodule=data, ckpt_path=resume)
    except NonFiniteLossError:  # says all itself
        raise
    except (OSError, TrainingFailedError) as error:
        kept = newest_whole(folder)
        hint = '' if kept is None else f'; {kept} is whole: once this is mended, go on with ckpt_path={folder}'
        raise TrainingFailedError(f'training stopped: {sentence(error)}{hint}') from error
    if isinstance(averaging, SWA):
        averaging.apply(trainer, system)  # has nothing left to do but in a run killed after its last step
    if isinstance(averaging, SWA) and averaging.is_applied and trainer.num_val_batches:
        result = trainer.validate(system, datamodule=data, verbose=False)
        checkpoints.keep_averaged(trainer, result[0][checkpoints.monitor])
    return checkpoints.best_path


def check(settings: Mapping[str, Any]) -> None:
    """Refuses what none of the parts would complain about in words that a user understands."""
    for section in ('model', 'data', 'trainer', 'averaging', 'checkpoint'):
        if not isinstance(settings.get(section), dict):
            raise ValueError(f'{section} is {settings.get(section)!r}: it is a section of several keys, see --help')
    threads, top_k = settings['threads'], settings['checkpoint']['top_k']
    if type(settings['seed']) is not int or settings['seed'] < 0:
        raise ValueError(f'seed is {settings["seed"]!r}: give a whole number, at least 0')
    if threads is not None and (type(threads) is not int or threads < 1):
        raise ValueError(f'threads is {threads!r}: give a whole number, at least 1, or null')
    for name, others in {'max_epochs': ', -1 for no end, or null', 'max_steps': ', or -1 for no end'}.items():
        value = settings['trainer'].get(name, -1)
        if not (type(value) is int and value >= -1) and not (value is None and name == 'max_epochs'):
            raise ValueError(f'trainer.{name} is {value!r}: give a whole number{others}')
    minutes = settings['checkpoint'].get('minutes')
    if minutes is not None and (isinstance(minutes, bool) or not isinstance(minutes, int | float) or minutes <= 0):
        raise ValueError(f'checkpoint.minutes is {minutes!r}: give a number above 0, or null')
    if type(top_k) is not int or top_k < 0:
        raise ValueError(f'checkpoint.top_k is {top_k!r}: give a whole number, at least 0')


def new_run_dir(name: str) -> Path:
    """outputs/<model>/<time>, or the folder that Hydra has made for this run."""
    from hydra.core.hydra_config import HydraConfig

    if HydraConfig.initialized():
        folder = Path(HydraConfig.get().runtime.output_dir)
        return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    return Path('outputs', name, time.strftime('%Y-%m-%d_%H-%M-%S'))


def quieten() -> None:
    """Silences warnings about what is meant to be so, and all processes but the first."""
    logging.getLogger('lightning.pytorch.utilities.rank_zero').setLevel(logging.WARNING)
    if getattr(rank_zero_only, 'rank', 0):
        logging.getLogger().setLevel(logging.WARNING)
    for message in (
        'not resumable',  # it is: the sampler knows where to start
        'does not have many workers',
        'smaller than the logging interval',
        'sync_dist=True',  # the system sums over all ranks itself
        'LeafSpec',
        r'lr_scheduler\.step.* before .*optimizer\.step',  # a schedule restored before its optimiser's first step
    ):
        warnings.filterwarnings('ignore', f'.*{message}')


def build_system(settings: Mapping[str, Any]) -> BaseSystem:
    """The model of the configuration, with the weights it starts from."""
    system = zoo.build(settings['model'])
    source = settings['pretrained']
    if source is not None:
        if settings['ckpt_path'] is not None:
            raise ValueError(
                'pretrained= and ckpt_path= are both given: pretrained= starts a new run from weights, '
                'ckpt_path= goes on with a stopped one; leave out either'
            )
        start_from(system, source)
    if settings['channels_last']:
        system.to(memory_format=torch.channels_last)
    if settings['compile']:
        on_cpu = trains_on_cpu(settings['trainer']['accelerator'])
        compile_parts(system, torch.device('cpu') if on_cpu else pick_device('auto'))
    return system


def start_from(system: BaseSystem, source: str) -> None:
    """Loads weights as far as they fit, and shows what became of them."""
    report = zoo.load_pretrained(system, source)
    fresh, fitted = len(report.new), len(report.kept) + len(report.resized)
    if fresh > fitted:
        name = system.hparams['name']
        raise ValueError(
            f'pretrained={source} fits only {fitted} of the {fresh + fitted} tensors of {name}: '
            'build the model it is of with +experiment=…'
        )
    log.info('starting from the weights of %s\n%s', source, report)


def build_data(settings: Mapping[str, Any]) -> SceneTextDataModule:
    model, data = settings['model'], settings['data']
    root_val = Path(data['root_dir'], 'val')
    if data['val_dir'] is None and data['train_dir'] != 'rendered' and not root_val.exists():
        raise FileNotFoundError(
            f'{root_val} does not exist: say with data.val_dir=… which pictures to validate on, '
            'or train on rendered words with dataset=rendered'
        )
    shared = ('img_size', 'max_label_length', 'charset_train', 'charset_test', 'batch_size')
    return SceneTextDataModule(**data, **{key: model[key] for key in shared}, seed=settings['seed'])


def build_trainer(settings: Mapping[str, Any], folder: Path, callbacks: Sequence[pl.Callback]) -> pl.Trainer:
    arguments = dict(settings['trainer'])
    known = inspect.signature(pl.Trainer.__init__).parameters
    for name in arguments:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f'did you mean trainer.{near[0]}?' if near else 'see the documentation of lightning.pytorch.Trainer'
            raise ValueError(f"trainer.{name} is no argument of Lightning's Trainer: {hint}")
    if arguments.get('fast_dev_run'):  # Lightning's dry run leaves nothing on the disk
        callbacks = [callback for callback in callbacks if not isinstance(callback, Checkpoints)]
    if settings['launcher']['name'] == 'ray':
        from strhub.engine.ray import trainer_arguments

        arguments |= trainer_arguments(arguments)
    check_devices(arguments['devices'], arguments['accelerator'])
    facts = {'seed': settings['seed'], 'model.batch_size': settings['model']['batch_size']}
    facts |= {f'trainer.{key}': arguments[key] for key in ('max_epochs', 'max_steps')}  # the schedule ends there
    safety: list[pl.Callback] = [
        Reproducible(settings['seed'], facts),
        FiniteLoss(folder),
        *([] if arguments.get('fast_dev_run') else [Curves(folder, reads_whole_batches=settings['compile'])]),
        ValidateEvery(arguments.pop('val_check_interval')),
        *([Progress()] if arguments['enable_progress_bar'] else []),
    ]
    arguments.setdefault('enable_model_summary', False)
    arguments['use_distributed_sampler'] = False  # the data module's own sampler serves each process its share
    if 'logger' not in arguments:
        arguments['logger'] = pl.loggers.TensorBoardLogger(folder, name='', version='tensorboard')
        safety.append(pl.callbacks.LearningRateMonitor('step'))
    arguments['precision'] = precision(arguments['precision'], arguments['accelerator'])
    try:
        # A callback that raises comes last but for the checkpoints, which Lightning calls after all others.
        return pl.Trainer(**arguments, callbacks=[*safety, *callbacks, StopOnSignal()], default_root_dir=folder)
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        raise ValueError(f'Lightning refuses the trainer section: {error}') from error


def check_resumable(path: Path, system: BaseSystem) -> dict[str, Any]:
    """Refuses a checkpoint that training cannot go on from, saying why; else what Reproducible has put into it."""
    trained = read_checkpoint(path).hparams or {}
    content = torch.load(path, map_location='cpu', mmap=True, weights_only=True)
    if not content.keys() >= RESUMABLE or 'Reproducible' not in content['callbacks']:
        raise ValueError(
            f'ckpt_path={path} holds weights but not the state of a training of ours: '
            f'start a new one from them with pretrained={path}'
        )
    differing = [key for key, value in system.hparams.items() if key in trained and trained[key] != value]
    if differing := [key for key in differing if key != 'batch_size']:
        changes = ', '.join(f'model.{key}={trained[key]!r} there and {system.hparams[key]!r} here' for key in differing)
        raise ValueError(f'ckpt_path={path} is of another model: {changes}')
    return content['callbacks']['Reproducible']


def compare(state: dict[str, Any], trainer: pl.Trainer) -> None:
    """Refuses to go on with a run other than it was, before anything is written."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Reproducible):
            callback.note(trainer)
            callback.load_state_dict(state)


def launch(config: DictConfig) -> Path | None:
    """`fit` where the launcher section says."""
    name = config.launcher.get('name')
    if name == 'ray':
        from strhub.engine.ray import fit_on_ray

        check(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
        return fit_on_ray(config, new_run_dir(config.model.name))
    if name != 'local':
        raise ValueError(f'launcher.name is {name!r}: give launcher=local or launcher=ray')
    return fit(config)


def train(config: DictConfig) -> None:
    """One run of the command line, with its last words."""
    program = shlex.join(sys.argv[:1]) if sys.argv[0].endswith('.py') else 'strhub train'
    program = f'./{program}' if program == 'train.py' else program
    if program == 'strhub train':
        # Lightning starts the processes of the other devices with these words.
        sys.argv = [str(Path(__file__).parents[1] / '__main__.py'), 'train', *sys.argv[1:]]
    with exiting(program):
        best = launch(config)
        if best is None:
            return
        where = shlex.quote(str(best))
        test, read = (re.sub(r'train(\.py)?$', rf'{name}\1', program) for name in ('test', 'read'))
        say(f'\nBest checkpoint: {where}', f'Test it:   {test} {where}', f'Read with: {read} {where} --images FILES')


@contextmanager
def exiting(program: str) -> Iterator[None]:
    """For a door around `fit`: a training that is stopped or breaks down says so, and how to go on, and exits."""
    try:
        yield
    except TrainingInterruptedError as stop:
        if stop.checkpoint is None:
            say('\nStopped; there was nothing to save yet')
        else:
            where = shlex.quote(str(stop.checkpoint))
            say(f'\nStopped; the state is saved in {where}', f'Go on:  {program} ckpt_path={where}')
        sys.exit(128 + stop.signum)
    except TrainingFailedError as error:
        print(f'error: {plain(error)}', file=sys.stderr)  # whole, even where memory ran out: it says how to go on
        sys.exit(FAILED)
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # Ctrl-C before the first step, as Lightning reports it
            sys.exit(INTERRUPTED)
        if isinstance(end, SIGTERMException):
            sys.exit(128 + signal.SIGTERM)
        raise


@rank_zero_only
def say(*lines: str) -> None:
    print(*(plain(line, spared='\n') for line in lines), sep='\n')


@door
def main(argv: Sequence[str] | None = None) -> None:
    """`./train.py [+experiment=NAME] [key=value …]`"""
    run(train, sys.argv[1:] if argv is None else argv)
