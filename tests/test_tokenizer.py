"""Labels survive the way to ids and back; what cannot have an id is refused by name."""

import string
from itertools import groupby
from math import prod

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


def plain_read(tokenizer: BaseTokenizer, ids: list[int], probs: list[float]) -> tuple[str, list[float], float | None]:
    """The definition, token by token: the text of one row, a probability per character, and that of the end."""
    tokens = tokenizer.decode(one_hot(torch.arange(len(tokenizer))[None], len(tokenizer)), raw=True)[0][0]
    text, chars, blanks = '', [], 1.0
    if isinstance(tokenizer, Tokenizer):
        for i, p in zip(ids, probs, strict=True):
            if i == tokenizer.eos_id:
                return text, chars, p
            text, chars = text + tokens[i], [*chars, p]
        return text, chars, None
    for i, run in groupby(zip(ids, probs, strict=True), key=lambda frame: frame[0]):
        p = prod(frame_prob for _, frame_prob in run)
        if i == tokenizer.blank_id:
            blanks *= p
        else:
            text, chars = text + tokens[i], [*chars, p]
    return text, chars, blanks


ODD = [
    'a',
    'B',
    '0',
    ' ',
    '\0',
    'é',
    'ß',
    '中',
    '\u0301',
    '\ud83d',
    '\ude00',
    '😀',
    '\U0010ffff',
]  # surrogates apart, too


@given(data=st.data())
@pytest.mark.parametrize('cls', TOKENIZERS)
def test_a_batch_is_read_as_token_by_token(cls: type[BaseTokenizer], data: st.DataObject) -> None:
    charset = data.draw(st.lists(st.sampled_from(ODD), min_size=1, unique=True))
    tokenizer = cls(charset)
    num_words, length = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 12))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]))
    seed, sharpness = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.sampled_from([0.1, 3, 60]))
    noise = torch.randn(
        num_words, length, len(tokenizer), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    noise[..., 0] += data.draw(st.sampled_from([-3, 0, 3]))  # ends, or blanks, are rare or frequent
    repeats = torch.arange(length) // data.draw(st.integers(1, 4))  # of neighbours, for CTC
    probs = (sharpness * noise[:, repeats]).softmax(-1).to(dtype)
    best, ids = probs[..., : len(charset) + 1].max(-1)
    rows = [plain_read(tokenizer, *row) for row in zip(ids.tolist(), best.tolist(), strict=True)]

    texts, together = tokenizer.decode(probs)
    same_texts, apart, ends = tokenizer.decode(probs, split_end=True)
    once_more, confidences = tokenizer.decode_words(probs)
    assert texts == same_texts == once_more == [text for text, _, _ in rows]
    assert {t.dtype for t in [*together, *apart, ends]} == {dtype}
    assert ends.shape == (num_words,)
    assert len(together) == len(apart) == len(confidences) == num_words
    tolerance = {'rtol': max(1e-6, torch.finfo(dtype).eps), 'atol': 1e-30 if dtype.itemsize > 2 else 1e-7}
    for i, (_, chars, end) in enumerate(rows):
        for got, expected in [
            (apart[i], chars),
            (together[i], chars if end is None else [*chars, end]),
            (ends[i], 1.0 if end is None else end),
        ]:
            torch.testing.assert_close(got, torch.tensor(expected, dtype=dtype), **tolerance)
        assert confidences[i] == pytest.approx(prod(chars) * (1.0 if end is None else end), rel=1e-6, abs=0)


@pytest.mark.parametrize('cls', TOKENIZERS)
def test_decoding_keeps_no_gradient_and_shares_nothing_with_its_input(cls: type[BaseTokenizer]) -> None:
    tokenizer = cls('ab')
    probs = one_hot(torch.tensor([[1, 2, 0]]), len(tokenizer)).requires_grad_()
    (before,) = tokenizer.decode(probs)[1]
    assert not before.requires_grad
    kept = before.tolist()
    with torch.no_grad():
        probs.zero_()
    assert before.tolist() == kept


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
