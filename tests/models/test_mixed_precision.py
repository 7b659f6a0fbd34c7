"""Every model of the hub computes in bfloat16 where torch's autocast asks for it, in training and in reading."""

from typing import Any

import pytest
import torch
from shrunk import images, small

from strhub.models.zoo import MODELS, create_model

LABELS = ['Read', 'Me!', '2']


@pytest.mark.parametrize('name', MODELS)
@pytest.mark.filterwarnings('ignore:You are trying to `self.log')
def test_trains_and_reads_under_autocast(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    system: Any = create_model(name, **small(name)).train()
    if hasattr(system, 'losses'):  # no trainer says which phase it is: all parts together
        monkeypatch.setattr(type(system), 'is_pretraining', False)
    pictures = images(len(LABELS), system.hparams.img_size)
    with torch.autocast('cpu', torch.bfloat16):
        loss = system.training_step((pictures, LABELS), 0)
    assert loss.isfinite()
    loss.backward()
    wrong = [
        parameter_name
        for parameter_name, p in system.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]
    assert wrong == []
    system.eval()
    length = system.hparams.max_label_length
    with torch.inference_mode():
        exact = system(pictures, length)
        with torch.autocast('cpu', torch.bfloat16):
            logits = system(pictures, length)
    assert logits.shape == exact.shape
    assert logits.isfinite().all()
