"""The vision transformer: with equal weights it computes what that of timm does, which the published networks have."""

import pytest
import torch

from strhub.models.vit import VisionTransformer

SIZES = {'img_size': (16, 64), 'patch_size': (4, 8), 'embed_dim': 48, 'depth': 2, 'num_heads': 3, 'mlp_ratio': 4}


@pytest.mark.parametrize('class_token', [False, True])
def test_it_is_that_of_timm(class_token: bool) -> None:
    timm = pytest.importorskip('timm.models.vision_transformer')
    pool = 'token' if class_token else ''
    theirs = timm.VisionTransformer(**SIZES, num_classes=0, global_pool=pool, class_token=class_token)
    ours = VisionTransformer(**SIZES, class_token=class_token)
    for (name, weight), (same, other) in zip(
        theirs.state_dict().items(), ours.state_dict().items(), strict=True
    ):  # initial weights are of the same kind
        assert (name, weight.shape) == (same, other.shape)
        assert other.std().item() == pytest.approx(weight.std().item(), rel=0.25), name
    assert ours.no_weight_decay() <= theirs.no_weight_decay()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 16, 64)
    torch.testing.assert_close(ours(images), theirs.forward_features(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize('wrong', [{'patch_size': (5, 8)}, {'num_heads': 5}])
def test_sizes_that_do_not_fit_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match='give'):
        VisionTransformer(**{**SIZES, **wrong}, class_token=False)
