"""What ends a trial early: numbers that no longer get better, or that are worse than those of the others."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ray.tune import Stopper
from ray.tune.schedulers import MedianStoppingRule

from strhub.engine.tune import records


class Trend:
    """A smoothed metric, and whether it still gets better.

    Args:
        sign: 1 if higher is better, -1 if lower.
        patience: validations that may bring nothing.
        min_delta: a smaller gain counts as nothing.
        smoothing: weight of the past, from 0 to below 1.
    """

    def __init__(self, *, sign: int, patience: int, min_delta: float, smoothing: float) -> None:
        self.sign, self.patience, self.min_delta, self.smoothing = sign, patience, min_delta, smoothing
        self.smoothed, self.best, self.stale = math.nan, -math.inf, 0

    def add(self, value: float) -> str | None:
        """The reason to stop after `value`, if there is one."""
        value *= self.sign
        is_first = math.isnan(self.smoothed)
        self.smoothed = value if is_first else self.smoothing * self.smoothed + (1 - self.smoothing) * value
        if self.smoothed > self.best + self.min_delta:
            self.best, self.stale = self.smoothed, 0
        else:
            self.stale += 1
        if self.stale < self.patience:
            return None
        return records.FALLS if self.smoothed < self.best - self.min_delta else records.STAGNATES


class StopStale(Stopper):
    """Ends trials whose smoothed metric stagnates or falls, once the learning rate has risen.

    Args:
        folder: of the search, where a trial's earlier reports are after a resume.
        grace: optimiser steps that do not count.
        **trend: see `Trend`.
    """

    def __init__(self, folder: Path, *, metric: str, grace: int, **trend: Any) -> None:
        self.folder, self.metric, self.grace, self.trend = folder, metric, grace, trend
        self.trends: dict[str, tuple[Trend, int]] = {}  # with the step of the last report

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        if trial_id not in self.trends:
            self.trends[trial_id] = Trend(**self.trend), -1
            for report in records.read_reports(self.folder / trial_id):
                if report['step'] < result['step']:
                    self.look(trial_id, report)
        reason = self.look(trial_id, result)
        if reason is None or is_over(result):
            return False
        records.end(self.folder / trial_id, reason)
        return True

    def look(self, trial_id: str, report: dict[str, Any]) -> str | None:
        trend, last = self.trends[trial_id]
        if report['step'] <= last or report['step'] < self.grace:  # repeated after a resume, or too early
            return None
        self.trends[trial_id] = trend, report['step']
        return trend.add(report[self.metric])

    def stop_all(self) -> bool:
        return False


class StopBelowMedian(MedianStoppingRule):
    """The median stopping rule, which remembers other trials after a resume and notes whom it ends."""

    def __init__(self, folder: Path, *, metric: str, grace: int, trials: int) -> None:
        self.folder = folder
        self.replayed: set[str] = set()
        super().__init__(
            time_attr='step',
            metric=metric,
            mode=records.METRICS[metric],
            grace_period=grace,
            min_samples_required=trials,
            min_time_slice=math.inf,  # type: ignore[arg-type]  # a pause would load everything anew
        )

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, trial)
        for report in self.earlier(trial.trial_id):
            self.on_trial_complete(tune_controller, trial, report)

    def earlier(self, trial_id: str) -> Iterable[dict[str, Any]]:
        if trial_id in self.replayed:
            return []
        self.replayed.add(trial_id)
        return records.read_reports(self.folder / trial_id)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = super().on_trial_result(tune_controller, trial, result)
        if decision != self.STOP:
            return decision
        if is_over(result):
            return self.CONTINUE
        records.end(self.folder / trial.trial_id, records.MEDIAN)
        return decision


def is_over(report: dict[str, Any]) -> bool:
    """True of the last validation, after which there is nothing to save by stopping."""
    return report['step'] >= report.get('steps', math.inf)
