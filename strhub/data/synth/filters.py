"""Separable filters as matrices, one a picture, so that pictures of many sizes share a canvas; and JPEG's losses.

A canvas (N, C, H, W) holds pictures of `sizes` (N,) and more beyond their edges, which no filter looks at.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from strhub.data.synth.paint import LUMA

# The quantisation tables of the JPEG standard (T.81, annex K) at quality 50, for brightness and colour.
BRIGHTNESS = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29),
    *(51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121),
    *(120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
COLOUR = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66),
    *((99,) * 38),
)


def apply(rows: Tensor, images: Tensor, columns: Tensor) -> Tensor:
    """Filters (N, C, H, W) by matrices of each picture, (N, H', H) and (N, W', W)."""
    return rows.unsqueeze(1) @ images @ columns.unsqueeze(1).mT


def mirrored(positions: Tensor, sizes: Tensor) -> Tensor:
    """Where pictures that are mirrored at the middle of their outer pixels show (N, …) positions, inside or not."""
    period = (2 * (sizes - 1)).clamp(min=1).view(-1, *[1] * (positions.dim() - 1))
    positions = positions.remainder(period)
    return torch.minimum(positions, period - positions)


def blurring(sigmas: Tensor, sizes: Tensor, count: int, *, radius: int | None = None) -> Tensor:
    """Matrices (N, count, count) of Gaussians, by default cut off at four sigmas."""
    reach = (4 * sigmas).round().clamp(min=1) if radius is None else torch.full_like(sigmas, radius)
    offsets = torch.arange(-int(reach.max()), int(reach.max()) + 1, device=sigmas.device)
    weights = torch.exp(-0.5 * (offsets / sigmas[:, None]) ** 2) * (offsets.abs() <= reach[:, None])
    return convolving(weights / weights.sum(1, keepdim=True), sizes, count)


def convolving(weights: Tensor, sizes: Tensor, count: int) -> Tensor:
    """Matrices (N, count, count) which weigh (N, K) neighbours, K odd, of each pixel."""
    reach = weights.shape[1] // 2
    positions = torch.arange(count, device=weights.device)[:, None] + torch.arange(
        -reach, reach + 1, device=weights.device
    )
    taps = mirrored(positions.expand(len(weights), -1, -1), sizes)
    matrices = torch.zeros(len(weights), count, count, device=weights.device)
    return matrices.scatter_add_(2, taps, weights[:, None].expand(-1, count, -1))


def enlarging(sources: Tensor, sizes: Tensor, before: int, after: int) -> Tensor:
    """Matrices (N, after, before) that enlarge grids of `sources` (N,) values to `sizes`, linearly."""
    places = (torch.arange(after, device=sizes.device) + 0.5) * (sources / sizes)[:, None] - 0.5
    places = torch.minimum(places.clamp(min=0), (sources - 1).unsqueeze(1))
    return (1 - (places.unsqueeze(2) - torch.arange(before, device=sizes.device)).abs()).clamp(min=0)


def resizing(sizes: Tensor, before: int, after: int) -> Tensor:
    """Matrices (N, after, before) that resize to `after` pixels, bicubic and without aliasing, as Pillow does."""
    scale = (sizes / after).view(-1, 1, 1)
    centres = (torch.arange(after, device=sizes.device)[:, None] + 0.5) * scale
    places = torch.arange(before, device=sizes.device) + 0.5
    weights = _cubic((places - centres) / scale.clamp(min=1)) * (places < sizes.view(-1, 1, 1))
    return weights / weights.sum(2, keepdim=True)


def _cubic(x: Tensor, a: float = -0.5) -> Tensor:
    """Keys' kernel."""
    x = x.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    return torch.where(x < 1, near, torch.where(x < 2, a * (((x - 5) * x + 8) * x - 4), 0))


def shaken(images: Tensor, kernels: Tensor, widths: Tensor, heights: Tensor) -> Tensor:
    """Filters (N, C, H, W) with a kernel (N, k, k), k odd, for each picture."""
    count, channels, height, width = images.shape
    reach = kernels.shape[1] // 2
    columns = torch.arange(-reach, width + reach, device=images.device).expand(count, -1)
    rows = torch.arange(-reach, height + reach, device=images.device).expand(count, -1)
    wider = taken(images, mirrored(columns, widths), mirrored(rows, heights))
    filters = kernels.repeat_interleave(channels, 0).unsqueeze(1)
    return F.conv2d(wider.flatten(0, 1), filters, groups=count * channels).view_as(images)


def taken(images: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """Pixels of (N, C, H, W) at columns (N, W') and rows (N, H')."""
    pictures = torch.arange(len(images), device=images.device).view(-1, 1, 1)
    return images[pictures, :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def compressed(images: Tensor, qualities: Tensor, widths: Tensor, heights: Tensor) -> Tensor:
    """What JPEG with colour at half the resolution leaves of RGB (N, 3, H, W) from 0 to 255."""
    height, width = (math.ceil(side / 16) * 16 for side in images.shape[2:])
    columns, rows = torch.arange(width, device=images.device), torch.arange(height, device=images.device)
    whole = taken(images, torch.minimum(columns, widths[:, None] - 1), torch.minimum(rows, heights[:, None] - 1))
    luma = (whole * images.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    blue, red = (whole[:, 2:] - luma) / (2 - 2 * LUMA[2]), (whole[:, :1] - luma) / (2 - 2 * LUMA[0])
    colours = F.avg_pool2d(torch.cat((blue, red), 1), 2).round()
    scale = torch.where(qualities < 50, 5000 / qualities, 200 - 2 * qualities)
    luma = _quantised(luma.round() - 128, BRIGHTNESS, scale) + 128
    blue, red = F.interpolate(_quantised(colours, COLOUR, scale), scale_factor=2, mode='bilinear').split(1, 1)
    red, blue = luma + (2 - 2 * LUMA[0]) * red, luma + (2 - 2 * LUMA[2]) * blue
    green = (luma - LUMA[0] * red - LUMA[2] * blue) / LUMA[1]
    pixels = torch.cat((red, green, blue), 1)[:, :, : images.shape[2], : images.shape[3]]
    return pixels.round().clamp(0, 255)


def _quantised(planes: Tensor, table: tuple[int, ...], scale: Tensor) -> Tensor:
    """Planes (N, C, H, W), sides multiples of 8, after rounding the cosine transforms of their 8 x 8 blocks."""
    count, channels, height, width = planes.shape
    steps = torch.tensor(table, device=planes.device).view(8, 8) * scale.view(-1, 1, 1)
    steps = ((steps + 50) / 100).floor().clamp(1, 255).view(count, 1, 1, 1, 8, 8)
    blocks = planes.view(count, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    transform = _cosines().to(planes.device)
    blocks = transform.T @ ((transform @ blocks @ transform.T / steps).round() * steps) @ transform
    return blocks.transpose(3, 4).reshape(planes.shape)


@cache
def _cosines() -> Tensor:
    """The orthonormal cosine transform of 8 values, (8, 8)."""
    waves = torch.arange(8)[:, None] * (torch.arange(8) + 0.5) * (math.pi / 8)
    return torch.cos(waves) * torch.tensor([math.sqrt(1 / 8)] + [0.5] * 7)[:, None]
