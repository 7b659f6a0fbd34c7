"""CRNN as a system: the network with CTC loss and decoding."""

from collections.abc import Sequence
from typing import Any

from strhub.models.base import CTCSystem
from strhub.models.crnn.model import CRNN as Network  # noqa: N811


class CRNN(CTCSystem):
    """CRNN of the hub; see `strhub.models.crnn.model.CRNN` for its own hyper-parameters."""

    def __init__(
        self,
        *,
        img_size: Sequence[int],
        hidden_size: int,
        leaky_relu: bool,
        width: float = 1.0,
        batch_norm_all: bool = False,
        **training: Any,
    ) -> None:
        super().__init__(img_size=img_size, **training)
        self.save_hyperparameters()
        self.model = Network(
            len(self.tokenizer),
            img_size=img_size,
            hidden_size=hidden_size,
            leaky_relu=leaky_relu,
            width=width,
            batch_norm_all=batch_norm_all,
        )
