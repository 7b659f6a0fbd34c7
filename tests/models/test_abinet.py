"""ABINet: the published numbers, the rules of its parts, and phases of training that survive a resume."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import parity
import pytest
import torch
from published import assert_same_state
from torch import Tensor
from torch.utils.data import DataLoader

from strhub.models.abinet.model import ABINet as Network
from strhub.models.abinet.model import Opinion
from strhub.models.abinet.system import ABINet

GOLDEN = parity.golden('abinet')
LABELS = GOLDEN.extra['labels']
STEPS = 18  # the parts are trained apart for 8 of them
KILLED = (5, 8, 9, 13)
# Recorded steps that together cover all losses and all parts; 37 M parameters in float64 take seconds each.
QUICK = (
    'abinet_train_pretrain',
    'abinet_train_joint',
    'abinet_sv_train_joint',
    'abinet_lm_only',
    'abinet_eval_val_loss',
)


def published(experiment: str, **overrides: Any) -> ABINet:
    name = 'abinet_sv' if experiment == 'abinet-sv' else 'abinet'
    hparams = {k: v for k, v in GOLDEN.facts[name]['hparams'].items() if not k.startswith('_')}
    return ABINet(**{**hparams, **overrides})


TINY_NETWORK: dict[str, Any] = {
    'max_label_length': 5,
    'img_size': [16, 32],
    'iter_size': 2,
    'd_model': 16,
    'nhead': 2,
    'd_inner': 24,
    'dropout': 0.0,
    'activation': 'relu',
    'v_attention': 'position',
    'v_attention_mode': 'nearest',
    'v_backbone': 'transformer',
    'v_num_layers': 1,
    'l_num_layers': 2,
    'l_detach': True,
    'l_use_self_attn': False,
}
TINY: dict[str, Any] = {
    **TINY_NETWORK,
    'name': 'abinet',
    'charset_train': 'abc',
    'charset_test': 'abc',
    'batch_size': 256,
    'lr': 1e-3,
    'warmup_pct': 0.075,
    'weight_decay': 0.1,
    'v_loss_weight': 1.0,
    'l_loss_weight': 1.0,
    'l_lr': '3e-4',
    'a_loss_weight': 1.0,
    'lm_only': False,
}


def tiny_network(**overrides: Any) -> Network:
    return Network(num_classes=4, **{**TINY_NETWORK, **overrides})


# The published numbers


# The table of positions is computed in float32, where processors disagree about the last bit of exp, which the 255th
# position multiplies: on that of the golden numbers float64 agrees to 3e-13 (logits), on others only so far.
TABLE, LOSS, GRADIENTS = 2e-4, 1e-6, 1e-3


@pytest.mark.parametrize('experiment', ['abinet', 'abinet-sv'])
def test_keys_shapes_and_counts(experiment: str) -> None:
    name = experiment.replace('-', '_')
    with torch.device('meta'):
        system = published(experiment)
    assert_same_state(system, GOLDEN, name)
    assert system.no_weight_decay() == set(GOLDEN.facts[name]['no_weight_decay'])
    published_hparams = {k: v for k, v in GOLDEN.facts[name]['hparams'].items() if not k.startswith('_')}
    assert dict(system.hparams) == {**published_hparams, 'pretrain_pct': 8 / 18}


@pytest.mark.parametrize('case', GOLDEN.logits)
def test_logits(case: str) -> None:
    entry, arrays = GOLDEN.logits[case], GOLDEN.arrays(case)
    network = published(entry['experiment'], **entry.get('kwargs', {})).model.eval()
    parity.fill(network.double(), eos_bias=entry['eos_bias'])
    for dtype in (torch.float64, torch.float32):
        with torch.inference_mode():
            stages = network.to(dtype).stages(parity.images(2, dtype=dtype))
        found = {
            'vision': stages.vision.logits,
            'language': stages.language[-1].logits,
            'logits': stages.alignment[-1].logits,
        }
        for name, logits in found.items():
            # In float32 the original itself is up to 2.6e-4 away from its float64 answer.
            tolerance = TABLE if dtype == torch.float64 else 3e-4 + TABLE
            torch.testing.assert_close(logits.double(), arrays[f'{name}_f64'], rtol=0, atol=tolerance)
        assert stages.vision.lengths.equal(arrays['vision_len_f64'])
        assert stages.alignment[-1].lengths.equal(arrays['align_len_f64'])
        assert stages.alignment[-1].logits.argmax(-1).equal(arrays['logits_f64'].argmax(-1))


@pytest.mark.parametrize(
    'case', [pytest.param(case, marks=() if case in QUICK else pytest.mark.slow) for case in GOLDEN.train]
)
def test_losses_and_gradients(case: str) -> None:
    entry = GOLDEN.train[case]
    lm_only = entry['experiment'].endswith('abinet-lm')
    system = published(entry['experiment'], dropout=0.0, lm_only=lm_only, **entry['kwargs']).double()
    parity.fill(system).train(entry['mode'] == 'train')
    if case.endswith('val_loss'):
        logits, loss, numel = system.forward_logits_loss(parity.images(6), LABELS)
        found: dict[str, Any] = {'logits_shape': list(logits.shape), 'loss_numel': numel}
    else:
        losses = system.losses(parity.images(6), LABELS, apart='pretrain' in case)
        loss = system.total_loss(losses)
        found = {'loss': loss.item()} | {f'loss_{part}': value.item() for part, value in losses.items()}
    assert found == {
        name: value if name == 'logits_shape' else pytest.approx(value, rel=LOSS)
        for name, value in entry['f64']['parts'].items()
    }
    assert loss.item() == pytest.approx(entry['f64']['loss'], rel=LOSS)
    loss.backward()
    norms = {key: p.grad.norm().item() for key, p in system.model.named_parameters() if p.grad is not None}
    expected = {key: norm for key, norm in entry['grad_norm_per_param_f64'].items() if norm is not None}
    # A bias before a batch norm has no gradient but rounding.
    assert norms == pytest.approx(expected, rel=GRADIENTS, abs=1e-6)


# The network


@pytest.mark.parametrize(
    'overrides',
    [
        {},
        {'v_attention': 'attention'},
        {'v_attention_mode': 'bilinear'},
        {'v_backbone': 'resnet'},
        {'l_use_self_attn': True, 'activation': 'gelu', 'iter_size': 1},
        {'img_size': [13, 50], 'max_label_length': 1},  # a feature map of 4 x 13
        {'img_size': [1, 1]},
    ],
    ids=str,
)
def test_variants_read_each_picture_on_its_own(overrides: dict[str, Any]) -> None:
    network = tiny_network(**overrides).double().eval()
    images = torch.rand(3, 3, *network.img_size, dtype=torch.float64)
    logits = network(images)
    assert logits.shape == (3, network.max_label_length + 1, 4)
    assert logits.isfinite().all()
    torch.testing.assert_close(torch.cat([network(image[None]) for image in images]), logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize(('max_length', 'positions'), [(None, 6), (0, 1), (3, 4), (5, 6), (99, 6)])
def test_max_length_cuts_the_reading(max_length: int | None, positions: int) -> None:
    network = tiny_network().eval()
    images = torch.rand(2, 3, 16, 32)
    assert network(images, max_length).equal(network(images)[:, :positions])


def test_every_iteration_is_on_record() -> None:
    network = tiny_network(iter_size=3).eval()
    images = torch.rand(2, 3, 16, 32)
    stages = network.stages(images)
    assert len(stages.language) == len(stages.alignment) == 3
    assert stages.alignment[-1].logits.equal(network(images))
    thought = network.language(stages.alignment[0].logits.softmax(-1), stages.alignment[0].lengths)
    assert thought.logits.equal(stages.language[1].logits)


def test_what_all_iterations_ask_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network, images, made = tiny_network(iter_size=3).eval(), torch.rand(2, 3, 16, 32), []
    make = network.language.frame
    monkeypatch.setattr(network.language, 'frame', lambda length: made.append(length) or make(length))
    assert network.stages(images).alignment[-1].logits.equal(network(images))
    assert made == [6, 6]


def test_lengths_count_the_first_end() -> None:
    ids = torch.tensor([[0, 1, 1, 1], [1, 0, 2, 0], [1, 2, 3, 1], [3, 2, 1, 0]])
    logits = torch.nn.functional.one_hot(ids).float()
    assert Opinion(torch.empty(0), logits).lengths.tolist() == [1, 2, 4, 4]


def test_language_model_guesses_each_character_from_the_others() -> None:
    language = tiny_network().language.eval()
    probs, lengths = torch.rand(2, 6, 4).softmax(-1), torch.tensor([4, 6])
    before = language(probs, lengths).logits
    for position in range(6):
        changed = probs.clone()
        changed[:, position] = torch.tensor([0.0, 0.0, 0.0, 1.0])
        moved = (language(changed, lengths).logits - before).abs().amax(-1) > 1e-6
        outside = position >= 4  # of the first word
        assert moved[0].tolist() == [not outside and other != position for other in range(6)]
        assert moved[1].tolist() == [other != position for other in range(6)]


@pytest.mark.parametrize('detach', [True, False])
def test_detach_keeps_the_language_gradient_out_of_the_vision_model(detach: bool) -> None:
    network = tiny_network(l_detach=detach)
    network.stages(torch.rand(2, 3, 16, 32)).language[0].logits.square().sum().backward()
    assert (network.vision.cls.weight.grad is None) == detach


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        ({'v_attention': 'slot'}, "v_attention is 'slot': give one of 'position', 'attention'"),
        ({'v_attention_mode': 'cubic'}, "v_attention_mode is 'cubic': give one of 'nearest', 'bilinear'"),
        ({'v_backbone': 'vit'}, "v_backbone is 'vit': give one of 'transformer', 'resnet'"),
        ({'activation': 'tanh'}, "activation is 'tanh': give one of 'relu', 'gelu'"),
        ({'iter_size': 0}, 'iter_size is 0: give at least 1'),
        ({'l_num_layers': 0}, 'l_num_layers 0 and d_inner .*give at least 1 each'),
        ({'d_model': 24}, 'd_model is 24: give a multiple of 16'),
        ({'nhead': 3}, 'cannot be split among 3 heads'),
    ],
)
def test_impossible_arguments(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_network(**overrides)


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r'expected images \(N, 3, 16, 32\), got \(1, 3, 16, 64\)'):
        tiny_network()(torch.rand(1, 3, 16, 64))


# Training


@pytest.mark.parametrize('apart', [True, False])
@pytest.mark.parametrize('v_attention', ['position', 'attention'])
def test_every_parameter_has_a_gradient(v_attention: str, apart: bool) -> None:
    system = ABINet(**{**TINY, 'v_attention': v_attention})
    losses = system.losses(torch.rand(3, 3, 16, 32), ['a', 'abc', 'ccccc'], apart=apart)
    assert set(losses) == {'vision', 'language', 'alignment'}
    system.total_loss(losses).backward()
    assert [name for name, p in system.named_parameters() if p.grad is None] == []


def test_alone_the_language_model_is_all_that_learns() -> None:
    system = ABINet(**{**TINY, 'lm_only': True})
    assert {name.split('.')[1] for name, p in system.named_parameters() if p.requires_grad} == {'language'}
    images, labels = torch.rand(2, 3, 16, 32), ['ab', 'c']
    logits, loss, numel = system.forward_logits_loss(images, labels)
    assert logits.shape == (2, 6, 4)
    assert numel == 5  # characters and ends
    assert loss.item() == pytest.approx(system.losses(images, labels, apart=False)['language'].item())


def test_loss_weights() -> None:
    system = ABINet(**{**TINY, 'v_loss_weight': 1.0, 'l_loss_weight': 10.0, 'a_loss_weight': 100.0})
    losses = {'vision': torch.tensor(1.0), 'language': torch.tensor(2.0), 'alignment': torch.tensor(3.0)}
    assert system.total_loss(losses).item() == 321


def test_language_model_has_its_own_learning_rate() -> None:
    system = ABINet(**TINY)
    groups = system.parameter_groups()
    in_groups = [p for group in groups for p in group['params']]
    assert len(in_groups) == len(set(in_groups)) == len(list(system.parameters()))
    language = set(system.model.language.parameters())
    for group in groups:
        assert group.get('lr') == (3e-4 if set(group['params']) <= language else None)
    spared = next(group for group in groups if system.model.language.proj.weight in set(group['params']))
    assert spared['weight_decay'] == 0


def test_a_label_that_is_too_long_is_named() -> None:
    with pytest.raises(ValueError, match="label 'aaaaaa' has 6 characters and the model was made for at most 5"):
        ABINet(**TINY).targets(['a', 'aaaaaa'])


# The phases


class Diary(ABINet):
    """Writes down what happens at which step."""

    def __init__(self, **hparams: Any) -> None:
        super().__init__(**hparams)
        self.apart: dict[int, bool] = {}
        self.refreshed: list[int] = []

    def losses(self, images: Tensor, labels: Any, *, apart: bool) -> dict[str, Tensor]:
        self.apart[self.trainer.global_step] = apart
        return super().losses(images, labels, apart=apart)

    def refresh_alignment(self) -> None:
        self.refreshed.append(self.trainer.global_step)
        super().refresh_alignment()


class Keeper(pl.Callback):
    """Saves the checkpoints that a run killed after one of `steps` would leave."""

    def __init__(self, folder: Path, steps: tuple[int, ...]) -> None:
        self.folder = folder
        self.steps = steps

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step in self.steps:
            trainer.save_checkpoint(self.folder / f'{trainer.global_step}.ckpt')


def run(*callbacks: pl.Callback, steps: int = STEPS, resume: Path | None = None, **overrides: Any) -> Diary:
    """Trains for two epochs of the same batch."""
    logging.getLogger('lightning.pytorch').setLevel(logging.ERROR)
    torch.manual_seed(1)
    system = Diary(**{**TINY, **overrides})
    trainer = pl.Trainer(
        accelerator='cpu',
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    batch = torch.rand(2, 3, 16, 32), ['ab', 'cab']
    loader: DataLoader = DataLoader([batch] * (steps // 2), batch_size=None)  # type: ignore[arg-type]
    trainer.fit(system, loader, ckpt_path=resume)
    return system


def assert_same_weights(found: ABINet, expected: ABINet) -> None:
    torch.testing.assert_close(found.state_dict(), expected.state_dict(), rtol=0, atol=0)


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Diary, Path]:
    """A run without interruption and its checkpoints."""
    folder = tmp_path_factory.mktemp('whole')
    return run(Keeper(folder, KILLED)), folder


def test_phases(whole: tuple[Diary, Path]) -> None:
    system, folder = whole
    assert system.apart == {step: step < 8 for step in range(STEPS)}
    assert system.refreshed == [8]
    before, after = (torch.load(folder / f'{step}.ckpt', weights_only=True) for step in (8, 9))
    key = 'model.alignment.w_att.weight'
    # One step at a learning rate of 1e-3 moves no weight this far.
    assert (after['state_dict'][key] - before['state_dict'][key]).abs().max() > 0.02


@pytest.mark.parametrize(('killed', 'refreshed'), [(5, [8]), (8, [8]), (9, [])])
def test_phases_survive_a_resume(whole: tuple[Diary, Path], killed: int, refreshed: list[int]) -> None:
    expected, folder = whole
    resumed = run(resume=folder / f'{killed}.ckpt')
    assert resumed.apart == {step: step < 8 for step in range(killed, STEPS)}
    assert resumed.refreshed == refreshed
    assert_same_weights(resumed, expected)


def test_a_checkpoint_of_the_original_is_not_refreshed_twice(whole: tuple[Diary, Path], tmp_path: Path) -> None:
    expected, folder = whole
    checkpoint = torch.load(folder / '13.ckpt', weights_only=True)
    del checkpoint['is_alignment_fresh']  # the original writes no such entry
    torch.save(checkpoint, tmp_path / 'original.ckpt')
    resumed = run(resume=tmp_path / 'original.ckpt')
    assert resumed.refreshed == []
    assert_same_weights(resumed, expected)


@pytest.mark.parametrize('overrides', [{'pretrain_pct': 0.0}, {'lm_only': True}], ids=str)
def test_one_phase_keeps_the_alignment(overrides: dict[str, Any]) -> None:
    system = run(steps=4, **overrides)
    assert system.refreshed == []
    assert system.apart == dict.fromkeys(range(4), False)


def test_refreshing_is_the_same_on_each_rank_and_leaves_the_randomness_alone() -> None:
    one, other = ABINet(**TINY), ABINet(**TINY)
    state = torch.get_rng_state()
    one.refresh_alignment()
    assert torch.get_rng_state().equal(state)
    torch.rand(7)
    other.refresh_alignment()
    assert_same_weights(one.model.alignment, other.model.alignment)  # type: ignore[arg-type]
    assert one.model.alignment.w_att.weight.std().item() == pytest.approx(0.02, rel=0.1)
