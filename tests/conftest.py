"""What every test may ask for."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

SHARED = Path(__file__).resolve().parents[2] / 'shared'

# Tests run in as many processes as there are cores.
os.environ['OMP_NUM_THREADS'] = '1'
torch.set_num_threads(1)

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
def _own_logging() -> Iterator[None]:
    """A door that sets up the log must not make the next test's door talk."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
