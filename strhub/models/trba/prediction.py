"""The attention head of TRBA: an LSTM looks at the columns again for each character (Bahdanau et al., ICLR 2015)."""

import torch
from torch import Tensor, nn

State = tuple[Tensor, Tensor]


class AttentionCell(nn.Module):
    """One step: weighs the columns by the state so far, then moves the state on."""

    def __init__(self, input_size: int, hidden_size: int, embed_size: int) -> None:
        super().__init__()
        self.i2h = nn.Linear(input_size, hidden_size, bias=False)
        self.h2h = nn.Linear(hidden_size, hidden_size)
        self.score = nn.Linear(hidden_size, 1, bias=False)
        self.rnn = nn.LSTMCell(input_size + embed_size, hidden_size)

    def forward(self, state: State, memory: Tensor, keys: Tensor, embedding: Tensor) -> tuple[State, Tensor]:
        """Returns the next state and the weights (N, S) of memory (N, S, D); `keys` is `i2h(memory)`."""
        energy = self.score(torch.tanh(keys + self.h2h(state[0])[:, None])).squeeze(2)  # (N, S)
        weights = energy.softmax(1)
        context = (weights[:, None] @ memory).squeeze(1)  # (N, D)
        return self.rnn(torch.cat([context, embedding], 1), state), weights


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

    def forward(self, memory: Tensor, num_steps: int, inputs: Tensor | None = None) -> Tensor:
        """Reads `num_steps` positions.

        Args:
            memory: (N, S, D) columns.
            num_steps: L.
            inputs: (N, L) ids that precede each position, for teacher forcing; None feeds back the most probable ones.
        """
        N = memory.shape[0]  # noqa: N806
        keys = self.attention_cell.i2h(memory)
        state = (memory.new_zeros(N, self.hidden_size), memory.new_zeros(N, self.hidden_size))
        previous = memory.new_full((N,), self.bos_id, dtype=torch.long)
        logits = []
        for i in range(num_steps):
            if inputs is not None:
                previous = inputs[:, i]
            state, _ = self.attention_cell(state, memory, keys, self.char_embeddings(previous))
            logits.append(self.generator(state[0]))
            if inputs is None:
                previous = logits[-1][:, : self.bos_id].argmax(1)
        return torch.stack(logits, 1)
