"""The residual network of TRBA: a picture becomes a row of columns (Cheng et al., "Focusing Attention", ICCV 2017)."""

import torch
from torch import Tensor, nn

from strhub.models.modules import are_few

STRIDES = ((2, 2), (2, 2), (2, 1))  # of the poolings before layers 1 to 3: the width is kept for the characters
BLOCKS = (1, 2, 5, 3)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al., CVPR 2016)."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if in_channels != channels:
            self.downsample = nn.Sequential(conv(in_channels, channels, 1, padding=0), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


def conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 1,
) -> nn.Conv2d:
    """A convolution without bias, as a batch norm always follows."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=False)


def layer(num_blocks: int, in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(*(BasicBlock(in_channels if i == 0 else channels, channels) for i in range(num_blocks)))


class ResNet(nn.Module):
    """Pictures (N, 3, H, W) -> features (N, D, H / 16 - 1, W / 4 + 1)."""

    def __init__(self, output_channel: int) -> None:
        super().__init__()
        d = output_channel
        widths = (d // 4, d // 2, d, d)
        self.conv0_1 = conv(3, d // 16)
        self.bn0_1 = nn.BatchNorm2d(d // 16)
        self.conv0_2 = conv(d // 16, d // 8)
        self.bn0_2 = nn.BatchNorm2d(d // 8)
        self.maxpool1 = nn.MaxPool2d(2)
        self.layer1 = layer(BLOCKS[0], d // 8, widths[0])
        self.conv1 = conv(widths[0], widths[0])
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.maxpool2 = nn.MaxPool2d(2)
        self.layer2 = layer(BLOCKS[1], widths[0], widths[1])
        self.conv2 = conv(widths[1], widths[1])
        self.bn2 = nn.BatchNorm2d(widths[1])
        self.maxpool3 = nn.MaxPool2d(2, stride=(2, 1), padding=(0, 1))
        self.layer3 = layer(BLOCKS[2], widths[1], widths[2])
        self.conv3 = conv(widths[2], widths[2])
        self.bn3 = nn.BatchNorm2d(widths[2])
        self.layer4 = layer(BLOCKS[3], widths[2], widths[3])
        self.conv4_1 = conv(d, d, 2, stride=(2, 1), padding=(0, 1))
        self.bn4_1 = nn.BatchNorm2d(d)
        self.conv4_2 = conv(d, d, 2, padding=0)
        self.bn4_2 = nn.BatchNorm2d(d)
        self.relu = nn.ReLU(inplace=True)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)  # poolings are several times faster
        x = self.relu(self.bn0_1(self.conv0_1(x)))
        x = self.relu(self.bn0_2(self.conv0_2(x)))
        x = self.layer1(self.maxpool1(x))
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer2(self.maxpool2(x))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.maxpool3(x)
        if are_few(x):
            x = x.contiguous()  # from here on weights are large, and there is no pooling
        x = self.layer3(x)
        x = self.relu(self.bn3(self.conv3(x)))
        x = self.layer4(x)
        x = self.relu(self.bn4_1(self.conv4_1(x)))
        return self.relu(self.bn4_2(self.conv4_2(x)))


class ResNetFeatureExtractor(nn.Module):
    """Pictures (N, 3, H, W) -> columns (N, W / 4 + 1, D)."""

    def __init__(self, output_channel: int) -> None:
        super().__init__()
        if output_channel < 16 or output_channel % 16:
            raise ValueError(f'output_channel is {output_channel}: give a multiple of 16, e.g. 512')
        self.ConvNet = ResNet(output_channel)

    def forward(self, images: Tensor) -> Tensor:
        return self.ConvNet(images).mean(2).transpose(1, 2)  # the rows that are left are averaged
