"""Plans of many words as a few tensors, which travel from a worker to the device in one go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from strhub.data.synth.compose import draw, shrunk
from strhub.data.synth.paint import Colour, Field, Ramp
from strhub.data.synth.plan import Plan

T = TypeVar('T')


@dataclass
class Tensors:
    """Tensors, and lists of more of them, that go to a device, or to pinned memory, together."""

    def to(self: T, device: torch.device | str, non_blocking: bool = False) -> T:
        return _each(self, lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self: T) -> T:
        return _each(self, Tensor.pin_memory)


def _each(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, list):
        return [_each(item, function) for item in value]
    if isinstance(value, Tensors):
        return replace(value, **{f.name: _each(getattr(value, f.name), function) for f in fields(value)})
    return value


@dataclass
class Fields(Tensors):
    """Fields over some of the pictures: a ramp plus a grid enlarged to the picture, one of which is zero."""

    owners: Tensor  # (F,) of the pictures
    ramps: Tensor  # (F, 2)
    grids: Tensor  # (F, h, w), of which `sizes` (F, 2), width and height, count
    sizes: Tensor
    amounts: Tensor  # (F, …) what to make of the field


@dataclass
class Layers(Tensors):
    """At most one layer of each picture."""

    owners: Tensor  # (L,)
    masks: Tensor  # (L, h, w) uint8
    matrices: Tensor  # (L, 3, 3) from the picture to the mask
    colours: Tensor  # (L, 3)
    opacities: Tensor  # (L,)


@dataclass
class Noise(Tensors):
    owners: Tensor  # (K,)
    cuts: Tensor  # (K, 3, 2) corners of each channel in the sheet
    deviations: Tensor  # (K,)
    is_coarse: Tensor  # (K,)


@dataclass
class Some(Tensors):
    owners: Tensor  # (K,)
    values: Tensor  # (K, …)


@dataclass
class Pack(Tensors):
    """N plans of lines, or of columns. What only some pictures have names its owners, and is None if none has it."""

    canvas: tuple[int, int]  # height and width that hold each of the pictures
    is_column: bool
    sizes: Tensor  # (N, 2) width and height
    grounds: Tensor  # (N, 3)
    textures: Fields | None
    layers: list[Layers]  # from the back to the front; the last is that of the words
    wear: Fields | None
    light: list[Fields]
    glare: Fields | None
    gains: Tensor  # (N, 3)
    offsets: Tensor  # (N,)
    sigmas: Some | None
    kernels: Some | None
    noise: Noise | None
    sharpening: Some | None
    qualities: Some | None
    is_certain: Tensor  # (N,)


def pack(plans: Sequence[Plan]) -> Pack:
    lights, sensors = [plan.light for plan in plans], [plan.sensor for plan in plans]
    widths, heights = zip(*(plan.view.size for plan in plans), strict=True)
    return Pack(
        canvas=(max(heights), max(widths)),
        is_column=plans[0].is_column,
        sizes=torch.tensor([plan.view.size for plan in plans]),
        grounds=torch.tensor([plan.ground.colour for plan in plans], dtype=torch.float32),
        textures=_fields([(k, *texture) for k, plan in enumerate(plans) for texture in plan.ground.textures]),
        layers=_layers(plans),
        wear=_fields([(k, *plan.wear) for k, plan in enumerate(plans) if plan.wear]),
        light=[
            fields
            for turn in range(max(len(light.fields) for light in lights))
            if (fields := _fields([(k, *li.fields[turn]) for k, li in enumerate(lights) if turn < len(li.fields)]))
        ],
        glare=_fields([(k, light.glare[0], light.glare[1:]) for k, light in enumerate(lights) if light.glare]),
        gains=torch.tensor([light.gain for light in lights]),
        offsets=torch.tensor([light.offset for light in lights]),
        sigmas=_some([plan.lens.sigma for plan in plans]),
        kernels=_kernels([plan.lens.kernel for plan in plans]),
        noise=_noise(plans),
        sharpening=_some([sensor.sharpening for sensor in sensors]),
        qualities=_some([float(sensor.quality) for sensor in sensors]),
        is_certain=torch.tensor([plan.is_certain for plan in plans]),
    )


def _fields(items: Sequence[tuple[int, Field, Any]]) -> Fields | None:
    """Fields from (owner, field, amounts)."""
    if not items:
        return None
    owners, values, amounts = zip(*items, strict=True)
    ramps = [(value.x, value.y) if isinstance(value, Ramp) else (0.0, 0.0) for value in values]
    grids = [np.zeros((1, 1), np.float32) if isinstance(value, Ramp) else value.grid for value in values]
    return Fields(
        torch.tensor(owners),
        torch.tensor(ramps),
        torch.from_numpy(_stacked(grids)),
        torch.tensor([grid.shape[::-1] for grid in grids]),
        torch.tensor(amounts, dtype=torch.float32).view(len(items), -1),
    )


def _layers(plans: Sequence[Plan]) -> list[Layers]:
    below = [
        [*_shapes(plan), *((*shrunk(la, plan.view), la.colour, la.opacity) for la in plan.layers)] for plan in plans
    ]
    packed = []
    for turn in range(max(map(len, below)) - 1):
        owners = [k for k, layers in enumerate(below) if turn < len(layers) - 1]
        packed.append(_stack_of(owners, [below[k][turn] for k in owners]))
    return [*packed, _stack_of(range(len(plans)), [layers[-1] for layers in below])]


def _shapes(plan: Plan) -> list[tuple[np.ndarray, np.ndarray, Colour, float]]:
    return [(draw(shape, plan.view.size), np.eye(3), shape.colour, 1.0) for shape in plan.ground.shapes]


def _stack_of(owners: Sequence[int], layers: Sequence[tuple[np.ndarray, np.ndarray, Colour, float]]) -> Layers:
    masks, matrices, colours, opacities = zip(*layers, strict=True)
    return Layers(
        torch.tensor(owners),
        torch.from_numpy(_stacked(masks)),
        torch.from_numpy(np.linalg.inv(np.stack(matrices)).astype(np.float32)),
        torch.tensor(colours, dtype=torch.float32),
        torch.tensor(opacities, dtype=torch.float32),
    )


def _some(values: Sequence[float]) -> Some | None:
    """Those that are not zero."""
    owners = [k for k, value in enumerate(values) if value]
    return Some(torch.tensor(owners), torch.tensor([values[k] for k in owners])) if owners else None


def _kernels(kernels: Sequence[np.ndarray | None]) -> Some | None:
    found = [(k, kernel) for k, kernel in enumerate(kernels) if kernel is not None]
    if not found:
        return None
    longest = max(len(kernel) for _, kernel in found)
    padded = [np.pad(kernel, (longest - len(kernel)) // 2) for _, kernel in found]
    return Some(torch.tensor([k for k, _ in found]), torch.from_numpy(np.stack(padded)))


def _noise(plans: Sequence[Plan]) -> Noise | None:
    noisy = [(k, plan.sensor) for k, plan in enumerate(plans) if plan.sensor.noise]
    if not noisy:
        return None
    return Noise(
        torch.tensor([k for k, _ in noisy]),
        torch.tensor([sensor.cuts * (3 // len(sensor.cuts)) for _, sensor in noisy]),
        torch.tensor([sensor.noise for _, sensor in noisy]),
        torch.tensor([sensor.is_coarse for _, sensor in noisy]),
    )


def _stacked(planes: Sequence[np.ndarray]) -> np.ndarray:
    """Planes (h, w) of many sizes as one array, with zeros to the right and below."""
    height, width = max(plane.shape[0] for plane in planes), max(plane.shape[1] for plane in planes)
    stack = np.zeros((len(planes), height, width), planes[0].dtype)
    for target, plane in zip(stack, planes, strict=True):
        target[: plane.shape[0], : plane.shape[1]] = plane
    return stack
