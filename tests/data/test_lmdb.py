"""The on-disk format: what is written is read, and nothing is half written."""

import os
import pickle
from pathlib import Path
from tempfile import TemporaryDirectory

import lmdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strhub.data.lmdb import LmdbReader, LmdbWriter


def write_raw(path: Path, items: dict[bytes, bytes]) -> Path:
    with lmdb.open(str(path), map_size=1 << 20, lock=False) as env, env.begin(write=True) as txn:
        for key, value in items.items():
            txn.put(key, value)
    return path


def test_keys_are_those_of_the_published_sets(tmp_path):
    with LmdbWriter(tmp_path / 'set') as writer:
        writer.write(b'picture', 'lábel')
    with lmdb.open(str(tmp_path / 'set'), readonly=True, lock=False) as env, env.begin() as txn:
        assert dict(txn.cursor()) == {
            b'image-000000001': b'picture',
            b'label-000000001': 'lábel'.encode(),
            b'num-samples': b'1',
        }


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.tuples(st.binary(min_size=1, max_size=200), st.text(min_size=1)), min_size=1, max_size=20))
def test_what_is_written_is_read(tmp_path, words):
    words = [(image, label.encode(errors='ignore').decode() or 'x') for image, label in words]
    with LmdbWriter(tmp_path / 'set', overwrite=True) as writer:
        for word in words:
            writer.write(*word)
    reader = LmdbReader(tmp_path / 'set')
    assert len(reader) == len(words)
    assert [(reader.image(i), reader.label(i)) for i in range(1, len(words) + 1)] == words
    assert list(reader.labels()) == [(i, label) for i, (_, label) in enumerate(words, 1)]


def test_the_map_grows_with_the_data(tmp_path, monkeypatch):
    monkeypatch.setattr('strhub.data.lmdb.FIRST_MAP_SIZE', 1 << 16)
    monkeypatch.setattr('strhub.data.lmdb.BATCH_BYTES', 1 << 18)
    with LmdbWriter(tmp_path / 'set') as writer:
        for i in range(100):
            writer.write(bytes([i]) * 20_000, str(i))
    reader = LmdbReader(tmp_path / 'set')
    assert len(reader) == 100
    assert all(reader.image(i + 1) == bytes([i]) * 20_000 for i in range(100))


@pytest.mark.parametrize('interruption', [KeyboardInterrupt, ValueError])
def test_an_interrupted_writer_leaves_nothing(tmp_path, interruption):
    def interrupted() -> None:
        with LmdbWriter(tmp_path / 'set') as writer:
            writer.write(b'x', 'x')
            raise interruption

    with pytest.raises(interruption):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_nothing_is_at_the_target_before_the_end(tmp_path):
    with LmdbWriter(tmp_path / 'set') as writer:
        writer.write(b'x', 'x')
        assert not (tmp_path / 'set').exists()
    assert [path.name for path in tmp_path.iterdir()] == ['set']
    assert [path.name for path in (tmp_path / 'set').iterdir()] == ['data.mdb']


def test_an_empty_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match='no picture'), LmdbWriter(tmp_path / 'set'):
        pass
    assert not list(tmp_path.iterdir())


def test_an_existing_set_is_replaced_only_when_asked_and_only_at_the_end(tmp_path):
    target = tmp_path / 'set'
    with LmdbWriter(target) as writer:
        writer.write(b'old', 'old')
    with pytest.raises(FileExistsError, match='overwrite'):
        LmdbWriter(target)
    with LmdbWriter(target, overwrite=True) as writer:
        writer.write(b'new', 'new')
        assert LmdbReader(target).label(1) == 'old'
    assert LmdbReader(target).label(1) == 'new'
    assert [path.name for path in tmp_path.iterdir()] == ['set']


def test_a_folder_of_other_things_is_never_overwritten(tmp_path):
    (tmp_path / 'thesis.txt').write_text('x')
    with pytest.raises(FileExistsError, match='not an LMDB'):
        LmdbWriter(tmp_path, overwrite=True)


def test_the_rest_of_a_killed_run_is_cleared(tmp_path):
    (tmp_path / '.set.partial').mkdir()
    (tmp_path / '.set.partial' / 'junk').write_text('x')
    with LmdbWriter(tmp_path / 'set') as writer:
        writer.write(b'x', 'x')
    assert len(LmdbReader(tmp_path / 'set')) == 1
    assert not (tmp_path / '.set.partial').exists()


def test_readers_share_a_set_and_survive_pickling(tmp_path):
    with LmdbWriter(tmp_path / 'set') as writer:
        writer.write(b'x', 'word')
    one, other = LmdbReader(tmp_path / 'set'), LmdbReader(tmp_path / 'set')
    assert one.label(1) == other.label(1) == 'word'  # both are open
    assert pickle.loads(pickle.dumps(one)).label(1) == 'word'
    del one
    assert other.label(1) == 'word'


def test_a_forked_process_reads_on(tmp_path):
    with LmdbWriter(tmp_path / 'set') as writer:
        writer.write(b'x', 'word')
    reader = LmdbReader(tmp_path / 'set')
    assert reader.label(1) == 'word'
    if (child := os.fork()) == 0:
        os._exit(0 if reader.label(1) == 'word' and LmdbReader(tmp_path / 'set').label(1) == 'word' else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_records_beyond_the_count_and_other_keys_are_ignored(tmp_path):
    items = {b'num-samples': b'2', b'label-000000001': b'a', b'label-000000003': b'c', b'label-x': b'y', b'zzz': b''}
    reader = LmdbReader(write_raw(tmp_path / 'set', items))
    assert list(reader.labels()) == [(1, 'a')]
    assert reader.label(2) is None
    assert reader.image(1) is None


def test_a_label_that_is_not_utf8_is_none(tmp_path):
    items = {b'num-samples': b'1', b'label-000000001': b'\xff\xfe'}
    assert list(LmdbReader(write_raw(tmp_path / 'set', items)).labels()) == [(1, None)]


@pytest.mark.parametrize(
    ('items', 'message'),
    [
        ({b'a': b'b'}, 'no key num-samples'),
        ({b'num-samples': b'many'}, 'num-samples is'),
        ({b'num-samples': b'-1'}, 'num-samples is'),
        ({b'num-samples': b'9' * 30}, 'num-samples is'),
        ({b'num-samples': b'99', b'label-000000001': b'a'}, 'num-samples is'),
        ({b'num-samples': b'\xff'}, 'num-samples is'),
    ],
)
def test_a_foreign_lmdb_is_told_in_one_sentence(tmp_path, items, message):
    with pytest.raises(ValueError, match=message):
        len(LmdbReader(write_raw(tmp_path / 'set', items)))


@pytest.mark.parametrize('content', [b'', b'x', b'\0' * 8192, os.urandom(20_000)])
def test_a_file_that_is_no_lmdb_is_told_in_one_sentence(tmp_path, content):
    (tmp_path / 'data.mdb').write_bytes(content)
    with pytest.raises(ValueError, match='cannot be opened as an LMDB'):
        len(LmdbReader(tmp_path))


def test_a_truncated_lmdb_is_told_and_does_not_kill_the_process(tmp_path):
    with LmdbWriter(tmp_path / 'set') as writer:
        for i in range(50):
            writer.write(os.urandom(5000), str(i))
    file = tmp_path / 'set' / 'data.mdb'
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(ValueError, match='truncated'):
        len(LmdbReader(tmp_path / 'set'))


@pytest.fixture(scope='module')
def whole_file(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp('whole') / 'set'
    with LmdbWriter(path) as writer:
        for i in range(200):
            writer.write(bytes([i]) * (6000 if i % 10 == 0 else 50), f'word{i}')
    return (path / 'data.mdb').read_bytes()


@given(
    sectors=st.lists(st.tuples(st.integers(0), st.sampled_from([512, 4096, 8192]), st.booleans()), max_size=3),
    end=st.none() | st.integers(0),
)
def test_lost_sectors_and_ends_are_told_in_one_sentence_and_kill_no_process(whole_file, sectors, end):
    damaged = bytearray(whole_file)
    for at, length, is_zeroed in sectors:
        at = at * 512 % len(whole_file)
        damaged[at : at + length] = bytes(length) if is_zeroed else whole_file[:length]
    with TemporaryDirectory() as folder:
        Path(folder, 'data.mdb').write_bytes(damaged[: None if end is None else end % len(damaged)])
        reader = LmdbReader(folder)
        try:
            for record, _ in reader.labels():
                reader.image(record)
            message = ''
        except ValueError as error:
            message = str(error)
    assert '\n' not in message


def test_a_folder_without_an_lmdb_is_no_lmdb(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no data\.mdb'):
        LmdbReader(tmp_path)
