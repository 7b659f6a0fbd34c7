"""What is shipped: the wheel holds everything, and works from a folder that is not the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='module')
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked as an installation would be."""
    pytest.importorskip('hatchling', reason='the wheel is built without network, by the build backend itself')
    pytest.importorskip('hatch_requirements_txt')
    folder = tmp_path_factory.mktemp('wheel')
    command = [sys.executable, '-m', 'hatchling', 'build', '-t', 'wheel', '-d', str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob('*.whl')
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / 'site')
    return folder / 'site'


def in_installation(site: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs Python where only the unpacked wheel can be found."""
    environment = {**os.environ, 'PYTHONPATH': str(site), 'PYTHONSAFEPATH': '1', 'OMP_NUM_THREADS': '1'}
    return subprocess.run([sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True)


def test_wheel_holds_every_file_of_the_package(unpacked: Path) -> None:
    def files(root: Path) -> set[str]:
        return {p.relative_to(root).as_posix() for p in root.rglob('*') if p.is_file() and '__pycache__' not in p.parts}

    assert files(unpacked / 'strhub') == files(ROOT / 'strhub') | {
        f'configs/{name}' for name in files(ROOT / 'configs')
    }


def test_wheel_carries_its_licences(unpacked: Path) -> None:
    (info,) = unpacked.glob('*.dist-info')
    names = {path.name for path in (info / 'licenses').rglob('*')}
    assert {'LICENSE', 'NOTICE'} <= names
    assert 'strhub=strhub.__main__:main' in (info / 'entry_points.txt').read_text().replace(' ', '')


def test_models_are_made_away_from_the_checkout(unpacked: Path, tmp_path: Path) -> None:
    code = (
        'import strhub; from strhub.models.utils import create_model; m = create_model("parseq");'
        'print(strhub.__file__, sum(p.numel() for p in m.parameters()))'
    )
    done = in_installation(unpacked, tmp_path, '-c', code)
    assert done.returncode == 0, done.stderr
    location, count = done.stdout.split()
    assert Path(location).is_relative_to(unpacked)
    assert int(count) == 23_832_671


def test_the_wheel_reads_with_weights_of_its_own(unpacked: Path, tmp_path: Path) -> None:
    pictures = str(ROOT / 'demo_images')
    done = in_installation(
        unpacked, tmp_path, '-m', 'strhub', 'read', 'pretrained=crnn-small-rendered', '--images', pictures
    )
    assert done.returncode == 0, done.stderr
    assert '01.jpg: OPEN' in done.stdout


def test_command_line_works_away_from_the_checkout(unpacked: Path, tmp_path: Path) -> None:
    done = in_installation(unpacked, tmp_path, '-m', 'strhub', '--help')
    assert done.returncode == 0, done.stderr
    assert 'quickstart' in done.stdout
