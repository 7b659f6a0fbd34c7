"""The console command: which module a sub-command reaches, and what happens to a wrong one."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from strhub import __main__ as entry

ROOT = Path(__file__).parents[2]


def strhub(*arguments):
    return subprocess.run([sys.executable, '-m', 'strhub', *arguments], cwd=ROOT, capture_output=True, text=True)


def test_help_lists_the_commands_and_imports_nothing_heavy():
    code = "import sys; sys.argv = ['strhub', '--help']; from strhub.__main__ import main; main()"
    result = subprocess.run(
        [sys.executable, '-c', f'{code}; print("torch" in sys.modules)'], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0
    assert result.stdout.endswith('False\n')
    for name in entry.COMMANDS:
        assert f'  {name} ' in result.stdout


def test_version():
    result = strhub('--version')
    assert result.returncode == 0
    assert result.stdout.startswith('strhub ')


def test_unknown_command_is_one_sentence():
    result = strhub('tset')
    assert result.returncode == 2
    assert result.stdout == ''
    assert result.stderr.count('\n') == 1
    assert 'did you mean test?' in result.stderr


def test_no_command_shows_the_usage_and_fails(capsys):
    with pytest.raises(SystemExit) as exit_:
        entry.main([])
    assert exit_.value.code == 2
    assert 'usage: strhub COMMAND' in capsys.readouterr().err


@pytest.mark.parametrize('script', ['test.py', 'read.py', 'bench.py'])
def test_a_python_without_the_packages_is_told_so(script):
    command = [sys.executable, '-S', script, 'x.ckpt']  # -S: only the standard library
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.count('\n') == 1
    assert 'activate its environment' in result.stderr


@pytest.mark.parametrize('name', entry.COMMANDS)
def test_a_command_gets_its_arguments(name, monkeypatch):
    seen = []
    monkeypatch.setattr(sys, 'argv', ['strhub'])
    module = lambda name: SimpleNamespace(main=lambda argv: seen.append((name, argv)))  # noqa: E731
    monkeypatch.setattr(entry, 'import_module', module)
    entry.main([name, '--x', 'a=b'])
    assert seen == [(entry.COMMANDS[name][0], ['--x', 'a=b'])]
    assert sys.argv[0] == f'strhub {name}'


@pytest.mark.parametrize('name', entry.COMMANDS)
def test_every_command_has_its_module(name):
    from importlib import import_module

    assert callable(import_module(entry.COMMANDS[name][0]).main)
