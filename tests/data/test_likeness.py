"""The perceptual hash and the search: nothing near is missed, nothing far is found."""

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from strhub.data.tools.likeness import first_likes, label_hash, matches, picture_hash


def hashes(seed: int, count: int, around: int = 0, flips: int = 0) -> np.ndarray:
    """Random hashes; some are near one of the first `around`."""
    rng = np.random.default_rng(seed)
    found = rng.integers(0, 1 << 16, (count, 8), dtype=np.uint16)
    for at in range(around, count) if around else ():
        found[at] = found[rng.integers(around)]
        for bit in rng.integers(0, 128, rng.integers(flips + 1)):
            found[at, bit // 16] ^= np.uint16(1 << (bit % 16))
    return found


def bits_apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.unpackbits((one[:, None] ^ other[None]).view(np.uint8), axis=2).sum(axis=2)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    distance=st.sampled_from([0, 1, 3, 6, 7, 8, 9, 14, 15, 16, 20]),
    grouped=st.booleans(),
)
def test_the_search_finds_what_comparing_all_finds(seed, sizes, distance, grouped):
    both = hashes(seed, sum(sizes), around=8, flips=24)
    one, other = both[: sizes[0]], both[sizes[0] :]
    rng = np.random.default_rng(seed)
    groups = tuple(rng.integers(0, 3, size).astype(np.uint64) for size in sizes) if grouped else None
    apart = bits_apart(one, other) if min(sizes) else np.empty(sizes)
    near = apart <= distance
    if groups:
        near &= groups[0][:, None] == groups[1][None]
    expected = [[i, j, apart[i, j]] for i, j in np.argwhere(near)]
    assert matches(one, other, distance, groups).tolist() == expected


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), distance=st.sampled_from([0, 5, 12]), grouped=st.booleans())
def test_the_first_of_those_alike_is_kept(seed, distance, grouped):
    found = hashes(seed, 60, around=6, flips=10)
    groups = np.random.default_rng(seed).integers(0, 2, 60).astype(np.uint64) if grouped else np.zeros(60, np.uint64)
    apart = bits_apart(found, found)
    kept: list[int] = []
    expected = set()
    for at in range(60):
        if any(apart[at, earlier] <= distance and groups[at] == groups[earlier] for earlier in kept):
            expected.add(at)
        else:
            kept.append(at)
    likes = first_likes(found, distance, groups if grouped else None)
    assert set(likes) == expected
    for at, (other, bits) in likes.items():
        assert other in kept
        assert apart[at, other] <= distance
        assert groups[at] == groups[other]
        assert bits == apart[at, other]


def word(text: str) -> Image.Image:
    image = Image.new('RGB', (120, 40), (200, 190, 150))
    ImageDraw.Draw(image).text((8, 4), text, (40, 30, 60), font=ImageFont.load_default(26))
    return image


def again(image: Image.Image, change: str) -> Image.Image:
    if change == 'quality':
        stream = BytesIO()
        image.save(stream, 'JPEG', quality=40)
        return Image.open(stream)
    if change == 'size':
        return image.resize((70, 30), Image.Resampling.BICUBIC)
    if change == 'light':
        return image.point([min(255, int(1.2 * value) + 10) for value in range(256)] * 3)
    return image.crop((1, 1, 119, 40))


@pytest.mark.parametrize('change', ['quality', 'size', 'light', 'box'])
def test_a_copy_of_a_picture_is_near_and_another_word_far(change):
    words = ['Hotel', 'Motel', 'Exit', 'Parking', 'STOP', 'shop']
    pictures = np.array([picture_hash(word(text)) for text in words])
    copies = np.array([picture_hash(again(word(text), change)) for text in words])
    apart = bits_apart(pictures, copies)
    assert apart.diagonal().max() <= 15
    assert (apart + 99 * np.eye(len(words), dtype=int)).min() > 20


def test_labels_agree_in_letters_and_digits():
    assert label_hash('Hotel!') == label_hash('HOTEL') != label_hash('motel')
    assert label_hash('Straße 1') == label_hash('STRASSE1')
    assert label_hash('!') != label_hash('?')
