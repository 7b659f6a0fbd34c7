"""What became of the words of a set: how many were kept, and how many were skipped for which reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from strhub.data.convert.base import Skipped
from strhub.data.summary import counted
from strhub.terminal import plain

MAX_EXAMPLES = 3  # named for each reason


@dataclass
class Report:
    """Counts, and a few examples for each reason."""

    kept: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def skip(self, skipped: Skipped) -> None:
        self.skipped[skipped.reason] += skipped.count
        examples = self.examples.setdefault(skipped.reason, [])
        if skipped.where and len(examples) < MAX_EXAMPLES and skipped.where not in examples:
            examples.append(skipped.where)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON knows it; `from_dict` makes it one again."""
        skipped = {
            reason: {'count': count, 'examples': self.examples[reason]} for reason, count in self.skipped.most_common()
        }
        return {'kept': self.kept, 'skipped': skipped}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Report:
        skipped = data['skipped'].items()
        return cls(
            data['kept'],
            Counter({reason: entry['count'] for reason, entry in skipped}),
            {reason: entry['examples'] for reason, entry in skipped},
        )

    def __str__(self) -> str:
        lines = [f'{counted(self.kept, "word")} kept, {sum(self.skipped.values())} skipped']
        for reason, count in self.skipped.most_common():
            examples = self.examples[reason]
            named = ', '.join(map(plain, examples)) + (', …' if count > len(examples) else '')
            lines.append(f'  {plain(counted(count, reason))}' + (f': {named}' if examples else ''))
        return '\n'.join(lines)
