"""What the service sees of a model: pictures are prepared one by one, by any thread, and read together, by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from strhub.data.transforms import get_transform
from strhub.engine.read import Reading, read_batch
from strhub.models.reader import Recogniser


@dataclass(frozen=True)
class Model:
    """A recogniser to be served.

    Attributes:
        system: on its device, ready to read.
        source: what it was loaded from, as it was asked for.
    """

    system: Recogniser
    source: str
    rotation: float = 0

    @property
    def name(self) -> str:
        return str(self.system.hparams['name'])

    def prepare(self, image: Image.Image) -> Tensor:
        """Picture -> (3, H, W): a thousandth of a photograph's memory."""
        return get_transform(self.system.hparams['img_size'], rotation=self.rotation)(image)

    def read(self, images: Sequence[Tensor]) -> list[Reading]:
        return read_batch(self.system, torch.stack(list(images)))
