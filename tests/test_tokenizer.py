"""Labels survive the way to ids and back; what cannot have an id is refused by name."""

import string

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from strhub.tokenizer import BaseTokenizer, CharsetAdapter, CTCTokenizer, Tokenizer

CHARSET = string.digits + string.ascii_letters + string.punctuation
TOKENIZERS = [Tokenizer, CTCTokenizer]
labels_of = st.lists(st.text(CHARSET, max_size=30), min_size=1, max_size=5)


def one_hot(ids: torch.Tensor, num_classes: int, p: float = 0.9) -> torch.Tensor:
    """(N, L, C) probabilities that give `p` to each id and share the rest."""
    probs = torch.full((*ids.shape, num_classes), (1 - p) / (num_classes - 1))
    return probs.scatter_(-1, ids[..., None], p)


def ctc_path(label: str, tokenizer: CTCTokenizer) -> torch.Tensor:
    """A valid (1, 2L + 1) alignment: a blank around each character."""
    ids = tokenizer.encode([label])[0].tolist()
    return torch.tensor([[0, *(x for i in ids for x in (i, 0))]])


def test_attention_ids_are_in_the_published_order() -> None:
    tokenizer = Tokenizer('abc')
    assert (tokenizer.eos_id, tokenizer.bos_id, tokenizer.pad_id, len(tokenizer)) == (0, 4, 5, 6)
    assert tokenizer.encode(['ab', 'c']).tolist() == [[4, 1, 2, 0], [4, 3, 0, 5]]


def test_ctc_ids_are_in_the_published_order() -> None:
    tokenizer = CTCTokenizer('abc')
    assert (tokenizer.blank_id, len(tokenizer)) == (0, 4)
    assert tokenizer.encode(['ab', 'c']).tolist() == [[1, 2], [3, 0]]


@given(labels=labels_of)
def test_attention_round_trip(labels: list[str]) -> None:
    tokenizer = Tokenizer(CHARSET)
    texts, probs = tokenizer.decode(one_hot(tokenizer.encode(labels)[:, 1:], len(tokenizer)))
    assert texts == labels
    assert [len(p) for p in probs] == [len(label) + 1 for label in labels]


@given(label=st.text(CHARSET, max_size=30))
def test_ctc_round_trip(label: str) -> None:
    tokenizer = CTCTokenizer(CHARSET)
    (text,), (probs,) = tokenizer.decode(one_hot(ctc_path(label, tokenizer), len(tokenizer)))
    assert text == label
    assert len(probs) == len(label) + 1


@given(probs=st.integers(0, 2**32 - 1), length=st.integers(1, 20))
@pytest.mark.parametrize('cls', TOKENIZERS)
def test_probabilities_are_aligned_and_multiply_to_the_confidence(
    cls: type[BaseTokenizer], probs: int, length: int
) -> None:
    tokenizer = cls('abcd')
    dist = torch.randn(3, length, len(tokenizer), generator=torch.Generator().manual_seed(probs)).double().softmax(-1)
    texts, with_end = tokenizer.decode(dist)
    same_texts, chars, ends = tokenizer.decode(dist, split_end=True)
    assert texts == same_texts
    for text, together, apart, end in zip(texts, with_end, chars, ends, strict=True):
        assert len(apart) == len(text)
        assert together.prod().item() == pytest.approx(apart.prod().item() * end.item())


def test_ctc_collapses_repeats_and_its_confidence_is_the_path() -> None:
    tokenizer = CTCTokenizer('ab')
    path = torch.tensor([[1, 1, 0, 1, 2, 2]])
    (text,), (probs,) = tokenizer.decode(one_hot(path, 3, p=0.9))
    assert text == 'aab'
    assert probs.tolist() == pytest.approx([0.81, 0.9, 0.81, 0.9])


def test_text_that_never_ends_has_no_end_probability() -> None:
    tokenizer = Tokenizer('ab')
    probs = one_hot(torch.tensor([[1, 2, 1]]), len(tokenizer))
    assert len(tokenizer.decode(probs)[1][0]) == 3
    assert tokenizer.decode(probs, split_end=True)[2].tolist() == [1.0]


def test_raw_returns_every_token() -> None:
    tokenizer = Tokenizer('ab')
    tokens, probs = tokenizer.decode(one_hot(torch.tensor([[1, 0, 2]]), len(tokenizer)), raw=True)
    assert tokens == [['a', '[E]', 'b']]
    assert probs[0].shape == (3,)


def test_beginning_and_padding_never_reach_a_text() -> None:
    tokenizer = Tokenizer('ab')
    ids = torch.tensor([[tokenizer.bos_id, tokenizer.pad_id, 0]])
    (text,), _ = tokenizer.decode(one_hot(ids, len(tokenizer)) + torch.tensor([0, 0.01, 0, 0, 0]))
    assert text == 'aa'  # the best readable class


def test_charset_of_any_size() -> None:
    charset = ''.join(map(chr, range(0x4E00, 0x4E00 + 20_000)))
    for cls in TOKENIZERS:
        ids = cls(charset).encode([charset[-3:]])
        assert ids.max() >= 20_000 - 1


@pytest.mark.parametrize('cls', [*TOKENIZERS, CharsetAdapter])
@pytest.mark.parametrize(
    ('charset', 'names'),
    [('', 'empty'), ('aba', "'a'"), ('ab[E]', r'\[E\]'), (['a', '[P]'], r'\[P\]'), (['a', 'bc'], "'bc'")],
)
def test_unusable_charsets_are_refused(cls: type, charset: str, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        cls(charset)


@pytest.mark.parametrize('cls', TOKENIZERS)
@pytest.mark.parametrize(('labels', 'names'), [([], 'no label'), (['aé'], "'é'"), ('ab', 'list')])
def test_unusable_labels_are_refused(cls: type[BaseTokenizer], labels: list[str], names: str) -> None:
    with pytest.raises(ValueError, match=names):
        cls('ab').encode(labels)


@pytest.mark.parametrize('cls', TOKENIZERS)
def test_too_few_classes_are_refused(cls: type[BaseTokenizer]) -> None:
    with pytest.raises(ValueError, match='C >= 4'):
        cls('abc').decode(torch.rand(1, 5, 3))


@pytest.mark.parametrize(
    ('charset', 'label', 'expected'),
    [
        ('0123456789abcdefghijklmnopqrstuvwxyz', "It's 5!", 'its5'),
        ('ABC', 'abcd', 'ABC'),
        ('0123', 'A1b2', '12'),
        ('abAB', 'aBc', 'aB'),
        ('αβγ', 'ΑΒxγ', 'αβγ'),
    ],
)
def test_adapter_folds_case_only_where_the_charset_has_one(charset: str, label: str, expected: str) -> None:
    assert CharsetAdapter(charset)(label) == expected


@given(label=st.text())
def test_adapting_twice_changes_nothing(label: str) -> None:
    adapter = CharsetAdapter('0123456789abcdefghijklmnopqrstuvwxyz')
    once = adapter(label)
    assert adapter(once) == once
    assert set(once) <= set(adapter.charset)
