"""Long work on many cores, which can be interrupted at any time and gone on with."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar('T')
R = TypeVar('R')

AHEAD = 4  # tasks a process may be ahead of the one whose turn it is: evens out slow ones, and bounds the memory


@contextmanager
def ordered_map(function: Callable[[T], R], jobs: int) -> Iterator[Callable[[Iterable[T]], Iterator[R]]]:
    """A `map` that works in `jobs` processes, keeps the order and takes from its input only what is due.

    For one job it works in this process. `function`, inputs and results travel between processes, so that each input
    should be worth the way: dozens of words, not one.
    """
    if jobs <= 1:
        yield partial(map, function)
        return
    # spawned, not forked: the parent may have threads by now
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context('spawn'), initializer=_start_worker)
    try:
        yield partial(_ordered, pool, function, jobs * AHEAD)
    except BrokenProcessPool:
        raise OSError('a worker process was ended from outside, likely for want of memory: use fewer of them') from None
    finally:
        pool.shutdown(cancel_futures=True)


def _ordered(pool: ProcessPoolExecutor, function: Callable[[T], R], ahead: int, inputs: Iterable[T]) -> Iterator[R]:
    waiting: deque[Future[R]] = deque()
    for item in inputs:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the parent alone answers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed cannot say so, and a worker would wait for its next task for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def check_settings(note: Path, settings: dict[str, Any]) -> None:
    """Refuses to go on with the work in the folder of `note` if it was begun with settings other than those noted.

    Raises:
        ValueError: it was; the message names the settings that differ.
    """
    try:
        earlier = json.loads(note.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        earlier = {}
    if changed := [key for key in settings if key not in earlier or earlier[key] != settings[key]]:
        raise ValueError(
            f'{note.parent} holds words of an interrupted run with another {", ".join(changed)}: repeat the command as '
            'it was, or remove that folder'
        )
