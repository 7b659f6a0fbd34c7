"""Small networks as checkpoints and as ONNX files, one of each decoding, and a picture to read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from exporting import export

from strhub.models.base import BaseSystem
from strhub.models.utils import create_model
from strhub.runtime.description import KEY
from strhub.runtime.trained import describe

SIZES = {
    'crnn': {'width': 0.0625, 'hidden_size': 16},
    'vitstr': {'embed_dim': 48, 'num_heads': 3, 'max_label_length': 8},
}


@pytest.fixture(scope='session')
def system(request: pytest.FixtureRequest) -> BaseSystem:
    """Untrained, and so made that it reads something; of CTC, unless a test asks for the other."""
    name = getattr(request, 'param', 'crnn')
    torch.manual_seed(1)
    system = create_model(name, **SIZES[name]).eval()
    with torch.no_grad():
        for parameter in system.parameters():
            parameter.mul_(3 if name == 'crnn' else 1.5)
    return system


@pytest.fixture(scope='session')
def checkpoint(system: BaseSystem, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('checkpoint') / 'last.ckpt'
    torch.save({'state_dict': system.state_dict(), 'hyper_parameters': dict(system.hparams)}, path)
    return path


@pytest.fixture(scope='session')
def exported(system: BaseSystem, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('exported') / 'model.onnx'
    return export(system, path, {KEY: describe(system).to_json()})


@pytest.fixture
def pixels() -> np.ndarray:
    """(H, W, 3) bytes."""
    return np.random.default_rng(1).integers(0, 256, (20, 70, 3), dtype=np.uint8)
