"""Trains ViTSTR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from strhub.models.base import CrossEntropySystem
from strhub.models.vitstr.model import ViTSTR as Network


class ViTSTR(CrossEntropySystem):
    """ViTSTR (Atienza, ICDAR 2021). The arguments are those of the network and of `BaseSystem`."""

    model: Network

    def __init__(
        self,
        *,
        charset_train: str,
        max_label_length: int,
        img_size: Sequence[int],
        patch_size: Sequence[int],
        embed_dim: int,
        num_heads: int,
        **training: Any,
    ) -> None:
        super().__init__(charset_train=charset_train, max_label_length=max_label_length, img_size=img_size, **training)
        self.save_hyperparameters()
        self.model = Network(
            len(self.tokenizer) - 2,  # [B] and [P] are never predicted
            max_label_length,
            img_size=img_size,
            patch_size=patch_size,
            embed_dim=embed_dim,
            num_heads=num_heads,
        )

    def no_weight_decay(self) -> set[str]:
        return {f'model.{name}' for name in self.model.no_weight_decay()}
