"""What a list of judged words says of a model: by length, by character, by confidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from strhub.engine.predictions import Judged

BINS = 10  # of confidence
NOTHING = ''  # stands for no character: what was left out, or put in


@dataclass(frozen=True)
class Word:
    """One picture of a set, judged."""

    set: str
    place: int  # in its set
    picture: str
    label: str
    prediction: str
    confidence: float

    @property
    def is_right(self) -> bool:
        return self.label == self.prediction


class Words(list[Word]):
    """Collects what `evaluate` tells of, set after set, each in its order."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: Counter[str] = Counter()

    def note(self, judged: Judged) -> None:
        place = self._counts[judged.set]
        self._counts[judged.set] += 1
        self.append(Word(judged.set, place, judged.picture, judged.label, judged.prediction, judged.reading.confidence))


@dataclass
class Share:
    """How many of some words are right, and how sure the model was of them in sum."""

    count: int = 0
    right: int = 0
    confidence: float = 0.0

    def add(self, word: Word) -> None:
        self.count += 1
        self.right += word.is_right
        self.confidence += word.confidence

    @property
    def accuracy(self) -> float:
        return self.right / self.count if self.count else 0.0

    @property
    def mean_confidence(self) -> float:
        return self.confidence / self.count if self.count else 0.0


def by_length(words: Iterable[Word]) -> dict[int, Share]:
    """Length of the label -> its words, the shortest first."""
    shares: dict[int, Share] = {}
    for word in words:
        shares.setdefault(len(word.label), Share()).add(word)
    return dict(sorted(shares.items()))


def by_confidence(words: Iterable[Word]) -> list[Share]:
    """`BINS` shares of equal width, from words the model is not sure of at all to those it is."""
    shares = [Share() for _ in range(BINS)]
    for word in words:
        shares[min(BINS - 1, max(0, int(word.confidence * BINS)))].add(word)
    return shares


def calibration_error(shares: Sequence[Share]) -> float:
    """ECE (Naeini et al., AAAI 2015): how far confidence is from accuracy, the mean over words; nan for none."""
    total = sum(share.count for share in shares)
    if not total:
        return float('nan')
    return sum(share.count * abs(share.accuracy - share.mean_confidence) for share in shares) / total


def confusions(words: Iterable[Word]) -> Counter[tuple[str, str]]:
    """(what the label has, what was read there) -> how often, from the shortest edits that lead from one to the other.

    Either is NOTHING where a character was put in or left out.
    """
    pairs: Counter[tuple[str, str]] = Counter()
    for word in words:
        if word.is_right:
            pairs.update(zip(word.label, word.label, strict=True))
        else:
            pairs.update(aligned(word.label, word.prediction))
    return pairs


def aligned(label: str, prediction: str) -> list[tuple[str, str]]:
    """The characters of both, in pairs; see `confusions`."""
    from rapidfuzz.distance import Levenshtein

    pairs: list[tuple[str, str]] = []
    for operation in Levenshtein.opcodes(label, prediction):
        old = label[operation.src_start : operation.src_end]
        new = prediction[operation.dest_start : operation.dest_end]
        length = max(len(old), len(new))
        pairs += zip([*old, *[NOTHING] * (length - len(old))], [*new, *[NOTHING] * (length - len(new))], strict=True)
    return pairs


def edits(word: Word) -> int:
    return sum(a != b for a, b in aligned(word.label, word.prediction))


def paired(first: Iterable[Word], second: Iterable[Word]) -> list[tuple[Word, Word]]:
    """The words that both models were tested on, under the same label."""
    others = {(word.set, word.picture, word.label): word for word in second}
    pairs = ((word, others.get((word.set, word.picture, word.label))) for word in first)
    return [(word, other) for word, other in pairs if other is not None]
