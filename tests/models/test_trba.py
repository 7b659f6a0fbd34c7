"""TRBA and TRBC: the published numbers, rectification, and what the attention head feeds back."""

import copy

import pytest
import torch
from parity import golden, images
from published import assert_same_logits, assert_same_state, assert_same_step, system_of
from torch import Tensor

from strhub.models.base import BaseSystem
from strhub.models.trba.model import TRBA as Network  # noqa: N811
from strhub.models.trba.prediction import Attention
from strhub.models.trba.system import TRBA, TRBC
from strhub.models.trba.transformation import GridGenerator, TPSTransformation, edge_points

GOLDEN = golden('trba')
SYSTEMS: dict[str, type[BaseSystem]] = {'trba': TRBA, 'trbc': TRBC}
READINGS = [case for case in GOLDEN.logits if not case.endswith('_parts')]
PARTS = [case for case in GOLDEN.logits if case.endswith('_parts')]

# The spline divides by small numbers: in single precision the original is itself 6e-5 (TRBA) and 3e-4 (TRBC) away from
# its float64 logits, 3e-4 in the rectified picture. Another order of summation may double that.
SINGLE_ATOL = {'trba': 1e-4, 'trbc': 6e-4, 'rectified': 6e-4, 'fiducials': 1e-6}


@pytest.fixture(scope='module')
def systems() -> dict[str, BaseSystem]:
    return {name: system_of(cls, GOLDEN, name) for name, cls in SYSTEMS.items()}


@pytest.fixture(scope='module')
def single_systems(systems: dict[str, BaseSystem]) -> dict[str, BaseSystem]:
    return {name: copy.deepcopy(system).float() for name, system in systems.items()}


def small(**options: object) -> Network:
    sizes = {'img_size': [32, 64], 'num_fiducial': 8, 'output_channel': 32, 'hidden_size': 16}
    return Network(13, bos_id=11, max_label_length=6, **{**sizes, **options}).eval()


@pytest.mark.parametrize('name', SYSTEMS)
def test_state_is_the_published_one(systems: dict[str, BaseSystem], name: str) -> None:
    assert_same_state(systems[name], GOLDEN, name)


@pytest.mark.parametrize('case', READINGS)
def test_logits_are_the_published_ones(systems: dict[str, BaseSystem], case: str) -> None:
    assert_same_logits(systems[case[:4]], GOLDEN, case, atol=1e-9)


@pytest.mark.parametrize('case', READINGS)
def test_single_precision_logits_are_the_published_ones(single_systems: dict[str, BaseSystem], case: str) -> None:
    assert_same_logits(single_systems[case[:4]], GOLDEN, case, atol=SINGLE_ATOL[case[:4]])


@pytest.mark.parametrize('case', PARTS)
def test_rectification_is_the_published_one(
    systems: dict[str, BaseSystem], single_systems: dict[str, BaseSystem], case: str
) -> None:
    expected = GOLDEN.arrays(case)
    for system, exact in ((systems[case[:4]], True), (single_systems[case[:4]], False)):
        with torch.inference_mode():
            parts = system.model.rectify(images(2, dtype=system.dtype))
        for name, part in zip(('rectified', 'fiducials'), parts, strict=True):
            atol = 1e-9 if exact else SINGLE_ATOL[name]
            torch.testing.assert_close(part.double(), expected[f'{name}_f64'], rtol=0, atol=atol)


@pytest.mark.parametrize('case', GOLDEN.train)
def test_steps_are_the_published_ones(systems: dict[str, BaseSystem], case: str) -> None:
    assert_same_step(systems[case[:4]], GOLDEN, case)


def test_fiducials_on_the_edges_leave_the_picture_as_it_is() -> None:
    """Pixel (0, 0) of the output is read at the centre of pixel (0, 0): half a pixel inside the edge of the picture."""
    grid = GridGenerator(20, [32, 128]).double()(edge_points(20)[None])
    assert grid.shape == (1, 32, 128, 2)
    torch.testing.assert_close(grid[0, 5, :, 0], (torch.arange(128) + 0.5).double() / 64 - 1, rtol=0, atol=1e-4)
    torch.testing.assert_close(grid[0, :, 7, 1], (torch.arange(32) + 0.5).double() / 16 - 1, rtol=0, atol=1e-4)


def test_grid_keeps_single_precision_under_autocast() -> None:
    generator, fiducials = GridGenerator(20, [32, 128]), edge_points(20).float()[None] * 0.9
    exact = generator(fiducials)
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(generator(fiducials.bfloat16()), generator(fiducials.bfloat16().float()))
        assert generator(fiducials).dtype == torch.float32
        torch.testing.assert_close(generator(fiducials), exact)


def test_every_picture_starts_from_the_same_fiducials() -> None:
    pictures = torch.rand(3, 3, 32, 64)
    rectified, fiducials = TPSTransformation(8, [32, 64]).eval()(pictures)
    assert rectified.shape == pictures.shape
    torch.testing.assert_close(fiducials[0, :, 0], edge_points(8)[:, 0].float())
    assert torch.equal(fiducials[0], fiducials[1])


@pytest.mark.parametrize(('max_length', 'positions'), [(None, 7), (0, 1), (2, 3), (6, 7), (99, 7)])
def test_max_length_limits_the_characters(max_length: int | None, positions: int) -> None:
    network, pictures = small(), torch.rand(2, 3, 32, 64)
    with torch.no_grad():
        network.Prediction.generator.bias[0] -= 100  # no word ever ends
    logits = network(pictures, max_length)
    assert logits.shape == (2, positions, 13)
    torch.testing.assert_close(logits, network(pictures)[:, :positions])


def test_teacher_forcing_with_its_own_answer_is_greedy_reading() -> None:
    network, pictures = small(), torch.rand(2, 3, 32, 64)
    greedy = network(pictures, 6)
    begin = torch.full((2, 1), 11)
    inputs = torch.cat([begin, greedy[:, :-1, :11].argmax(-1)], 1)
    torch.testing.assert_close(network(pictures, inputs=inputs), greedy)
    other = inputs.clone()
    other[:, 3] = (other[:, 3] + 1) % 11
    forced = network(pictures, inputs=other)
    torch.testing.assert_close(forced[:, :3], greedy[:, :3])
    assert (forced[:, 3:] != greedy[:, 3:]).any(-1).all()


def test_begin_and_padding_are_never_fed_back() -> None:
    head = Attention(8, 8, 13, bos_id=11)
    memory = torch.rand(2, 5, 8)
    with torch.no_grad():
        head.generator.bias[12] = 100  # [P] is the most probable class at each position
        expected = head(memory, 4)
        head.char_embeddings.weight[12] += 1  # changes nothing unless [P] is fed back
        torch.testing.assert_close(head(memory, 4), expected, rtol=0, atol=0)
        assert (expected.argmax(-1) == 12).all()


def test_begin_and_padding_never_reach_the_text(single_systems: dict[str, BaseSystem]) -> None:
    system = single_systems['trba']
    with torch.no_grad():
        bias = system.model.Prediction.generator.bias
        kept = bias.clone()
        bias[-2:] += 100
        texts, probs = system.read(images(2, dtype=torch.float32))
        bias.copy_(kept)
    assert all(set(text) <= set(system.hparams.charset_train) for text in texts)
    assert [len(p) - len(text) for text, p in zip(texts, probs, strict=True)] == [1, 1]


def plain_head(head: Attention, memory: Tensor, num_steps: int, inputs: Tensor | None = None) -> Tensor:
    """The attention head by its definition: one-hot characters, everything anew in each step."""
    cell, outputs = head.attention_cell, []
    state = carried = memory.new_zeros(len(memory), head.hidden_size)
    previous = torch.full((len(memory),), head.bos_id)
    for i in range(num_steps):
        if inputs is not None:
            previous = inputs[:, i]
        known = torch.nn.functional.one_hot(previous, head.generator.out_features).to(memory.dtype)
        energy = cell.score(torch.tanh(cell.i2h(memory) + cell.h2h(state)[:, None]))  # (N, S, 1)
        context = (energy.softmax(1) * memory).sum(1)
        state, carried = cell.rnn(torch.cat([context, known @ head.char_embeddings.weight], 1), (state, carried))
        outputs.append(head.generator(state))
        previous = outputs[-1][:, : head.bos_id].argmax(1)
    return torch.stack(outputs, 1)


@pytest.mark.parametrize('is_forced', [True, False])
@pytest.mark.parametrize('num_steps', [1, 2, 9])
def test_head_is_the_plain_definition(num_steps: int, is_forced: bool) -> None:
    torch.manual_seed(num_steps)
    head = Attention(6, 10, 13, bos_id=11).double()
    memory = torch.randn(4, 5, 6, dtype=torch.float64, requires_grad=True)
    inputs = torch.randint(13, (4, num_steps)) if is_forced else None
    found, expected = head(memory, num_steps, inputs), plain_head(head, memory, num_steps, inputs)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    learnt = [memory, *head.parameters()]
    weights = torch.randn_like(found)
    gradients = [torch.autograd.grad((logits * weights).sum(), learnt) for logits in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-11)


def test_reading_stops_where_the_last_word_ends() -> None:
    torch.manual_seed(54)
    head = Attention(6, 10, 5, bos_id=3)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(4)
        head.generator.bias[0] += 1
    memory = torch.randn(6, 5, 6) * 3
    whole = head(memory, 20)
    ids = whole[..., :3].argmax(-1).tolist()
    ended = [row.index(0) + 1 if 0 in row else 20 for row in ids]
    assert len(set(ended)) > 2, 'the words are of no use for this test'
    for count in range(1, 7):
        stopped = head(memory[:count], 20, stop_early=True)
        assert stopped.shape[1] == max(ended[:count])
        torch.testing.assert_close(stopped, whole[:count, : stopped.shape[1]])


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        ({'img_size': [16, 128]}, 'height of at least 32'),
        ({'img_size': [32, 7]}, 'width of at least 8'),
        ({'num_fiducial': 7}, 'even number'),
        ({'num_fiducial': 2}, 'at least 4'),
        ({'output_channel': 40}, 'multiple of 16'),
    ],
)
def test_impossible_sizes_are_refused(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        small(**options)


@pytest.mark.parametrize('img_size', [[32, 8], [32, 100], [47, 64], [64, 128]])
def test_other_picture_sizes_are_read(img_size: list[int]) -> None:
    network = small(img_size=img_size)
    assert network(torch.rand(2, 3, *img_size), 6).shape == (2, 7, 13)
    with pytest.raises(ValueError, match=r'expected images'):
        network(torch.rand(2, 3, img_size[0], img_size[1] + 1))
