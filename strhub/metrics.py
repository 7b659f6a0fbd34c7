"""How right a set of readings is: sums that add up over batches, sets and ranks, divided only when they are shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

# Fractions of words are rounded to multiples of this: float64 adds those without error up to 8 million words, so that a
# score is the same to the last digit in whatever order, and over however many processes, its words are summed.
GRAIN = 2.0**-30


def normalized_edit_distance(prediction: str, label: str) -> float:
    """Levenshtein distance / length of the longer text, in [0, 1]; 0 for two empty texts."""
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.normalized_distance(prediction, label)


@dataclass(frozen=True)
class Score:
    """Sums over words; `a + b` is the score of both sets together, `Score()` that of none."""

    num_samples: int = 0
    num_correct: int = 0
    edit_distance: float = 0.0  # sum of normalised distances
    confidence: float = 0.0
    label_length: int = 0  # of the predictions

    @classmethod
    def of(cls, predictions: Sequence[str], labels: Sequence[str], confidences: Sequence[float]) -> Score:
        """Scores predictions against labels, both already in the charset of the test; confidences in [0, 1]."""
        pairs = list(zip(predictions, labels, strict=True))
        if len(confidences) != len(pairs):
            raise ValueError(f'{len(pairs)} predictions need as many confidences, got {len(confidences)}')
        return cls(
            num_samples=len(pairs),
            num_correct=sum(prediction == label for prediction, label in pairs),
            edit_distance=sum(_grained(normalized_edit_distance(*pair)) for pair in pairs if pair[0] != pair[1]),
            confidence=sum(map(_grained, confidences)),
            label_length=sum(map(len, predictions)),
        )

    def __add__(self, other: Score) -> Score:
        return Score(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def to_tensor(self) -> Tensor:
        """The five sums, float64, for a reduction over ranks."""
        return torch.tensor(astuple(self), dtype=torch.float64)

    @classmethod
    def from_tensor(cls, sums: Tensor) -> Score:
        n, correct, distance, confidence, length = sums.tolist()
        return cls(round(n), round(correct), distance, confidence, round(length))

    def _mean(self, total: float) -> float:
        return total / self.num_samples if self.num_samples else float('nan')

    @property
    def accuracy(self) -> float:
        """Words read exactly, in percent."""
        return 100 * self._mean(self.num_correct)

    @property
    def one_minus_ned(self) -> float:
        """1 - normalised edit distance, in percent."""
        return 100 * (1 - self._mean(self.edit_distance))

    @property
    def mean_confidence(self) -> float:
        """Mean probability that the network gives to its readings, in percent."""
        return 100 * self._mean(self.confidence)

    @property
    def mean_label_length(self) -> float:
        """Mean number of predicted characters."""
        return self._mean(self.label_length)


def _grained(value: float) -> float:
    return round(value / GRAIN) * GRAIN if math.isfinite(value) else value
