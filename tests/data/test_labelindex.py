"""The label index: with it, without it, and with a broken one, the answer is the same."""

import gc
import inspect
import logging
import os
import pickle
import shutil
import string
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encode, make_picture

from strhub.data import labelindex
from strhub.data.dataset import LmdbDataset
from strhub.data.labelindex import Selection, identify, select
from strhub.data.labels import LabelRules
from strhub.data.lmdb import LmdbReader

RULES = LabelRules(string.ascii_lowercase, 6)
WORDS = [b'one', b'two', 'é'.encode(), '中文'.encode(), b'much too long', b'\xff', b'', b'Six', b'a b', b'10', b'end']
KEPT = ['one', 'two', 'e', 'six', 'ab', 'end']


@pytest.fixture(autouse=True)
def _indexed(monkeypatch, tmp_path):
    monkeypatch.setattr('strhub.data.dataset.MIN_RECORDS', 0)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def write(path: Path, labels: list[bytes | None], image: bytes = b'') -> Path:
    with lmdb.open(str(path), map_size=1 << 24, lock=False, sync=False) as env:
        with env.begin(write=True) as txn:
            for record, label in enumerate(labels, 1):
                txn.put(b'image-%09d' % record, image)
                if label is not None:
                    txn.put(b'label-%09d' % record, label)
        for _ in range(4):  # leave free pages, so that a later change need not make the file longer
            with env.begin(write=True) as txn:
                txn.put(b'num-samples', b'%d' % len(labels))
    return path


def answer(root: Path, rules: LabelRules = RULES, **options):
    dataset = LmdbDataset(root, rules, **options)
    return [dataset.label(i) for i in range(len(dataset))], dataset.dropped


def indices(folder: Path) -> list[Path]:
    return sorted(folder.glob('.strhub-index-*'))


@pytest.fixture
def scans(monkeypatch) -> list[Path]:
    """The sets whose labels were all read."""
    done = []
    scan = LmdbDataset._scan
    monkeypatch.setattr(LmdbDataset, '_scan', lambda self: done.append(self.root) or scan(self))
    return done


RULE_SETS = st.builds(
    LabelRules,
    st.sampled_from(['abc', 'ABC', 'aB c', 'é中a', string.printable.strip()]),
    st.integers(1, 6),
    remove_whitespace=st.booleans(),
    normalize_unicode=st.booleans(),
    drop_outside=st.booleans(),
)


@settings(max_examples=30)
@given(
    labels=st.lists(
        st.none() | st.binary(max_size=3) | st.text('aAbBcC é½中\n', max_size=8).map(str.encode), max_size=12
    ),
    rules=RULE_SETS,
    small=st.integers(0, 20),
)
def test_with_and_without_an_index_the_answer_is_that_of_the_rules(labels, rules, small):
    expected, reasons = [], []
    for label in labels:
        try:
            text, reason = rules.judge(label.decode()) if label is not None else ('', 'record without a label')
        except UnicodeDecodeError:
            text, reason = '', 'label not UTF-8'
        if reason is None and small > 16:  # the height of the picture
            reason = f'picture with a side under {small} pixels'
        reasons += [reason] if reason else []
        expected += [] if reason else [text]
    with TemporaryDirectory() as folder:
        root = write(Path(folder), labels, encode(make_picture(0)))
        for _ in range(2):
            found, dropped = answer(root, rules, min_image_dim=small)
            assert found == expected
            assert dropped.total() == len(reasons)
            assert all(dropped[reason] == reasons.count(reason) for reason in reasons)
        assert len(indices(root)) == 1


def test_the_second_opening_reads_no_label_and_says_the_same(tmp_path, scans, caplog):
    caplog.set_level(logging.INFO, 'strhub.data')
    root = write(tmp_path / 'set', WORDS)
    first, lines = answer(root), [record.getMessage() for record in caplog.records]
    caplog.clear()
    assert answer(root) == first
    assert [record.getMessage() for record in caplog.records] == lines
    assert first[0] == KEPT
    assert len(lines) == 1
    assert 'left out: 3 labels without a character' in lines[0]
    assert scans == [root]


def test_a_small_set_gets_no_file(tmp_path, monkeypatch):
    monkeypatch.undo()
    root = write(tmp_path / 'set', WORDS)
    answer(root)
    assert not indices(root)


def test_sets_of_many_blocks(tmp_path, scans):
    labels = [b'w' * (i % 9) for i in range(20_003)]
    root = write(tmp_path / 'set', labels)
    for _ in range(2):
        dataset = LmdbDataset(root, RULES)
        assert dataset.records.tolist() == [i for i, label in enumerate(labels, 1) if 0 < len(label) < 7]
    assert scans == [root]


def test_damage_at_any_byte_and_of_any_length_changes_nothing(tmp_path):
    root = write(tmp_path / 'set', WORDS)
    records, dropped, scans = [3, 5, 2**32 - 1], Counter({'long': 7}), []

    def ask() -> None:
        scan = lambda: scans.append(1) or Selection(np.array(records, np.uint32), dropped)  # noqa: E731
        found = select(root, {}, scan, database=identify(root))
        assert found.records.tolist() == records
        assert found.dropped == dropped

    ask()
    [file] = indices(root)
    whole = file.read_bytes()
    broken = [whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :] for at in range(len(whole))]
    broken += [whole[:at] for at in range(0, len(whole), 5)] + [
        whole + b'\0',
        whole + whole,
        bytes(len(whole)),
        b'\xff' * 999,
    ]
    for content in broken:
        file.write_bytes(content)
        ask()
        assert file.read_bytes() == whole
    assert len(scans) == 1 + len(broken)


@pytest.mark.parametrize('name', list(inspect.signature(LabelRules).parameters))
def test_every_rule_has_an_index_of_its_own(tmp_path, scans, name):
    options = {'charset': 'abc', 'max_label_length': 5}
    other = {'charset': 'cba', 'max_label_length': 6, 'remove_whitespace': False, 'normalize_unicode': False}
    other['drop_outside'] = True
    root = write(tmp_path / 'set', WORDS)
    answer(root, LabelRules(**options))
    answer(root, LabelRules(**{**options, name: other[name]}))
    assert len(scans) == len(indices(root)) == 2


def test_the_smallest_side_and_the_edition_of_unicode_have_indices_of_their_own(tmp_path, scans, monkeypatch):
    root = write(tmp_path / 'set', WORDS)
    answer(root)
    answer(root, min_image_dim=8)
    monkeypatch.setattr('unicodedata.unidata_version', '99')
    answer(root)
    assert len(scans) == len(indices(root)) == 3


def test_what_rules_do_is_that_of_the_format_version():
    """If this fails because a rule does something else now, raise MAGIC in labelindex.py and put the new value here."""
    labels = ['a', 'A b', 'é', '½', 'ﬁn', '中文', '', ' ', 'x' * 9, 'ß1', 'a\u200bb', 'İ', 'K']
    judged = [
        LabelRules(charset, 4, remove_whitespace=a, normalize_unicode=b, drop_outside=c).judge(label)
        for label in labels
        for charset in ('abkx1', 'ABK', 'aBé中')
        for a in (False, True)
        for b in (False, True)
        for c in (False, True)
    ]
    assert (labelindex.MAGIC, sha256(repr(judged).encode()).hexdigest()[:8]) == (b'strhub-1', 'd23f84b5')


def change(root: Path) -> None:
    """A label gets another of the same length, and the file its former time."""
    stat = (root / 'data.mdb').stat()
    with lmdb.open(str(root), lock=False) as env, env.begin(write=True) as txn:
        txn.put(b'label-000000001', b'1..')
    os.utime(root / 'data.mdb', ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (root / 'data.mdb').stat().st_size == stat.st_size


def test_a_change_in_place_is_noticed(tmp_path):
    root = write(tmp_path / 'set', WORDS)
    assert answer(root)[0] == KEPT
    change(root)
    assert answer(root)[0] == KEPT[1:]


def test_a_copy_is_another_database(tmp_path, scans):
    root = write(tmp_path / 'set', WORDS)
    answer(root)
    shutil.copytree(root, tmp_path / 'copy')  # with the index, and all times
    change(tmp_path / 'copy')
    assert answer(tmp_path / 'copy')[0] == KEPT[1:]
    shutil.copy2(tmp_path / 'copy' / 'data.mdb', root / 'data.mdb')  # into the very file, of the same size
    assert answer(root)[0] == KEPT[1:]
    assert len(scans) == 3


@pytest.mark.parametrize('has_index', [False, True])
@pytest.mark.parametrize('is_open', [False, True])
def test_a_swap_just_as_it_is_opened_is_noticed(tmp_path, monkeypatch, is_open, has_index):
    root, other = write(tmp_path / 'set', WORDS), write(tmp_path / 'other', [b'new', *WORDS, b'last'])
    if has_index:
        answer(root)
    open_env = LmdbReader._env

    def swapping(reader):
        env = open_env(reader) if is_open else None
        if (other / 'data.mdb').exists():
            (other / 'data.mdb').replace(root / 'data.mdb')
        return env or open_env(reader)

    monkeypatch.setattr(LmdbReader, '_env', swapping)
    assert len(LmdbDataset(root, RULES)) == len(KEPT) + (0 if is_open else 2)
    for _ in range(2):
        assert answer(root)[0] == ['new', *KEPT, 'last']


def test_a_moved_set_keeps_its_index(tmp_path, scans):
    answer(write(tmp_path / 'set', WORDS))
    (tmp_path / 'set').rename(tmp_path / 'other')
    assert answer(tmp_path / 'other')[0] == KEPT
    assert len(scans) == 1


def test_what_an_earlier_state_and_killed_processes_left_is_removed(tmp_path):
    root = write(tmp_path / 'set', WORDS)
    answer(root)
    answer(root, LabelRules('abc', 9))
    change(root)
    old, new = root / '.strhub-index-1-a.partial', root / '.strhub-index-1-b.partial'
    for path in (old, new):
        path.touch()
    os.utime(old, (time.time() - 86400,) * 2)
    answer(root)
    left = indices(root)
    assert old not in left
    assert new in left  # another process may be at it
    assert len(left) == 2


def test_where_the_folder_cannot_be_written_the_cache_is(tmp_path, scans):
    root = write(tmp_path / 'set', WORDS)
    answer(root)
    [file] = indices(root)
    file.unlink()
    file.mkdir()  # nothing can be renamed to that, whoever runs the test
    for _ in range(2):
        assert answer(root)[0] == KEPT
    assert len(scans) == 2
    assert indices(root) == [file]
    [cached] = (tmp_path / 'cache' / 'strhub' / 'index').rglob('.strhub-index-*')
    change(root)
    assert answer(root)[0] == KEPT[1:]
    assert answer(write(tmp_path / 'other', WORDS))[0] == KEPT
    assert cached.is_file()


def test_where_nothing_can_be_written_there_is_no_index(tmp_path, scans, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG, 'strhub.data.labelindex')
    root = write(tmp_path / 'set', WORDS)
    answer(root)
    [file] = indices(root)
    file.unlink()
    file.mkdir()
    monkeypatch.setenv('XDG_CACHE_HOME', str(root / 'data.mdb'))
    for _ in range(2):
        assert answer(root)[0] == KEPT
    assert len(scans) == 3
    assert 'no label index in' in caplog.text


def test_processes_may_write_at_once(tmp_path):
    root = write(tmp_path / 'set', WORDS * 300)
    expected = LmdbDataset(root, RULES)._scan().records.tolist()
    for path in indices(root):
        path.unlink()
    children = []
    for _ in range(4):
        if (child := os.fork()) == 0:
            status = 1
            try:
                for _ in range(2):
                    right = LmdbDataset(root, RULES).records.tolist() == expected
                    for path in indices(root):
                        if path.suffix != '.partial':  # under way in another process, which would turn to the cache
                            path.unlink(missing_ok=True)
                status = 0 if right else 1
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert LmdbDataset(root, RULES).records.tolist() == expected
    assert len(indices(root)) == 1


def test_another_process_opens_the_index_itself(tmp_path, scans):
    root = write(tmp_path / 'set', WORDS * 100)
    dataset = LmdbDataset(root, RULES)
    travelling = pickle.dumps(dataset)
    assert dataset.records.tobytes() not in travelling
    arrived = pickle.loads(travelling)
    assert [arrived.label(i) for i in range(len(arrived))] == KEPT * 100
    assert len(scans) == 1
    for path in indices(root):
        path.unlink()
    assert len(pickle.loads(travelling)) == len(dataset)  # and reads the labels where it is gone
    arrived._reader.close()
    del arrived, dataset  # LMDB opens a database once in a process, and `change` wants it
    gc.collect()
    change(root)
    with pytest.raises(ValueError, match='was changed while it was in use'):
        pickle.loads(travelling)
