"""strhub: scene text recognition, from a picture of a word to its text."""

from importlib import import_module
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    """Makes `import strhub; strhub.models.zoo.create_model(…)` work; torch is imported only then."""
    if name == 'models':
        import_module('strhub.models.zoo')
        return import_module('strhub.models')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
