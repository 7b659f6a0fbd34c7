"""What pages are made of: foreign text made harmless, pictures as data, templates, folders to write into."""

from __future__ import annotations

import base64
import html
import io
import unicodedata
from importlib.resources import files
from pathlib import Path
from string import Template, punctuation

import numpy as np
from PIL import Image

BLANK = '␣'


def escaped(text: str) -> str:
    """Foreign text for HTML, SVG and the attributes of both; what they cannot hold becomes �."""
    return html.escape(''.join(c if _is_fit(c) else '\ufffd' for c in text))


def _is_fit(char: str) -> bool:
    """Neither a control character, nor half a surrogate pair, nor one that turns the direction of what follows."""
    return unicodedata.category(char) not in ('Cc', 'Cs') and char not in '\u202a\u202b\u202c\u202d\u202e\ufffe\uffff'


def literal(text: str) -> str:
    """Foreign text for Markdown, to which any sign may mean something."""
    return ''.join(f'&#{ord(char)};' if char in punctuation else escaped(char) for char in text)


def shown(char: str) -> str:
    """One character so that it can be seen, escaped."""
    return BLANK if char.isspace() else escaped(char)


def isolated(text: str) -> str:
    """Foreign text that keeps its own direction and leaves that of its surroundings alone."""
    return f'<bdi>{escaped(text)}</bdi>'


def percent(share: float) -> str:
    return f'{100 * share:.1f}\u202f%'


def as_data(image: Image.Image, kind: str = 'PNG', **how: int) -> str:
    """A picture as the address of itself."""
    stream = io.BytesIO()
    image.save(stream, kind, **how)
    return f'data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}'


def thumbnail(image: Image.Image, size: tuple[int, int]) -> str:
    """A small copy, no larger than `size` (width, height), as data."""
    image = fitted(image.convert('RGB'), size)
    return as_data(image, 'JPEG', quality=80)


def fitted(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Made to fit into `size` (width, height) if it is larger; no side becomes 0."""
    scale = min(1.0, size[0] / image.width, size[1] / image.height)
    if scale == 1:
        return image
    return image.resize((max(1, round(scale * image.width)), max(1, round(scale * image.height))))


def heat(weights: np.ndarray) -> str:
    """A map (h, w) as a picture to lay over another: nothing where it is weak, yellow, then red where it is strong."""
    strength = weights / max(float(weights.max()), 1e-12)
    pixels = np.zeros((*weights.shape, 4), np.uint8)
    pixels[..., 0] = 255
    pixels[..., 1] = 235 * (1 - strength**1.5)
    pixels[..., 3] = 215 * strength**0.7
    return as_data(Image.fromarray(pixels, 'RGBA'))


def page(template: str, **parts: str) -> str:
    """A page of this package's templates; each part is markup already."""
    text = files('strhub.engine.report').joinpath(template).read_text('utf-8')
    return Template(text).substitute(parts)


def ready(folder: str, option: str) -> Path:
    """The folder of an option, made, and known to take files before the work begins.

    Raises:
        NotADirectoryError: it is a file, or inside of one.
        OSError: it cannot be made or written to.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / '.writable'
        probe.touch()
        probe.unlink()
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(f'{option} {folder} is no folder: give one to write into, new or not') from None
    except OSError as error:
        raise OSError(f'{option} {folder} cannot be written to ({error.strerror}): give another folder') from None
    return path
