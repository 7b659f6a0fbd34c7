"""Batches of rendered words, painted with tensors: the pictures are those painted by the word with OpenCV."""

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor

from strhub.charset import PRINTABLE
from strhub.data.labels import LabelRules
from strhub.data.module import SceneTextDataModule
from strhub.data.synth import RenderedDataset
from strhub.data.synth.batch import are_readable, develop, render_batch, sketch
from strhub.data.synth.compose import compose
from strhub.data.synth.plan import Plan, plans
from strhub.data.synth.render import is_readable, render_word
from strhub.data.transforms import get_transform

SIZE = 32, 128
COUNT = 80


@pytest.fixture(scope='module')
def by_word() -> tuple[Tensor, list[str]]:
    transform = get_transform(SIZE)
    images, labels = zip(*(render_word(0, index, vertical=0.2) for index in range(COUNT)), strict=True)
    return torch.stack([transform(image) for image in images]), list(labels)


@pytest.fixture(scope='module')
def by_batch() -> tuple[Tensor, list[str]]:
    return render_batch(0, range(COUNT), SIZE, vertical=0.2)


def levels_apart(some: Tensor, others: Tensor) -> Tensor:
    """Mean difference of each picture, of 255."""
    return (some - others).abs().mean((1, 2, 3)) * 127.5


def test_pictures_and_labels_are_those_of_single_words(
    by_word: tuple[Tensor, list[str]], by_batch: tuple[Tensor, list[str]]
) -> None:
    assert by_batch[1] == by_word[1]
    apart = levels_apart(by_batch[0], by_word[0])
    assert apart.max() < 4  # JPEG rounds differently
    assert apart.median() < 0.5


def test_look_is_that_of_single_words(by_word: tuple[Tensor, list[str]], by_batch: tuple[Tensor, list[str]]) -> None:
    def look(images: Tensor) -> Tensor:
        """Quantiles of brightness, contrast and sharpness over the pictures."""
        grey = images.mean(1)
        edges = (
            grey[:, 1:-1, 1:-1] * 4 - grey[:, :-2, 1:-1] - grey[:, 2:, 1:-1] - grey[:, 1:-1, :-2] - grey[:, 1:-1, 2:]
        )
        measures = torch.stack((grey.mean((1, 2)), grey.std((1, 2)), edges.std((1, 2))))
        return measures.quantile(torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]), dim=1)

    torch.testing.assert_close(look(by_batch[0]), look(by_word[0]), rtol=0.05, atol=0.01)


def test_batch_is_as_any_network_takes_it() -> None:
    images, labels = render_batch(1, [5, 3], (48, 160), difficulty=0)
    assert images.shape == (2, 3, 48, 160)
    assert images.dtype == torch.float32
    assert -1 <= images.min() < -0.2 < 0.2 < images.max() <= 1
    assert len(labels) == 2


def test_a_word_is_the_same_in_every_batch(by_batch: tuple[Tensor, list[str]]) -> None:
    places = [7, 40, 3]
    images, labels = render_batch(0, places, SIZE, vertical=0.2)
    assert labels == [by_batch[1][place] for place in places]
    assert levels_apart(images, by_batch[0][places]).max() < 1  # sums in another order
    assert torch.equal(images, render_batch(0, places, SIZE, vertical=0.2)[0])


def test_legibility_is_judged_as_of_single_words() -> None:
    rng, judged = np.random.default_rng(0), []
    for index in range(40):
        pixels, coverage = compose(next(plans(2, index)))
        share, spread = rng.uniform(0, 0.6), rng.choice([0, 30])  # fade it, at times behind noise
        faded = 100 + (pixels.astype(float) - 100) * share + rng.normal(0, spread, pixels.shape)
        faded = np.clip(faded, 0, 255).round().astype(np.uint8)
        canvas = torch.zeros(1, 3, pixels.shape[0] + 5, pixels.shape[1] + 9)
        canvas[0, :, :-5, :-9] = torch.from_numpy(faded).permute(2, 0, 1)
        covered = torch.zeros(1, *canvas.shape[2:])
        covered[0, :-5, :-9] = torch.from_numpy(coverage)
        sizes = torch.tensor([[pixels.shape[1], pixels.shape[0]]])
        judged.append((is_readable(faded, coverage), bool(are_readable(canvas, covered, sizes))))
    assert {alone for alone, _ in judged} == {True, False}
    assert sum(alone != batched for alone, batched in judged) <= 1  # on the very edge


def test_unreadable_words_are_drawn_again_and_plainer() -> None:
    series = [plans(4, index) for index in range(6)]
    firsts = [next(attempts) for attempts in series]
    for place in (1, 4):  # letters in the colour of the ground
        plan = firsts[place]
        firsts[place] = replace(plan, layers=[replace(la, colour=plan.ground.colour) for la in plan.layers], wear=None)
    asked = []

    def again(place: int) -> Plan:
        asked.append(place)
        return next(series[place])

    images = develop(sketch(firsts), SIZE, again)
    assert sorted(set(asked)) == [1, 4]
    plainer = [second(4, place) for place in (1, 4)]
    assert levels_apart(images[[1, 4]], develop(sketch(plainer), SIZE, again)).max() < 1


def second(seed: int, index: int) -> Plan:
    attempts: Iterator[Plan] = plans(seed, index)
    next(attempts)
    return next(attempts)


def test_sketches_travel() -> None:
    plan = next(plans(0, 1))
    there = pickle.loads(pickle.dumps(sketch([plan]))).to('cpu')
    again = iter(())
    assert torch.equal(develop(there, SIZE, again.__next__), develop(sketch([plan]), SIZE, again.__next__))


def module_of(**options: Any) -> SceneTextDataModule:
    rendered = {'count': 24, 'warmup': 0, **options.pop('rendered', {})}
    settings = {'augment': False, 'num_workers': 0, **options}
    return SceneTextDataModule('none', 'rendered', SIZE, 25, PRINTABLE, PRINTABLE, 8, rendered=rendered, **settings)


class Keeper(pl.LightningModule):
    """Trains nothing and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[Tensor, list[str]]] = []

    def training_step(self, batch: Any, _: int) -> Tensor:
        self.seen.append(batch)
        return self.weight.sum()

    def validation_step(self, batch: Any, _: int) -> None:
        assert isinstance(batch[0], Tensor)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0)


@pytest.mark.parametrize('workers', [0, 1])
def test_training_sees_the_same_words_painted_on_the_device(tmp_path: Path, workers: int) -> None:
    keeper = Keeper()
    trainer = pl.Trainer(
        max_epochs=1, accelerator='cpu', logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=1, default_root_dir=tmp_path, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(keeper, module_of(rendered={'on_device': True}, num_workers=workers))
    assert len(keeper.seen) == 3
    for (images, labels), (others, same) in zip(keeper.seen, module_of().train_dataloader(), strict=True):
        assert labels == same
        assert levels_apart(images, others).max() < 4


def test_words_that_cannot_be_read_are_drafted_again() -> None:
    words = RenderedDataset(LabelRules(PRINTABLE, 25), count=4, warmup=0, on_device=True)
    drafts = [words[key][0] for key in (9, 5)]
    faint = [replace(plan, layers=[replace(la, colour=plan.ground.colour) for la in plan.layers]) for plan, _ in drafts]
    images = words.develop(sketch([replace(plan, wear=None) for plan in faint], [9, 5]), SIZE)
    assert images.std((1, 2, 3)).min() > 0.05
    plainer = [second(0, key) for key in (9, 5)]
    assert levels_apart(images, develop(sketch(plainer), SIZE, lambda key: plainer[key])).max() < 1


@pytest.mark.parametrize('options', [{'augment': True}, {'rotation': 90}, {'rendered': {'on_device': 'maybe'}}])
def test_what_does_not_go_on_the_device_is_refused(options: dict[str, Any]) -> None:
    options = {**options, 'rendered': {'on_device': True, **options.get('rendered', {})}}
    with pytest.raises(ValueError, match=r'on_device .*(set on_device=false|expected true, false or auto)'):
        module_of(**options).train_dataloader()


def test_auto_paints_on_the_device_only_where_there_is_a_gpu() -> None:
    words = RenderedDataset(LabelRules(PRINTABLE, 25), on_device='auto')
    assert words.on_device == torch.cuda.is_available()
