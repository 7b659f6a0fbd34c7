"""Rendered words: (seed, index) -> (picture, label), from fonts and a word list that the package carries."""

from strhub.data.synth.dataset import RenderedDataset
from strhub.data.synth.fonts import FontBook
from strhub.data.synth.render import render_word
from strhub.data.synth.words import WordSource

__all__ = ['FontBook', 'RenderedDataset', 'WordSource', 'render_word']
