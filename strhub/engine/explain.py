"""`--explain DIR`: a drawing of what the model saw in each picture that it read, a page of all, and the boxes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from strhub.data.picture import UnreadablePictureError
from strhub.data.planes import turned
from strhub.data.summary import counted
from strhub.data.transforms import get_transform
from strhub.engine.attention import Sight, check_sighted, look
from strhub.engine.images import load_batches, open_named
from strhub.engine.report.markup import escaped, page, percent, ready
from strhub.engine.report.word import draw
from strhub.engine.results import write
from strhub.models.reader import Recogniser
from strhub.runtime.readings import Reading
from strhub.tokenizer import CTCTokenizer

AT_ONCE = 32  # pictures: each has a map a character, some as large as itself
PAGE, BOXES = 'index.html', 'boxes.json'

ATTENTION = (
    'The small pictures show how the decoder spreads its attention over the picture when it is asked for a character, '
    'summed over its heads; a box goes around what is at least half as strong as the peak and connected with it.'
)
LAST_BLOCK = (
    'This model has no decoder: the small pictures show the attention of the last block of its transformer, from the '
    'token that becomes a character to the patches. A box goes around what is at least half as strong as the peak and '
    'connected with it.'
)
FRAMES = (
    'This model reads frames from left to right (CTC): a character is a run of equal ones, and the small pictures show '
    'where these lie. They are narrower than the character, so a box reaches halfway to its neighbours.'
)


def explain_paths(
    system: Recogniser, paths: Iterable[Path], target: str, *, batch_size: int, top_k: int = 0, rotation: float = 0
) -> Iterator[tuple[Path, Reading | UnreadablePictureError]]:
    """As `read_paths`; beside, what was seen goes into the folder `target`, which is made.

    Raises:
        ValueError: the model does not tell what it sees.
        OSError: the folder cannot be made or written to.
    """
    check_sighted(system)
    folder = ready(target, '--explain')
    transform = get_transform(system.hparams['img_size'], rotation=rotation)
    records: list[dict[str, Any]] = []
    try:
        batches = load_batches(paths, lambda path: transform(open_named(path)), batch_size=min(batch_size, AT_ONCE))
        for batch in batches:
            images = [image for _, image in batch if isinstance(image, Tensor)]
            sights = iter(look(system, torch.stack(images), top_k=top_k) if images else [])
            for path, image in batch:
                if isinstance(image, Tensor):
                    sight = next(sights)
                    records.append(_explain(sight, path, folder, number=len(records) + 1, rotation=rotation))
                    yield path, sight.reading
                else:
                    records.append({'path': str(path), 'error': str(image)})
                    yield path, image
    finally:  # what was read before Ctrl-C is shown, too
        write(folder / BOXES, json.dumps(records, ensure_ascii=False, indent=1) + '\n')
        write(folder / PAGE, _page(system, records))


def _explain(sight: Sight, path: Path, folder: Path, *, number: int, rotation: float) -> dict[str, Any]:
    """Draws one picture; returns its record."""
    image = turned(open_named(path), rotation)
    name = f'{number:04d}-{re.sub(r"[^A-Za-z0-9_-]+", "_", path.stem)[:40]}.svg'
    write(folder / name, draw(sight, image))
    return {'path': str(path), 'file': name, **as_record(sight, image)}


def as_record(sight: Sight, image: Image.Image) -> dict[str, Any]:
    """Boxes in pixels of the picture, as it was turned; of CTC the first and last of its frames, too."""
    sides = (image.width, image.height) * 2
    record = {**sight.reading.as_record(), 'width': image.width, 'height': image.height}
    for place, character in enumerate(record['characters']):
        character['box'] = [round(share * side, 2) for share, side in zip(sight.boxes[place], sides, strict=True)]
        if sight.frames:
            character['frames'] = list(sight.runs[place])
    if sight.frames:
        record['num_frames'] = len(sight.frames)
    return record


def _page(system: Recogniser, records: list[dict[str, Any]]) -> str:
    name = system.hparams['name']
    how = ATTENTION
    if isinstance(system.tokenizer, CTCTokenizer):
        how = FRAMES
    elif name == 'vitstr':
        how = LAST_BLOCK
    unread = sum('error' in record for record in records)
    failed = f', {unread} could not be read' if unread else ''
    return page(
        'explain.html',
        title=f'{counted(len(records) - unread, "picture")} read by {escaped(name)}{failed}',
        how=f'{how} {BOXES} has the boxes in pixels.',
        figures='\n'.join(map(_figure, records)),
    )


def _figure(record: dict[str, Any]) -> str:
    if 'error' in record:
        return f'<figure><div class="failed">{escaped(record["error"])}</div></figure>'
    label = f'{escaped(record["text"])}, {percent(record["confidence"])}'
    return (
        f'<figure><img loading="lazy" src="{record["file"]}" alt="{label}">'
        f'<figcaption>{escaped(record["path"])}</figcaption></figure>'
    )
