"""compile=true: the same answers, or a sentence and what there was before."""

import copy
import logging

import pytest
import torch

from strhub.engine.compile import compile_parts
from strhub.models.utils import create_model

CPU = torch.device('cpu')


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
