"""What a door makes of an error: one sentence and an exit status."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from strhub.engine.errors import EXTRAS, door, sentence

ROOT = Path(__file__).parents[2]


def fail_with(error):
    @door
    def main():
        raise error

    return main


@pytest.fixture(autouse=True)
def no_debug(monkeypatch):
    monkeypatch.delenv('STRHUB_DEBUG', raising=False)


@pytest.mark.parametrize(
    ('error', 'expected'),
    [
        (ValueError('batch_size is 0: give at least 1'), 'batch_size is 0: give at least 1'),
        (KeyError('there is no model foo: try crnn'), 'there is no model foo: try crnn'),
        (FileNotFoundError('no such set: SVT'), 'no such set: SVT'),
        (FileNotFoundError(errno.ENOENT, 'No such file or directory', 'a.ckpt'), 'a.ckpt: no such file or directory'),
        (PermissionError(errno.EACCES, 'Permission denied', '/x'), '/x: permission denied'),
        (IsADirectoryError(errno.EISDIR, 'Is a directory', 'x'), 'x: is a directory'),
        (OSError(errno.ENOSPC, 'No space left on device'), 'no space left on device'),
        (ValueError('two\n  lines'), 'two lines'),
        (torch.OutOfMemoryError('CUDA out of memory. Tried to allocate'), 'smaller --batch_size'),
        (RuntimeError('[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: cannot'), 'smaller --batch_size'),
        (ModuleNotFoundError("No module named 'lmdb'", name='lmdb'), 'pip install strhub[test]'),
        (ModuleNotFoundError("No module named 'hydra.core'", name='hydra.core'), 'pip install strhub[train]'),
        (ModuleNotFoundError("No module named 'wonder'", name='wonder'), 'pip install wonder'),
        (KeyError('hparams'), 'STRHUB_DEBUG=1'),
    ],
)
def test_known_error_is_one_sentence_and_exit_2(error, expected, capsys):
    with pytest.raises(SystemExit) as exit_:
        fail_with(error)()
    out, err = capsys.readouterr()
    assert exit_.value.code == 2
    assert out == ''
    assert err.startswith('error: ')
    assert err.count('\n') == 1
    assert expected in err


def test_a_worker_of_a_loader_speaks_as_if_it_were_not_one():
    class Fails(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            raise ValueError('picture 1 is no picture: convert it')

    with pytest.raises(ValueError, match='no picture') as caught:
        next(iter(torch.utils.data.DataLoader(Fails(), num_workers=1)))
    assert sentence(caught.value) == 'picture 1 is no picture: convert it'


def test_configuration_errors_of_hydra_and_omegaconf():
    omegaconf = pytest.importorskip('omegaconf')
    hydra_errors = pytest.importorskip('hydra.errors')
    config = omegaconf.OmegaConf.create({'lr': 1})
    omegaconf.OmegaConf.set_struct(config, True)
    with pytest.raises(Exception, match='rl') as caught:
        _ = config.rl
    assert sentence(caught.value) == "Key 'rl' is not in struct"
    with pytest.raises(SystemExit) as exit_:
        fail_with(hydra_errors.ConfigCompositionException('Could not find\nmodel/foo'))()
    assert exit_.value.code == 2


def test_a_bug_keeps_its_traceback():
    with pytest.raises(AttributeError):
        fail_with(AttributeError('x'))()


def test_debug_keeps_every_traceback(monkeypatch):
    monkeypatch.setenv('STRHUB_DEBUG', '1')
    with pytest.raises(ValueError, match='why'):
        fail_with(ValueError('why not'))()


def test_ctrl_c_exits_with_130(capsys):
    with pytest.raises(SystemExit) as exit_:
        fail_with(KeyboardInterrupt())()
    assert exit_.value.code == 130
    assert 'Traceback' not in capsys.readouterr().err


@pytest.mark.skipif(os.name == 'nt', reason='pipes of POSIX')
def test_a_reader_that_went_away_is_no_error():
    code = 'from strhub.engine.errors import door\ndef main():\n    for i in range(100_000): print(i)\ndoor(main)()'
    with subprocess.Popen([sys.executable, '-c', code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
        p.stdout.readline()
        p.stdout.close()
        assert p.stderr.read() == b''
    assert p.returncode == 141


@pytest.mark.parametrize(('module', 'extra'), EXTRAS.items())
def test_the_extra_named_brings_the_package(module, extra):
    names = {'cv2': 'opencv-python-headless', 'hydra': 'hydra-core', 'omegaconf': 'hydra-core'}
    package = names.get(module, module.replace('_', '-'))
    requirements = (ROOT / 'requirements' / f'{extra}.in').read_text().split()
    assert package in [re.split(r'[^\w-]', requirement)[0] for requirement in requirements]
