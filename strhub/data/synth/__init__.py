"""Rendered words: (seed, index) -> (picture, label), from fonts and a word list that the package carries.

The names below are looked up when first used, so that workers which only draw do not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strhub.data.synth.dataset import RenderedDataset
    from strhub.data.synth.fonts import FontBook
    from strhub.data.synth.render import render_word
    from strhub.data.synth.words import WordSource

__all__ = ['FontBook', 'RenderedDataset', 'WordSource', 'render_word']

_HOMES = {'FontBook': 'fonts', 'RenderedDataset': 'dataset', 'WordSource': 'words', 'render_word': 'render'}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f'{__name__}.{_HOMES[name]}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
