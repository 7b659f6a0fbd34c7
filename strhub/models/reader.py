"""A trained network that only reads: what a system is without the framework it trains in.

To import that framework takes longer than to load a network and to read a picture with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from strhub.models.config import MOST
from strhub.tokenizer import BaseTokenizer, CharsetAdapter

MAX_PIXELS = 1 << 20  # of a network's input: 250 words of 32 x 128


class Recogniser(nn.Module):
    """A network with the tokenizer of its charset: what systems and readers have in common."""

    model: nn.Module  # (N, 3, H, W) -> logits (N, L, C)
    tokenizer: BaseTokenizer
    bf16 = False  # whether it reads in bfloat16, where its device computes in that
    if TYPE_CHECKING:

        @property
        def hparams(self) -> MutableMapping[str, Any]: ...

    def forward(self, images: Tensor, max_length: int | None = None) -> Tensor:
        """Logits (N, L, C) of images (N, 3, H, W) in [-1, 1]; at most `max_length` characters."""
        return self.model(images, max_length)

    @torch.inference_mode()
    def probabilities(self, images: Tensor) -> Tensor:
        """What reading gives to each class, (N, L, C) float32, of images (N, 3, H, W) in [-1, 1] on any device."""
        was_training = self.training
        self.eval()
        try:
            device = next(self.model.parameters()).device
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                logits = self(images.to(device, non_blocking=True))
            return logits.float().softmax(-1)
        finally:
            self.train(was_training)

    def read(self, images: Tensor) -> tuple[list[str], list[Tensor]]:
        """Texts of images (N, 3, H, W) in [-1, 1] and probabilities of their characters; see `tokenizer.decode`."""
        return self.tokenizer.decode(self.probabilities(images))

    def compilable(self) -> list[nn.Module]:
        """Parts of the network whose tensors have the same sizes at each call: what is worth compiling."""
        return [getattr(self.model, 'static_part', self.model)]


class Reader(Recogniser):
    """A network as its system would make it of all its hyper-parameters, for reading only.

    Args:
        network: makes it, of those hyper-parameters that it names and of `sizes`.
        tokenizer: of the hyper-parameter charset_train.
        sizes: what the network takes from the tokenizer.
        hparams: those of the system.
    """

    def __init__(
        self,
        network: Callable[..., nn.Module],
        tokenizer: BaseTokenizer,
        sizes: Mapping[str, int],
        hparams: Mapping[str, Any],
    ) -> None:
        check_sizes(hparams['img_size'], hparams['max_label_length'])
        CharsetAdapter(hparams['charset_test'])  # refuses what could not be judged in
        super().__init__()
        self._hparams = dict(hparams)
        self.tokenizer = tokenizer
        names = signature(network).parameters
        self.model = network(**{key: value for key, value in {**hparams, **sizes}.items() if key in names})

    @property
    def hparams(self) -> dict[str, Any]:
        return self._hparams


def check_sizes(img_size: Sequence[int], max_label_length: int) -> None:
    if len(img_size) != 2 or min(img_size) < 1:
        raise ValueError(f'img_size is {img_size}: give [height, width] in pixels, e.g. [32, 128]')
    if img_size[0] * img_size[1] > MAX_PIXELS:
        raise ValueError(f'img_size is {img_size}: give at most {MAX_PIXELS} pixels in all, e.g. [32, 128]')
    if not 1 <= max_label_length <= MOST['max_label_length']:
        raise ValueError(
            f'max_label_length is {max_label_length}: give at least 1 and at most {MOST["max_label_length"]}'
        )
