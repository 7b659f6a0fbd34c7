"""One of the texts that a picture may show."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from strhub.runtime.readings import Character, Reading


@dataclass(frozen=True)
class Guess:
    """A text with the probability of each character, given those before it, and of its end."""

    text: str
    characters: tuple[float, ...]
    end: float = 1.0

    @property
    def score(self) -> float:
        """The probability of the text."""
        return prod(self.characters) * self.end

    def as_reading(self) -> Reading:
        return Reading(self.text, self.score, tuple(map(Character, self.text, self.characters)))


Guesses = list[Guess]  # of one picture, the best first


def best_first(guesses: Guesses) -> Guesses:
    """Each text once, with its highest score, in the order of the scores."""
    best: dict[str, Guess] = {}
    for guess in guesses:
        if guess.text not in best or guess.score > best[guess.text].score:
            best[guess.text] = guess
    return sorted(best.values(), key=lambda guess: guess.score, reverse=True)
