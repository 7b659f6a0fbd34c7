"""`strhub.Reader`: pictures of any kind -> readings, with a checkpoint or with an exported network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np

from strhub.data.planes import to_floats, to_planes
from strhub.runtime.decode import decode
from strhub.runtime.description import Description
from strhub.runtime.pictures import ACCEPTED, Picture, is_one, to_image
from strhub.runtime.readings import Reading
from strhub.runtime.session import Session, is_exported


class Network(Protocol):
    """What reads images: images (N, 3, H, W) float32 in [-1, 1] -> probabilities (N, L, C)."""

    description: Description
    device: str

    def probabilities(self, images: np.ndarray) -> np.ndarray: ...


class Reader:
    """Reads pictures of words: `Reader('crnn-small-rendered')('word.png').text`.

    An ONNX file is run by ONNX Runtime, and torch is not imported. Any number of threads may use one reader at once.

    Args:
        source: a checkpoint, the name of weights (in the box, or published), or an ONNX file of `strhub export`.
        device: cpu, cuda, cuda:1, mps; auto takes the fastest there is.
        batch_size: pictures in one step, at most.
        threads: of the processor, for one step; with a checkpoint they are those of torch in the whole process.
        **overrides: hyper-parameters of the network, e.g. `refine_iters=2`; those of an ONNX file are fixed.

    Attributes:
        description: the network's name, picture size, charset and hyper-parameters.
        device: where it runs.

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
        for name, value in (('batch_size', batch_size), ('threads', threads)):
            if value is not None and value < 1:
                raise ValueError(f'{name} is {value}: give a whole number above 0')
        self.batch_size = batch_size
        self._network = _load(source, device=device, threads=threads, overrides=overrides)
        self.description = self._network.description
        self.device = self._network.device

    # A picture that is a str is also an Iterable, of its characters; it is read as a picture.
    @overload
    def __call__(self, images: Picture, *, top_k: int = 0) -> Reading: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, images: Iterable[Picture], *, top_k: int = 0) -> list[Reading]: ...

    def __call__(self, images: Picture | Iterable[Picture], *, top_k: int = 0) -> Reading | list[Reading]:
        """Reads one picture, which gives one reading, or many, which give a list in their order.

        Args:
            images: names of files, encoded pictures (bytes), PIL images, or arrays (H, W), (H, W, 3) or (H, W, 4) of
                bytes or of floats in [0, 1].
            top_k: how many alternatives to give for each character.

        Raises:
            UnreadablePictureError: one is no picture; the sentence says which. It is a ValueError.
        """
        if is_one(images):
            return self._read([images], ['the picture'], top_k)[0]
        if not isinstance(images, Iterable) or hasattr(images, 'read'):  # an open file has lines, not pictures
            raise ValueError(
                f'{type(images).__name__} is no picture, nor are these many: {ACCEPTED}, or a list of such'
            )
        rest: Iterator[Any] = iter(images)
        readings: list[Reading] = []
        while batch := list(islice(rest, self.batch_size)):
            names = [f'picture {len(readings) + i}' for i in range(1, len(batch) + 1)]
            readings += self._read(batch, names, top_k)
        return readings

    def _read(self, pictures: list[Picture], names: list[str], top_k: int) -> list[Reading]:
        described = self.description
        images = [to_image(picture, name=name) for picture, name in zip(pictures, names, strict=True)]
        planes = np.stack([to_planes(image, described.img_size) for image in images])
        probs = self._network.probabilities(to_floats(planes))
        return decode(probs, charset=described.charset, decoding=described.decoding, top_k=top_k)

    def __repr__(self) -> str:
        return f'<strhub.Reader: {self.description.name} on {self.device}>'


def _load(source: str | Path, **how: Any) -> Network:
    if is_exported(source):
        return Session(source, **how)
    from strhub.runtime.trained import Trained  # of torch

    return Trained(source, **how)
