"""Parts that several networks share."""

from torch import Tensor, nn


class BidirectionalLSTM(nn.Module):
    """One LSTM in each direction, joined by a linear layer: (N, L, input_size) -> (N, L, output_size)."""

    def __init__(self, input_size: int, hidden_size: int, output_size: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(input_size, hidden_size, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(2 * hidden_size, output_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.rnn(x)[0])
