"""What is exported of a network: one program where it always computes the same, else the parts of a loop.

Where a program that reads character by character goes on depends on what was read, which no trace can follow. So what
is traced are the parts: what is seen, one step, and what comes after the last one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strhub.models.modules import KeysValues
from strhub.models.parseq.model import PARSeq
from strhub.models.reader import Recogniser
from strhub.models.trba.model import TRBA, Stages
from strhub.models.trba.prediction import EOS

# Pictures in the example. Smaller batches are laid out in memory in another way, which no other runtime knows of; and
# one would be taken for a size that all have.
EXAMPLES = 8

Four = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class InTurn:
    """A network that reads character by character.

    Attributes:
        look: images (N, 3, H, W) -> two tensors that stay as they are, and two that are known at the beginning.
        step: tokens (N,), their place (1,), and those four -> logits (N, C), the next tokens (N,), the two known then.
        finish: logits (N, L, C) and the two that stay -> logits (N, L, C).
        begin, end: tokens.
        num_positions: L.
        seen_axes, known_axes: of which sizes differ, of those that stay and those that are known.
    """

    look: nn.Module
    step: nn.Module
    finish: nn.Module | None
    begin: int
    end: int
    num_positions: int
    seen_axes: dict[int, str]
    known_axes: dict[int, str]


class AtOnce(nn.Module):
    """A network that computes the same whatever it reads: images (N, 3, H, W) -> logits (N, L, C)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(_taken(self.network, images)).float()


def exportable(system: Recogniser) -> AtOnce | InTurn:
    """The network of a system in a form that a trace can follow, with the weights of the system."""
    network = system.eval().model
    if isinstance(network, PARSeq) and network.decode_ar:
        return InTurn(
            ParseqLook(network).eval(),
            ParseqStep(network).eval(),
            ParseqFinish(network).eval() if network.refine_iters else None,
            begin=network.bos_id,
            end=network.eos_id,
            num_positions=network.max_label_length + 1,
            seen_axes={1: 'N'},
            known_axes={1: 'N', 3: 'T'},
        )
    if isinstance(network, TRBA):
        return InTurn(
            TrbaLook(network).eval(),
            TrbaStep(network).eval(),
            None,
            begin=network.Prediction.bos_id,
            end=EOS,
            num_positions=network.max_label_length + 1,
            seen_axes={0: 'N'},
            known_axes={0: 'N'},
        )
    return (ParseqAtOnce(network) if isinstance(network, PARSeq) else AtOnce(network)).eval()


class ParseqAtOnce(AtOnce):
    """PARSeq with decode_ar=false."""

    network: PARSeq

    def forward(self, images: Tensor) -> Tensor:
        network = self.network
        memory = network.decoder.project(network.encode(_taken(network, images)))
        begin = torch.full_like(images[:, 0, 0, :1], network.bos_id, dtype=torch.long)
        logits = network.decode(begin, memory, num_positions=network.max_label_length + 1)
        return _refined(network, logits, memory).float()


def _taken(network: nn.Module, images: Tensor) -> Tensor:
    """In the precision of the weights that meet the images first."""
    return images.to(next(network.parameters()).dtype)


def halve(network: nn.Module) -> None:
    """Rounds a network to float16, but for the rectification of TRBA, in which large terms cancel each other."""
    network.half()
    if isinstance(network, Stages):
        network.Transformation.float()
        network.Transformation.register_forward_hook(lambda _, __, output: (output[0].half(), output[1]))


# PARSeq: what all decoder layers have, keys and values, is a tensor (layers, N, heads, S, D / heads) each


class ParseqLook(nn.Module):
    """The keys and values of the picture, and those of no character."""

    def __init__(self, network: PARSeq) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Four:
        keys, values = _joined(self.network.decoder.project(self.network.encode(_taken(self.network, images))))
        return keys, values, keys[:, :, :, :0], values[:, :, :, :0]


class ParseqStep(nn.Module):
    """One more character, by what is known of those before."""

    positions: Tensor

    def __init__(self, network: PARSeq) -> None:
        super().__init__()
        self.network = network
        # As in PARSeq.decode: a token's position is that of the query that asked for it, and [B] has none.
        self.register_buffer('positions', F.pad(network.pos_queries.detach(), (0, 0, 1, 0))[0])

    def forward(
        self, tokens: Tensor, place: Tensor, keys: Tensor, values: Tensor, known_keys: Tensor, known_values: Tensor
    ) -> Four:
        network = self.network
        layers = len(network.decoder.layers)
        caches: Any = [Known(one) for one in _parted(known_keys, known_values, layers)]
        answers = network.decoder(
            network.pos_queries[0].index_select(0, place)[None],
            network.text_embed(tokens[:, None]) + self.positions.index_select(0, place),
            _parted(keys, values, layers),
            query_hides=None,
            content_hides=None,
            caches=caches,
            asked=None,
        )
        logits = network.head(answers)[:, 0].float()
        return logits, logits.argmax(-1), *_joined([cache.known for cache in caches])


class Known:
    """Keys and values of the characters so far, in the place of a KVCache: they grow, and are what a step returns."""

    def __init__(self, known: KeysValues) -> None:
        self.known = known

    def append(self, new: KeysValues) -> KeysValues:
        self.known = torch.cat([self.known[0], new[0]], 2), torch.cat([self.known[1], new[1]], 2)
        return self.known


class ParseqFinish(nn.Module):
    """Refinement."""

    def __init__(self, network: PARSeq) -> None:
        super().__init__()
        self.network = network

    def forward(self, logits: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return _refined(self.network, logits, _parted(keys, values, len(self.network.decoder.layers))).float()


def _refined(network: PARSeq, logits: Tensor, memory: Sequence[KeysValues]) -> Tensor:
    begin = torch.full_like(logits[:, :1, 0], network.bos_id, dtype=torch.long)
    for _ in range(network.refine_iters):
        logits = network._refine(logits, begin, memory, network.max_label_length + 1)
    return logits


def _joined(parts: list[KeysValues]) -> KeysValues:
    keys, values = zip(*parts, strict=True)
    return (keys[0][None], values[0][None]) if len(parts) == 1 else (torch.stack(keys), torch.stack(values))


def _parted(keys: Tensor, values: Tensor, layers: int) -> list[KeysValues]:
    if layers == 1:  # a view, where a part of several would be copied
        return [(keys.squeeze(0), values.squeeze(0))]
    return list(zip(keys.unbind(0), values.unbind(0), strict=True))


# TRBA


class TrbaLook(nn.Module):
    """The columns and their keys; the answers to the first state, which is zero, and its cell."""

    def __init__(self, network: TRBA) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Four:
        memory = self.network.encode(_taken(self.network, images))
        head = self.network.Prediction
        weight, bias = head.attention_cell.questions(head.generator)
        carried = torch.zeros_like(memory[:, 0, :1]).expand(-1, head.hidden_size)
        return memory, head.attention_cell.i2h(memory), F.linear(carried, weight, bias), carried


class TrbaStep(nn.Module):
    """One more character, by the state after those before."""

    weight: Tensor
    bias: Tensor
    spoken: Tensor

    def __init__(self, network: TRBA) -> None:
        super().__init__()
        head = network.Prediction
        self.cell, self.hidden_size, self.begin = head.attention_cell, head.hidden_size, head.bos_id
        weight, bias = self.cell.questions(head.generator)
        self.register_buffer('weight', weight.detach())
        self.register_buffer('bias', bias.detach())
        self.register_buffer('spoken', self.cell.spoken(head.char_embeddings.weight).detach())

    def forward(
        self, tokens: Tensor, place: Tensor, memory: Tensor, keys: Tensor, answers: Tensor, carried: Tensor
    ) -> Four:
        state, carried = self.cell(answers, carried, memory, keys, F.embedding(tokens, self.spoken))
        answers = F.linear(state, self.weight, self.bias)
        logits = answers[:, 5 * self.hidden_size :].float()
        return logits, logits[:, : self.begin].argmax(1), answers, carried


def example(system: Recogniser) -> Tensor:
    """Images to trace with."""
    height, width = system.hparams['img_size']
    return torch.rand(EXAMPLES, 3, height, width) * 2 - 1


def examples(parts: InTurn, images: Tensor) -> tuple[tuple[Tensor, ...], ...]:
    """What `look`, `step` and `finish` are traced with."""
    seen, also_seen, *known = parts.look(images)
    tokens, place = torch.full((len(images),), parts.begin), torch.zeros(1, dtype=torch.long)
    for _ in range(2):  # to know nothing, or one character, would be taken for a size of its own
        logits, tokens, *known = parts.step(tokens, place, seen, also_seen, *known)
        place = place + 1
    logits = logits[:, None].repeat(1, parts.num_positions, 1)
    return (images,), (tokens, place, seen, also_seen, *known), (logits, seen, also_seen)


@contextmanager
def quietly() -> Iterator[None]:
    """What torch warns of does not matter here: sizes are fixed but that of the batch, and TorchScript is old."""
    with warnings.catch_warnings():
        for category in (torch.jit.TracerWarning, DeprecationWarning, FutureWarning, UserWarning):
            warnings.simplefilter('ignore', category)
        yield
