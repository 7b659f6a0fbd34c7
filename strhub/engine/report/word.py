"""One picture of a word as an SVG: its text, a box and a heat map for each character, and the frames of CTC."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image

from strhub.engine.attention import Sight
from strhub.engine.report.markup import as_data, escaped, fitted, heat, percent, shown

WIDTH, MARGIN = 640, 14
INNER = WIDTH - 2 * MARGIN
TALLEST = 220  # of the picture
SLIMMEST = 24  # side of a picture of whatever shape
IN_A_ROW, GAP, CAPTION = range(4, 9), 10, 22  # of the small pictures, more where they are slim
LEAST_ROOM = 66  # for a caption
MOST_PIXELS = (640, 400)  # of a picture in the file
COLOURS = ('#e6550d', '#3182bd', '#31a354', '#a63fa0', '#b58900', '#c2185b')  # told apart on light and dark pictures


def draw(sight: Sight, image: Image.Image) -> str:
    """The whole SVG; `image` is the picture as the boxes and maps lie over it."""
    width, height = size_of(image, INNER, TALLEST)
    left = MARGIN + (INNER - width) / 2
    top = 54.0
    body = [*_title(sight), _picture(left, top, width, height), *_boxes(sight, left, top, width, height)]
    bottom = top + height + 20
    if sight.frames:
        body += _frames(sight, left, bottom, width)
        bottom += 40
    tiles, bottom = _tiles(sight, image, bottom + 6)
    body += tiles
    data = as_data(fitted(image.convert('RGB'), MOST_PIXELS), 'JPEG', quality=88)
    picture = f'<image id="p" width="1" height="1" preserveAspectRatio="none" href="{data}"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom:.0f}" width="{WIDTH}" '
        f'height="{bottom:.0f}" font-family="system-ui, \'DejaVu Sans\', sans-serif" fill="#1d2330">'
        f'<defs>{picture}</defs><rect width="100%" height="100%" fill="#fff"/>{"".join(body)}</svg>\n'
    )


def size_of(image: Image.Image, width: float, height: float) -> tuple[float, float]:
    """As large as fits, in the picture's shape unless that is extreme."""
    scale = min(width / image.width, height / image.height)
    return max(SLIMMEST, scale * image.width), max(SLIMMEST, scale * image.height)


def _text(x: float, y: float, text: str, *, size: float, anchor: str = 'start', fill: str = '', **more: str) -> str:
    """Of text that is escaped already."""
    attributes = ''.join(f' {key}="{value}"' for key, value in more.items())
    colour = f' fill="{fill}"' if fill else ''
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}"{colour}{attributes} '
        f'style="unicode-bidi:isolate">{text}</text>'
    )


def _title(sight: Sight) -> Iterator[str]:
    text = sight.reading.text
    if text:
        size = min(24.0, 1.45 * (INNER - 90) / len(text))  # the widest letters are about 0.7 as wide as the size
        yield _text(MARGIN, 36, escaped(text), size=round(size, 1))
    else:
        yield _text(MARGIN, 36, 'nothing was read', size=18, fill='#8a91a0')
    yield _text(WIDTH - MARGIN, 36, percent(sight.reading.confidence), size=16, anchor='end', fill='#4a5263')


def _picture(left: float, top: float, width: float, height: float) -> str:
    return f'<use href="#p" transform="translate({left:.1f} {top:.1f}) scale({width:.1f} {height:.1f})"/>'


def _boxes(sight: Sight, left: float, top: float, width: float, height: float) -> Iterator[str]:
    opacity = min(0.12, 0.5 / max(1, len(sight.boxes)))  # of all boxes, should they lie over each other
    taken: list[float] = []  # right ends of the letters under the picture, so that none covers another
    for number, (character, box) in enumerate(zip(sight.reading.characters, sight.boxes, strict=True)):
        colour = COLOURS[number % len(COLOURS)]
        x, y = left + box[0] * width, top + box[1] * height
        across, down = (box[2] - box[0]) * width, (box[3] - box[1]) * height
        yield (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{across:.1f}" height="{down:.1f}" fill="{colour}" '
            f'fill-opacity="{opacity:.3f}" stroke="{colour}" stroke-width="2"/>'
        )
        middle = x + across / 2
        if all(abs(middle - other) > 9 for other in taken):
            taken.append(middle)
            yield _text(middle, top + height + 15, shown(character.char), size=13, anchor='middle', fill=colour)


def _frames(sight: Sight, left: float, top: float, width: float) -> Iterator[str]:
    """One cell a frame, centred on its column: the darker, the surer; a line under those that make one character."""
    count = len(sight.frames)
    step = width / max(1, count - 1)
    for place, frame in enumerate(sight.frames):
        start, end = max(0, (place - 0.5) * step), min(width, (place + 0.5) * step)
        colour = '#8a91a0' if not frame.char else COLOURS[_run_of(sight, place) % len(COLOURS)]
        yield (
            f'<rect x="{left + start:.1f}" y="{top}" width="{end - start:.1f}" height="18" fill="{colour}" '
            f'fill-opacity="{(0.15 if not frame.char else 0.85) * frame.confidence:.2f}" stroke="#fff"/>'
        )
        if frame.char and step > 5:
            size = min(13.0, 1.1 * step)
            yield _text(left + (start + end) / 2, top + 14, shown(frame.char), size=round(size, 1), anchor='middle')
    yield _text(left, top + 32, f'{count} frames, pale where blank', size=11, fill='#8a91a0')


def _run_of(sight: Sight, frame: int) -> int:
    return next((number for number, (first, last) in enumerate(sight.runs) if first <= frame <= last), 0)


def _tiles(sight: Sight, image: Image.Image, top: float) -> tuple[list[str], float]:
    """The picture once more for each character, with its map; and where they end."""
    width, height = size_of(image, (INNER + GAP) / IN_A_ROW[0] - GAP, 116)
    columns = min(IN_A_ROW[-1], max(IN_A_ROW[0], int((INNER + GAP) / (max(width, LEAST_ROOM) + GAP))))
    room = (INNER + GAP) / columns - GAP
    tiles = []
    for number, (character, weights) in enumerate(zip(sight.reading.characters, sight.maps, strict=True)):
        row, column = divmod(number, columns)
        x = MARGIN + column * (room + GAP)
        y = top + row * (height + CAPTION + GAP)
        colour = COLOURS[number % len(COLOURS)]
        tiles += [
            _picture(x, y, width, height),
            f'<image x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none" '
            f'href="{heat(weights)}"/>',
            f'<rect x="{x:.1f}" y="{y + height + 2:.1f}" width="{room * character.confidence:.1f}" height="3" '
            f'fill="{colour}"/>',
            _text(x, y + height + 18, shown(character.char), size=14, fill=colour, **{'font-weight': 'bold'}),
            _text(x + room, y + height + 18, percent(character.confidence), size=12, anchor='end', fill='#4a5263'),
        ]
    rows = -(-len(sight.reading.characters) // columns)
    return tiles, top + rows * (height + CAPTION + GAP) + (0 if rows else -6) + 2
