"""Opening pictures for training: as `open_image` shows them, and what it refuses."""

import io
import os
import warnings
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from strhub.data import pixels as module
from strhub.data.picture import UnreadablePictureError, open_image
from strhub.data.pixels import open_pixels
from strhub.data.transforms import get_transform


def encoded(image: Image.Image, format: str = 'PNG', **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def smooth(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


PICTURE = smooth(60, 24)
SIDEWAYS = Image.Exif()
SIDEWAYS[0x0112] = 6
COMMON = {
    'png': encoded(PICTURE),
    'grey png': encoded(PICTURE.convert('L')),
    'png of a resolution': encoded(PICTURE, dpi=(72, 72)),
    'png with a colour profile': encoded(PICTURE, icc_profile=b'of no known kind' * 9),
    'jpeg': encoded(PICTURE, 'JPEG', quality=90),
    'grey jpeg': encoded(PICTURE.convert('L'), 'JPEG'),
    'progressive jpeg': encoded(PICTURE, 'JPEG', progressive=True),
    'full colour jpeg': encoded(PICTURE, 'JPEG', subsampling=0),
    'commented jpeg': encoded(PICTURE, 'JPEG', comment='of a sign'),
}
OTHERS = {
    'webp': encoded(PICTURE, 'WEBP'),
    'bmp': encoded(PICTURE, 'BMP'),
    'gif': encoded(PICTURE, 'GIF'),
    'tiff': encoded(PICTURE, 'TIFF'),
    'palette png': encoded(PICTURE.convert('P')),
    'one bit png': encoded(PICTURE.convert('1')),
    '16 bit png': encoded(Image.fromarray(np.arange(800, dtype=np.uint16).reshape(20, 40) * 80)),
    'alpha png': encoded(PICTURE.convert('RGBA').rotate(20)),
    'transparent png': encoded(PICTURE, transparency=PICTURE.getpixel((3, 3))),
    'sideways png': encoded(PICTURE, exif=SIDEWAYS),
    'sideways jpeg': encoded(PICTURE, 'JPEG', exif=SIDEWAYS),
    'cmyk jpeg': encoded(PICTURE.convert('CMYK'), 'JPEG'),
    'animated png': encoded(PICTURE, save_all=True, append_images=[smooth(60, 24)]),
}


@pytest.mark.parametrize('name', COMMON | OTHERS)
def test_a_picture_is_the_same_as_any_way(name, monkeypatch):
    data = (COMMON | OTHERS)[name]
    expected = np.asarray(open_image(data))
    if name in COMMON:
        monkeypatch.setattr(module, 'open_image', lambda *_, **__: pytest.fail('the slow way was taken'))
    found = open_pixels(data)
    assert found.dtype == np.uint8
    assert found.flags.writeable
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 2  # other versions of the decoders may round otherwise


def test_nothing_is_said_of_odd_colour_profiles(capfd):
    open_pixels(COMMON['png with a colour profile'])
    assert capfd.readouterr() == ('', '')


def test_nothing_is_said_of_damaged_pictures_without_their_name(capfd):
    jpeg, png = COMMON['jpeg'], bytearray(COMMON['png'])
    at = png.index(b'IDAT')
    length = int.from_bytes(png[at - 4 : at], 'big')
    png[at + 4 + length // 2] ^= 255
    png[at + 4 + length : at + 8 + length] = zlib.crc32(png[at : at + 4 + length]).to_bytes(4, 'big')
    for damaged in (jpeg[: len(jpeg) // 2] + jpeg[-2:], jpeg[:-2] + b'beyond' + jpeg[-2:], bytes(png)):
        with suppress(UnreadablePictureError):
            open_pixels(damaged)
    assert capfd.readouterr() == ('', '')
    os.write(2, b'others are heard')
    assert capfd.readouterr().err == 'others are heard'


def test_a_path_is_opened(tmp_path):
    path = tmp_path / 'a.png'
    path.write_bytes(COMMON['png'])
    assert (open_pixels(path) == np.asarray(PICTURE)).all()
    with pytest.raises(UnreadablePictureError, match=r'b\.png does not exist'):
        open_pixels(tmp_path / 'b.png')


@pytest.mark.parametrize(
    ('size', 'reduced'),
    [((255, 63), 1), ((256, 64), 2), ((256, 63), 1), ((600, 400), 4), ((3000, 1000), 8), ((129, 2000), 1)],
)
def test_a_large_jpeg_comes_reduced_but_never_to_less_than_needed(size, reduced):
    data = encoded(smooth(*size), 'JPEG', quality=95)
    found = open_pixels(data, enough=(128, 32))
    assert found.shape == (-(-size[1] // reduced), -(-size[0] // reduced), 3)
    whole = open_image(data).resize((128, 32), Image.Resampling.BICUBIC)
    small = Image.fromarray(found).resize((128, 32), Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(small).astype(int) - np.asarray(whole)).mean() < 3
    assert open_pixels(encoded(smooth(*size)), enough=(128, 32)).shape == (*size[::-1], 3)  # a PNG does not


@pytest.mark.parametrize('data', [b'', b'no picture', COMMON['png'][:2000], COMMON['jpeg'][:-20], COMMON['jpeg'][:4]])
def test_what_is_unreadable_is_told_as_always(data):
    with pytest.raises(UnreadablePictureError) as expected:
        open_image(data, name='word_7')
    with pytest.raises(UnreadablePictureError) as found:
        open_pixels(data, name='word_7')
    assert str(found.value) == str(expected.value)


def test_a_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(module, 'MAX_PIXELS', 1000)
    monkeypatch.setattr('strhub.data.picture.MAX_PIXELS', 1000)
    for name in ('png', 'jpeg'):
        with pytest.raises(UnreadablePictureError, match='more than 1000 pixels'):
            open_pixels(COMMON[name])


@given(
    st.sampled_from([*COMMON.values()]),
    st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=8)), max_size=4),
    st.integers(0, 4000),
)
def test_damaged_pictures_open_alike_or_are_refused_and_nothing_else(data, patches, end):
    damaged = bytearray(data)
    for at, patch in patches:
        damaged[at % len(data) : at % len(data) + len(patch)] = patch
    data = bytes(damaged[: end or None])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # PIL's remarks on odd tags
        try:
            found = open_pixels(data)
        except UnreadablePictureError:
            with pytest.raises(UnreadablePictureError):
                open_image(data)
        else:
            assert found.ndim == 3
            assert found.shape[2] == 3


def test_only_training_opens_pictures_so():
    for transform in (get_transform((32, 128)), get_transform((32, 128), augment=True, rotation=90)):
        assert isinstance(transform.open(COMMON['jpeg']), Image.Image)
    assert isinstance(get_transform((32, 128), augment=True).open(COMMON['jpeg']), np.ndarray)
