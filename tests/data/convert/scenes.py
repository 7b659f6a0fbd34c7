"""Pictures in which it can be seen whether a word was cut out where it is, upright and not mirrored."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

Quad = list[tuple[float, float]]
Save = Callable[[Image.Image, Path], None]

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))  # of a word's quarters, clockwise from upper left


def quad(centre: tuple[float, float], size: tuple[float, float] = (48, 20), turned: float = 0) -> Quad:
    """The corners of a word, clockwise from the upper left of its text, which is turned clockwise by some degrees."""
    cos, sin = math.cos(math.radians(turned)), math.sin(math.radians(turned))
    halves = [(-size[0] / 2, -size[1] / 2), (size[0] / 2, -size[1] / 2), (size[0] / 2, size[1] / 2)]
    halves.append((-size[0] / 2, size[1] / 2))
    return [(round(centre[0] + x * cos - y * sin), round(centre[1] + x * sin + y * cos)) for x, y in halves]


LEVEL, UPHILL, DOWN = quad((40, 20)), quad((140, 60), turned=-30), quad((40, 100), turned=90)
LEVEL_BOX = (16, 10, 48, 20)  # left, top, width, height


def scene(words: Sequence[Quad] = (LEVEL, UPHILL, DOWN)) -> Image.Image:
    """A grey picture with a flag of four colours at the place of each word."""
    image = Image.new('RGB', (200, 140), 'grey')
    draw = ImageDraw.Draw(image)
    for corners in words:
        middle = _between(corners, range(4))
        for i, colour in enumerate(COLOURS):
            sides = _between(corners, (i, (i + 1) % 4)), _between(corners, (i, (i - 1) % 4))
            draw.polygon([corners[i], sides[0], middle, sides[1]], fill=colour)
    return image


def _between(corners: Quad, which: Sequence[int]) -> tuple[float, float]:
    return sum(corners[i][0] for i in which) / len(which), sum(corners[i][1] for i in which) / len(which)


def flag(size: tuple[int, int] = (48, 20)) -> Image.Image:
    """A word that was cut out already."""
    width, height = size
    return scene([[(0, 0), (width, 0), (width, height), (0, height)]]).crop((0, 0, width, height))


def is_upright(image: Image.Image) -> bool:
    """Whether a picture shows one word, as it is read, and little else."""
    places = ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8))
    seen = [image.convert('RGB').getpixel((int(x * image.width), int(y * image.height))) for x, y in places]
    return int(np.abs(np.array(seen) - np.array(COLOURS)).max()) < 60


def save_plain(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=98, subsampling=0)


def save_turned(image: Image.Image, path: Path) -> None:
    """Saves what a camera held upright would have: the picture lies on its side, and EXIF says how to turn it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path.parent.mkdir(parents=True, exist_ok=True)
    image.transpose(Image.Transpose.ROTATE_90).save(path, quality=98, subsampling=0, exif=exif)
