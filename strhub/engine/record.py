"""What a run was made of besides its configuration: versions, the state of the code, the words."""

from __future__ import annotations

import json
import logging
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from strhub.data.fingerprint import fingerprints
from strhub.data.module import SceneTextDataModule
from strhub.engine.results import write

log = logging.getLogger(__name__)

RECORD = 'record.json'
PACKAGES = ('strhub', 'torch', 'torchvision', 'timm', 'lightning', 'numpy', 'pillow', 'opencv-python-headless', 'lmdb')
CODE = Path(__file__).parents[2]


def keep_record(folder: Path, data: SceneTextDataModule, replay: str | None, *, validates: bool) -> None:
    """Writes the record of a run, behind that of the run it goes on with; says what differs in one done again."""
    record = record_of(data, validates=validates)
    if replay is not None:
        for difference in differences(replay, record):
            log.warning('this is not all as it was in %s: %s', replay, difference)
    path = folder / RECORD
    write(path, json.dumps([*read(path), record], indent=2, ensure_ascii=False) + '\n')


def record_of(data: SceneTextDataModule, *, validates: bool) -> dict[str, Any]:
    """Versions, git's state, and fingerprints of the words."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu'
    return {
        'command': shlex.join(sys.argv),
        'python': platform.python_version(),
        'platform': platform.platform(),
        'device': device,
        'versions': dict(versions()),
        'git': git_state(),
        'train': fingerprints(data.train_dataset),
        'val': fingerprints(data.val_dataset) if validates else {},
    }


def versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


def git_state() -> dict[str, Any] | None:
    """The commit of the code, and the files that differ from it; None outside a clone."""

    def git(*words: str) -> str:
        command = ['git', '-C', str(CODE), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip('\n')

    try:
        if not (CODE / '.git').exists():
            return None
        return {'commit': git('rev-parse', 'HEAD'), 'changed': [line[3:] for line in git('status', '-s').splitlines()]}
    except (OSError, subprocess.SubprocessError):
        return None


def read(path: Path) -> list[dict[str, Any]]:
    """The records in a folder, the first run's first; none if there is no such file, or it is damaged."""
    try:
        records = json.loads(path.read_text('utf-8'))
    except (OSError, ValueError):
        return []
    return records if isinstance(records, list) else []


def differences(run: str | Path, record: Mapping[str, Any]) -> Iterator[str]:
    """What a run that is done again has otherwise, a sentence for each thing."""
    if not (before := read(Path(run, RECORD))):
        yield f'{RECORD} is missing or damaged, so nothing can be compared'
        return
    for key in ('python', 'device', 'versions', 'git', 'train', 'val'):
        then, now = before[0].get(key), record[key]
        if key in ('versions', 'train', 'val') and isinstance(then, dict):
            for name in sorted(then.keys() | now.keys()):
                if then.get(name) != now.get(name):
                    yield f'{key} {name} was {then.get(name)} and is {now.get(name)}'
        elif then != now:
            yield f'{key} was {then} and is {now}'
