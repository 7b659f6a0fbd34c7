"""A training that is killed and resumed ends as if nothing had happened, and nothing of worth is lost on the way."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from toy import Recorder, ToyData, toy_system

from strhub.engine.averaging import EMA, SWA, weight_average
from strhub.engine.callbacks import (
    FiniteLoss,
    NonFiniteLossError,
    Reproducible,
    StopOnSignal,
    TrainingFailedError,
    TrainingInterruptedError,
    ValidateEvery,
)
from strhub.engine.checkpoints import Checkpoints
from strhub.models.base import BaseSystem

pytestmark = [
    pytest.mark.filterwarnings('ignore::UserWarning'),
    pytest.mark.filterwarnings('ignore::DeprecationWarning'),
    pytest.mark.filterwarnings('ignore::FutureWarning'),
]
EPOCHS, STEPS = 3, 18  # 22 items in batches of 4
AVERAGING = {
    'none': lambda: None,
    'swa': lambda: SWA(start=0.5, snapshots=3, bn_batches=2),
    'ema': lambda: EMA(decay=0.9),
}


class Signal(pl.Callback):
    """Sends a signal in the middle of a training batch or a validation batch, counted from 1."""

    def __init__(self, *, batch: int = 0, val_batch: int = 0, signum: int = signal.SIGINT) -> None:
        self.batch, self.val_batch, self.signum = batch, val_batch, signum
        self.batches = self.val_batches = 0

    def on_train_batch_start(self, *_: Any) -> None:
        self.batches += 1
        if self.batches == self.batch:
            os.kill(os.getpid(), self.signum)

    def on_validation_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.sanity_checking:
            return
        self.val_batches += 1
        if self.val_batches == self.val_batch:
            os.kill(os.getpid(), self.signum)


class Run:
    """A toy training and what came of it."""

    def __init__(
        self,
        folder: Path,
        *callbacks: pl.Callback,
        averaging: str = 'none',
        resume: Path | None = None,
        num_workers: int = 0,
        every: int | float = 4,
        top_k: int = 3,
        monitor: str = 'val_accuracy',
        data: ToyData | None = None,
        system: BaseSystem | None = None,
        seed: int = 0,
        **trainer: Any,
    ) -> None:
        self.recorder, self.system = Recorder(), system or toy_system()
        self.checkpoints = Checkpoints(folder, monitor=monitor, top_k=top_k)
        self.average = AVERAGING[averaging]()
        folder.mkdir(exist_ok=True)
        self.trainer = pl.Trainer(
            **{'max_epochs': EPOCHS, 'num_sanity_val_steps': 1, **trainer},
            accelerator='cpu',
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            callbacks=[
                Reproducible(seed, {'seed': seed}),
                FiniteLoss(folder),
                ValidateEvery(every),
                *([self.average] if self.average else []),
                self.recorder,
                *callbacks,
                self.checkpoints,
                StopOnSignal(),
            ],
        )
        self.stopped: TrainingInterruptedError | None = None
        try:
            data = data or ToyData(num_workers=num_workers)
            self.trainer.fit(self.system, datamodule=data, ckpt_path=resume, weights_only=True)
        except TrainingInterruptedError as stop:
            self.stopped = stop

    @property
    def losses(self) -> list[float]:
        return self.recorder.losses

    def weights(self) -> dict[str, torch.Tensor]:
        return self.system.state_dict()


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Runs that nobody interrupted."""
    return {kind: Run(tmp_path_factory.mktemp(kind), averaging=kind) for kind in AVERAGING}


# In the middle of an epoch, where a validation is due, after the end of an epoch, in the last quarter.
@pytest.mark.parametrize('averaging', list(AVERAGING))
@pytest.mark.parametrize('when', [{'batch': 3}, {'batch': 8}, {'batch': 15}, {'val_batch': 5}])
def test_interrupted_training_ends_as_an_uninterrupted_one(
    tmp_path: Path, whole: dict[str, Run], averaging: str, when: dict[str, int]
) -> None:
    first = Run(tmp_path, Signal(**when), averaging=averaging)
    assert first.stopped is not None
    assert first.stopped.checkpoint == tmp_path / 'last.ckpt'
    second = Run(tmp_path, averaging=averaging, resume=first.stopped.checkpoint)

    expected = whole[averaging]
    assert second.stopped is None
    assert first.losses
    assert first.losses + second.losses == expected.losses
    assert {**first.recorder.rates, **second.recorder.rates} == expected.recorder.rates
    for name, tensor in expected.weights().items():
        torch.testing.assert_close(second.weights()[name], tensor, rtol=0, atol=0, msg=name)


def test_worker_processes_do_not_change_what_is_seen(tmp_path: Path, whole: dict[str, Run]) -> None:
    first = Run(tmp_path, Signal(batch=8), num_workers=2)
    second = Run(tmp_path, num_workers=2, resume=tmp_path / 'last.ckpt')
    assert first.losses + second.losses == whole['none'].losses


def test_gradients_accumulated_over_batches_are_not_lost(tmp_path: Path) -> None:
    (tmp_path / 'whole').mkdir()
    expected = Run(tmp_path / 'whole', accumulate_grad_batches=4, every=2)
    first = Run(tmp_path / 'parts', Signal(batch=2), accumulate_grad_batches=4, every=2)
    assert len(first.losses) == 4  # the step was finished
    second = Run(tmp_path / 'parts', accumulate_grad_batches=4, every=2, resume=tmp_path / 'parts' / 'last.ckpt')
    assert first.losses + second.losses == expected.losses


def test_run_limited_by_steps_resumes_from_the_end_of_an_epoch(tmp_path: Path) -> None:
    """What a hard kill leaves: the checkpoint of the last validation, here after the last batch of an epoch."""
    expected = Run(tmp_path / 'whole', max_epochs=-1, max_steps=14, every=6)
    first = Run(tmp_path / 'parts', Signal(batch=9), max_epochs=-1, max_steps=14, every=6)
    checkpoint = tmp_path / 'parts' / first.checkpoints.best[0][2]
    assert checkpoint.name.startswith('step_000006-')
    second = Run(tmp_path / 'parts', max_epochs=-1, max_steps=14, every=6, resume=checkpoint)
    assert second.losses == expected.losses[6:]


def test_every_batch_draws_its_own_random_numbers(whole: dict[str, Run], tmp_path: Path) -> None:
    other = Run(tmp_path, seed=1, max_epochs=1)
    assert other.losses[0] != whole['none'].losses[0]  # the same pictures, another dropout


@pytest.mark.parametrize(
    ('every', 'options', 'steps'),
    [
        (4, {}, [4, 8, 12, 16, 18]),  # and after the last step
        (1000, {}, [6, 12, 18]),  # an epoch has fewer
        (0.5, {}, [3, 6, 9, 12, 15, 18]),
        (3, {'accumulate_grad_batches': 2}, [3, 6, 9]),  # steps, not batches
        (100, {'max_epochs': -1, 'max_steps': 4}, [4]),
        (4, {'limit_val_batches': 0}, []),
    ],
)
def test_validation_schedule(tmp_path: Path, every: int | float, options: dict[str, Any], steps: list[int]) -> None:
    assert Run(tmp_path, every=every, **options).recorder.validated == steps


class Scores(pl.Callback):
    """Validation results as the test wants them, under a name of their own."""

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.log('score', float(self.scores.pop(0)))


def test_best_and_last_checkpoints_are_kept(tmp_path: Path) -> None:
    run = Run(tmp_path, Scores(10, 30, 20, 30, 5), top_k=2, monitor='score')
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'last.ckpt',
        'previous.ckpt',
        'step_000008-acc_30.00.ckpt',
        'step_000016-acc_30.00.ckpt',
    ]
    assert run.checkpoints.best_path == tmp_path / 'step_000016-acc_30.00.ckpt'  # the later of equals
    assert torch.load(tmp_path / 'last.ckpt', weights_only=True)['global_step'] == STEPS


def test_resumed_run_remembers_the_best(tmp_path: Path) -> None:
    Run(tmp_path, Scores(90, 10), Signal(batch=10), monitor='score')
    run = Run(tmp_path, Scores(20, 30, 40), resume=tmp_path / 'last.ckpt', top_k=2, monitor='score')
    assert [name for *_, name in run.checkpoints.best] == ['step_000004-acc_90.00.ckpt', 'step_000018-acc_40.00.ckpt']


def test_failed_write_leaves_the_last_checkpoint_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, max_epochs=1)
    before = (tmp_path / 'last.ckpt').read_bytes()

    def fail(path: Path, **_: Any) -> None:
        Path(path).write_bytes(b'half of it')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(run.trainer, 'save_checkpoint', fail)
    with pytest.raises(TrainingFailedError, match='no space left'):
        run.checkpoints.save(run.trainer, tmp_path / 'last.ckpt')
    assert (tmp_path / 'last.ckpt').read_bytes() == before


def test_terminated_training_restores_the_handlers(tmp_path: Path) -> None:
    before = [signal.getsignal(signum) for signum in StopOnSignal.SIGNALS]
    run = Run(tmp_path, Signal(batch=2, signum=signal.SIGTERM))
    assert run.stopped is not None
    assert run.stopped.signum == signal.SIGTERM
    assert [signal.getsignal(signum) for signum in StopOnSignal.SIGNALS] == before


class Poison(pl.Callback):
    """Spoils the pictures of one batch."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.batch:
            batch[0][1, 0, 5, 5] = float('nan')
            self.labels = batch[1]


@pytest.mark.parametrize('batch', [2, 5])  # in the middle of the epoch, and right before validation at its end
def test_loss_that_is_no_number_stops_and_saves_its_batch(tmp_path: Path, batch: int) -> None:
    poison = Poison(batch)
    with pytest.raises(NonFiniteLossError, match=rf'step {batch + 1} is nan or inf.*trainer\.precision'):
        Run(tmp_path, poison, every=100)
    saved = torch.load(tmp_path / f'nonfinite_step_{batch + 1:06d}_rank_0.pt', weights_only=True)
    assert saved['labels'] == poison.labels
    assert saved['images'].isnan().sum() == 1
    assert not (tmp_path / 'last.ckpt').exists()  # nothing was written that holds ruined weights


def test_swa_is_the_mean_of_snapshots_and_holds_the_learning_rate(tmp_path: Path) -> None:
    snapshots: dict[int, dict[str, torch.Tensor]] = {}

    class Snap(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
            snapshots[trainer.global_step] = {k: v.clone() for k, v in pl_module.named_parameters()}

    run = Run(tmp_path, Snap(), averaging='swa')
    for name, parameter in run.system.named_parameters():
        mean = sum(snapshots[step][name] for step in (9, 14, 18)) / 3
        torch.testing.assert_close(parameter.detach(), mean.detach())
    rates = run.recorder.rates
    assert len({rates[step] for step in range(9, 19)}) == 1
    assert rates[9] != rates[8]
    # statistics of the averaged network, not an average of statistics
    norm = next(m for m in run.system.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert norm.num_batches_tracked == 2
    assert norm.momentum == 0.1


def test_ema_is_what_validation_and_checkpoints_use(tmp_path: Path, whole: dict[str, Run]) -> None:
    seen: list[torch.Tensor] = []

    class Look(pl.Callback):
        def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
            seen.append(next(pl_module.parameters()).detach().clone())

    run = Run(tmp_path, Look(), averaging='ema')
    assert run.losses == whole['none'].losses  # training itself is not touched
    checkpoint = torch.load(tmp_path / run.checkpoints.best[0][2], weights_only=True)
    name = next(iter(dict(run.system.named_parameters())))
    torch.testing.assert_close(checkpoint['state_dict'][name], seen[-1])
    torch.testing.assert_close(run.weights()[name], seen[-1])
    assert not torch.equal(checkpoint['trained_weights'][name], seen[-1])


@pytest.mark.parametrize(
    ('averaging', 'message'),
    [
        ({'kind': 'mean'}, "averaging.kind is 'mean': choose"),
        ({'kind': 'swa', 'start': 1.5, 'snapshots': 6, 'bn_batches': 5}, 'averaging.start is 1.5'),
        ({'kind': 'ema', 'decay': 2}, 'averaging.decay is 2'),
        ({'kind': 'ema', 'start': 2}, 'averaging=ema does not take start'),
    ],
)
def test_wrong_averaging_is_refused(averaging: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        weight_average(averaging)


def test_resume_with_another_seed_is_refused(tmp_path: Path) -> None:
    Run(tmp_path, max_epochs=1)
    with pytest.raises(ValueError, match='had seed=0 and this one has 1'):
        Run(tmp_path, resume=tmp_path / 'last.ckpt', seed=1)


def test_processes_agree_on_when_to_stop() -> None:
    """However short the epochs are: each process has seen the signal, or not, at another step."""

    class Strategy:
        root_device = torch.device('cpu')

        def reduce(self, received: torch.Tensor, reduce_op: str) -> torch.Tensor:
            return torch.tensor(signal.SIGTERM)  # from the other process

    class Trainer:
        world_size, strategy, is_last_batch, accumulate_grad_batches = 2, Strategy(), False, 1

    def train(stop: StopOnSignal) -> None:
        for _ in range(100):
            for batch_idx in range(3):
                stop.on_train_batch_end(Trainer(), None, None, None, batch_idx)  # type: ignore[arg-type]

    with pytest.raises(TrainingInterruptedError) as error:
        train(StopOnSignal())
    assert error.value.signum == signal.SIGTERM
