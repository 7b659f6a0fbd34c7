"""A checkpoint, for reading: the same as an exported network, on torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from strhub.engine.devices import pick_device
from strhub.models.zoo import MODELS, PRETRAINED, load_reader
from strhub.runtime.description import Description


class Trained:
    """A checkpoint, or published weights by their name; see `Session`."""

    def __init__(
        self, source: str | Path, *, device: str = 'auto', threads: int | None = None, overrides: Mapping[str, Any]
    ) -> None:
        if str(source).replace('_', '-') in MODELS and not Path(source).exists():
            source = f'{PRETRAINED}{source}'
        where = pick_device(device)
        if threads:
            torch.set_num_threads(threads)
        self.device = str(where)
        self._system = load_reader(source, **overrides).eval().to(where)
        hparams = self._system.hparams
        self.description = Description(
            name=hparams['name'],
            img_size=tuple(hparams['img_size']),
            charset=hparams['charset_train'],
            charset_test=hparams['charset_test'],
            decoding=self._system.tokenizer.decoding,
            max_label_length=hparams['max_label_length'],
            hparams=dict(hparams),
        )

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        return self._system.probabilities(torch.from_numpy(images)).cpu().numpy()
