"""Testing a checkpoint: which sets, judged how, what the table and the files say."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from samples import draw_word, save_checkpoint

from strhub.data.module import SceneTextDataModule
from strhub.engine.evaluate import benchmark_groups, judging_charset, main, name_sets
from strhub.engine.read import read_images
from strhub.engine.results import append, table
from strhub.metrics import Score
from strhub.models.utils import create_model
from strhub.tokenizer import CharsetAdapter

ROOT = Path(__file__).parents[2]
CHARSET_36 = '0123456789abcdefghijklmnopqrstuvwxyz'
HEAD = ['Dataset', '# samples', 'Accuracy', '1 - NED', 'Confidence', 'Label Length']


def run(capsys, *argv, workers=0):
    """Returns the exit status, stdout, and the lines of stderr."""
    try:
        main([*map(str, argv), '--device', 'cpu', '--num_workers', str(workers)])
        status = 0
    except SystemExit as exit_:
        status = exit_.code
    out, err = capsys.readouterr()
    return status, out, err.splitlines()


def rows_of(out):
    """The tables in what was printed: a list of {column: text} for each."""
    tables = []
    for block in out.split('\n\n'):
        lines = [[cell.strip() for cell in line.strip('|').split('|')] for line in block.splitlines() if line[0] == '|']
        if lines:
            assert lines[0] == HEAD
            tables.append([dict(zip(HEAD, line, strict=True)) for line in lines[2:]])
    return tables


def write_set(folder, pictures, labels):
    (folder / 'images').mkdir(parents=True)
    lines = []
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        picture.save(folder / 'images' / f'{i}.png')
        lines.append(f'images/{i}.png\t{label}\n')
    (folder / 'labels.tsv').write_text(''.join(lines), 'utf-8')
    return folder


@pytest.fixture(scope='module')
def checkpoint(tiny_crnn, tmp_path_factory):
    return save_checkpoint(tiny_crnn, tmp_path_factory.mktemp('test') / 'epoch=1-step=2.ckpt')


@pytest.fixture(scope='module')
def known(tiny_crnn):
    """Pictures, and what the model reads in them in 36 characters."""
    pictures = [draw_word(text) for text in ('alpha', 'beta', 'gamma', 'delta')]
    labels = [CharsetAdapter(CHARSET_36)(reading.text) for reading in read_images(tiny_crnn, pictures)]
    assert all(labels)
    assert len(set(labels)) == len(labels)
    return pictures, labels


@pytest.fixture
def right(known, tmp_path):
    """A set that the model reads without an error."""
    return write_set(tmp_path / 'right', *known)


# The table


def test_combined_weighs_sets_by_their_pictures():
    scores = {'A': Score(1, 1, 0.0, 0.5, 3), 'B': Score(3, 0, 1.5, 0.3, 9)}
    (rows,) = rows_of(table(scores))
    assert [row['Dataset'] for row in rows] == ['A', 'B', 'Combined']
    assert rows[2] == dict(zip(HEAD, ['Combined', '4', '25.00', '62.50', '20.00', '3.00'], strict=True))


def test_the_table_is_aligned():
    lines = table({'a long name of a set': Score(100000, 1, 2, 3, 4), 'b': Score(1, 0, 0, 0, 0)}).splitlines()
    assert len({len(line) for line in lines}) == 1


# What is tested


def test_sets_of_all_kinds_with_and_without_workers(checkpoint, right, known, tmp_path, capsys):
    lmdb = pytest.importorskip('strhub.data.lmdb')
    with lmdb.LmdbWriter(tmp_path / 'lmdb') as writer:
        for i, label in enumerate(known[1]):
            writer.write((right / 'images' / f'{i}.png').read_bytes(), label)
    (right / 'other.tsv').write_text(f'images/0.png\t{known[1][0]}\nimages/1.png\tno\n')
    sets = ['--sets', right, tmp_path / 'lmdb', right / 'other.tsv', tmp_path]
    status, out, _ = run(capsys, checkpoint, *sets, '--batch_size', 3, workers=1)
    assert status == 0
    (rows,) = rows_of(out)
    assert [(row['Dataset'], row['# samples'], row['Accuracy']) for row in rows] == [
        ('right', '4', '100.00'),
        ('lmdb', '4', '100.00'),
        ('right/other.tsv', '2', '50.00'),
        (tmp_path.name, '8', '100.00'),
        ('Combined', '18', '94.44'),
    ]
    assert rows_of(run(capsys, checkpoint, *sets)[1]) == [rows]


@pytest.fixture
def data_root(known, tmp_path):
    """All sets of the benchmark with different numbers of pictures."""
    pictures, labels = known
    for i, name in enumerate(SceneTextDataModule.TEST_ALL):
        count = 1 + i % 4
        write_set(tmp_path / 'data' / 'test' / name, pictures[:count], labels[:count])
    return tmp_path / 'data'


def test_benchmark_groups(checkpoint, data_root, capsys):
    status, out, _ = run(capsys, checkpoint, '--data_root', data_root, '--new')
    assert status == 0
    assert [[row['Dataset'] for row in rows] for rows in rows_of(out)] == [
        ['IIIT5k', 'SVT', 'IC13_857', 'IC15_1811', 'SVTP', 'CUTE80', 'Combined'],
        ['IIIT5k', 'SVT', 'IC13_1015', 'IC15_2077', 'SVTP', 'CUTE80', 'Combined'],
        ['ArT', 'COCOv1.4', 'Uber', 'Combined'],
    ]
    assert 'Benchmark (Subset):' in out


def test_missing_sets_are_named_and_only_left_out_on_request(checkpoint, data_root, capsys):
    for name in ('SVT', 'IC15_2077'):
        (data_root / 'test' / name).rename(data_root / name)
    status, out, err = run(capsys, checkpoint, '--data_root', data_root)
    assert (status, out, len(err)) == (2, '', 1)
    assert 'SVT, IC15_2077' in err[0]
    assert '--available' in err[0]
    status, out, _ = run(capsys, checkpoint, '--data_root', data_root, '--available')
    assert status == 0
    assert 'not available: SVT, IC15_2077' in out
    assert [row['Dataset'] for row in rows_of(out)[1]] == ['IIIT5k', 'IC13_1015', 'SVTP', 'CUTE80', 'Combined']


def test_nothing_available(tmp_path):
    with pytest.raises(FileNotFoundError, match='IIIT5k, SVT') as caught:
        benchmark_groups(tmp_path, available=True)
    assert '--available' not in str(caught.value)


def test_names_of_sets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ('a/words', 'b/words'):
        Path(folder).mkdir(parents=True)
    Path('a/words/gt.txt').touch()
    names = name_sets(['a/words/', 'b/words/', 'a/words/gt.txt', 'a/words/', './a/words', 'b/words'])
    assert list(names) == ['words', 'b/words/', 'words/gt.txt']
    assert names['b/words/'] == tmp_path / 'b' / 'words'


# How it is judged


@pytest.mark.parametrize(
    ('options', 'size'),
    [({}, 36), ({'cased': True}, 62), ({'punctuated': True}, 68), ({'cased': True, 'punctuated': True}, 94)],
)
def test_charset_of_the_test(tiny_crnn, options, size):
    charset = judging_charset(tiny_crnn, **options)
    assert len(set(charset)) == len(charset) == size
    assert set(charset) <= set(tiny_crnn.hparams.charset_train)
    assert ('A' in charset, '%' in charset) == ('cased' in options, 'punctuated' in options)


def test_case_and_punctuation_of_labels(checkpoint, tmp_path, capsys):
    folder = write_set(tmp_path / 'set', [draw_word('x')] * 3, ['It’s', '½kg!', '!!'])
    predictions = tmp_path / 'p.jsonl'

    def labels(*options):
        status, out, _ = run(capsys, checkpoint, '--sets', folder, '--predictions', predictions, *options)
        assert status == 0
        return [json.loads(line)['label'] for line in predictions.read_text('utf-8').splitlines()], out

    found, out = labels()
    assert found == ['its', '12kg']
    assert 'left out 1 label without a character of the charset' in out
    assert labels('--cased')[0] == ['Its', '12kg']
    assert labels('--punctuation')[0] == ['its', '12kg!', '!!']
    assert labels('--no-normalize_unicode')[0] == ['its', 'kg']
    assert labels('charset_test=gIkt12')[0] == ['It', '12kg']


def test_a_model_of_another_alphabet_is_judged_in_it(tmp_path, capsys):
    alphabet = 'αβγδ'
    system = create_model('crnn', width=0.0625, hidden_size=16, charset_train=alphabet)
    checkpoint = save_checkpoint(system, tmp_path / 'greek.ckpt')
    folder = write_set(tmp_path / 'set', [draw_word('x')], ['βαδ'])
    predictions = tmp_path / 'p.jsonl'
    status, out, _ = run(capsys, checkpoint, '--sets', folder, '--predictions', predictions)
    assert status == 0
    assert 'judged in 4 characters: αβγδ' in out
    assert json.loads(predictions.read_text('utf-8'))['label'] == 'βαδ'


@pytest.mark.parametrize(
    ('options', 'label'), [([], 'a b'), (['--remove_whitespace'], 'ab'), (['charset_test=ab'], 'ab')]
)
def test_a_model_that_reads_spaces_is_judged_with_them(tmp_path, capsys, options, label):
    system = create_model('crnn', width=0.0625, hidden_size=16, charset_train='ab ')
    checkpoint = save_checkpoint(system, tmp_path / 'spaces.ckpt')
    folder = write_set(tmp_path / 'set', [draw_word('x')], ['a b'])
    predictions = tmp_path / 'p.jsonl'
    status, _, _ = run(capsys, checkpoint, '--sets', folder, '--predictions', predictions, *options)
    assert status == 0
    assert json.loads(predictions.read_text('utf-8'))['label'] == label


def test_results_name_pictures_whose_names_are_no_unicode(tmp_path):
    append(tmp_path / 'r.txt', 'one\n')
    append(tmp_path / 'r.txt', 'a\udcff.png\n')
    append(tmp_path / 'r.txt', 'three\n')
    assert (tmp_path / 'r.txt').read_text('utf-8') == 'one\na\\udcff.png\nthree\n'


@pytest.mark.parametrize('workers', [0, 1])
def test_corrupt_pictures_count_as_wrong_and_are_named(checkpoint, right, capsys, workers):
    (right / 'images' / '1.png').write_bytes(b'no picture')
    (right / 'images' / '3.png').unlink()
    status, out, _ = run(
        capsys, checkpoint, '--sets', right, '--batch_size', 3, '--predictions', right / 'p.jsonl', workers=workers
    )
    assert status == 0
    (rows,) = rows_of(out)
    assert (rows[0]['# samples'], rows[0]['Accuracy']) == ('4', '50.00')
    assert '2 pictures could not be read, counted as wrong' in out
    records = [json.loads(line) for line in (right / 'p.jsonl').read_text().splitlines()]
    assert [record['correct'] for record in records] == [True, False, True, False]
    assert records[1]['prediction'] == ''
    assert records[1]['picture'].endswith('1.png')
    assert records[1]['picture'] in out
    assert rows_of(run(capsys, checkpoint, '--sets', right, '--batch_size', 3, workers=workers)[1]) == [rows]


def test_small_pictures_can_be_left_out(checkpoint, tmp_path, capsys):
    folder = write_set(tmp_path / 'set', [draw_word('x'), Image.new('RGB', (40, 6))], ['x', 'y'])
    status, out, _ = run(capsys, checkpoint, '--sets', folder, '--min_image_dim', 8)
    assert status == 0
    assert rows_of(out)[0][0]['# samples'] == '1'
    assert 'left out 1 picture with a side under 8 pixels' in out


# What is written


def test_predictions_as_jsonl_and_csv_agree(checkpoint, right, known, tmp_path, capsys):
    for suffix in ('jsonl', 'csv'):
        options = ['--sets', right, '--predictions', tmp_path / 'deep' / f'p.{suffix}']
        assert run(capsys, checkpoint, *options)[0] == 0
    records = [json.loads(line) for line in (tmp_path / 'deep' / 'p.jsonl').read_text('utf-8').splitlines()]
    with (tmp_path / 'deep' / 'p.csv').open(encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [record['prediction'] for record in records] == known[1]
    assert sorted(p.name for p in (tmp_path / 'deep').iterdir()) == ['p.csv', 'p.jsonl']
    for i, (record, row) in enumerate(zip(records, rows, strict=True)):
        assert record['picture'] == str(right / 'images' / f'{i}.png')
        assert [c['char'] for c in record['characters']] == list(record['text'])
        for column in ('set', 'picture', 'label', 'prediction', 'text'):
            assert row[column] == record[column]
        assert float(row['confidence']) == pytest.approx(record['confidence'])
        percent = [100 * c['confidence'] for c in record['characters']]
        assert [float(p) for p in row['characters'].split()] == pytest.approx(percent, abs=0.01)


def test_results_are_kept_beside_the_checkpoint(tiny_crnn, right, tmp_path, capsys):
    checkpoint = save_checkpoint(tiny_crnn, tmp_path / 'model.ckpt')
    for options in ([], ['--cased']):
        assert run(capsys, checkpoint, '--sets', right, *options)[0] == 0
    text = (tmp_path / 'model.ckpt.results.txt').read_text('utf-8')
    assert text.count('| Combined') == 2
    first, second = map(json.loads, (tmp_path / 'model.ckpt.results.jsonl').read_text('utf-8').splitlines())
    assert first['results']['Sets']['right']['accuracy'] == 100
    assert (len(first['charset']), len(second['charset'])) == (36, 62)
    assert not list(tmp_path.glob('*.part'))


def test_results_of_published_weights_go_to_outputs(tiny_crnn, right, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('strhub.engine.commandline.load_reader', lambda *args, **kwargs: tiny_crnn)
    assert run(capsys, 'pretrained=crnn', '--sets', right)[0] == 0
    assert Path('outputs/crnn.results.txt').is_file()


def test_a_failing_test_leaves_no_predictions(checkpoint, right, tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr('strhub.engine.evaluate.read_batch', fail)
    (tmp_path / 'out').mkdir()
    status, _, _ = run(capsys, checkpoint, '--sets', right, '--predictions', tmp_path / 'out' / 'p.csv')
    assert status == 130
    assert not list((tmp_path / 'out').iterdir())


# What is refused


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (['missing.ckpt', '--sets', '{right}'], 'missing.ckpt'),
        (['{checkpoint}', '--sets', 'nowhere'], 'nowhere'),
        (['{checkpoint}', '--sets', '{empty}'], '{empty}'),
        (['{checkpoint}', '--sets', '{right}', 'widht=1'], 'width'),
        (['{checkpoint}', '--sets', '{right}', 'leaky_relu=perhaps'], 'leaky_relu'),
        (['{checkpoint}', '--sets', '{right}', '--new'], '--new'),
        (['{checkpoint}', '--sets', '{right}', '--cased', 'charset_test=ABC'], '--cased'),
        (['{checkpoint}', '--sets', '{right}', '--rotation', 'nan'], '--rotation'),
        (['{checkpoint}', '--sets', '{right}', '--predictions', 'p.txt'], 'p.txt'),
        (['{checkpoint}', '--sets', '{right}', '--num_workers', '-1'], '--num_workers'),
        (['{checkpoint}', '--sets', '{right}/images/0.png'], '0.png'),
        (['{checkpoint}', '--data_root', '{empty}'], 'IIIT5k'),
        (['{right}', '--sets', '{right}'], 'folder'),
        (['{right}/images/0.png', '--sets', '{right}'], 'picture'),
    ],
)
def test_bad_usage_is_one_sentence(checkpoint, right, tmp_path, capsys, arguments, expected):
    (tmp_path / 'empty').mkdir()
    places = {'checkpoint': checkpoint, 'right': right, 'empty': tmp_path / 'empty'}
    with pytest.raises(SystemExit) as exit_:
        main([argument.format(**places) for argument in arguments])
    out, err = capsys.readouterr()
    assert exit_.value.code == 2
    assert out == ''
    assert err.count('\n') == 1
    assert err.startswith('error: ')
    assert expected.format(**places) in err


def test_the_script_from_elsewhere(checkpoint, right):
    command = [sys.executable, str(ROOT / 'test.py'), str(checkpoint), '--num_workers', '0']
    result = subprocess.run([*command, '--sets', '.'], capture_output=True, text=True, cwd=right)
    assert result.returncode == 0, result.stderr
    assert rows_of(result.stdout)[0][0]['Accuracy'] == '100.00'


def test_real_words(checkpoint, shared, capsys):
    folder = shared / 'data' / 'test' / 'IC13_1095'
    status, out, _ = run(capsys, checkpoint, '--sets', folder / 'labels_857.tsv')
    assert status == 0
    assert rows_of(out)[0][0]['# samples'] == '857'
