"""Numbers of a running service, in the text format of Prometheus."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Count:
    """How often something happened, by the value of one label; threads may share it."""

    def __init__(self, name: str, text: str, label: str, values: Sequence[str] = ()) -> None:
        self.name, self.text, self.label = name, text, label
        self._counts: Counter[str] = Counter(dict.fromkeys(values, 0))
        self._lock = threading.Lock()

    def add(self, value: str, count: int = 1) -> None:
        with self._lock:
            self._counts[value] += count

    def lines(self) -> Iterator[str]:
        yield from _head(self.name, self.text, 'counter')
        with self._lock:
            counts = sorted(self._counts.items())
        for value, count in counts:
            yield f'{self.name}{{{self.label}={_quoted(value)}}} {count}'


class Histogram:
    """How large something was; threads may share it."""

    def __init__(self, name: str, text: str, bounds: Sequence[float]) -> None:
        self.name, self.text, self.bounds = name, text, bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def add(self, value: float) -> None:
        with self._lock:
            self._counts[bisect_left(self.bounds, value)] += 1
            self._sum += value

    def lines(self) -> Iterator[str]:
        yield from _head(self.name, self.text, 'histogram')
        with self._lock:
            counts, total = list(self._counts), self._sum
        below = 0
        for bound, count in zip((*map(str, self.bounds), '+Inf'), counts, strict=True):
            below += count
            yield f'{self.name}_bucket{{le="{bound}"}} {below}'
        yield f'{self.name}_sum {total:.6f}'
        yield f'{self.name}_count {below}'


def gauge(metric: str, text: str, value: float, **labels: str) -> Iterator[str]:
    """The lines of what is as it is now."""
    yield from _head(metric, text, 'gauge')
    inside = ','.join(f'{label}={_quoted(of)}' for label, of in labels.items())
    yield f'{metric}{{{inside}}} {value}' if inside else f'{metric} {value}'


def _head(name: str, text: str, kind: str) -> Iterator[str]:
    yield f'# HELP {name} {text}'
    yield f'# TYPE {name} {kind}'


def _quoted(value: str) -> str:
    escaped = value.replace('\\', '\\\\').replace('"', '\\"').replace('\n', '\\n')
    return f'"{escaped}"'
