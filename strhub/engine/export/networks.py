"""What is exported of a network: one program where it always computes the same, else the parts of a loop.

Where a program that reads character by character goes on depends on what was read, which no trace can follow. So what
is traced are the parts: what is seen, one step, and what comes after the last one.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strhub.models.modules import Attention, KeysValues
from strhub.models.parseq.decoder import DecoderLayer
from strhub.models.parseq.model import PARSeq
from strhub.models.reader import Recogniser
from strhub.models.trba.model import TRBA
from strhub.models.trba.prediction import EOS
from strhub.models.trba.transformation import TPSTransformation

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
            known_axes={1: 'N'},
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
    """Rounds a network to float16, but for what stays in float32.

    That is the rectification of TRBA, in which large terms cancel each other, and LSTMs, which on a processor ONNX
    Runtime has in no other precision: it crashes on them.
    """
    network.half()
    exact = [module for module in network.modules() if isinstance(module, nn.LSTM | TPSTransformation)]
    for module in exact:
        module.float()
        module.register_forward_pre_hook(lambda _, given: tuple(one.float() for one in given))
        module.register_forward_hook(lambda _, __, output: (output[0].half(), output[1]))


# PARSeq: keys and values of all decoder layers are one tensor each, (layers, N, heads, D / heads, S) and
# (layers, N, heads, S, D / heads), so that no step has to turn them


class ParseqLook(nn.Module):
    """The keys and values of the picture, and room for those of the characters."""

    def __init__(self, network: PARSeq) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Four:
        network = self.network
        parts = network.decoder.project(network.encode(_taken(network, images)))
        keys = torch.stack([keys.transpose(-1, -2) for keys, _ in parts])
        values = torch.stack([values for _, values in parts])
        positions = network.max_label_length + 1
        nothing = torch.zeros_like(keys[..., :1]).expand(-1, -1, -1, -1, positions)
        return keys, values, nothing, nothing.transpose(-1, -2)


class ParseqStep(nn.Module):
    """One more character, by what is known of those before: as PARSeq.decode with caches, for one query."""

    places: Tensor
    positions: Tensor

    def __init__(self, network: PARSeq) -> None:
        super().__init__()
        self.network = network
        queries = network.pos_queries.detach()[0]
        self.register_buffer('places', torch.arange(len(queries)))
        # A token's position is that of the query that asked for it, and [B] has none.
        self.register_buffer('positions', F.pad(queries[:-1], (0, 0, 1, 0)))

    def forward(
        self, tokens: Tensor, place: Tensor, keys: Tensor, values: Tensor, known_keys: Tensor, known_values: Tensor
    ) -> Four:
        network = self.network
        layers = [cast(DecoderLayer, layer) for layer in network.decoder.layers]
        query = network.pos_queries[0].index_select(0, place)[None]  # (1, 1, D)
        content = network.text_embed(tokens[:, None]) + self.positions.index_select(0, place)  # (N, 1, D)
        now, later = self.places == place, self.places > place
        known = []
        for i, (layer, picture, before) in enumerate(
            zip(layers, _parted(keys, values, len(layers)), _parted(known_keys, known_values, len(layers)), strict=True)
        ):
            normed = layer.norm_c(content)
            _, heads, width, _ = before[0].shape
            new_keys, new_values = _split(layer.self_attn, normed)
            context = (
                torch.where(now, new_keys.reshape(-1, heads, width, 1), before[0]),
                torch.where(now[:, None], new_values.reshape(-1, heads, 1, width), before[1]),
            )
            known.append(context)
            query = _stream(layer, query, layer.norm_q(query), context, picture, later)
            if i < len(layers) - 1:
                content = _stream(layer, content, normed, context, picture, later)
        logits = network.head(network.decoder.norm(query))[:, 0].float()
        stacked = [part[0][None] if len(part) == 1 else torch.stack(part) for part in zip(*known, strict=True)]
        return logits, logits.argmax(-1), stacked[0], stacked[1]


def _stream(
    layer: DecoderLayer, x: Tensor, normed: Tensor, context: KeysValues, picture: KeysValues, later: Tensor
) -> Tensor:
    """As DecoderLayer does, for one position x (N, 1, D)."""
    x = x + layer.self_attn.out_proj(_attend(layer.self_attn.queries(normed), context, later))
    x = x + layer.cross_attn.out_proj(_attend(layer.cross_attn.queries(layer.norm1(x)), picture))
    return x + layer.linear2(F.gelu(layer.linear1(layer.norm2(x))))


def _attend(queries: Tensor, keys_values: KeysValues, hidden: Tensor | None = None) -> Tensor:
    """Queries (N, 1, D), keys (N, heads, D / heads, S), values (N, heads, S, D / heads) -> (N, 1, D)."""
    keys, values = keys_values
    _, heads, width, _ = keys.shape
    scores = (queries * width**-0.5).reshape(-1, heads, 1, width) @ keys
    if hidden is not None:
        scores = scores.masked_fill(hidden, -torch.inf)
    return (scores.softmax(-1) @ values).reshape(-1, 1, heads * width)


def _split(attention: Attention, normed: Tensor) -> KeysValues:
    """The keys and values (N, 1, D) of one position."""
    width = normed.shape[-1]
    projected = F.linear(normed, attention.in_proj_weight[width:], attention.in_proj_bias[width:])
    keys, values = projected.chunk(2, dim=-1)
    return keys, values


class ParseqFinish(nn.Module):
    """Refinement."""

    def __init__(self, network: PARSeq) -> None:
        super().__init__()
        self.network = network

    def forward(self, logits: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        memory = _parted(keys.transpose(-1, -2), values, len(self.network.decoder.layers))
        return _refined(self.network, logits, memory).float()


def _refined(network: PARSeq, logits: Tensor, memory: Sequence[KeysValues]) -> Tensor:
    begin = torch.full_like(logits[:, :1, 0], network.bos_id, dtype=torch.long)
    for _ in range(network.refine_iters):
        logits = network._refine(logits, begin, memory, network.max_label_length + 1)
    return logits


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
    logits, *_ = parts.step(tokens, place, seen, also_seen, *known)
    logits = logits[:, None].repeat(1, parts.num_positions, 1)
    return (images,), (tokens, place, seen, also_seen, *known), (logits, seen, also_seen)


@contextmanager
def quietly() -> Iterator[None]:
    """What exporters warn of does not matter here: sizes are fixed but that of the batch, and TorchScript is old."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for category in (torch.jit.TracerWarning, DeprecationWarning, FutureWarning, UserWarning):
                warnings.simplefilter('ignore', category)
            yield
    finally:
        logging.disable(level)
