"""strhub: scene text recognition, from a picture of a word to its text."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strhub.runtime.reader import Reader as Reader
    from strhub.runtime.readings import Character as Character
    from strhub.runtime.readings import Reading as Reading

NAMES = {
    'Reader': 'strhub.runtime.reader',
    'Reading': 'strhub.runtime.readings',
    'Character': 'strhub.runtime.readings',
}


def __getattr__(name: str) -> Any:
    """Makes `strhub.Reader` and `strhub.models.zoo.create_model` work; what they need is imported only then."""
    if name in NAMES:
        return getattr(import_module(NAMES[name]), name)
    if name == 'models':
        import_module('strhub.models.zoo')
        return import_module('strhub.models')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
