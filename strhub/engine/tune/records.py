"""What trials leave in the folder of a search, which outlives a killed search: order, reports, why they ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strhub.engine.results import write

ORDER, REPORTS, ENDED, PARAMS, SEARCH = 'trials.txt', 'reports.jsonl', 'ended.txt', 'params.json', 'search.json'
METRICS = {'val_accuracy': 'max', 'val_NED': 'max', 'val_loss': 'min'}  # and which way is better

FINISHED = 'all steps done'
DIVERGED = 'loss became nan or inf'
STAGNATES = 'stagnates'
FALLS = 'gets worse'
MEDIAN = 'worse than the median'
UNFINISHED = 'unfinished'


@dataclass
class Record:
    """One trial."""

    number: int
    trial_id: str
    params: dict[str, Any]
    reports: list[dict[str, Any]]
    ended: str
    best: dict[str, Any] | None = None
    failed: bool = False  # its numbers, if it has any, are not to be trusted


def number_of(folder: Path, trial_id: str) -> int:
    """The trial's place in the order in which trials were started, from 1."""
    file = folder / ORDER
    known = file.read_text().split() if file.exists() else []
    if trial_id not in known:
        known.append(trial_id)
        with file.open('a') as stream:
            stream.write(f'{trial_id}\n')
    return known.index(trial_id) + 1


def write_params(folder: Path, params: dict[str, Any]) -> None:
    write(folder / PARAMS, json.dumps(params))


def append_report(folder: Path, report: dict[str, Any]) -> None:
    with (folder / REPORTS).open('a') as stream:
        stream.write(json.dumps(report) + '\n')


def read_reports(folder: Path) -> list[dict[str, Any]]:
    """The reports of a trial by step; the last of those about the same step, as after a resume."""
    file = folder / REPORTS
    by_step: dict[int, dict[str, Any]] = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            report = json.loads(line)
        except ValueError:  # cut off by a kill
            continue
        by_step[report['step']] = report
    return [by_step[step] for step in sorted(by_step)]


def end(folder: Path, reason: str) -> None:
    """Notes why a trial ended; the first to know is right."""
    if why_ended(folder) is None:
        write(folder / ENDED, reason)


def why_ended(folder: Path) -> str | None:
    file = folder / ENDED
    return file.read_text() if file.exists() else None


def merit(report: dict[str, Any], metric: str) -> tuple[float, float]:
    """The more the better; of equals, as where nothing is read yet, the one with the lower loss is."""
    sign = 1 if METRICS[metric] == 'max' else -1
    return sign * report[metric], -report['val_loss']


def best_of(reports: Sequence[dict[str, Any]], metric: str) -> dict[str, Any] | None:
    """The best report by `metric`."""
    return max(reports, key=lambda report: merit(report, metric), default=None)


def read_records(folder: Path, metric: str, errors: dict[str, str]) -> list[Record]:
    """All trials in the order in which they were started.

    Args:
        errors: what went wrong, by the id of the trial.
    """
    file = folder / ORDER
    records = []
    for number, trial_id in enumerate(file.read_text().split() if file.exists() else [], 1):
        own = folder / trial_id
        params = json.loads((own / PARAMS).read_text()) if (own / PARAMS).exists() else {}
        reports = read_reports(own)
        ended = errors.get(trial_id) or why_ended(own) or UNFINISHED
        failed = trial_id in errors or ended == DIVERGED
        records.append(Record(number, trial_id, params, reports, ended, best_of(reports, metric), failed))
    return records
