"""Pictures -> readings by a search: which search a model needs, and what is made of its answers."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from strhub.engine.read import read_batch
from strhub.engine.search import ctc, places
from strhub.engine.search.beam import beam_search
from strhub.engine.search.guess import Guesses
from strhub.engine.search.options import ReadingOptions
from strhub.engine.search.steps import ParseqSteps, reads_in_turn, steps_of
from strhub.engine.search.trie import Trie
from strhub.models.reader import Recogniser
from strhub.runtime.readings import Reading
from strhub.tokenizer import CTCTokenizer

TEXTS_AT_ONCE = 2048  # of models that read in turn: pictures times beginnings


def read_with(system: Recogniser, images: Tensor, options: ReadingOptions, *, top_k: int = 0) -> list[Reading]:
    """Reads as the options say.

    Args:
        images: (N, 3, H, W) in [-1, 1]; with `options.rotations` (N, R, 3, H, W), as `Rotations` makes them.
        top_k: alternatives for each character, which only plain reading, turned or not, has.

    Raises:
        ValueError: the lexicon has no word that the model can read, the model lacks what the search needs, or
            alternatives are wanted of a search.
    """
    if options.searches and top_k:
        raise ValueError(
            'topk shows what else each place may be, which a search does not know: ask it for top readings'
        )
    if not options.rotations:
        return search(system, images, options)
    is_tried = ~images[:, :, 0, 0, 0].isnan()
    tried = images[is_tried]
    readings = iter(search(system, tried, options) if options.searches else read_batch(system, tried, top_k=top_k))
    best = []
    for row in is_tried.tolist():
        there = [
            replace(next(readings), rotation=one) for one, is_one in zip(options.rotations, row, strict=True) if is_one
        ]
        best.append(max(there, key=lambda reading: reading.confidence))
    return best


def search(system: Recogniser, images: Tensor, options: ReadingOptions) -> list[Reading]:
    """The most probable readings of images (N, 3, H, W); of no word where the lexicon has none that can be."""
    if options.width == 1:  # the rule of plain reading, which the best of all alignments is not for CTC
        plain = read_batch(system, images)
        return [replace(one, readings=((one.text, one.confidence),) * (options.top > 0)) for one in plain]
    readings = []
    for guesses in _guesses(system, images, options):
        some = _reranked(system, guesses, options)[: options.number]
        alternatives = tuple((guess.text, guess.score) for guess in some[: options.top])
        readings.append(replace(some[0].as_reading(), readings=alternatives) if some else Reading('', 0.0, ()))
    return readings


def _guesses(system: Recogniser, images: Tensor, options: ReadingOptions) -> list[Guesses]:
    charset = system.tokenizer.charset
    is_ctc = isinstance(system.tokenizer, CTCTokenizer)
    trie = None
    if options.lexicon is not None and options.lexicon_mode == 'constrain':
        trie = options.lexicon.trie(charset, None if is_ctc else system.hparams['max_label_length'])
    if not is_ctc and reads_in_turn(system):
        return _guesses_in_turn(system, images, options, trie)
    probs = system.probabilities(images).cpu().numpy()
    if trie is not None:
        return (ctc if is_ctc else places).likeliest_words(probs, charset, trie, number=options.number)
    return (ctc if is_ctc else places).likeliest(probs, charset, number=options.width)


@torch.inference_mode()
def _guesses_in_turn(system: Recogniser, images: Tensor, options: ReadingOptions, trie: Trie | None) -> list[Guesses]:
    was_training = system.training
    system.eval()
    found: list[Guesses] = []
    try:
        for some in images.split(max(1, TEXTS_AT_ONCE // options.width)):
            with autocast(system):
                steps = steps_of(system, some)
                goes_over = isinstance(steps, ParseqSteps) and steps.network.refine_iters > 0
                number = options.width if goes_over else options.number  # the best may be any of them
                beams = beam_search(steps, width=options.width, number=number, trie=trie)
                if isinstance(steps, ParseqSteps) and goes_over:
                    beams = beams.weighed_with(steps.cloze(beams.tokens))
                found += beams.guesses(system.tokenizer.charset)
    finally:
        system.train(was_training)
    return found


def autocast(system: Recogniser) -> AbstractContextManager[object]:
    """The arithmetic that the system reads in."""
    if not system.bf16:
        return nullcontext()
    return torch.autocast(next(system.parameters()).device.type, torch.bfloat16)


def _reranked(system: Recogniser, guesses: Guesses, options: ReadingOptions) -> Guesses:
    if options.lexicon is None or options.lexicon_mode != 'rerank':
        return guesses
    limit = None if isinstance(system.tokenizer, CTCTokenizer) else system.hparams['max_label_length']
    words = options.lexicon.spelled(system.tokenizer.charset, limit)
    bonus = options.lexicon_bonus
    return sorted(guesses, key=lambda guess: guess.score * (bonus if guess.text in words else 1), reverse=True)
