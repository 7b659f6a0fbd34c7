"""An exported network in the place of a system: the doors read and test it as they do a checkpoint."""

from __future__ import annotations

from argparse import Namespace
from typing import Any, NoReturn

import torch
from torch import Tensor

from strhub.models.reader import Recogniser
from strhub.models.utils import parse_model_args
from strhub.runtime.session import Session
from strhub.tokenizer import CTCTokenizer, Tokenizer


class Exported(Recogniser):
    """Reads as the system that was exported; it has neither weights nor a network of torch."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        described = session.description
        tokenizers = (Tokenizer, CTCTokenizer)
        self.tokenizer = {one.decoding: one for one in tokenizers}[described.decoding](described.charset)
        self._hparams = {
            **described.hparams,
            'name': described.name,
            'img_size': list(described.img_size),
            'charset_train': described.charset,
            'charset_test': described.charset_test,
            'max_label_length': described.max_label_length,
        }

    @property
    def model(self) -> NoReturn:  # type: ignore[override]
        """What looks into the network asks for this."""
        raise ValueError(f'{self.session.path} is exported and shows only what it reads: give the checkpoint')

    @property
    def hparams(self) -> dict[str, Any]:
        return self._hparams

    def forward(self, images: Tensor, max_length: int | None = None) -> Tensor:
        """Logits (N, L, C) of images (N, 3, H, W) in [-1, 1]; how many characters there may be was fixed at export."""
        return torch.from_numpy(self.session.logits(images.float().cpu().contiguous().numpy()))

    def probabilities(self, images: Tensor) -> Tensor:
        return self(images).softmax(-1)


def load_exported(arguments: Namespace) -> Exported:
    """The ONNX file that the arguments of a door name.

    Raises:
        ValueError: an argument changes what was fixed when the network was exported.
    """
    for option, is_given in (('--precision bf16', arguments.precision != '32'), ('--compile', arguments.compile)):
        if is_given:
            raise ValueError(
                f'{arguments.checkpoint} takes no {option}, which is for checkpoints: leave it out; '
                '`strhub export --fp16` and `--int8` make smaller files'
            )
    overrides = parse_model_args(arguments.overrides)
    return Exported(Session(arguments.checkpoint, device=arguments.device, overrides=overrides))
