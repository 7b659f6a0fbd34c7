"""Many callers, one network: what they ask for at about the same time is read together."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar('T')
R = TypeVar('R')

logger = logging.getLogger(__name__)


class FullError(RuntimeError):
    """There is no room for as much as was asked for."""


class Room:
    """So many places, which are taken and given back; used by one thread, so that it needs no lock."""

    def __init__(self, limit: int) -> None:
        self.limit, self.taken = limit, 0

    def take(self, count: int) -> None:
        """Raises FullError where there are not as many left."""
        if self.taken + count > self.limit:
            raise FullError
        self.taken += count

    def give_back(self, count: int) -> None:
        self.taken -= count

    @contextmanager
    def taking(self, count: int) -> Iterator[None]:
        self.take(count)
        try:
            yield
        finally:
            self.give_back(count)


@dataclass
class _Job(Generic[T, R]):
    item: T
    answer: Future[R] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class Batcher(Generic[T, R]):
    """A thread that answers what `submit` is given, in batches.

    A batch begins with the item that has waited longest, and is closed when it is full or when that item has waited
    for `max_wait`. While the network computes, the next batch fills, so that under load nobody waits for the clock.

    Args:
        read: answers a batch, in its order; one thread calls it.
        max_batch: items in a batch.
        max_wait: seconds.
        observe: is told the size of each batch and the seconds that it took.
    """

    def __init__(
        self,
        read: Callable[[Sequence[T]], Sequence[R]],
        *,
        max_batch: int,
        max_wait: float,
        observe: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        self._read, self._observe = read, observe
        self.max_batch, self.max_wait = max_batch, max_wait
        self._jobs: deque[_Job[T, R]] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._thread = threading.Thread(target=self._work, name='batcher', daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive() and not self._is_closing

    def submit(self, item: T) -> Future[R]:
        """The answer to come. Raises RuntimeError after `close`."""
        job: _Job[T, R] = _Job(item)
        with self._changed:
            if self._is_closing:
                raise RuntimeError('the batcher is closed')
            self._jobs.append(job)
            if len(self._jobs) in (1, self.max_batch):  # at any other length the worker has nothing to do yet
                self._changed.notify()
        return job.answer

    def close(self) -> None:
        """Answers all that was submitted, then ends the thread."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._collect():
            if jobs := [job for job in batch if job.answer.set_running_or_notify_cancel()]:
                started = time.perf_counter()
                self._answer(jobs)
                self._observe(len(jobs), time.perf_counter() - started)

    def _collect(self) -> list[_Job[T, R]]:
        """The next batch; empty when there will be none."""
        with self._changed:
            while not self._jobs and not self._is_closing:
                self._changed.wait()
            while self._jobs and len(self._jobs) < self.max_batch and not self._is_closing:
                left = self._jobs[0].since + self.max_wait - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            return [self._jobs.popleft() for _ in range(min(len(self._jobs), self.max_batch))]

    def _answer(self, jobs: Sequence[_Job[T, R]]) -> None:
        try:
            answers = list(zip(jobs, self._read([job.item for job in jobs]), strict=True))
        except Exception as error:
            if len(jobs) > 1:  # one of them may be at fault, or there are too many for the memory
                for job in jobs:
                    self._answer([job])
                return
            logger.exception('a picture could not be read')
            jobs[0].answer.set_exception(error)
            return
        for job, answer in answers:
            job.answer.set_result(answer)
