"""A checkpoint, for reading: the same as an exported network, on torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from strhub.engine.devices import pick_device
from strhub.models.reader import Recogniser
from strhub.models.zoo import as_source, load_reader
from strhub.runtime.description import Description


def describe(system: Recogniser) -> Description:
    """What a system, or the file that it is exported to, says of itself."""
    hparams = system.hparams
    return Description(
        name=hparams['name'],
        img_size=(hparams['img_size'][0], hparams['img_size'][1]),
        charset=hparams['charset_train'],
        charset_test=hparams['charset_test'],
        decoding=system.tokenizer.decoding,
        max_label_length=hparams['max_label_length'],
        hparams=json.loads(json.dumps(dict(hparams), default=list)),
    )


class Trained:
    """A checkpoint, or weights by their name; see `Session`."""

    def __init__(
        self, source: str | Path, *, device: str = 'auto', threads: int | None = None, overrides: Mapping[str, Any]
    ) -> None:
        where = pick_device(device)
        if threads:
            torch.set_num_threads(threads)
        self.device = str(where)
        self._system = load_reader(as_source(source), **overrides).eval().to(where)
        self.description = describe(self._system)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        return self._system.probabilities(torch.from_numpy(images)).cpu().numpy()
