"""What is foreign reaches a terminal without escape codes: names, labels, readings, errors, logs."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from strhub.data import inspect
from strhub.data.tools import cli as tools
from strhub.engine import read
from strhub.engine.errors import door, sentence
from strhub.models import zoo
from strhub.models.checkpoint import save_safetensors
from strhub.runtime.readings import Character, Reading
from strhub.terminal import plain, say

NASTY = 'a\x1b]0;title\x07b\nc\u202ed\x9b2J'
SHOWN = r'a\x1b]0;title\x07b\nc\u202ed\x9b2J'


def test_plain_shows_what_a_terminal_would_act_on_and_leaves_words_alone() -> None:
    assert plain(NASTY) == SHOWN
    for text in ('naïve', 'میخواهم', 'क्‍ष', '👩‍🚒', 'a b', 'C:\\new'):
        assert plain(text) == text


def test_say_keeps_lines(capsys: pytest.CaptureFixture[str]) -> None:
    say('a\nb\tc', '\x1b[2J')
    assert capsys.readouterr().out == 'a\nb\tc\n\\x1b[2J\n'


@pytest.mark.parametrize(
    'error',
    [
        ValueError(f'{NASTY} is wrong'),
        KeyError(f'{NASTY} is wrong'),
        FileNotFoundError(2, 'No such file', NASTY),
        ModuleNotFoundError('no', name=NASTY),
        ValueError('x ' * 10**6),
    ],
)
def test_errors_have_no_escape_codes_and_an_end(error: Exception) -> None:
    said = sentence(error)
    assert said == plain(said)
    assert len(said) < 5000


def test_what_is_logged_behind_a_door_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogRecordFactory()

    @door
    def main() -> None:
        handler = logging.StreamHandler(sys.stdout)
        logger = logging.getLogger('strhub.test')
        logger.addHandler(handler)
        logger.warning('%s:\n%s', 'a\x1b[2J', 'b')
        logger.removeHandler(handler)

    try:
        main()
    finally:
        logging.setLogRecordFactory(before)
    assert capsys.readouterr().out == 'a\\x1b[2J:\nb\n'


@pytest.mark.skipif(sys.platform == 'win32', reason='has no such names')
def test_nothing_that_names_files_or_labels_lets_them_through(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / NASTY.replace('/', '')
    folder.mkdir()
    Image.new('RGB', (40, 16)).save(folder / 'a\x1b[2J.png')
    (folder / 'b\x1b[2J.png').write_bytes(b'junk')
    (folder / 'labels.tsv').write_text('a\x1b[2J.png\tx\x1b[2J\nb\x1b[2J.png\ty\u202e\n')
    save_safetensors(zoo.create_model('crnn-tiny', hidden_size=2, width=0.05), folder / 'm\x1b.safetensors')
    for main, argv in (
        (inspect.main, [folder, '--charset', 'xy', '--sheet', folder / 's\x1b.png']),
        (tools.main, ['stats', folder, '--workers', '1']),
        (tools.main, ['merge', folder / 'labels.tsv', tmp_path / 'new\x1b']),
        (tools.main, ['verify', folder, '--workers', '1']),
        (read.main, [folder / 'm\x1b.safetensors', '--images', folder, '--device', 'cpu']),
        (read.main, [folder / 'gone\x1b.pt', '--images', folder, '--device', 'cpu']),
    ):
        with suppress(SystemExit):
            door(main)([str(word) for word in argv])  # type: ignore[operator]
        seen = ''.join(capsys.readouterr())
        assert seen
        for line in seen.split('\n'):
            assert line == plain(line, spared='\t')


def test_readings_are_shown_plain_and_given_whole_as_json() -> None:
    reading = Reading('x\x1b[2J', 0.5, (Character('\x1b', 0.5, (('\x1b', 0.5),)),))
    lines = list(read._lines(Path(NASTY), reading, as_json=False))
    assert lines == [plain(line) for line in lines]
    assert lines[0].startswith(SHOWN)
    (line,) = read._lines(Path(NASTY), reading, as_json=True)
    assert r'\u001b[2J' in line
