"""Weights for another charset, word length or picture size."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from shrunk import images, small

from strhub.models.zoo import (
    MODELS,
    create_model,
    load_from_checkpoint,
    load_pretrained,
    load_weights,
    save_safetensors,
)


def make(name: str, **overrides: Any) -> Any:
    return create_model(name, **{**small(name), **overrides}).eval()


def adapted(name: str, **overrides: Any) -> tuple[Any, Any, Any]:
    """A model, another with `overrides` that has its weights, and the report."""
    old, new = make(name), make(name, **overrides)
    report = load_weights(new, old.model.state_dict(), hparams=dict(old.hparams), strict=True)
    return old.model.state_dict(), new.model.state_dict(), report


def keys(changes: list) -> list[str]:
    return [change.key for change in changes]


def test_the_same_model_keeps_everything() -> None:
    old, new, report = adapted('vitstr')
    assert report.is_exact
    assert keys(report.kept) == list(old)
    assert all(torch.equal(old[key], new[key]) for key in old)


def test_characters_keep_their_rows_and_new_ones_start_fresh() -> None:
    old, new, report = adapted('parseq-tiny', charset_train='zya9é')
    assert keys(report.resized) == ['head.weight', 'head.bias', 'text_embed.embedding.weight']
    assert not report.new
    assert not report.dropped
    ids = [0, 36, 35, 11, 10]  # of [E], z, y, a, 9 among 0-9a-zA-Z…
    assert torch.equal(new['head.weight'][:5], old['head.weight'][ids])
    assert torch.equal(new['text_embed.embedding.weight'][:5], old['text_embed.embedding.weight'][ids])
    assert torch.equal(new['text_embed.embedding.weight'][-2:], old['text_embed.embedding.weight'][-2:])  # [B] and [P]
    assert new['head.weight'][5].any()
    assert '4 characters kept, 1 new' in str(report)


def test_another_charset_of_the_same_size_is_not_loaded_as_it_is() -> None:
    charset = create_model('crnn-tiny').hparams.charset_train
    old, new, _ = adapted('crnn-tiny', charset_train='é' + charset[1:])
    assert not torch.equal(new['rnn.1.linear.weight'][1], old['rnn.1.linear.weight'][1])
    assert torch.equal(new['rnn.1.linear.weight'][2:], old['rnn.1.linear.weight'][2:])


@pytest.mark.parametrize('name', ['parseq-tiny', 'vitstr'])
@pytest.mark.parametrize('img_size', [[32, 160], [64, 64], [16, 64], [64, 256]])
def test_patch_positions_are_interpolated_on_their_grid(name: str, img_size: list[int]) -> None:
    key = 'pos_embed' if name == 'vitstr' else 'encoder.pos_embed'
    prefix = 1 if name == 'vitstr' else 0
    old, new = make(name), make(name, img_size=img_size)
    weights = old.model.state_dict()
    ramp = torch.linspace(0, 1, 8)[:, None].expand(8, 16).flatten()  # from the first row of patches to the last
    weights[key][:, prefix:] = ramp[None, :, None]
    report = load_weights(new, weights, hparams=dict(old.hparams), strict=True)
    assert keys(report.resized) == [key]
    rows, columns = img_size[0] // 4, img_size[1] // 8
    grid = new.model.state_dict()[key][0, prefix:].unflatten(0, (rows, columns))
    torch.testing.assert_close(grid, grid[:, :1, :1].expand_as(grid))  # still the same along a row
    assert (grid[1:, 0, 0] > grid[:-1, 0, 0]).all()
    assert torch.equal(new.model.state_dict()[key][0, :prefix], weights[key][0, :prefix])
    assert f'8 x 16 patches -> {rows} x {columns}' in str(report)


@pytest.mark.parametrize('length', [10, 25, 40])
def test_text_positions_keep_the_common_part(length: int) -> None:
    old, new, report = adapted('parseq-tiny', max_label_length=length)
    shared = min(length, 25) + 1
    assert torch.equal(new['pos_queries'][:, :shared], old['pos_queries'][:, :shared])
    assert new['pos_queries'][:, shared:].abs().sum(-1).all()
    assert keys(report.resized) == ([] if length == 25 else ['pos_queries'])


def test_constants_are_those_of_the_new_sizes() -> None:
    _, new, report = adapted('trba', img_size=[64, 64])
    assert keys(report.resized) == ['Transformation.GridGenerator.inv_delta_C', 'Transformation.GridGenerator.P_hat']
    fresh = make('trba', img_size=[64, 64]).model.state_dict()
    assert torch.equal(new['Transformation.GridGenerator.P_hat'], fresh['Transformation.GridGenerator.P_hat'])


def test_positions_of_the_picture_are_learnt_anew() -> None:
    _, _, report = adapted('abinet-sv', img_size=[32, 160])
    assert keys(report.new) == ['vision.attention.w0.weight', 'vision.attention.w0.bias']


def test_a_checkpoint_with_other_sizes_loads_and_logs_the_table(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_safetensors(make('vitstr'), tmp_path / 'model.safetensors')
    with caplog.at_level(logging.INFO):
        load_from_checkpoint(tmp_path / 'model.safetensors')
        assert not caplog.records
        load_from_checkpoint(tmp_path / 'model.safetensors', charset_train='abc')
    assert 'head.weight  95 x 48 -> 4 x 48  3 characters kept, 0 new' in caplog.text


def test_another_architecture_is_refused_with_the_first_keys(tmp_path: Path) -> None:
    save_safetensors(make('vitstr'), tmp_path / 'model.safetensors')
    message = r'do not fit vitstr: \d+ of another shape \(cls_token is 1 x 1 x 48, not 1 x 1 x 96, pos_embed .*, …\)'
    with pytest.raises(ValueError, match=message):
        load_from_checkpoint(tmp_path / 'model.safetensors', embed_dim=96)


def test_missing_and_unknown_weights_are_refused_by_name(tmp_path: Path) -> None:
    system = make('crnn')
    weights = system.model.state_dict()
    weights['extra'] = weights.pop('cnn.conv0.bias')
    with pytest.raises(ValueError, match=r'1 missing of its 46 tensors \(cnn.conv0.bias\), 1 unknown to it \(ext'):
        load_weights(system, weights, strict=True)


@pytest.mark.parametrize('shape', [(), (48,), (16, 48), (1, 128, 1, 48)])
def test_positions_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    system = make('parseq-tiny')
    weights = {**system.model.state_dict(), 'encoder.pos_embed': torch.zeros(shape)}
    with pytest.raises(ValueError, match=r'1 of another shape \(encoder.pos_embed is'):
        load_weights(system, weights, strict=True)


def test_fine_tuning_takes_what_fits(tmp_path: Path) -> None:
    save_safetensors(make('parseq-tiny'), tmp_path / 'model.safetensors')
    system = make('parseq-tiny', enc_depth=3, dec_depth=2, refine_iters=0, dec_mlp_ratio=2, charset_train='abc')
    report = load_pretrained(system, tmp_path / 'model.safetensors')
    assert all(key.startswith(('encoder.blocks.2', 'decoder.layers')) for key in keys(report.new))
    assert 'decoder.layers.0.linear1.weight' in keys(report.new)
    assert 'encoder.blocks.1.attn.qkv.weight' in keys(report.kept)
    assert 'head.weight' in keys(report.resized)
    assert system.read(images(1, [32, 128]))[0]


def test_fine_tuning_from_another_model_is_refused(tmp_path: Path) -> None:
    save_safetensors(make('crnn'), tmp_path / 'model.safetensors')
    with pytest.raises(ValueError, match='holds crnn, which is another network than parseq-tiny'):
        load_pretrained(make('parseq-tiny'), tmp_path / 'model.safetensors')
    torch.save(make('crnn').state_dict(), tmp_path / 'weights.pt')
    with pytest.raises(ValueError, match='do not fit parseq-tiny'):
        load_pretrained(make('parseq-tiny'), tmp_path / 'weights.pt')


def test_fine_tuning_from_bare_weights_of_the_same_sizes(tmp_path: Path) -> None:
    torch.save(make('parseq-tiny', charset_train='abc').state_dict(), tmp_path / 'weights.pt')
    assert load_pretrained(make('parseq-tiny', charset_train='abc'), tmp_path / 'weights.pt').is_exact


def test_fine_tuning_by_name_asks_for_the_published_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('STRHUB_WEIGHTS', str(tmp_path))
    for source in ('parseq_tiny', 'pretrained=parseq-tiny'):
        with pytest.raises(FileNotFoundError, match=MODELS['parseq-tiny'].weights):
            load_pretrained(make('parseq-tiny'), source)
