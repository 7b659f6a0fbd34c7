"""`strhub.Reader`: pictures of any kind -> readings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image

from strhub.data.picture import UnreadablePictureError, open_image, to_rgb
from strhub.runtime.readings import Reading

Picture = str | Path | bytes | Image.Image | np.ndarray


class Reader:
    """Reads pictures of words: `Reader('parseq')('word.png').text`.

    Any number of threads may use one reader at once.

    Args:
        source: a checkpoint, or the name of published weights.
        device: cpu, cuda, cuda:1, mps; auto takes the fastest there is.
        batch_size: pictures in one step, at most.
        threads: of the processor, for one step; with a checkpoint they are those of torch in the whole process.
        **overrides: hyper-parameters of the network, e.g. `refine_iters=2`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is something else, or an argument does not fit.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        device: str = 'auto',
        batch_size: int = 64,
        threads: int | None = None,
        **overrides: Any,
    ) -> None:
        import torch

        from strhub.engine.devices import pick_device
        from strhub.models.zoo import MODELS, PRETRAINED, load_reader, published_name

        for name, value in (('batch_size', batch_size), ('threads', threads)):
            if value is not None and value < 1:
                raise ValueError(f'{name} is {value}: give a whole number above 0')
        if str(source).replace('_', '-') in MODELS and not Path(source).exists() and published_name(source) is None:
            source = f'{PRETRAINED}{source}'
        if threads:
            torch.set_num_threads(threads)
        self.batch_size = batch_size
        self._system = load_reader(source, **overrides).eval().to(pick_device(device))

    @overload
    def __call__(self, images: Picture, *, top_k: int = 0) -> Reading: ...  # type: ignore[overload-overlap]  # str
    @overload
    def __call__(self, images: Iterable[Picture], *, top_k: int = 0) -> list[Reading]: ...

    def __call__(self, images: Picture | Iterable[Picture], *, top_k: int = 0) -> Reading | list[Reading]:
        """Reads one picture, which gives one reading, or many, which give a list in their order.

        Args:
            images: paths, encoded pictures (bytes), PIL images, or arrays (H, W), (H, W, 3) or (H, W, 4), of bytes
                or of floats in [0, 1].
            top_k: how many alternatives to give for each character.

        Raises:
            UnreadablePictureError: one of them is no picture; the sentence says which.
        """
        from strhub.engine.read import read_images

        if isinstance(images, Picture) and not (isinstance(images, np.ndarray) and images.ndim == 4):
            return self([images], top_k=top_k)[0]
        readings: list[Reading] = []
        pictures = (as_image(image, name=f'picture {i}') for i, image in enumerate(images))
        for batch in _batches(pictures, self.batch_size):
            readings += read_images(self._system, batch, top_k=top_k)
        return readings


def as_image(picture: Picture, *, name: str) -> Image.Image:
    if isinstance(picture, str | Path):
        return open_image(picture)
    if isinstance(picture, bytes):
        return open_image(picture, name=name)
    if isinstance(picture, Image.Image):
        return to_rgb(picture)
    if not isinstance(picture, np.ndarray):
        raise UnreadablePictureError(
            f'{name} is a {type(picture).__name__}: give a path, bytes, a PIL image or an array'
        )
    if picture.dtype.kind == 'f':
        picture = (picture * 255).round().astype(np.uint8)
    return to_rgb(Image.fromarray(picture))


def _batches(pictures: Iterator[Image.Image], size: int) -> Iterator[list[Image.Image]]:
    while batch := list(islice(pictures, size)):
        yield batch
