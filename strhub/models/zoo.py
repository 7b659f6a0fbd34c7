"""The models of the hub by name: their classes, hyper-parameters and published weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from strhub.models.adapt import Report, check_weights, load_weights
from strhub.models.checkpoint import is_model_folder, read_checkpoint, save_safetensors
from strhub.models.config import compose, config_dir, did_you_mean, override
from strhub.models.reader import Reader
from strhub.models.weights import BOXED, fetch, in_the_box
from strhub.tokenizer import BaseTokenizer, CTCTokenizer, Tokenizer

if TYPE_CHECKING:
    from strhub.models.base import BaseSystem

__all__ = [
    'BOXED',
    'MODELS',
    'Entry',
    'Report',
    'as_source',
    'build',
    'config_dir',
    'create_model',
    'hparams',
    'in_the_box',
    'is_in_the_box',
    'load_from_checkpoint',
    'load_pretrained',
    'load_reader',
    'load_weights',
    'published_name',
    'save_safetensors',
]

logger = logging.getLogger(__name__)

PRETRAINED = 'pretrained='

T = TypeVar('T')


def _tokens(charset: str) -> tuple[BaseTokenizer, dict[str, int]]:
    tokenizer = Tokenizer(charset)
    return tokenizer, {'num_tokens': len(tokenizer)}


def _classes(charset: str) -> tuple[BaseTokenizer, dict[str, int]]:
    tokenizer = Tokenizer(charset)
    return tokenizer, {'num_classes': len(tokenizer) - 2}  # [B] and [P] are never predicted


def _classes_and_begin(charset: str) -> tuple[BaseTokenizer, dict[str, int]]:
    tokenizer = Tokenizer(charset)
    return tokenizer, {'num_classes': len(tokenizer), 'bos_id': tokenizer.bos_id}


def _ctc(charset: str) -> tuple[BaseTokenizer, dict[str, int]]:
    tokenizer = CTCTokenizer(charset)
    return tokenizer, {'num_classes': len(tokenizer)}


# Network -> of a charset the tokenizer, and what the network takes from that, by the names of its arguments.
SIZES: dict[str, Callable[[str], tuple[BaseTokenizer, dict[str, int]]]] = {
    'PARSeq': _tokens,
    'ABINet': _classes,
    'CRNN': _ctc,
    'TRBA': _classes_and_begin,
    'TRBC': _ctc,
    'ViTSTR': _classes,
}


@dataclass(frozen=True)
class Entry:
    """All that is needed to use a model; its hyper-parameters are in configs/experiment/<name>.yaml.

    Attributes:
        system: module and class, imported when the model is first used; its network has the same name, in model.py
            beside it.
        weights: the published file, whose name ends in the first digits of its SHA-256; None where there is none.
    """

    system: str
    weights: str | None = None

    def load_class(self) -> type[BaseSystem]:
        module, _, name = self.system.partition(':')
        return getattr(import_module(module), name)

    def load_reader(self, hparams: Mapping[str, Any]) -> Reader:
        """What reads as `load_class()(**hparams)`."""
        module, _, name = self.system.partition(':')
        network = getattr(import_module(f'{module.rpartition(".")[0]}.model'), name)
        return Reader(network, *SIZES[name](hparams['charset_train']), hparams)


MODELS = {
    'parseq': Entry('strhub.models.parseq.system:PARSeq', 'parseq-bb5792a6.pt'),
    'parseq-tiny': Entry('strhub.models.parseq.system:PARSeq', 'parseq_tiny-e7a21b54.pt'),
    'parseq-patch16-224': Entry('strhub.models.parseq.system:PARSeq', 'parseq_small_patch16_224-fcf06f5a.pt'),
    'abinet': Entry('strhub.models.abinet.system:ABINet', 'abinet-1d1e373e.pt'),
    'abinet-sv': Entry('strhub.models.abinet.system:ABINet'),
    'abinet-lm': Entry('strhub.models.abinet.system:ABINet'),
    'crnn': Entry('strhub.models.crnn.system:CRNN', 'crnn-679d0e31.pt'),
    'crnn-small': Entry('strhub.models.crnn.system:CRNN'),
    'crnn-tiny': Entry('strhub.models.crnn.system:CRNN'),
    'trba': Entry('strhub.models.trba.system:TRBA', 'trba-cfaed284.pt'),
    'trbc': Entry('strhub.models.trba.system:TRBC'),
    'vitstr': Entry('strhub.models.vitstr.system:ViTSTR', 'vitstr-26d0fcf4.pt'),
}


def hparams(name: str, **overrides: Any) -> dict[str, Any]:
    """The hyper-parameters of a model as its experiment sets them, with `overrides`.

    Raises:
        ValueError: an unknown model, an unknown hyper-parameter, or a value of another type.
    """
    return override(compose(_canonical(name)), overrides)


def build(hparams: Mapping[str, Any]) -> BaseSystem:
    """Makes the system that `hparams['name']` names; what else is left out is as in its experiment."""
    return _make(hparams, lambda entry, arguments: entry.load_class()(**arguments))


def build_reader(hparams: Mapping[str, Any]) -> Reader:
    """Makes what reads as the system that `build` makes of `hparams`, without being one."""
    return _make(hparams, lambda entry, arguments: entry.load_reader(arguments))


def _make(hparams: Mapping[str, Any], make: Callable[[Entry, dict[str, Any]], T]) -> T:
    if 'name' not in hparams:
        raise ValueError(f'the hyper-parameters have no name, which says the model: give one of {", ".join(MODELS)}')
    name = _canonical(hparams['name'])
    arguments = override(compose(name), {**hparams, 'name': name})
    try:
        return make(MODELS[name], arguments)
    except (AssertionError, ArithmeticError, RuntimeError) as error:  # of torch: sizes that do not go together
        raise ValueError(f'{name} cannot be made with these hyper-parameters: {error}') from error


def create_model(name: str | Path, pretrained: bool = False, **overrides: Any) -> BaseSystem:
    """Makes a model of the hub.

    Args:
        name: a key of MODELS; `parseq_tiny` is read as `parseq-tiny`. With `pretrained`, also of `in_the_box()`. Or a
            folder that `strhub package` wrote, whose weights the model then has.
        pretrained: with the weights of that name, else with random ones.
        **overrides: hyper-parameters, e.g. `decode_ar=False`. With `pretrained`, another charset_train,
            max_label_length or img_size adapts the weights: see `load_weights`.

    Raises:
        ValueError: an unknown name or hyper-parameter, or no weights of that name.
    """
    if isinstance(name, str | Path) and _hyphened(name) not in MODELS and is_model_folder(name):
        return load_from_checkpoint(name, **overrides)
    if pretrained:
        return load_from_checkpoint(f'{PRETRAINED}{name}', **overrides)
    return build(hparams(str(name), **overrides))


def load_from_checkpoint(source: str | Path, **overrides: Any) -> BaseSystem:
    """Loads a model with its weights.

    Args:
        source: a Lightning .ckpt, published weights (.pt), .safetensors, a folder of `strhub package`, or
            `pretrained=NAME`.
        **overrides: hyper-parameters to change. Another charset_train, max_label_length or img_size adapts the weights
            and logs what was changed; anything else must fit exactly. `name` says which model a file of bare weights is
            for, if neither its name nor its tensors do.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is something else, or does not fit the model.
    """
    trained, state_dict = _read(source, overrides)
    hparams = {**trained, **{key: value for key, value in overrides.items() if key != 'name'}}
    check_weights(_outline(hparams), state_dict, hparams=trained)
    system = build(hparams)
    report = load_weights(system, state_dict, hparams=trained, strict=True)
    if not report.is_exact:
        logger.info('Adapted the weights of %s:\n%s', source, report)
    return system


def load_reader(source: str | Path, **overrides: Any) -> Reader:
    """Loads a model to read with: as `load_from_checkpoint`, but in a fraction of its time."""
    trained, state_dict = _read(source, overrides)
    hparams = {**trained, **{key: value for key, value in overrides.items() if key != 'name'}}
    reader = _outline(hparams)
    forms = {key: (value.shape, value.dtype) for key, value in reader.model.state_dict().items()}
    moves = [key for key in ('charset_train', 'img_size', 'patch_size') if reader.hparams.get(key) != trained.get(key)]
    if not moves and forms == {key: (value.shape, value.dtype) for key, value in state_dict.items()}:
        reader.model.load_state_dict(state_dict, assign=True)
        return reader
    check_weights(reader, state_dict, hparams=trained)
    reader = build_reader(hparams)
    report = load_weights(reader, state_dict, hparams=trained, strict=True)
    if not report.is_exact:
        logger.info('Adapted the weights of %s:\n%s', source, report)
    return reader


def load_pretrained(system: BaseSystem, source: str | Path) -> Report:
    """Starts `system` from the weights of `source` (a path, NAME or pretrained=NAME) as far as they fit."""
    trained, state_dict = _read(as_source(source), system.hparams)
    return load_weights(system, state_dict, hparams=trained)


def as_source(source: str | Path) -> str | Path:
    """What `load_from_checkpoint` takes where NAME alone will do for pretrained=NAME."""
    return f'{PRETRAINED}{source}' if _is_name(source) and not Path(source).exists() else source


def published_name(source: str | Path) -> str | None:
    """NAME of `pretrained=NAME`, as it was written; None of a path, even of a file that is called so."""
    text = str(source)
    return text.removeprefix(PRETRAINED) if text.startswith(PRETRAINED) and not Path(source).exists() else None


def _hyphened(name: object) -> str:
    """`parseq-tiny` of what Python and the hub call `parseq_tiny`."""
    return str(name).replace('_', '-')


def is_in_the_box(name: object) -> bool:
    """Whether strhub brings weights of that name."""
    return _hyphened(name) in in_the_box()


def _is_name(name: object) -> bool:
    return _hyphened(name) in MODELS or is_in_the_box(name)


def _canonical(name: str) -> str:
    """The key of MODELS that `name` is: exactly, or with the underscores of the hub."""
    if (key := _hyphened(name)) in MODELS:
        return key
    if is_in_the_box(key):
        raise ValueError(f'{name} names weights, not a model: write {PRETRAINED}{key}, or pretrained=True in Python')
    raise ValueError(
        f'there is no model {name!r}{did_you_mean(str(name), list(MODELS))}; there are {", ".join(MODELS)}'
    )


def _read(
    source: str | Path, overrides: Mapping[str, Any], called: str | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """All hyper-parameters that the weights of `source` (to the user: `called`) were trained with, and the weights."""
    if (published := published_name(source)) is not None:
        return _read_published(published, overrides)
    if _is_name(source) and not Path(source).exists():
        raise FileNotFoundError(f'there is no file {source}; for the weights of that name write {PRETRAINED}{source}')
    checkpoint = read_checkpoint(source)
    if checkpoint.hparams is None or 'name' not in checkpoint.hparams:
        return _recognise(checkpoint.path, checkpoint.state_dict, overrides), checkpoint.state_dict
    name = _canonical(checkpoint.hparams['name'])
    _check_name(name, overrides, f'{called or source} holds')
    defaults = compose(name)
    if surplus := [key for key in checkpoint.hparams if key not in defaults]:
        if checkpoint.path.is_dir():  # written by us, or damaged
            raise ValueError(f'{source} has in its configuration what {name} does not know: {", ".join(surplus)}')
        logger.warning('%s has hyper-parameters that %s does not know: %s', source, name, ', '.join(surplus))
    known = {key: value for key, value in checkpoint.hparams.items() if key in defaults}
    return override(defaults, {**known, 'name': name}), checkpoint.state_dict


def _read_published(name: str, overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    box = in_the_box()
    if folder := box.get(_hyphened(name)):
        return _read(folder, overrides, called=f'{PRETRAINED}{name}')
    published = [key for key, entry in MODELS.items() if entry.weights]
    if (key := _hyphened(name)) not in published:
        what = f'no published weights of {key}' if key in MODELS else f'no weights {name!r}'
        hint = did_you_mean(name, list(box) if key in MODELS else [*published, *box])
        raise ValueError(
            f'there are {what}{hint}; there are {", ".join(published)}, which are downloaded, and '
            f'{" and ".join(box)}, which strhub brings'
        )
    _check_name(key, overrides, 'these are the weights of')
    return compose(key), read_checkpoint(fetch(str(MODELS[key].weights))).state_dict


def _check_name(name: str, overrides: Mapping[str, Any], what: str) -> None:
    wanted = _canonical(overrides.get('name', name))
    if MODELS[wanted].system != MODELS[name].system:
        raise ValueError(
            f'{what} {name}, which is another network than {wanted}: ask for {name} '
            f'(in training +experiment={name}), or give other weights'
        )


def _recognise(path: Path, state_dict: Mapping[str, Tensor], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Which model a file of bare weights is for: by its published name, as told, or by all its keys and shapes."""
    published = [name for name, entry in MODELS.items() if entry.weights == path.name]
    told = [_canonical(overrides['name'])] if 'name' in overrides else []
    if published:
        _check_name(published[0], overrides, f'{path} holds')
    names = published or told or list(MODELS)
    candidates = [hparams(name) for name in names]
    if len(names) == 1:  # the overrides may tell what the weights were trained with, or what to adapt them to
        candidates.append(hparams(names[0], **{key: value for key, value in overrides.items() if key != 'name'}))
    shapes = {key: value.shape for key, value in state_dict.items()}
    for trained in candidates:
        if _shapes(trained) == shapes:
            return trained
    if len(names) == 1:
        return candidates[-1]  # the strict load says what does not fit
    raise ValueError(
        f'{path} holds weights only, and their {len(shapes)} tensors fit no model of the hub exactly: say which model '
        f"and what it was trained with, e.g. name='parseq', charset_train='…'; there are {', '.join(MODELS)}"
    )


def _shapes(hparams: Mapping[str, Any]) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in _outline(hparams).model.state_dict().items()}


class _NoRandomness(TorchFunctionMode):
    """Draws no weights: in vain where they have no memory, and torch imports its compiler to do so."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_) or getattr(func, '__module__', '') == nn.init.__name__:
            return args[0] if args else kwargs['tensor']
        return func(*args, **(kwargs or {}))


def _outline(hparams: Mapping[str, Any]) -> Reader:
    """A reader whose weights have shapes, but neither values nor memory."""
    with torch.device('meta'), _NoRandomness():
        return build_reader(hparams)
