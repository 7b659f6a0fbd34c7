"""What is measured: systems as the command line asks for them, and the pictures that they are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from strhub.data.labels import LabelRules
from strhub.data.transforms import get_transform
from strhub.engine.bench.options import Options
from strhub.engine.compile import compile_parts
from strhub.engine.configure import key_of
from strhub.models import zoo
from strhub.models.base import BaseSystem
from strhub.tokenizer import CTCTokenizer, Tokenizer

UNLIKELY = -1e4  # a logit
RENDERED = 64  # different words, which larger batches repeat


def build_system(settings: Mapping[str, Any], words: Sequence[str], options: Options) -> BaseSystem:
    """The model of the configuration with random weights; or that of a checkpoint, changed as the words say."""
    torch.manual_seed(options.seed)
    if options.pretrained is None:
        return endless(zoo.build(settings['model']))
    system = zoo.load_from_checkpoint(zoo.as_source(options.pretrained), **changes(settings, words))
    wanted, name = settings['model']['name'], system.hparams['name']
    if wanted != name and not {'model', 'experiment'}.isdisjoint(map(key_of, words)):
        raise ValueError(f'pretrained={options.pretrained} is {name} and not {wanted}: leave out either')
    return system


def build_compared(settings: Mapping[str, Any], words: Sequence[str], options: Options) -> dict[str, BaseSystem]:
    """The models of compare= by name, with random weights, each changed by those words that it has a parameter for."""
    if named := {'model', 'experiment'} & set(map(key_of, words)):
        raise ValueError(f'compare= names the models: leave out {min(named)}=')
    own = changes(settings, words)
    defaults = {name: zoo.hparams(name) for name in options.compared}
    for key in own:
        if not any(key in hparams for hparams in defaults.values()):
            raise ValueError(f'none of {", ".join(defaults)} has a hyper-parameter {key!r}: leave out model.{key}')
    systems = {}
    for name, hparams in defaults.items():
        torch.manual_seed(options.seed)
        chosen = {key: value for key, value in own.items() if key in hparams}
        systems[name] = endless(zoo.create_model(name, **chosen))
    return systems


@torch.no_grad()
def endless(system: BaseSystem) -> BaseSystem:
    """Random weights end a word by chance, here or there; now they never do, and all models read to the longest."""
    tokenizer = system.tokenizer
    if isinstance(tokenizer, Tokenizer):
        classes = len(tokenizer), len(tokenizer) - 2  # some models have [B] and [P] among them
        for module in system.modules():
            if isinstance(module, nn.Linear) and module.out_features in classes and module.bias is not None:
                module.bias[tokenizer.eos_id] = UNLIKELY
    return system


def changes(settings: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """The hyper-parameters that the words themselves set."""
    keys = [key_of(word) for word in words]
    names = [key.partition('.')[2] for key in keys if key.startswith('model.')]
    if 'charset' in keys:
        names += ['charset_train', 'charset_test']
    return {name: settings['model'][name] for name in names if name in settings['model']}


def prepare(system: BaseSystem, options: Options) -> BaseSystem:
    """On the device, ready to read."""
    system.eval().to(options.device)
    lay_out(system, options)
    return system


def lay_out(system: BaseSystem, options: Options) -> None:
    """As the options have it: channels last, compiled."""
    if options.channels_last:
        system.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if options.compile and not compile_parts(system, options.device, only_reads=not options.trains):
        raise ValueError('compile=true: torch cannot compile here, as said above, so there is nothing to measure')


def check_lengths(system: BaseSystem, options: Options) -> None:
    """Refuses a length of words where the model has no such thing."""
    name, longest = system.hparams['name'], system.hparams['max_label_length']
    asked = 'range=true' if options.sweeps_length else f'max_length={options.max_length}'
    if not options.sweeps_length and options.max_length is None:
        return
    if isinstance(system.tokenizer, CTCTokenizer):
        raise ValueError(f'{name} reads every column of the picture, so its output has one length: leave out {asked}')
    if options.max_length is not None and options.max_length > longest:
        raise ValueError(f'max_length is {options.max_length}: {name} reads at most {longest} characters')


def pictures(system: BaseSystem, options: Options) -> Tensor:
    """Images (N, 3, H, W): of rendered words for a trained model, which stops reading where they end; else noise."""
    img_size = system.hparams['img_size']
    count = max(options.batch_sizes)
    if options.pretrained is None:
        generator = torch.Generator().manual_seed(options.seed)
        return torch.rand(count, 3, *img_size, generator=generator) * 2 - 1
    from strhub.data.synth import RenderedDataset

    charset = system.hparams['charset_train']
    rules = LabelRules(charset, system.hparams['max_label_length'], normalize_unicode=charset.isascii())
    words = RenderedDataset(rules, get_transform(img_size), seed=options.seed, warmup=0)
    return torch.stack([words[index][0] for index in range(min(count, RENDERED))])
