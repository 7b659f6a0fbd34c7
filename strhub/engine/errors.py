"""What a user sees when something is wrong: one sentence on stderr and an exit status, never a traceback."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import ParamSpec, TypeVar

from strhub.terminal import PlainRecord, plain

P = ParamSpec('P')
R = TypeVar('R')

USAGE, INTERRUPTED, BROKEN_PIPE = 2, 130, 141  # the last two as shells report SIGINT and SIGPIPE: 128 + signal
LONGEST = 4000  # characters of a sentence: a file may claim a name of megabytes

KNOWN: tuple[type[Exception], ...] = (ValueError, KeyError, OSError, ImportError, MemoryError)
# Errors of packages which are not imported for the sake of being caught: torch alone takes seconds.
KNOWN_ELSEWHERE = {
    'hydra': None,  # None: every error of the package tells the user something
    'omegaconf': None,
    'lmdb': None,
    'yaml': None,
    'safetensors_rust': None,
    'lightning': 'MisconfigurationException',
    'torch': 'OutOfMemoryError',
}
# Import name of an optional package -> the smallest extra that brings it.
EXTRAS = {
    'cv2': 'test',
    'lmdb': 'test',
    'rapidfuzz': 'test',
    'pyarrow': 'data',
    'scipy': 'data',
    'hydra': 'train',
    'omegaconf': 'train',
    'rich': 'train',
    'tensorboard': 'train',
    'fvcore': 'bench',
    'matplotlib': 'bench',
    'onnx': 'export',
    'onnxruntime': 'export',
    'onnxscript': 'export',
    'openvino': 'export',
    'optuna': 'tune',
    'ray': 'tune',
    'gradio': 'demo',
    'fastapi': 'serve',
    'uvicorn': 'serve',
    'python_multipart': 'serve',
}
# What strhub cannot be installed without.
CORE = {'torch', 'torchvision', 'timm', 'lightning', 'yaml', 'safetensors', 'PIL', 'numpy', 'tqdm'}


def door(main: Callable[P, R]) -> Callable[P, R]:
    """Wraps the `main` of a command: a known error becomes `error: one sentence` and exit status 2.

    Ctrl-C exits with 130, a reader that went away (`… | head`) with 141, both quietly. An error nobody foresaw keeps
    its traceback, for it is a bug; STRHUB_DEBUG=1 keeps every traceback. The streams pass any text, and what is
    logged or told of an error has no escape codes.
    """

    @wraps(main)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        accept_any_text()
        logging.setLogRecordFactory(PlainRecord)
        try:
            result = main(*args, **kwargs)
            sys.stdout.flush()  # a closed pipe shows here rather than in the interpreter's last words
            return result
        except BrokenPipeError:
            _discard_stdout()
            sys.exit(BROKEN_PIPE)
        except KeyboardInterrupt:
            print('\ninterrupted', file=sys.stderr)
            sys.exit(INTERRUPTED)
        except Exception as error:
            if os.environ.get('STRHUB_DEBUG') == '1' or not is_known(error):
                raise
            print(f'error: {sentence(error)}', file=sys.stderr)
            sys.exit(USAGE)

    return guarded


def accept_any_text() -> None:
    """Makes the standard streams pass what the locale cannot spell: names of files, readings."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        with suppress(io.UnsupportedOperation):  # it has been read from already
            sys.stdin.reconfigure(errors='surrogateescape')
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding='utf-8', errors='backslashreplace')


def is_known(error: BaseException) -> bool:
    """True of an error whose message is meant for the user."""
    return isinstance(error, KNOWN) or is_out_of_memory(error) or any(_is_elsewhere(c) for c in type(error).__mro__)


def is_out_of_memory(error: BaseException) -> bool:
    """True if the device, or the machine, had no memory left."""
    if isinstance(error, MemoryError) or any(c.__name__ == 'OutOfMemoryError' for c in type(error).__mro__):
        return True
    # torch has no class of its own for the CPU's allocator, nor for MPS
    text = str(error)
    return isinstance(error, RuntimeError) and ('DefaultCPUAllocator' in text or 'out of memory' in text)


def sentence(error: BaseException) -> str:
    """The message of a known error on one line, with the remedy where we know one, and without control characters."""
    text = plain(_sentence(error))
    return text if len(text) <= LONGEST else text[:LONGEST] + ' …'


def _sentence(error: BaseException) -> str:
    if is_out_of_memory(error):
        return 'there is not enough memory: use a smaller --batch_size (model.batch_size in training) or --device cpu'
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _missing_package(error.name)
    if isinstance(error, OSError) and error.strerror:
        where = f'{error.filename}: ' if error.filename is not None else ''
        return where + error.strerror[0].lower() + error.strerror[1:]
    # str() of a KeyError is the repr of its message
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = _on_one_line(text)
    if ' ' in text:
        return text
    # A bare key or index was not written for a user.
    return f'{type(error).__name__} {text}'.rstrip() + ' was not expected here; STRHUB_DEBUG=1 shows where it arose'


def _is_elsewhere(cls: type) -> bool:
    package = cls.__module__.split('.')[0]
    return package in KNOWN_ELSEWHERE and KNOWN_ELSEWHERE[package] in (None, cls.__name__)


def _missing_package(module: str) -> str:
    package = module.split('.')[0]
    if package == 'strhub':
        return f'this installation of strhub has no module {module}: install strhub again'
    if package in CORE:
        return (
            f'strhub is not installed for this Python ({sys.executable}), which lacks {package}: activate its '
            'environment (. .venv/bin/activate after `make env`), or pip install strhub'
        )
    if package in EXTRAS:
        return f'this needs the package {package}, which is not installed: pip install strhub[{EXTRAS[package]}]'
    return f'this needs the package {package}, which is not installed: pip install {package}'


def _on_one_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and lines[0].startswith('Caught ') and 'DataLoader worker' in lines[0]:
        # a worker sends its whole traceback as the message; the last line is `Type: message`
        lines = [lines[-1].split(': ', 1)[-1]]
    # omegaconf adds what only its authors can read
    lines = [line for line in lines if not line.startswith(('full_key:', 'object_type=', 'reference_type='))]
    return ' '.join(lines)


def _discard_stdout() -> None:
    """Sends what is still buffered for stdout nowhere, so that closing it at exit cannot fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
