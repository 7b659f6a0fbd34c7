"""Paints many plans at once with tensors, on a GPU where there is one, straight to the pictures a network takes.

What `compose` does by the word with OpenCV, step by step: the pictures differ by roundings alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from strhub.data.synth import filters
from strhub.data.synth.camera import LARGEST_CUT, noise_sheet
from strhub.data.synth.fonts import FontBook
from strhub.data.synth.packing import Fields, Layers, Noise, Pack, Tensors, pack
from strhub.data.synth.paint import LUMA
from strhub.data.synth.plan import Plan, plans
from strhub.data.synth.render import BANDS, LEAST_CONTRAST, LEAST_INK, LEAST_SEPARATION, LETTER, TOUCHED
from strhub.data.synth.words import WordSource

CHUNK = 64  # pictures of similar size that share a canvas, so that little of it is empty


def render_batch(
    seed: int,
    indices: Sequence[int],
    size: tuple[int, int],
    *,
    device: torch.device | str = 'cpu',
    difficulty: float = 1.0,
    words: WordSource | None = None,
    fonts: FontBook | None = None,
    vertical: float = 0.0,
) -> tuple[Tensor, list[str]]:
    """The words `indices` of the series `seed`, each as if it were alone: see `render_word`.

    Args:
        size: height and width of the pictures.
        device: where they are composed.

    Returns:
        Pictures (N, 3, H, W) in [-1, 1] on the device, and their labels.
    """
    series = [
        plans(seed, index, difficulty=difficulty, words=words, fonts=fonts, vertical=vertical) for index in indices
    ]
    firsts = [next(attempts) for attempts in series]
    images = develop(sketch(firsts).to(device), size, lambda key: next(series[key]))
    return images, [plan.label for plan in firsts]


@dataclass
class Sketch(Tensors):
    """A batch of plans in packs of similar size, which places in the batch each has, and what to call the words by."""

    packs: list[Pack]
    places: list[Tensor]
    keys: list[int]


def sketch(batch: Sequence[Plan], keys: Sequence[int] | None = None) -> Sketch:
    """Packs plans; by default the keys are their places in the batch."""
    chunks = []
    for is_column in (False, True):
        places = [place for place, plan in enumerate(batch) if plan.is_column == is_column]
        chunks += _divided(places, [plan.view.size for plan in batch])
    packs = [pack([batch[place] for place in chunk]) for chunk in chunks]
    return Sketch(packs, [torch.tensor(chunk) for chunk in chunks], list(range(len(batch)) if keys is None else keys))


def _divided(places: list[int], sizes: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Places in chunks, halved between small and large, wherever sizes differ most, until none is too long."""
    if len(places) <= CHUNK:
        return [places] if places else []
    sides = [[sizes[place][axis] for place in places] for axis in (0, 1)]
    axis = max((0, 1), key=lambda axis: max(sides[axis]) / min(sides[axis]))
    places = sorted(places, key=lambda place: sizes[place][axis])
    half = len(places) // 2
    return [*_divided(places[:half], sizes), *_divided(places[half:], sizes)]


def develop(sketched: Sketch, size: tuple[int, int], again: Callable[[int], Plan]) -> Tensor:
    """Pictures (N, 3, H, W) in [-1, 1] where the sketch is; `again` plans the words plainer that cannot be read."""
    images = torch.empty(len(sketched.keys), 3, *size, device=sketched.packs[0].sizes.device)
    found = []
    for packed, places in zip(sketched.packs, sketched.places, strict=True):
        images[places], readable = compose_pack(packed, size)
        found.append(places[~readable])
    if failed := torch.cat(found).tolist():
        keys = [sketched.keys[place] for place in failed]
        images[failed] = develop(sketch([again(key) for key in keys], keys).to(images.device), size, again)
    return images


def compose_pack(packed: Pack, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Pictures (N, 3, H, W) in [-1, 1], and which of them can be read, (N,)."""
    canvas, coverage = _paint(packed)
    _light(canvas, packed)
    _photograph(canvas, packed)
    readable = packed.is_certain | are_readable(canvas, coverage, packed.sizes)
    widths, heights = packed.sizes.unbind(1)
    height, width = size[::-1] if packed.is_column else size
    images = canvas @ filters.resizing(widths, canvas.shape[3], width).unsqueeze(1).mT
    images = filters.resizing(heights, canvas.shape[2], height).unsqueeze(1) @ images.round_().clamp_(0, 255)
    images = images.round_().clamp_(0, 255).div_(127.5).sub_(1)
    return images.mT if packed.is_column else images, readable


def _paint(packed: Pack) -> tuple[Tensor, Tensor]:
    """Canvas (N, 3, H, W) with all layers, and the coverage (N, H, W) of the last, 0 to 255."""
    canvas = packed.grounds[:, :, None, None].repeat(1, 1, *packed.canvas)
    if fields := packed.textures:
        canvas.index_add_(0, fields.owners, _spread(fields, packed) * fields.amounts[:, :, None, None])
    for layers in packed.layers:
        coverage = _project(layers, packed.canvas)
        below = canvas[layers.owners]
        share = coverage * (layers.opacities / 255)[:, None, None]
        canvas[layers.owners] = below + share[:, None] * (layers.colours[:, :, None, None] - below)
    if wear := packed.wear:
        share = coverage[wear.owners, None] * (wear.amounts / 255)[:, :, None, None]
        canvas[wear.owners] += share * _spread(wear, packed)
    return canvas, coverage


def _project(layers: Layers, canvas: tuple[int, int]) -> Tensor:
    """Masks as seen, (L, H, W) from 0 to 255."""
    device = layers.matrices.device
    rows, columns = (torch.arange(side, device=device, dtype=torch.float32) for side in canvas)
    places = torch.stack((*torch.meshgrid(columns, rows, indexing='xy'), torch.ones(canvas, device=device)), -1)
    places = torch.einsum('hwk,ljk->lhwj', places, layers.matrices)
    sides = torch.tensor(layers.masks.shape[:0:-1], device=device)
    grid = (2 * places[..., :2] / places[..., 2:] + 1) / sides - 1
    return F.grid_sample(layers.masks.unsqueeze(1).float(), grid, align_corners=False).squeeze(1).round_()


def _spread(fields: Fields, packed: Pack) -> Tensor:
    """Fields over their whole pictures, (F, 1, H, W)."""
    (height, width), sizes = packed.canvas, packed.sizes[fields.owners]
    (ramp_x, ramp_y), (widths, heights), (wide, high) = (pair.unbind(1) for pair in (fields.ramps, sizes, fields.sizes))
    columns = filters.enlarging(wide, widths, fields.grids.shape[2], width)
    rows = filters.enlarging(high, heights, fields.grids.shape[1], height)
    x = ramp_x[:, None] * (torch.arange(width, device=sizes.device) * 2 / widths[:, None] - 1)
    y = ramp_y[:, None] * (torch.arange(height, device=sizes.device) * 2 / heights[:, None] - 1)
    return (rows @ fields.grids @ columns.mT + x[:, None] + y[:, :, None]).unsqueeze(1)


def _light(canvas: Tensor, packed: Pack) -> None:
    for fields in packed.light:
        canvas[fields.owners] *= 1 + fields.amounts[:, :, None, None] * _spread(fields, packed)
    if glare := packed.glare:
        threshold, strength = glare.amounts[:, :, None, None, None].unbind(1)
        canvas[glare.owners] += (_spread(glare, packed) - threshold).clamp_(min=0) * strength
    canvas.mul_(packed.gains[:, :, None, None]).add_(packed.offsets[:, None, None, None])


def _photograph(canvas: Tensor, packed: Pack) -> None:
    """Blur, noise, sharpening and JPEG; canvases hold whole numbers from 0 to 255 then."""
    widths, heights = packed.sizes.unbind(1)
    height, width = packed.canvas

    def blurred(owners: Tensor, sigmas: Tensor, radius: int | None = None) -> Tensor:
        rows = filters.blurring(sigmas, heights[owners], height, radius=radius)
        return filters.apply(rows, canvas[owners], filters.blurring(sigmas, widths[owners], width, radius=radius))

    if some := packed.sigmas:
        canvas[some.owners] = blurred(some.owners, some.values)
    if some := packed.kernels:
        canvas[some.owners] = filters.shaken(
            canvas[some.owners], some.values, widths[some.owners], heights[some.owners]
        )
    if packed.noise:
        canvas[packed.noise.owners] += _grain(packed.noise, packed)
    if some := packed.sharpening:
        share = some.values[:, None, None, None]
        soft = blurred(some.owners, torch.full_like(some.values, 1.2), radius=2)
        canvas[some.owners] = (1 + share) * canvas[some.owners] - share * soft
    canvas.round_().clamp_(0, 255)
    if some := packed.qualities:
        canvas[some.owners] = filters.compressed(
            canvas[some.owners], some.values, widths[some.owners], heights[some.owners]
        )


def _grain(noise: Noise, packed: Pack) -> Tensor:
    """Noise of each picture, (K, 3, H, W), cut from the sheet."""
    (height, width), sizes = packed.canvas, packed.sizes[noise.owners]
    cut = torch.minimum(sizes, torch.tensor(LARGEST_CUT, device=sizes.device))

    def places(axis: int, side: int) -> Tensor:
        """Along one axis, where in the sheet each pixel's noise is, (K, 3, side)."""
        inside = torch.minimum(torch.arange(side, device=sizes.device), sizes[:, axis, None] - 1)
        return noise.cuts[:, :, axis, None] + (inside * cut[:, axis, None] // sizes[:, axis, None])[:, None]

    x, y = places(0, width), places(1, height)
    planes = _sheet(sizes.device)[y[..., None], x[..., None, :]]
    edge = torch.where(noise.is_coarse, 1 / 3, 0.0)
    weights = torch.stack((edge, 1 - 2 * edge, edge), 1)
    rows, columns = (filters.convolving(weights, sizes[:, axis], side) for axis, side in ((1, height), (0, width)))
    return filters.apply(rows, planes, columns) * noise.deviations[:, None, None, None]


@cache
def _sheet(device: torch.device) -> Tensor:
    return torch.from_numpy(noise_sheet()).to(device)


def are_readable(canvas: Tensor, coverage: Tensor, sizes: Tensor) -> Tensor:
    """`render.is_readable` for canvases (N, 3, H, W) with coverage (N, H, W) from 0 to 255: (N,)."""
    widths, heights = sizes.unbind(1)
    columns, rows = (torch.arange(side, device=canvas.device) for side in (canvas.shape[3], canvas.shape[2]))
    canvas, coverage, rows = canvas[:, :, ::2], coverage[:, ::2], rows[::2]
    inside = (columns < widths[:, None])[:, None] & (rows < heights[:, None])[:, :, None]
    letters, touched = (coverage > LETTER).float(), (coverage > TOUCHED).float()
    ring = (F.max_pool2d(touched.unsqueeze(1), (3, 5), 1, (1, 2)).squeeze(1) - touched) * inside
    count = (widths // heights).clamp(1, BANDS)
    edges = torch.arange(1, BANDS + 1, device=canvas.device) * widths[:, None] // count[:, None]
    band = (columns[:, None] >= edges[:, None]).sum(2)  # (N, W)
    bands = F.one_hot(band.clamp(max=BANDS - 1), BANDS).float()  # (N, W, bands)
    luma = (canvas * canvas.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True).round()
    values = torch.cat((luma, canvas), 1)

    def statistics(mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How many pixels of the mask are in each band, (N, bands); their means and spreads, (N, 4, bands)."""
        total = (mask.sum(1, keepdim=True) @ bands).squeeze(1)
        mean = (values * mask[:, None]).sum(2) @ bands / total[:, None].clamp(min=1)
        square = (values * values * mask[:, None]).sum(2) @ bands / total[:, None].clamp(min=1)
        return total, mean, (square - mean * mean).clamp(min=0).sqrt()

    ink, ink_mean, ink_spread = statistics(letters)
    _, mean, spread = statistics(ring)
    contrast = (ink_mean - mean).abs()
    separation = contrast / (ink_spread + spread + 1)

    def stands_out(some: slice) -> Tensor:
        return (contrast[:, some].amax(1) >= LEAST_CONTRAST) & (separation[:, some].amax(1) >= LEAST_SEPARATION)

    is_judged = ink >= LEAST_INK
    seen = stands_out(slice(0, 1)) | stands_out(slice(1, 4))  # by brightness, or else by colour
    return (seen | ~is_judged).all(1) & is_judged.any(1)
