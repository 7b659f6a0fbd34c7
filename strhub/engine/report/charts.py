"""Charts of a report, as SVG and tables inside of its page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from strhub.data.summary import counted
from strhub.engine.report.figures import NOTHING, Share, calibration_error
from strhub.engine.report.markup import escaped, percent, shown

COLOURS = ('#2166ac', '#d6604d')  # of the first and the second checkpoint
LONGEST = 25  # label; longer ones share a bar
MOST_CHARACTERS = 40  # in a confusion matrix
ABSENT = '∅'


def length_chart(sides: Sequence[Mapping[int, Share]]) -> str:
    """Accuracy over the length of the label, a bar for each checkpoint."""
    merged = [_merged(side) for side in sides]
    lengths = sorted(set().union(*merged))
    if not lengths:
        return NO_WORDS
    width, height, left, top = 680, 220, 44, 14
    step = (width - left - 6) / len(lengths)
    body = list(_grid(left, top, width - 6, height))
    for at, length in enumerate(lengths):
        middle = left + (at + 0.5) * step
        across = min(34.0, 0.8 * step) / len(sides)
        for number, side in enumerate(merged):
            share = side.get(length, Share())
            x = middle + (number - len(sides) / 2) * across
            tall = share.accuracy * height
            body.append(
                f'<rect x="{x:.1f}" y="{top + height - tall:.1f}" width="{across - 1:.1f}" height="{tall:.1f}" '
                f'fill="{COLOURS[number]}"><title>'
                f'{share.right} of {counted(share.count, "word")} of {_name(length)} characters: '
                f'{percent(share.accuracy)}</title></rect>'
            )
        body.append(_label(middle, top + height + 15, _name(length)))
        body.append(_label(middle, top + height + 29, _short(merged[0].get(length, Share()).count), size=9))
    body.append(_label(left - 6, top + height + 15, 'length', anchor='end', size=9))
    body.append(_label(left - 6, top + height + 29, 'words', anchor='end', size=9))
    return f'<div class="wide lengths">{_svg(width, top + height + 36, body)}</div>'


def _merged(side: Mapping[int, Share]) -> dict[int, Share]:
    merged: dict[int, Share] = {}
    for length, share in side.items():
        known = merged.setdefault(min(length, LONGEST + 1), Share())
        known.count, known.right = known.count + share.count, known.right + share.right
    return merged


def _name(length: int) -> str:
    return str(length) if length <= LONGEST else f'{LONGEST + 1}+'


def _short(count: int) -> str:
    return str(count) if count < 10_000 else f'{count / 1000:.0f}k'


def calibration_chart(sides: Sequence[Sequence[Share]]) -> str:
    """Accuracy over confidence; on the diagonal a model is as sure as it is right. Larger points: more words."""
    if not any(share.count for side in sides for share in side):
        return NO_WORDS
    size, left, top = 300, 44, 14
    body = list(_grid(left, top, left + size, size))
    body.append(
        f'<line x1="{left}" y1="{top + size}" x2="{left + size}" y2="{top}" stroke="#8a91a0" stroke-dasharray="4 4"/>'
    )
    for number, side in enumerate(sides):
        total = sum(share.count for share in side)
        points = [
            (left + size * share.mean_confidence, top + size * (1 - share.accuracy), share)
            for share in side
            if share.count
        ]
        path = ' '.join(f'{x:.1f},{y:.1f}' for x, y, _ in points)
        body.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[number]}" stroke-width="2"/>')
        for x, y, share in points:
            radius = 2.5 + 9 * (share.count / total) ** 0.5
            body.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{COLOURS[number]}" fill-opacity=".45">'
                f'<title>{counted(share.count, "word")}, confidence {percent(share.mean_confidence)}, '
                f'right {percent(share.accuracy)}</title></circle>'
            )
        body.append(
            _label(
                left + 10,
                top + 18 + 18 * number,
                f'ECE {percent(calibration_error(side))}',
                anchor='start',
                size=13,
                fill=COLOURS[number],
            )
        )
    for tenth in range(0, 11, 2):
        body.append(_label(left + size * tenth / 10, top + size + 15, f'{10 * tenth}'))
    body.append(_label(left + size / 2, top + size + 31, 'confidence, %'))
    return _svg(left + size + 14, top + size + 38, body)


def confusion_table(pairs: Counter[tuple[str, str]]) -> str:
    """Rows are what labels have, columns what was read; the diagonal has the percentage that was read right."""
    totals: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for (old, new), count in pairs.items():
        totals[old] += count
        if old != new:
            wrong[old] += count
            wrong[new] += count
    characters = sorted(char for char, _ in Counter({**totals, **wrong}).items() if char != NOTHING)
    if not characters:
        return NO_WORDS
    note = ''
    if len(characters) > MOST_CHARACTERS:
        note = f'<p>The {MOST_CHARACTERS} of {len(characters)} characters with the most errors.</p>'
        most = sorted(characters, key=lambda char: (-wrong[char], char))[:MOST_CHARACTERS]
        characters = sorted(most)
    rows = [*characters, NOTHING]
    worst = max((count for (old, new), count in pairs.items() if old != new), default=1)
    head = ''.join(f'<th scope="col">{_character(char)}</th>' for char in rows)
    body = []
    for old in rows:
        cells = ''.join(_cell(pairs, old, new, totals[old], worst) for new in rows)
        body.append(f'<tr><th scope="row">{_character(old)}</th>{cells}</tr>')
    return f'{note}<div class="wide"><table class="confusion"><tr><td></td>{head}</tr>{"".join(body)}</table></div>'


def _cell(pairs: Counter[tuple[str, str]], old: str, new: str, total: int, worst: int) -> str:
    count = pairs[old, new]
    if old == new:
        if not total or old == NOTHING:
            return '<td class="same"></td>'
        return f'<td class="same" title="{count} of {total} {_character(old)} right">{100 * count / total:.0f}</td>'
    if not count:
        return '<td></td>'
    strength = 0.15 + 0.75 * (count / worst) ** 0.5
    return (
        f'<td style="background:rgb(214 96 77/{strength:.2f})" '
        f'title="{_character(old)} read as {_character(new)}, {count} times">{_short(count)}</td>'
    )


def commonest(pairs: Counter[tuple[str, str]], most: int = 24) -> str:
    """The most frequent errors in words."""
    errors = [(pair, count) for pair, count in pairs.most_common() if pair[0] != pair[1]][:most]
    chips = ''.join(
        f'<li><bdi>{_character(old)}</bdi> → <bdi>{_character(new)}</bdi> <b>{count}</b></li>'
        for (old, new), count in errors
    )
    return f'<ul class="chips">{chips}</ul>' if chips else '<p>No character was read wrong.</p>'


def _character(char: str) -> str:
    return ABSENT if char == NOTHING else shown(char)


NO_WORDS = '<p>There are no words.</p>'


def _svg(width: float, height: float, body: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width:.0f}px" role="img">{"".join(body)}</svg>'
    )


def _grid(left: float, top: float, right: float, height: float) -> Iterator[str]:
    """Lines for 0 to 100 %, with their numbers."""
    for fifth in range(6):
        y = top + height * (1 - fifth / 5)
        yield f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#dfe3ea"/>'
        yield _label(left - 6, y + 4, str(20 * fifth), anchor='end')


def _label(x: float, y: float, text: str, *, anchor: str = 'middle', size: float = 11, fill: str = '#5a6275') -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{fill}">{escaped(text)}</text>'
    )
