#!/usr/bin/env python3
"""Rebuilds the word list of the renderer from Debian's SCOWL lists: python scripts/build_words.py [--work FOLDER]

Takes English, American and British words, names, abbreviations and contractions up to size 60, most common first,
keeps what is ASCII and at most 25 characters long, drops the possessives, slurs and obscene words, and writes
strhub/data/synth/words.txt.gz. Each line that starts with `# ` opens a size: `# 35` and then the words which that size
adds. Needs Debian's apt-get and dpkg.

The slurs and obscene words are in unwanted_words.txt, as the first 8 digits of the SHA-256 of the word in lower case,
so that nobody has to read them; `printf word | sha256sum | head -c 8` gives those of another.
"""

import argparse
import gzip
import re
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / 'strhub/data/synth/words.txt.gz'
UNWANTED = Path(__file__).resolve().with_name('unwanted_words.txt')
LIST = re.compile(r'(english|american|british)-(words|proper-names|upper|abbreviations|contractions)\.(\d+)')
LARGEST = 60  # above it, words that hardly anyone has seen on a sign
LONGEST = 25


def fetch(work: Path) -> Path:
    lists = work / 'scowl/usr/share/dict/scowl'
    if not lists.is_dir():
        subprocess.run(['apt-get', 'download', '-q', 'scowl'], cwd=work, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(['dpkg', '-x', next(work.glob('scowl_*.deb')), work / 'scowl'], check=True)
    return lists


def digest(word: str) -> str:
    """As unwanted_words.txt has it: long enough for wanted words to have others."""
    return sha256(word.lower().encode()).hexdigest()[:8]


def collect(lists: Path) -> dict[int, list[str]]:
    """Size -> the words it adds, sorted."""
    unwanted = frozenset(UNWANTED.read_text('ascii').split())
    sizes: dict[int, set[str]] = {}
    for path in lists.iterdir():
        match = LIST.fullmatch(path.name)
        if match and int(match[3]) <= LARGEST:
            sizes.setdefault(int(match[3]), set()).update(path.read_text('latin-1').split())
    known: set[str] = set()
    words = {}
    for size in sorted(sizes):
        usable = {w for w in sizes[size] if w.isascii() and 1 < len(w) <= LONGEST and not w.endswith("'s")}
        usable = {w for w in usable if digest(w) not in unwanted}
        words[size] = sorted(usable - known)
        known |= usable
    return words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, help='folder for the download, kept (default: a temporary one)')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        words = collect(fetch(work))
    text = ''.join(f'# {size}\n' + ''.join(f'{word}\n' for word in words[size]) for size in words)
    TARGET.write_bytes(gzip.compress(text.encode('ascii'), 9, mtime=0))
    print(
        {size: len(items) for size, items in words.items()},
        sum(map(len, words.values())),
        f'{TARGET.stat().st_size} bytes',
    )


if __name__ == '__main__':
    main()
