"""The faces that words are drawn with: the vendored ones, or those of a folder, as glyph masks of one common size."""

from __future__ import annotations

import csv
import logging
import math
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from strhub.data.synth.fontfile import characters_of, count_faces
from strhub.data.synth.scripts import TURNED, demand_raqm, has_raqm, is_silent, is_square, shown

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
EM_OF_CAPITALS = 0.7  # what capitals mostly take of a font's size, where it has none to measure
MAX_GLYPHS = 2048  # kept by a face: of the thousands of Chinese ones, those of many faces would fill the memory
COLUMN = '|'  # follows a character whose form for columns is meant, among the glyphs
NO_CHARACTER = '\uffff'  # is drawn as what a font lacks
MAX_NAMED = 10  # words that no face has, in the log


class Glyph(NamedTuple):
    """A character's coverage, uint8 (h, w), its left side and its top from pen and baseline, and the pen's step."""

    mask: np.ndarray
    left: int
    top: int
    advance: float


@dataclass
class Face:
    """One font of a file; opened, and its glyphs rasterised, when first needed."""

    path: Path
    family: str
    stroke: float = 0.15
    italic: bool = False
    caps_only: bool = False  # draws lower case as capitals
    index: int = 0  # in a collection
    lacks: frozenset[str] = frozenset()  # the characters of the charset that it cannot draw
    _glyphs: dict[str, Glyph] = field(default_factory=dict, repr=False)
    _font: ImageFont.FreeTypeFont | None = field(default=None, repr=False)
    _shaper: ImageFont.FreeTypeFont | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        # a font that is open cannot travel to a worker
        return {**self.__dict__, '_glyphs': {}, '_font': None, '_shaper': None}

    @property
    def is_plain(self) -> bool:
        lightest, boldest = PLAIN_STROKES
        return self.family in PLAIN_FAMILIES and lightest <= self.stroke <= boldest and not self.italic

    @property
    def share(self) -> float:
        """How often it is drawn with, relative to others: on signs bold and upright letters prevail."""
        return (1.8 if self.stroke >= 0.165 else 1.0 if self.stroke >= 0.1 else 0.35) * (0.6 if self.italic else 1.0)

    def covers(self, text: str) -> bool:
        return not self.lacks or self.lacks.isdisjoint(text)

    def glyph(self, character: str) -> Glyph:
        if character not in self._glyphs:
            self._keep(character, self._rasterise(character))
        return self._glyphs[character]

    def upright(self, character: str) -> Glyph:
        """The glyph in a column: brackets and dashes are turned, small kana move, where the font and Pillow can."""
        if not (is_square(character) or character in TURNED) or not has_raqm():
            return self.glyph(character)
        key = character + COLUMN
        if key not in self._glyphs:
            self._keep(key, self._rasterise(character, self._raqm(), features=['vert']))
        return self._glyphs[key]

    def _keep(self, key: str, glyph: Glyph) -> None:
        if len(self._glyphs) >= MAX_GLYPHS:
            self._glyphs.clear()
        self._glyphs[key] = glyph

    def turns(self, character: str) -> bool:
        """Whether the font has a form of it for columns."""
        mask, turned = self.glyph(character).mask, self.upright(character).mask
        return mask.shape != turned.shape or bool((mask != turned).any())

    def shape(self, text: str) -> np.ndarray:
        """Coverage, uint8 (h, w), of a text that needs shaping, cropped to its ink."""
        demand_raqm(text)
        font = self._raqm()
        left, top, right, bottom = font.getbbox(text, anchor='ls')
        # Marks and swashes may leave the box, which is made of the pen's steps.
        x, y = CAP_HEIGHT - math.floor(left), CAP_HEIGHT - math.floor(top)
        image = Image.new('L', (math.ceil(right) + x + CAP_HEIGHT, math.ceil(bottom) + y + CAP_HEIGHT))
        ImageDraw.Draw(image).text((x, y), text, fill=255, font=font, anchor='ls')
        return np.asarray(image.crop(image.getbbox() or (0, 0, 1, 1)))

    def at(self, size: int) -> ImageFont.FreeTypeFont:
        """The font at another size, for captions; Pillow shapes what it can."""
        return ImageFont.truetype(self.path, size, self.index)

    def missing(self, characters: str) -> str:
        """The characters which the font cannot draw: it has no glyph for them, or an empty one."""
        self._open()
        known = characters_of(self.path, self.index)
        absent = self._rasterise(NO_CHARACTER).mask if known is None else None
        try:
            return ''.join(c for c in characters if not self._has(c, known, absent))
        except OSError as error:
            raise ValueError(f'{self.path} has glyphs that cannot be read ({error}): remove it') from None

    def _has(self, character: str, known: frozenset[int] | None, absent: np.ndarray | None) -> bool:
        if is_silent(character):
            return True
        if known is not None and ord(character) not in known:
            return False
        left, top, right, bottom = self._open().getbbox(character)
        if left >= right or top >= bottom:
            return False
        if absent is None:
            return True
        mask = self._rasterise(character).mask  # without a Unicode table, what it lacks looks like what nobody has
        return mask.shape != absent.shape or bool((mask != absent).any())

    def _open(self) -> ImageFont.FreeTypeFont:
        if self._font is None:
            try:
                # The basic layout is in every build of Pillow, so that all draw the same.
                font = ImageFont.truetype(self.path, PROBE_SIZE, self.index, layout_engine=ImageFont.Layout.BASIC)
                self._font = font.font_variant(size=round(PROBE_SIZE * CAP_HEIGHT / _capitals(font)))
            except OSError as error:
                raise ValueError(
                    f'{self.path} cannot be opened as a font ({error}): remove it or give another'
                ) from None
        return self._font

    def _raqm(self) -> ImageFont.FreeTypeFont:
        if self._shaper is None:
            self._shaper = self._open().font_variant(layout_engine=ImageFont.Layout.RAQM)
        return self._shaper

    def _rasterise(
        self, character: str, font: ImageFont.FreeTypeFont | None = None, features: list[str] | None = None
    ) -> Glyph:
        font = font or self._open()
        left, top, right, bottom = (int(edge) for edge in font.getbbox(character, anchor='ls', features=features))
        image = Image.new('L', (max(right - left, 1), max(bottom - top, 1)))
        ImageDraw.Draw(image).text((-left, -top), character, fill=255, font=font, anchor='ls', features=features)
        return Glyph(np.asarray(image), left, top, font.getlength(character, features=features))


def _capitals(font: ImageFont.FreeTypeFont) -> float:
    """How high they are at PROBE_SIZE."""
    box = font.getbbox('H', anchor='ls')
    is_absent = box == font.getbbox(NO_CHARACTER, anchor='ls') and bytes(font.getmask('H')) == bytes(
        font.getmask(NO_CHARACTER)
    )
    return EM_OF_CAPITALS * PROBE_SIZE if is_absent else max(box[3] - box[1], PROBE_SIZE / 4)


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
    return [Face(path, path.stem, index=index) for path in paths for index in range(count_faces(path))]


class FontBook:
    """The faces that can draw a charset, or parts of it: a word is drawn with a face that has all its characters.

    Args:
        charset: a face that has none of its characters is left out, and named in the log.
        folder: with fonts to use instead of the vendored ones.

    Raises:
        ValueError: if no face has any of the characters, the vendored ones have not all of them, or they need shaping
            and Pillow cannot do it.
    """

    def __init__(self, charset: str = '', *, folder: str | Path | None = None) -> None:
        faces = vendored_faces() if folder is None else faces_of(folder)
        visible = ''.join(c for c in charset if not c.isspace())
        if folder is None:  # the vendored ones have the printable ASCII characters and no others
            beyond = ''.join(c for c in visible if not (c.isascii() and c.isprintable()))
            if beyond:
                raise ValueError(
                    f'the fonts of strhub have no {shown(beyond)}: give a folder of fonts which do (fonts=, --fonts), '
                    'or a charset without'
                )
        else:
            demand_raqm(visible)
            faces = self._usable(faces, visible, folder)
        self.faces = faces
        self._is_whole = any(not face.lacks for face in faces)  # one face has everything
        self._named: set[str] = set()
        self._shares = list(accumulate(face.share for face in faces))
        self._plain = [face for face in faces if face.is_plain] or faces
        self._plain_shares = list(accumulate(face.share for face in self._plain))

    def can_draw(self, text: str) -> bool:
        """Whether one of the faces has all characters of the text; names it in the log where none has."""
        if self._is_whole or any(face.covers(text) for face in self.faces):
            return True
        if text not in self._named and len(self._named) < MAX_NAMED:
            self._named.add(text)
            last = ', and no further one is named' if len(self._named) == MAX_NAMED else ''
            logger.warning('no font has all characters of %r: it is not drawn%s', text, last)
        return False

    def draw(self, rng: Random, *, difficulty: float = 1.0, text: str = '') -> Face:
        """A face for a text that can be drawn."""
        if rng.random() >= 2 * difficulty:
            face = rng.choices(self._plain, cum_weights=self._plain_shares)[0]
        else:
            face = rng.choices(self.faces, cum_weights=self._shares)[0]
        if face.covers(text):
            return face
        able = [face for face in self.faces if face.covers(text)]
        return rng.choices(able, [face.share for face in able])[0]

    @staticmethod
    def _usable(faces: list[Face], visible: str, folder: str | Path) -> list[Face]:
        usable = []
        for face in faces:
            try:
                face.lacks = frozenset(face.missing(visible))
            except ValueError as error:
                logger.warning('%s', error)
                continue
            if visible and len(face.lacks) == len(visible):
                logger.warning('%s is not used: it has no character of the charset', face.path)
            else:
                usable.append(face)
        if not usable:
            raise ValueError(
                f'none of the {len(faces)} fonts in {folder} has a character of the charset {shown(visible)}: '
                'add a font that has, or give another charset'
            )
        if nowhere := frozenset.intersection(*(face.lacks for face in usable)):
            logger.warning(
                'no font in %s has %d characters of the charset, and no word with them is drawn: %s',
                folder,
                len(nowhere),
                shown(''.join(c for c in visible if c in nowhere)),
            )
        return usable
