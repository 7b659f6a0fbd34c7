"""The systems: a network with its tokenizer, loss, optimiser and validation."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from strhub.metrics import Score
from strhub.models.hub import Shared
from strhub.models.reader import Recogniser, check_sizes
from strhub.tokenizer import BaseTokenizer, CharsetAdapter, CTCTokenizer, Tokenizer

Batch = tuple[Tensor, list[str]]  # images (N, 3, H, W) in [-1, 1] and their labels

# The published learning rates are meant for 256 pictures a step.
REFERENCE_BATCH_SIZE = 256


class BaseSystem(Shared, Recogniser, pl.LightningModule, ABC):
    """What every model of the hub shares.

    A subclass names its network's hyper-parameters in its own constructor, forwards the others as `**training` to this
    one, calls `save_hyperparameters()` and sets `self.model`, the network: (N, 3, H, W) -> logits (N, L, C).

    Args:
        name: the model's name in the hub; a checkpoint says with it which class it needs.
        charset_train: the characters that the network can tell apart.
        charset_test: the characters that validation and test are judged in.
        max_label_length: characters of the longest word.
        img_size: (height, width) of the pictures in pixels.
        batch_size: pictures a step and device; the learning rate is scaled by it.
        lr: learning rate for 256 pictures a step on one device.
        warmup_pct: share of the training in which the learning rate rises.
        weight_decay: of AdamW; biases, norms and embeddings are exempt.

    Raises:
        ValueError: a hyper-parameter that does not exist or makes no sense.
    """

    def __init__(
        self,
        *,
        tokenizer: BaseTokenizer,
        name: str,
        charset_train: str,
        charset_test: str,
        max_label_length: int,
        img_size: Sequence[int],
        batch_size: int,
        lr: float,
        warmup_pct: float,
        weight_decay: float,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise ValueError(f'{name} has no hyper-parameter {", ".join(map(repr, unknown))}: check the spelling')
        check_sizes(img_size, max_label_length)
        if batch_size < 1:
            raise ValueError(f'batch_size is {batch_size}: give at least 1')
        if not (0 < lr < math.inf and 0 <= weight_decay < math.inf):
            raise ValueError(
                f'lr is {lr} and weight_decay is {weight_decay}: give a positive lr, and a weight_decay of 0 or more'
            )
        if not 0 <= warmup_pct <= 1:
            raise ValueError(f'warmup_pct is {warmup_pct}: give a share between 0 and 1, e.g. 0.075')
        super().__init__()
        self.tokenizer = tokenizer
        self.charset_adapter = CharsetAdapter(charset_test)
        self.batch_size = batch_size
        self.lr = lr
        self.warmup_pct = warmup_pct
        self.weight_decay = weight_decay
        self.turns = 1  # how many processes each stands for, accumulating their gradients
        self._val_score = Score()
        self._val_loss = self._val_numel = 0.0

    @abstractmethod
    def forward_logits_loss(self, images: Tensor, labels: Sequence[str]) -> tuple[Tensor, Tensor, int]:
        """Validation: logits (N, L, C), their mean loss, and over how many terms the mean was taken."""

    # Training

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        _, loss, _ = self.forward_logits_loss(images, labels)
        self.log('loss', loss)
        return loss

    def no_weight_decay(self) -> set[str]:
        """Names of parameters, as in `named_parameters()`, that weight decay must spare besides biases and norms."""
        return set()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser gets: parameters with and without weight decay; a group may have an `lr` of its own."""
        from timm.optim import param_groups_weight_decay  # seconds, which only training needs

        return param_groups_weight_decay(self, self.weight_decay, no_weight_decay_list=self.no_weight_decay())

    def lr_scale(self) -> float:
        """Factor on the published learning rate: linear in the accumulated batch, square root in the devices."""
        batch_size = self.batch_size * self.trainer.accumulate_grad_batches // self.turns
        return math.sqrt(self.trainer.world_size * self.turns) * batch_size / REFERENCE_BATCH_SIZE

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        scale = self.lr_scale()
        groups = self.parameter_groups()
        for group in groups:
            group['lr'] = scale * group.get('lr', self.lr)
        # Fused, it goes over the memory once, but unscales the gradients of float16 itself, which leaves none to clip.
        fused = None if self.trainer.precision == '16-mixed' else True
        optimizer = AdamW(groups, lr=scale * self.lr, weight_decay=self.weight_decay, fused=fused)
        schedule = OneCycleLR(
            optimizer,
            max_lr=[group['lr'] for group in groups],
            total_steps=int(self.trainer.estimated_stepping_batches),
            pct_start=self.warmup_pct,
            cycle_momentum=False,
        )
        return {'optimizer': optimizer, 'lr_scheduler': {'scheduler': schedule, 'interval': 'step'}}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Lightning refuses to clip beside a fused optimiser in bfloat16, too, where nothing is scaled."""
        by_norm = gradient_clip_algorithm in (None, 'norm')
        is_plain = self.trainer.precision == 'bf16-mixed' and isinstance(self.trainer.precision_plugin, MixedPrecision)
        if gradient_clip_val and is_plain:
            clip = torch.nn.utils.clip_grad_norm_ if by_norm else torch.nn.utils.clip_grad_value_
            clip(self.parameters(), gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_start(self) -> None:
        """Gives the state of a resumed optimiser the layout of its weights: fused, it takes both for the same."""
        for optimizer in self.trainer.optimizers:
            for parameter, state in optimizer.state.items():
                for key, value in state.items():
                    if isinstance(value, Tensor) and value.shape == parameter.shape:
                        state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)

    # Validation

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels = batch
        logits, loss, numel = self.forward_logits_loss(images, labels)
        self._val_score += self.score(logits, labels)
        self._val_loss += float(loss) * numel
        self._val_numel += numel

    def score(self, logits: Tensor, labels: Sequence[str]) -> Score:
        """Judges the greedy reading of logits (N, L, C) in the charset of the test."""
        texts, confidences = self.tokenizer.decode_words(logits.float().softmax(-1))
        return Score.of([self.charset_adapter(text) for text in texts], labels, confidences)

    def on_validation_epoch_start(self) -> None:
        self._val_score = Score()
        self._val_loss = self._val_numel = 0.0

    def on_validation_epoch_end(self) -> None:
        """Sums over all ranks before it divides, so that uneven shards weigh what they hold."""
        losses = torch.tensor([self._val_loss, self._val_numel], dtype=torch.float64)
        sums = torch.cat([self._val_score.to_tensor(), losses])
        if self.trainer.world_size > 1:
            sums = self.trainer.strategy.reduce(sums.to(self.device), reduce_op='sum').cpu()
        score = Score.from_tensor(sums[:-2])
        loss, numel = sums[-2:].tolist()
        self.log_dict(
            {'val_accuracy': score.accuracy, 'val_NED': score.one_minus_ned, 'val_loss': loss / max(numel, 1)},
            prog_bar=True,
            rank_zero_only=False,
        )


class CrossEntropySystem(BaseSystem):
    """Attention models: one class per position, [E] ends the word."""

    tokenizer: Tokenizer

    def __init__(self, *, charset_train: str, **training: Any) -> None:
        super().__init__(tokenizer=Tokenizer(charset_train), charset_train=charset_train, **training)

    def encode(self, labels: Sequence[str], *, device: torch.device | str | None = None) -> Tensor:
        """Ids (N, L) of labels: [B], characters, [E], [P]; by default on the model's device.

        Raises:
            ValueError: no labels, or one that the network cannot read.
        """
        longest, limit = max(labels, key=len, default=''), self.hparams['max_label_length']
        if len(longest) > limit:
            raise ValueError(
                f'label {longest!r} has {len(longest)} characters and the model was made for at most '
                f'{limit}: leave it out, or make the model with a larger max_label_length'
            )
        return self.tokenizer.encode(labels, self.device if device is None else device)

    def forward_logits_loss(self, images: Tensor, labels: Sequence[str]) -> tuple[Tensor, Tensor, int]:
        targets = self.encode(labels)[:, 1:]  # nothing predicts [B]
        logits = self(images, max_length=targets.shape[1] - 1)
        loss = self.cross_entropy(logits, targets)
        return logits, loss, int((targets != self.tokenizer.pad_id).sum())

    def cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over the ids of targets (N, L) that are not [P]; logits (N, L, C)."""
        return F.cross_entropy(logits.flatten(end_dim=1), targets.flatten(), ignore_index=self.tokenizer.pad_id)


class CTCSystem(BaseSystem):
    """Models trained with connectionist temporal classification (Graves et al., ICML 2006)."""

    tokenizer: CTCTokenizer

    def __init__(self, *, charset_train: str, **training: Any) -> None:
        super().__init__(tokenizer=CTCTokenizer(charset_train), charset_train=charset_train, **training)

    def forward_logits_loss(self, images: Tensor, labels: Sequence[str]) -> tuple[Tensor, Tensor, int]:
        targets = self.tokenizer.encode(labels, self.device)
        logits = self(images)
        N, T, _ = logits.shape  # noqa: N806
        loss = F.ctc_loss(
            logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1).transpose(0, 1),
            targets,
            input_lengths=torch.full((N,), T, dtype=torch.long),
            target_lengths=torch.tensor([len(label) for label in labels]),
            blank=self.tokenizer.blank_id,
            zero_infinity=True,  # a label with more characters and repeats than frames
        )
        return logits, loss, N
