"""What every test may ask for."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

SHARED = Path(__file__).resolve().parents[2] / 'shared'

# Tests run in as many processes as there are cores.
os.environ['OMP_NUM_THREADS'] = '1'
torch.set_num_threads(1)

# Once a run configures its log, absl, where a library brings it, closes what was sys.stderr at its import: while pytest
# has another there, that would be pytest's own file, and no test could end after it.
try:
    from absl.logging import get_absl_handler
except ImportError:
    pass
else:
    get_absl_handler().python_handler.setStream(sys.__stderr__)

# A busy machine fails no property.
settings.register_profile('strhub', deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('strhub')


@pytest.fixture(scope='session')
def shared() -> Path:
    """The folder of real pictures and golden numbers beside the checkout; the test is skipped where there is none."""
    if not SHARED.is_dir():
        pytest.skip('needs ../shared')
    return SHARED


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_process() -> Iterator[None]:
    """What a door sets for its process, the log and the arithmetic, it must not set for the next test."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    loggers = [root, *map(logging.getLogger, list(root.manager.loggerDict))]
    levels = [logger.level for logger in loggers]
    yield
    root.handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    torch.set_flush_denormal(False)
