"""What was read: a text, and what is known about each of its characters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Character:
    """One character of a reading; `alternatives` are the most probable ones there, itself first, if asked for."""

    char: str
    confidence: float
    alternatives: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Reading:
    """A text and the probabilities, in [0, 1], that the network gives to it and to each of its characters.

    The confidence of the text is the product over its characters and over its end, which has no character. `readings`
    are the most probable texts and their probabilities, itself first, and `rotation` by how many degrees the picture
    was turned, if a search was asked for them.
    """

    text: str
    confidence: float
    characters: tuple[Character, ...]
    readings: tuple[tuple[str, float], ...] = ()
    rotation: float | None = None

    def as_record(self) -> dict[str, Any]:
        """What `--json` prints of it."""
        characters: list[dict[str, Any]] = []
        for c in self.characters:
            characters.append({'char': c.char, 'confidence': c.confidence})
            if c.alternatives:
                characters[-1]['topk'] = [{'char': char, 'confidence': p} for char, p in c.alternatives]
        record: dict[str, Any] = {'text': self.text, 'confidence': self.confidence, 'characters': characters}
        if self.readings:
            record['readings'] = [{'text': text, 'score': score} for text, score in self.readings]
        if self.rotation is not None:
            record['rotation'] = self.rotation
        return record
