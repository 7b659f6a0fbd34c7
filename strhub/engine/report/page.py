"""`--report DIR`: one page, which needs nothing else, on how well one or two checkpoints read sets of words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from strhub.data.picture import UnreadablePictureError
from strhub.engine.report import charts
from strhub.engine.report.figures import (
    Word,
    aligned,
    by_confidence,
    by_length,
    confusions,
    edits,
    paired,
)
from strhub.engine.report.markup import escaped, isolated, page, percent, thumbnail
from strhub.engine.results import combined, write
from strhub.metrics import Score

PAGE = 'index.html'
MOST_CARDS = 240  # errors that are shown; with their pictures that makes a page of about a megabyte
PICTURE = (200, 84)  # at most, of an error
BOTH, FIRST, SECOND = 'both', 'first', 'second'  # which checkpoints are wrong


@dataclass(frozen=True)
class Side:
    """One checkpoint: what it is called, how its sets are scored by group, and all its words."""

    name: str
    results: Mapping[str, Mapping[str, Score]]
    words: Sequence[Word]


Open = Callable[[Word], Image.Image]  # raises UnreadablePictureError


def write_report(folder: Path, sides: Sequence[Side], *, header: str, notes: Sequence[str], open_word: Open) -> Path:
    """Writes the page of one checkpoint, or of two side by side, into a folder that is there.

    Args:
        header: what was tested and how it was judged.
        notes: what else has to be known of the sets.
        open_word: gives the picture of a word of the first checkpoint.
    """
    first = sides[0]
    pairs = paired(first.words, sides[-1].words)
    kinds = Counter(kind for kind in map(kind_of, pairs) if kind)
    shown = chosen(pairs, is_comparison=len(sides) > 1)
    sets = {name: str(number) for number, name in enumerate(dict.fromkeys(word.set for word in first.words))}
    path = folder / PAGE
    parts = {
        'title': ' and '.join(escaped(side.name) for side in sides),
        'header': escaped(header),
        'tables': _tables(sides),
        'notes': ''.join(f'<p class="note">{escaped(note)}</p>' for note in notes),
        'comparison': _comparison(sides, pairs, kinds) if len(sides) > 1 else '',
        'lengths': _keys(sides) + charts.length_chart([by_length(side.words) for side in sides]),
        'calibration': _keys(sides) + charts.calibration_chart([by_confidence(side.words) for side in sides]),
        'confusion': ''.join(_confusion(side, is_named=len(sides) > 1) for side in sides),
        'chosen': _of_chosen(len(shown), sum(kinds.values())),
        'sets': ''.join(f'<option value="{number}">{escaped(name)}</option>' for name, number in sets.items()),
        'kinds': _kinds(sides, kinds) if len(sides) > 1 else '',
        'cards': ''.join(_card(pair, sides, sets, open_word) for pair in shown),
    }
    write(path, page('report.html', **parts))
    return path


def kind_of(pair: tuple[Word, Word]) -> str:
    """Who is wrong; nobody if empty. Where there is one checkpoint, both are the same."""
    first, second = pair
    if first.is_right:
        return '' if second.is_right else SECOND
    return FIRST if second.is_right else BOTH


def chosen(pairs: Sequence[tuple[Word, Word]], *, is_comparison: bool) -> list[tuple[Word, Word]]:
    """At most MOST_CARDS errors: of each kind as many, half of them the surest ones, the others the farthest off."""
    kinds = (FIRST, SECOND, BOTH) if is_comparison else (BOTH,)
    rooms = MOST_CARDS // len(kinds)
    found: list[tuple[Word, Word]] = []
    for kind in kinds:
        errors = [pair for pair in pairs if kind_of(pair) == kind]
        if len(errors) > rooms:
            errors.sort(key=lambda pair: -_wrong(pair).confidence)
            surest, others = errors[: rooms // 2], errors[rooms // 2 :]
            others.sort(key=lambda pair: -edits(_wrong(pair)) / max(1, len(_wrong(pair).label)))
            errors = surest + others[: rooms - len(surest)]
        found += errors
    return found


def _wrong(pair: tuple[Word, Word]) -> Word:
    return pair[1] if pair[0].is_right else pair[0]


def _of_chosen(shown: int, total: int) -> str:
    if not total:
        return 'Not one.'
    if shown == total:
        return f'All {total}.'
    return f'{shown} of {total}: those that were surest, and those farthest off.'


# Parts of the page


def _tables(sides: Sequence[Side]) -> str:
    columns = ['Accuracy', '1 - NED', 'Confidence'] if len(sides) == 1 else ['Accuracy']
    tables = []
    for group in sides[0].results:
        rows = [combined(side.results[group]) for side in sides]
        head = ['Set', 'Words', *columns]
        if len(sides) > 1:
            head = ['Set', 'Words', *(f'{_key(number)}Accuracy' for number in range(2)), 'Difference']
        body = ''
        for name, score in rows[0].items():
            cells = [str(score.num_samples)]
            if len(sides) > 1:
                accuracies = [row[name].accuracy for row in rows]
                cells += [*map(_number, accuracies), f'{accuracies[1] - accuracies[0]:+.2f}']
            else:
                cells += map(_number, (score.accuracy, score.one_minus_ned, score.mean_confidence))
            body += f'<tr><td>{escaped(name)}</td>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        heads = ''.join(f'<th scope="col">{cell}</th>' for cell in head)
        tables.append(
            f'<h3>{escaped(group)}</h3><div class="wide"><table class="scores"><tr>{heads}</tr>{body}</table></div>'
        )
    return _keys(sides) + ''.join(tables)


def _number(value: float) -> str:
    return f'{value:.2f}' if value == value else '–'


def _key(number: int) -> str:
    return f'<span class="key" style="background:{charts.COLOURS[number]}"></span>'


def _keys(sides: Sequence[Side]) -> str:
    """Which colour is which checkpoint's."""
    if len(sides) == 1:
        return ''
    return f'<p>{"<br>".join(_key(number) + escaped(side.name) for number, side in enumerate(sides))}</p>'


def _comparison(sides: Sequence[Side], pairs: Sequence[tuple[Word, Word]], kinds: Counter[str]) -> str:
    counts = {'both are right': len(pairs) - sum(kinds.values())}
    counts |= {'only the first is right': kinds[SECOND], 'only the second is right': kinds[FIRST]}
    counts['both are wrong'] = kinds[BOTH]
    rows = ''.join(
        f'<tr><td>{name}</td><td>{count}</td><td>{percent(count / max(1, len(pairs)))}</td></tr>'
        for name, count in {**counts, 'words that both were tested on': len(pairs)}.items()
    )
    apart = max(len(side.words) for side in sides) - len(pairs)
    note = f'<p class="note">Not compared: {apart}, on which only one of them was tested.</p>' if apart else ''
    return f'<section><h2>Side by side</h2>{_keys(sides)}<table class="scores">{rows}</table>{note}</section>'


def _confusion(side: Side, *, is_named: bool) -> str:
    pairs = confusions(side.words)
    title = f'<h3>{escaped(side.name)}</h3>' if is_named else ''
    return title + (charts.commonest(pairs) if pairs else '') + charts.confusion_table(pairs)


def _kinds(sides: Sequence[Side], kinds: Counter[str]) -> str:
    names = {FIRST: 'only the first is wrong', SECOND: 'only the second is wrong', BOTH: 'both are wrong'}
    options = ''.join(f'<option value="{kind}">{name} ({kinds[kind]})</option>' for kind, name in names.items())
    return f'<label>Who <select id="kind"><option value="">all</option>{options}</select></label>'


def _card(pair: tuple[Word, Word], sides: Sequence[Side], sets: Mapping[str, str], open_word: Open) -> str:
    wrong = _wrong(pair)
    try:
        picture = f'<img alt="" src="{thumbnail(open_word(pair[0]), PICTURE)}">'
    except UnreadablePictureError:
        picture = 'cannot be read'
    words = pair if len(sides) > 1 else pair[:1]
    readings = ''.join(
        f'<dt>{_key(number) if len(sides) > 1 else "read"}</dt><dd>{_reading(word)}</dd>'
        f'<dd class="sure">{percent(word.confidence)}</dd>'
        for number, word in enumerate(words)
    )
    name = '/'.join(wrong.picture.split('/')[-2:])[-60:]
    text = escaped('\u2003'.join([wrong.label, *(word.prediction for word in words)]))
    return (
        f'<div class="card" data-set="{sets[wrong.set]}" data-kind="{kind_of(pair)}" data-edits="{edits(wrong)}" '
        f'data-length="{len(wrong.label)}" data-confidence="{wrong.confidence:.4f}" data-text="{text}">'
        f'<div class="picture">{picture}</div>'
        f'<dl><dt>label</dt><dd>{isolated(wrong.label)}</dd><dd></dd>{readings}</dl>'
        f'<small title="{escaped(wrong.picture)}">{escaped(name)}</small></div>'
    )


def _reading(word: Word) -> str:
    """What was read, with what differs from the label marked."""
    if word.is_right:
        return f'<span class="right">{isolated(word.prediction)}</span>'
    if not word.prediction:
        return '<mark>nothing</mark>'
    parts = (
        (f'<mark>{escaped(new)}</mark>' if old != new else escaped(new))
        for old, new in aligned(word.label, word.prediction)
        if new
    )
    return f'<bdi>{"".join(parts)}</bdi>'
