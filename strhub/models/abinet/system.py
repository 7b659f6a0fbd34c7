"""ABINet as a system: its parts are trained apart, then together."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from strhub.models.abinet.model import ABINet as Network
from strhub.models.abinet.model import Alignment, Opinion
from strhub.models.base import Batch, CrossEntropySystem
from strhub.models.modules import init_weights

log = logging.getLogger(__name__)

# Paper: the parts learn apart for 8 epochs, then all together for 10.
PRETRAIN_PCT = 8 / (8 + 10)


class ABINet(CrossEntropySystem):
    """ABINet of the hub; see `strhub.models.abinet.model.ABINet` for the network's hyper-parameters.

    Args:
        v_loss_weight: weight of the vision model's loss.
        l_loss_weight: weight of the language model's loss, averaged over the iterations.
        l_lr: learning rate of the language model; the rest of the network has `lr`.
        a_loss_weight: weight of the alignment's loss, averaged over the iterations.
        lm_only: train the language model alone, on labels instead of pictures.
        pretrain_pct: share of the training in which the parts are trained apart. 0 to fine-tune a finished network.
    """

    model: Network

    def __init__(
        self,
        *,
        charset_train: str,
        max_label_length: int,
        img_size: Sequence[int],
        iter_size: int,
        d_model: int,
        nhead: int,
        d_inner: int,
        dropout: float,
        activation: str,
        v_loss_weight: float,
        v_attention: str,
        v_attention_mode: str,
        v_backbone: str,
        v_num_layers: int,
        l_loss_weight: float,
        l_num_layers: int,
        l_detach: bool,
        l_use_self_attn: bool,
        l_lr: float,
        a_loss_weight: float,
        lm_only: bool,
        pretrain_pct: float = PRETRAIN_PCT,
        **training: Any,
    ) -> None:
        if not 0 <= pretrain_pct <= 1:
            raise ValueError(f'pretrain_pct is {pretrain_pct}: give a share between 0 and 1')
        super().__init__(charset_train=charset_train, max_label_length=max_label_length, img_size=img_size, **training)
        self.save_hyperparameters()
        self.num_classes = len(self.tokenizer) - 2  # [B] and [P] are never read
        self.max_label_length = max_label_length
        self.l_lr = float(l_lr)  # the original's checkpoints hold the text '3e-4'
        self.loss_weights = {'vision': v_loss_weight, 'language': l_loss_weight, 'alignment': a_loss_weight}
        self.lm_only = lm_only
        self.pretrain_pct = pretrain_pct
        self._is_alignment_fresh: bool | None = None  # None: nothing is known, no training has begun
        self.model = Network(
            num_classes=self.num_classes,
            max_label_length=max_label_length,
            img_size=img_size,
            iter_size=iter_size,
            d_model=d_model,
            nhead=nhead,
            d_inner=d_inner,
            dropout=dropout,
            activation=activation,
            v_attention=v_attention,
            v_attention_mode=v_attention_mode,
            v_backbone=v_backbone,
            v_num_layers=v_num_layers,
            l_num_layers=l_num_layers,
            l_detach=l_detach,
            l_use_self_attn=l_use_self_attn,
        )
        if lm_only:  # the optimiser leaves the others out, and DDP does not wait for their gradients
            self.model.vision.requires_grad_(False)
            self.model.alignment.requires_grad_(False)

    # Optimiser

    def no_weight_decay(self) -> set[str]:
        return {'model.language.proj.weight'}  # in effect the embedding of the characters

    def parameter_groups(self) -> list[dict[str, Any]]:
        language = set(self.model.language.parameters())
        groups = []
        for group in super().parameter_groups():
            groups.append({**group, 'params': [p for p in group['params'] if p not in language]})
            groups.append({**group, 'params': [p for p in group['params'] if p in language], 'lr': self.l_lr})
        return [group for group in groups if group['params']]

    # Phases. Which one it is follows from the trainer's progress alone, so that a resumed run agrees with itself.

    @property
    def is_pretraining(self) -> bool:
        return self.trainer.global_step < self.pretrain_pct * self.trainer.estimated_stepping_batches

    def on_train_start(self) -> None:
        super().on_train_start()
        if self._is_alignment_fresh is None:  # a run that begins with the joint phase goes on with what it was given
            self._is_alignment_fresh = not self.is_pretraining

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        if not (self._is_alignment_fresh or self.lm_only or self.is_pretraining):
            log.info('The parts of ABINet are trained; step %d starts to train them together', self.trainer.global_step)
            self.refresh_alignment()
            self._is_alignment_fresh = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint['is_alignment_fresh'] = self._is_alignment_fresh

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._is_alignment_fresh = checkpoint.get('is_alignment_fresh')

    def refresh_alignment(self) -> None:
        """Starts the alignment anew; with the same values on each rank, and without touching the run's randomness."""
        with torch.random.fork_rng(devices=[]), torch.device('cpu'):
            torch.default_generator.manual_seed(0)
            fresh = Alignment(self.hparams['d_model'], self.num_classes).apply(init_weights)
        self.model.alignment.load_state_dict(fresh.state_dict())

    # Losses

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        losses = self.losses(*batch, apart=not self.lm_only and self.is_pretraining)
        self.log_dict({f'loss_{part}': loss for part, loss in losses.items()})
        loss = self.total_loss(losses)
        self.log('loss', loss)
        return loss

    def losses(self, images: Tensor, labels: Sequence[str], *, apart: bool) -> dict[str, Tensor]:
        """Cross entropy of each part that is trained, averaged over its iterations.

        Args:
            images: (N, 3, H, W) in [-1, 1].
            labels: their N labels.
            apart: train the parts apart: the language model from the labels, the alignment on its own.
        """
        targets = self.targets(labels)
        opinions: dict[str, list[Opinion]]
        if self.lm_only:
            opinions = {'language': [self.spell(targets)]}
        elif apart:
            vision, language = self.model.vision(images), self.spell(targets)
            # It is made anew afterwards; but DDP wants a gradient for every parameter.
            alignment = self.model.alignment(language.features.detach(), vision.features.detach())
            opinions = {'vision': [vision], 'language': [language], 'alignment': [alignment]}
        else:
            stages = self.model.stages(images)
            opinions = {'vision': [stages.vision], 'language': stages.language, 'alignment': stages.alignment}
        return {
            part: torch.stack([self.cross_entropy(opinion.logits, targets) for opinion in iterations]).mean()
            for part, iterations in opinions.items()
        }

    def total_loss(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum of `losses`."""
        return torch.stack([self.loss_weights[part] * loss for part, loss in losses.items()]).sum()

    def targets(self, labels: Sequence[str]) -> Tensor:
        """Ids of labels up to [E], padded to the longest word that the network reads: (N, max_label_length + 1)."""
        ids = self.encode(labels)[:, 1:]  # nothing predicts [B]
        return F.pad(ids, (0, self.max_label_length + 1 - ids.shape[1]), value=self.tokenizer.pad_id)

    def spell(self, targets: Tensor) -> Opinion:
        """The language model's opinion of words known for certain; targets (N, L)."""
        is_pad = targets == self.tokenizer.pad_id
        certain = F.one_hot(targets.masked_fill(is_pad, self.tokenizer.eos_id), self.num_classes)
        return self.model.language(certain.to(self.model.language.proj.weight.dtype), (~is_pad).sum(-1))

    def forward_logits_loss(self, images: Tensor, labels: Sequence[str]) -> tuple[Tensor, Tensor, int]:
        if not self.lm_only:
            return super().forward_logits_loss(images, labels)
        targets = self.targets(labels)
        logits = self.spell(targets).logits
        return logits, self.cross_entropy(logits, targets), int((targets != self.tokenizer.pad_id).sum())
