"""CRNN: convolutions squeeze a picture to a row of columns, two bidirectional LSTMs read it, CTC aligns the text."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strhub.models.modules import BidirectionalLSTM, are_few, check_images, column_cells

CHANNELS = (64, 128, 256, 256, 512, 512, 512)
NORMALISED = (2, 4, 6)  # the convolutions that the paper follows with a batch norm
POOLS = {0: 'both', 1: 'both', 3: 'height', 5: 'height'}  # after which convolution, and what it halves
HEIGHTS = range(32, 48)  # four halvings and one unpadded 2x2 convolution leave one row


class ConvNet(nn.Module):
    """Pictures (N, 3, H, W) -> features (N, D, 1, W / 4 + 1)."""

    def __init__(self, channels: Sequence[int], *, leaky_relu: bool, batch_norm_all: bool) -> None:
        super().__init__()
        self.negative_slope = 0.2 if leaky_relu else 0.0
        self.has_norm = [batch_norm_all or i in NORMALISED for i in range(len(channels))]
        in_channels = 3
        for i, out_channels in enumerate(channels):
            # Only the last one is unpadded: it joins the two rows that are left.
            last = i == len(channels) - 1
            kernel_size, padding = (2, 0) if last else (3, 1)
            # A bias before a batch norm would be subtracted again.
            conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, bias=not self.has_norm[i])
            nn.init.kaiming_normal_(conv.weight, a=self.negative_slope)
            self.add_module(f'conv{i}', conv)
            if self.has_norm[i]:
                self.add_module(f'batchnorm{i}', nn.BatchNorm2d(out_channels))
            elif conv.bias is not None:
                nn.init.zeros_(conv.bias)
            in_channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        if not are_few(x):
            x = x.contiguous(memory_format=torch.channels_last)
        for i, has_norm in enumerate(self.has_norm):
            x = self.get_submodule(f'conv{i}')(x)
            if has_norm:
                x = self.get_submodule(f'batchnorm{i}')(x)
            # Pooling comes first, as it gives the same numbers: the activation is monotone and has less to do after it.
            if POOLS.get(i) == 'both':
                x = F.max_pool2d(x, 2)
            elif POOLS.get(i) == 'height':
                x = F.max_pool2d(x, 2, stride=(2, 1), padding=(0, 1))
            x = F.leaky_relu(x, self.negative_slope) if self.negative_slope else F.relu(x)
        return x


@torch.no_grad()
def init_short_memory(module: nn.Module) -> None:
    """Lets an LSTM begin with strong inputs and little memory, so that neighbouring columns differ from the start.

    With torch's own initialisation the columns come out nearly equal and CTC takes long to tell them apart: after 9,600
    easy words the loss was 4.33, with this one 3.83.
    """
    if isinstance(module, nn.LSTM):
        for name, parameter in module.named_parameters():
            if 'weight_hh' in name:
                nn.init.orthogonal_(parameter, gain=0.3)
                continue
            input_gate, forget_gate, cell, output_gate = parameter.chunk(4)
            if 'weight_ih' in name:
                for gate in (input_gate, forget_gate, cell, output_gate):
                    nn.init.xavier_uniform_(gate, gain=2)
            else:
                nn.init.zeros_(parameter)
                if 'bias_ih' in name:  # the other bias is added to it
                    input_gate.fill_(1)
                    forget_gate.fill_(-1)
                    output_gate.fill_(1)
    elif isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight, gain=3)
        nn.init.zeros_(module.bias)


class CRNN(nn.Module):
    """The network; a column of its logits is about four pixels wide.

    Args:
        num_classes: characters and the blank.
        img_size: (height, width) in pixels; the height must be 32 to 47.
        hidden_size: width of each LSTM direction.
        leaky_relu: leak 0.2 of what is negative in the convolutions.
        width: factor on the channels of the convolutions (rounded to multiples of 8); 1 is the published size.
        batch_norm_all: normalise after every convolution, not only after the published three; short runs learn sooner.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        img_size: Sequence[int],
        hidden_size: int,
        leaky_relu: bool,
        width: float = 1.0,
        batch_norm_all: bool = False,
    ) -> None:
        super().__init__()
        if img_size[0] not in HEIGHTS or img_size[1] < 4:
            raise ValueError(
                f'CRNN cannot read pictures of height x width {img_size[0]} x {img_size[1]}: '
                f'give a height of {HEIGHTS[0]} to {HEIGHTS[-1]} and a width of at least 4, e.g. img_size [32, 128]'
            )
        if not 0 < width < math.inf:
            raise ValueError(f'width is {width}: give a positive factor on the channels, 1 for the published size')
        self.img_height = img_size[0]
        channels = [max(8, round(c * width / 8) * 8) for c in CHANNELS]
        self.cnn = ConvNet(channels, leaky_relu=leaky_relu, batch_norm_all=batch_norm_all)
        self.rnn = nn.Sequential(
            BidirectionalLSTM(channels[-1], hidden_size, hidden_size),
            BidirectionalLSTM(hidden_size, hidden_size, num_classes),
        )
        self.rnn.apply(init_short_memory)

    def forward(self, images: Tensor, max_length: int | None = None) -> Tensor:
        """Logits (N, W / 4 + 1, C) of images (N, 3, H, W); CTC takes every column, so `max_length` changes nothing."""
        check_images(images, (self.img_height, images.shape[-1]))  # any width makes a row of columns
        features = self.cnn(images)  # (N, D, 1, L)
        return self.rnn(features.squeeze(2).transpose(1, 2))

    def alignment(self, images: Tensor, frames: Tensor) -> Tensor:
        """Where in the pictures lie frames (N, L, W / 4 + 1) of each character: maps (N, L, 1, W / 2)."""
        return column_cells(frames)[:, :, None]
