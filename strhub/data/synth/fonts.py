"""The faces that words are drawn with: the vendored ones, or those of a folder, as glyph masks of one common size."""

from __future__ import annotations

import csv
import logging
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

logger = logging.getLogger(__name__)

CAP_HEIGHT = 32  # pixels of a capital in a glyph mask: somewhat more than most pictures show
PROBE_SIZE = 100  # a face is first opened at this size to measure its capitals
# What beginners read: upright letters without ornament, neither thin nor fat.
PLAIN_FAMILIES = {
    'Arimo', 'Cabin', 'Clear Sans', 'Fira Sans', 'Hind Madurai', 'Inter', 'Lato', 'Libre Franklin', 'Montserrat',
    'Mukta', 'Noto Sans', 'Open Sans', 'Oxygen-Sans', 'Roboto', 'Source Sans Pro',
}  # fmt: skip
PLAIN_STROKES = (0.11, 0.24)  # stroke width over cap height
SUFFIXES = ('.ttf', '.otf', '.ttc')


class Glyph(NamedTuple):
    """A character's coverage, uint8 (h, w), its left side and its top from pen and baseline, and the pen's step."""

    mask: np.ndarray
    left: int
    top: int
    advance: float


@dataclass
class Face:
    """One font file; opened, and its glyphs rasterised, when first needed."""

    path: Path
    family: str
    stroke: float = 0.15
    italic: bool = False
    caps_only: bool = False  # draws lower case as capitals
    _glyphs: dict[str, Glyph] = field(default_factory=dict, repr=False)
    _font: ImageFont.FreeTypeFont | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_glyphs': {}, '_font': None}  # a font that is open cannot travel to a worker

    @property
    def is_plain(self) -> bool:
        lightest, boldest = PLAIN_STROKES
        return self.family in PLAIN_FAMILIES and lightest <= self.stroke <= boldest and not self.italic

    @property
    def share(self) -> float:
        """How often it is drawn with, relative to others: on signs bold and upright letters prevail."""
        return (1.8 if self.stroke >= 0.165 else 1.0 if self.stroke >= 0.1 else 0.35) * (0.6 if self.italic else 1.0)

    def glyph(self, character: str) -> Glyph:
        if character not in self._glyphs:
            self._glyphs[character] = self._rasterise(character)
        return self._glyphs[character]

    def missing(self, characters: str) -> str:
        """The characters which the font cannot draw: it shows nothing, or what it shows for a non-character."""
        absent = self._rasterise('\uffff').mask
        return ''.join(
            c for c in characters
            if not (mask := self._rasterise(c).mask).any() or (mask.shape == absent.shape and (mask == absent).all())
        )  # fmt: skip

    def _open(self) -> ImageFont.FreeTypeFont:
        if self._font is None:
            try:
                # The basic layout is in every build of Pillow, so that all draw the same.
                font = ImageFont.truetype(self.path, PROBE_SIZE, layout_engine=ImageFont.Layout.BASIC)
            except OSError as error:
                raise ValueError(
                    f'{self.path} cannot be opened as a font ({error}): remove it or give another'
                ) from None
            _, top, _, bottom = font.getbbox('H', anchor='ls')
            size = PROBE_SIZE * CAP_HEIGHT / max(bottom - top, PROBE_SIZE // 4)
            self._font = font.font_variant(size=round(size))
        return self._font

    def _rasterise(self, character: str) -> Glyph:
        font = self._open()
        left, top, right, bottom = (int(edge) for edge in font.getbbox(character, anchor='ls'))
        image = Image.new('L', (max(right - left, 1), max(bottom - top, 1)))
        ImageDraw.Draw(image).text((-left, -top), character, fill=255, font=font, anchor='ls')
        return Glyph(np.asarray(image), left, top, font.getlength(character))


def vendored_faces() -> list[Face]:
    with as_file(files('strhub.data.synth').joinpath('fonts')) as folder, (folder / 'manifest.tsv').open() as manifest:
        return [
            Face(
                folder / row['file'], row['family'], float(row['weight']), row['italic'] == '1', row['caps_only'] == '1'
            )
            for row in csv.DictReader(manifest, delimiter='\t')
        ]


def faces_of(folder: str | Path) -> list[Face]:
    """The fonts below a folder, by name; a path of one font file is a folder of one."""
    root = Path(folder)
    paths = [root] if root.is_file() else sorted(p for p in root.rglob('*') if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise FileNotFoundError(f'{folder} holds no fonts: expected files that end in {", ".join(SUFFIXES)}')
    return [Face(path, path.stem) for path in paths]


class FontBook:
    """The faces that can draw a charset.

    Args:
        charset: a face that lacks one of its characters is left out, and named in the log.
        folder: with fonts to use instead of the vendored ones.
    """

    def __init__(self, charset: str = '', *, folder: str | Path | None = None) -> None:
        faces = vendored_faces() if folder is None else faces_of(folder)
        visible = ''.join(c for c in charset if not c.isspace())
        if folder is None:  # the vendored ones have the printable ASCII characters and no others
            beyond = ''.join(c for c in visible if not (c.isascii() and c.isprintable()))
            if beyond:
                raise ValueError(
                    f'the fonts of strhub have no {beyond[:20]!r}: give a folder of fonts which do (fonts=, --fonts)'
                )
        else:
            faces = self._usable(faces, visible, folder)
        self.faces = faces
        self._shares = list(accumulate(face.share for face in faces))
        self._plain = [face for face in faces if face.is_plain] or faces
        self._plain_shares = list(accumulate(face.share for face in self._plain))

    def draw(self, rng: Random, *, difficulty: float = 1.0) -> Face:
        if rng.random() >= 2 * difficulty:
            return rng.choices(self._plain, cum_weights=self._plain_shares)[0]
        return rng.choices(self.faces, cum_weights=self._shares)[0]

    @staticmethod
    def _usable(faces: list[Face], visible: str, folder: str | Path) -> list[Face]:
        usable = []
        for face in faces:
            try:
                missing = face.missing(visible)
            except ValueError as error:
                logger.warning('%s', error)
                continue
            if missing:
                logger.warning(
                    '%s is not used: it lacks %d characters of the charset: %s', face.path, len(missing), missing[:20]
                )
            else:
                usable.append(face)
        if not usable:
            raise ValueError(
                f'none of the {len(faces)} fonts in {folder} has all characters of the charset {visible[:40]!r}: '
                'add a font that has, or take characters out of the charset'
            )
        return usable
