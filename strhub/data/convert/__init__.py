"""`strhub convert`: public and private data sets -> LMDB.

To add a set: write its converter (see strhub.data.convert.base) in a module here, with an entry in the module's `SETS`,
and name the module in `MODULES`. A module imports optional packages and torch only inside its functions.
"""

from __future__ import annotations

from importlib import import_module

from strhub.data.convert.base import SetInfo

MODULES = (  # in the order in which their sets are listed
    *('icdar2019', 'coco_text', 'coco', 'icdar', 'uber_text', 'union14m', 'mjsynth', 'synthtext', 'case_sensitive'),
    *('folder', 'paddleocr', 'doctr', 'parquet'),
)


def all_sets() -> dict[str, SetInfo]:
    """Every set that can be converted, by name."""
    found: dict[str, SetInfo] = {}
    for module in MODULES:
        found |= import_module(f'strhub.data.convert.{module}').SETS
    return found
