"""Trains PARSeq: every word is read in several orders at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from strhub.models.base import Batch, CrossEntropySystem
from strhub.models.parseq.model import PARSeq as Network
from strhub.models.parseq.permutations import check_permutations, sample_permutations


class PARSeq(CrossEntropySystem):
    """PARSeq (Bautista and Atienza, ECCV 2022).

    Args:
        perm_num: K, reading orders in a training step.
        perm_forward: whether left to right is always one of them.
        perm_mirrored: whether each comes with its mirror image.

    The others are those of the network and of `BaseSystem`.
    """

    model: Network

    def __init__(
        self,
        *,
        charset_train: str,
        max_label_length: int,
        img_size: Sequence[int],
        patch_size: Sequence[int],
        embed_dim: int,
        enc_num_heads: int,
        enc_mlp_ratio: int,
        enc_depth: int,
        dec_num_heads: int,
        dec_mlp_ratio: int,
        dec_depth: int,
        perm_num: int,
        perm_forward: bool,
        perm_mirrored: bool,
        decode_ar: bool,
        refine_iters: int,
        dropout: float,
        decode: str = 'auto',
        **training: Any,
    ) -> None:
        check_permutations(perm_num, mirrored=perm_mirrored)
        super().__init__(charset_train=charset_train, max_label_length=max_label_length, img_size=img_size, **training)
        self.save_hyperparameters()
        self.perm_num = perm_num
        self.perm_forward = perm_forward
        self.perm_mirrored = perm_mirrored
        self.model = Network(
            len(self.tokenizer),
            max_label_length,
            img_size=img_size,
            patch_size=patch_size,
            embed_dim=embed_dim,
            enc_num_heads=enc_num_heads,
            enc_mlp_ratio=enc_mlp_ratio,
            enc_depth=enc_depth,
            dec_num_heads=dec_num_heads,
            dec_mlp_ratio=dec_mlp_ratio,
            dec_depth=dec_depth,
            decode_ar=decode_ar,
            decode=decode,
            refine_iters=refine_iters,
            dropout=dropout,
        )

    def no_weight_decay(self) -> set[str]:
        return {f'model.{name}' for name in self.model.no_weight_decay()}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        orders = sample_permutations(
            max(map(len, labels)), self.perm_num, forward=self.perm_forward, mirrored=self.perm_mirrored
        )
        loss = self.permutation_loss(images, labels, orders=orders)
        self.log('loss', loss)
        return loss

    def permutation_loss(self, images: Tensor, labels: Sequence[str], *, orders: Tensor) -> Tensor:
        """Mean loss over all tokens predicted in the given reading orders, (K, L + 2), see `sample_permutations`."""
        return self.loss_of(self.model.encode(images), labels, orders=orders)

    def loss_of(self, memory: Tensor, labels: Sequence[str], *, orders: Tensor) -> Tensor:
        """`permutation_loss` of pictures that are encoded, memory (N, S, D)."""
        tokens = self.encode(labels, device='cpu')  # where it is known, without waiting for a GPU, what is asked
        targets = tokens[:, None, 1:].repeat(1, len(orders), 1)
        # The end is learnt left to right, and right to left from nothing but [B]; other orders only repeat the former.
        targets[:, 2:] = targets[:, 2:].where(targets[:, 2:] != self.tokenizer.eos_id, self.tokenizer.pad_id)
        asked = (targets.flatten() != self.tokenizer.pad_id).nonzero()[:, 0]
        targets = targets.flatten()[asked]
        tokens, targets, asked = (x.to(self.device, non_blocking=True) for x in (tokens, targets, asked))
        logits = self.model.decode_permuted(tokens, memory, orders, asked=asked)
        return F.cross_entropy(logits, targets)
