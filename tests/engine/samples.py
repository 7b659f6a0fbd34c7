"""What the doors are given in tests: checkpoint files and pictures of words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

from strhub.models.base import BaseSystem


def save_checkpoint(system: BaseSystem, path: Path) -> Path:
    torch.save(
        {
            'state_dict': system.state_dict(),
            'hyper_parameters': dict(system.hparams),
            'pytorch-lightning_version': '2.5.0',
        },
        path,
    )
    return path


def draw_word(text: str, size: tuple[int, int] = (96, 32)) -> Image.Image:
    image = Image.new('RGB', size, 'white')
    ImageDraw.Draw(image).text((6, 8), text, fill='black')
    return image


def go_through(
    capsys: pytest.CaptureFixture[str], door: Callable[[list[str]], Any], *argv: object
) -> tuple[int, list[str], list[str]]:
    """Returns the exit status, the lines of stdout, and those of stderr."""
    try:
        door([*map(str, argv), '--device', 'cpu'])
        status = 0
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    out, err = capsys.readouterr()
    return status, out.splitlines(), err.splitlines()
