"""RandAugment beside its plain form by Pillow: the same choices, about the same pictures; a word stays a word."""

import runpy
from collections import Counter
from itertools import count, islice
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont, ImageOps

from strhub.data.augment import MOVES, Place, RandAugment, resize, rotate, shear_x, shear_y
from strhub.data.effects import EFFECTS, autocontrast, equalize, invert, poisson_noise, posterize, solarize
from strhub.data.transforms import get_transform

PLAIN = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / 'benchmarks' / 'plain.py')))
NAMES = [operation.__name__ for operation in (*EFFECTS, *MOVES)]
SIZES = [(60, 24), (150, 28), (420, 150)]  # to be enlarged, enlarged in height and made smaller, made smaller
HEIGHT, WIDTH = TARGET = 32, 128

# Mean difference from the plain form, in grey levels of 255, that words at the size of the network may have. Movements
# differ by an interpolation less; the first three, whose effect is 20 to 60 levels, see what the resize left.
TOLERANCE = dict.fromkeys(NAMES, 1.0) | {'autocontrast': 5.0, 'equalize': 8.0, 'solarize': 3.0}
TOLERANCE |= {move.__name__: 3.0 for move in MOVES}


def word(width: int, height: int, seed: int = 0) -> Image.Image:
    """Letters on a shaded ground with a little grain."""
    rng = np.random.default_rng(seed)
    scale = height / 24
    ground = Image.fromarray(rng.integers(60, 120, (2, 3, 3), dtype=np.uint8)).resize((width, height))
    ImageDraw.Draw(ground).text((4 * scale, 0), 'Word', tuple(rng.integers(170, 250, 3).tolist()), _font(16 * scale))
    grain = rng.normal(0, 3, (24, round(width / scale), 3))
    grain = np.asarray(Image.fromarray((grain + 128).astype(np.uint8)).resize((width, height)), dtype=float) - 128
    return Image.fromarray((np.asarray(ground) + grain).clip(0, 255).astype(np.uint8))


def _font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


@pytest.fixture
def image() -> Image.Image:
    return word(90, 24)


def pixels_of(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def seeds_of(*names: str, total: int) -> list[int]:
    """Of generators that draw these operations, in this order."""
    augment = RandAugment(len(names), probability=1)
    drawn = ((seed, augment.draw(np.random.default_rng(seed))) for seed in count())
    found = (seed for seed, (effects, moves) in drawn if [one.__name__ for one in (*effects, *moves)] == [*names])
    return list(islice(found, total))


def ours(image: Image.Image, seed: int, operations: int, size: tuple[int, int] = TARGET) -> np.ndarray:
    augment = RandAugment(operations, probability=1)
    return augment.resized([np.array(image)], size, [np.random.default_rng(seed)])[0].transpose(1, 2, 0).astype(int)


def plain(image: Image.Image, seed: int, operations: int) -> np.ndarray:
    image = PLAIN.augment(image, np.random.default_rng(seed), count=operations, probability=1)
    return pixels_of(PLAIN.resize(image, *TARGET))


def test_the_plain_form_has_the_same_operations_in_the_same_order():
    assert [operation.__name__ for operation in PLAIN.OPERATIONS] == NAMES


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('name', [name for name in NAMES if name != 'poisson_noise'])
def test_an_operation_is_that_of_the_plain_form(name, size):
    differences, effects = [], []
    for seed in seeds_of(name, total=4):  # with both signs, and both interpolations
        image = word(*size, seed=seed)
        reference = plain(image, seed, 1)
        differences.append(np.abs(ours(image, seed, 1) - reference).mean())
        effects.append(np.abs(reference - pixels_of(PLAIN.resize(image, *TARGET))).mean())
    assert np.mean(differences) < TOLERANCE[name]
    assert np.mean(differences) < max(0.3 * np.mean(effects), 1)


@pytest.mark.parametrize('size', SIZES)
def test_noise_is_as_strong_as_in_the_plain_form(size):
    image, grey = Image.new('RGB', size), Image.new('RGB', size, (128, 128, 128))
    strengths = []
    for seed in seeds_of('poisson_noise', total=6):
        assert not ours(image, seed, 1).any()  # no light, no noise
        found, expected = ours(grey, seed, 1), plain(grey, seed, 1)
        assert abs(found.mean() - 128) < 2
        strengths.append((found.std(), expected.std()))
    found, expected = np.array(strengths).T
    assert found == pytest.approx(expected, rel=0.3, abs=0.3)
    assert np.corrcoef(found, expected)[0, 1] > 0.95  # drawn alike


def test_noise_has_no_seam_and_no_pattern():
    grey = np.full((64, 64, 3), 128, dtype=np.uint8)
    noise = poisson_noise(1, np.random.default_rng(3))(grey, (1, 1)).astype(float) - 128
    assert abs(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.05
    again = poisson_noise(1, np.random.default_rng(4))(grey, (1, 1)).astype(float) - 128
    assert abs(np.corrcoef(noise.ravel(), again.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize(
    'names', [('rotate', 'shear_y'), ('translate_x', 'shear_x'), ('invert', 'contrast'), ('colour', 'gaussian_blur')]
)
def test_several_operations_are_those_of_the_plain_form(names):
    for seed in seeds_of(*names, total=2):
        image = word(150, 50, seed)
        assert np.abs(ours(image, seed, 2) - plain(image, seed, 2)).mean() < 4


@pytest.mark.parametrize('effect', EFFECTS, ids=lambda effect: effect.__name__)
def test_an_effect_changes_a_picture_and_repeats_itself(effect, image):
    pixels = np.array(image)
    first, second = (effect(0.5, np.random.default_rng(0))(pixels, (1, 1)) for _ in range(2))
    assert first.dtype == np.uint8
    assert first.shape == pixels.shape
    assert (first == second).all()
    assert (first != pixels).any()
    assert (pixels == np.asarray(image)).all()  # the one it was given is untouched


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('size', [(1, 1), (1, 50), (128, 32), (200, 3), (3000, 2)])
@pytest.mark.parametrize('magnitude', [0, 10])
def test_an_operation_takes_any_size_and_magnitude(name, size, magnitude):
    image, seed = Image.new('RGB', size, (200, 200, 200)), seeds_of(name, total=1)[0]
    augment = RandAugment(1, magnitude, probability=1)
    assert augment.resized([np.array(image)], TARGET, [np.random.default_rng(seed)])[0].shape == (3, *TARGET)


@pytest.mark.parametrize(
    ('effect', 'reference'),
    [
        (invert, ImageOps.invert),
        (posterize, lambda image: ImageOps.posterize(image, 6)),
        (solarize, lambda image: ImageOps.solarize(image, 128)),
        (autocontrast, ImageOps.autocontrast),
    ],
)
def test_effects_on_values_are_those_of_pillow(effect, reference, image):
    result = effect(0.5, np.random.default_rng(0))(np.array(image), (1, 1))
    assert np.abs(result.astype(int) - pixels_of(reference(image))).max() <= (effect is autocontrast)


@pytest.mark.parametrize('effect', [autocontrast, equalize])
def test_contrast_is_stretched_to_the_full_range(effect, image):
    result = effect(0.5, np.random.default_rng(0))(np.array(image), (1, 1))
    assert Image.fromarray(result).getextrema() == ((0, 255),) * 3
    before, after = pixels_of(image)[..., 0].ravel(), result[..., 0].ravel().astype(int)
    assert (np.diff(after[np.argsort(before, kind='stable')]) >= 0).all()  # no two values change places


@given(
    st.lists(st.sampled_from([rotate, shear_x, shear_y]), min_size=1, max_size=3),
    st.tuples(st.integers(1, 900), st.integers(1, 300)),
    st.floats(0, 1),
    st.integers(0, 2**32),
)
def test_no_end_of_a_word_is_moved_off_the_picture(moves, size, level, seed):
    place, rng = Place(1, 0, 0, 1, 0, 0, *size), np.random.default_rng(seed)
    for move in moves:
        place = move(place, level, rng)
    place = place.scaled(WIDTH, HEIGHT)
    for x in (0, size[0]):
        for y in (0, size[1]):
            assert -0.01 < place.a * x + place.b * y + place.left < WIDTH + 0.01
            assert -0.01 < place.c * x + place.d * y + place.top < HEIGHT + 0.01


@pytest.mark.parametrize('name', ['rotate', 'shear_x', 'shear_y'])
def test_no_end_of_a_word_is_cut_off(name):
    image = Image.new('RGB', (120, 30), 'black')
    for corner in ((0, 0, 6, 6), (114, 0, 120, 6), (0, 24, 6, 30), (114, 24, 120, 30)):
        image.paste('white', corner)
    for seed in seeds_of(name, total=4):
        result = ours(image, seed, 1, (120, 480))[..., 0]
        count, _, corners, _ = cv2.connectedComponentsWithStats((result > 127).astype(np.uint8))
        areas = corners[1:, cv2.CC_STAT_AREA]  # the first is the ground
        assert count == 5
        assert areas.min() > 0.85 * areas.max()


@pytest.mark.parametrize('size', [(65, 33), (210, 99), (400, 20), (128, 32), (1, 1), (7, 300)])
def test_the_resize_is_that_of_pillow(size):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    difference = resize(np.array(image), *TARGET).transpose(1, 2, 0) - pixels_of(PLAIN.resize(image, *TARGET))
    assert np.abs(difference).max() <= 1


def test_randaugment_depends_on_the_generator_alone(image):
    def augmented() -> list[np.ndarray]:
        return RandAugment().resized([np.array(image)] * 30, TARGET, (np.random.default_rng((1, i)) for i in range(30)))

    results = augmented()
    for one, other in zip(results, augmented(), strict=True):
        assert (one == other).all()
    assert len({result.tobytes() for result in results}) > 20


def test_many_pictures_are_what_each_is():
    pictures = [np.array(word(*SIZES[i % 3], seed=i)) for i in range(24)]
    one = np.random.default_rng()

    def set_to(seed: int) -> np.random.Generator:
        """The same one for all, as data sets have it."""
        one.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        return one

    together = RandAugment().resized(pictures, TARGET, (set_to(seed) for seed in range(24)))
    for seed, (pixels, planes) in enumerate(zip(pictures, together, strict=True)):
        assert (planes == RandAugment().resized([pixels], TARGET, [np.random.default_rng(seed)])[0]).all()


def test_operations_are_drawn_equally_often():
    augment, rng = RandAugment(), np.random.default_rng(0)
    drawn: Counter[str] = Counter()
    for _ in range(4000):
        operations = [operation.__name__ for found in augment.draw(rng) for operation in found]
        assert len(set(operations)) == len(operations) <= 3
        drawn.update(operations)
    assert set(drawn) == set(NAMES)
    expected = 4000 * 3 * 0.5 / len(NAMES)
    assert max(abs(times - expected) for times in drawn.values()) < 5 * expected**0.5


def test_nothing_happens_at_probability_or_count_zero(image):
    for augment in (RandAugment(0), RandAugment(3, probability=0)):
        resized = augment.resized([np.array(image)], TARGET, [np.random.default_rng(0)])[0].transpose(1, 2, 0)
        assert np.abs(resized - pixels_of(PLAIN.resize(image, *TARGET))).max() <= 1


@pytest.mark.parametrize('arguments', [(-1, 5), (3, 11), (99, 5)])
def test_impossible_settings_are_refused(arguments):
    with pytest.raises(ValueError, match='RandAugment'):
        RandAugment(*arguments)


def test_the_transform_augments_with_the_given_generator(image):
    transform = get_transform((32, 128), augment=True)
    first, second = (transform(image, np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(first, transform(np.array(image), np.random.default_rng(5)))
    assert transform(image).shape == (3, 32, 128)
    assert transform(image.resize((1200, 400)), np.random.default_rng(5)).shape == (3, 32, 128)
