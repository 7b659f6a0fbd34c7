"""CRNN: the published numbers, and its sizes."""

import copy
import math

import pytest
import torch
from parity import golden
from published import assert_same_logits, assert_same_state, assert_same_step, system_of

from strhub.models.crnn.model import CRNN as Network  # noqa: N811
from strhub.models.crnn.system import CRNN

GOLDEN = golden('crnn')


@pytest.fixture(scope='module')
def system() -> CRNN:
    return system_of(CRNN, GOLDEN, 'crnn')


def small(**options: object) -> Network:
    return Network(11, **{'img_size': [32, 64], 'hidden_size': 16, 'leaky_relu': False, 'width': 0.125, **options})


def test_state_is_the_published_one(system: CRNN) -> None:
    assert_same_state(system, GOLDEN, 'crnn')


@pytest.mark.parametrize('case', GOLDEN.logits)
def test_logits_are_the_published_ones(system: CRNN, case: str) -> None:
    assert_same_logits(system, GOLDEN, case, atol=1e-9)


@pytest.mark.parametrize('case', GOLDEN.logits)
def test_single_precision_logits_are_the_published_ones(system: CRNN, case: str) -> None:
    assert_same_logits(copy.deepcopy(system).float(), GOLDEN, case, atol=1e-5)


@pytest.mark.parametrize('case', GOLDEN.train)
def test_steps_are_the_published_ones(system: CRNN, case: str) -> None:
    assert_same_step(system, GOLDEN, case)


@pytest.mark.parametrize('max_length', [None, 0, 3, 99])
def test_max_length_leaves_all_columns_to_ctc(max_length: int | None) -> None:
    network, images = small().eval(), torch.rand(2, 3, 32, 64)
    torch.testing.assert_close(network(images, max_length), network(images), rtol=0, atol=0)


@pytest.mark.parametrize('width', [4, 7, 64, 100, 203])
def test_a_column_is_four_pixels_wide(width: int) -> None:
    assert small()(torch.rand(2, 3, 32, width)).shape == (2, width // 4 + 1, 11)


@pytest.mark.parametrize('height', [32, 47])
def test_heights_that_leave_one_row(height: int) -> None:
    assert small(img_size=[height, 64])(torch.rand(2, 3, height, 64)).shape == (2, 17, 11)


@pytest.mark.parametrize('img_size', [[31, 128], [48, 128], [64, 128], [32, 3], [128, 32]])
def test_other_sizes_are_refused(img_size: list[int]) -> None:
    with pytest.raises(ValueError, match=r'height of 32 to 47.*\[32, 128\]'):
        small(img_size=img_size)


def test_pictures_of_another_height_are_refused() -> None:
    with pytest.raises(ValueError, match=r'\(N, 3, 32, 64\)'):
        small()(torch.rand(2, 3, 64, 64))


def test_width_scales_the_convolutions_alone() -> None:
    sizes = {width: sum(p.numel() for p in small(width=width).cnn.parameters()) for width in (0.25, 0.5, 1)}
    assert sizes[1] == GOLDEN.facts['crnn']['params_by_module']['model.cnn']
    assert 3.9 < sizes[1] / sizes[0.5] < 4.1
    assert 3.9 < sizes[0.5] / sizes[0.25] < 4.1
    for width in (0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f'width is {width}'):
            small(width=width)


def test_batch_norm_all_normalises_every_convolution() -> None:
    def norms(network: Network) -> int:
        return sum(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())

    assert norms(small()) == 3
    assert norms(small(batch_norm_all=True)) == 7


def test_leaky_relu_lets_negative_values_through() -> None:
    images = torch.rand(2, 3, 32, 64)
    assert small().cnn(images).min() == 0
    assert small(leaky_relu=True).cnn(images).min() < 0
