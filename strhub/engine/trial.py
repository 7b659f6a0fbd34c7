"""One picture, one model, one way of decoding -> what a page shows of the reading."""

from __future__ import annotations

import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from strhub.data.transforms import get_transform
from strhub.engine.attention import check_sighted, look
from strhub.engine.exported import Exported
from strhub.engine.read import read_batch
from strhub.engine.report.markup import escaped, isolated, percent, shown
from strhub.engine.report.word import draw
from strhub.models.reader import Recogniser
from strhub.runtime.readings import Reading

ALTERNATIVES = 3  # characters that each place could be
MOST_REFINEMENTS = 5


@dataclass(frozen=True)
class Trial:
    """What came out.

    Attributes:
        seconds: from pixels to text, on the model's device.
        drawing: an SVG of where each character was seen; empty where the model does not tell.
    """

    reading: Reading
    seconds: float
    drawing: str


@dataclass(frozen=True)
class Decoding:
    """How PARSeq reads; other models have one way only."""

    autoregressive: bool
    refinements: int


class Models:
    """Models by name, each loaded when it is first used; any number of threads may use them.

    Args:
        loaders: name -> loads it, ready to read.
    """

    def __init__(self, loaders: Mapping[str, Callable[[], Recogniser]]) -> None:
        self._loaders = dict(loaders)
        self._systems: dict[str, Recogniser] = {}
        self._lock = threading.Lock()  # a model's way of decoding is set for one reading at a time

    @property
    def names(self) -> list[str]:
        return list(self._loaders)

    def __getitem__(self, name: str) -> Recogniser:
        if name not in self._systems:
            self._systems[name] = self._loaders[name]()
        return self._systems[name]

    def decoding(self, name: str) -> Decoding | None:
        """How a model reads unless it is told otherwise; None where there is no choice."""
        with self._lock:
            system = self[name]
            if isinstance(system, Exported) or 'decode_ar' not in system.hparams:
                return None
            return Decoding(bool(system.hparams['decode_ar']), int(system.hparams['refine_iters']))

    def read(self, name: str, image: Image.Image, decoding: Decoding | None = None) -> Trial:
        """Reads a picture; raises ValueError if the model cannot decode so."""
        with self._lock:
            system = self[name]
            if decoding:
                system.model.decode_ar = decoding.autoregressive  # type: ignore[assignment]
                system.model.refine_iters = decoding.refinements  # type: ignore[assignment]
            started = time.perf_counter()
            images = get_transform(system.hparams['img_size'])(image)[None]
            (reading,) = read_batch(system, images, top_k=ALTERNATIVES)
            seconds = time.perf_counter() - started
            try:
                check_sighted(system)
            except ValueError:
                return Trial(reading, seconds, '')
            (sight,) = look(system, images)
            return Trial(reading, seconds, draw(sight, image))


def warm_up(system: Recogniser) -> None:
    """Reads nothing, so that the first picture is not the slowest."""
    with torch.inference_mode():
        read_batch(system, torch.zeros(1, 3, *system.hparams['img_size']))


def summary(trial: Trial) -> str:
    """The text, how sure it is, and how long it took, as HTML."""
    text = isolated(trial.reading.text) if trial.reading.text else '<i>nothing was read</i>'
    return (
        f'<div class="reading"><div class="text">{text}</div><div class="facts">{percent(trial.reading.confidence)} '
        f'sure · {1000 * trial.seconds:.0f} ms</div></div>'
    )


def table(reading: Reading) -> str:
    """A row a character, as HTML: a bar of its confidence, and what else it could be."""
    rows = ''.join(
        f'<tr><td class="char">{shown(one.char)}</td><td class="bar"><div style="width:{100 * one.confidence:.1f}%">'
        f'</div></td><td class="number">{percent(one.confidence)}</td><td class="others">{_others(one.alternatives)}'
        '</td></tr>'
        for one in reading.characters
    )
    if not rows:
        return ''
    head = '<tr><th></th><th>confidence</th><th></th><th>or</th></tr>'
    return f'<table class="characters"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def _others(alternatives: Sequence[tuple[str, float]]) -> str:
    return ' '.join(
        f'<span>{shown(char)} {percent(share)}</span>' for char, share in alternatives[1:] if share >= 0.001
    )


def picture(svg: str, text: str) -> str:
    """A drawing as HTML: a picture of its own, which nothing around it can change."""
    if not svg:
        return '<p class="remark">This model does not tell where it looks; its checkpoint would.</p>'
    data = b64encode(svg.encode()).decode()
    return f'<img class="sight" alt="where {escaped(text)} was seen" src="data:image/svg+xml;base64,{data}">'
