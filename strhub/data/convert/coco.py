"""JSON in the style of COCO, `images` and `annotations` that name their picture: any such file, and OpenVINO's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from strhub.data.convert.base import Option, SetInfo, Skipped
from strhub.data.convert.parsing import box_xywh, find_file, member, read_json
from strhub.data.convert.regions import AS_STORED, LANGUAGE, Gallery, Page, Region, inside, pages

NAMES = ('utf8_string', 'text', 'transcription')
TEXT_FIELDS = (*NAMES, *(f'attributes.{name}' for name in (*NAMES, 'translation')))
FILES = ('annotations.json', 'annotation.json', '_annotations.coco.json', 'labels.json')
OPENVINO_PARTS = ('train_1', 'train_2', 'train_5', 'train_f', 'validation')


@pages
def coco(root: Path, *, text_field: str = '', images: str = '') -> Iterator[Page | Skipped]:
    """The texts of a file in the style of COCO; `root` is the file, or the folder that holds it."""
    file = root if root.is_file() else find_file(root, *FILES)
    folder = Path(images) if images else file.parent
    if not images and (folder / 'images').is_dir():
        folder /= 'images'
    fields = (text_field,) if text_field else TEXT_FIELDS
    for name, texts in _by_picture(file):
        yield Page(inside(folder, name), name or file.name, [_region(text, fields) for text in texts])


@pages
def openvino(root: Path, *, part: str = 'all') -> Iterator[Page | Skipped]:
    """The texts that OpenVINO's makers marked in pictures of Open Images 5."""
    files = {name: f'text_spotting_openimages_v5_{name}.json' for name in OPENVINO_PARTS if part in ('all', name)}
    find_file(root, *files.values())
    for name, file in files.items():
        if (root / file).is_file():
            gallery = Gallery(root, name, f'openimages_v5/{name}', f'images/{name}')
            for picture, texts in _by_picture(root / file):
                regions = [_region(text, ('attributes.transcription',)) for text in texts]
                yield Page(gallery(PurePosixPath(picture).name), picture or file, regions)


def _by_picture(file: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The name of each picture that has texts, with these; '' for a picture that the file does not name."""
    data = read_json(file, dict)
    images, texts = member(data, 'images', list, file), member(data, 'annotations', list, file)
    by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for text in texts:
        if isinstance(text, dict):
            by_image[str(text.get('image_id'))].append(text)
    for image in images:
        key = str(image.get('id')) if isinstance(image, dict) else ''
        if key in by_image:
            yield str(image.get('file_name', '')), by_image.pop(key)
    for found in by_image.values():
        yield '', found


def _region(text: dict[str, Any], fields: Sequence[str]) -> Region:
    attributes = text.get('attributes')
    if not isinstance(attributes, dict):
        attributes = {}
    illegible = (
        text.get('iscrowd') == 1
        or text.get('ignore') in (1, True)
        or text.get('legibility') == 'illegible'
        or attributes.get('legible') in (False, 0)
    )
    return Region(
        next((found for field in fields if (found := _field(text, field)) is not None), None),
        _outline(text.get('segmentation')),
        box_xywh(text.get('bbox')),
        str(attributes.get('language', text.get('language', ''))),
        'illegible' if illegible else '',
        ordered=False,
    )


def _field(text: Any, path: str) -> Any:
    """What is at `attributes.text`, None if nothing is."""
    for key in path.split('.'):
        text = text.get(key) if isinstance(text, dict) else None
    return text


def _outline(segmentation: Any) -> Any:
    """The one polygon of a segmentation; several, or a mask, say no more than the box, and are None."""
    if not isinstance(segmentation, list) or not segmentation:
        return None
    if not isinstance(segmentation[0], list):
        return segmentation  # points without the list around them
    return segmentation[0] if len(segmentation) == 1 else None


SETS = {
    'coco': SetInfo(
        coco,
        title='any JSON in the style of COCO whose annotations have a text',
        download=('nothing: this is a file of your own',),
        home='your own',
        licence='your own',
        layout="""\
SRC is the JSON file, or a folder with annotations.json, annotation.json, _annotations.coco.json or labels.json:
  {"images": [{"id": 1, "file_name": "a.jpg"}],
   "annotations": [{"image_id": 1, "bbox": [left, top, width, height], "segmentation": [[x1, y1, …]], "text": "…"}]}
the text is utf8_string, text, transcription, or one of these or translation in attributes, or in --text_field;
pictures beside it, in images/ beside it, or in the folder of --images; an outline with 4 corners counts more than
the box; iscrowd, ignore, "legibility": "illegible" and "legible": false mark what cannot be read""",
        language='any',
        options=(
            Option('text_field', '', 'where the text is, as attributes.text (default: wherever is usual)'),
            Option('images', '', 'folder of the pictures'),
            LANGUAGE,
            AS_STORED,
        ),
        example='marked/instances.json data/train/real/mine --images marked/photos --text_field attributes.text',
    ),
    'openvino': SetInfo(
        openvino,
        title='text in Open Images 5, marked by the makers of OpenVINO',
        download=(
            'text_spotting_openimages_v5_{train_1,train_2,train_5,train_f,validation}.json',
            '{train_1,train_2,train_5,train_f,validation}.tar.gz, pictures: s3://open-images-dataset/tar/',
        ),
        home='https://storage.openvinotoolkit.org/repositories/openvino_training_extensions/datasets/open_images_v5_text/',
        licence='of the annotations: unknown, others who pass them on say Apache 2.0; the pictures are CC BY 2.0',
        layout="""\
SRC/text_spotting_openimages_v5_train_1.json    of these, any number
SRC/train_1/0a1b2c3d4e5f6071.jpg
SRC/validation/…""",
        counts='about 200,000 pictures with about 2 million texts, illegible ones included',
        language='English, some others',
        options=(
            Option('part', 'all', 'one file only', ('all', *OPENVINO_PARTS)),
            LANGUAGE,
            AS_STORED,
        ),
        example='OpenImages data/train/real/OpenVINO',
    ),
}
