"""Fonts of a few boxes, built on the spot, that behave as those of other scripts do."""

from pathlib import Path

from fontTools.feaLib.builder import addOpenTypeFeaturesFromString
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

Box = tuple[int, int, int, int]  # left, bottom, right, top, in thousandths of the font's size
SQUARE: Box = (50, 0, 650, 700)
# At the beginning of a word BEH is narrow and low, at its end wide and high: joined, it differs from two single ones.
JOINING = """
languagesystem DFLT dflt; languagesystem arab dflt;
feature init { sub uni0628 by uni0628.init; } init;
feature fina { sub uni0628 by uni0628.fina; } fina;
"""
TURNING = 'languagesystem DFLT dflt; feature vert { sub uni30FC by uni30FC.vert; } vert;'


def build_font(path: Path, boxes: dict[str, Box], *, forms: dict[str, Box] | None = None, features: str = '') -> Path:
    """A TrueType font with a box for each character, and for each further form by its glyph name."""
    names = {character: f'uni{ord(character):04X}' for character in boxes}
    shapes = {names[character]: box for character, box in boxes.items()} | (forms or {})
    font = FontBuilder(1000)
    font.setupGlyphOrder(['.notdef', *shapes])
    font.setupCharacterMap({ord(character): name for character, name in names.items()})
    font.setupGlyf({'.notdef': _draw((100, 0, 400, 500)), **{name: _draw(box) for name, box in shapes.items()}})
    font.setupHorizontalMetrics(
        {'.notdef': (500, 100), **{name: (box[2] + 50, box[0]) for name, box in shapes.items()}}
    )
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({'familyName': path.stem, 'styleName': 'Regular'})
    font.setupOS2()
    font.setupPost()
    if features:
        addOpenTypeFeaturesFromString(font.font, features)
    font.save(path)
    return path


def _draw(box: Box) -> object:
    left, bottom, right, top = box
    pen = TTGlyphPen(None)
    pen.moveTo((left, bottom))
    for point in ((left, top), (right, top), (right, bottom)):
        pen.lineTo(point)
    pen.closePath()
    return pen.glyph()
