"""Runs a system against the golden numbers of its family."""

import copy
import warnings

import numpy as np
import pytest
import torch
from parity import Golden, fill, images

from strhub.models.base import BaseSystem


def system_of(cls: type[BaseSystem], golden: Golden, name: str) -> BaseSystem:
    """The published size of a model, filled by the rule, in eval mode and float64."""
    hparams = {key: value for key, value in golden.facts[name]['hparams'].items() if not key.startswith('_')}
    return fill(cls(**hparams).double()).eval()


def assert_same_state(system: BaseSystem, golden: Golden, name: str) -> None:
    shapes = {key.removeprefix('model.'): tuple(tensor.shape) for key, tensor in system.state_dict().items()}
    assert shapes == golden.shapes[name]
    assert list(shapes) == list(golden.shapes[name])
    assert sum(parameter.numel() for parameter in system.parameters()) == golden.facts[name]['params']
    assert len(system.tokenizer) == golden.facts[name]['tokenizer_len']


def assert_same_logits(system: BaseSystem, golden: Golden, case: str, *, atol: float) -> None:
    """Compares with the float64 answers, whatever the precision of the system."""
    expected = golden.arrays(case)['logits_f64']
    # The published networks do not stop where words end, as TRBA does here unless it is told how long to go on.
    max_length = golden.logits[case].get('max_length', system.hparams['max_label_length'])
    with torch.inference_mode():
        logits = system(images(2, dtype=system.dtype), max_length)
    torch.testing.assert_close(logits.double(), expected, rtol=0, atol=atol)
    assert torch.equal(logits.argmax(-1), expected.argmax(-1))


def approx(expected: object) -> object:
    return pytest.approx(expected, rel=1e-9)


def assert_same_step(system: BaseSystem, golden: Golden, case: str) -> None:
    """Compares the loss and, of a training step, the gradient's norm and those of all parameters, in float64."""
    expected, labels = golden.train[case], golden.extra['labels']
    batch = (images(len(labels)), labels)
    if case.endswith('val_loss'):
        with torch.inference_mode():
            logits, loss, numel = system.eval().forward_logits_loss(*batch)
        assert {'loss_numel': numel, 'logits_shape': list(logits.shape)} == expected['f64']['parts']
        assert loss.item() == approx(expected['f64']['loss'])
        return
    system = copy.deepcopy(system).train()  # a training step moves the batch norms' running statistics
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # nothing to log to without a trainer
        loss = system.training_step(batch, 0)
    loss.backward()
    norms = {name.removeprefix('model.'): float(p.grad.norm()) for name, p in system.named_parameters()}
    assert loss.item() == approx(expected['f64']['loss'])
    assert norms == approx(expected['grad_norm_per_param_f64'])
    assert np.linalg.norm(list(norms.values())) == approx(expected['f64']['grad_norm'])
    assert min(norms.values()) > 0
