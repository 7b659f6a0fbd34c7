"""What the doors are given in tests: checkpoint files and pictures of words."""

from pathlib import Path

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
