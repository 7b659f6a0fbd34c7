"""The weights in the box: they need no download, read words, and read as well as the README and their cards say."""

import importlib.util
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

import strhub
from strhub.engine import evaluate, package
from strhub.engine.configure import compose
from strhub.models import weights
from strhub.models.checkpoint import read_checkpoint
from strhub.models.zoo import BOXED, MODELS, config_dir, create_model, in_the_box, load_from_checkpoint

ROOT = Path(__file__).resolve().parents[1]
WORDS = (
    ROOT / 'tests/golden/words'
)  # rendered with difficulty 0.5: the first ten of a seed but one, cut in its last letter
SETS = ('IC13_1095/labels_857.tsv', 'IC13_1095/labels_1015.tsv', 'IC03_860')  # as the README's columns
ROW = re.compile(r'^\| `([\w-]+)` \|.*?((?: [\d.]+ / [\d.]+ \|)+)$', re.M)
TABLE = dict(ROW.findall((ROOT / 'README.md').read_text('utf-8')))

every_file = pytest.mark.parametrize('name', in_the_box())


def test_the_box_holds_what_is_promised() -> None:
    assert set(in_the_box()) == {'crnn-small-rendered', 'crnn-small-real'} == set(TABLE)
    assert BOXED == 'pretrained=crnn-small-rendered'
    sizes = [(folder / 'model.safetensors').stat().st_size for folder in in_the_box().values()]
    assert max(sizes) <= 13e6
    assert sum(sizes) <= 30e6


@every_file
def test_names_are_of_no_model_and_have_their_recipe(name: str) -> None:
    assert name not in MODELS
    assert (config_dir() / f'experiment/{name}.yaml').is_file()


def test_the_second_leg_does_not_begin_from_nothing() -> None:
    assert compose(['+experiment=crnn-small-rendered']).pretrained == (
        'outputs/weights/crnn-small-narrow/checkpoints/last.ckpt'
    )


@every_file
def test_cards_tell_where_the_weights_come_from(name: str) -> None:
    card = (in_the_box()[name] / 'README.md').read_text('utf-8')
    assert f'+experiment={name}' in card
    assert re.search(r'with seed \d+', card)
    assert re.search(r'at commit [0-9a-f]{10}', card)
    for said in ('license: apache-2.0', '## Limits', 'labels_857.tsv', 'labels_1015.tsv', 'IC03_860', 'float16'):
        assert said in card
    assert not re.search(r'/(home|root|tmp|work)/', card)
    assert 'before the weights were rounded' not in card


@every_file
def test_they_are_halves_and_computed_with_in_float32(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('STRHUB_WEIGHTS', str(tmp_path))  # where there are none
    monkeypatch.chdir(tmp_path)
    stored = read_checkpoint(in_the_box()[name]).state_dict
    assert {value.dtype for value in stored.values() if value.is_floating_point()} == {torch.float16}
    system = create_model(name.replace('-', '_'), pretrained=True)
    assert system.hparams.name == 'crnn-small'
    for key, value in load_from_checkpoint(f'pretrained={name}').model.state_dict().items():
        assert not value.is_floating_point() or value.dtype == torch.float32
        torch.testing.assert_close(value, stored[key].to(value.dtype), rtol=0, atol=0)
        torch.testing.assert_close(value, system.model.state_dict()[key], rtol=0, atol=0)


@every_file
def test_rounded_weights_are_known_as_such(name: str) -> None:
    state = read_checkpoint(in_the_box()[name]).state_dict
    assert any(not value.is_floating_point() and value > 2048 for value in state.values())  # which float16 has not
    assert package._is_rounded(state)
    assert not package._is_rounded({**state, 'more': torch.tensor(0.1)})


def test_folders_of_a_killed_packaging_are_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('mine', '.mine.part', '.mine.old'):
        shutil.copytree(in_the_box()['crnn-small-real'], tmp_path / name)
    monkeypatch.setattr(weights, 'BOX', tmp_path)
    assert list(in_the_box()) == ['mine']


def test_a_folder_may_be_called_as_weights_in_the_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(in_the_box()['crnn-small-real'], tmp_path / 'crnn-small-rendered')
    monkeypatch.chdir(tmp_path)
    folder, boxed = create_model('crnn-small-rendered'), create_model('crnn-small-real', pretrained=True)
    torch.testing.assert_close(folder.state_dict(), boxed.state_dict(), rtol=0, atol=0)


def test_another_network_is_told_how_to_ask() -> None:
    said = (
        r'^pretrained=crnn-small-real holds crnn-small, which is another network than vitstr: ask for crnn-small \(in'
    )
    with pytest.raises(ValueError, match=said):
        load_from_checkpoint('pretrained=crnn-small-real', name='vitstr')
    with pytest.raises(ValueError, match=r"no published weights of crnn-small: did you mean 'crnn-small-re"):
        load_from_checkpoint('pretrained=crnn-small')


def test_what_names_weights_names_no_model() -> None:
    with pytest.raises(ValueError, match=r'names weights, not a model: write pretrained=crnn-small-real'):
        create_model('crnn_small_real')


@every_file
def test_ten_rendered_words_are_read(name: str) -> None:
    labels = [line.split('\t') for line in (WORDS / 'labels.tsv').read_text('utf-8').splitlines()]
    assert len(labels) == 10
    readings = strhub.Reader(name, device='cpu')([WORDS / file for file, _ in labels])
    assert [reading.text for reading in readings] == [label for _, label in labels]


@every_file
def test_the_table_in_the_readme_holds(
    name: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    evaluate.main(
        [f'pretrained={name}', '--device=cpu', '--sets', *(str(shared / 'data/test' / path) for path in SETS)]
    )
    (line,) = Path(f'outputs/{name}.results.jsonl').read_text('utf-8').splitlines()
    (rows,) = json.loads(line)['results'].values()
    claims = [cell.split(' / ') for cell in TABLE[name].strip(' |').split(' | ')]
    for path, (accuracy, one_minus_ned) in zip(SETS, claims, strict=True):
        assert rows[path]['accuracy'] == pytest.approx(float(accuracy), abs=0.5), path
        assert rows[path]['one_minus_ned'] == pytest.approx(float(one_minus_ned), abs=0.5), path


def test_the_script_trains_tests_and_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location('train_weights', ROOT / 'scripts/train_weights.py')
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    commands: list[list[str]] = []
    monkeypatch.setattr(script, 'run', lambda *words: commands.append(list(map(str, words))))
    monkeypatch.setattr('sys.argv', ['train_weights.py', '--data', str(tmp_path), '--runs', str(tmp_path / 'runs')])
    monkeypatch.chdir(tmp_path)  # and back at the end
    script.main()
    assert [words[0] for words in commands] == ['train', 'train', 'package', 'package']  # without real words
    assert '--set' not in commands[-1]

    commands.clear()
    for name in (*(f'train/{name}' for name in ('IIIT5k', 'IC15', 'SVT')), *(f'test/{path}' for path in SETS)):
        (tmp_path / name).mkdir(parents=True)
    script.main()
    does = ['train', 'train', 'package', 'package', 'render', 'train', 'package', 'package']
    assert [words[0] for words in commands] == does
    assert all(f'test/{path}' in ' '.join(commands[index]) for path in SETS for index in (3, 7))
    for index, name in (1, 'crnn-small-rendered'), (5, 'crnn-small-real'):
        shipped = commands[index + 2]
        assert Path(shipped[shipped.index('--out') + 1]) == ROOT / 'strhub/weights' / name
    # each goes on from the one before
    for index, seed, before in (0, 1, None), (1, 2, 'crnn-small-narrow'), (5, 1, 'crnn-small-rendered'):
        config = compose([word for word in commands[index][1:] if word != 'ckpt_path=auto'])
        assert (config.model.name, config.seed, config.trainer.precision) == ('crnn-small', seed, 'bf16-mixed')
        start = before and str(tmp_path / f'runs/{before}/checkpoints/last.ckpt')
        assert config.pretrained == (start and os.path.relpath(start, ROOT))
