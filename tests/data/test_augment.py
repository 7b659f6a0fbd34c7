"""RandAugment: the same generator gives the same picture, and a word stays a word."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from strhub.data.augment import (
    OPERATIONS,
    RandAugment,
    autocontrast,
    equalize,
    invert,
    posterize,
    rotate,
    shear_x,
    shear_y,
    solarize,
)
from strhub.data.transforms import get_transform


@pytest.fixture
def image() -> Image.Image:
    pixels = np.random.default_rng(0).integers(40, 200, (24, 90, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((90, 24), Image.Resampling.BICUBIC)


def pixels_of(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize('operation', OPERATIONS, ids=lambda operation: operation.__name__)
def test_an_operation_changes_a_picture_and_repeats_itself(operation, image):
    before = pixels_of(image).copy()
    first, second = (operation(image, 0.5, np.random.default_rng(0)) for _ in range(2))
    assert first.mode == 'RGB'
    assert first.size == second.size
    assert (pixels_of(first) == pixels_of(second)).all()
    assert (pixels_of(image) == before).all()  # the one it was given is untouched
    assert first.size != image.size or (pixels_of(first) != before).any()


@pytest.mark.parametrize('operation', OPERATIONS, ids=lambda operation: operation.__name__)
@pytest.mark.parametrize('size', [(1, 1), (1, 50), (200, 3)])
@pytest.mark.parametrize('level', [0, 1])
def test_an_operation_takes_any_size_and_level(operation, size, level):
    result = operation(Image.new('RGB', size, (200, 200, 200)), level, np.random.default_rng(0))
    assert min(result.size) >= 1


@pytest.mark.parametrize(
    ('operation', 'reference'),
    [
        (invert, ImageOps.invert),
        (lambda *a: posterize(*a), lambda image: ImageOps.posterize(image, 6)),
        (solarize, lambda image: ImageOps.solarize(image, 128)),
    ],
)
def test_operations_on_values_are_those_of_pillow(operation, reference, image):
    result = operation(image, 0.5, np.random.default_rng(0))
    assert (pixels_of(result) == pixels_of(reference(image))).all()


@pytest.mark.parametrize('operation', [autocontrast, equalize])
def test_contrast_is_stretched_to_the_full_range(operation, image):
    result = operation(image, 0.5, np.random.default_rng(0))
    assert result.getextrema() == ((0, 255),) * 3
    before, after = pixels_of(image)[..., 0].ravel(), pixels_of(result)[..., 0].ravel()
    assert (np.diff(after[np.argsort(before, kind='stable')]) >= 0).all()  # no two values change places


@pytest.mark.parametrize('operation', [rotate, shear_x, shear_y])
def test_no_end_of_a_word_is_cut_off(operation):
    image = Image.new('RGB', (120, 30), 'black')
    for corner in ((0, 0, 6, 6), (114, 0, 120, 6), (0, 24, 6, 30), (114, 24, 120, 30)):
        image.paste('white', corner)
    for seed in range(4):
        result = operation(image, 0.5, np.random.default_rng(seed))
        assert result.width >= 120
        assert result.height >= 30
        assert pixels_of(result).sum() > 0.85 * pixels_of(image).sum()


def test_randaugment_depends_on_the_generator_alone(image):
    augment = RandAugment()
    results = [augment(image, np.random.default_rng((1, key))) for key in range(30)]
    again = [augment(image, np.random.default_rng((1, key))) for key in range(30)]
    for one, other in zip(results, again, strict=True):
        assert one.tobytes() == other.tobytes()
    assert len({result.tobytes() for result in results}) > 20


def test_nothing_happens_at_probability_or_count_zero(image):
    for augment in (RandAugment(0), RandAugment(3, probability=0)):
        assert augment(image, np.random.default_rng(0)).tobytes() == image.tobytes()


@pytest.mark.parametrize('arguments', [(-1, 5), (3, 11), (99, 5)])
def test_impossible_settings_are_refused(arguments):
    with pytest.raises(ValueError, match='RandAugment'):
        RandAugment(*arguments)


def test_the_transform_augments_with_the_given_generator(image):
    transform = get_transform((32, 128), augment=True)
    first, second = (transform(image, np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert transform(image).shape == (3, 32, 128)
    assert transform(image.resize((1200, 400)), np.random.default_rng(5)).shape == (3, 32, 128)
