"""A file of weights -> tensors and hyper-parameters, or one sentence that says what the file is instead."""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from strhub.models.reader import Recogniser

WEIGHTS, CONFIG = 'model.safetensors', 'config.json'  # of a model that is a folder, as on Hugging Face's hub
ACCEPTED = 'give a .ckpt of Lightning, published weights (.pt) or .safetensors'
MAX_SHARED = 4  # tensors may be views of the same bytes, as tied weights are; not of a few ones a million times
LEGACY_MAGIC = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'  # what torch.save wrote before torch 1.6
SIGNATURES = {
    b'\x89PNG': 'a picture (PNG)',
    b'\xff\xd8\xff': 'a picture (JPEG)',
    b'GIF8': 'a picture (GIF)',
    b'BM': 'a picture (BMP)',
    b'RIFF': 'a picture (WebP) or a sound',
    b'%PDF': 'a PDF document',
    b'\x1f\x8b': 'a gzip archive: unpack it first',
    b'\x89HDF': 'an HDF5 file of another framework',
    b'version https://git-lfs': 'a pointer of Git LFS: run `git lfs pull` to get the file itself',
}


@dataclass(frozen=True)
class Checkpoint:
    """What a file of weights holds.

    Attributes:
        state_dict: keys as the network names them, i.e. without the `model.` of the system around it.
        hparams: the system's hyper-parameters, or None where the file holds weights only.
    """

    path: Path
    state_dict: dict[str, Tensor]
    hparams: dict[str, Any] | None


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a Lightning .ckpt, a state dict (.pt), .safetensors or a folder with such and a config.json.

    Runs no code that is in them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is something else, or damaged.
    """
    path = Path(path)
    if is_model_folder(path):
        return _read_folder(path)
    if path.is_dir():
        files = sorted(file.name for file in path.iterdir() if file.suffix in ('.ckpt', '.pt', '.safetensors'))
        inside = f'give one of the files in it: {", ".join(files[:5])}' if files else ACCEPTED
        raise ValueError(f'{path} is a folder: {inside}')
    if not path.is_file():
        raise FileNotFoundError(f'there is no file {path}: {ACCEPTED}, or pretrained=NAME')
    with path.open('rb') as stream:
        head = stream.read(512)
    if head.startswith(b'PK\x03\x04') or head.startswith(LEGACY_MAGIC):
        content, hparams = _read_torch(path, head), None
        if isinstance(content, Mapping) and isinstance(content.get('state_dict'), Mapping):
            hparams, content = content.get('hyper_parameters'), content['state_dict']
    elif head[8:9] == b'{':
        content, hparams = _read_safetensors(path)
    else:
        raise ValueError(f'{path} is {_describe(path, head)}; {ACCEPTED}')
    return Checkpoint(path, _state_dict(path, content), _hparams(path, hparams))


def save_safetensors(system: Recogniser, path: str | Path) -> None:
    """Writes the weights and hyper-parameters of a system, all that `load_from_checkpoint` needs."""
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in system.state_dict().items()}
    save_file(tensors, str(path), metadata={'format': 'pt', 'hparams': json.dumps(dict(system.hparams))})


def is_model_folder(path: str | Path) -> bool:
    """Whether a folder is meant to be a model: it has weights or a configuration under the hub's names for them."""
    return any(Path(path, name).is_file() for name in (WEIGHTS, CONFIG))


def _read_folder(path: Path) -> Checkpoint:
    for name in (WEIGHTS, CONFIG):
        if not (path / name).is_file():
            raise ValueError(
                f'{path} has no {name}: a folder of a model needs {WEIGHTS} and {CONFIG}; package it again'
            )
    try:
        config = json.loads((path / CONFIG).read_text('utf-8'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path / CONFIG} is damaged ({_first_line(error)}); copy or package it again') from None
    hparams = _hparams(path / CONFIG, config)
    if hparams is None or 'name' not in hparams:
        raise ValueError(f'{path / CONFIG} names no model of strhub: a folder that `strhub package` wrote is accepted')
    weights, _ = _read_safetensors(path / WEIGHTS)
    return Checkpoint(path, _state_dict(path / WEIGHTS, weights), hparams)


def _read_torch(path: Path, head: bytes) -> Any:
    """Reads what torch.save wrote: a zip archive, or the pickle of old; only tensors and plain Python are built."""
    if not head.startswith(LEGACY_MAGIC):
        _check_archive(path)
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # a damaged file fails in any way that reading one can
        foreign = re.search(r'GLOBAL (\S+)', str(error))
        if foreign is None:
            raise ValueError(f'{path} is damaged ({_first_line(error)}); copy or download it again') from None
    raise ValueError(
        f'{path} holds Python objects ({foreign[1]}), not just weights, and reading those could run any code; '
        'save model.state_dict() or use save_safetensors where it was made'
    )


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition('/')[2] for name in archive.namelist()}
            unpacked = sum(member.file_size for member in archive.infolist())
    except Exception:  # the table of contents is at the end
        raise ValueError(f'{path} is damaged: the end of the file is missing; copy or download it again') from None
    if 'data.pkl' not in names:
        raise ValueError(f'{path} is a zip archive, but not one of torch.save; {ACCEPTED}')
    if 'constants.pkl' in names:
        raise ValueError(f'{path} is a TorchScript program, which cannot be turned back into a model; {ACCEPTED}')
    if unpacked > path.stat().st_size:  # torch.save packs nothing, so this was made to fill the memory
        raise ValueError(
            f'{path} is packed: its {path.stat().st_size} bytes would become {unpacked} in memory; {ACCEPTED}, as saved'
        )


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    try:
        with safe_open(path, framework='pt') as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no dict)
        return tensors, json.loads(metadata['hparams']) if 'hparams' in metadata else None
    except Exception as error:  # safetensors has an error class of its own, which derives from Exception
        raise ValueError(
            f'{path} is a damaged .safetensors file ({_first_line(error)}); copy or download it again'
        ) from None


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f'{path} holds {_kind(content)}, not the weights of a model; {ACCEPTED}')
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ValueError(f'{path} holds {_kind(value)} under {key!r}, not just weights; {ACCEPTED}')
        if value.is_meta or value.is_quantized or value.is_complex() or value.layout != torch.strided:
            raise ValueError(
                f'{path} holds {key!r} in a form that no model here has (sparse, quantized, complex, or without '
                f'values); {ACCEPTED}'
            )
    claimed = sum(math.prod(value.shape) * value.element_size() for value in content.values())
    if claimed > MAX_SHARED * path.stat().st_size:
        raise ValueError(
            f'{path} is of {path.stat().st_size} bytes, but its tensors claim {claimed} by using the same ones again '
            f'and again; {ACCEPTED}, as saved'
        )
    if all(key.startswith('model.') for key in content):
        return {key.removeprefix('model.'): value for key, value in content.items()}
    return dict(content)


def _hparams(path: Path, hparams: Any) -> dict[str, Any] | None:
    if hparams is None:
        return None
    if not isinstance(hparams, Mapping) or not all(isinstance(key, str) for key in hparams):
        raise ValueError(f'{path} holds {_kind(hparams)} in place of hyper-parameters; {ACCEPTED}')
    # The original's may hold keys of Hydra, which say how to build a system, not what it is.
    return {key: value for key, value in hparams.items() if not key.startswith('_')}


def _describe(path: Path, head: bytes) -> str:
    """What a file is, judged by its first bytes."""
    if not head:
        return 'empty'
    for signature, kind in SIGNATURES.items():
        if head.startswith(signature):
            return kind
    if path.suffix == '.onnx':
        return 'an ONNX model, which can read (./read.py, ./test.py, strhub.Reader) but not be changed or trained'
    if head.startswith(b'\x80'):
        return 'a pickle that torch.save did not write'
    text = head.lstrip().lower()
    if text.startswith((b'<!doctype', b'<html')):
        return 'a web page, perhaps the error page of a download'
    if not any(byte < 9 for byte in head):
        return 'a text file'
    return 'no file of weights'


def _kind(value: Any) -> str:
    name = type(value).__name__
    return 'nothing' if value is None or value in ({}, []) else f'{"an" if name[0] in "aeiou" else "a"} {name}'


def _first_line(error: Exception) -> str:
    """The cause in few words; torch hides its own behind the advice to trust the file."""
    cause = str(error).rpartition('WeightsUnpickler error:')[2].strip()
    return cause.partition('\n')[0][:120] or type(error).__name__
