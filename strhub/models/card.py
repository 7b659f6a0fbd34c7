"""The card of a model: what it reads, how well, how it was trained, and what it is not for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from strhub.charset import PRINTABLE

LICENCE = re.compile(r'[A-Za-z0-9][A-Za-z0-9.+-]*')
UNKNOWN = 'unknown'  # the hub's word for it
TAGS = ('ocr', 'scene-text-recognition', 'text-recognition', 'strhub', 'pytorch_model_hub_mixin')
TRAINING = ('batch_size', 'lr', 'warmup_pct', 'weight_decay')


def check_licence(licence: str) -> str:
    """Returns `licence` if it can be an identifier of the hub."""
    if not LICENCE.fullmatch(licence):
        raise ValueError(f'{licence!r} is no identifier of a licence: give one as the hub has them, e.g. apache-2.0')
    return licence.lower()


def model_card(
    hparams: Mapping[str, Any],
    *,
    licence: str = UNKNOWN,
    title: str | None = None,
    evaluation: str = '',
    recipe: Sequence[str] = (),
    half: bool = False,
    tested_before: bool = False,
) -> str:
    """The text of README.md.

    Args:
        hparams: all of the model's.
        licence: an identifier of the hub.
        title: the heading; default: the model's name.
        evaluation: Markdown, with tables; where there is none the card says that nothing was measured.
        recipe: sentences on the training besides the hyper-parameters.
        half: whether the weights are float16.
        tested_before: whether the evaluation is of the weights as they were before they were rounded.
    """
    name = hparams['name']
    front = [
        '---',
        f'license: {check_licence(licence)}',
        'library_name: strhub',
        'pipeline_tag: image-to-text',
        'tags:',
    ]
    front += [f'- {tag}' for tag in (*TAGS, name)] + ['---']
    if evaluation and tested_before:
        evaluation += '\n\nMeasured before the weights were rounded.'
    parts = [
        '\n'.join(front),
        f'# {title or name}',
        f'{_purpose(hparams)}{" The weights are rounded to float16." if half else ""}',
        f'## How to use it\n\n{_usage(hparams)}',
        f'## How well it reads\n\n{evaluation or "Nothing was measured on this model: `strhub test DIR` does."}',
        f'## How it was trained\n\n{_recipe(hparams, recipe)}',
        f'## Limits\n\n{_limits(hparams)}',
    ]
    if licence == UNKNOWN:
        parts.append('## Licence\n\nNone was chosen: ask its authors before you use or share this model.')
    return '\n\n'.join(parts) + '\n'


def _purpose(hparams: Mapping[str, Any]) -> str:
    height, width = hparams['img_size']
    return (
        f'A model `{hparams["name"]}` of strhub (scene text recognition): from a picture of a word to its text. It '
        f'knows {_characters(hparams["charset_train"])}, reads words of up to {hparams["max_label_length"]} of them, '
        f'and sees {height} x {width} pixels (height x width), to which every picture is resized.'
    )


def _characters(charset: str) -> str:
    if charset == PRINTABLE:
        return 'the 94 printable characters of ASCII'
    fence = '`' * (1 + max((len(run) for run in re.findall('`+', charset)), default=0))
    pad = ' ' if charset.startswith('`') or charset.endswith('`') else ''
    return f'{len(charset)} characters, {fence}{pad}{charset}{pad}{fence}'


def _usage(hparams: Mapping[str, Any]) -> str:
    return """`DIR` is this folder.

```sh
strhub read DIR --images word.png
strhub test DIR --sets my_words/
```

```python
import torch
from PIL import Image

from strhub.data.module import SceneTextDataModule
from strhub.models.utils import create_model

model = create_model('DIR').eval()
transform = SceneTextDataModule.get_transform(model.hparams.img_size)
images = transform(Image.open('word.png')).unsqueeze(0)
with torch.inference_mode():
    texts, probabilities = model.tokenizer.decode(model(images).softmax(-1))
```

`config.json` holds the arguments of the model's class and `model.safetensors` its weights, as `PyTorchModelHubMixin`
of `huggingface_hub` has them; `from_pretrained`, `save_pretrained` and `push_to_hub` are methods of the model."""


def _recipe(hparams: Mapping[str, Any], sentences: Sequence[str]) -> str:
    rows = ['| hyper-parameter | value |', '|:---|:---|']
    own = [key for key in sorted(hparams) if key not in (*TRAINING, 'name', 'charset_train', 'charset_test')]
    rows += [f'| {key} | {hparams[key]} |' for key in (*(key for key in TRAINING if key in hparams), *own)]
    note = 'The learning rate is for 256 pictures a step; `config.json` has all hyper-parameters.'
    return '\n\n'.join([*sentences, note, '\n'.join(rows)])


def _limits(hparams: Mapping[str, Any]) -> str:
    charset = hparams['charset_train']
    limits = [
        'One word a picture, upright and from left to right: it finds no text, and reads no lines of several words.',
        f'It answers whatever the picture shows, in its {len(charset)} characters alone, even if it shows no text.',
        'Its confidence is what the network thinks, and is not calibrated: choose a threshold on pictures of your own.',
        'It reads best what is like its training; blurred, tiny, curved or ornate words and other languages it reads '
        'worse. Do not let it decide alone where an error does harm.',
    ]
    if charset.lower() != charset.upper() and charset in (charset.lower(), charset.upper()):
        limits.insert(1, 'It does not tell upper from lower case.')
    return '\n'.join(f'- {limit}' for limit in limits)
