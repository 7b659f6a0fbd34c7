"""The entry points of torch.hub, from a folder that is not the checkout."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from runpy import run_path

import pytest
import torch
from shrunk import small

from strhub.models.crnn.system import CRNN
from strhub.models.zoo import MODELS

CHECKOUT = Path(__file__).parents[2]
CODE = """
import sys, torch
model = torch.hub.load(sys.argv[1], 'crnn_tiny', source='local', pretrained=False, charset_test='abc')
print(model.hparams.name, model(torch.rand(1, 3, *model.hparams.img_size)).shape[-1])
"""


def test_hub_works_from_another_folder(tmp_path: Path) -> None:
    command = [sys.executable, '-I', '-c', CODE, str(CHECKOUT)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == 'crnn-tiny 95\n'


def test_entry_points_say_what_they_load() -> None:
    hubconf = run_path(str(CHECKOUT / 'hubconf.py'))
    assert 'parseq_tiny-e7a21b54.pt' in hubconf['parseq_tiny'].__doc__
    assert 'which need no download' in hubconf['crnn_small_rendered'].__doc__
    assert all(importlib.util.find_spec(package) for package in hubconf['dependencies'])


@pytest.mark.parametrize('name', MODELS)
def test_every_model_has_an_entry_point(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hub_name = name.replace('-', '_')
    model = torch.hub.load(str(CHECKOUT), hub_name, source='local', pretrained=False, **small(name))
    assert model.hparams.name == name


def test_keyword_arguments_of_the_original() -> None:
    parseq = torch.hub.load(
        str(CHECKOUT), 'parseq_tiny', source='local', decode_ar=False, refine_iters=2, **small('parseq-tiny')
    )
    assert (parseq.hparams.decode_ar, parseq.hparams.refine_iters) == (False, 2)
    assert (parseq.model.decode_ar, parseq.model.refine_iters) == (False, 2)  # what reading goes by
    abinet = torch.hub.load(str(CHECKOUT), 'abinet', source='local', iter_size=1, **small('abinet'))
    assert abinet.hparams.iter_size == abinet.model.iter_size == 1


def test_weights_in_the_box_have_entry_points() -> None:
    model = torch.hub.load(str(CHECKOUT), 'crnn_small_rendered', source='local')
    boxed = CRNN.from_pretrained('crnn-small-rendered')
    assert model.hparams == boxed.hparams
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, boxed.state_dict()[key], rtol=0, atol=0)
