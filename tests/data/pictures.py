"""Pictures for tests."""

from io import BytesIO

import numpy as np
from PIL import Image


def make_picture(seed: int, width: int = 40, height: int = 16) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encode(image: Image.Image) -> bytes:
    stream = BytesIO()
    image.save(stream, 'PNG')
    return stream.getvalue()
