"""A recogniser that is small enough to be run many times, and pictures for it."""

from pathlib import Path

import pytest
import torch
from samples import draw_word, save_checkpoint

from strhub.models.base import BaseSystem
from strhub.models.utils import create_model


@pytest.fixture(scope='session')
def tiny_crnn() -> BaseSystem:
    """Untrained, and so made that it reads something: its blank is not more likely than the rest."""
    torch.manual_seed(1)
    system = create_model('crnn', width=0.0625, hidden_size=16).eval()
    with torch.no_grad():
        for parameter in system.parameters():
            parameter.mul_(3)
    return system


@pytest.fixture(scope='session')
def tiny_parseq() -> BaseSystem:
    torch.manual_seed(1)
    sizes = {'embed_dim': 32, 'enc_num_heads': 2, 'enc_depth': 1, 'dec_num_heads': 2, 'max_label_length': 8}
    return create_model('parseq', **sizes).eval()


@pytest.fixture(scope='session')
def crnn_checkpoint(tiny_crnn: BaseSystem, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tiny_crnn, tmp_path_factory.mktemp('crnn') / 'epoch=1-step=2.ckpt')


@pytest.fixture(scope='session')
def parseq_checkpoint(tiny_parseq: BaseSystem, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tiny_parseq, tmp_path_factory.mktemp('parseq') / 'tiny.ckpt')


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A folder of pictures 1.png … 10.png and of other files."""
    folder = tmp_path / 'words'
    (folder / 'deep').mkdir(parents=True)
    for i in (1, 2, 10):
        draw_word(f'word {i}').save(folder / f'{i}.png')
    draw_word('deep').save(folder / 'deep' / 'photo.JPG', 'JPEG')
    (folder / 'notes.txt').write_text('no picture')
    return folder
