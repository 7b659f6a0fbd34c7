"""A run goes on with fewer processes than it began with, as if they were all there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_fit import small, words  # noqa: F401 (fixtures)
from test_survival import start, state_of

from strhub.data.sampler import BatchesInTurn, EpochSampler
from strhub.engine.fit import main

pytestmark = [pytest.mark.filterwarnings('ignore')]


def batches_of(keys: Sequence[int], size: int) -> list[list[int]]:
    return [list(keys[at : at + size]) for at in range(0, len(keys), size)]


def assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Weights bit for bit; statistics of batch normalisation as sums of float32 in another order are."""
    for name, tensor in first['state_dict'].items():
        tolerance = 1e-5 if 'running_' in name else 0
        torch.testing.assert_close(second['state_dict'][name], tensor, rtol=tolerance, atol=tolerance, msg=name)


@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), st.data())
def test_batches_in_turn_are_those_of_the_processes_that_are_missing(
    length: int, turns: int, world: int, size: int, data: st.DataObject
) -> None:
    """Whoever they were, wherever the epoch goes on, and wherever a loading process then dies."""
    whole = [
        batches_of(list(EpochSampler(length, shuffle=True, rank=rank, world=world * turns)), size)
        for rank in range(world * turns)
    ]
    for rank in range(world):
        mine = [whole[turn * world + rank] for turn in range(turns)]
        expected = [batch for together in zip(*mine, strict=True) for batch in together]
        done = data.draw(st.integers(0, len(mine[0]))) * turns
        places = EpochSampler(
            length, shuffle=True, rank=rank, world=world, turns=turns, start=lambda _, done=done: done * size
        )
        batches = BatchesInTurn(places, size)
        assert len(batches) == len(expected)
        assert list(batches) == expected[done:]
        for _ in range(2):
            more = data.draw(st.integers(0, len(expected) - done))
            batches.go_on_after(more * size)
            done += more
            assert list(batches) == expected[done:]


@pytest.mark.slow
def test_run_of_two_goes_on_with_one_and_with_two_again(
    small: list[str],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From the middle of epochs whose last batches are short; halves and a sum of two are exact, so the weights are."""
    command = [word for word in small if not word.startswith(('trainer.max_epochs', 'trainer.val_check_interval'))]
    command += ['trainer.max_epochs=6', 'trainer.val_check_interval=1', 'checkpoint.top_k=100']
    two = ['trainer.devices=2', 'trainer.strategy=ddp', 'trainer.enable_progress_bar=false']

    def train(*more: str) -> None:
        process = start([*command, *more], tmp_path)
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err

    def after(run: str, step: int) -> str:
        (found,) = (tmp_path / run / 'checkpoints').glob(f'step_{step:06d}-*')
        return f'ckpt_path={found}'

    train(*two, 'hydra.run.dir=whole')
    main([*command, after('whole', 5), 'trainer.devices=1', 'trainer.strategy=auto', 'hydra.run.dir=one'])
    assert 'going on with 1 of 2 processes: each takes 2 batches where it took one' in capsys.readouterr().err
    train(*two, after('one', 9), 'hydra.run.dir=again')
    whole = state_of(tmp_path / 'whole')
    assert whole['global_step'] == 12
    for run in ('one', 'again'):
        assert_same(whole, state_of(tmp_path / run))


def test_numbers_that_do_not_divide_are_refused(
    small: list[str],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    main([*small, 'hydra.run.dir=run'])
    last = Path('run/checkpoints/last.ckpt')
    content = torch.load(last, weights_only=True)
    content['callbacks']['Reproducible']['facts']['number of devices'] = 4
    torch.save(content, last)
    with pytest.raises(SystemExit) as status:
        main([*small, f'ckpt_path={last}', 'trainer.num_nodes=3', 'trainer.strategy=ddp'])
    assert status.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert 'this run began with 4 processes and would go on with 3: give 1 or 2 or 4 with trainer.devices=' in message
