"""Loaders of a run: which data sets, in which order, in what batches."""

from __future__ import annotations

import inspect
import logging
import math
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from strhub.data.base import WordDataset
from strhub.data.dataset import HOW_TO_MAKE_DATA, TreeDataset, build_tree_dataset
from strhub.data.labels import LabelRules
from strhub.data.mixture import MixtureDataset, source_seed
from strhub.data.sampler import BatchesInTurn, EpochSampler
from strhub.data.sources import RENDERED, Source, read_sources
from strhub.data.steady import LOOK, SteadyLoader, word_datasets
from strhub.data.transforms import WordTransform, get_transform

if TYPE_CHECKING:
    from strhub.data.mixture import Part
    from strhub.data.synth.batch import Sketch
    from strhub.data.synth.plan import Draft

logger = logging.getLogger(__name__)

MIXED = 'mixed'
HELD_OUT_WORDS = 2000  # rendered for validation: an accuracy known to about 1 %
HELD_OUT_SEED = 0x5EED0FF  # no run's own seed, one hopes; the same for all runs, so that they compare

Words = WordDataset | TreeDataset


def collate(items: Sequence[tuple[Tensor | Draft, str]]) -> tuple[Tensor | Sketch, list[str]]:
    """Items -> images (N, 3, H, W), labels."""
    images, labels = zip(*items, strict=True)
    if not isinstance(images[0], Tensor):  # drafts of rendered words, for the device to paint
        from strhub.data.synth.batch import sketch

        plans, keys = zip(*images, strict=True)
        return sketch(list(plans), list(keys)), list(labels)
    return default_collate(list(images)), list(labels)  # in a worker, straight into memory that it shares


def start_worker(_: int) -> None:
    """One thread a worker: the workers are the parallelism. Ctrl-C is the business of the process that has them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    if (cv2 := sys.modules.get('cv2')) is not None:  # only what the data set has imported
        cv2.setNumThreads(0)


class SceneTextDataModule(pl.LightningDataModule):
    """The data of a run.

    `train_dir` is `real` or `synth` (below root_dir/train), `rendered` (words drawn on the fly, nothing on the disk),
    `mixed` (the sources of `mix`), or the path of any LMDB, labelled folder, label file, or tree of them. `val_dir` is
    such a path too; it defaults to root_dir/val, and for rendered words to rendered words that training never sees.

    The order and the augmentation of training depend on `seed`, the epoch and the record alone. A run that goes on in
    the middle of an epoch sets `start_batch` to the number of batches of that epoch (`start_epoch`, default: whichever
    comes first) that are done. The sampler serves each process its own share, so the trainer needs
    `use_distributed_sampler=False`. With `turns` above 1 each process gets the batches of so many, in turn.

    Args:
        root_dir: holds train/, val/ and test/.
        img_size: (height, width) in pixels.
        charset_train: what training labels are reduced to.
        charset_test: what validation and test labels are reduced to.
        batch_size: per process.
        min_image_dim: pictures with a side shorter than this are left out.
        rotation: degrees by which each picture is turned counter-clockwise first.
        collate_fn: makes a batch of items; default: images (N, 3, H, W) and a list of labels.
        rendered: further arguments of RenderedDataset, e.g. count, the number of words that make an epoch.
        mix: what train_dir=mixed trains on: the fields of strhub.data.sources.Source for each source, by its name.
        mix_count: words that make an epoch of a mixture; by default as many as its sources have.
        patience: seconds to wait for a batch before the picture that hangs its worker is given up; 0 waits for ever.
    """

    TEST_BENCHMARK_SUB = ('IIIT5k', 'SVT', 'IC13_857', 'IC15_1811', 'SVTP', 'CUTE80')
    TEST_BENCHMARK = ('IIIT5k', 'SVT', 'IC13_1015', 'IC15_2077', 'SVTP', 'CUTE80')
    TEST_NEW = ('ArT', 'COCOv1.4', 'Uber')
    TEST_ALL = tuple(dict.fromkeys(TEST_BENCHMARK_SUB + TEST_BENCHMARK + TEST_NEW))

    def __init__(
        self,
        root_dir: str | Path,
        train_dir: str | Path,
        img_size: Sequence[int],
        max_label_length: int,
        charset_train: str,
        charset_test: str,
        batch_size: int,
        num_workers: int,
        augment: bool,
        remove_whitespace: bool = True,
        normalize_unicode: bool = True,
        min_image_dim: int = 0,
        rotation: float = 0,
        collate_fn: Callable[[Sequence[Any]], Any] | None = None,
        *,
        val_dir: str | Path | None = None,
        seed: int = 0,
        rendered: Mapping[str, Any] | None = None,
        mix: Mapping[str, Any] | None = None,
        mix_count: int | None = None,
        patience: float = 60,
    ) -> None:
        super().__init__()
        if batch_size < 1 or num_workers < 0 or seed < 0:
            raise ValueError(
                f'batch_size is {batch_size}, num_workers {num_workers} and seed {seed}: '
                'give at least 1, at least 0 and at least 0'
            )
        self.root_dir = Path(root_dir)
        self.train_dir = str(train_dir)
        self.val_dir = None if val_dir is None else str(val_dir)
        self.img_size = tuple(img_size)
        self.max_label_length = max_label_length
        self.charset_train, self.charset_test = charset_train, charset_test
        self.batch_size, self.num_workers = batch_size, num_workers
        self.augment = augment
        self.remove_whitespace, self.normalize_unicode = remove_whitespace, normalize_unicode
        self.min_image_dim = min_image_dim
        self.rotation = rotation
        self.collate_fn = collate_fn or collate
        self.seed = seed
        self.patience = patience
        self.rendered = dict(rendered or {})
        self.mix_count = mix_count
        if isinstance(patience, bool) or not isinstance(patience, int | float) or not 0 <= patience < math.inf:
            raise ValueError(f'data.patience is {patience!r}: give seconds, or 0 to wait for ever')
        if mix and self.train_dir != MIXED:
            raise ValueError(
                f'data.mix names {", ".join(map(str, mix))} but data.train_dir is {train_dir}: set that to mixed'
            )
        self._sources = read_sources(mix, self._whole()) if self._mixes else {}
        self.start_batch = 0
        self.start_epoch: int | None = None
        self.turns = 1
        self._train: Dataset | None = None
        self._val: Dataset | None = None

    @staticmethod
    def get_transform(img_size: Sequence[int], augment: bool = False, rotation: float = 0) -> WordTransform:
        """Picture -> (3, H, W) in [-1, 1]; see strhub.data.transforms."""
        return get_transform(img_size, augment, rotation)

    @property
    def train_dataset(self) -> Dataset:
        if self._train is None:
            self._train = self._mix() if self._mixes else self._open_source(self._whole())
        return self._train

    @property
    def val_dataset(self) -> Dataset:
        if self._val is None:
            if self._renders and self.val_dir is None:
                self._val = self._render_held_out()
            else:
                self._val = self._open(self._val_path(), self._rules(self._charset_val()))
        return self._val

    def train_dataloader(self) -> SteadyLoader:
        rank, world = self._place()
        # Rendered words come in the order of their keys, from easy to hard; a mixture shuffles by itself.
        sampler = EpochSampler(
            len(self.train_dataset),  # type: ignore[arg-type]
            shuffle=not (self._renders or self._mixes),
            seed=self.seed,
            rank=rank,
            world=world,
            turns=self.turns,
            start=self._take_start,
        )
        if self.patience and not self.num_workers and any(word_datasets(self.train_dataset)):
            logger.warning(
                'data.num_workers=0: a picture that hangs its decoder hangs the run; data.num_workers=1 gives it up '
                'after data.patience=%g seconds',
                self.patience,
            )
        # Workers fetch ahead as soon as the iterator is made, which is before Lightning names the epoch.
        sampler.set_epoch(self.start_epoch or 0)
        return self._loader(self.train_dataset, sampler)

    def val_dataloader(self) -> SteadyLoader:
        rank, world = self._place()
        # Each word is judged once, so that the sums over all ranks are right.
        length = len(self.val_dataset)  # type: ignore[arg-type]
        if length < world:  # a process without a word would leave the others waiting; sums of equal parts say the same
            rank, world = 0, 1
        return self._loader(self.val_dataset, EpochSampler(length, shuffle=False, rank=rank, world=world, equal=False))

    def test_dataset(self, name: str | Path) -> Words:
        """A set below root_dir/test, or of any path.

        Items come in order and none is left out: after a batch, `is_unreadable(index)` tells which of its pictures
        could not be read, came blank, and count as wrong.
        """
        return self._open(self._find(name, 'test'), self._rules(self.charset_test))

    def test_dataloaders(self, subset: Sequence[str | Path]) -> dict[str, SteadyLoader]:
        """One loader for each set, under the name it was given by; all are looked for before the first is opened."""
        if missing := [str(name) for name in subset if self._look_for(name, 'test') is None]:
            raise FileNotFoundError(
                f'{self.root_dir / "test"} does not have {", ".join(missing)}, nor is there such a path: '
                f'{HOW_TO_MAKE_DATA}'
            )
        sets = {str(name): self.test_dataset(name) for name in subset}
        return {
            name: self._loader(words, EpochSampler(len(words), shuffle=False), persist=False)
            for name, words in sets.items()
        }

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Paints rendered words that came as drafts, where they are now."""
        words: Any = self._train
        if not getattr(words, 'on_device', False):
            return batch
        images, labels = batch  # of validation, pictures already
        return batch if isinstance(images, Tensor) else (words.develop(images, self.img_size), labels)

    @property
    def _renders(self) -> bool:
        return self.train_dir == RENDERED

    @property
    def _mixes(self) -> bool:
        return self.train_dir == MIXED

    def _look_for(self, name: str | Path, room: str) -> Path | None:
        """`name` below root_dir/room, or else as a path of its own."""
        return next((path for path in (self.root_dir / room / name, Path(name)) if path.exists()), None)

    def _find(self, name: str | Path, room: str) -> Path:
        path = self._look_for(name, room)
        if path is None:
            where = [str(self.root_dir / room / name), str(name)]
            what = f'{name} does not exist' if where[0] == where[1] else f'neither {" nor ".join(where)} exists'
            raise FileNotFoundError(f'{what}: {HOW_TO_MAKE_DATA}')
        return path

    def _val_path(self) -> Path:
        return self.root_dir / 'val' if self.val_dir is None else self._find(self.val_dir, 'val')

    def _charset_val(self) -> str:
        """The characters of the test that the network can learn: the loss needs their ids."""
        if charset := ''.join(c for c in self.charset_test if c in self.charset_train):
            return charset
        raise ValueError(
            f'charset_test {self.charset_test!r} has no character of charset_train {self.charset_train!r}: nothing '
            'could be validated; set model.charset_test to characters that are trained'
        )

    def _rules(self, charset: str) -> LabelRules:
        return replace(self._whole(), charset=charset).rules

    def _open(self, path: Path, rules: LabelRules) -> Words:
        transform = get_transform(self.img_size, rotation=self.rotation)
        return build_tree_dataset(path, rules, transform, min_image_dim=self.min_image_dim, seed=self.seed)

    def _whole(self) -> Source:
        """train_dir as a source: what the sources of a mixture differ from."""
        return Source(
            path=self.train_dir,
            charset=self.charset_train,
            max_label_length=self.max_label_length,
            remove_whitespace=self.remove_whitespace,
            normalize_unicode=self.normalize_unicode,
            min_image_dim=self.min_image_dim,
            augment=self.augment,
            rendered=self.rendered,
        )

    def _open_source(self, source: Source, seed: int | None = None) -> Part:
        rules, seed = source.rules, self.seed if seed is None else seed
        transform = get_transform(self.img_size, augment=source.augment, rotation=self.rotation)
        if source.path == RENDERED:
            from strhub.data.synth import RenderedDataset

            known = inspect.signature(RenderedDataset).parameters.keys() - {'rules', 'transform', 'seed'}
            if unknown := source.rendered.keys() - known:
                raise ValueError(f'rendered has no key {min(unknown)}: there are {", ".join(sorted(known))}')
            words = RenderedDataset(rules, transform, seed=seed, **source.rendered)
            if words.on_device and (self._mixes or source.augment or self.rotation):
                raise ValueError(
                    'rendered.on_device is for words that are neither mixed with others nor augmented nor turned: set '
                    'on_device=false, or train on rendered words alone with data.augment=false data.rotation=0'
                )
            return words
        if rules.warning:
            logger.warning('%s', rules.warning)
        path, options = self._find(source.path, 'train'), {'min_image_dim': source.min_image_dim, 'seed': seed}
        return build_tree_dataset(path, rules, transform, replace_unreadable=True, **options)

    def _mix(self) -> MixtureDataset:
        parts = {}
        for name, source in self._sources.items():
            try:
                parts[name] = self._open_source(source, source_seed(self.seed, name))
            except FileNotFoundError as error:
                raise FileNotFoundError(
                    f'data.mix.{name}: {error}; or leave this source out with data.mix.{name}.weight=0'
                ) from None
            except ValueError as error:
                raise ValueError(f'data.mix.{name}: {error}') from None
        weights = {name: source.weight for name, source in self._sources.items() if source.weight is not None}
        mixture = MixtureDataset(parts, weights or None, seed=self.seed, count=self.mix_count)
        for name, source in self._sources.items():
            logger.info('data.mix.%s (%s): %s', name, source.path, mixture.summary(name))
        return mixture

    def _render_held_out(self) -> Dataset:
        from strhub.data.synth import RenderedDataset

        fixed = {'count': HELD_OUT_WORDS, 'seed': HELD_OUT_SEED, 'warmup': 0, 'on_device': False}
        transform = get_transform(self.img_size, rotation=self.rotation)
        return RenderedDataset(self._rules(self._charset_val()), transform, **{**self.rendered, **fixed})

    def _place(self) -> tuple[int, int]:
        """Rank of this process and how many there are."""
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1

    def _take_start(self, epoch: int) -> int:
        if self.start_epoch not in (None, epoch):
            return 0
        batches, self.start_batch = self.start_batch, 0
        return batches * self.batch_size

    def _loader(self, dataset: Dataset, sampler: EpochSampler, *, persist: bool = True) -> SteadyLoader:
        batches = BatchesInTurn(sampler, self.batch_size) if sampler.turns > 1 else None

        def make() -> DataLoader:
            if batches is not None:
                return self._plain_loader(dataset, persist=persist, batch_sampler=batches)
            return self._plain_loader(dataset, persist=persist, batch_size=self.batch_size, sampler=sampler)

        return SteadyLoader(make, batches or sampler, self.batch_size, self.patience)

    def _plain_loader(self, dataset: Dataset, *, persist: bool, **order: Any) -> DataLoader:
        return DataLoader(
            dataset,
            **order,
            num_workers=self.num_workers,
            persistent_workers=persist and self.num_workers > 0,
            timeout=LOOK if self.num_workers else 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=start_worker,
            collate_fn=self.collate_fn,
        )
