"""Words -> encoded pictures and labels: opening, judging, cutting and encoding, in any number of processes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from PIL import Image

from strhub.data.convert.base import Cell, Picture, Record, Skipped, Word
from strhub.data.convert.crop import UnusableError, cut
from strhub.data.picture import UnreadablePictureError, open_image

if TYPE_CHECKING:
    from strhub.data.lmdb import LmdbReader

Cut: TypeAlias = tuple[bytes, str]  # an encoded picture and its label

# Of parts of JPEG pictures. On 400 photographed words: 44 dB, with 0.43 of PNG's bytes, a fifteenth of its time to
# encode, and 0.6 of that to decode.
QUALITY = 95
COMPRESSION = 3  # of PNG: half the time of the default, for 3 % more bytes
JPEG = b'\xff\xd8\xff'  # how such a file begins
MAX_BYTES = 256 << 20  # of an encoded picture
ORIENTATION = 0x0112  # the tag of EXIF


@dataclass(frozen=True)
class Rules:
    """Which words are kept, and how.

    Attributes:
        crop: 'auto' as strhub.data.convert.crop says, 'box' for bounding boxes alone.
        min_size: pixels; a word with a shorter side is skipped.
        max_label_length: characters; a longer label is skipped, 0: none is.
        charset: a label with other characters, apart from spaces, is skipped; None: none is.
        lossless: parts of JPEG pictures, too, are stored as PNG.
    """

    crop: str = 'auto'
    min_size: int = 1
    max_label_length: int = 0
    charset: str | None = None
    lossless: bool = False

    def judge(self, label: str) -> str | None:
        """Why a label is skipped; None if it is not."""
        if not label.strip():
            return 'empty label'
        try:
            label.encode()
        except UnicodeEncodeError:
            return 'label that is not Unicode'
        if 0 < self.max_label_length < len(label):
            return f'label longer than {self.max_label_length} characters'
        if self.charset is not None and not set(self.charset).issuperset(''.join(label.split())):
            return 'label with characters outside the charset'
        return None


def cut_all(items: Iterable[Word | Skipped], rules: Rules) -> list[Cut | Skipped]:
    """The words as they are stored, in order; what is skipped passes through."""
    done: list[Cut | Skipped] = []
    opened: _Opened | None = None
    for item in items:
        if isinstance(item, Word):
            if reason := rules.judge(item.label):
                item = Skipped(reason, str(item.picture))
            else:
                if opened is None or opened.picture != item.picture:
                    opened = _Opened(item.picture)
                done.append(opened.cut(item, rules))
                continue
        done.append(item)
    return done


class _Opened:
    """A picture, decoded; or why it cannot be."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.encoded = b''
        self.fault = ''
        try:
            self.encoded = fetch(picture)
            self.image = open_image(self.encoded, name=str(picture))
        except UnusableError as error:
            self.fault = str(error)
        except UnreadablePictureError:
            self.fault = 'picture unreadable'

    def cut(self, word: Word, rules: Rules) -> Cut | Skipped:
        if self.fault:
            return Skipped(self.fault, str(self.picture))
        try:
            orientation = _orientation(self.encoded) if word.as_stored else 1
            part = cut(self.image, word, orientation=orientation, rectify=rules.crop == 'auto')
        except UnusableError as error:
            return Skipped(str(error), str(self.picture))
        if min(part.size) < rules.min_size:
            return Skipped(f'picture with a side under {rules.min_size} pixels', str(self.picture))
        if part is self.image:
            return self.encoded, word.label
        stream = BytesIO()
        if self.encoded.startswith(JPEG) and not rules.lossless:
            part.save(stream, 'JPEG', quality=QUALITY, subsampling=0)
        else:
            part.save(stream, 'PNG', compress_level=COMPRESSION)
        return stream.getvalue(), word.label


def _orientation(encoded: bytes) -> int:
    try:
        with Image.open(BytesIO(encoded)) as image:
            return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # as in opening: a damaged tag says nothing about the pixels
        return 1


def fetch(picture: Picture) -> bytes:
    """The encoded picture.

    Raises:
        UnusableError: there is none, or it cannot be read.
        ValueError: the LMDB that it is in is damaged.
    """
    if isinstance(picture, Record):
        encoded = _reader(picture.lmdb).value(picture.key)
    elif isinstance(picture, Cell):
        encoded = picture.encoded
    else:
        encoded = _file(picture)
    if encoded is None:
        raise UnusableError('picture missing')
    if len(encoded) > MAX_BYTES:
        raise UnusableError(f'picture of more than {MAX_BYTES} bytes')
    return encoded


def _file(path: Path) -> bytes | None:
    try:
        with path.open('rb') as file:
            return file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):  # ValueError: a name with a NUL in it
        raise UnusableError('picture unreadable') from None


@lru_cache(maxsize=16)
def _reader(path: Path) -> LmdbReader:
    from strhub.data.lmdb import LmdbReader

    return LmdbReader(path)
