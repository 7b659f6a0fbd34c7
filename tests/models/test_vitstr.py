"""ViTSTR: equal to the published network, and safe against misuse."""

from functools import cache
from typing import Any

import pytest
import torch
from parity import fill, golden, images

from strhub.models.vitstr.system import ViTSTR

GOLDEN = golden('vitstr')
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
HPARAMS = {name: value for name, value in GOLDEN.facts['vitstr']['hparams'].items() if not name.startswith('_')}
SMALL = {**HPARAMS, 'charset_train': 'abcdefgh', 'charset_test': 'abcdefgh', 'embed_dim': 48, 'img_size': [16, 64]}


@cache
def build(dtype: torch.dtype, eos_bias: float | None) -> ViTSTR:
    return fill(ViTSTR(**HPARAMS).to(dtype), eos_bias=eos_bias)


def filled(dtype: torch.dtype = torch.float64, eos_bias: float | None = None) -> ViTSTR:
    """A filled system without gradients, in evaluation mode; built once."""
    system = build(dtype, eos_bias).eval()
    system.zero_grad()
    return system


def test_parameters_are_the_published_ones():
    system = ViTSTR(**HPARAMS)
    assert {name: tuple(tensor.shape) for name, tensor in system.model.state_dict().items()} == GOLDEN.shapes['vitstr']
    facts = GOLDEN.facts['vitstr']
    assert sum(p.numel() for p in system.parameters()) == facts['params']
    names = {name for name, _ in system.named_parameters()}
    assert system.no_weight_decay() & names == set(facts['no_weight_decay'][0]) & names


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('case', GOLDEN.logits)
def test_logits_are_the_published_ones(case, dtype):
    spec = GOLDEN.logits[case]
    expected = GOLDEN.arrays(case)['logits_f64']
    with torch.no_grad():
        logits = filled(dtype, spec['eos_bias'])(images(2, dtype=dtype), spec.get('max_length'))
    assert logits.shape == expected.shape
    torch.testing.assert_close(logits.double(), expected, rtol=0, atol=TOLERANCE[dtype])
    assert torch.equal(logits.argmax(-1), expected.argmax(-1))


@pytest.mark.parametrize('case', GOLDEN.train)
def test_losses_and_gradients_are_the_published_ones(case):
    recorded = GOLDEN.train[case]
    system = filled().train(recorded['mode'] == 'train')
    logits, loss, numel = system.forward_logits_loss(images(6), GOLDEN.extra['labels'])
    assert loss.item() == pytest.approx(recorded['f64']['loss'], abs=1e-9)
    if 'parts' in recorded['f64']:
        assert list(logits.shape) == recorded['f64']['parts']['logits_shape']
        assert numel == recorded['f64']['parts']['loss_numel']
    loss.backward()
    norms = {name.removeprefix('model.'): p.grad.norm().item() for name, p in system.named_parameters()}
    expected = {name.removeprefix('model.'): norm for name, norm in recorded['grad_norm_per_param_f64'].items()}
    assert norms == pytest.approx(expected, rel=1e-9, abs=1e-12)


def small(**overrides: Any) -> ViTSTR:
    return fill(ViTSTR(**{**SMALL, **overrides})).eval()


@pytest.mark.parametrize(('max_length', 'positions'), [(None, 26), (0, 1), (7, 8), (25, 26), (99, 26)])
def test_positions(max_length, positions):
    assert small()(images(2, 16, 64, dtype=torch.float32), max_length).shape == (2, positions, 9)


def test_batch_equals_single_and_is_deterministic():
    system = small().double()
    pictures = images(3, 16, 64)
    together = system(pictures)
    assert torch.equal(system(pictures), together)
    torch.testing.assert_close(torch.cat([system(picture[None]) for picture in pictures]), together)


def test_training_reaches_every_parameter():
    system = small().train()
    system.training_step((images(2, 16, 64, dtype=torch.float32), ['abc', 'hh']), 0).backward()
    assert [name for name, p in system.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    ('overrides', 'named'),
    [
        ({'patch_size': [5, 8]}, r'img_size \[16, 64\].*patch_size \[5, 8\]'),
        ({'num_heads': 5}, '48.*5 heads'),
        ({'max_label_length': 32}, 'max_label_length is 32.*32 patches'),
        ({'depth': 12}, 'depth'),
    ],
)
def test_nonsense_is_refused_by_name(overrides, named):
    with pytest.raises(ValueError, match=named):
        ViTSTR(**{**SMALL, **overrides})


def test_wrong_pictures_are_refused():
    with pytest.raises(ValueError, match=r'expected images \(N, 3, 16, 64\), got \(1, 3, 32, 128\)'):
        small()(images(1, dtype=torch.float32))


def test_hyper_parameters_are_kept_flat_and_plain():
    assert dict(ViTSTR(**SMALL).hparams) == SMALL
