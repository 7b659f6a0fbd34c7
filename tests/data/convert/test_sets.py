"""Laws that every set obeys, on a miniature of each in the form in which it is published."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from miniatures import MINIATURES, Miniature
from PIL import Image
from scenes import Save, is_upright, save_plain, save_turned, scene

from strhub.data.convert import all_sets
from strhub.data.convert.cli import main
from strhub.data.lmdb import LmdbReader
from strhub.data.summary import counted

SETS = all_sets()
OWN = {'folder'}  # has tests of its own


def convert(name: str, source: Path, target: Path, *options: str) -> None:
    main([name.split()[0], str(source), str(target), '--workers', '1', *options])


def records(path: Path) -> list[tuple[bytes, str]]:
    reader = LmdbReader(path)
    return [(reader.image(i + 1) or b'', reader.label(i + 1) or '') for i in range(len(reader))]


def write(name: str, folder: Path, save: Save = save_plain) -> tuple[Miniature, Path]:
    if name.startswith(('synthtext', 'parquet')):
        pytest.importorskip('scipy' if name.startswith('synthtext') else 'pyarrow')
    return MINIATURES[name], MINIATURES[name].write(folder, save)


def test_every_set_has_a_miniature() -> None:
    assert {name.split()[0] for name in MINIATURES} == set(SETS) - OWN


@pytest.mark.parametrize('name', MINIATURES)
def test_words_are_upright_and_all_else_is_counted(name, tmp_path, capsys):
    miniature, source = write(name, tmp_path / 'src')
    before = {path: path.stat().st_mtime_ns for path in source.rglob('*')}
    convert(name, source, tmp_path / 'dst', *miniature.options)
    found, report = records(tmp_path / 'dst'), capsys.readouterr().out
    assert [label for _, label in found] == list(miniature.kept)
    assert [label for picture, label in found if not is_upright(Image.open(BytesIO(picture)))] == []
    for reason, count in miniature.skipped.items():
        assert f'  {counted(count, reason)}' in report
    assert f'{counted(len(miniature.kept), "word")} kept, {sum(miniature.skipped.values())} skipped' in report
    assert {path: path.stat().st_mtime_ns for path in source.rglob('*')} == before


@pytest.mark.parametrize('name', [name for name, miniature in MINIATURES.items() if miniature.exif])
def test_coordinates_are_those_of_the_picture_as_it_is_displayed(name, tmp_path):
    miniature, source = write(name, tmp_path / 'src', save_turned)
    convert(name, source, tmp_path / 'dst', *miniature.options)
    found = records(tmp_path / 'dst')
    assert [label for _, label in found] == list(miniature.kept)
    assert all(is_upright(Image.open(BytesIO(picture))) for picture, _ in found)


@pytest.mark.parametrize('name', ['coco', 'coco_text_1', 'coco_text_2', 'openvino', 'textocr'])
def test_coordinates_of_the_file_are_turned_with_the_picture(name, tmp_path):
    miniature, source = write(name, tmp_path / 'src', save_turned)
    for file in source.glob('*.json'):
        file.write_text(json.dumps(stored(json.loads(file.read_text()))))
    convert(name, source, tmp_path / 'dst', *miniature.options, '--as_stored')
    found = records(tmp_path / 'dst')
    assert [label for _, label in found] == list(miniature.kept)
    assert [label for picture, label in found if not is_upright(Image.open(BytesIO(picture)))] == []


def stored(value: Any) -> Any:
    """An annotation for the picture as it is displayed -> one for the file, where `save_turned` lays it on its side."""
    width = scene().width
    if isinstance(value, dict):
        value = {key: stored(inner) for key, inner in value.items()}
        if len(numbers := value.get('bbox', ())) == 4 and not isinstance(numbers[2], str):
            left, top, across, down = numbers
            value['bbox'] = [top, width - left - across, down, across]
    elif isinstance(value, list) and len(value) == 8 and not isinstance(value[0], dict):
        value = [number for x, y in zip(value[::2], value[1::2], strict=True) for number in (y, width - x)]
    elif isinstance(value, list):
        value = [stored(inner) for inner in value]
    return value


@pytest.mark.parametrize('name', [name for name, miniature in MINIATURES.items() if miniature.annotations])
@pytest.mark.parametrize('content', ['', '{"gt_0": [{"tr', '[1', '7', 'null', '[' * 100_000], ids=range(6))
def test_broken_json_ends_in_a_sentence(name, content, tmp_path):
    miniature, source = write(name, tmp_path / 'src')
    (source / miniature.annotations).write_text(content)
    with pytest.raises(ValueError, match=miniature.annotations) as error:
        convert(name, source, tmp_path / 'dst', *miniature.options)
    assert '\n' not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ['src']


@pytest.mark.parametrize('name', sorted(set(SETS) - OWN))
@pytest.mark.parametrize('kind', ['empty folder', 'other folder', 'nothing', 'other file'])
def test_a_wrong_source_ends_in_a_sentence_that_names_it(name, kind, tmp_path):
    source = tmp_path / 'src'
    if kind.endswith('folder'):
        source.mkdir()
    if kind == 'other folder':
        (source / 'notes').mkdir()
        (source / 'notes' / 'readme.txt').write_text('hello')
        (source / 'holiday.jpg').write_bytes(b'x')
    if kind == 'other file':
        source.write_bytes(b'\x00\x01 no annotations \xff')
    with pytest.raises((FileNotFoundError, ValueError), match='src') as error:
        convert(name, source, tmp_path / 'dst')
    assert '\n' not in str(error.value)
    assert not (tmp_path / 'dst').exists()


@pytest.mark.parametrize('name', sorted(SETS))
def test_the_list_says_what_a_user_needs(name, capsys):
    main(['--list', name])
    said = capsys.readouterr().out
    for field in ('download', 'from', 'licence', 'layout', 'counts', 'language', 'example'):
        assert f'\n  {field} ' in said
    assert 'SRC' in said
    assert all(len(line) <= 140 for line in said.splitlines())


@pytest.mark.parametrize('name', sorted(SETS))
def test_the_example_is_a_command_that_is_understood(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((FileNotFoundError, ValueError)):  # nothing is there: a misspelt option would be SystemExit
        main([name, *SETS[name].example.split()])
