"""compile=true: the same answers, or a sentence and what there was before."""

import copy
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from strhub.engine.compile import compile_parts
from strhub.models.base import BaseSystem
from strhub.models.utils import create_model

CPU = torch.device('cpu')

SMALL = {
    'abinet': {'d_model': 32, 'nhead': 2, 'd_inner': 64, 'v_num_layers': 1, 'l_num_layers': 1},
    'trba': {'hidden_size': 16, 'output_channel': 32, 'num_fiducial': 8},
    'trbc': {'hidden_size': 16, 'output_channel': 32, 'num_fiducial': 8},
    'crnn': {'hidden_size': 16, 'width': 0.125},
}
PARTS = {'abinet': 'vision', 'trba': 'FeatureExtraction', 'trbc': 'FeatureExtraction', 'crnn': ''}  # '': all


def small(name: str) -> BaseSystem:
    return create_model(name, **SMALL[name]).eval()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, dict[str, Any]]]:
    """What torch.compile is asked to compile, and how. In its place stands a tracer, which needs no compiler."""
    seen: list[tuple[object, dict[str, Any]]] = []
    compile_with = torch.compile

    def trace(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        seen.append((getattr(function, '__self__', function), options))
        return compile_with(function, backend='eager')

    monkeypatch.setattr(torch, 'compile', trace)
    return seen


@pytest.fixture
def system():
    return create_model('parseq-tiny', embed_dim=48, enc_num_heads=2, dec_num_heads=2, enc_depth=1).eval()


def test_it_changes_no_answer(system):
    images = torch.rand(3, 3, 32, 128)
    names, before = list(system.state_dict()), system.probabilities(images)
    assert compile_parts(system, CPU)
    compiled = system.probabilities(images)
    torch.testing.assert_close(compiled, before, rtol=1e-4, atol=1e-6)
    assert list(system.state_dict()) == names
    twin = copy.deepcopy(system)  # as averaging makes them: of other weights, so not with this one's code
    with torch.no_grad():
        twin.model.encoder.norm.weight.mul_(2)
    assert not torch.allclose(twin.probabilities(images), compiled)
    torch.testing.assert_close(system.probabilities(images), compiled)


def test_without_a_compiler_it_says_so_and_goes_on(system, monkeypatch, caplog):
    def fail(_):
        raise RuntimeError('no C++ compiler found')

    monkeypatch.setattr(torch, 'compile', fail)
    with caplog.at_level(logging.WARNING):
        assert not compile_parts(system, CPU)
    assert 'torch cannot compile here (no C++ compiler found); going on without' in caplog.text
    assert system.probabilities(torch.rand(1, 3, 32, 128)).shape == (1, 26, 95)


@pytest.mark.parametrize('name', PARTS)
def test_it_compiles_what_does_not_vary_and_nothing_else(name: str, calls: list[tuple[object, dict[str, Any]]]) -> None:
    system, images = small(name), torch.rand(3, 3, 32, 128)
    before = system.probabilities(images)
    part = system.model.get_submodule(PARTS[name])
    ran: list[nn.Module] = []
    part.register_forward_hook(lambda module, *_: ran.append(module))
    assert compile_parts(system, CPU)
    (_, probe), (compiled, options) = calls
    assert compiled is part
    assert probe == {}
    assert options == {'mode': None}
    torch.testing.assert_close(system.probabilities(images), before, rtol=0, atol=1e-6)
    assert ran == [part]


@pytest.mark.parametrize('name', ['abinet', 'trba', 'trbc'])
def test_its_gradients_are_those_of_the_whole(name: str, calls: list[tuple[object, dict[str, Any]]]) -> None:
    def gradients(system: BaseSystem) -> list[Tensor | None]:
        _, loss, _ = system.double().forward_logits_loss(torch.rand(2, 3, 32, 128).double(), ['ab', 'c'])
        loss.backward()
        return [parameter.grad for parameter in system.parameters()]

    systems = small(name), small(name)
    systems[1].load_state_dict(systems[0].state_dict())
    assert compile_parts(systems[1], CPU)
    found = []
    for system in systems:
        torch.manual_seed(1)
        found.append(gradients(system))
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('name', PARTS)
def test_none_of_them_needs_a_compiler(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError('no C++ compiler found')

    monkeypatch.setattr(torch, 'compile', fail)
    system, images = small(name), torch.rand(2, 3, 32, 128)
    before = system.probabilities(images)
    with caplog.at_level(logging.WARNING):
        assert not compile_parts(system, CPU)
    (message,) = caplog.messages
    assert message == 'compile=true: torch cannot compile here (no C++ compiler found); going on without'
    torch.testing.assert_close(system.probabilities(images), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ('device', 'only_reads', 'mode'),
    [
        ('cuda', True, 'reduce-overhead'),
        ('cuda:1', True, 'reduce-overhead'),
        ('cuda', False, None),
        ('cpu', True, None),
        ('cpu', False, None),
        ('mps', True, None),
    ],
)
@pytest.mark.parametrize('name', PARTS)
def test_a_gpu_that_only_reads_replays_graphs(
    name: str, device: str, only_reads: bool, mode: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []

    def record(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        seen.append(options)
        return function

    monkeypatch.setattr(torch, 'compile', record)
    monkeypatch.setattr(torch, 'zeros', lambda *_, **__: torch.ones(1))  # there need be no such device
    assert compile_parts(small(name), torch.device(device), only_reads=only_reads)
    assert seen == [{}, {'mode': mode}]
