"""Words become an LMDB whole or not at all, by any number of processes, and however often the work is interrupted."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pictures import encode, make_picture

from strhub.data import lmdb
from strhub.data.convert import write
from strhub.data.convert.base import Skipped, Word
from strhub.data.convert.cutter import Rules, cut_all
from strhub.data.convert.write import NOTE, write_words
from strhub.data.lmdb import LmdbWriter

PAGES, WORDS = 50, 15  # of which there are enough for more than one process


@pytest.fixture(scope='module')
def pages(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('pages')
    for number in range(PAGES):
        (folder / f'{number:02d}.png').write_bytes(encode(make_picture(number, 60, 30)))
    (folder / '07.png').write_bytes(b'broken')
    return folder


def words(folder: Path) -> Iterator[Word | Skipped]:
    """Of each page boxes and quads, an illegible one, one that lies outside, one of a picture that is missing."""
    for number in range(PAGES):
        page = folder / f'{number:02d}.png'
        for at in range(WORDS):
            if at == 3:
                yield Skipped('illegible', f'{page} {at}')
            elif at == 5:
                yield Word(folder / f'missing{number}.png', 'missing')
            elif at % 2:
                yield Word(page, f'{number}-{at}', (at, at, at + (200 if at == 7 else 20), at + 10))
            else:
                yield Word(page, f'{number}-{at}', polygon=((at, 9), (at + 20, 5), (at + 22, 15), (at + 2, 19)))


def content(path: Path) -> tuple[dict[bytes, bytes], dict]:
    """All keys with their values, and the report."""
    with lmdb.lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as txn:
        return dict(txn.cursor()), json.loads((path / NOTE).read_text(encoding='utf-8'))


@pytest.fixture(scope='module')
def whole(pages, tmp_path_factory) -> tuple[dict[bytes, bytes], dict]:
    target = tmp_path_factory.mktemp('whole') / 'dst'
    write_words(words(pages), target)
    return content(target)


@pytest.fixture
def small_batches(monkeypatch) -> None:
    monkeypatch.setattr(lmdb, 'BATCH_BYTES', 50_000)  # so that there is something to go on with


@pytest.fixture
def done(monkeypatch) -> list[int]:
    """Counts the words that are cut."""
    counts: list[int] = []
    monkeypatch.setattr(write, 'cut_all', lambda items, rules: counts.append(len(items)) or cut_all(items, rules))
    return counts


def test_what_is_written_and_reported(whole):
    records, report = whole
    kept = (PAGES - 1) * (WORDS - 3)
    assert len(records) == 2 * kept + 1  # num-samples, and nothing that only an interrupted run needs
    assert records[b'num-samples'] == b'%d' % kept
    labels = [records[b'label-%09d' % number].decode() for number in range(1, kept + 1)]
    assert labels == [word.label for word in words(Path()) if _is_kept(word)]
    assert report['kept'] == kept
    counts = {reason: entry['count'] for reason, entry in report['skipped'].items()}
    assert counts == {
        'picture missing': PAGES,
        'illegible': PAGES,
        'word outside the picture': PAGES - 1,
        'picture unreadable': WORDS - 2,
    }
    assert all(len(set(entry['examples'])) == len(entry['examples']) <= 3 for entry in report['skipped'].values())


def _is_kept(word: Word | Skipped) -> bool:
    return (
        isinstance(word, Word) and word.picture.name != '07.png' and word.label != 'missing' and '-7' not in word.label
    )


def test_more_processes_write_the_same(whole, pages, tmp_path):
    counts: list[int] = []
    write_words(words(pages), tmp_path / 'dst', workers=2, progress=counts.append)
    assert content(tmp_path / 'dst') == whole
    assert sum(counts) == PAGES * WORDS
    assert [path.name for path in tmp_path.iterdir()] == ['dst']


class Interrupt:
    """Stands in for a Ctrl-C at the n-th record that is written, between any two lines."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        write_record, self.left = LmdbWriter.write, after

        def interrupted(writer: LmdbWriter, image: bytes, label: str) -> None:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            write_record(writer, image, label)

        monkeypatch.setattr(LmdbWriter, 'write', interrupted)


@pytest.mark.parametrize('after', [1, 100, 587])
def test_an_interrupted_run_is_gone_on_with(whole, pages, tmp_path, monkeypatch, done, after):
    with monkeypatch.context() as patch:
        Interrupt(patch, after)
        with pytest.raises(KeyboardInterrupt):
            write_words(words(pages), tmp_path / 'dst')
    assert not (tmp_path / 'dst').exists()
    done.clear()
    write_words(words(pages), tmp_path / 'dst')
    assert content(tmp_path / 'dst') == whole
    assert sum(done) <= PAGES * WORDS - after + 2 * write.CHUNK  # all else was there already
    assert [path.name for path in tmp_path.iterdir()] == ['dst']


def test_a_run_may_be_interrupted_again_and_again(whole, pages, tmp_path, monkeypatch):
    interruptions = 0
    while not (tmp_path / 'dst').exists():
        with monkeypatch.context() as patch:
            Interrupt(patch, 70)
            try:
                write_words(words(pages), tmp_path / 'dst')
            except KeyboardInterrupt:
                interruptions += 1
    assert content(tmp_path / 'dst') == whole
    assert interruptions == len(whole[0]) // 2 // 70


def test_an_error_of_the_source_keeps_what_is_done(whole, pages, tmp_path):
    def broken() -> Iterator[Word | Skipped]:
        for number, word in enumerate(words(pages)):
            if number == 650:
                raise ValueError('labels_3.json is not valid JSON')
            yield word

    with pytest.raises(ValueError, match=r'labels_3\.json'):
        write_words(broken(), tmp_path / 'dst')
    assert not (tmp_path / 'dst').exists()
    write_words(words(pages), tmp_path / 'dst')
    assert content(tmp_path / 'dst') == whole


KILLED = """
import multiprocessing, os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from strhub.data import lmdb
from strhub.data.convert.write import write_words
from test_write import words

lmdb.BATCH_BYTES = 50_000
done = 0

def progress(count):
    global done
    done += count
    if done > 300:
        print(*[process.pid for process in multiprocessing.active_children()], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

write_words(words(Path(sys.argv[3])), Path(sys.argv[4]), workers=2, progress=progress)
"""


@pytest.mark.skipif(not hasattr(os, 'sched_getaffinity'), reason='needs /proc')
def test_a_killed_run_is_gone_on_with_and_leaves_no_process(whole, pages, tmp_path, done, small_batches):
    here = Path(__file__).parent
    command = [sys.executable, '-c', KILLED, here, here.parent, pages, tmp_path / 'dst']
    killed = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=here.parents[2])
    assert killed.returncode == -9, killed.stderr
    workers = [int(pid) for pid in killed.stdout.split()]
    assert len(workers) == 2
    deadline = time.monotonic() + 30
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, workers))
    assert not (tmp_path / 'dst').exists()
    write_words(words(pages), tmp_path / 'dst')
    assert content(tmp_path / 'dst') == whole
    assert sum(done) < PAGES * WORDS - 100


def is_running(pid: int) -> bool:
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


@pytest.fixture
def interrupted(pages, tmp_path, monkeypatch) -> Path:
    with monkeypatch.context() as patch:
        Interrupt(patch, 300)
        with pytest.raises(KeyboardInterrupt):
            write_words(words(pages), tmp_path / 'dst', settings={'set': 'a', 'split': 'train'})
    return tmp_path / 'dst'


@pytest.mark.parametrize(
    ('rules', 'settings', 'named'),
    [
        (Rules(min_size=3), {'set': 'a', 'split': 'train'}, 'min_size'),
        (Rules(crop='box', lossless=True), {'set': 'a', 'split': 'train'}, 'crop, lossless'),
        (Rules(), {'set': 'a', 'split': 'val'}, 'split'),
        (Rules(), {'set': 'a', 'split': 'train', 'language': ''}, 'language'),
    ],
)
def test_a_run_with_other_arguments_is_not_gone_on_with(pages, interrupted, rules, settings, named):
    with pytest.raises(ValueError, match=f'interrupted run with another {named}: repeat the command'):
        write_words(words(pages), interrupted, rules=rules, settings=settings)
    assert not interrupted.exists()
    write_words(words(pages), interrupted, settings={'set': 'a', 'split': 'train'})


@pytest.mark.parametrize('change', ['label', 'fewer', 'order', 'none'])
def test_other_annotations_are_not_gone_on_with(pages, interrupted, change):
    changed = list(words(pages))
    if change == 'label':
        changed[20] = Word(changed[20].picture, 'other', changed[20].box, changed[20].polygon)
    elif change == 'order':
        changed[10], changed[12] = changed[12], changed[10]
    else:
        del changed[50 if change == 'fewer' else 0 :]
    with pytest.raises(ValueError, match=r'annotations have changed .*\.dst\.partial.* to begin anew'):
        write_words(changed, interrupted, settings={'set': 'a', 'split': 'train'})
    assert not interrupted.exists()


def test_annotations_may_change_where_the_work_has_not_come_to(pages, interrupted, tmp_path):
    changed = list(words(pages))[:-1]
    write_words(changed, interrupted, settings={'set': 'a', 'split': 'train'})
    write_words(changed, tmp_path / 'other', settings={'set': 'a', 'split': 'train'})
    assert content(interrupted) == content(tmp_path / 'other')


@pytest.mark.parametrize('found', [[], [Skipped('illegible')], [Word(Path('nowhere.png'), 'x')]])
def test_nothing_usable_leaves_nothing(tmp_path, found):
    with pytest.raises(ValueError, match=r'no word is usable, so .*dst was not made'):
        write_words(found, tmp_path / 'dst')
    assert not list(tmp_path.iterdir())


def test_names_that_are_not_utf8_are_reported(tmp_path):
    (tmp_path / 'a.png').write_bytes(encode(make_picture(0)))
    write_words([Word(tmp_path / 'a.png', 'x'), Skipped('illegible', 'caf\udce9.png')], tmp_path / 'dst')
    assert content(tmp_path / 'dst')[1]['skipped']['illegible']['examples'] == ['caf\udce9.png']
