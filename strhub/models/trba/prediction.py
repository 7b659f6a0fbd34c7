"""The attention head of TRBA: an LSTM looks at the columns again for each character (Bahdanau et al., ICLR 2015)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strhub.models.modules import word_lengths

# Asking a GPU whether all words have ended makes it wait, which costs more than a few steps too many.
ASK_EVERY = 8
EOS = 0  # class of the end of a word


class AttentionCell(nn.Module):
    """One step: weighs the columns by the state so far, then moves the state on.

    All that follows from a state alone is asked of it by one product, `questions`.
    """

    def __init__(self, input_size: int, hidden_size: int, embed_size: int) -> None:
        super().__init__()
        self.i2h = nn.Linear(input_size, hidden_size, bias=False)
        self.h2h = nn.Linear(hidden_size, hidden_size)
        self.score = nn.Linear(hidden_size, 1, bias=False)
        self.rnn = nn.LSTMCell(input_size + embed_size, hidden_size)

    def spoken(self, embeddings: Tensor) -> Tensor:
        """What each class (C, E) adds to the gates of the step after it, (C, 4H)."""
        # In full precision: its gradient sums over all characters of a batch.
        with torch.autocast(embeddings.device.type, enabled=False):
            weight = self.rnn.weight_ih[:, -embeddings.shape[1] :]
            return F.linear(embeddings, weight, self.rnn.bias_ih + self.rnn.bias_hh)

    def questions(self, *heads: nn.Linear) -> tuple[Tensor, Tensor]:
        """A linear layer's weight and bias: a state's share in the next gates (4H) and its query (H), then `heads`."""
        weights = [self.rnn.weight_hh, *(layer.weight for layer in (self.h2h, *heads))]
        biases = [torch.zeros_like(self.rnn.bias_hh), *(layer.bias for layer in (self.h2h, *heads))]
        return torch.cat(weights), torch.cat(biases)  # the bias of the gates is in `spoken`

    def forward(
        self, answers: Tensor, carried: Tensor, memory: Tensor, keys: Tensor, spoken: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Moves on.

        Args:
            answers: (N, 5H or more) of the last state to `questions`.
            carried: (N, H) the LSTM's cell.
            memory: (N, S, D) columns.
            keys: (N, S, H) `i2h(memory)`.
            spoken: (N, 4H) what the last character adds to the gates.

        Returns:
            the next state and cell, each (N, H)
        """
        size = self.rnn.hidden_size
        context = (self.weights(answers, keys)[:, None] @ memory).squeeze(1)  # (N, D)
        gates = F.linear(context, self.rnn.weight_ih[:, : memory.shape[-1]]) + answers[:, : 4 * size] + spoken
        enter, forget, _, leave = gates.sigmoid().chunk(4, 1)
        carried = forget * carried + enter * gates[:, 2 * size : 3 * size].tanh()
        return leave * carried.tanh(), carried

    def weights(self, answers: Tensor, keys: Tensor) -> Tensor:
        """How much a step takes of each column, (N, S); see `forward`."""
        size = self.rnn.hidden_size
        energy = (keys + answers[:, None, 4 * size : 5 * size]).tanh() @ self.score.weight[0]
        return energy.softmax(1)


class Attention(nn.Module):
    """Columns (N, S, D) -> logits (N, L, C).

    Classes from `bos_id` on are never fed back: no text holds them, though the published head has rows for them.
    """

    def __init__(self, input_size: int, hidden_size: int, num_classes: int, *, bos_id: int) -> None:
        super().__init__()
        self.attention_cell = AttentionCell(input_size, hidden_size, embed_size=hidden_size)
        self.hidden_size = hidden_size
        self.bos_id = bos_id
        self.generator = nn.Linear(hidden_size, num_classes)
        self.char_embeddings = nn.Embedding(num_classes, hidden_size)

    def forward(
        self, memory: Tensor, num_steps: int, inputs: Tensor | None = None, *, stop_early: bool = False
    ) -> Tensor:
        """Reads `num_steps` positions.

        Args:
            memory: (N, S, D) columns.
            num_steps: L.
            inputs: (N, L) ids that precede each position, for teacher forcing; None feeds back the most probable ones.
            stop_early: leave out the positions that no word reaches; not with `inputs`.
        """
        keys = self.attention_cell.i2h(memory)
        spoken = self.attention_cell.spoken(self.char_embeddings.weight)
        carried = spoken.new_zeros(len(memory), self.hidden_size)
        if inputs is None:
            return self._read(memory, keys, spoken, carried, num_steps, stop_early=stop_early)
        weight, bias = self.attention_cell.questions()
        answers, states = F.linear(carried, weight, bias), []  # the first state is zero, as the cell
        for known in F.embedding(inputs[:, :num_steps], spoken).unbind(1):
            state, carried = self.attention_cell(answers, carried, memory, keys, known)
            answers = F.linear(state, weight, bias)
            states.append(state)
        return self.generator(torch.stack(states, 1))

    def weights(self, memory: Tensor, inputs: Tensor) -> Tensor:
        """How much each position takes of each column, (N, L, S), where `inputs` (N, L) precede the positions."""
        cell = self.attention_cell
        keys, spoken = cell.i2h(memory), cell.spoken(self.char_embeddings.weight)
        carried = spoken.new_zeros(len(memory), self.hidden_size)
        weight, bias = cell.questions()
        answers, weights = F.linear(carried, weight, bias), []
        for known in F.embedding(inputs, spoken).unbind(1):
            weights.append(cell.weights(answers, keys))
            state, carried = cell(answers, carried, memory, keys, known)
            answers = F.linear(state, weight, bias)
        return torch.stack(weights, 1)

    def _read(
        self, memory: Tensor, keys: Tensor, spoken: Tensor, carried: Tensor, num_steps: int, *, stop_early: bool
    ) -> Tensor:
        """Logits (N, L, C), where each step hears what the one before it said."""
        ask_every = 1 if memory.device.type == 'cpu' else ASK_EVERY
        weight, bias = self.attention_cell.questions(self.generator)
        answers, logits = F.linear(carried, weight, bias), []  # the first state is zero, as the cell
        previous = torch.full((len(memory),), self.bos_id, device=memory.device)
        ended = torch.zeros_like(previous, dtype=torch.bool)
        for i in range(num_steps):
            state, carried = self.attention_cell(answers, carried, memory, keys, spoken[previous])
            answers = F.linear(state, weight, bias)
            logits.append(answers[:, 5 * self.hidden_size :])
            previous = logits[-1][:, : self.bos_id].argmax(1)
            if stop_early:
                ended = ended | (previous == EOS)
                if i % ask_every == ask_every - 1 and bool(ended.all()):
                    break
        joined = torch.stack(logits, 1)
        if not stop_early or not len(joined):
            return joined
        return joined[:, : int(word_lengths(joined[..., : self.bos_id].argmax(-1), EOS).max())]
