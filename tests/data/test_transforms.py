"""Opening pictures of every kind, and the transform against torchvision."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms as T

from strhub.data.picture import MAX_PIXELS, UnreadablePictureError, image_size, open_image
from strhub.data.transforms import get_transform


def encoded(image: Image.Image, format: str = 'PNG', **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize('size', [(100, 40), (7, 300), (128, 32), (1, 1), (999, 5)])
@pytest.mark.parametrize('img_size', [(32, 128), (224, 224)])
def test_transform_equals_torchvision(size, img_size):
    image = noise(*size)
    reference = T.Compose(
        [T.Resize(img_size, T.InterpolationMode.BICUBIC), T.ToTensor(), T.Normalize(0.5, 0.5)],
    )
    ours = get_transform(img_size)(image)
    assert ours.dtype == torch.float32
    assert ours.shape == (3, *img_size)
    assert ours.is_contiguous()
    assert torch.equal(ours, reference(image))


def test_rotation_is_counter_clockwise_and_keeps_the_whole_picture():
    image = Image.new('RGB', (40, 20), 'black')
    image.paste('white', (20, 0, 40, 20))  # the right half
    turned = get_transform((40, 20), rotation=90)(image)
    assert torch.allclose(turned[:, :18], torch.tensor(1.0))  # is the upper half now
    assert torch.allclose(turned[:, 22:], torch.tensor(-1.0))


@pytest.mark.parametrize('options', [{'augment': True}, {'rotation': 30}])
def test_a_long_strip_does_not_fill_the_memory(options):
    transform = get_transform((8, 32), **options)
    for key in range(3):  # a million pixels wide, turned by 15 degrees, would be 750 GB
        assert transform(Image.new('RGB', (1_000_000, 10)), np.random.default_rng(key)).shape == (3, 8, 32)


@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'RGBA', 'LA', 'CMYK', 'YCbCr', 'I;16', 'I', 'F'])
def test_transform_takes_any_mode(mode):
    source = Image.new('I' if mode in ('I', 'I;16', 'F') else 'RGB', (30, 10))
    assert get_transform((8, 16))(source.convert(mode)).shape == (3, 8, 16)


@pytest.mark.parametrize('img_size', [(32,), (0, 128), (32, 128, 3)])
def test_impossible_sizes_are_refused(img_size):
    with pytest.raises(ValueError, match='img_size'):
        get_transform(img_size)


GREY = np.linspace(0, 255, 64, dtype=np.uint8).reshape(8, 8)


@pytest.mark.parametrize(
    'data',
    [
        encoded(Image.fromarray(GREY)),
        encoded(Image.fromarray(GREY.astype(np.uint16) * 257)),  # 16 bits
        encoded(Image.fromarray(GREY.astype(np.int32) * 257), 'TIFF'),  # 32 bits
        encoded(Image.fromarray(GREY.astype(np.float32)), 'TIFF'),
        encoded(Image.fromarray(GREY).convert('RGBA')),  # an opaque alpha channel
        encoded(Image.fromarray(GREY).convert('P')),
        encoded(Image.fromarray(GREY).convert('RGB').convert('CMYK'), 'TIFF'),
    ],
    ids=['8 bit', '16 bit', '32 bit', 'float', 'alpha', 'palette', 'cmyk'],
)
def test_all_modes_show_the_same_greys(data):
    image = open_image(data)
    assert image.mode == 'RGB'
    assert np.abs(np.asarray(image)[..., 0].astype(int) - GREY).max() <= 1


@pytest.mark.parametrize(('ink', 'backdrop'), [('white', 0), ('black', 255)])
@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'P'])
def test_ink_on_a_transparent_ground_stays_visible(ink, backdrop, mode):
    image = Image.new('RGBA', (20, 10), (0, 0, 0, 0))
    image.paste(ink, (5, 2, 10, 8))
    pixels = np.asarray(open_image(encoded(image.convert(mode))))
    assert tuple(pixels[0, 0]) == (backdrop,) * 3
    assert tuple(pixels[4, 7]) == (255 - backdrop,) * 3


def test_a_transparent_colour_without_alpha_channel():
    image = Image.new('RGB', (8, 8), (255, 0, 255))
    image.paste((10, 10, 10), (2, 2, 5, 5))
    pixels = np.asarray(open_image(encoded(image, transparency=(255, 0, 255))))
    assert tuple(pixels[0, 0]) == (255, 255, 255)
    assert tuple(pixels[3, 3]) == (10, 10, 10)


def test_exif_orientation_is_applied():
    image = Image.new('RGB', (40, 20), 'black')
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    assert open_image(encoded(image, 'JPEG', exif=exif)).size == (20, 40)


def test_the_first_frame_of_an_animation_is_read():
    frames = [Image.new('RGB', (8, 8), colour) for colour in ('red', 'blue')]
    data = encoded(frames[0], 'GIF', save_all=True, append_images=frames[1:])
    assert open_image(data).getpixel((0, 0)) == (255, 0, 0)


def bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b'')


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        (b'', 'is empty'),
        (b'no picture at all', 'not a picture of a known format'),
        (encoded(noise(64, 64))[:2000], 'cannot be read'),
        (encoded(noise(64, 64), 'JPEG')[:2000], 'cannot be read'),
        (bomb(MAX_PIXELS, 1) + b'', 'cannot be read'),
        (bomb(10_000, 8_000), f'more than {MAX_PIXELS} pixels'),
        (bomb(100_000, 100_000), f'more than {MAX_PIXELS} pixels'),
        (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', 'not a picture of a known format'),
    ],
)
def test_what_is_no_picture_is_told_in_one_sentence(data, message):
    with pytest.raises(UnreadablePictureError, match=message) as error:
        open_image(data, name='word_7.png')
    assert str(error.value).startswith('word_7.png ')
    assert '\n' not in str(error.value)


def test_paths_are_named(tmp_path):
    path = tmp_path / 'a.png'
    with pytest.raises(UnreadablePictureError, match='does not exist'):
        open_image(path)
    with pytest.raises(UnreadablePictureError, match=str(tmp_path)):
        open_image(tmp_path)
    noise(30, 20).save(path)
    assert open_image(path).size == open_image(str(path)).size == (30, 20)


def test_size_comes_from_the_header():
    assert image_size(encoded(noise(30, 20))) == (30, 20)
    assert image_size(b'junk') is None


VALID = [encoded(noise(24, 12), f) for f in ('PNG', 'JPEG', 'GIF', 'BMP', 'TIFF', 'WEBP', 'PPM')]


@given(
    st.sampled_from(VALID),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=8)), max_size=4),
    st.integers(0, 2000),
)
def test_damaged_pictures_open_or_are_refused_and_nothing_else(data, patches, end):
    damaged = bytearray(data)
    for at, patch in patches:
        damaged[at % len(data) : at % len(data) + len(patch)] = patch
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # PIL's remarks on odd tags
        try:
            mode = open_image(bytes(damaged[: end or None])).mode
        except UnreadablePictureError:
            mode = 'RGB'
    assert mode == 'RGB'
