"""What an exported network says of itself: all that is needed to prepare its pictures and to read its logits."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from strhub.decoding import RULES

FORMAT = 1
KEY = 'strhub'  # under which the file's metadata hold it
INPUT, OUTPUT = 'images', 'logits'  # float32 (N, 3, H, W) and (N, L, C)
RESAMPLE = 'bicubic'
MEAN = STD = 0.5  # of all three colours, after division by 255

ANEW = 'export the checkpoint again'


@dataclass(frozen=True, kw_only=True)
class Description:
    """An exported network takes `images` (N, 3, H, W) float32 and gives `logits` (N, L, C) float32.

    Attributes:
        name: the model's name in the hub.
        img_size: height and width of the pictures.
        charset: the characters of classes 1, 2, …; class 0 is the end of the text, in CTC the blank.
        charset_test: those that readings are judged in.
        decoding: how logits become a text: attention or ctc, see strhub.decoding.
        max_label_length: the most characters that it was trained to read.
        hparams: all hyper-parameters of the network, JSON values only.
        mean, std, resample: how pictures are prepared.

    Raises:
        ValueError: one sentence, on a value that cannot be.
    """

    name: str
    img_size: tuple[int, int]
    charset: str
    charset_test: str
    decoding: str
    max_label_length: int
    hparams: dict[str, Any] = field(default_factory=dict)
    mean: float = MEAN
    std: float = STD
    resample: str = RESAMPLE

    def __post_init__(self) -> None:
        for key in ('name', 'charset', 'charset_test'):
            value = getattr(self, key)
            _require(isinstance(value, str) and value != '', key, value, 'a text')
        sides = self.img_size
        is_size = isinstance(sides, list | tuple) and len(sides) == 2 and all(map(_counts, sides))
        _require(is_size, 'img_size', sides, '[height, width] in pixels')
        object.__setattr__(self, 'img_size', tuple(sides))
        _require(len(set(self.charset)) == len(self.charset), 'charset', self.charset, 'each character once')
        _require(self.decoding in RULES, 'decoding', self.decoding, ' or '.join(RULES))
        _require(_counts(self.max_label_length), 'max_label_length', self.max_label_length, 'a whole number above 0')
        _require(isinstance(self.hparams, dict), 'hparams', self.hparams, 'names and values')
        _require((self.mean, self.std) == (MEAN, STD), 'mean, std', (self.mean, self.std), f'{MEAN} and {STD}')
        _require(self.resample == RESAMPLE, 'resample', self.resample, RESAMPLE)

    def to_json(self) -> str:
        """For the metadata of the file, under KEY."""
        return json.dumps({'format': FORMAT, **asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Description:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: it is none, is of a later version, lacks something, or says what cannot be.
        """
        try:
            record = json.loads(text)
        except ValueError:
            record = None
        if not isinstance(record, dict) or not _counts(record.get('format')):
            raise ValueError(f'its description is none that strhub wrote: {ANEW}')
        if record['format'] != FORMAT:
            raise ValueError(
                f'its description has format {record["format"]}, and this version of strhub reads format {FORMAT}: '
                f'install the version that exported it, or {ANEW} with this one'
            )
        # What is left out has no default here: a file must say how its pictures are prepared.
        names = [one.name for one in fields(cls)]
        if missing := [name for name in names if name not in record]:
            raise ValueError(f'its description lacks {", ".join(missing)}: {ANEW}')
        return cls(**{name: record[name] for name in names})


def _counts(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _require(is_so: bool, name: str, value: object, expected: str) -> None:
    if not is_so:
        raise ValueError(f'the description of an exported network says {name}={value!r}, where {expected} is expected')
