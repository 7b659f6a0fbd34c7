"""Processes that load pictures die or hang, and nothing is lost but the picture that did it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch.utils.data._utils import signal_handling

from strhub.data.base import WordDataset
from strhub.data.dataset import FolderDataset
from strhub.data.module import SceneTextDataModule
from strhub.data.steady import children

WORDS = [f'w{number}' for number in range(24)]


class Trap:
    """The project's transform, whose decoder does something bad to the picture of `word`; always, or only once."""

    def __init__(self, transform: Any, word: str, deed: str, once: Path | None = None) -> None:
        self.transform, self.word, self.deed, self.once = transform, word, deed, once

    def open(self, encoded: Path, name: str) -> Any:
        if Path(encoded).stem == self.word and not (self.once and self.once.exists()):
            if self.once:
                self.once.touch()
            if self.deed == 'dies':
                os.kill(os.getpid(), signal.SIGKILL)
            if self.deed == 'dawdles':
                time.sleep(0.4)
                return self.transform.open(encoded, name=name)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as deaf as C code that never returns
            time.sleep(600)
        return self.transform.open(encoded, name=name)

    def __call__(self, image: Any, rng: np.random.Generator) -> Any:
        return self.transform(image, rng)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / 'words'
    folder.mkdir()
    for word in WORDS:
        Image.new('RGB', (40, 16), 'white').save(folder / f'{word}.png')
    (folder / 'labels.tsv').write_text(''.join(f'{word}.png\t{word}\n' for word in WORDS))
    return folder


def data_of(folder: Path, *, patience: float = 60) -> SceneTextDataModule:
    charset = 'w0123456789'
    options: dict[str, Any] = {'val_dir': folder, 'patience': patience}
    data = SceneTextDataModule('', folder, (16, 32), 5, charset, charset, 4, 2, False, **options)
    assert len(data.train_dataset) == len(data.val_dataset) == len(WORDS)  # type: ignore[arg-type]
    return data


def trap(words: Any, word: str, deed: str, once: Path | None = None) -> WordDataset:
    assert isinstance(words, FolderDataset)
    words.transform = Trap(words.transform, word, deed, once)
    return words


def labels_of(loader: Any) -> list[str]:
    return [label for _, labels in loader for label in labels]


@pytest.mark.parametrize('at', [0, 9, 23])
def test_a_worker_that_dies_once_loses_nothing(folder: Path, tmp_path: Path, at: int) -> None:
    data = data_of(folder)
    words = trap(data.val_dataset, WORDS[at], 'dies', tmp_path / 'done')
    loader, started = data.val_dataloader(), time.monotonic()
    assert labels_of(loader) == WORDS
    assert time.monotonic() - started < 20  # of a patience of 60: it is noticed within LOOK
    assert not words.unreadable
    assert (tmp_path / 'done').exists()


def test_the_order_of_training_is_what_it_would_have_been(folder: Path, tmp_path: Path) -> None:
    usual = labels_of(data_of(folder).train_dataloader())
    assert usual != WORDS
    data = data_of(folder)
    data.start_batch = 2
    trap(data.train_dataset, usual[13], 'dies', tmp_path / 'done')
    assert labels_of(data.train_dataloader()) == usual[8:]
    assert (tmp_path / 'done').exists()


def test_a_picture_that_kills_twice_is_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = data_of(folder)
    words = trap(data.val_dataset, 'w9', 'dies')
    loader = data.val_dataloader()
    assert labels_of(loader) == WORDS  # it came blank
    assert words.unreadable == [str(folder / 'w9.png')]
    assert words.is_unreadable(9)
    assert labels_of(loader) == WORDS
    assert f'{folder / "w9.png"} ends the process that decodes it: counts as wrong' in caplog.text


def test_a_plain_loader_before_it_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves PyTorch's handler behind, which has a dead worker raise wherever the program is."""
    monkeypatch.setattr(signal_handling, '_SIGCHLD_handler_set', False)
    signal_handling._set_SIGCHLD_handler()
    assert signal.getsignal(signal.SIGCHLD) != signal.SIG_DFL
    data = data_of(folder)
    trap(data.val_dataset, 'w9', 'dies')
    assert labels_of(data.val_dataloader()) == WORDS
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL


def test_a_picture_that_hangs_the_decoder_is_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = data_of(folder, patience=5)
    words = trap(data.train_dataset, 'w9', 'hangs')
    labels = labels_of(data.train_dataloader())
    assert len(labels) == len(WORDS)
    assert set(WORDS) - set(labels) <= {'w9'}  # another took its place
    assert words.unreadable == [str(folder / 'w9.png')]
    assert 'hangs the decoder: another one takes its place' in caplog.text


def test_a_wait_longer_than_a_look_loses_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('strhub.data.module.LOOK', 0.05)
    data = data_of(folder)
    trap(data.val_dataset, 'w9', 'dawdles')
    loader = data.val_dataloader()
    assert labels_of(loader) == WORDS
    next(iter(loader))  # and the rest of the pass is given up while it is being loaded
    assert labels_of(loader) == WORDS


def test_a_picture_that_hangs_after_its_pass_was_cut_short_is_left_out(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = data_of(folder, patience=3)
    trap(data.val_dataset, 'w4', 'hangs')
    loader = data.val_dataloader()
    next(iter(loader))  # w4 is in a batch that nobody takes
    time.sleep(1)
    workers = len(children())
    next(iter(loader))
    assert len(children()) == workers
    assert f'a process that loads pictures hangs with {folder / "w4.png"}' in caplog.text
    assert len(labels_of(loader)) == len(WORDS)


def test_without_workers_it_is_said_that_a_picture_may_hang_the_run(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = data_of(folder)
    data.num_workers, data.patience = 0, 0
    data.train_dataloader()  # as it would with workers, then
    assert not caplog.text
    data.patience = 60
    data.train_dataloader()
    assert 'data.num_workers=0: a picture that hangs its decoder hangs the run' in caplog.text


def test_workers_that_always_die_end_in_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_of(folder)
    trap(data.val_dataset, 'w0', 'dies')
    monkeypatch.setattr('strhub.data.steady.MAX_DEATHS', 1000)
    monkeypatch.setattr('strhub.data.steady.MAX_FAILURES', 2)
    with pytest.raises(ChildProcessError, match=r'failed 2 times in a row.*try data\.num_workers=0'):
        labels_of(data.val_dataloader())


def test_errors_of_the_data_set_itself_pass(folder: Path) -> None:
    data = data_of(folder)

    def broken(*_: Any) -> Any:
        raise RuntimeError('the data set is broken')

    data.val_dataset.items = broken  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match='the data set is broken'):
        labels_of(data.val_dataloader())


@pytest.mark.parametrize('patience', [-1, float('inf'), 'long', True])
def test_patience_is_checked(folder: Path, patience: Any) -> None:
    with pytest.raises(ValueError, match=r'data\.patience is'):
        data_of(folder, patience=patience)


@pytest.mark.parametrize('error', [EOFError(), ConnectionResetError(104, 'reset'), FileNotFoundError(2, 'no socket')])
def test_a_batch_that_its_worker_took_with_it_is_loaded_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    loader = data_of(folder).val_dataloader()
    begin, failures = loader._begin, [error]

    def lossy() -> Any:
        for number, batch in enumerate(begin()):
            if number == 2 and failures:
                raise failures.pop()
            yield batch

    monkeypatch.setattr(loader, '_begin', lossy)
    assert labels_of(loader) == WORDS
    assert not failures


def test_a_file_that_is_missing_in_a_worker_is_no_lost_batch(folder: Path) -> None:
    data = data_of(folder)

    def broken(*_: Any) -> Any:
        raise FileNotFoundError('the data set is gone')

    data.val_dataset.items = broken  # type: ignore[attr-defined]
    with pytest.raises(FileNotFoundError, match='the data set is gone'):
        labels_of(data.val_dataloader())
