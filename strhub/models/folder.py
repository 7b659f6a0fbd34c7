"""A model as a folder in the form of Hugging Face's hub: model.safetensors, config.json and a card, README.md."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from strhub.models.checkpoint import CONFIG, WEIGHTS
from strhub.models.reader import Recogniser

CARD = 'README.md'


def check_target(folder: Path, *, overwrite: bool = False) -> None:
    """Raises unless a model may be written to `folder`.

    Raises:
        FileExistsError: something is there, and it is not to be replaced, or holds more than a model.
    """
    if not folder.name:
        raise FileExistsError(f'{folder} is no name for a folder of a model: give a new one')
    if not folder.exists() and not folder.is_symlink():
        return
    is_ours = folder.is_dir() and not folder.is_symlink()
    others = (
        sorted(file.name for file in folder.iterdir() if file.name not in (WEIGHTS, CONFIG, CARD)) if is_ours else []
    )
    if not is_ours or others:
        what = f'holds {", ".join(others[:3])}' if others else 'is no folder of its own'
        raise FileExistsError(f'{folder} {what}, which is not replaced: give another name, or move that away')
    if not overwrite:
        raise FileExistsError(f'{folder} is there already: give another name, or replace it with --overwrite')


def save_folder(
    system: Recogniser, folder: str | Path, *, card: str, half: bool = False, overwrite: bool = False
) -> None:
    """Writes weights, hyper-parameters and card, beside and then renamed: `folder` is whole, as before, or absent.

    Args:
        system: its tensors keep their names, and their bits unless `half` is wanted.
        folder: a new one, or with `overwrite` one that such a model is in.
        card: the text of README.md.
        half: round the weights to float16; they are computed with in float32 all the same.

    Raises:
        FileExistsError: see `check_target`.
        OSError: no folder can be made there.
        ValueError: a weight that float16 has no number for.
    """
    folder = Path(folder)
    check_target(folder, overwrite=overwrite)
    hparams = dict(system.hparams)
    tensors = {key: _saved(key, value, half=half) for key, value in system.state_dict().items()}
    partial, old = (folder.with_name(f'.{folder.name}.{what}') for what in ('part', 'old'))
    if old.exists() and not folder.exists():  # a run was killed between the two renames
        old.rename(folder)
        check_target(folder, overwrite=overwrite)
    for rest in (partial, old):
        shutil.rmtree(rest, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OSError(f'{folder} cannot be made ({reason}): give another name') from None
    try:
        metadata = {'format': 'pt', 'hparams': json.dumps(hparams)}  # so that the file is enough by itself
        save_file(tensors, str(partial / WEIGHTS), metadata=metadata)
        (partial / CONFIG).write_text(json.dumps(hparams, indent=2, ensure_ascii=False) + '\n', 'utf-8')
        (partial / CARD).write_text(card, 'utf-8', errors='backslashreplace')
        shutil.copymode(partial / CONFIG, partial / WEIGHTS)  # which safetensors lets nobody else read
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        for rest in (partial, old):
            shutil.rmtree(rest, ignore_errors=True)


def _saved(key: str, value: Tensor, *, half: bool) -> Tensor:
    value = value.detach().cpu()
    if half and value.is_floating_point():
        rounded = value.half()
        if not torch.equal(rounded.isfinite(), value.isfinite()):
            raise ValueError(f'{key} holds numbers beyond the range of float16: leave out --fp16')
        value = rounded
    return value.contiguous().clone()
