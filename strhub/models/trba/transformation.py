"""Thin-plate spline rectification: RARE (Shi et al., "Robust Scene Text Recognition with Automatic Rectification",
CVPR 2016, https://arxiv.org/abs/1603.03915).

A small network finds fiducial points along the upper and lower edge of the text; the smoothest warp that moves them to
the upper and lower edge of the picture straightens it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-6  # a pixel may lie on a fiducial point, where r^2 log r is 0 but not computable


def edge_points(num_fiducial: int) -> Tensor:
    """Where the fiducials go: (F, 2) x, y; half of them along the upper edge (y = -1), half along the lower (y = 1)."""
    x = torch.linspace(-1, 1, num_fiducial // 2, dtype=torch.float64)
    upper, lower = torch.stack([x, -torch.ones_like(x)], 1), torch.stack([x, torch.ones_like(x)], 1)
    return torch.cat([upper, lower])


def first_guess(num_fiducial: int) -> Tensor:
    """Fiducials (F, 2) before training, as in RARE: two slanted rows that meet the edges at opposite ends."""
    points = edge_points(num_fiducial)
    ramp = torch.linspace(0, 1, num_fiducial // 2, dtype=torch.float64)
    points[:, 1] = torch.cat([-ramp, 1 - ramp])
    return points


class LocalizationNetwork(nn.Module):
    """Pictures (N, 3, H, W) -> fiducial points (N, F, 2), x and y in [-1, 1] inside the picture."""

    def __init__(self, num_fiducial: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        in_channels = 3
        for out_channels in (64, 128, 256, 512):
            layers += [
                nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2) if out_channels < 512 else nn.AdaptiveAvgPool2d(1),
            ]
            in_channels = out_channels
        self.conv = nn.Sequential(*layers)
        self.localization_fc1 = nn.Sequential(nn.Linear(512, 256), nn.ReLU())
        self.localization_fc2 = nn.Linear(256, 2 * num_fiducial)
        for module in self.conv.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        # Every picture starts from the same points.
        nn.init.zeros_(self.localization_fc2.weight)
        with torch.no_grad():
            self.localization_fc2.bias.copy_(first_guess(num_fiducial).flatten())

    def forward(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)  # poolings are several times faster
        features = self.conv(images).flatten(1)  # (N, 512)
        return self.localization_fc2(self.localization_fc1(features)).unflatten(1, (-1, 2))


class GridGenerator(nn.Module):
    """Fiducial points (N, F, 2) -> where each pixel of the rectified picture is read (N, H, W, 2).

    The two tables depend on the number of points and the size of the picture alone. The published weights hold them.
    """

    inv_delta_C: Tensor  # noqa: N815 - published name
    P_hat: Tensor

    def __init__(self, num_fiducial: int, img_size: Sequence[int]) -> None:
        super().__init__()
        self.img_size = (int(img_size[0]), int(img_size[1]))
        points = edge_points(num_fiducial)
        self.register_buffer('inv_delta_C', torch.linalg.inv(self.system(points)).float())
        self.register_buffer('P_hat', self.basis(self.pixel_centres(), points, EPS).float())

    @staticmethod
    def basis(at: Tensor, points: Tensor, eps: float) -> Tensor:
        """A spline's terms at positions (M, 2): 1, x, y and r^2 log r to each of the points (F, 2): (M, 3 + F)."""
        r = (at[:, None] - points).square().sum(-1).sqrt()
        return torch.cat([torch.ones_like(at[:, :1]), at, r.square() * (r + eps).log()], 1)

    @staticmethod
    def system(points: Tensor) -> Tensor:
        """The matrix (F + 3, F + 3) that maps a spline's coefficients to its values at the points, then three zeros.

        The zeros say that the r^2 log r terms add up to no affine movement, so that the warp stays flat far away.
        """
        num_fiducial = len(points)
        r = (points[:, None] - points).square().sum(-1).sqrt()
        r.fill_diagonal_(1)  # r^2 log r is 0 at r = 1 as at r = 0
        ones = points.new_ones(num_fiducial, 1)
        affine = torch.cat([ones, points], 1)  # (F, 3)
        values = torch.cat([affine, r.square() * r.log()], 1)
        flat = torch.cat([points, ones], 1).T  # (3, F)
        return torch.cat([values, torch.cat([flat.new_zeros(3, 3), flat], 1)])

    def pixel_centres(self) -> Tensor:
        """(H * W, 2) x, y in [-1, 1], row by row."""
        H, W = self.img_size  # noqa: N806
        x = (torch.arange(-W, W, 2, dtype=torch.float64) + 1) / W
        y = (torch.arange(-H, H, 2, dtype=torch.float64) + 1) / H
        return torch.cartesian_prod(y, x).flip(1)

    def forward(self, fiducials: Tensor) -> Tensor:
        # Half precision would move pixels by more than their size: large terms of the spline cancel each other.
        with torch.autocast(fiducials.device.type, enabled=False):
            values = F.pad(fiducials.to(self.P_hat.dtype), (0, 0, 0, 3))  # (N, F + 3, 2)
            coefficients = self.inv_delta_C @ values
            return (self.P_hat @ coefficients).unflatten(1, self.img_size)


class TPSTransformation(nn.Module):
    """Pictures (N, 3, H, W) -> straightened pictures of the same size."""

    def __init__(self, num_fiducial: int, img_size: Sequence[int]) -> None:
        super().__init__()
        if num_fiducial < 4 or num_fiducial % 2:
            raise ValueError(f'num_fiducial is {num_fiducial}: give an even number of at least 4, e.g. 20')
        self.LocalizationNetwork = LocalizationNetwork(num_fiducial)
        self.GridGenerator = GridGenerator(num_fiducial, img_size)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Rectified images (N, 3, H, W) and the fiducial points (N, F, 2) that say how."""
        fiducials = self.LocalizationNetwork(images)
        grid = self.GridGenerator(fiducials)
        return F.grid_sample(images, grid, padding_mode='border', align_corners=True), fiducials
