"""TRBA and TRBC as systems."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from strhub.models.base import Batch, CrossEntropySystem, CTCSystem
from strhub.models.trba.model import TRBA as AttentionNetwork  # noqa: N811
from strhub.models.trba.model import TRBC as CTCNetwork  # noqa: N811


class TRBA(CrossEntropySystem):
    """TRBA of the hub, trained with teacher forcing; see `strhub.models.trba.model` for its own hyper-parameters."""

    def __init__(
        self,
        *,
        max_label_length: int,
        img_size: Sequence[int],
        num_fiducial: int,
        output_channel: int,
        hidden_size: int,
        **training: Any,
    ) -> None:
        super().__init__(max_label_length=max_label_length, img_size=img_size, **training)
        self.save_hyperparameters()
        self.model = AttentionNetwork(
            len(self.tokenizer),
            bos_id=self.tokenizer.bos_id,
            max_label_length=max_label_length,
            img_size=img_size,
            num_fiducial=num_fiducial,
            output_channel=output_channel,
            hidden_size=hidden_size,
        )

    def no_weight_decay(self) -> set[str]:
        return {'model.Prediction.char_embeddings.weight'}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        ids = self.encode(labels)
        logits = self.model(images, inputs=ids[:, :-1])
        loss = self.cross_entropy(logits, ids[:, 1:])
        self.log('loss', loss)
        return loss


class TRBC(CTCSystem):
    """TRBC of the hub: TRBA with a CTC head."""

    def __init__(
        self, *, img_size: Sequence[int], num_fiducial: int, output_channel: int, hidden_size: int, **training: Any
    ) -> None:
        super().__init__(img_size=img_size, **training)
        self.save_hyperparameters()
        self.model = CTCNetwork(
            len(self.tokenizer),
            img_size=img_size,
            num_fiducial=num_fiducial,
            output_channel=output_channel,
            hidden_size=hidden_size,
        )
