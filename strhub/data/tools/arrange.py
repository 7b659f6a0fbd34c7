"""`strhub data merge` and `split`: several sets as one, and one as two."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from strhub.data.convert.base import Skipped
from strhub.data.convert.report import Report
from strhub.data.lmdb import LmdbWriter
from strhub.data.summary import counted
from strhub.data.tools.likeness import label_hash
from strhub.data.tools.records import Words, check_targets, write

Progress = Callable[[int], object]


def merge(words: Words, target: Path, *, overwrite: bool = False, progress: Progress = lambda done: None) -> Report:
    """Writes all words to the LMDB `target`, in their order."""
    check_targets(words, target)
    return write(words.items, LmdbWriter(target, overwrite=overwrite), progress=progress)


def split(
    words: Words,
    targets: tuple[Path, Path],
    *,
    share: float | None = None,
    count: int | None = None,
    seed: int = 0,
    together: bool = False,
    overwrite: bool = False,
    progress: Progress = lambda done: None,
) -> tuple[Report, int]:
    """Writes a random part of the words to the second LMDB and all others to the first, in their order.

    Both appear when both are complete.

    Args:
        share: how large the second is to be, as a part of 1; or else
        count: in words.
        together: words whose labels agree in letters and digits go to the same LMDB, which may make the second smaller.
        progress: called with the number of words done, once for each word looked at, and for each written or skipped.

    Returns:
        The report on both together, and how many words are in the second.
    """
    check_targets(words, *targets)
    labels = []
    for item in words:
        if not isinstance(item, Skipped):
            labels.append(label_hash(item.label) if together else 0)
        progress(1)
    number = round(share * len(labels)) if share is not None else count or 0
    is_second = iter(_draw(np.array(labels, np.uint64), number, seed=seed, together=together))
    report, second = Report(), 0
    with ExitStack() as stack:
        writers = [stack.enter_context(LmdbWriter(target, overwrite=overwrite)) for target in targets]
        for item in words.items:
            if isinstance(item, Skipped):
                report.skip(item)
            else:
                goes_to = int(next(is_second))
                writers[goes_to].write(item.image, item.label)
                report.kept += 1
                second += goes_to
            progress(1)
        writers[0].publish(writers[1])
    return report, second


def _draw(labels: np.ndarray, count: int, *, seed: int, together: bool) -> list[bool]:
    """Which words go to the second set."""
    if not 0 < count < len(labels):
        raise ValueError(
            f'of {counted(len(labels), "word")} {count} are asked for: give a number that leaves words for both sets'
        )
    rng = np.random.default_rng(seed)
    if together:
        _, groups, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        taken = np.zeros(len(sizes), bool)
        for group in rng.permutation(len(sizes)):
            if sizes[group] <= count:
                taken[group] = True
                count -= sizes[group]
        if not taken.any() or taken.all():
            raise ValueError(
                'the words of each label are too many for that share: give another, or leave out --together'
            )
        return taken[groups.ravel()].tolist()
    chosen = np.zeros(len(labels), bool)
    chosen[rng.permutation(len(labels))[:count]] = True
    return chosen.tolist()
