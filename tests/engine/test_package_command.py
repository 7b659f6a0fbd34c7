"""A packaged model: what the folder holds, who loads it, and what is said of one that is damaged."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from strhub.engine.package import main
from strhub.models.base import BaseSystem
from strhub.models.crnn.system import CRNN
from strhub.models.utils import create_model, load_from_checkpoint
from strhub.models.zoo import load_reader


def run(capsys, *argv, door=main):
    """Returns the exit status, stdout and stderr."""
    try:
        door([*map(str, argv)])
        status = 0
    except SystemExit as exit_:
        status = exit_.code or 0
    return status, *capsys.readouterr()


@pytest.fixture
def folder(crnn_checkpoint, tmp_path, capsys) -> Path:
    folder = tmp_path / 'my-crnn'
    assert run(capsys, crnn_checkpoint, '--out', folder, '--license', 'MIT')[0] == 0
    return folder


def is_same(system, other):
    mine, others = system.state_dict(), other.state_dict()
    return mine.keys() == others.keys() and all(torch.equal(mine[key], others[key]) for key in mine)


def test_a_folder_is_loaded_like_a_checkpoint(folder, tiny_crnn):
    assert sorted(file.name for file in folder.iterdir()) == ['README.md', 'config.json', 'model.safetensors']
    assert [path.name for path in folder.parent.iterdir()] == ['my-crnn']
    assert json.loads((folder / 'config.json').read_text()) == dict(tiny_crnn.hparams)
    for loaded in (
        create_model(str(folder)),
        load_from_checkpoint(folder),
        load_reader(folder),
        CRNN.from_pretrained(folder),
        BaseSystem.from_pretrained(folder, leaky_relu=True),
        load_from_checkpoint(folder / 'model.safetensors'),
    ):
        assert is_same(loaded, tiny_crnn)
    assert create_model(str(folder), charset_test='abc').hparams.charset_test == 'abc'


def test_the_doors_take_a_folder(folder, crnn_checkpoint, words, capsys):
    from strhub.engine.evaluate import main as test
    from strhub.engine.read import main as read

    status, out, err = run(capsys, folder, '--images', words, '--device', 'cpu', door=read)
    assert (status, err) == (0, '')
    assert out == run(capsys, crnn_checkpoint, '--images', words, '--device', 'cpu', door=read)[1]
    (words / 'notes.txt').unlink()
    assert run(capsys, f'{folder}/', '--sets', words, '--device', 'cpu', '--num_workers', 0, door=test)[0] == 0
    assert (folder.parent / 'my-crnn.results.txt').is_file()  # beside it, so that it stays as it was packaged


@pytest.mark.parametrize('name', ['crnn', 'parseq'])
def test_the_mixin_of_the_hub_loads_it_and_writes_what_we_load(name, request, tmp_path, capsys):
    """Theirs comes first in the order of methods: nothing of ours takes part."""
    hub = pytest.importorskip('huggingface_hub')
    system = request.getfixturevalue(f'tiny_{name}')
    checkpoint = request.getfixturevalue(f'{name}_checkpoint')
    assert run(capsys, checkpoint, '--out', tmp_path / 'ours')[0] == 0

    class Mixed(hub.PyTorchModelHubMixin, type(system)):
        pass

    theirs = Mixed.from_pretrained(tmp_path / 'ours')
    assert is_same(theirs, system)
    images = torch.rand(2, 3, *system.hparams.img_size)
    with torch.inference_mode():
        assert torch.equal(theirs(images), system(images))
    theirs.save_pretrained(tmp_path / 'theirs')
    assert is_same(create_model(str(tmp_path / 'theirs')), system)


def test_the_methods_of_the_hub(tiny_crnn, tmp_path, monkeypatch):
    hub = pytest.importorskip('huggingface_hub')
    tiny_crnn.save_pretrained(tmp_path / 'saved')
    assert is_same(CRNN.from_pretrained(tmp_path / 'saved'), tiny_crnn)
    with pytest.raises(ValueError, match=r'holds the model crnn, which is no PARSeq'):
        type(create_model('parseq', embed_dim=24, enc_depth=1)).from_pretrained(tmp_path / 'saved')
    asked = {}
    monkeypatch.setattr(hub, 'snapshot_download', lambda name, **how: asked.update(how) or str(tmp_path / name))
    assert is_same(CRNN.from_pretrained('saved', revision='v1'), tiny_crnn)
    assert (asked['revision'], asked['allow_patterns']) == ('v1', ['model.safetensors', 'config.json'])
    uploaded = []

    class Api:
        def __init__(self, token=None):
            assert token == 'secret'

        def create_repo(self, repo_id, **_):
            return type('Url', (str,), {'repo_id': repo_id})(f'https://hub/{repo_id}')

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            uploaded.extend([repo_id, *sorted(file.name for file in Path(folder_path).iterdir())])

    monkeypatch.setattr(hub, 'HfApi', Api)
    assert tiny_crnn.push_to_hub('me/mine', token='secret') == 'https://hub/me/mine'
    assert uploaded == ['me/mine', 'README.md', 'config.json', 'model.safetensors']


def test_the_card(crnn_checkpoint, tmp_path, capsys, words):
    hub = pytest.importorskip('huggingface_hub')
    run_folder = tmp_path / 'run'
    checkpoint = run_folder / 'checkpoints' / 'last.ckpt'
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(crnn_checkpoint.read_bytes())
    record = {
        'command': "/my/home/__main__.py train model.lr=1 'hydra.run.dir=/my/home/a run' ckpt_path=auto",
        'versions': {'torch': '9.9'},
        'git': {'commit': '0123456789abcdef', 'changed': []},
        'train': {'real': '12 words ff00'},
    }
    (run_folder / 'record.json').write_text(json.dumps([record]))
    (run_folder / 'config.yaml').write_text('seed: 7\ntrainer: {max_epochs: 1, max_steps: -1}\n')
    (words / 'notes.txt').unlink()
    argv = [checkpoint, '--device', 'cpu', '--license', 'apache-2.0', 'leaky_relu=true']
    status, out, err = run(capsys, *argv, '--out', tmp_path / 'first', '--set', words)
    assert status == 0, err
    text = (tmp_path / 'first' / 'README.md').read_text()
    data = hub.ModelCard(text).data
    assert (data.license, data.library_name, data.pipeline_tag) == ('apache-2.0', 'strhub', 'image-to-text')
    assert {'strhub', 'ocr', 'crnn'} <= set(data.tags)
    assert 'Trained by `strhub train model.lr=1`, for 1 epoch with seed 7.' in text
    assert 'With torch 9.9, at commit 0123456789.' in text
    assert '/my/home' not in text
    assert 'On real (12 words).' in text
    table = [line for line in out.splitlines() if line.startswith('|')]
    assert len(table) == 4
    assert all(line in text for line in table)  # the very table of the test
    assert json.loads((tmp_path / 'first' / 'config.json').read_text())['leaky_relu'] is True
    # Results stay with what was measured: other parameters, or a checkpoint that was trained further, have none
    for argv in ([checkpoint], [checkpoint, 'leaky_relu=true']):
        status, _, err = run(capsys, *argv, '--out', tmp_path / 'second', '--overwrite')
        assert (status, 'no results' in err) == (0, True)
        assert 'Nothing was measured' in (tmp_path / 'second' / 'README.md').read_text()
        os.utime(checkpoint, (2e9, 2e9))


def test_half_precision(crnn_checkpoint, tiny_crnn, tmp_path, capsys):
    assert run(capsys, crnn_checkpoint, '--out', tmp_path / 'half', '--fp16')[0] == 0
    stored = load_file(tmp_path / 'half' / 'model.safetensors')
    assert {value.dtype for value in stored.values()} == {torch.float16, torch.int64}
    for loaded in (load_reader(tmp_path / 'half'), create_model(str(tmp_path / 'half'))):
        for key, value in tiny_crnn.state_dict().items():
            expected = value.half().float() if value.is_floating_point() else value
            assert torch.equal(loaded.state_dict()[key], expected)
    huge = create_model('crnn', width=0.0625, hidden_size=16)
    with torch.no_grad():
        next(huge.parameters()).fill_(1e6)
    huge.save_pretrained(tmp_path / 'huge')
    status, _, err = run(capsys, tmp_path / 'huge', '--out', tmp_path / 'small', '--fp16')
    assert (status, 'float16' in err, (tmp_path / 'small').exists()) == (2, True, False)


def test_what_is_there_is_not_lost(folder, crnn_checkpoint, tmp_path, capsys, monkeypatch):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    (own := folder.with_name(f'{folder.name}.old')).mkdir()
    status, _, err = run(capsys, crnn_checkpoint, '--out', folder)
    assert (status, '--overwrite' in err) == (2, True)

    def fail(*_, **__):
        raise OSError('no space')

    with monkeypatch.context() as patch:
        patch.setattr('strhub.models.folder.save_file', fail)
        assert run(capsys, crnn_checkpoint, '--out', folder, '--overwrite')[0] == 2
    with monkeypatch.context() as patch:  # killed between the two renames
        rename = Path.rename
        patch.setattr(Path, 'rename', lambda self, to: fail() if '.part' in self.name else rename(self, to))
        with pytest.raises(OSError, match='no space'):
            CRNN.from_pretrained(folder).save_pretrained(folder, overwrite=True)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert sorted(tmp_path.iterdir()) == [folder, own]
    assert run(capsys, crnn_checkpoint, '--out', folder, '--overwrite', '--title', 'Other')[0] == 0
    assert '# Other' in (folder / 'README.md').read_text()
    (folder / 'figure.png').touch()
    for target in (folder, tmp_path, crnn_checkpoint):
        status, _, err = run(capsys, crnn_checkpoint, '--out', target, '--overwrite')
        assert (status, 'not replaced' in err) == (2, True)


@pytest.mark.parametrize(
    ('damage', 'expected'),
    [
        (lambda f: (f / 'model.safetensors').unlink(), 'has no model.safetensors'),
        (lambda f: (f / 'model.safetensors').rename(f / 'pytorch_model.bin'), 'has no model.safetensors'),
        (lambda f: (f / 'config.json').unlink(), 'has no config.json'),
        (lambda f: (f / 'config.json').write_text('{"name": '), 'damaged'),
        (lambda f: (f / 'config.json').write_text('[' * 100000), 'damaged'),
        (lambda f: (f / 'config.json').write_text('["crnn"]'), 'in place of hyper-parameters'),
        (lambda f: (f / 'config.json').write_text('{"architectures": ["Other"]}'), 'names no model'),
        (lambda f: (f / 'config.json').write_text('{"name": "crnn", "colour": 1}'), 'colour'),
        (lambda f: (f / 'config.json').write_text('{"name": "crnn", "hidden_size": "wide"}'), 'hidden_size'),
        (lambda f: (f / 'config.json').write_text('{"name": ["crnn"]}'), 'there is no model'),
        (lambda f: (f / 'config.json').write_text('{"name": "crnn-tiny"}'), 'do not fit crnn-tiny'),
        (lambda f: (f / 'model.safetensors').write_bytes(b'\x80\x04cos\nsystem\n.'), 'damaged'),
        (lambda f: (f / 'model.safetensors').write_bytes((f / 'model.safetensors').read_bytes()[:999]), 'damaged'),
        (lambda f: save_file({'x': torch.ones(1)}, str(f / 'model.safetensors')), 'do not fit'),
    ],
)
def test_a_damaged_folder_is_one_sentence(folder, damage, expected):
    damage(folder)
    for load in (create_model, load_reader):
        with pytest.raises(ValueError, match=expected) as caught:
            load(str(folder))
        assert '\n' not in str(caught.value)


def test_bad_usage_is_one_sentence(crnn_checkpoint, tmp_path, capsys):
    for argv in ([crnn_checkpoint], [crnn_checkpoint, '--out', tmp_path / 'x', '--license', 'my own\nlicence']):
        status, out, err = run(capsys, *argv)
        assert (status, out, err.count('\n')) == (2, '', 1)
    assert not (tmp_path / 'x').exists()


def test_a_folder_that_cannot_be_made_is_named_as_it_was_given(crnn_checkpoint, tmp_path, capsys):
    (tmp_path / 'file').touch()
    status, _, err = run(capsys, crnn_checkpoint, '--out', tmp_path / 'file' / 'model')
    assert (status, err.splitlines()[-1].startswith(f'error: {tmp_path}/file/model cannot be made')) == (2, True)
