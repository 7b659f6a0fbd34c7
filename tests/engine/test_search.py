"""Searches against the enumeration of everything: what is found is what is best, and its probability is right."""

import json
from collections import defaultdict
from copy import deepcopy
from itertools import groupby, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import draw_word, go_through

from strhub.engine.evaluate import main as evaluate_main
from strhub.engine.exported import Exported
from strhub.engine.read import main as read_main
from strhub.engine.read import read_batch, read_images
from strhub.engine.search import ctc, places
from strhub.engine.search.beam import beam_search
from strhub.engine.search.lexicon import Lexicon
from strhub.engine.search.options import ReadingOptions
from strhub.engine.search.reading import search
from strhub.engine.search.steps import steps_of
from strhub.engine.search.trie import Trie
from strhub.models.utils import create_model
from strhub.runtime.trained import describe

CHARSET = 'ab'
few = settings(max_examples=20)
words_of_two = st.sets(st.text(CHARSET, min_size=1, max_size=4), min_size=1, max_size=12)


@st.composite
def tables(draw, max_length=4):
    """Probabilities (L, 3) of the first class and of two characters."""
    length = draw(st.integers(1, max_length))
    weights = draw(st.lists(st.floats(0.01, 1), min_size=3 * length, max_size=3 * length))
    table = np.array(weights).reshape(length, 3)
    return table / table.sum(1, keepdims=True)


def texts_of_places(table):
    """All texts and their probabilities, where places are independent."""
    found = {}
    for length in range(len(table) + 1):
        end = table[length, 0] if length < len(table) else 1
        for ids in product((1, 2), repeat=length):
            found[''.join(CHARSET[i - 1] for i in ids)] = end * np.prod([table[p, i] for p, i in enumerate(ids)])
    return found


def texts_of_alignments(table):
    """All texts and their probabilities, by every way to align them."""
    found = defaultdict(float)
    for ids in product(range(3), repeat=len(table)):
        text = ''.join(CHARSET[i - 1] for i, _ in groupby(ids) if i)
        found[text] += float(np.prod([table[t, i] for t, i in enumerate(ids)]))
    return found


MODELS = {'places': (places, texts_of_places), 'ctc': (ctc, texts_of_alignments)}


def check(guesses, truth):
    """Guesses are sorted, each once, and as probable as the enumeration says."""
    scores = [guess.score for guess in guesses]
    assert scores == sorted(scores, reverse=True)
    assert len({guess.text for guess in guesses}) == len(guesses)
    for guess in guesses:
        assert guess.score == pytest.approx(truth[guess.text], rel=1e-6)
        assert len(guess.characters) == len(guess.text)
        assert all(0 < p <= 1 + 1e-9 for p in (*guess.characters, guess.end))


@pytest.mark.parametrize('kind', MODELS)
@few
@given(tables=st.lists(tables(), min_size=1, max_size=3), number=st.integers(1, 6))
def test_the_best_texts(kind, tables, number):
    module, enumerate_texts = MODELS[kind]
    probs = np.stack([table[: min(map(len, tables))] for table in tables])
    for guesses, again, table in zip(
        module.likeliest(probs, CHARSET, number=1000),
        module.likeliest(probs, CHARSET, number=number),
        probs,
        strict=True,
    ):
        truth = enumerate_texts(table)
        check(guesses, truth)
        assert len(guesses) == len(truth)
        assert sum(guess.score for guess in guesses) == pytest.approx(1)
        check(again, truth)
        if kind == 'places':  # exact at any number; a beam of CTC may lose one
            best = sorted(truth.values(), reverse=True)[:number]
            assert [guess.score for guess in again] == pytest.approx(best)


@pytest.mark.parametrize('kind', MODELS)
@few
@given(table=tables(), words=words_of_two, number=st.integers(1, 4))
def test_the_best_words(kind, table, words, number):
    module, enumerate_texts = MODELS[kind]
    truth = enumerate_texts(table)
    words = {word for word in words if len(word) <= len(table)} or {'a'}
    known = {word: truth[word] for word in words if word in truth}  # a text of CTC may need more frames
    (guesses,) = module.likeliest_words(table[None], CHARSET, Trie(sorted(words), CHARSET), number=1000)
    assert len(guesses) == len(known)
    (guesses,) = module.likeliest_words(table[None], CHARSET, Trie(sorted(words), CHARSET), number=number)
    check(guesses, truth)
    best = sorted(known.values(), reverse=True)[:number]
    assert [guess.score for guess in guesses] == pytest.approx(best[: len(guesses)])
    assert len(guesses) == len(best)


def test_a_large_lexicon_gives_what_a_small_one_gives(monkeypatch):
    rng = np.random.default_rng(1)
    letters = 'abcdef'
    trie = Trie([''.join(rng.choice(list(letters), rng.integers(1, 9))) for _ in range(3000)], letters)
    probs = rng.dirichlet([0.3] * 7, size=(20, 16))
    exact = ctc.likeliest_words(probs, letters, trie, number=3)
    monkeypatch.setattr(ctc, 'EXACT_NODES', 0)
    monkeypatch.setattr(ctc, 'KEPT_NODES', len(trie) // 2)
    assert [[g.text for g in some] for some in ctc.likeliest_words(probs, letters, trie, number=3)] == [
        [g.text for g in some] for some in exact
    ]
    # Nothing that is kept is a word: those that go on so are taken
    monkeypatch.setattr(ctc, 'KEPT_NODES', 2)
    (found,) = ctc.likeliest_words(
        np.full((1, 3, 3), [0.98, 0.01, 0.01]), CHARSET, Trie(['abb', 'ab'], CHARSET), number=1
    )
    assert [guess.text for guess in found] == ['ab']


@pytest.mark.parametrize('kind', MODELS)
def test_a_word_that_cannot_be_is_not_found(kind):
    table = np.array([[[0.2, 0.5, 0.3], [0.2, 0.5, 0.3]]])
    (guesses,) = MODELS[kind][0].likeliest_words(
        table, CHARSET, Trie(['aa' if kind == 'ctc' else 'b'], CHARSET), number=2
    )
    assert [guess.text for guess in guesses] == ([] if kind == 'ctc' else ['b'])  # two frames have no room for a blank


def test_long_rows_of_small_probabilities():
    """A thousand frames: no probability of a whole text is a number of float64."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet([0.05] * 3, size=(1, 1000))
    (guesses,) = ctc.likeliest(probs, CHARSET, number=4)
    assert len(guesses) == 4
    table = rng.dirichlet([1] * 3, size=(2, 30))
    word = 'abba'
    for rows, (found,) in zip(table, ctc.likeliest_words(table, CHARSET, Trie([word], CHARSET), number=1), strict=True):
        targets, lengths = torch.tensor([[1, 2, 2, 1]]), (torch.tensor([30]), torch.tensor([4]))
        loss = torch.nn.functional.ctc_loss(torch.from_numpy(rows).log()[:, None], targets, *lengths, reduction='sum')
        assert found.score == pytest.approx(float((-loss).exp()))


class Told:
    """A network whose next character depends on all before it, by random numbers."""

    num_pictures, num_positions = 2, 4

    def __init__(self, seed):
        self.seed = seed
        self.prefixes = [(n,) for n in range(self.num_pictures)]

    def probs(self, prefix):
        return np.random.default_rng([self.seed, *prefix]).dirichlet([1] * 3)

    def advance(self, tokens, parents):
        if tokens is not None:
            self.prefixes = [(*self.prefixes[p], t) for p, t in zip(parents.tolist(), tokens.tolist(), strict=True)]
        return torch.from_numpy(np.stack([self.probs(prefix) for prefix in self.prefixes])).log()

    def texts(self, n):
        found = {}
        for length in range(self.num_positions + 1):
            for ids in product((1, 2), repeat=length):
                whole = ids if length == self.num_positions else (*ids, 0)
                p = np.prod([self.probs((n, *whole[:i]))[c] for i, c in enumerate(whole)])
                found[''.join(CHARSET[i - 1] for i in ids)] = p
        return found


@few
@given(seed=st.integers(0, 10**6), words=words_of_two, width=st.integers(1, 5))
def test_a_beam(seed, words, width):
    words = {word for word in words if len(word) < Told.num_positions} or {'ab'}
    trie = Trie(words, CHARSET)
    for kept in (width, 1000):
        free = beam_search(Told(seed), width=kept, number=min(kept, 31)).guesses(CHARSET)
        bound = beam_search(Told(seed), width=kept, number=min(kept, len(words)), trie=trie).guesses(CHARSET)
        first = beam_search(Told(seed), width=kept, number=1).guesses(CHARSET)
        for n in range(Told.num_pictures):
            truth = Told(seed).texts(n)
            check(free[n], truth)
            check(bound[n], truth)
            assert {guess.text for guess in bound[n]} <= words
            assert bound[n]
            assert first[n][0] == free[n][0]  # that it stops early changes nothing
            if kept == 1000:
                assert len(free[n]) == len(truth) == 31
                assert [guess.score for guess in bound[n]] == pytest.approx(
                    sorted((truth[word] for word in words), reverse=True)
                )
            if kept == 1:
                prefix: tuple[int, ...] = (n,)
                while prefix[-1:] != (0,) or len(prefix) == 1:
                    if len(prefix) > Told.num_positions:
                        break
                    prefix = (*prefix, int(Told(seed).probs(prefix).argmax()))
                assert free[n][0].text == ''.join(CHARSET[i - 1] for i in prefix[1:] if i)


@few
@given(words=st.sets(st.text('xyz', max_size=5), max_size=30))
def test_a_trie_is_its_words(words):
    trie = Trie(list(words), 'xyz')
    spelled = {''.join('xyz'[i - 1] for i in trie.spell(int(node))) for node in np.flatnonzero(trie.is_word)}
    assert spelled == words - {''}
    assert len(trie) == len({word[:i] for word in words for i in range(len(word) + 1)} | {''})
    rows, children = trie.children(np.arange(len(trie)))
    assert sorted(children.tolist()) == list(range(1, len(trie)))
    assert trie.parent[children].tolist() == rows.tolist()


# Models


@pytest.fixture(scope='module')
def systems(tiny_crnn, tiny_parseq):
    torch.manual_seed(3)
    small = {'max_label_length': 6, 'charset_train': 'abcABC01'}
    made = {
        'crnn': tiny_crnn,
        'parseq': deepcopy(tiny_parseq),  # which other tests share, and it is changed here
        'trba': create_model('trba', num_fiducial=8, output_channel=32, hidden_size=16, **small),
        'vitstr': create_model('vitstr', embed_dim=48, num_heads=3, **small),
    }
    for name in ('parseq', 'trba', 'vitstr'):
        with torch.no_grad():  # nothing is clear to an untrained network, which would make all readings alike
            for key, parameter in made[name].named_parameters():
                parameter.mul_(4 if 'head' in key or 'generator' in key else 1)
    return {name: system.eval() for name, system in made.items()}


NAMES = ('crnn', 'parseq', 'trba', 'vitstr')
PICTURES = torch.rand(3, 3, 32, 128, generator=torch.Generator().manual_seed(5)) * 2 - 1


@pytest.mark.parametrize('name', NAMES)
def test_beam_one_is_plain_reading_and_more_is_no_less_probable(systems, name):
    system = systems[name]
    plain = read_batch(system, PICTURES)
    one = read_batch(system, PICTURES, options=ReadingOptions(beam=1, top=1))
    assert [reading.text for reading in one] == [reading.text for reading in plain]
    assert [reading.confidence for reading in one] == [reading.confidence for reading in plain]
    assert all(reading.readings == ((reading.text, reading.confidence),) for reading in one)
    for reading in read_batch(system, PICTURES, options=ReadingOptions(beam=6, top=4)):
        assert reading.readings[0] == (reading.text, reading.confidence)
        scores = [score for _, score in reading.readings]
        assert len(scores) == 4
        assert scores == sorted(scores, reverse=True)
        assert ''.join(c.char for c in reading.characters) == reading.text


@pytest.mark.parametrize('name', ['parseq', 'trba'])
def test_steps_are_those_of_the_network(systems, name):
    """A beam of one reads as the network reads, and what wider ones find is as probable as without caches."""
    system = systems[name]
    network = system.model
    refine, network.refine_iters = getattr(network, 'refine_iters', 0), 0
    try:
        with torch.inference_mode():
            greedy = beam_search(steps_of(system, PICTURES), width=1, number=1).guesses(system.tokenizer.charset)
            plain = read_batch(system, PICTURES)
            assert [guesses[0].text for guesses in greedy] == [reading.text for reading in plain]
            assert [guesses[0].score for guesses in greedy] == pytest.approx([r.confidence for r in plain], rel=1e-4)
            beams = beam_search(steps_of(system, PICTURES), width=5, number=5)
            for k in range(5):
                said = torch.cat([torch.full((3, 1), system.tokenizer.bos_id), beams.tokens[:, k, :-1]], 1)
                if name == 'trba':
                    logits = network(PICTURES, inputs=said)
                else:
                    hides = torch.ones(said.shape[1], said.shape[1], dtype=torch.bool).triu(1)
                    memory = network.decoder.project(network.encode(PICTURES))
                    how = {'num_positions': said.shape[1], 'query_hides': hides, 'content_hides': hides}
                    logits = network.decode(said, memory, **how)
                logs = logits.log_softmax(-1).gather(-1, beams.tokens[:, k, :, None])[..., 0]
                behind = (beams.tokens[:, k] == 0).cumsum(-1) > 1
                assert torch.allclose(logs.masked_fill(behind, 0), beams.logs[:, k], atol=1e-4)
    finally:
        if name == 'parseq':
            network.refine_iters = refine


@pytest.mark.parametrize('name', NAMES)
def test_a_lexicon(systems, name):
    system = systems[name]
    words = ['a', 'ab', 'b0', 'ccc', 'A', 'B', 'aB0', 'x' * 50 if name == 'crnn' else 'x', '?']
    lexicon = Lexicon(words)
    for reading in read_batch(system, PICTURES, options=ReadingOptions(lexicon=lexicon, top=3)):
        assert {text for text, _ in reading.readings} <= set(words)
        assert reading.text == reading.readings[0][0]
    free = read_batch(system, PICTURES, options=ReadingOptions(beam=8, top=8))
    texts = [text for reading in free for text, _ in reading.readings if text.strip() and len(text) <= 6]
    likely = Lexicon([*texts[3::3], 'A'])
    known = likely.spelled(system.tokenizer.charset, None)
    ranked = ReadingOptions(beam=8, top=8, lexicon=likely, lexicon_mode='rerank', lexicon_bonus=1e12)
    for before, after in zip(free, read_batch(system, PICTURES, options=ranked), strict=True):
        assert sorted(after.readings) == sorted(before.readings)  # the same ones, in another order
        expected = [one for one in before.readings if one[0] in known] + [
            one for one in before.readings if one[0] not in known
        ]
        assert list(after.readings) == expected


def test_words_are_in_the_case_of_the_charset():
    assert Lexicon([' Exit ', 'exit', '']).spelled('exit', None) == {'exit'}
    assert Lexicon(['Exit']).spelled('EXIT', None) == {'EXIT'}
    both = 'exitEXIT'
    assert Lexicon(['Exit']).spelled(both, None) == {'Exit'}
    assert Lexicon(['eXit'], any_case=True).spelled(both, 4) == {'eXit', 'exit', 'EXIT', 'Exit'}
    for charset, length in (('abc', None), ('exit', 3)):
        with pytest.raises(ValueError, match='none of the 1 words'):
            Lexicon(['Exit']).spelled(charset, length)


def test_the_clearest_position_wins(tiny_crnn):
    pictures = [draw_word('one'), draw_word('two').rotate(90, expand=True), draw_word('six', (30, 90))]
    degrees = (0.0, 90.0, 180.0, 270.0)
    for options in (ReadingOptions(rotations=degrees), ReadingOptions(rotations=degrees, beam=4, top=2)):
        readings = read_images(tiny_crnn, pictures, options=options)
        plain = ReadingOptions(beam=options.beam, top=options.top)
        one_by_one = [read_images(tiny_crnn, pictures, rotation=one, options=plain) for one in degrees]
        for n, reading in enumerate(readings):
            tried = (0, 2) if n == 0 else (0, 1, 3)  # words are wide: what stands is laid down, what lies is not put up
            best = max(tried, key=lambda i: one_by_one[i][n].confidence)
            assert (reading.text, reading.rotation) == (one_by_one[best][n].text, degrees[best])
            assert reading.confidence == pytest.approx(one_by_one[best][n].confidence, rel=1e-3)


def test_a_picture_without_a_good_position_is_read_all_the_same(tiny_crnn):
    (reading,) = read_images(tiny_crnn, [draw_word('one')], options=ReadingOptions(rotations=(90.0,)))
    assert reading.text == read_images(tiny_crnn, [draw_word('one')], rotation=90)[0].text


def test_what_is_not_possible_is_said(tiny_crnn, tiny_parseq):
    for wrong in ({'beam': 0}, {'top': -1}, {'lexicon_mode': 'guess'}, {'lexicon_bonus': 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ReadingOptions(**wrong)
    with pytest.raises(ValueError, match='topk'):
        read_batch(tiny_crnn, PICTURES, top_k=2, options=ReadingOptions(beam=2))

    class Session:
        path, description = 'parseq.onnx', describe(tiny_parseq)

        def logits(self, images):
            with torch.inference_mode():
                return tiny_parseq(torch.from_numpy(images)).numpy()

    exported = Exported(Session())
    with pytest.raises(ValueError, match='exported parseq'):
        search(exported, PICTURES, ReadingOptions(beam=2))
    exported.hparams['decode_ar'] = False
    assert len(search(exported, PICTURES, ReadingOptions(beam=2))) == 3


# The doors


def test_the_doors(crnn_checkpoint, parseq_checkpoint, words, tmp_path, capsys):
    lexicon = tmp_path / 'lexicon.txt'
    lexicon.write_text('word\nDeep\n10\n')
    for checkpoint in (crnn_checkpoint, parseq_checkpoint):
        how = [checkpoint, '--top', 2, '--lexicon', lexicon, '--try_rotations', '--images', words]
        status, out, err = go_through(capsys, read_main, *how, '--json')
        assert (status, err) == (0, [])
        for record in map(json.loads, out):
            assert len(record['readings']) == 2
            assert record['readings'][0] == {'text': record['text'], 'score': record['confidence']}
            assert record['text'] in ('word', 'Deep', '10')
            assert record['rotation'] in (0, 90, 180, 270)
        assert len(go_through(capsys, read_main, *how)[1]) == 8
    (words / 'notes.txt').unlink()
    (words / '1.png').write_bytes(b'no picture')
    how = [crnn_checkpoint, '--sets', words, '--num_workers', 0, '--predictions', tmp_path / 'read.jsonl']
    status, out, err = go_through(capsys, evaluate_main, *how, '--lexicon', lexicon, '--try_rotations')
    assert (status, err) == (0, [])
    assert any('a lexicon of 3 words (constrain), pictures turned' in line for line in out)
    texts = [json.loads(line)['text'] for line in (tmp_path / 'read.jsonl').read_text().splitlines()]
    assert sorted(set(texts)) != ['']
    assert set(texts) <= {'word', 'Deep', '10', ''}  # nothing is read in the stead of what is no picture


@pytest.mark.parametrize(
    ('argv', 'expected'),
    [
        (['--lexicon', 'missing.txt'], 'missing.txt'),
        (['--lexicon', '{folder}/empty.txt'], 'has no word'),
        (['--lexicon', '{folder}/1.png'], 'no text in UTF-8'),
        (['--beam', '0'], '--beam'),
        (['--beam', '2', '--topk', '2'], '--topk'),
        (['--try_rotations', '--explain', '{folder}/x'], '--explain'),
        (['--lexicon_mode', 'guess'], 'constrain'),
        (['--lexicon', '{folder}/empty.txt', '--lexicon_bonus', '-1'], 'has no word'),
    ],
)
def test_bad_usage_is_one_sentence(crnn_checkpoint, words, capsys, argv, expected):
    (words / 'empty.txt').write_text(' \n')
    argv = [argument.format(folder=words) for argument in argv]
    status, out, err = go_through(capsys, read_main, crnn_checkpoint, '--images', words, *argv)
    assert (status, out, len(err)) == (2, [], 1)
    assert expected in err[0]


@pytest.mark.parametrize(
    'words', [['--lexicon_mode', 'rerank'], ['--lexicon_bonus', '7'], ['--lexicon_any_case']], ids=' '.join
)
def test_how_a_lexicon_is_used_needs_one(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match='2'):
        read_main(['none.ckpt', '--images', 'demo_images', *words])
    assert 'give --lexicon FILE, too' in capsys.readouterr().err
