"""PARSeq and TRBA, asked for one character after another; see `strhub.engine.search.beam.Steps`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from strhub.engine.exported import Exported
from strhub.models.modules import KVCache
from strhub.models.parseq.model import PARSeq
from strhub.models.reader import Recogniser
from strhub.models.trba.model import TRBA

# Models that read in turn, and which of their settings says that they do.
IN_TURN = {'parseq': 'decode_ar', 'parseq-tiny': 'decode_ar', 'parseq-patch16-224': 'decode_ar', 'trba': None}


def reads_in_turn(system: Recogniser) -> bool:
    """Whether a character depends on those before it."""
    if isinstance(system, Exported):
        switch = IN_TURN.get(system.hparams['name'], '')
        return switch is None or bool(system.hparams.get(switch))
    network = system.model
    return isinstance(network, TRBA) or (isinstance(network, PARSeq) and network.decode_ar)


def steps_of(system: Recogniser, images: Tensor) -> ParseqSteps | TrbaSteps:
    """The beginning of texts of images (N, 3, H, W).

    Raises:
        ValueError: the network is not there to be asked.
    """
    if isinstance(system, Exported):
        name = system.hparams['name']
        other = f', or export it with {IN_TURN[name]}=false' if IN_TURN[name] else ''
        raise ValueError(
            f'an exported {name} reads in turn inside its file, where no beam and no lexicon can look: '
            f'give the checkpoint{other}'
        )
    network: PARSeq | TRBA = system.model  # type: ignore[assignment]
    images = images.to(next(network.parameters()).device)
    return ParseqSteps(network, images) if isinstance(network, PARSeq) else TrbaSteps(network, images)


class ParseqSteps:
    """Keys and values are kept: of the picture once, of the characters for each text."""

    def __init__(self, network: PARSeq, images: Tensor) -> None:
        self.network, self.device = network, images.device
        self.num_pictures, self.num_positions = len(images), network.max_label_length + 1
        self.memory = network.decoder.project(network.encode(images))
        self.caches = [KVCache(self.num_positions) for _ in network.decoder.layers]
        self.position = 0

    def advance(self, tokens: Tensor | None, parents: Tensor | None) -> Tensor:
        if tokens is None:
            tokens = torch.full((self.num_pictures,), self.network.bos_id, device=self.device)
        if parents is not None:
            for cache in self.caches:
                cache.keep(parents)
        logits = self.network.decode(
            tokens[:, None], self.memory, num_positions=1, start=self.position, caches=self.caches
        )
        self.position += 1
        return logits[:, 0].float().log_softmax(-1)

    def cloze(self, tokens: Tensor) -> Tensor:
        """Log-probabilities (N, K, L) of the characters of texts (N, K, L), each seen from all others of its text."""
        flat = tokens.flatten(0, 1)
        begin = torch.full((len(flat), 1), self.network.bos_id, device=self.device)
        said = F.one_hot(flat, self.network.head.out_features).float()
        logits = self.network._refine(said, begin, self.memory, flat.shape[1])
        return logits.float().log_softmax(-1).gather(-1, flat[..., None])[..., 0].view(tokens.shape)


class TrbaSteps:
    """The state of the LSTM is kept for each text."""

    def __init__(self, network: TRBA, images: Tensor) -> None:
        self.head = network.Prediction
        self.num_pictures, self.num_positions = len(images), network.max_label_length + 1
        self.memory = network.encode(images)
        cell = self.head.attention_cell
        self.keys = cell.i2h(self.memory)
        self.spoken = cell.spoken(self.head.char_embeddings.weight)
        self.weight, self.bias = cell.questions(self.head.generator)
        self.carried = self.spoken.new_zeros(len(images), self.head.hidden_size)
        self.answers = F.linear(self.carried, self.weight, self.bias)

    def advance(self, tokens: Tensor | None, parents: Tensor | None) -> Tensor:
        if tokens is None:
            tokens = torch.full((self.num_pictures,), self.head.bos_id, device=self.memory.device)
        if parents is not None:
            self.carried, self.answers = self.carried[parents], self.answers[parents]
        if (times := len(tokens) // len(self.memory)) > 1:  # which happens once: from then on there are as many texts
            self.memory, self.keys = (x.repeat_interleave(times, 0) for x in (self.memory, self.keys))
        state, self.carried = self.head.attention_cell(
            self.answers, self.carried, self.memory, self.keys, self.spoken[tokens]
        )
        self.answers = F.linear(state, self.weight, self.bias)
        logits = self.answers[:, 5 * self.head.hidden_size :].float()
        return logits.log_softmax(-1)[:, : self.head.bos_id]
