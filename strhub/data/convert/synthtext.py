"""SynthText: words rendered into photographs, with their places in a MATLAB file."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from strhub.data.convert.base import SetInfo, Skipped
from strhub.data.convert.parsing import find_file
from strhub.data.convert.regions import AS_STORED, Page, Region, inside, pages

FIELDS = ('imnames', 'wordBB', 'txt')  # and not the boxes of 29 million characters


@pages
def synthtext(root: Path) -> Iterator[Page | Skipped]:
    """The words of all pictures."""
    file = find_file(root, 'gt.mat')
    data = _read(file)
    if missing := [field for field in FIELDS if field not in data]:
        raise ValueError(f'{file} has no {", ".join(missing)}: it is not the gt.mat of SynthText')
    names, boxes, texts = (data[field].ravel() for field in FIELDS)
    if not len(names) == len(boxes) == len(texts):
        raise ValueError(f'{file} has {len(names)} pictures, {len(boxes)} with boxes, {len(texts)} with texts')
    for index in range(len(names)):
        name = str(names[index].item())
        words = [word for text in texts[index].ravel() for word in str(text).split()]
        quads = boxes[index].reshape(2, 4, -1)  # (x or y, corner, word); one word has no third axis
        if quads.shape[2] != len(words):
            yield Skipped('words and boxes do not match', name, max(1, len(words)))
            continue
        corners = quads.transpose(2, 1, 0).tolist()
        yield Page(inside(root, name), name, [Region(*pair) for pair in zip(words, corners, strict=True)])


def _read(file: Path) -> dict[str, Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        return loadmat(str(file), variable_names=FIELDS)
    except (MatReadError, NotImplementedError, ValueError, TypeError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f'{file} cannot be read ({error}): download it again') from None


SETS = {
    'synthtext': SetInfo(
        synthtext,
        title='SynthText, words rendered into photographs',
        download=('SynthText.zip (41 GB)',),
        home='https://www.robots.ox.ac.uk/~vgg/data/scenetext/',
        licence='for research that is not commercial',
        layout="""\
SRC/gt.mat                        needs scipy, which comes with strhub[data]
SRC/8/ballet_106_0.jpg""",
        counts='858,750 pictures with 7,266,866 words',
        language='English',
        words=7_266_866,
        options=(AS_STORED,),
        example='SynthText data/train/synth/ST',
    ),
}
