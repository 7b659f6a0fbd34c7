"""What a source of training words may say of itself, and the reading of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any

from strhub.data.labels import LabelRules
from strhub.tokenizer import CharsetAdapter

RENDERED = 'rendered'


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where words come from and what becomes of them; the fields are the keys of `data.mix.NAME`.

    Args:
        path: as train_dir.
        weight: share of the words, relative to the other sources; 0 leaves the source out.
        charset: the characters that it teaches.
        max_label_length: longer labels are dropped.
        drop_outside: drop labels with characters outside the charset; otherwise the characters are deleted.
        remove_whitespace, normalize_unicode, min_image_dim, augment, rendered: as for the whole data module.
    """

    path: str
    charset: str
    max_label_length: int
    weight: float | None = None
    drop_outside: bool = False
    remove_whitespace: bool = True
    normalize_unicode: bool = True
    min_image_dim: int = 0
    augment: bool = True
    rendered: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rules(self) -> LabelRules:
        return LabelRules(
            self.charset,
            self.max_label_length,
            remove_whitespace=self.remove_whitespace,
            normalize_unicode=self.normalize_unicode,
            drop_outside=self.drop_outside,
        )


def read_sources(mix: Mapping[str, Any] | None, default: Source) -> dict[str, Source]:
    """The sources with a weight above 0, by name.

    Args:
        mix: for each name, what differs from the default; `path` does, being the name unless it is given.

    Raises:
        ValueError: a key or a value that does not fit.
    """
    if not isinstance(mix, Mapping) or not mix:
        raise ValueError(
            f'data.train_dir is mixed and data.mix is {mix!r}: name sources, as in data.mix={{real:{{}},synth:{{}}}}'
        )
    sources = {str(name): _read_source(f'data.mix.{name}', given, name, default) for name, given in mix.items()}
    used = {name: source for name, source in sources.items() if source.weight != 0}
    without = [name for name, source in used.items() if source.weight is None]
    if not used:
        raise ValueError(f'the weights of {", ".join(sources)} in data.mix are all 0: give one of them more')
    if 0 < len(without) < len(used):
        raise ValueError(
            f'data.mix.{without[0]} has no weight and others have: give a weight to each, or to none for shares by size'
        )
    return used


def _read_source(where: str, given: Any, name: Any, default: Source) -> Source:
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise ValueError(
            f'{where} is {given!r}: a source is a section of keys, as in {where}={{path:my/words,weight:0.3}}'
        )
    known = [f.name for f in fields(Source)]
    for key in given:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            hint = f'did you mean {near[0]}?' if near else f'there are {", ".join(known)}'
            raise ValueError(f'{where}.{key} is no key of a source: {hint}')
    given = {'path': str(name), **{key: value for key, value in given.items() if value is not None}}  # null: as default
    for key, value in given.items():
        if wanted := _fault(key, value, default):
            raise ValueError(f'{where}.{key} is {value!r}: give {wanted}')
    is_rendered = given['path'] == RENDERED
    idle = 'min_image_dim' if is_rendered else 'rendered'
    if idle in given:
        kind = 'is rendered' if is_rendered else f'is read from {given["path"]}'
        raise ValueError(f'{where} {kind}, where {idle} does nothing: leave out {where}.{idle}')
    if 'charset' in given:
        given['charset'] = _common(where, given['charset'], default.charset)
    given['rendered'] = {**default.rendered, **given.get('rendered', {})}
    return replace(default, **given)


def _fault(key: str, value: Any, default: Source) -> str:
    """What to give in place of `value`; empty where it will do."""
    if key in ('path', 'charset'):
        return '' if isinstance(value, str) and value else f'a text, as in {key}=\'"…"\' where it could be a number'
    if key == 'rendered':
        return '' if isinstance(value, Mapping) else 'a section of keys, as that of data.rendered'
    if key == 'weight':
        is_weight = type(value) in (int, float) and math.isfinite(value) and value >= 0
        return '' if is_weight else 'a number, 0 or more'
    if key == 'max_label_length':
        longest = default.max_label_length
        return '' if type(value) is int and 1 <= value <= longest else f"a whole number from 1 to the model's {longest}"
    if key == 'min_image_dim':
        return '' if type(value) is int and value >= 0 else 'a whole number, 0 or more'
    return '' if type(value) is bool else 'true or false'


def _common(where: str, charset: str, trained: str) -> str:
    """The characters of `charset` in the form in which the network knows them."""
    adapter = CharsetAdapter(trained)
    if common := ''.join(dict.fromkeys(adapter(charset))):
        return common
    raise ValueError(
        f'{where}.charset {charset!r} has no character of charset_train {trained!r}: nothing can be taught'
    )
