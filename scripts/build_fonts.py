#!/usr/bin/env python3
"""Rebuilds the fonts of the word renderer from Debian packages: python scripts/build_fonts.py [--work FOLDER]

Takes the faces named in SOURCES, keeps the 94 printable ASCII characters, drops hinting and kerning, gives each a
neutral name (the Open Font License reserves the original ones) and writes them with a manifest and one licence file a
family to strhub/data/synth/fonts. Needs Debian's apt-get and dpkg, and the Python packages fonttools, pillow and numpy.
"""

import argparse
import csv
import gzip
import logging
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fontTools import subset
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

log = logging.getLogger('build_fonts')
FONTS = Path(__file__).resolve().parent.parent / 'strhub/data/synth/fonts'
CHARACTERS = [chr(code) for code in range(33, 127)]
COLUMNS = ('file', 'family', 'style', 'weight', 'italic', 'caps_only', 'licence', 'package')
TEXLIVE = 'texlive-fonts-extra'  # half a gigabyte, but the best of the signage families
OFL_TEXT = ('fonts-averia-gwf', 'usr/share/doc/fonts-averia-gwf/OFL.txt.gz')

# package -> 'Family:n' for at most n faces. Left out after a look: hairlines, letters in boxes, blackletter, and fonts
# without all 94 characters.
SOURCES = {
    'fonts-3270': 'IBM 3270 Condensed:1',
    'fonts-arapey': 'Arapey:2',
    'fonts-averia-gwf': 'Averia GWF:2',
    'fonts-averia-sans-gwf': 'Averia Sans GWF:2',
    'fonts-b612': 'B612:2',
    'fonts-bebas-neue': 'Bebas Neue:3',
    'fonts-cabin': 'Cabin:3',
    'fonts-cantarell': 'Cantarell:3',
    'fonts-cherrybomb': 'Cherry Bomb:1',
    'fonts-clear-sans': 'Clear Sans:3',
    'fonts-comfortaa': 'Comfortaa:2',
    'fonts-comic-neue': 'Comic Neue:2',
    'fonts-courier-prime': 'Courier Prime:2',
    'fonts-croscore': 'Arimo:4, Tinos:4, Cousine:1',
    'fonts-crosextra-caladea': 'Caladea:2',
    'fonts-crosextra-carlito': 'Carlito:3',
    'fonts-dancingscript': 'Dancing Script:1',
    'fonts-dosis': 'Dosis:3',
    'fonts-dotgothic16': 'DotGothic16:1',
    'fonts-essays1743': 'Essays1743:2',
    'fonts-fantasque-sans': 'Fantasque Sans Mono:1',
    'fonts-gemunu-libre': 'Gemunu Libre:2',
    'fonts-gfs-neohellenic': 'GFS Neohellenic:2',
    'fonts-hosny-amiri': 'Amiri:1',
    'fonts-humor-sans': 'Humor Sans:1',
    'fonts-inter': 'Inter:4',
    'fonts-jetbrains-mono': 'JetBrains Mono:1',
    'fonts-junction': 'Junction:1',
    'fonts-jura': 'Jura:2',
    'fonts-karla': 'Karla:3',
    'fonts-kaushanscript': 'Kaushan Script:1',
    'fonts-lato': 'Lato:4',
    'fonts-league-mono': 'League Mono:2',
    'fonts-league-spartan': 'League Spartan:3',
    'fonts-leckerli-one': 'Leckerli One:1',
    'fonts-lemonada': 'Lemonada:1',
    'fonts-lobstertwo': 'Lobster Two:2',
    'fonts-manrope': 'Manrope:3',
    'fonts-millimetre': 'Millimetre:2',
    'fonts-mplus': 'M PLUS 1:3',
    'fonts-nanum': 'NanumGothic:2, NanumMyeongjo:1, NanumSquareRound:1',
    'fonts-noto-core': 'Noto Sans:2, Noto Serif:2, Noto Sans Display:2, Noto Serif Display:2',
    'fonts-okolaks': 'okolaks:2',
    'fonts-oldstandard': 'Old Standard TT:2',
    'fonts-open-sans': 'Open Sans:3, Open Sans Condensed:1',
    'fonts-oxygen': 'Oxygen-Sans:2',
    'fonts-play': 'Play:2',
    'fonts-quicksand': 'Quicksand:2',
    'fonts-reggae': 'Reggae One:1',
    'fonts-rit-sundar': 'RIT-Sundar:1',
    'fonts-roboto-slab': 'Roboto Slab:2',
    'fonts-roboto-unhinted': 'Roboto:4, Roboto Condensed:3',
    'fonts-rocknroll': 'RocknRoll One:1',
    'fonts-routed-gothic': 'Routed Gothic Wide:1',
    'fonts-sil-andika': 'Andika:2',
    'fonts-sil-charis': 'Charis SIL:2',
    'fonts-smc-chilanka': 'Chilanka:1',
    'fonts-smc-manjari': 'Manjari:2',
    'fonts-smc-uroob': 'Uroob:1',
    'fonts-smiley-sans': 'Smiley Sans:1',
    'fonts-sora': 'Sora:3',
    'fonts-stick': 'Stick:1',
    'fonts-vollkorn': 'Vollkorn:3',
    'fonts-woowa-bm': 'BM EULJIRO TTF:1, BM HANNA Pro:1, BM JUA_TTF:1, BM YEONSUNG:1, BM KIRANGHAERANG:1, BM DoHyeon:1',
    'fonts-yanone-kaffeesatz': 'Yanone Kaffeesatz:3',
    'fonts-yrsa-rasa': 'Yrsa:2',
    TEXLIVE: (
        'Alegreya:2, Alegreya SC:1, Almendra:1, Alpha Slab One:1, Archiv0:3, Arvo:2, Baloo 2:3, Bitter:2, '
        'Chivo:3, Cinzel:2, Cooper Hewitt:4, Crimson Pro:2, Cuprum:3, Eczar:2, Fira Sans:4, Forum:1, Hind '
        'Madurai:2, IBM Plex Sans:2, IBM Plex Sans Condensed:2, IBM Plex Serif:2, Inria Sans:2, Josefin Sans:3, '
        'Lexend Deca:1, Lexend Giga:1, Libre Baskerville:2, Libre Bodoni:2, Libre Caslon Text:2, Libre '
        'Franklin:4, Marcellus:1, Merriweather:2, Merriweather Sans:3, Montserrat:4, Montserrat Alternates:1, '
        'Mukta:2, Nunito:3, Overlock:2, Playfair Display:3, Quattrocento:2, Raleway:4, Rosario:2, Source Sans '
        'Pro:3, Source Serif Pro:2, Spectral:2'
    ),
}

# Families whose name table does not name the licence: what the package's copyright file says of them.
JUDGED = {
    'Bebas Neue': 'OFL-1.1',
    'Humor Sans': 'OFL-1.1',
    'NanumGothic': 'OFL-1.1',
    'NanumMyeongjo': 'OFL-1.1',
    'NanumSquareRound': 'OFL-1.1',
    'Routed Gothic Wide': 'OFL-1.1',
    'BM DoHyeon': 'OFL-1.1',
    'Inria Sans': 'OFL-1.1',
}
CAPS_ONLY = {'Humor Sans'}  # what the measure below cannot see: capitals drawn twice, by hand
# Style names tell the weight; the number in the OS/2 table is wrong in many fonts. The first match counts.
WEIGHTS = {
    'thin|hairline|extra ?light|ultra ?light': 100,
    'semi ?bold|demi': 600,
    'light': 300,
    'extra ?bold|ultra ?bold': 800,
    'black|heavy|fat': 900,
    'bold': 700,
    'medium': 500,
}
# The order in which styles of a family are taken: signs are mostly bold and upright.
WANTED = ((700, False), (400, False), (900, False), (700, True), (550, False))


@dataclass(frozen=True)
class Source:
    package: str
    path: Path
    family: str
    style: str
    weight: int
    italic: bool
    licence: str
    notice: str


def read_source(package: str, path: Path) -> Source | None:
    """One font file as its name table tells it; None where characters are missing."""
    with TTFont(path, lazy=True) as font:
        if not set(map(ord, CHARACTERS)) <= set(font.getBestCmap() or ()) or 'OS/2' not in font:
            return None
        names = {i: (font['name'].getDebugName(i) or '').strip() for i in (0, 1, 2, 13, 14, 16, 17)}
        family, style = names[16] or names[1], names[17] or names[2]
        words = f'{names[13]} {names[14]}'
        if re.search(r'open ?font licen|\bOFL\b|scripts\.sil\.org', words, re.IGNORECASE):
            licence = 'OFL-1.1'
        elif 'apache' in words.lower():
            licence = 'Apache-2.0'
        else:
            licence = JUDGED.get(family, '')
        italic = bool(font['post'].italicAngle) or bool(re.search('italic|oblique|slant', style, re.IGNORECASE))
        notice = '\n'.join(filter(None, (names[0], names[13], names[14])))
        weight = next((value for name, value in WEIGHTS.items() if re.search(name, style, re.IGNORECASE)), 400)
        return Source(package, path, family, style, weight, italic, licence, notice)


def choose(faces: list[Source], count: int) -> list[Source]:
    """At most `count` faces of a family, as different and as useful on signs as it offers."""
    chosen: list[Source] = []
    for weight, italic in WANTED:
        rest = [face for face in faces if face.italic == italic and face.weight >= 300 and face not in chosen]
        best = min(rest, key=lambda face: (abs(face.weight - weight), len(face.style), str(face.path)), default=None)
        if best and len(chosen) < count and all(best.style != face.style for face in chosen):
            chosen.append(best)
    return chosen


def fetch(work: Path) -> None:
    """Downloads and unpacks the packages below `work`; what is there already is not fetched again."""
    for package in SOURCES:
        target = work / package
        if target.is_dir():
            continue
        log.info('fetching %s', package)
        subprocess.run(['apt-get', 'download', '-q', package], cwd=work, check=True, stdout=subprocess.DEVNULL)
        archive = next(work.glob(f'{package}_*.deb'))
        unpacked = work / f'{package}.tmp'
        subprocess.run(['dpkg', '-x', archive, unpacked], check=True)
        archive.unlink()
        unpacked.rename(target)


def gather(work: Path) -> list[Source]:
    chosen = []
    for package, families in SOURCES.items():
        paths = sorted(
            p for p in (work / package).rglob('*') if p.suffix.lower() in ('.ttf', '.otf') and not p.is_symlink()
        )
        faces = [face for path in paths if (face := safely(read_source, package, path))]
        for item in families.split(','):
            family, _, count = item.strip().partition(':')
            mine = choose([face for face in faces if face.family == family], int(count or 3))
            if not mine:
                raise SystemExit(f'{package}: no usable face of {family!r}; it has {sorted({f.family for f in faces})}')
            if unclear := [face for face in mine if not face.licence]:
                raise SystemExit(f'{package}: licence of {family!r} is unclear: {unclear[0].notice[:200]!r}')
            chosen += mine
    return chosen


def safely(read, package: str, path: Path) -> Source | None:
    try:
        return read(package, path)
    except Exception as error:  # a broken file in a package is no reason to stop
        log.warning('%s: %s', path, error)
        return None


def write_subset(source: Source, number: int, target: Path) -> None:
    options = subset.Options(
        hinting=False,
        layout_features=[],
        name_IDs=[0, 13, 14],
        name_languages=[0x409],
        name_legacy=True,
        notdef_outline=True,
        glyph_names=False,
    )
    options.drop_tables += ['GSUB', 'GPOS', 'GDEF', 'BASE', 'STAT', 'gasp', 'VORG', 'vhea', 'vmtx']
    font = subset.load_font(source.path, options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=[32, *map(ord, CHARACTERS)])
    subsetter.subset(font)
    name = f'Wordface {number:03d}'
    new_names = {1: name, 2: 'Regular', 3: f'strhub {name}', 4: name, 6: name.replace(' ', '-')}
    if not font['name'].getDebugName(13) and not font['name'].getDebugName(14):
        new_names[13] = source.licence
    for name_id, text in new_names.items():
        font['name'].setName(text, name_id, 3, 1, 0x409)
    if 'CFF ' in font:
        font['CFF '].cff.fontNames = [new_names[6]]
        top = font['CFF '].cff.topDictIndex[0]
        for field in ('FullName', 'FamilyName', 'Notice', 'Copyright'):
            top.rawDict.pop(field, None)
    subset.save_font(font, target, options)


def draw(font: ImageFont.FreeTypeFont, character: str, side: int = 160) -> np.ndarray:
    image = Image.new('L', (side, side))
    ImageDraw.Draw(image).text((side // 4, side // 4), character, fill=255, font=font)
    return np.asarray(image)


def measure(path: Path) -> tuple[float, bool]:
    """Stroke width over cap height, and whether lower case is drawn as (small) capitals."""
    font = ImageFont.truetype(path, 80, layout_engine=ImageFont.Layout.BASIC)
    stem = draw(font, 'I')
    rows = np.flatnonzero(stem.max(1) > 127)
    middle = stem[rows[len(rows) // 3 : -len(rows) // 3]]
    stroke = float((middle > 127).sum(1).mean() / len(rows))

    def shape(character: str) -> np.ndarray:
        box = Image.fromarray(draw(font, character))
        return np.asarray(box.crop(box.getbbox()).resize((24, 24), Image.Resampling.BOX), np.float32) / 255

    distance = np.mean([np.abs(shape(c) - shape(c.upper())).mean() for c in 'abdeghnqrt'])
    return stroke, bool(distance < 0.12)


def licence_texts(work: Path) -> dict[str, str]:
    ofl = gzip.decompress(work.joinpath(*OFL_TEXT).read_bytes()).decode()
    return {
        'OFL-1.1': ofl[ofl.index('-' * 20) :],  # what precedes is the notice of one font
        'Apache-2.0': Path('/usr/share/common-licenses/Apache-2.0').read_text(),
    }


def write_all(chosen: list[Source], texts: dict[str, str]) -> list[tuple[str, ...]]:
    licences = FONTS / 'licences'
    licences.mkdir(parents=True, exist_ok=True)
    for old in [*FONTS.glob('*.[to]tf'), *licences.glob('*.txt')]:
        old.unlink()
    rows = []
    for number, source in enumerate(chosen, 1):
        target = FONTS / f'{number:03d}{source.path.suffix.lower()}'
        write_subset(source, number, target)
        stroke, caps_only = measure(target)
        caps_only |= source.family in CAPS_ONLY
        flags = f'{stroke:.3f}', str(int(source.italic)), str(int(caps_only))
        rows.append((target.name, source.family, source.style, *flags, source.licence, source.package))
        slug = re.sub('[^a-z0-9]+', '-', source.family.lower()).strip('-')
        (licences / f'{slug}.txt').write_text(
            f'{source.family} (from the Debian package {source.package}), subset to ASCII and renamed.\n\n'
            f'{source.notice}\n\n{texts[source.licence]}'
        )
    with (FONTS / 'manifest.tsv').open('w', newline='') as file:
        csv.writer(file, delimiter='\t', lineterminator='\n').writerows([COLUMNS, *rows])
    return rows


def main() -> None:
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    logging.getLogger('fontTools').setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, help='folder for the downloads, kept (default: a temporary one)')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        fetch(work)
        chosen = gather(work)
        rows = write_all(chosen, licence_texts(work))
    size = sum(path.stat().st_size for path in FONTS.iterdir() if path.is_file())
    log.info('%d faces of %d families, %.2f MB', len(rows), len({row[1] for row in rows}), size / 1e6)


if __name__ == '__main__':
    main()
