"""Pictures -> texts, and what is known about each character that was read."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from strhub.data.picture import UnreadablePictureError
from strhub.engine.commandline import Parser, load_system, positive
from strhub.engine.devices import pick_device
from strhub.engine.errors import door
from strhub.engine.images import find_some, load_batches, open_named
from strhub.engine.search.options import ReadingOptions, add_arguments, options_of
from strhub.engine.search.rotate import transform_for
from strhub.models.reader import Recogniser
from strhub.runtime.decode import decode
from strhub.runtime.readings import Reading
from strhub.terminal import plain

EXAMPLES = """\
  read.py pretrained=crnn-small-rendered --images photo.png more/*.jpg
  read.py outputs/crnn/last.ckpt --images words/ --json > readings.jsonl
  read.py last.ckpt --images words/ --top 5 --lexicon streets.txt
  find . -name '*.png' | read.py last.ckpt --images - --batch_size 64
  read.py last.ckpt --images word.png --topk 3
  read.py pretrained=parseq --images words/ refine_iters=2 decode_ar=false"""


def read_images(
    system: Recogniser,
    images: Sequence[Image.Image],
    *,
    top_k: int = 0,
    rotation: float = 0,
    options: ReadingOptions | None = None,
) -> list[Reading]:
    """Reads pictures of words in one batch.

    Args:
        system: any model of the hub, on any device.
        images: pictures of any size and mode.
        top_k: how many alternatives to give for each character.
        rotation: degrees by which to turn the pictures first.
        options: beams, a lexicon, several positions; default: none of them.
    """
    if not images:
        return []
    transform = transform_for(system.hparams['img_size'], options, rotation=rotation)
    return read_batch(system, torch.stack([transform(image) for image in images]), top_k=top_k, options=options)


def read_batch(
    system: Recogniser, images: Tensor, *, top_k: int = 0, options: ReadingOptions | None = None
) -> list[Reading]:
    """Reads images in [-1, 1], (N, 3, H, W) or what `transform_for` makes for the options; see `read_images`."""
    if options is not None:
        from strhub.engine.search.reading import read_with  # which nobody else has to wait for

        return read_with(system, images, options, top_k=top_k)
    probs = system.probabilities(images).cpu().numpy()
    tokenizer = system.tokenizer
    return decode(probs, charset=tokenizer.charset, decoding=tokenizer.decoding, top_k=top_k)


def read_words(system: Recogniser, images: Tensor) -> tuple[list[str], list[float]]:
    """The texts and confidences of `read_batch` alone, which need only a small part of its time."""
    return system.tokenizer.decode_words(system.probabilities(images))


# Files


def read_paths(
    system: Recogniser,
    paths: Iterable[Path],
    *,
    batch_size: int,
    top_k: int = 0,
    rotation: float = 0,
    options: ReadingOptions | None = None,
) -> Iterator[tuple[Path, Reading | UnreadablePictureError]]:
    """Reads any number of files in their order; what cannot be read comes out as its error."""
    transform = transform_for(system.hparams['img_size'], options, rotation=rotation)
    for batch in load_batches(paths, lambda path: transform(open_named(path)), batch_size=batch_size):
        images = [image for _, image in batch if isinstance(image, Tensor)]
        readings = iter(read_batch(system, torch.stack(images), top_k=top_k, options=options) if images else [])
        for path, image in batch:
            yield path, next(readings) if isinstance(image, Tensor) else image


def _lines(path: Path, reading: Reading, *, as_json: bool) -> Iterator[str]:
    if as_json:
        yield json.dumps({'path': str(path), **reading.as_record()}, ensure_ascii=False)
        return
    yield f'{plain(path)}: {plain(reading.text)}  ({100 * reading.confidence:.1f} %)'
    for text, score in reading.readings[1:]:
        yield f'      {plain(text)}  ({100 * score:.1f} %)'
    for place, character in enumerate(reading.characters, 1):
        if character.alternatives:
            yield f'  {place:>3} ' + '  '.join(f'{plain(char)} {100 * p:5.1f} %' for char, p in character.alternatives)


def _parser() -> Parser:
    parser = Parser(
        description='Reads the words in pictures. Exit status: 0 all were read, 1 some were not, 2 none was found.',
        examples=EXAMPLES,
    )
    parser.add_argument(
        '--images', nargs='+', required=True, metavar='PATH', help='files, folders, globs, or - for names on stdin'
    )
    parser.add_argument('--json', action='store_true', help='print one JSON object a line')
    parser.add_argument(
        '--topk', type=positive, default=0, metavar='K', help='show the K best characters of each place'
    )
    parser.add_argument(
        '--explain', metavar='DIR', help='draw where each character was seen: index.html, a .svg each, boxes.json'
    )
    add_arguments(parser)
    return parser


@door
def main(argv: Sequence[str] | None = None) -> None:
    from strhub.engine.explain import explain_paths  # which reads, too

    parser = _parser()
    arguments = parser.parse(argv)
    options = options_of(arguments)
    if options is not None and arguments.explain:
        parser.error('--explain tells of the plain reading: leave it out, or the options of a search')
    if options is not None and options.searches and arguments.topk:
        parser.error('--topk tells of the places of the plain reading: a search gives whole readings, with --top')
    paths = find_some(arguments.images)
    system = load_system(arguments, device=pick_device(arguments.device))
    total = failed = 0
    how = {'batch_size': arguments.batch_size, 'top_k': arguments.topk, 'rotation': arguments.rotation}
    if arguments.explain:
        readings = explain_paths(system, paths, arguments.explain, **how)
    else:
        readings = read_paths(system, paths, **how, options=options)
    for path, reading in readings:
        total += 1
        if isinstance(reading, Reading):
            print(*_lines(path, reading, as_json=arguments.json), sep='\n', flush=True)
        else:
            failed += 1
            print(plain(reading), file=sys.stderr)
    if failed:
        print(f'{failed} of {total} could not be read', file=sys.stderr)
        sys.exit(1)
