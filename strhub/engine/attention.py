"""Where in a picture each character of a reading was seen: maps of a decoder's attention, or the frames of CTC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from strhub.decoding import runs_of
from strhub.engine.read import read_batch
from strhub.models.reader import Recogniser
from strhub.runtime.readings import Reading
from strhub.tokenizer import CTCTokenizer, Tokenizer

Box = tuple[float, float, float, float]  # left, top, right, bottom as shares of the picture, from its upper left corner
STRONG = 0.5  # of a map's peak: what is at least so strong, and connected with the peak, is in the box


@dataclass(frozen=True)
class Frame:
    """The most probable class of one of CTC's frames; a blank has no character."""

    char: str
    confidence: float


@dataclass(frozen=True)
class Sight:
    """A reading, and where its L characters are.

    Args:
        reading: what was read.
        maps: (L, h, w), each with sum 1: how much every cell of an even grid over the picture counted for a character.
        boxes: one for each character.
        frames: of CTC, from left to right; empty for other models.
        runs: of CTC, the first and last frame of each character.
    """

    reading: Reading
    maps: np.ndarray
    boxes: tuple[Box, ...]
    frames: tuple[Frame, ...] = ()
    runs: tuple[tuple[int, int], ...] = ()


def check_sighted(system: Recogniser) -> None:
    """Raises ValueError where a model keeps to itself where it looks, as an exported one does."""
    wanted = 'alignment' if isinstance(system.tokenizer, CTCTokenizer) else 'attention'
    if not hasattr(system.model, wanted):
        raise ValueError(
            f'{system.hparams["name"]} as it was loaded does not tell where it looks: '
            'give the checkpoint of a model of strhub, not an exported file'
        )


@torch.inference_mode()
def look(system: Recogniser, images: Tensor, *, top_k: int = 0) -> list[Sight]:
    """Reads images (N, 3, H, W) in [-1, 1] and tells where the characters were seen.

    A decoder is asked once more for each character of the text, and how its last layer then spreads its attention is
    the map; the box goes around what is at least half as strong as the peak and connected with it. CTC's map are the
    frames that say the character, which are fewer than it is wide: its box reaches halfway to its neighbours'.
    """
    check_sighted(system)
    readings = read_batch(system, images, top_k=top_k)
    device = next(system.model.parameters()).device
    images = images.to(device)
    was_training = system.training
    system.eval()
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=system.bf16):
            if isinstance(system.tokenizer, CTCTokenizer):
                return _align(system, images, readings)
            return _attend(system, images, readings)
    finally:
        system.train(was_training)


def _attend(system: Recogniser, images: Tensor, readings: Sequence[Reading]) -> list[Sight]:
    tokenizer = system.tokenizer
    assert isinstance(tokenizer, Tokenizer)
    ids = tokenizer.encode([reading.text for reading in readings], images.device)[:, 1:]
    ids = ids.masked_fill(ids == tokenizer.pad_id, tokenizer.eos_id)[:, : system.hparams['max_label_length'] + 1]
    maps = system.model.attention(images, ids).float().cpu()  # type: ignore[operator]
    fine = F.interpolate(maps, size=tuple(images.shape[-2:]), mode='bilinear').numpy()
    sights = []
    for reading, coarse, smooth in zip(readings, maps.numpy(), fine, strict=True):
        length = len(reading.text)
        sights.append(Sight(reading, coarse[:length], tuple(map(box_of, smooth[:length]))))
    return sights


def box_of(weights: np.ndarray) -> Box:
    """The box around the peak of a map (h, w); see `STRONG`."""
    height, width = weights.shape
    strong = weights >= STRONG * weights.max()
    waiting = [divmod(int(weights.argmax()), width)]
    found = set(waiting)
    while waiting:
        y, x = waiting.pop()
        for place in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if place not in found and 0 <= place[0] < height and 0 <= place[1] < width and strong[place]:
                found.add(place)
                waiting.append(place)
    mask = np.zeros((height, width), bool)
    mask[tuple(zip(*found, strict=True))] = True
    return bounds(mask)


def bounds(mask: np.ndarray) -> Box:
    """The box around all that is true in (h, w)."""
    (rows, columns), (height, width) = mask.nonzero(), mask.shape
    return (
        float(columns.min() / width),
        float(rows.min() / height),
        float((columns.max() + 1) / width),
        float((rows.max() + 1) / height),
    )


def _align(system: Recogniser, images: Tensor, readings: Sequence[Reading]) -> list[Sight]:
    best, ids = system.probabilities(images).cpu().max(-1)
    runs = [runs_of(row) for row in ids.tolist()]
    longest = max(1, *map(len, runs)) if runs else 1
    said = torch.zeros(len(images), longest, ids.shape[1])
    reach = torch.zeros_like(said)
    for row, (found, confidences) in enumerate(zip(runs, best, strict=True)):
        for place, (first, last) in enumerate(found):
            said[row, place, first : last + 1] = confidences[first : last + 1]
        if found:
            reach[row, : len(found)] = reaches(found, ids.shape[1])
    alignment = system.model.alignment
    said /= said.sum(-1, keepdim=True).clamp(min=1e-12)
    maps = alignment(images, said.to(images.device)).float().cpu().numpy()  # type: ignore[operator]
    wide = alignment(images, reach.to(images.device)).float().cpu().numpy()  # type: ignore[operator]
    charset = ['', *system.tokenizer.charset]
    sights = []
    for row, (reading, found) in enumerate(zip(readings, runs, strict=True)):
        frames = tuple(Frame(charset[i], p) for i, p in zip(ids[row].tolist(), best[row].tolist(), strict=True))
        boxes = tuple(bounds(weights > 0) for weights in wide[row, : len(found)])
        sights.append(Sight(reading, maps[row, : len(found)], boxes, frames, tuple(found)))
    return sights


def reaches(runs: Sequence[tuple[int, int]], num_frames: int) -> Tensor:
    """1 for frames (L, S) that are nearer to one of the runs than to its neighbours; outwards as far as inwards."""
    centres = [(first + last) / 2 for first, last in runs]
    middles = [(a + b) / 2 for a, b in pairwise(centres)]
    starts, ends = [0.0, *middles], [*middles, num_frames - 1.0]
    if middles:
        starts[0] = centres[0] - (middles[0] - centres[0])
        ends[-1] = centres[-1] + (centres[-1] - middles[-1])
    starts = [min(start, first - 0.5) for start, (first, _) in zip(starts, runs, strict=True)]
    ends = [max(end, last + 0.5) for end, (_, last) in zip(ends, runs, strict=True)]
    frames = torch.arange(num_frames)
    return ((frames >= torch.tensor(starts)[:, None]) & (frames <= torch.tensor(ends)[:, None])).float()
