"""Weights for a model with another charset, word length or picture size: load what fits, and say what did not."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from strhub.models.reader import Recogniser

# Which axis of a parameter counts what. A new model adds its own here; tests/models/test_registry.py asks for them.
CHARACTERS = {  # a row per class; the weights of a character follow it to its new place
    r'(head|rnn\.1\.linear|Prediction(\.generator)?|(vision|language|alignment)\.cls)\.(weight|bias)': 0,
    r'(text_embed\.embedding|Prediction\.char_embeddings)\.weight': 0,
    r'language\.proj\.weight': 1,
}
TEXT_POSITIONS = {  # a row per position in the word; the first ones stay
    r'pos_queries': 1,
    r'vision\.attention\.(f0_embedding\.weight|we\.(weight|bias))': 0,
    r'vision\.attention\.w0\.weight': 1,
}
PATCH_POSITIONS = r'(encoder\.)?pos_embed'  # learnt, on a grid of patches: interpolated
PICTURE_POSITIONS = r'vision\.attention\.w0\.(weight|bias)'  # learnt, one per feature in axis 0: made anew
MOVED = 'for another picture size'
CONSTANTS = r'.*\.pe|Transformation\.GridGenerator\.(P_hat|inv_delta_C)'  # the network computes them from its sizes


@dataclass(frozen=True)
class Change:
    """What became of one tensor."""

    key: str
    before: tuple[int, ...] | None  # shape in the file
    after: tuple[int, ...] | None  # shape in the network
    note: str = ''


@dataclass(frozen=True)
class Report:
    """What `load_weights` did with each tensor of the network and of the file; `str(report)` is a table.

    Attributes:
        kept: loaded as they were.
        resized: loaded in part, or in another order, or interpolated.
        new: without weights in the file that would fit: they are as the network was made.
        dropped: in the file, but not in the network.
    """

    kept: list[Change] = field(default_factory=list)
    resized: list[Change] = field(default_factory=list)
    new: list[Change] = field(default_factory=list)
    dropped: list[Change] = field(default_factory=list)

    @property
    def is_exact(self) -> bool:
        """Whether all weights were loaded as they were, and none are left."""
        return not (self.resized or self.new or self.dropped)

    def __str__(self) -> str:
        values = sum(math.prod(change.after or ()) for change in self.kept)
        rows = [('kept', f'{len(self.kept)} tensors', f'{values:,} values', '')]
        for kind in ('resized', 'new', 'dropped'):
            changes: list[Change] = getattr(self, kind)
            rows += [(kind, c.key, f'{_shape(c.before)} -> {_shape(c.after)}', c.note) for c in changes]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return '\n'.join('  '.join(map(str.ljust, row, widths)).rstrip() for row in rows)


def load_weights(
    system: Recogniser,
    state_dict: Mapping[str, Tensor],
    *,
    hparams: Mapping[str, Any] | None = None,
    strict: bool = False,
) -> Report:
    """Loads weights into the network of `system`, adapted where its charset, word length or picture size is another.

    Args:
        state_dict: keys as the network names them, without the `model.` of the system.
        hparams: what the weights were trained with (charset_train, img_size, patch_size); default: as the system.
        strict: refuse weights of another architecture, i.e. more differences than those above explain.

    Raises:
        ValueError: nothing fits, or with `strict`: something does not.
    """
    report, weights = _adapted(system, state_dict, hparams, strict)
    system.model.load_state_dict(weights)
    return report


def check_weights(outline: Recogniser, state_dict: Mapping[str, Tensor], *, hparams: Mapping[str, Any]) -> None:
    """Raises what a strict `load_weights` would, of a network on the meta device: before there is memory for any."""
    _adapted(outline, {key: value.to('meta') for key, value in state_dict.items()}, hparams, strict=True)


def _adapted(
    system: Recogniser, state_dict: Mapping[str, Tensor], hparams: Mapping[str, Any] | None, strict: bool
) -> tuple[Report, dict[str, Tensor]]:
    new = dict(system.hparams)
    old = {**new, **(hparams or {})}
    report, weights = Report(), {}
    target = system.model.state_dict()
    for key, fresh in target.items():
        value = state_dict.get(key)
        fitted, note = (None, 'not in the file') if value is None else _fit(key, value, fresh, old, new)
        change = Change(key, None if value is None else tuple(value.shape), tuple(fresh.shape), note)
        weights[key] = fresh if fitted is None else fitted
        (report.new if fitted is None else report.kept if fitted is value else report.resized).append(change)
    report.dropped.extend(
        Change(key, tuple(value.shape), None, 'not in the network')
        for key, value in state_dict.items()
        if key not in target
    )
    unexplained = [change for change in report.new if change.note != MOVED]
    if (strict and (unexplained or report.dropped)) or not (report.kept or report.resized):
        raise ValueError(_misfit(new['name'], len(target), unexplained, report.dropped))
    return report, weights


def _fit(
    key: str, value: Tensor, fresh: Tensor, old: Mapping[str, Any], new: Mapping[str, Any]
) -> tuple[Tensor | None, str]:
    """`value` as the network needs it, or None, and a note. `value` itself means that it needs no change."""
    if (axis := _axis(CHARACTERS, key)) is not None and _same_but(axis, value, fresh):
        return _by_character(value, fresh, axis, (old['charset_train'], new['charset_train']))
    if re.fullmatch(PATCH_POSITIONS, key) and _same_but(1, value, fresh):
        return _by_patch(value, fresh, _grid(old), _grid(new))
    moved = list(old['img_size']) != list(new['img_size'])
    if re.fullmatch(CONSTANTS, key) and (moved or value.shape != fresh.shape):
        return fresh, 'computed from the sizes'
    if re.fullmatch(PICTURE_POSITIONS, key) and moved:
        return None, MOVED
    if (axis := _axis(TEXT_POSITIONS, key)) is not None and _same_but(axis, value, fresh):
        return _by_position(value, fresh, axis)
    return (value, '') if value.shape == fresh.shape else (None, 'has another shape')


def _axis(table: Mapping[str, int], key: str) -> int | None:
    return next((axis for pattern, axis in table.items() if re.fullmatch(pattern, key)), None)


def _same_but(axis: int, a: Tensor, b: Tensor) -> bool:
    """Whether two shapes are equal apart from one axis."""
    return a.ndim == b.ndim > axis and all(
        m == n or i == axis for i, (m, n) in enumerate(zip(a.shape, b.shape, strict=True))
    )


def _by_character(value: Tensor, fresh: Tensor, axis: int, charsets: tuple[str, str]) -> tuple[Tensor | None, str]:
    # A table has a row for [E] or blank, one per character, and up to two more ([B], [P]); see Tokenizer.
    last = [t.shape[axis] - len(c) - 1 for c, t in zip(charsets, (value, fresh), strict=True)]
    if last[0] != last[1] or not 0 <= last[0] <= 2:
        return None, 'has another shape'
    if charsets[0] == charsets[1]:
        return value, ''
    before, after = (['first', *charset, *('last', 'last but one')[: last[0]]] for charset in charsets)
    rows = {token: row for row, token in enumerate(before)}
    shared = [(row, rows[token]) for row, token in enumerate(after) if token in rows]
    targets, sources = torch.tensor(shared, device=fresh.device).T
    merged = fresh.clone().index_copy(axis, targets, value.to(fresh).index_select(axis, sources))
    kept = len(set(charsets[0]) & set(charsets[1]))
    return merged, f'{kept} characters kept, {len(charsets[1]) - kept} new'


def _by_patch(
    value: Tensor, fresh: Tensor, before: tuple[int, int], after: tuple[int, int]
) -> tuple[Tensor | None, str]:
    """Interpolates positions (1, P + S, D): P of the class token, S of a grid of patches."""
    prefix = value.shape[1] - math.prod(before)
    if prefix < 0 or fresh.shape[1] - math.prod(after) != prefix:
        return None, 'has another shape'
    if before == after:
        return value, ''
    from timm.layers import resample_abs_pos_embed  # seconds, which few weights need

    resized = resample_abs_pos_embed(value.float(), list(after), list(before), num_prefix_tokens=prefix)
    return resized.to(fresh), f'{before[0]} x {before[1]} patches -> {after[0]} x {after[1]}'


def _grid(hparams: Mapping[str, Any]) -> tuple[int, int]:
    """Rows and columns of patches."""
    (height, width), (patch_height, patch_width) = hparams['img_size'], hparams['patch_size']
    return height // patch_height, width // patch_width


def _by_position(value: Tensor, fresh: Tensor, axis: int) -> tuple[Tensor, str]:
    before, after = value.shape[axis], fresh.shape[axis]
    if before == after:
        return value, ''
    shared = min(before, after)
    merged = fresh.clone()
    merged.narrow(axis, 0, shared).copy_(value.narrow(axis, 0, shared))
    return merged, f'{shared} positions kept, {after - shared} new'


def _misfit(name: str, total: int, new: list[Change], dropped: list[Change]) -> str:
    """One sentence with the first few keys of each kind."""
    groups = {
        f'missing of its {total} tensors': [c.key for c in new if c.before is None],
        'of another shape': [
            f'{c.key} is {_shape(c.before)}, not {_shape(c.after)}' for c in new if c.before is not None
        ],
        'unknown to it': [c.key for c in dropped],
    }
    parts = [
        f'{len(keys)} {what} ({", ".join(keys[:3])}{", …" if len(keys) > 3 else ""})'
        for what, keys in groups.items()
        if keys
    ]
    return f'the weights do not fit {name}: {", ".join(parts)}; give the model and hyper-parameters of their training'


def _shape(shape: tuple[int, ...] | None) -> str:
    return 'none' if shape is None else ' x '.join(map(str, shape)) or 'scalar'
