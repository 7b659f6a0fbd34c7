"""Reading pictures: which files, in which order, what is printed, and what a file that is no picture does."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from samples import draw_word, go_through

from strhub.engine.images import find_images
from strhub.engine.read import main, read_batch, read_images, read_words
from strhub.tokenizer import CTCTokenizer

ROOT = Path(__file__).parents[2]


def run(capsys, *argv):
    return go_through(capsys, main, *argv)


# What is read


@pytest.fixture(params=['tiny_crnn', 'tiny_parseq'])
def system(request):
    return request.getfixturevalue(request.param)


def test_a_reading_agrees_with_the_decoder(system):
    images = torch.rand(5, 3, 32, 128) * 2 - 1
    readings = read_batch(system, images)
    texts, probs = system.read(images)
    assert [reading.text for reading in readings] == texts
    assert [reading.confidence for reading in readings] == pytest.approx([float(p.prod()) for p in probs])
    for reading, p in zip(readings, probs, strict=True):
        assert ''.join(c.char for c in reading.characters) == reading.text
        assert [c.confidence for c in reading.characters] == pytest.approx(p[: len(reading.text)].tolist())


def test_texts_and_confidences_alone_agree_with_readings(system):
    images = torch.rand(5, 3, 32, 128) * 2 - 1
    readings = read_batch(system, images)
    texts, confidences = read_words(system, images)
    assert texts == [reading.text for reading in readings]
    assert confidences == pytest.approx([reading.confidence for reading in readings])


def test_batch_and_single_agree(system):
    images = [draw_word('one'), draw_word('two', (60, 20)), Image.new('L', (1, 1))]
    together = read_images(system, images)
    for image, reading in zip(images, together, strict=True):
        (alone,) = read_images(system, [image])
        assert alone.text == reading.text
        assert alone.confidence == pytest.approx(reading.confidence, rel=1e-3)


def test_reading_nothing():
    assert read_images(None, []) == []


def test_alternatives_are_sorted_and_start_with_the_character_itself(system):
    readings = read_batch(system, torch.rand(5, 3, 32, 128) * 2 - 1, top_k=3)
    assert any(reading.characters for reading in readings)
    for character in (c for reading in readings for c in reading.characters):
        chars, confidences = zip(*character.alternatives, strict=True)
        assert chars[0] == character.char
        assert len(set(chars)) == 3
        assert list(confidences) == sorted(confidences, reverse=True)


def test_alternatives_are_never_more_than_the_charset(system):
    readings = read_batch(system, torch.rand(2, 3, 32, 128), top_k=1000)
    assert {len(c.alternatives) for reading in readings for c in reading.characters} <= {94}


def test_ctc_characters_are_aligned_with_their_frames():
    class Fixed:
        """Says: a a blank a b."""

        tokenizer = CTCTokenizer('abc')

        def probabilities(self, images):
            probs = torch.tensor(
                [
                    [0.1, 0.6, 0.1, 0.2],
                    [0.0, 0.9, 0.06, 0.04],
                    [0.7, 0.1, 0.1, 0.1],
                    [0.2, 0.5, 0.1, 0.2],
                    [0.0, 0.1, 0.8, 0.1],
                ]
            )
            return probs[None]

    (reading,) = read_batch(Fixed(), torch.zeros(1, 3, 4, 4), top_k=2)
    assert reading.text == 'aab'
    assert reading.confidence == pytest.approx(0.6 * 0.9 * 0.7 * 0.5 * 0.8)
    assert [c.confidence for c in reading.characters] == pytest.approx([0.54, 0.5, 0.8])
    (first, _), (second, _), (third, _) = ([a for a, _ in c.alternatives] for c in reading.characters)
    assert (first, second, third) == ('a', 'a', 'b')
    assert reading.characters[0].alternatives[1] == ('b', pytest.approx(0.06))  # of the clearest frame


def test_training_mode_is_given_back(tiny_crnn):
    tiny_crnn.train()
    try:
        read_images(tiny_crnn, [draw_word('x')])
        assert tiny_crnn.training
    finally:
        tiny_crnn.eval()


# Which files


def test_folders_are_searched_in_depth_and_natural_order(words):
    names = [str(path.relative_to(words)) for path in find_images([str(words)])]
    assert names == ['1.png', '2.png', '10.png', str(Path('deep', 'photo.JPG'))]


def test_globs_and_single_files(words):
    assert [path.name for path in find_images([f'{words}/?.png', f'{words}/10.png'])] == ['1.png', '2.png', '10.png']
    assert [path.name for path in find_images([f'{words}/**/*.JPG'])] == ['photo.JPG']


def test_a_file_whose_name_looks_like_a_pattern(tmp_path):
    file = tmp_path / 'a[1].png'
    file.touch()
    assert list(find_images([str(file)])) == [file]


def test_names_on_stdin_keep_their_order(monkeypatch):
    monkeypatch.setattr(sys, 'stdin', io.StringIO('b.png\n\na b.png\n'))
    assert list(find_images(['-'])) == [Path('b.png'), Path('a b.png')]


# The door


def test_text_lines(crnn_checkpoint, words, capsys):
    status, out, err = run(capsys, crnn_checkpoint, '--images', words, '--batch_size', 2)
    assert (status, err) == (0, [])
    assert len(out) == 4
    assert out[0].startswith(f'{words / "1.png"}: ')
    assert out[0].endswith(' %)')


def test_json_lines(crnn_checkpoint, tiny_crnn, words, capsys):
    status, out, _ = run(capsys, crnn_checkpoint, '--json', '--topk', 2, '--images', words)
    assert status == 0
    records = [json.loads(line) for line in out]
    (expected,) = read_images(tiny_crnn, [Image.open(words / '2.png')])
    assert records[1]['path'] == str(words / '2.png')
    assert records[1]['text'] == expected.text
    for record in records:
        assert ''.join(c['char'] for c in record['characters']) == record['text']
        assert all(len(c['topk']) == 2 for c in record['characters'])


@pytest.mark.parametrize('place', range(4))
@pytest.mark.parametrize('override', ['refine_iters=2', 'refine_iters:int=2'])
def test_parameters_of_the_model_may_stand_anywhere(parseq_checkpoint, words, capsys, monkeypatch, place, override):
    monkeypatch.chdir(words)
    seen = []
    from strhub.engine import commandline

    load = commandline.load_reader
    monkeypatch.setattr(
        commandline, 'load_reader', lambda *args, **kwargs: seen.append(load(*args, **kwargs)) or seen[-1]
    )
    argv = [parseq_checkpoint, '--json', '--images', '1.png', '2.png']
    argv.insert([0, 1, 4, 5][place], override)
    status, out, _ = run(capsys, *argv)
    assert (status, len(out)) == (0, 2)
    assert seen[0].model.refine_iters == 2


@pytest.mark.parametrize('way', ['--compile', 'compile=true', '--precision bf16', 'precision=bf16', 'compile=false'])
def test_faster_ways_read_the_same(parseq_checkpoint, words, capsys, monkeypatch, way):
    compiled = []
    monkeypatch.setattr('strhub.engine.commandline.compile_parts', lambda *_, **how: compiled.append(how))
    status, plain, _ = run(capsys, parseq_checkpoint, '--images', words, '--json')
    assert status == 0
    status, fast, errors = run(capsys, parseq_checkpoint, *way.split(), '--images', words, '--json')
    assert (status, errors) == (0, [])
    assert compiled == ([{'only_reads': True}] if way in ('--compile', 'compile=true') else [])
    confidences = [[json.loads(line)['confidence'] for line in lines] for lines in (plain, fast)]
    assert confidences[1] == pytest.approx(confidences[0], rel=0.5)
    assert ('bf16' in way) == (confidences[1] != confidences[0])


def test_a_file_named_like_a_parameter_is_a_file(crnn_checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw_word('x').save('width=1.png')
    draw_word('x').save('hidden_size=1', 'PNG')
    status, out, _ = run(capsys, crnn_checkpoint, '--images', 'width=1.png', 'hidden_size=1')
    assert status == 0
    assert [line.split(': ')[0] for line in out] == ['width=1.png', 'hidden_size=1']


def test_a_typed_parameter_may_end_like_a_file(crnn_checkpoint, words, capsys):
    status, out, err = run(capsys, crnn_checkpoint, '--images', words / '1.png', 'charset_train:str=ab.c')
    assert (status, len(out), err) == (0, 1, [])
    assert set(out[0].removeprefix(f'{words / "1.png"}: ').rpartition('  (')[0]) <= set('ab.c')


def test_odd_pictures_are_read(crnn_checkpoint, tmp_path, capsys):
    draw_word('cmyk').convert('CMYK').save(tmp_path / '1-cmyk.jpg')
    Image.new('RGB', (1, 1)).save(tmp_path / '2-dot.png')
    Image.fromarray(np.linspace(0, 65535, 64 * 20, dtype=np.uint16).reshape(20, 64)).save(tmp_path / '3-deep.png')
    draw_word('a').save(tmp_path / '4-moving.gif', save_all=True, append_images=[draw_word('b')])
    draw_word('a').convert('P').save(tmp_path / '5-palette.png')
    Image.new('RGBA', (30, 10), (0, 0, 0, 0)).save(tmp_path / '6-clear.png')
    Image.new('1', (5000, 2)).save(tmp_path / '7-line.tif')
    status, out, err = run(capsys, crnn_checkpoint, '--images', tmp_path)
    assert (status, len(out), err) == (0, 7, [])


def test_what_is_no_picture_is_named_and_stops_nothing(crnn_checkpoint, words, capsys):
    (words / '3.png').write_bytes(b'\x89PNG\r\n\x1a\n cut off')
    (words / '4.png').touch()
    (words / 'empty').mkdir()
    (words / '5.png').mkdir()
    status, out, err = run(
        capsys, crnn_checkpoint, '--images', words, words / 'empty', words / 'missing.png', f'{words}/*.webp'
    )
    assert status == 1
    assert len(out) == 4
    assert len(err) == 6
    for name in ('3.png', '4.png', 'empty', 'missing.png', '*.webp'):
        assert sum(name in line for line in err) == 1
    assert err[-1] == '5 of 9 could not be read'


@pytest.mark.parametrize('missing', ['missing.png', 'empty', '*.png'])
def test_no_picture_at_all_is_one_sentence(crnn_checkpoint, tmp_path, capsys, monkeypatch, missing):
    monkeypatch.chdir(tmp_path)
    Path('empty').mkdir()
    status, out, err = run(capsys, crnn_checkpoint, '--images', missing)
    assert (status, out, len(err)) == (2, [], 1)
    assert err[0].startswith(f'error: no picture was found in {missing}')


def test_no_names_on_stdin(crnn_checkpoint, capsys, monkeypatch):
    monkeypatch.setattr(sys, 'stdin', io.StringIO(''))
    status, _, err = run(capsys, crnn_checkpoint, '--images', '-')
    assert (status, len(err)) == (2, 1)


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (['missing.ckpt'], 'missing.ckpt'),
        (['.'], ''),
        (['pretrained=parsec'], 'parseq'),
        (['{checkpoint}', 'refine_iters=2'], 'refine_iters'),
        (['{checkpoint}', 'leaky_relu=perhaps'], 'leaky_relu'),
        (['{checkpoint}', 'leaky_relu:bool=perhaps'], 'leaky_relu'),
        (['{checkpoint}', 'leaky_relu:maybe=1'], 'maybe'),
        (['{checkpoint}', '--device', 'cuda:77'], 'cuda:77'),
        (['{checkpoint}', '--batch_size', '0'], '--batch_size'),
        (['{checkpoint}', '--batch', '4'], '--batch'),
        (['{checkpoint}', '--topk', 'x'], '--topk'),
        (['{checkpoint}', 'second.ckpt'], 'second.ckpt'),
        ([], 'checkpoint'),
    ],
)
def test_bad_usage_is_one_sentence(crnn_checkpoint, words, capsys, arguments, expected):
    arguments = [argument.format(checkpoint=crnn_checkpoint) for argument in arguments]
    try:
        main([f'--images={words}', *arguments])
        status = 0
    except SystemExit as exit_:
        status = exit_.code
    out, err = capsys.readouterr()
    assert status == 2, err
    assert out == ''
    assert err.count('\n') == 1
    assert err.startswith('error: ')
    assert expected in err


def test_dashes_and_underscores_are_the_same(crnn_checkpoint, words, capsys):
    status, out, _ = run(capsys, crnn_checkpoint, '--batch-size=2', '--images', words)
    assert (status, len(out)) == (0, 4)


def test_the_script_reads_names_from_a_pipe(crnn_checkpoint, words):
    command = [sys.executable, str(ROOT / 'read.py'), str(crnn_checkpoint), '--images', '-', '--device', 'cpu']
    names = f'{words / "10.png"}\n{words / "notes.txt"}\n{words / "1.png"}\n'
    result = subprocess.run(command, input=names, capture_output=True, text=True, cwd=words)
    assert result.returncode == 1
    assert [line.split(': ')[0] for line in result.stdout.splitlines()] == [str(words / '10.png'), str(words / '1.png')]
    assert 'notes.txt' in result.stderr
    assert 'Traceback' not in result.stderr
