"""`strhub render`."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from strhub.data.lmdb import LmdbReader
from strhub.data.picture import open_image
from strhub.data.synth import cli


def records(path: Path) -> list[tuple[bytes | None, str | None]]:
    reader = LmdbReader(path)
    return [(reader.image(number), reader.label(number)) for number in range(1, len(reader) + 1)]


def run(out: Path, *arguments: str, count: int = 150, jobs: int = 1) -> None:
    cli.main(['--count', str(count), '--out', str(out), '--jobs', str(jobs), *arguments])


class Interrupt:
    """Stands in for a Ctrl-C after so many words."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.left = after
        draw = cli.Painter.__call__

        def interrupted(painter: cli.Painter, numbers: range) -> list[tuple[bytes, str]]:
            self.left -= len(numbers)
            if self.left < 0:
                raise KeyboardInterrupt
            return draw(painter, numbers)

        monkeypatch.setattr(cli.Painter, '__call__', interrupted)


@pytest.fixture(scope='module')
def whole(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('whole') / 'words'
    run(path)
    return path


def test_words_come_as_an_lmdb(whole: Path) -> None:
    found = records(whole)
    assert len(found) == 150
    for image, label in found[:20]:
        assert label
        assert open_image(image).mode == 'RGB'


def test_more_processes_write_the_same(whole: Path, tmp_path: Path) -> None:
    run(tmp_path / 'words', jobs=2)
    assert records(tmp_path / 'words') == records(whole)


def test_an_interrupted_run_goes_on_where_it_stopped(whole: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    out = tmp_path / 'words'
    with monkeypatch.context() as patch:
        Interrupt(patch, 100)
        with pytest.raises(KeyboardInterrupt):
            run(out)
    assert 'the same command goes on' in capsys.readouterr().err
    assert not out.exists()
    with monkeypatch.context() as patch:
        interrupt = Interrupt(patch, 150)
        run(out)
    assert interrupt.left >= cli.CHUNK  # what was done is not done again
    assert records(out) == records(whole)
    assert not list(tmp_path.glob('.*'))


def test_other_settings_do_not_mix_with_an_interrupted_run(tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        Interrupt(patch, 100)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / 'words')
    with pytest.raises(ValueError, match='with another seed, difficulty'):
        run(tmp_path / 'words', '--seed', '1', '--difficulty', '0.5')
    for count in (10, 100, 200):  # fewer than are done, more, and more than were asked for
        with pytest.raises(ValueError, match='interrupted run with another count: repeat the command as it was, or'):
            run(tmp_path / 'words', count=count)
    assert not (tmp_path / 'words').exists()
    run(tmp_path / 'words')
    assert len(records(tmp_path / 'words')) == 150


def test_what_exists_is_replaced_only_by_the_option_that_the_refusal_names(whole: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole, tmp_path / 'words'))
    with pytest.raises(FileExistsError, match=r'exists already: .* by --overwrite$'):
        run(out, count=5)
    assert records(out) == records(whole)
    run(out, '--overwrite', count=5)
    assert records(out) == records(whole)[:5]


def test_options_reach_the_pictures(tmp_path: Path) -> None:
    words = tmp_path / 'words.txt'
    words.write_text('AB\nBA\nABBA\n')
    options = (
        '--words',
        words,
        '--charset',
        'AB',
        '--max-length',
        '2',
        '--size',
        '32x100',
        '--sheet',
        tmp_path / 'a.png',
    )
    run(tmp_path / 'out', *map(str, options), count=20)
    found = records(tmp_path / 'out')
    assert {label for _, label in found} == {'AB', 'BA'}
    assert {open_image(image).size for image, _ in found} == {(100, 32)}
    with Image.open(tmp_path / 'a.png') as sheet:
        assert sheet.width > 300


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--count', '0'], '--count is 0'),
        (['--jobs', '0'], '--jobs is 0'),
        (['--difficulty', '2'], '--difficulty is 2'),
        (['--charset', 'ж'], 'give a folder of fonts'),
        (['--sheet', 'x.bogus'], r'--sheet is x\.bogus: give the name of a file that ends in \.png'),
        (['--sheet', '.'], r'--sheet is \.: give the name of a file'),
    ],
)
def test_senseless_settings_are_refused_before_anything_is_written(tmp_path: Path, arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cli.main(['--count', '10', '--out', str(tmp_path / 'x' / 'words'), *arguments])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('size', 'message'),
    [(size, 'is not HEIGHTxWIDTH') for size in ('32', '0x5', 'axb')] + [('32x99999999', 'is more than')],
)
def test_a_size_that_is_none_is_refused(tmp_path: Path, size: str, message: str, capsys) -> None:
    with pytest.raises(SystemExit):
        run(tmp_path / 'words', '--size', size)
    assert message in capsys.readouterr().err
