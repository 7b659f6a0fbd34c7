"""A loader that outlives its workers: what a dead or hanging one was to load is loaded by others."""

from __future__ import annotations

import logging
import math
import multiprocessing
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils import signal_handling

from strhub.data.base import WordDataset
from strhub.data.sampler import BatchesInTurn, EpochSampler

logger = logging.getLogger(__name__)

# What PyTorch says of a worker that died, and of one that it waited for in vain; an error within a worker has its own.
DEAD, LATE = re.compile(r'DataLoader worker \(pid'), re.compile(r'DataLoader timed out')
# Batches lie in memory that their worker hands over when asked: from one that has died meanwhile this is what comes.
LOST = (EOFError, ConnectionError, FileNotFoundError)
MAX_FAILURES = 5  # in a row, with no batch between them
MAX_DEATHS = 2  # of workers with the same picture in work, of which the first may be chance
LOOK = 1.0  # seconds after which a loader that waits looks whether its workers live; the `timeout` to make it with
GRACE = 2.0  # seconds within which a picture that was only slow, as after the whole machine slept, is done


class SteadyLoader:
    """Batches of a DataLoader; if a worker dies or hangs, new ones go on with the batch that was due.

    A picture that hangs a worker counts as unreadable at once, one that kills it the second time. Nothing else is lost,
    and nothing comes twice.

    Args:
        make: makes the loader, which is to have `sampler`; again after each failure.
        sampler: says which words come; in batches of `batch_size`.
        patience: seconds to wait for a batch before a worker counts as hanging; 0 waits for ever.
    """

    def __init__(
        self, make: Callable[[], DataLoader], sampler: EpochSampler | BatchesInTurn, batch_size: int, patience: float
    ) -> None:
        self._make = make
        self._loader = make()
        self._deaths: Counter[tuple[int, int]] = Counter()
        self.sampler = sampler
        self.batch_size = batch_size
        self._patience = patience or math.inf

    @property
    def dataset(self) -> Dataset:
        return self._loader.dataset

    @property
    def batch_sampler(self) -> Any:
        """Lightning looks into it for the sampler."""
        return self._loader.batch_sampler

    @property
    def num_workers(self) -> int:
        return self._loader.num_workers

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        done = failures = 0
        while True:
            try:
                for batch in self._patiently(self._begin()):
                    done, failures = done + 1, 0
                    yield batch
                return
            except (RuntimeError, *LOST) as error:
                failures += 1
                self._recover(error, failures)
            self.sampler.go_on_after(done * self.batch_size)
            self._loader = self._make()

    def _begin(self) -> Iterator[Any]:
        """A pass whose failures show in its own steps: PyTorch has a dead worker raise wherever the program is."""
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, 'SIGCHLD'):
            return self._pass()
        handler = signal.getsignal(signal.SIGCHLD)
        if handler is None or getattr(handler, '__module__', '') == signal_handling.__name__:  # a plain loader left it
            handler = signal.SIG_DFL
        signal.signal(signal.SIGCHLD, handler)
        try:
            return self._pass()
        finally:
            signal.signal(signal.SIGCHLD, handler)

    def _pass(self) -> Iterator[Any]:
        try:
            return iter(self._loader)
        except RuntimeError as error:  # workers are still at a pass that was given up
            if not LATE.match(str(error)):
                raise
            self._wait_for_workers()
            self._loader = self._make()
            return iter(self._loader)

    def _wait_for_workers(self) -> None:
        """Has them end what they have in work, or gives up the picture that hangs one."""
        end = time.monotonic() + self._patience
        while self._are_at_work():
            if time.monotonic() > end:
                self._warn('hangs', self._give_up_hanging())
                return
            time.sleep(LOOK / 20)

    def _are_at_work(self) -> bool:
        alive = children()
        return any(process in alive for words in word_datasets(self.dataset) for process in words.in_work())

    def _patiently(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches; an error for one that does not come, or, within a second, for a worker that is no more."""
        while True:
            end = time.monotonic() + self._patience
            while True:
                try:
                    batch = next(batches)
                except StopIteration:
                    return
                except RuntimeError as error:  # it has looked, and goes on waiting when asked again
                    if not LATE.match(str(error)) or time.monotonic() > end:
                        raise
                else:
                    break
            yield batch

    def _recover(self, error: Exception, failures: int) -> None:
        is_late = LATE.match(str(error)) is not None
        is_lost = isinstance(error, LOST) and not str(error).startswith('Caught ')  # as errors within a worker do
        if not (is_late or is_lost or DEAD.match(str(error))):
            raise error
        if failures >= MAX_FAILURES:
            raise ChildProcessError(
                f'the processes that load pictures failed {failures} times in a row, the last time thus: {error}; '
                'try data.num_workers=0, which shows what is wrong, or a larger data.patience'
            ) from error
        if is_late:
            self._warn('hangs', self._give_up_hanging())
        else:
            self._warn('died', self._blame_dead())

    @staticmethod
    def _warn(what: str, blamed: str) -> None:
        """Tells what befell a worker, and with which pictures."""
        logger.warning(
            'a process that loads pictures %s%s; others go on where it stopped',
            what,
            f' with {blamed}' if blamed else '',
        )

    def _give_up_hanging(self) -> str:
        before = {id(words): words.in_work() for words in word_datasets(self.dataset)}
        time.sleep(GRACE)
        names = []
        for words in word_datasets(self.dataset):
            for process, index in words.in_work().items():
                child = children().get(process)
                if child is not None and before[id(words)].get(process) == index:
                    child.kill()  # it is in the decoder, where nothing gentler reaches it
                    words.give_up(index, 'hangs the decoder')
                    names.append(words.name_of(index))
        return ', '.join(names)

    def _blame_dead(self) -> str:
        names = []
        for words in word_datasets(self.dataset):
            for process, index in words.in_work().items():
                if process in children():
                    continue
                self._deaths[id(words), index] += 1
                names.append(words.name_of(index))
                if self._deaths[id(words), index] >= MAX_DEATHS:
                    words.give_up(index, 'ends the process that decodes it')
        return ', '.join(names)


def children() -> dict[int | None, Any]:
    return {child.pid: child for child in multiprocessing.active_children()}


def word_datasets(words: Any) -> Iterator[WordDataset]:
    """The data sets with pictures on the disk that a data set consists of."""
    if isinstance(words, WordDataset):
        yield words
        return
    parts = getattr(words, 'parts', ())
    for part in parts.values() if isinstance(parts, dict) else parts:
        yield from word_datasets(part)
