"""The command line of training and of its kin: key=value words -> a configuration by Hydra, or one sentence why not."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from strhub.data.synth.words import characters_of
from strhub.engine.checkpoints import by_age, has_ended, newest_whole
from strhub.models.zoo import MODELS, config_dir

WORD = re.compile(r'([+~]{0,2})([\w./@:-]+)=(.*)', re.DOTALL)
QUOTED = ('"', "'", '[', '{', '$')
PATHS = ('ckpt_path', 'pretrained', 'replay', 'data.root_dir', 'data.train_dir', 'data.val_dir', 'hydra.run.dir',
         'json', 'plot', 'tune.resume_dir')  # fmt: skip
SOURCE_PATH = re.compile(r'data\.mix\.[^.]+\.path')
# what Hydra's grammar takes in a value without quotes, apart from blanks at its ends
PLAIN = re.compile(r'[\w/.+*@?|:%-]*', re.ASCII)
log = logging.getLogger(__name__)

AUTO = 'auto'  # as ckpt_path: whatever there is to go on from
MAIN = 'main'  # the configuration of training
OVERRIDES = Path('hydra', 'overrides.yaml')  # see hydra.output_subdir in main.yaml


def quote(word: str) -> str:
    """Puts quotes around the value of `key=value` where Hydra would stumble over it: a path with = or blanks in it."""
    match = WORD.fullmatch(word)
    if match is None:
        return word
    sign, key, value = match.groups()
    takes_path = key in PATHS or SOURCE_PATH.fullmatch(key) is not None
    is_path = takes_path and not PLAIN.fullmatch(value)
    is_sweep = not takes_path and ',' in value
    if value.startswith(QUOTED) or is_sweep or not (is_path or '=' in value):
        return word
    return f'{sign}{key}={quoted(value)}'


def quoted(value: str) -> str:
    """`value` within quotes, in which Hydra takes it as it is."""
    # a backslash counts as itself unless a quote follows
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    escaped += '\\' * (len(escaped) - len(escaped.rstrip('\\')))
    return f"'{escaped}'"


def key_of(word: str) -> str:
    """The key of an override; '' of an option such as --cfg and of its value."""
    match = WORD.fullmatch(word)
    if match:
        return match[2]
    return word[1:] if word.startswith('~') else ''


def value_of(words: Sequence[str], key: str) -> str | None:
    """The text that the last override of `key` gives."""
    last = next((word for word in reversed(words) if key_of(word) == key), None)
    value = None if last is None else OverridesParser.create().parse_override(quote(last)).value()
    return None if value in (None, '') else str(value)


def charset_of(words: str | None) -> str:
    """What `${characters_of:FILE}` stands for in the configuration: a charset for the words of a file."""
    if not words:
        raise ValueError('charset=words takes the characters of the words to render: give data.rendered.words=FILE')
    return characters_of(words)


OmegaConf.register_new_resolver('characters_of', charset_of, use_cache=True, replace=True)


def checkpoint_of(path: str | Path) -> Path:
    """The checkpoint to resume: the file itself, or the newest whole one of a run's folder.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    if path.is_dir() and (newest := newest_whole(path)) is not None:
        return newest
    what = 'that is whole in that folder' if path.is_dir() else 'there'
    raise FileNotFoundError(f'ckpt_path={path}: there is no checkpoint {what}; give a run folder or its last.ckpt')


def found(words: Sequence[str], config: str = MAIN) -> list[str] | None:
    """Puts a checkpoint in the place of ckpt_path=auto, or nothing where there is none to go on from.

    It is the newest whole one of the folder hydra.run.dir=…, or else of the model's last run, if that has not ended.
    pretrained=… is for a new run.

    Returns:
        None if the run of that folder has ended: there is nothing left to do.
    """
    if value_of(words, 'ckpt_path') != AUTO:
        return list(words)
    others = [word for word in words if key_of(word) != 'ckpt_path']
    own = value_of(words, 'hydra.run.dir')
    runs = [Path(own)] if own else Path('outputs', compose(others, config).model.name).glob('*/')
    last = max(runs, key=lambda run: max((path.stat().st_mtime_ns for path in by_age(run)), default=0), default=None)
    newest = None if last is None else newest_whole(last)
    if newest is not None and has_ended(newest):
        if own:
            return None
        newest = None
    if newest is None:
        log.warning('ckpt_path=auto: there is no run to go on with, so this is a new one')
        return others
    log.warning('ckpt_path=auto: going on from %s', newest)
    return [*(word for word in others if key_of(word) != 'pretrained'), quote(f'ckpt_path={newest}')]


def named(words: Sequence[str]) -> list[str]:
    """Writes --config-dir=RUN, as Hydra has it, as replay=RUN."""
    named = list(words)
    for at, word in enumerate(words):
        if word in ('--config-dir', '-cd'):
            named[at : at + 2] = [quote(f'replay={run}') for run in words[at + 1 : at + 2]]
        elif word.startswith('--config-dir='):
            named[at] = quote(f'replay={word.partition("=")[2]}')
    return named


def run_of(words: Sequence[str]) -> Path | None:
    """The folder of the run to do again or to resume."""
    if (replay := value_of(words, 'replay')) is not None:
        if not Path(replay, 'config.yaml').is_file():
            raise FileNotFoundError(f'replay={replay}: there is no config.yaml in it; give the folder of a run')
        return Path(replay)
    path = value_of(words, 'ckpt_path')
    return None if path is None else checkpoint_of(path).parent.parent


def resumed(words: Sequence[str]) -> list[str]:
    """Puts what the run to resume, or to do again, was started with before `words`.

    The outputs of a resumed run go to its folder.
    """
    run, replays = run_of(words), value_of(words, 'replay') is not None
    if run is None or not (run / OVERRIDES).is_file():
        return list(words)
    keys = {key_of(word) for word in words}
    before = [str(word) for word in OmegaConf.load(run / OVERRIDES)]
    dropped = {*keys, 'ckpt_path', 'replay', '', *(['hydra.run.dir'] if replays else ['pretrained'])}
    kept = [word for word in before if key_of(word) not in dropped and not is_of_hydra(word)]
    folder = [] if replays or 'hydra.run.dir' in keys else [quote(f'hydra.run.dir={run}')]
    begun = [] if replays or 'pretrained' in keys else ['pretrained=null']  # whatever an experiment says
    return [*kept, *words, *folder, *begun]


def is_of_hydra(word: str) -> bool:
    """Whether it changes what Hydra itself does, which could be to run code that came with somebody's run."""
    return re.match(r'hydra[./@]', key_of(word)) is not None and key_of(word) != 'hydra.run.dir'


def settled(config: DictConfig, words: Sequence[str]) -> DictConfig:
    """The configuration that the run to resume, or to do again, was saved with, changed as `words` say.

    What the files in configs/ have become since then does not matter, unless a word chooses one of them anew.
    """
    run, replays = run_of(words), value_of(words, 'replay') is not None
    file = None if run is None else run / 'config.yaml'
    keys = {key_of(word) for word in words if not key_of(word).startswith('hydra.')} - {''}
    if file is None or not file.is_file() or keys & {'experiment', 'model', 'charset', 'dataset'}:
        return config
    OmegaConf.set_struct(config, False)
    saved = OmegaConf.load(file)
    merged: DictConfig = OmegaConf.merge(config, saved)  # type: ignore[assignment]
    if (sources := OmegaConf.select(saved, 'data.mix')) is not None:  # no others
        OmegaConf.update(merged, 'data.mix', sources, merge=False)
    for key in {*keys, 'ckpt_path', 'replay', *(() if replays else ['pretrained'])}:
        OmegaConf.update(merged, key, OmegaConf.select(config, key), merge=False)
    return merged


def explain(error: Exception, config: str = MAIN) -> str:
    """Hydra's complaint on one line, with the nearest word where a name is unknown."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = ' '.join(line for line in lines if not line.startswith(('full_key:', 'object_type=', 'See https:')))
    if match := re.search(r"Could not find '([^']+)'", text):
        group, _, name = match[1].rpartition('/')
        folder = config_dir() / group
        if group == 'model' and name in MODELS:
            return f'{name} is a variant of a model, so write +experiment={name}'
        options = sorted(file.stem for file in folder.glob('*.yaml')) if group else []
        near = get_close_matches(name, options, n=1)
        return f'there is no {match[1]}: ' + (f'did you mean {near[0]}?' if near else f'there are {", ".join(options)}')
    if match := re.search(r"Could not override '([^']+)'", text):
        if 'No match in the defaults list' in text and (config_dir() / match[1]).is_dir():
            return f'{match[1]} is not chosen by default: write it with a +, as +{match[1]}=NAME'
        near = get_close_matches(match[1], known_keys(config), n=1, cutoff=0.75)
        listing = f'./{door_of(config)}.py --help lists them'
        if config == MAIN:
            listing += f', and +{match[1]}=… adds one'
        hint = f'did you mean {near[0]}?' if near else listing
        return f'there is no key {match[1]} in the configuration: {hint}'
    if isinstance(error, OverrideParseException):
        return f'{error.override!r} cannot be read: give key=value, with quotes around a value of odd characters'
    cause = '' if error.__cause__ is None else str(error.__cause__).partition('\n')[0]
    return text if cause in text else f'{text}: {cause}'


def door_of(config: str) -> str:
    """The command whose configuration a file of configs/ is."""
    return 'train' if config == MAIN else config


def known_keys(config: str = MAIN) -> list[str]:
    """All keys of the configuration without overrides, with dots, and its groups."""

    def walk(node: dict[str, Any], prefix: str) -> Iterator[str]:
        for key, value in node.items():
            yield prefix + key
            if isinstance(value, dict):
                yield from walk(value, f'{prefix}{key}.')

    plain: dict[str, Any] = OmegaConf.to_container(compose(config=config))  # type: ignore[assignment]
    return [*walk(plain, ''), *(path.name for path in config_dir().iterdir() if path.is_dir())]


def compose(overrides: Sequence[str] = (), config: str = MAIN) -> DictConfig:
    """The configuration of `./train.py`, or of another command, with `overrides`, for use from Python.

    Raises:
        ValueError: an override that does not fit.
    """
    try:
        with hydra.initialize_config_dir(str(config_dir().resolve()), version_base='1.3'):
            return hydra.compose(config, [quote(word) for word in overrides])
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain(error, config)) from error


def run(task: Callable[[DictConfig], None], words: Sequence[str], config: str = MAIN) -> None:
    """Composes the configuration that `words` ask for and calls `task` with it, as Hydra's own command lines do.

    Args:
        config: the file of configs/ that they change.

    Raises:
        ValueError: a word that does not fit.
    """
    program = sys.argv
    failures: list[Exception] = []

    def guarded(composed: DictConfig) -> None:
        sys.argv = [program[0], *map(quote, words)]  # what Lightning starts other processes with
        try:
            task(settled(composed, words))
        except Exception as error:  # Hydra would print lines of its own
            failures.append(error)
            discard_unused(Path(HydraConfig.get().runtime.output_dir))

    words = named(words)
    check(words)
    if (known := found(words, config)) is None:
        print('ckpt_path=auto: this run has ended; nothing is left to do')
        return
    words = known
    os.environ['HYDRA_FULL_ERROR'] = '1'  # errors come here, where they become sentences
    try:
        sys.argv = [program[0], *(quote(word) for word in resumed(words))]
        hydra.main(str(config_dir().resolve()), config, version_base='1.3')(guarded)()
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain(error, config)) from error
    finally:
        sys.argv = program
    if failures:
        raise failures[0]


def discard_unused(folder: Path) -> None:
    """Removes the folder of a run that was refused: there is nothing in it but what Hydra has put there."""
    if folder.resolve() == Path.cwd().resolve():  # the user's own
        return
    if {path.name for path in folder.iterdir()} <= {OVERRIDES.parts[0], f'{HydraConfig.get().job.name}.log'}:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError, ValueError):  # they hold other runs, or are not of this folder
            for parent in folder.relative_to(Path.cwd()).parents[:-1]:
                parent.rmdir()


def check(words: Sequence[str]) -> None:
    """Refuses words that are no overrides, in terms of what was probably meant."""
    for before, word in zip(['', *words], words, strict=False):
        if '=' in word or word.startswith(('-', '~')) or before.startswith('-'):
            continue
        if Path(word).exists():
            hint = f'ckpt_path={word} goes on with a run, pretrained={word} starts from weights'
        else:
            near = get_close_matches(word, MODELS, n=1)
            hint = f'did you mean +experiment={near[0]}?' if near else 'give key=value; --help lists the keys'
        raise ValueError(f'{word} is no override: {hint}')
