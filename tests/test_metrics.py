"""Scores: their definition, and that sums over batches are the sum over all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strhub.metrics import Score, normalized_edit_distance

texts = st.text('abc', max_size=6)
readings = st.lists(st.tuples(texts, texts, st.floats(0, 1)), max_size=20)


def score(rows: list[tuple[str, str, float]]) -> Score:
    return Score.of([p for p, _, _ in rows], [t for _, t, _ in rows], [c for _, _, c in rows])


@pytest.mark.parametrize(
    ('prediction', 'label', 'distance'),
    [('', '', 0), ('', 'abc', 1), ('kitten', 'sitting', 3 / 7), ('abc', 'abc', 0), ('abcd', 'abc', 1 / 4)],
)
def test_edit_distance_is_over_the_longer_text(prediction: str, label: str, distance: float) -> None:
    assert normalized_edit_distance(prediction, label) == pytest.approx(distance)


@given(texts, texts)
def test_edit_distance_is_symmetric_bounded_and_zero_only_for_equals(a: str, b: str) -> None:
    distance = normalized_edit_distance(a, b)
    assert 0 <= distance <= 1
    assert distance == normalized_edit_distance(b, a)
    assert (distance == 0) == (a == b)


@given(readings, st.integers(0, 20))
def test_parts_add_up_to_the_whole(rows: list[tuple[str, str, float]], cut: int) -> None:
    whole, parts = score(rows), score(rows[:cut]) + score(rows[cut:])
    assert parts.to_tensor().tolist() == pytest.approx(whole.to_tensor().tolist())


@given(readings)
def test_tensor_round_trip(rows: list[tuple[str, str, float]]) -> None:
    assert Score.from_tensor(score(rows).to_tensor()) == score(rows)


def test_percentages() -> None:
    result = Score.of(['abc', 'x'], ['abc', 'xy'], [0.5, 1.0])
    assert (result.accuracy, result.one_minus_ned, result.mean_confidence) == (50, 75, 75)
    assert result.mean_label_length == 2


def test_nothing_scored_has_no_accuracy() -> None:
    assert Score().accuracy != Score().accuracy  # nan, not a division by zero


def test_unequal_lists_are_refused() -> None:
    with pytest.raises(ValueError, match='argument 2'):
        Score.of(['a'], [], [1.0])
    with pytest.raises(ValueError, match='as many confidences'):
        Score.of(['a'], ['a'], [])
