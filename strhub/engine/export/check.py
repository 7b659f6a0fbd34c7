"""Does the file read as the checkpoint does? On other pictures than it was made with, in batches of several sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, cycle, islice, repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from strhub.data.labels import LabelRules
from strhub.data.transforms import get_transform
from strhub.engine.export.formats import Run
from strhub.engine.images import load_batches, open_named
from strhub.models.modules import word_lengths
from strhub.models.reader import Recogniser
from strhub.tokenizer import Tokenizer

BATCHES = 1, 7, 32
TOLERANCE = 1e-3  # of a logit

Picture = tuple[str, Tensor]  # its name and its image (3, H, W)


def first_difference(system: Recogniser, run: Run, pictures: Iterable[Picture]) -> tuple[int, str | None]:
    """How many pictures were compared, and a sentence on the first that is not read alike, if there is one.

    Texts have to be equal, and logits within TOLERANCE at all places up to the end of the text, and at the end.
    """
    count = 0
    for batch in batches(pictures):
        names, images = [name for name, _ in batch], torch.stack([image for _, image in batch])
        with torch.inference_mode():
            expected, found = system(images), run(images)
        if sentence := _difference(system, expected, found, names):
            return count, f'in a batch of {len(batch)}, {sentence}'
        count += len(batch)
    return count, None


def batches(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    """All pictures in batches of 1, 7, 32, 32, …; few are repeated, so that there is one of each size."""
    rest = iter(pictures)
    first = list(islice(rest, sum(BATCHES)))
    rest = chain(islice(cycle(first), max(len(first), sum(BATCHES))), rest)
    for size in chain(BATCHES, repeat(BATCHES[-1])):
        if not (batch := list(islice(rest, size))):
            return
        yield batch


def _difference(system: Recogniser, expected: Tensor, found: Tensor, names: Sequence[str]) -> str | None:
    tokenizer = system.tokenizer
    num_places = expected.shape[1]
    if found.ndim != 3 or len(found) != len(expected) or found.shape[2] != expected.shape[2]:
        return f'its logits are {tuple(found.shape)}, and {tuple(expected.shape)} those of the checkpoint'
    if found.shape[1] < num_places:
        return f'it gives {found.shape[1]} places, and the checkpoint {num_places}'
    lengths = torch.full((len(expected),), num_places)
    if isinstance(tokenizer, Tokenizer):
        lengths = word_lengths(expected[..., : len(tokenizer) - 2].argmax(-1), tokenizer.eos_id)
    differences = (found[:, :num_places] - expected).abs().amax(-1)
    differences.masked_fill_(torch.arange(num_places) >= lengths[:, None], 0)
    texts = zip(*(tokenizer.decode(logits.softmax(-1))[0] for logits in (expected, found)), strict=True)
    for name, row, (should, does) in zip(names, differences, texts, strict=True):
        wrong = (~(row <= TOLERANCE)).nonzero()  # what is no number is wrong, too
        if not len(wrong) and should == does:
            continue
        place = int(wrong[0]) if len(wrong) else 0
        difference = f'logits differ by {float(row[place]):.2g} at place {place + 1}, more than {TOLERANCE:g}'
        read = f'reads {does!r}, and the checkpoint {should!r}' if should != does else f'reads {does!r} as it should'
        return f'{name}: it {read}; {difference if len(wrong) else "the logits agree"}'
    return None


def rendered(system: Recogniser) -> Iterator[Picture]:
    """Words that strhub draws, as many as the batches take.

    Raises:
        ValueError: there is no font for the characters of the model.
    """
    from strhub.data.synth import RenderedDataset

    hparams: Any = system.hparams
    charset = hparams['charset_train']
    rules = LabelRules(charset, hparams['max_label_length'], normalize_unicode=charset.isascii())
    try:
        words = RenderedDataset(rules, get_transform(hparams['img_size']), warmup=0)
    except ValueError as error:
        raise ValueError(f'no words can be drawn to compare with ({error}): give pictures with --images') from None
    for key in range(sum(BATCHES)):
        image, label = words[key]
        yield f'rendered word {key} ({label})', image


def opened(system: Recogniser, paths: Iterable[Path]) -> Iterator[Picture]:
    """Pictures of the user's; what is none is an error here."""
    transform = get_transform(system.hparams['img_size'])
    for batch in load_batches(paths, lambda path: transform(open_named(path)), batch_size=BATCHES[-1]):
        for path, image in batch:
            if not isinstance(image, Tensor):
                raise image
            yield str(path), image
