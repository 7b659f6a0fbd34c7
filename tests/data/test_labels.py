"""The label rules, in their order, with their edge cases."""

import string
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strhub.data.labels import LabelRules, tally
from strhub.tokenizer import CharsetAdapter

FULL = string.digits + string.ascii_letters + string.punctuation
LOWER = string.digits + string.ascii_lowercase


@pytest.mark.parametrize(
    ('label', 'expected'),
    [
        ('½kg', '12kg'),
        ('Straße', 'Strae'),
        ('№5', 'No5'),
        ('a b\tc\u3000d', 'abcd'),
        ('É', 'E'),
        ('ﬁn', 'fin'),
        ('中文', None),
        ('', None),
        ('   ', None),
        ('Hello!', 'Hello!'),
    ],
)
def test_rules_of_the_full_charset(label, expected):
    assert LabelRules(FULL, 25)(label) == expected


@pytest.mark.parametrize(
    ('charset', 'label', 'expected'),
    [
        (LOWER, 'Ab-1', 'ab1'),
        (string.ascii_uppercase, 'Ab-1', 'AB'),
        (string.digits, 'A1', '1'),  # digits alone count as lower case
        (string.digits, 'abc', None),
        ('aB', 'AbaB', 'aB'),
    ],
)
def test_labels_are_adapted_to_the_charset(charset, label, expected):
    assert LabelRules(charset, 25)(label) == expected


def test_length_counts_before_the_charset_adapter_and_after_normalisation():
    rules = LabelRules(string.digits, 3)
    assert rules('12ab') is None  # only 2 digits are left, but it was too long before
    assert rules('1 2 3') == '123'
    assert rules('½') == '12'
    assert LabelRules(FULL, 3)('½½') is None  # 2 characters as written, 4 after normalisation


@pytest.mark.parametrize(
    ('charset', 'label', 'expected'),
    [
        (FULL, 'café', 'cafe'),  # an accent less is no other word
        (FULL, 'ﬁn №5', 'finNo5'),
        (FULL, '中5', None),
        (LOWER, 'Stop', 'stop'),
        (LOWER, 'A-1', None),
        (string.digits, '24', '24'),
        (string.digits, '24h', None),
        (FULL, '', None),
    ],
)
def test_labels_with_characters_outside_may_be_dropped(charset, label, expected):
    assert LabelRules(charset, 25, drop_outside=True)(label) == expected


def test_each_rule_can_be_switched_off():
    assert LabelRules('a b', 25, remove_whitespace=False)('a b') == 'a b'
    assert LabelRules('éß', 25, normalize_unicode=False)('éß') == 'éß'
    assert LabelRules('éß', 25)('éß') is None


def test_reasons_name_the_rule():
    rules = LabelRules(LOWER, 3)
    assert rules.judge('abcd')[1] == 'label longer than 3 characters'
    assert rules.judge('!')[1] == 'label without a character of the charset'
    assert rules.judge('a') == ('a', None)
    assert tally(Counter({'b': 1, 'a': 3})) == '3 a, 1 b'
    reasons = {'label not UTF-8': 5, 'picture missing': 2, 'record without a label': 1, 'labelled': 0}
    assert tally(Counter(reasons)) == '5 labels not UTF-8, 2 pictures missing, 1 record without a label, 0 labelled'
    reasons = {'empty label': 5, 'entry without a picture': 4, 'box without area': 3, '日本': 2, 'broken polygon': 1}
    expected = '5 empty labels, 4 entries without a picture, 3 boxes without area, 2 日本, 1 broken polygon'
    assert tally(Counter(reasons)) == expected


def test_a_charset_beyond_ascii_warns_of_normalisation():
    assert 'normalize_unicode=false' in LabelRules('äö', 5).warning
    assert not LabelRules('äö', 5, normalize_unicode=False).warning
    assert not LabelRules(FULL, 5).warning


def test_max_label_length_must_be_positive():
    with pytest.raises(ValueError, match='max_label_length'):
        LabelRules('a', 0)


@given(st.text(max_size=40), st.sampled_from([FULL, LOWER, string.digits, string.ascii_uppercase]))
def test_what_is_kept_is_spelt_in_the_charset_and_stays_as_it_is(label, charset):
    rules = LabelRules(charset, 10)
    kept = rules(label)
    if kept is not None:
        assert kept
        assert set(kept) <= set(charset)
        assert len(kept) <= 10
        assert rules(kept) == kept


@given(
    st.text('aAbB1. \tàß½', max_size=8),
    st.sampled_from(['aAbB1.', 'ab1', 'AB', 'ab àß', 'AB.½', '1']),
    st.booleans(),
    st.booleans(),
)
def test_rules_are_those_that_the_original_applies_one_by_one(label, charset, remove_whitespace, normalize_unicode):
    rules = LabelRules(charset, 5, remove_whitespace=remove_whitespace, normalize_unicode=normalize_unicode)
    expected: str | None = ''.join(label.split()) if remove_whitespace else label
    if normalize_unicode:
        expected = unicodedata.normalize('NFKD', expected).encode('ascii', 'ignore').decode()
    expected = None if len(expected) > 5 else CharsetAdapter(charset)(expected) or None
    assert rules(label) == expected
