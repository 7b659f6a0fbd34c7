"""Golden numbers: weights and pictures made from a rule, and what the published networks answer with them.

The full set lies in ../shared/parity and is used where it exists; a part of it is committed in `tests/golden`, one
`<family>.json` and one `<family>.npz` for each family of models. `python tests/parity.py FAMILY CASE...` writes both
from the full set.
"""

from __future__ import annotations

import json
import sys
import zlib
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

COMMITTED = Path(__file__).parent / 'golden'
FULL = Path(__file__).parents[2] / 'shared' / 'parity'
FAMILIES = {'parseq': ('parseq',), 'vitstr': ('vitstr',), 'abinet': ('abinet',), 'crnn': ('crnn',), 'trba': ('trb',)}

# Classes from 1 on are characters, class 0 is [E]: a bias on it makes a network end its words early.
HEADS = ('head.weight', 'generator.weight', '.cls.weight', 'Prediction.weight', 'rnn.1.linear.weight')
HEAD_BIASES = ('head.bias', 'vision.cls.bias', 'alignment.cls.bias', 'Prediction.generator.bias')
COMPUTED_BY_CONSTRUCTOR = ('.pe', 'inv_delta_C', 'P_hat')
ABINET_GAINS = {
    'vision.attention.project.weight': 24.0,
    'vision.attention.k_decoder.3.1.weight': 4.0,
    'attention.w0.weight': 3.0,
    'attention.wv.weight': 0.7,
    'attention.we.weight': 8.0,
    'backbone.resnet': 0.75,
    '.multihead_attn.in_proj_weight': 1.6,
    'alignment.w_att.weight': 3.0,
}

Network = TypeVar('Network', bound=nn.Module)


def noise(key: str, count: int, salt: int = 0) -> np.ndarray:
    """Hashes (key, salt, index) with splitmix64 to `count` float64 numbers in [-1, 1)."""
    u64 = np.uint64
    seed = u64((zlib.crc32(key.encode()) << 32) + salt)
    with np.errstate(over='ignore'):
        z = seed + np.arange(1, count + 1, dtype=u64) * u64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> u64(30))) * u64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> u64(27))) * u64(0x94D049BB133111EB)
        z ^= z >> u64(31)
    return (z >> u64(11)).astype(np.float64) * 2.0**-52 - 1.0


def fiducials(count: int) -> np.ndarray:
    """(count,) a slanted start for TRBA's control points, so that rectifying changes the picture."""
    x = np.linspace(-1, 1, count // 4)
    top = np.stack([x, np.linspace(0, -1, len(x))], 1)
    bottom = np.stack([x, np.linspace(1, 0, len(x))], 1)
    return np.concatenate([top, bottom]).reshape(-1)


def gain(key: str, ndim: int) -> float:
    """Standard deviation of a weight times the root of its fan-in."""
    if key.endswith(HEADS):
        return 4.0
    if key.endswith('attention_cell.score.weight'):
        return 6.0
    special = [value for part, value in ABINET_GAINS.items() if part in key]
    return special[0] if special else 1.4 if ndim == 4 else 1.0


def weight(key: str, shape: tuple[int, ...], salt: int = 0) -> np.ndarray | None:
    """Value of the entry `key` (without `model.`) of a state dict; None: keep what the constructor computed."""
    if key.endswith('num_batches_tracked'):
        return np.zeros(shape, np.int64)
    if key.endswith(COMPUTED_BY_CONSTRUCTOR):
        return None
    size = int(np.prod(shape))
    u = noise(key, size, salt).reshape(shape)
    root_fan_in = np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 1.0
    root3 = np.sqrt(3.0)  # root3 * u has standard deviation 1
    if key.endswith('running_var'):
        return 1 + 0.25 * u
    if key.endswith('running_mean'):
        return 0.1 * u
    if key.endswith('localization_fc2.weight'):
        return 0.1 * root3 * u / root_fan_in
    if key.endswith('localization_fc2.bias'):
        return fiducials(size) + 0.05 * u
    if key.split('.')[-1] in ('pos_embed', 'cls_token') or key == 'pos_queries':
        return root3 * u
    if key.endswith('text_embed.embedding.weight'):
        return root3 * u / np.sqrt(shape[1])
    if key.endswith(('char_embeddings.weight', 'f0_embedding.weight')):
        return root3 * u
    if key.endswith('language.proj.weight'):
        return 3 * root3 * u
    if len(shape) >= 2:
        return gain(key, len(shape)) * root3 * u / root_fan_in
    return 1 + 0.1 * u if key.endswith('weight') else 0.1 * u


@torch.no_grad()
def fill(network: Network, *, salt: int = 0, eos_bias: float | None = None) -> Network:
    """Overwrites every parameter and buffer of a network (or system) by the rule; returns it."""
    for name, tensor in network.state_dict().items():
        key = name.removeprefix('model.')
        value = weight(key, tuple(tensor.shape), salt)
        if value is None:
            continue
        if eos_bias is not None and key in HEAD_BIASES:
            value[0] += eos_bias
        tensor.copy_(torch.as_tensor(value).to(tensor.dtype))
    return network


def images(count: int, height: int = 32, width: int = 128, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """(count, 3, height, width) in [-1, 1]: waves and noise."""
    u = noise('images', count * 3 * height * width).reshape(count, 3, height, width)
    n, c, y, x = np.ogrid[:count, :3, :height, :width]
    return torch.from_numpy(0.6 * np.sin(0.05 * (n + 1) * x + 0.21 * y + 1.7 * c) + 0.4 * u).to(dtype)


class Golden:
    """The recorded answers of one family of models.

    Attributes:
        logits: case -> what was run: experiment, salt, eos_bias, kwargs, decode mode, max_length, shape.
        train: case -> loss, gradient norms (`f64`, `f32`, `grad_norm_per_param_f64`).
        extra: entries of train.json that belong to no model (labels, permutations, masks).
        facts: experiment (with underscores) -> parameter counts, hyper-parameters.
        shapes: experiment (with underscores) -> key (without `model.`) -> shape.
    """

    def __init__(self, family: str, *, committed: bool = False) -> None:
        self.family = family
        self.full = FULL.is_dir() and not committed
        data = _read_full(family) if self.full else json.loads((COMMITTED / f'{family}.json').read_text())
        self.logits: dict[str, dict[str, Any]] = data['logits']
        self.train: dict[str, dict[str, Any]] = data['train']
        self.extra: dict[str, Any] = data['extra']
        self.facts: dict[str, dict[str, Any]] = data['facts']
        self.shapes: dict[str, dict[str, tuple[int, ...]]] = {
            name: {key: tuple(shape) for key, shape in shapes.items()} for name, shapes in data['shapes'].items()
        }

    def arrays(self, case: str) -> dict[str, Tensor]:
        """The arrays of a case of `logits`, e.g. 'logits_f64', 'memory_f32'; committed ones are float64 only."""
        if self.full:
            with np.load(FULL / 'logits' / f'{case}.npz') as file:
                return {name: torch.from_numpy(file[name]) for name in file.files}
        with np.load(COMMITTED / f'{self.family}.npz') as file:
            prefix = f'{case}/'
            names = [name for name in file.files if name.startswith(prefix)]
            return {name.removeprefix(prefix): torch.from_numpy(file[name]) for name in names}


@cache
def golden(family: str) -> Golden:
    return Golden(family)


def _read_full(family: str) -> dict[str, Any]:
    def ours(entries: dict[str, Any]) -> dict[str, Any]:
        return {name: entry for name, entry in entries.items() if name.startswith(FAMILIES[family])}

    train = json.loads((FULL / 'train.json').read_text())
    steps = {name: entry for name, entry in train.items() if isinstance(entry, dict) and 'f64' in entry}
    facts = ours(json.loads((FULL / 'state_dict' / '_facts.json').read_text()))
    return {
        'logits': ours(json.loads((FULL / 'logits' / 'index.json').read_text())),
        'train': ours(steps),
        'extra': {name: entry for name, entry in train.items() if name not in steps},
        'facts': facts,
        'shapes': {name: _read_shapes(name) for name in facts if (FULL / 'state_dict' / f'{name}.json').is_file()},
    }


def _read_shapes(name: str) -> dict[str, list[int]]:
    entries = json.loads((FULL / 'state_dict' / f'{name}.json').read_text())
    return {entry['key'].removeprefix('model.'): entry['shape'] for entry in entries}


def write_committed(family: str, cases: list[str]) -> None:
    """Copies the named cases of logits, and all other numbers of the family, into `tests/golden`."""
    source = Golden(family)
    arrays = {
        f'{case}/{name}': array.numpy()
        for case in cases
        for name, array in source.arrays(case).items()
        if not name.endswith('_f32')  # float32 runs are compared with float64 answers
    }
    np.savez_compressed(COMMITTED / f'{family}.npz', **arrays)
    data = {
        'logits': {case: source.logits[case] for case in cases},
        'train': source.train,
        'extra': source.extra if family == 'parseq' else {'labels': source.extra['labels']},
        'facts': source.facts,
        'shapes': source.shapes,
    }
    (COMMITTED / f'{family}.json').write_text(json.dumps(data, separators=(',', ':')))


if __name__ == '__main__':
    write_committed(sys.argv[1], sys.argv[2:])
