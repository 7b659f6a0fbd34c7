"""The quick start, in seconds instead of minutes: every stage runs, and the last lines can be typed."""

import re
import shutil
import signal
from pathlib import Path

import pytest

from strhub import quickstart
from strhub.engine.callbacks import TrainingInterruptedError
from strhub.engine.configure import compose

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_quick_start_renders_trains_tests_and_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quickstart, 'TEST_WORDS', 50)
    shutil.copytree(ROOT / 'demo_images', tmp_path / 'pictures')
    (tmp_path / 'pictures' / 'broken.jpg').write_bytes(b'no picture')
    quickstart.main(['--minutes', '0.01', '--images', 'pictures', '--out', 'out', '--experiment', 'crnn-tiny'])
    printed = capsys.readouterr().out
    assert re.search(r'\| Combined +\| +50 \|', printed)
    assert 'read pretrained=crnn-small-rendered --images pictures' in printed
    assert printed.count('pictures/01.jpg: OPEN') >= 1
    assert printed.count('pictures/01.jpg: ') == 2
    checkpoint = re.search(r'The checkpoint: (.*)', printed)
    assert checkpoint is not None
    assert Path(checkpoint[1]).is_file()
    assert f'./read.py {checkpoint[1]} --images' in printed.split('What to type next')[1]


@pytest.mark.slow
def test_slower_machines_train_fewer_steps(tmp_path: Path) -> None:
    config = compose(
        [
            '+experiment=crnn-tiny',
            'dataset=rendered',
            'model.batch_size=2',
            'data.num_workers=0',
            'trainer.max_epochs=-1',
        ]
    )
    assert quickstart.steps_in(0.001, config, tmp_path) == quickstart.UNTIMED_STEPS  # never none at all
    assert quickstart.steps_in(60, config, tmp_path) > quickstart.UNTIMED_STEPS
    assert not list(tmp_path.rglob('*.ckpt'))  # measuring leaves nothing


def test_a_stopped_training_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> None:
        stop = TrainingInterruptedError(signal.SIGINT)
        stop.checkpoint = tmp_path / 'last.ckpt'
        raise stop

    monkeypatch.setattr(quickstart, 'tour', stopped)
    with pytest.raises(SystemExit) as end:
        quickstart.main(['--out', str(tmp_path)])
    assert end.value.code == 130
    assert f'ckpt_path={tmp_path / "last.ckpt"}' in capsys.readouterr().out


@pytest.mark.parametrize(('argv', 'says'), [(['--minutes', '0'], 'more than 0'), (['--minutes', 'x'], 'invalid float')])
def test_bad_input_is_one_sentence(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        quickstart.main(argv)
    assert stop.value.code == 2
    assert says in capsys.readouterr().err
