"""PARSeq: equal to the published network in every way of reading and training, and safe against misuse."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import fill, golden, images
from torch import Tensor

from strhub.models.modules import KVCache
from strhub.models.parseq.permutations import sample_permutations
from strhub.models.parseq.system import PARSeq

GOLDEN = golden('parseq')
LOGITS = [case for case in GOLDEN.logits if 'encoder' not in case]
MEMORIES = [case for case in GOLDEN.logits if 'encoder' in case]
LOSSES = [case for case in GOLDEN.train if 'val_loss' in case]
STEPS = [case for case in GOLDEN.train if 'train_perm' in case]
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}

SMALL: dict[str, Any] = {
    'name': 'parseq',
    'charset_train': 'abcdefgh',
    'charset_test': 'abcdefgh',
    'max_label_length': 6,
    'img_size': [16, 32],
    'patch_size': [4, 8],
    'embed_dim': 32,
    'enc_num_heads': 2,
    'enc_mlp_ratio': 2,
    'enc_depth': 2,
    'dec_num_heads': 4,
    'dec_mlp_ratio': 2,
    'dec_depth': 1,
    'perm_num': 6,
    'perm_forward': True,
    'perm_mirrored': True,
    'decode_ar': True,
    'decode': 'auto',
    'refine_iters': 1,
    'dropout': 0.1,
    'batch_size': 4,
    'lr': 1e-3,
    'warmup_pct': 0.1,
    'weight_decay': 0.0,
}
LABELS = ['abc', 'hgfedc', 'a', 'ba']


def small(**overrides: Any) -> PARSeq:
    """A network of few numbers, filled so that it reads something, in evaluation mode."""
    return fill(PARSeq(**{**SMALL, **overrides})).eval()


@pytest.fixture
def pictures() -> Tensor:
    return images(4, 16, 32, dtype=torch.float32)


def published(experiment: str, **overrides: Any) -> PARSeq:
    hparams = GOLDEN.facts[experiment.replace('-', '_')]['hparams']
    hparams = {name: value for name, value in hparams.items() if not name.startswith('_')}
    if overrides.get('dec_depth', 1) > 1:
        overrides['refine_iters'] = 0
    return PARSeq(**{**hparams, **overrides})


@cache
def build(experiment: str, overrides: tuple[tuple[str, Any], ...], dtype: torch.dtype) -> PARSeq:
    return fill(published(experiment, dropout=0.0, **dict(overrides)).to(dtype))


def filled(experiment: str, overrides: dict[str, Any], dtype: torch.dtype = torch.float64) -> PARSeq:
    """A filled system without gradients, in evaluation mode; built once."""
    system = build(experiment, tuple(overrides.items()), dtype).eval()
    system.zero_grad()
    return system


@contextmanager
def recorded_network(case: str, dtype: torch.dtype) -> Iterator[Any]:
    """The network of a recorded case, set up to read as it did."""
    spec = GOLDEN.logits[case]
    assert spec['salt'] == 0
    network = filled(spec['experiment'], spec['kwargs'], dtype).model
    network.decode_ar = '_nar_' not in case
    network.refine_iters = spec.get('refine_iters', 0)
    bias = network.head.bias.detach().clone()
    with torch.no_grad():
        network.head.bias[0] += spec['eos_bias'] or 0
        try:
            yield network
        finally:
            network.head.bias.copy_(bias)


@pytest.mark.parametrize('experiment', GOLDEN.shapes)
def test_parameters_are_the_published_ones(experiment):
    system = published(experiment)
    assert {name: tuple(tensor.shape) for name, tensor in system.model.state_dict().items()} == GOLDEN.shapes[
        experiment
    ]
    facts = GOLDEN.facts[experiment]
    assert sum(p.numel() for p in system.parameters()) == facts['params']
    assert len(system.tokenizer) == facts['tokenizer_len']
    spared = {name.removeprefix('model.') for name in system.no_weight_decay()}
    names = {name for name, _ in system.model.named_parameters()}
    assert spared & names == set(facts['no_weight_decay'][1]) & names


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('case', LOGITS)
def test_logits_are_the_published_ones(case, dtype):
    expected = GOLDEN.arrays(case)['logits_f64']
    with recorded_network(case, dtype) as network:
        logits = network(images(2, *network.img_size, dtype=dtype), GOLDEN.logits[case]['max_length'])
    assert logits.shape == expected.shape
    torch.testing.assert_close(logits.double(), expected, rtol=0, atol=TOLERANCE[dtype])
    assert torch.equal(logits.argmax(-1), expected.argmax(-1))


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('case', MEMORIES)
def test_memory_is_the_published_one(case, dtype):
    step = 28 if 'patch16' in case else 16
    with recorded_network(case, dtype) as network:
        memory = network.encode(images(2, *network.img_size, dtype=dtype))[:, ::step, :64]
    torch.testing.assert_close(memory.double(), GOLDEN.arrays(case)['memory_f64'], rtol=0, atol=TOLERANCE[dtype])


def check_gradients(system: PARSeq, recorded: dict[str, Any], loss: Tensor) -> None:
    assert loss.item() == pytest.approx(recorded['f64']['loss'], abs=1e-9)
    loss.backward()
    norms = {name.removeprefix('model.'): p.grad.norm() for name, p in system.named_parameters()}
    expected = {name.removeprefix('model.'): norm for name, norm in recorded['grad_norm_per_param_f64'].items()}
    assert {name: norm.item() for name, norm in norms.items()} == pytest.approx(expected, rel=1e-9, abs=1e-12)
    total = torch.stack(list(norms.values())).norm().item()
    assert total == pytest.approx(recorded['f64']['grad_norm'], rel=1e-9)


@pytest.mark.parametrize('case', STEPS)
def test_training_step_is_the_published_one(case):
    recorded = GOLDEN.train[case]
    system = filled(recorded['experiment'], {}).train()
    num = int(case.split('train_perm')[1][0])
    orders = torch.tensor(GOLDEN.extra['parseq_perms6'][:num])
    labels = GOLDEN.extra['labels']
    check_gradients(system, recorded, system.permutation_loss(images(6), labels, orders=orders))


@pytest.mark.parametrize('case', LOSSES)
def test_validation_loss_is_the_published_one(case):
    recorded = GOLDEN.train[case]
    system = filled(recorded['experiment'], recorded['kwargs'])
    system.model.decode_ar = system.hparams.decode_ar
    system.model.refine_iters = system.hparams.refine_iters
    logits, loss, numel = system.forward_logits_loss(images(6), GOLDEN.extra['labels'])
    assert list(logits.shape) == recorded['f64']['parts']['logits_shape']
    assert numel == recorded['f64']['parts']['loss_numel']
    check_gradients(system, recorded, loss)


@pytest.mark.parametrize('max_length', [None, 0, 3, 6, 100])
@pytest.mark.parametrize('refine_iters', [0, 2])
@pytest.mark.parametrize('decode_ar', [True, False])
def test_positions(pictures, decode_ar, refine_iters, max_length):
    system = small(decode_ar=decode_ar, refine_iters=refine_iters)
    with torch.no_grad():
        system.model.head.bias[0] -= 100  # no word ever ends
    logits = system(pictures, max_length)
    assert logits.shape == (4, min(6, 6 if max_length is None else max_length) + 1, 9)


def test_reading_stops_when_all_words_have_ended(pictures):
    system = small(refine_iters=0)
    network = system.model
    with torch.no_grad():
        network.head.bias[0] += 3
    whole = system(pictures, 6)
    last_end = max(row.index(0) for row in whole.argmax(-1).tolist())
    assert last_end < 6, 'the pictures are of no use for this test'
    assert whole.shape[1] == 7
    torch.testing.assert_close(system(pictures), whole[:, : last_end + 1])
    network.refine_iters = 1
    torch.testing.assert_close(system(pictures), system(pictures, 6))


def test_what_follows_the_end_is_no_context(pictures):
    network = small().model.double()
    memory = network.decoder.project(network.encode(pictures.double()))
    begin = torch.full((4, 1), network.bos_id)
    reading = torch.tensor([[1, 2, 0, 3, 4, 5, 6]]).expand(4, -1)
    rubbish = torch.tensor([[1, 2, 0, 7, 7, 0, 8]]).expand(4, -1)
    one_hot = torch.nn.functional.one_hot
    first, second = (network._refine(one_hot(row, 9), begin, memory, 7) for row in (reading, rubbish))
    torch.testing.assert_close(first, second)
    changed = torch.tensor([[1, 3, 0, 3, 4, 5, 6]]).expand(4, -1)
    third = network._refine(one_hot(changed, 9), begin, memory, 7)
    torch.testing.assert_close(first[:, 1], third[:, 1])  # a character is not its own context
    assert not torch.allclose(first[:, 0], third[:, 0])


@pytest.mark.parametrize('dec_depth', [1, 3])
def test_cache_changes_nothing(pictures, dec_depth):
    network = small(dec_depth=dec_depth, refine_iters=0).model.double()
    memory = network.decoder.project(network.encode(pictures.double()))
    tokens = torch.tensor([[network.bos_id, 1, 2, 3, 4, 5, 6]]).expand(4, -1)
    future = torch.ones(7, 7, dtype=torch.bool).triu(1)
    at_once = network.decode(tokens, memory, num_positions=7, query_hides=future, content_hides=future)
    caches = [KVCache(7) for _ in range(dec_depth)]
    in_turn = [network.decode(tokens[:, i : i + 1], memory, num_positions=1, start=i, caches=caches) for i in range(7)]
    torch.testing.assert_close(torch.cat(in_turn, 1), at_once)


def read_plainly(network: Any, pictures: Tensor, steps: int) -> Tensor:
    """Greedy reading as the paper defines it: at each step the network answers anew from the whole text so far."""
    memory = network.decoder.project(network.encode(pictures))
    tokens, logits = torch.full((len(pictures), 1), network.bos_id), []
    for i in range(steps):
        future = torch.ones(i + 1, i + 1, dtype=torch.bool).triu(1)
        answers = network.decode(tokens, memory, num_positions=i + 1, query_hides=future, content_hides=future)
        logits.append(answers[:, i])
        tokens = torch.cat([tokens, logits[-1].argmax(-1, keepdim=True)], 1)
    return torch.stack(logits, 1)


def ends_of(logits: Tensor) -> list[int]:
    """How many positions of each word there are up to its end and with it."""
    return [row.index(0) + 1 if 0 in row else len(row) for row in logits.argmax(-1).tolist()]


@pytest.mark.parametrize('decode', ['auto', 'in_turn', 'verify'])
@given(seed=st.integers(0, 999), end=st.floats(-2, 4), dec_depth=st.sampled_from([1, 2]), count=st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_reading_is_greedy(decode, seed, end, dec_depth, count):
    generator = torch.Generator().manual_seed(seed)
    network = small(dec_depth=dec_depth, refine_iters=0, decode=decode).model.double()
    pictures = torch.rand(count, 3, 16, 32, generator=generator, dtype=torch.float64) * 2 - 1
    with torch.no_grad():
        network.head.bias.add_(torch.randn(9, generator=generator))[0] += end  # words of many lengths
        network.pos_queries.mul_(3)  # of different characters
        plain = read_plainly(network, pictures, 7)
        torch.testing.assert_close(network(pictures, 6), plain)
        ends, logits = ends_of(plain), network(pictures)
        assert logits.shape == (count, max(ends), 9)
        for row, expected, length in zip(logits, plain, ends, strict=True):
            torch.testing.assert_close(row[:length], expected[:length])
        network.refine_iters = 0 if dec_depth > 1 else 2
        reading = plain
        memory = network.decoder.project(network.encode(pictures))
        for _ in range(network.refine_iters):
            reading = network._refine(reading, torch.full((count, 1), network.bos_id), memory, 7)
        torch.testing.assert_close(network(pictures, 6), reading)
        if network.refine_iters:
            torch.testing.assert_close(network(pictures), reading)


@pytest.mark.parametrize('decode', ['in_turn', 'verify'])
def test_reading_has_the_gradients_of_its_definition(pictures, decode):
    system, gradients = small(refine_iters=0, decode=decode).double(), []
    for logits in (system(pictures.double(), 6), read_plainly(system.model, pictures.double(), 7)):
        gradients.append(torch.autograd.grad(logits.square().mean(), list(system.parameters())))
    for mine, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, expected)


def test_a_good_draft_takes_few_passes(monkeypatch):
    system = small(refine_iters=0, decode='verify')
    pictures, passes = images(4, 16, 32, dtype=torch.float32), []
    decode = system.model.decode
    monkeypatch.setattr(system.model, 'decode', lambda *args, **kwargs: passes.append(1) or decode(*args, **kwargs))
    with torch.no_grad():
        system.model.decoder.layers[0].self_attn.out_proj.weight.zero_()  # context says nothing: the draft is right
        system.model.head.bias[0] -= 100
        system(pictures, 6)
    assert len(passes) == 2


@pytest.mark.parametrize('decode_ar', [True, False])
def test_batch_equals_single(pictures, decode_ar):
    system = small(decode_ar=decode_ar).double()
    together = system(pictures.double(), 6)
    alone = torch.cat([system(picture[None].double(), 6) for picture in pictures])
    torch.testing.assert_close(together, alone)


def test_reading_is_deterministic_and_can_be_changed_later(pictures):
    system = small()
    first = system(pictures, 6)
    assert torch.equal(system(pictures, 6), first)
    system.model.decode_ar = False
    system.model.refine_iters = 0
    assert not torch.equal(system(pictures, 6), first)
    torch.testing.assert_close(system(pictures, 6), small(decode_ar=False, refine_iters=0)(pictures, 6))


def test_bfloat16_reads(pictures):
    system = small()
    with torch.autocast('cpu', torch.bfloat16):
        logits = system(pictures, 6)
    torch.testing.assert_close(logits.float(), system(pictures, 6), rtol=0.2, atol=0.5)


def test_refinement_of_several_layers_is_refused(pictures):
    with pytest.raises(ValueError, match=r'dec_depth is 2 and refine_iters is 1.*leaks'):
        PARSeq(**{**SMALL, 'dec_depth': 2})
    system = small(dec_depth=2, refine_iters=0)
    system(pictures)
    system.model.refine_iters = 1
    with pytest.raises(ValueError, match=r'dec_depth is 2 and refine_iters is 1'):
        system(pictures)


@pytest.mark.parametrize(
    ('overrides', 'named'),
    [
        ({'patch_size': [5, 8]}, r'img_size \[16, 32\].*patch_size \[5, 8\]'),
        ({'patch_size': [4]}, 'patch_size'),
        ({'embed_dim': 30}, '30.*4 heads'),
        ({'enc_num_heads': 3}, '32.*3 heads'),
        ({'dec_num_heads': 0}, '0 heads'),
        ({'dec_depth': 0}, 'dec_depth is 0'),
        ({'perm_num': 0}, 'perm_num is 0'),
        ({'perm_num': 5}, 'perm_num is 5.*perm_mirrored'),
        ({'refine_iters': -1}, 'refine_iters is -1'),
        ({'decode': 'beam'}, "decode is 'beam'.*auto, in_turn or verify"),
        ({'dropuot': 0.1}, 'dropuot'),
    ],
)
def test_nonsense_is_refused_by_name(overrides, named):
    with pytest.raises(ValueError, match=named):
        PARSeq(**{**SMALL, **overrides})


def test_wrong_inputs_are_refused():
    system = small()
    with pytest.raises(ValueError, match=r'expected images \(N, 3, 16, 32\), got \(1, 3, 32, 128\)'):
        system(images(1, 32, 128, dtype=torch.float32))
    with pytest.raises(ValueError, match='max_length is -1'):
        system(images(1, 16, 32, dtype=torch.float32), -1)
    with pytest.raises(ValueError, match=r'7 characters.*at most 6'):
        system.training_step((images(1, 16, 32, dtype=torch.float32), ['abcdefg']), 0)


@pytest.mark.parametrize('labels', [['a'], ['ab', 'c'], ['abc'], ['abcd'], LABELS])
@pytest.mark.parametrize('options', [{}, {'perm_forward': False}, {'perm_mirrored': False}, {'perm_num': 24}])
def test_training_reaches_every_parameter(pictures, labels, options):
    system = small(**options).train()
    loss = system.training_step((pictures[: len(labels)], labels), 0)
    loss.backward()
    assert [name for name, p in system.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    # a single character leaves nothing to attend to but [B]: softmax over one has no gradient
    silent = [name for name, p in system.named_parameters() if not p.grad.any()]
    assert len(labels) == 1 or silent == []


def test_orders_do_not_share_dropout(pictures):
    system = small(dropout=0.5).train()
    tokens = system.tokenizer.encode(LABELS)
    memory = system.model.encode(pictures)
    orders = sample_permutations(6, 2)[:1].repeat(2, 1)
    logits = system.model.decode_permuted(tokens, memory, orders)
    assert not torch.allclose(logits[:, 0], logits[:, 1])
    logits = system.eval().model.decode_permuted(tokens, memory, orders)
    torch.testing.assert_close(logits[:, 0], logits[:, 1])


@pytest.mark.parametrize('dec_depth', [1, 2])
def test_orders_together_are_orders_one_by_one(pictures, dec_depth):
    """Loss and gradients of one call for all orders are those of a call for each, the mean over all their tokens."""
    system = small(dropout=0.0, dec_depth=dec_depth, refine_iters=0).double()
    network, pictures, orders = system.model, pictures.double(), sample_permutations(6, 6)
    loss = system.permutation_loss(pictures, LABELS, orders=orders)
    together = torch.autograd.grad(loss, list(system.parameters()))

    tokens = system.tokenizer.encode(LABELS)
    memory, total, count = network.encode(pictures), 0.0, 0
    for k, order in enumerate(orders):
        targets = tokens[:, 1:].clone()
        if k > 1:
            targets[targets == system.tokenizer.eos_id] = system.tokenizer.pad_id
        logits = network.decode_permuted(tokens, memory, order[None])[:, 0]
        count += int((targets != system.tokenizer.pad_id).sum())
        total = total + F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=system.tokenizer.pad_id, reduction='sum'
        )
    torch.testing.assert_close(loss, total / count)
    one_by_one = torch.autograd.grad(total / count, list(system.parameters()))
    for mine, expected in zip(together, one_by_one, strict=True):
        torch.testing.assert_close(mine, expected)


@pytest.mark.parametrize('dec_depth', [1, 2])
def test_what_is_not_asked_is_left_out(pictures, dec_depth):
    network = small(dec_depth=dec_depth, refine_iters=0).model
    tokens = small().tokenizer.encode(LABELS)
    memory, orders = network.encode(pictures), sample_permutations(6, 4)
    every = network.decode_permuted(tokens, memory, orders)
    asked = torch.tensor([0, 5, 17, every[..., 0].numel() - 1])
    torch.testing.assert_close(network.decode_permuted(tokens, memory, orders, asked=asked), every.flatten(0, 2)[asked])


def test_end_is_learnt_from_two_orders_only(pictures):
    system = small(dropout=0.0)
    orders = sample_permutations(6, 6)
    tokens = system.tokenizer.encode(LABELS)
    with torch.no_grad():
        log_probs = system.model.decode_permuted(tokens, system.model.encode(pictures), orders).log_softmax(-1)
        losses = []
        for k in range(6):
            for n, label in enumerate(LABELS):
                ids = tokens[n, 1 : len(label) + (2 if k < 2 else 1)]
                losses += [-log_probs[n, k, i, c] for i, c in enumerate(ids)]
        loss = system.permutation_loss(pictures, LABELS, orders=orders)
    torch.testing.assert_close(loss, torch.stack(losses).mean())


def test_learns_to_read():
    system = PARSeq(**{**SMALL, 'dropout': 0.0})
    pictures = torch.rand(4, 3, 16, 32) * 2 - 1
    optimizer = torch.optim.AdamW(system.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = system.training_step((pictures, LABELS), 0)
        loss.backward()
        optimizer.step()
    for decode_ar in (True, False):
        system.model.decode_ar = decode_ar
        assert system.read(pictures)[0] == LABELS


def test_hyper_parameters_are_kept_flat_and_plain():
    assert dict(PARSeq(**SMALL).hparams) == SMALL
