"""The 45-layer residual network that looks at the picture: (N, 3, H, W) -> (N, D, H / 4, W / 4)."""

import torch
from torch import Tensor, nn

from strhub.models.modules import are_few

# Five stages of residual blocks, two convolutions each, and the stem: 45 layers.
BLOCKS = (3, 4, 6, 6, 3)
STRIDES = (2, 1, 2, 1, 1)
WIDTH_SHARES = (16, 8, 4, 2, 1)  # the last stage is D wide, the first D / 16


def feature_size(img_size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the feature map of a picture of (height, width); a halving rounds up."""
    height, width = img_size
    for stride in STRIDES:
        height, width = -(-height // stride), -(-width // stride)
    return height, width


class Block(nn.Module):
    """conv 1x1, conv 3x3 and a short cut, which is projected where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int, *, project: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if project:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet45(nn.Module):
    """Five stages of blocks; the first block of each one widens, and halves the picture in stages 1 and 3."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        widths = [d_model // share for share in WIDTH_SHARES]
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        in_channels = widths[0]
        for i, (blocks, stride, width) in enumerate(zip(BLOCKS, STRIDES, widths, strict=True), start=1):
            first = Block(in_channels, width, stride, project=True)
            others = (Block(width, width, 1, project=False) for _ in range(blocks - 1))
            self.add_module(f'layer{i}', nn.Sequential(first, *others))
            in_channels = width

    def forward(self, images: Tensor) -> Tensor:
        if not are_few(images):
            images = images.contiguous(memory_format=torch.channels_last)
        x = self.relu(self.bn1(self.conv1(images)))
        for i in range(1, len(BLOCKS) + 1):
            x = self.get_submodule(f'layer{i}')(x)
        return x
