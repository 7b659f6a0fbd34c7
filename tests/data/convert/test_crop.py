"""Words are cut out where they are, upright, at the size they have; nonsense is told from words."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import make_picture
from PIL import Image, ImageOps

from strhub.data.convert.base import Word
from strhub.data.convert.crop import UnusableError, cut

PAGE = make_picture(0, 120, 90)
CORNERS = ((20, 30), (80, 30), (80, 50), (20, 50))  # clockwise from the upper left
NONE = 'quad whose sides cross'


def word(**where) -> Word:
    return Word('page.png', 'x', **where)


def smooth_picture(width: int, height: int) -> Image.Image:
    return make_picture(1, 6, 3).resize((width, height), Image.Resampling.BICUBIC)


def paste_turned(word_picture: Image.Image, degrees: float) -> tuple[Image.Image, tuple]:
    """A page with the word turned clockwise about the middle, and its corners there."""
    size, (width, height) = 240, word_picture.size
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # from a place on the page back to one in the word
    back = (cos, sin, width / 2 - size / 2 * (cos + sin), -sin, cos, height / 2 - size / 2 * (cos - sin))
    page = word_picture.transform((size, size), Image.Transform.AFFINE, back, Image.Resampling.BICUBIC)
    halves = ((-width, -height), (width, -height), (width, height), (-width, height))
    quad = tuple((size / 2 + (x * cos - y * sin) / 2, size / 2 + (x * sin + y * cos) / 2) for x, y in halves)
    return page, quad


@settings(max_examples=40)
@given(turn=st.floats(6, 84), quarters=st.integers(0, 3), width=st.integers(40, 160), height=st.integers(20, 80))
def test_a_turned_word_comes_out_as_it_went_in(turn, quarters, width, height):
    original = smooth_picture(width, height)
    page, quad = paste_turned(original, turn + 90 * quarters)
    found = cut(page, word(polygon=quad))
    assert abs(found.width - width) <= 2
    assert abs(found.height - height) <= 2
    inner = np.s_[4:-4, 4:-4]  # the page ends hard at the word's own edge
    difference = np.asarray(found.resize(original.size), float)[inner] - np.asarray(original, float)[inner]
    assert np.abs(difference).mean() < 6


@given(st.integers(0, 59), st.integers(0, 39), st.integers(4, 60), st.integers(4, 50))
def test_a_level_quad_loses_nothing(left, top, width, height):
    right, bottom = left + width, top + height
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    expected = PAGE.crop((left, top, right, bottom))
    assert cut(PAGE, word(box=(left, top, right, bottom))).tobytes() == expected.tobytes()
    assert cut(PAGE, word(polygon=corners)).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ('first', 'turn'),
    [(1, Image.Transpose.ROTATE_90), (2, Image.Transpose.ROTATE_180), (3, Image.Transpose.ROTATE_270)],
)
def test_the_first_corner_says_which_way_is_up(first, turn):
    corners = CORNERS[first:] + CORNERS[:first]
    level = PAGE.crop((20, 30, 80, 50))
    assert cut(PAGE, word(polygon=corners)).tobytes() == level.transpose(turn).tobytes()
    assert cut(PAGE, word(polygon=corners), rectify=False).tobytes() == level.tobytes()


def test_no_word_is_mirrored_by_corners_that_go_the_other_way_round():
    page, quad = paste_turned(smooth_picture(100, 40), 20)
    assert cut(page, word(polygon=(quad[0], quad[3], quad[2], quad[1]))).tobytes() == (
        cut(page, word(polygon=quad)).tobytes()
    )


def test_more_corners_and_the_option_box_mean_the_bounding_box():
    page, quad = paste_turned(smooth_picture(100, 40), 20)
    (left, top), (right, bottom) = np.min(quad, axis=0), np.max(quad, axis=0)
    expected = page.crop((round(left), round(top), round(right), round(bottom)))
    middle = ((quad[0][0] + quad[1][0]) / 2, (quad[0][1] + quad[1][1]) / 2)
    assert cut(page, word(polygon=(quad[0], middle, *quad[1:]))).tobytes() == expected.tobytes()
    assert cut(page, word(polygon=quad), rectify=False).tobytes() == expected.tobytes()


def test_perspective_is_undone():
    quad = ((10, 20), (110, 5), (110, 85), (10, 60))
    page = Image.new('RGB', PAGE.size, 'white')
    # the quad's left half in red: as seen, it ends where the diagonals cross, which is not in the middle
    crossing = 10 + 100 / 3
    pixels = np.array(page)
    pixels[:, : round(crossing)] = (255, 0, 0)
    found = np.asarray(cut(Image.fromarray(pixels), word(polygon=quad)))
    assert found.shape == (80, 103, 3)
    turns_white = np.argmax(found[40, :, 1] > 127) / 103
    assert turns_white == pytest.approx(0.5, abs=0.03)


def test_a_word_over_the_edge_is_cut_there():
    assert cut(PAGE, word(box=(100, -5, 130, 30))).size == (20, 30)
    found = cut(PAGE, word(polygon=((90, 60), (125, 70), (122, 85), (87, 75))))
    assert found.size == (36, 15)


@pytest.mark.parametrize(
    ('where', 'reason'),
    [
        ({'box': (5, 5, 5, 9)}, 'box without area'),
        ({'box': (9, 5, 5, 9)}, 'box without area'),
        ({'box': (5.1, 5, 5.4, 9)}, 'box without area'),
        ({'box': (200, 0, 220, 10)}, 'word outside the picture'),
        ({'box': (0, 80, 10, 110)}, 'word outside the picture'),
        ({'box': (0, 0, 1e9, 1e9)}, 'word outside the picture'),
        ({'box': (0, math.nan, 9, 9)}, 'coordinates that are no numbers'),
        ({'box': (0, 0, math.inf, 9)}, 'coordinates that are no numbers'),
        ({'polygon': ((0, 0), (9, 0), (9, math.nan), (0, 9))}, 'coordinates that are no numbers'),
        ({'polygon': ((200, 0), (240, 10), (240, 30), (200, 20))}, 'word outside the picture'),
        ({'polygon': ((5, 5), (50, 5), (90, 5), (20, 5))}, 'box without area'),
        ({'polygon': ((5, 5), (5, 5), (5, 5), (5, 5))}, 'box without area'),
        ({'polygon': ((10, 10), (60, 50), (60, 10), (10, 50))}, NONE),  # crosses itself
        ({'polygon': ((10, 10), (60, 20), (20, 25), (10, 50))}, NONE),  # caves in
        ({'polygon': ((10, 10), (60, 20), (60, 20), (10, 50))}, NONE),  # two corners in one place
        ({'polygon': ((10, 10), (30, 20), (50, 30), (70, 40))}, NONE),  # a line
    ],
)
def test_nonsense_has_a_reason(where, reason):
    with pytest.raises(UnusableError, match=reason):
        cut(PAGE, word(**where))


def test_a_quad_of_long_sides_in_a_flat_picture_is_no_huge_crop():
    page = Image.new('L', (20_000, 1_300))
    thin = ((0, 0), (10_000, 0), (20_000, 1_300), (10_000, 1_300))  # its sides are 10,000 long, all four
    with pytest.raises(UnusableError, match='word of more than 64000000 pixels'):
        cut(page, word(polygon=thin))


ANY_NUMBER = st.one_of(st.floats(-50, 200), st.floats())


@given(
    points=st.lists(st.tuples(ANY_NUMBER, ANY_NUMBER), min_size=3, max_size=6),
    as_stored=st.booleans(),
    orientation=st.integers(0, 9),
)
def test_any_polygon_is_a_picture_of_bounded_size_or_a_reason(points, as_stored, orientation):
    try:
        found = cut(PAGE, word(polygon=tuple(points), as_stored=as_stored), orientation=orientation)
    except UnusableError:
        return
    assert min(found.size) >= 1
    assert max(found.size) <= 4 * max(PAGE.size)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_coordinates_of_the_stored_picture_follow_the_turn_of_exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored, part = PAGE.copy(), PAGE.crop((20, 30, 80, 50))
    for image in (stored, part):
        image.info['exif'] = exif.tobytes()
    shown, expected = ImageOps.exif_transpose(stored), ImageOps.exif_transpose(part)
    found = cut(shown, word(box=(20, 30, 80, 50), as_stored=True), orientation=orientation)
    assert found.tobytes() == expected.tobytes()
