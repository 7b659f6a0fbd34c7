"""What every test may ask for."""

from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / 'shared'


@pytest.fixture(scope='session')
def shared() -> Path:
    """The folder of real pictures and golden numbers beside the checkout; the test is skipped where there is none."""
    if not SHARED.is_dir():
        pytest.skip('needs ../shared')
    return SHARED


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
