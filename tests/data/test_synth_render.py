"""Rendered words and the data set of them."""

import pickle
import subprocess
import sys
from hashlib import sha256

import cv2
import numpy as np
import pytest
from PIL import Image

from strhub.data.labels import LabelRules
from strhub.data.synth import FontBook, RenderedDataset, WordSource, render_word
from strhub.data.synth.camera import MOST_SHAKE, MOST_SIGMA, View
from strhub.data.synth.plan import plans
from strhub.data.synth.render import LEAST_CONTRAST, is_readable
from strhub.data.synth.words import DIGITS, LETTERS, SYMBOLS

ALL = DIGITS + LETTERS + SYMBOLS
PRINT_DIGESTS = """
from hashlib import sha256
from strhub.data.synth import render_word
for index in range(40):
    image, label = render_word(5, index, difficulty=index / 39)
    print(label, image.size, sha256(image.tobytes()).hexdigest())
"""


def test_seed_and_index_decide_the_picture_in_every_process() -> None:
    other = subprocess.run([sys.executable, '-c', PRINT_DIGESTS], capture_output=True, text=True, check=True).stdout
    here = []
    for index in reversed(range(40)):  # in any order
        image, label = render_word(5, index, difficulty=index / 39)
        here.append(f'{label} {image.size} {sha256(image.tobytes()).hexdigest()}')
    assert other.splitlines() == here[::-1]


def test_seeds_and_indices_differ() -> None:
    words = [render_word(seed, index)[1] for seed in range(5) for index in range(20)]
    assert len(set(words)) > 80


@pytest.mark.parametrize('difficulty', [0.0, 0.5, 1.0])
def test_pictures_are_of_the_kind_that_words_are_cropped_to(difficulty: float) -> None:
    pictures = [render_word(1, index, difficulty=difficulty)[0] for index in range(200)]
    assert {picture.mode for picture in pictures} == {'RGB'}
    heights = [picture.height for picture in pictures]
    assert 25 < np.median(heights) < 45
    assert 8 <= min(heights) <= max(heights) < 250
    spreads = [np.asarray(picture.convert('L')).astype(float).std() for picture in pictures]
    assert min(spreads) > 3  # something is on each


def test_harder_words_are_longer_and_less_alike() -> None:
    easy, hard = ([render_word(2, index, difficulty=difficulty) for index in range(300)] for difficulty in (0, 1))
    assert max(len(label) for _, label in easy) <= 4 < max(len(label) for _, label in hard)

    def grain(pictures: list[tuple[Image.Image, str]]) -> float:
        corners = [np.asarray(picture.convert('L'))[:3, :3].astype(float).std() for picture, _ in pictures]
        return float(np.mean([spread > 0.5 for spread in corners]))

    assert 2 * grain(easy) < grain(hard)


def test_letters_must_stand_out_to_be_readable() -> None:
    coverage = np.zeros((32, 96), np.uint8)
    cv2.putText(coverage, 'WORD', (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 3)

    def picture(ink: float, spread: float = 0) -> np.ndarray:
        noise = np.random.default_rng(0).normal(0, spread, (32, 96, 3)) if spread else 0
        plain = 100 + (coverage[..., None] / 255) * (np.full(3, ink) - 100) + noise
        return np.clip(plain, 0, 255).astype(np.uint8)

    assert is_readable(picture(100 + 3 * LEAST_CONTRAST), coverage)
    assert not is_readable(picture(100 + LEAST_CONTRAST / 2), coverage)
    assert not is_readable(picture(130, spread=90), coverage)
    assert not is_readable(picture(250), np.zeros_like(coverage))


def test_whatever_is_drawn_can_be_read() -> None:
    for index in range(100):
        image, _ = render_word(3, index)
        values = np.asarray(image).reshape(-1, 3).astype(float)
        assert (values.max(0) - values.min(0)).max() >= LEAST_CONTRAST


def test_blur_leaves_letters_apart_where_they_are_narrow() -> None:
    sigmas, shakes = [], []
    for index in range(400):
        plan = next(plans(6, index))
        pitch = plan.view.length(plan.layers[-1].mask.shape) / len(plan.label)
        sigmas.append(plan.lens.sigma / pitch)
        shakes.append(0 if plan.lens.kernel is None else len(plan.lens.kernel) / pitch)
    assert max(sigmas) == pytest.approx(MOST_SIGMA)
    assert 0.6 * MOST_SHAKE < max(shakes) <= MOST_SHAKE


def test_length_is_that_of_the_middle_line_as_seen() -> None:
    source = np.array(((0, 0), (60, 0), (60, 20), (0, 20)), np.float32)
    target = np.array(((5, 10), (45, 30), (40, 60), (0, 30)), np.float32)
    view = View(cv2.getPerspectiveTransform(source, target), (50, 70))
    left, right = cv2.perspectiveTransform(np.array((((0, 10),), ((60, 10),)), np.float32), view.matrix)
    assert view.length((20, 60)) == pytest.approx(np.linalg.norm(right - left), rel=1e-4)


def test_faces_without_lower_case_are_labelled_by_what_they_show() -> None:
    book = FontBook(ALL)
    book.faces = [face for face in book.faces if face.caps_only]
    book._plain, book._shares = book.faces, list(range(1, len(book.faces) + 1))
    book._plain_shares = book._shares
    labels = [render_word(1, index, fonts=book)[1] for index in range(60)]
    assert all(label == label.upper() for label in labels)


@pytest.mark.parametrize('charset', [DIGITS + LETTERS[26:], DIGITS, ALL], ids=['36', '10', '94'])
def test_data_set_obeys_the_label_rules(charset: str) -> None:
    dataset = RenderedDataset(LabelRules(charset, 6), seed=1, warmup=0)
    labels = [dataset[key][1] for key in range(150)]
    assert set(''.join(labels)) <= set(charset)
    assert all(1 <= len(label) <= 6 for label in labels)


def test_folded_labels_keep_pictures_of_both_cases() -> None:
    dataset = RenderedDataset(LabelRules(DIGITS + LETTERS[26:], 25), warmup=0)
    drawn = {render_word(0, key, words=dataset.words, fonts=dataset.fonts)[1] for key in range(60)}
    assert any(word.isupper() for word in drawn)
    assert all(dataset[key][1] == dataset[key][1].lower() for key in range(20))


def test_difficulty_rises_with_the_key() -> None:
    dataset = RenderedDataset(LabelRules(ALL, 25), count=100, warmup=1000, difficulty=0.8)
    assert [dataset.difficulty_of(key) for key in (0, 500, 1000, 99999)] == [0, 0.2, 0.8, 0.8]
    assert len(dataset) == 100 == len(list(dataset))
    assert max(len(dataset[key][1]) for key in range(50)) <= 4


def test_data_set_is_the_same_after_pickling() -> None:
    def corner(image: Image.Image, rng: np.random.Generator) -> tuple[bytes, float]:
        return image.tobytes(), rng.random()

    dataset = RenderedDataset(LabelRules(ALL, 25), seed=4, warmup=0)
    copy = pickle.loads(pickle.dumps(dataset))
    dataset.transform = copy.transform = corner
    assert [dataset[key] for key in range(10, 15)] == [copy[key] for key in range(10, 15)]
    assert dataset[3] != RenderedDataset(LabelRules(ALL, 25), corner, seed=5, warmup=0)[3]


@pytest.mark.parametrize('setting', [{'count': 0}, {'warmup': -1}, {'difficulty': 1.5}])
def test_senseless_settings_are_refused(setting: dict) -> None:
    with pytest.raises(ValueError, match='expected'):
        RenderedDataset(LabelRules(ALL, 25), **setting)
    with pytest.raises(ValueError, match='difficulty is 2'):
        render_word(0, 0, difficulty=2, words=WordSource(), fonts=FontBook())
