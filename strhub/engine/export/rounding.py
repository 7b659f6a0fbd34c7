"""What a file of less precision reads otherwise than the checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from strhub.data.module import SceneTextDataModule
from strhub.engine.commandline import default_workers
from strhub.engine.evaluate import evaluate, judging_charset, name_sets
from strhub.engine.export.check import BATCHES, Picture
from strhub.engine.export.formats import Run
from strhub.engine.predictions import Judged
from strhub.models.reader import Recogniser


class Running(Recogniser):
    """A system whose logits another runtime computes."""

    def __init__(self, system: Recogniser, run: Run) -> None:
        super().__init__()
        self.system, self.run, self.tokenizer = system, run, system.tokenizer

    @property
    def hparams(self):  # type: ignore[no-untyped-def]
        return self.system.hparams

    def probabilities(self, images: Tensor) -> Tensor:
        return self.run(images).softmax(-1)


def changed(system: Recogniser, run: Run, pictures: Iterable[Picture]) -> str:
    """A sentence: how many texts are other ones."""
    rest, readers = iter(pictures), (system, Running(system, run))
    other = count = 0
    while batch := list(islice(rest, BATCHES[-1])):
        images = torch.stack([image for _, image in batch])
        before, after = (reader.tokenizer.decode_words(reader.probabilities(images))[0] for reader in readers)
        other += sum(a != b for a, b in zip(before, after, strict=True))
        count += len(batch)
    return f'{other} of {count} texts changed ({100 * other / max(count, 1):.2f} %)'


def changed_in_sets(system: Recogniser, run: Run, paths: Sequence[str]) -> Iterator[str]:
    """For each set a sentence: how many texts are other ones, and the accuracy before and after."""
    charset = judging_charset(system)
    sets = name_sets(paths)
    hparams = system.hparams
    data = SceneTextDataModule(
        '.',
        'real',
        hparams['img_size'],
        hparams['max_label_length'],
        hparams['charset_train'],
        charset,
        BATCHES[-1],
        default_workers(),
        augment=False,
        remove_whitespace=not any(map(str.isspace, charset)),
        normalize_unicode=charset.isascii(),
    )
    loaders = data.test_dataloaders([str(path) for path in sets.values()])
    for name, path in sets.items():
        texts: list[list[str]] = []
        scores = []
        for reader in (system, Running(system, run)):
            found: list[str] = []

            def note(judged: Judged, found: list[str] = found) -> None:
                found.append(judged.reading.text)

            scores.append(evaluate(reader, {name: loaders[str(path)]}, charset=charset, note=note)[name])
            texts.append(found)
        other = sum(a != b for a, b in zip(*texts, strict=True))
        before, after = (score.accuracy for score in scores)
        yield (f'{name}: {other} of {len(texts[0])} texts changed; accuracy {before:.2f} % before, {after:.2f} % after')
