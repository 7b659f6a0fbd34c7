"""What the options of single sets do, and what is done about annotations that are not as they should be."""

import pickle
import sys
from itertools import islice

import miniatures as mini
import pytest
from miniatures import MINIATURES, commas, write_json, write_lines
from pictures import encode
from scenes import LEVEL, LEVEL_BOX, UPHILL, flag, save_plain, save_turned, scene

from strhub.__main__ import run
from strhub.data.convert.base import Cell, Record, Skipped, Word
from strhub.data.convert.case_sensitive import case_sensitive
from strhub.data.convert.coco import coco, openvino
from strhub.data.convert.coco_text import coco_text_1, textocr
from strhub.data.convert.cutter import Rules, cut_all
from strhub.data.convert.doctr import doctr
from strhub.data.convert.icdar import icdar, mlt19, rctw17
from strhub.data.convert.icdar2019 import art, lsvt
from strhub.data.convert.mjsynth import mjsynth
from strhub.data.convert.paddleocr import paddleocr
from strhub.data.convert.parquet import parquet
from strhub.data.convert.synthtext import synthtext
from strhub.data.convert.uber_text import uber_text
from strhub.data.convert.union14m import union14m
from strhub.data.lmdb import LmdbWriter


def labels(words) -> list[str]:
    return [word.label for word in words if isinstance(word, Word)]


def reasons(words) -> list[str]:
    return [word.reason for word in words if isinstance(word, Skipped)]


def points(word) -> list[tuple[float, float]]:
    assert isinstance(word, Word)
    return [(x, y) for x, y in word.polygon or ()]


def test_art_takes_cut_out_words_first_and_either_on_request(tmp_path):
    mini.art_words(tmp_path, save_plain)
    mini.art_pages(tmp_path, save_plain)
    assert labels(art(tmp_path)) == labels(art(tmp_path, form='words')) == ['URDER', 'a,"b"']
    assert labels(art(tmp_path, form='pages', language='latin')) == ['Exit', 'Straße 5', 'round']
    assert reasons(art(tmp_path, form='words', language='Latin')) == [
        'illegible',
        'language Chinese',
        'picture missing',
    ]


def test_coordinates_of_the_stored_picture_are_marked_as_such(tmp_path):
    mini.lsvt(tmp_path, save_turned)
    assert all(word.as_stored for word in lsvt(tmp_path, as_stored=True) if isinstance(word, Word))
    assert not any(word.as_stored for word in lsvt(tmp_path) if isinstance(word, Word))


def test_parts_can_be_chosen(tmp_path):
    mini.textocr(tmp_path / 'textocr', save_plain)
    assert labels(textocr(tmp_path / 'textocr', split='train')) == ['Exit', 'Straße', 'DOWN']
    assert reasons(textocr(tmp_path / 'textocr', split='val')) == ['picture missing']
    mini.openvino(tmp_path / 'openvino', save_plain)
    assert labels(openvino(tmp_path / 'openvino', part='validation')) == ['Exit validation', 'Straße']
    with pytest.raises(FileNotFoundError, match='train_5'):
        list(openvino(tmp_path / 'openvino', part='train_5'))
    mini.coco_text_1(tmp_path / 'coco', save_plain)
    assert labels(coco_text_1(tmp_path / 'coco', kind='handwritten')) == ['pen']
    mini.mjsynth(tmp_path / 'mj', save_plain)
    assert labels(mjsynth(tmp_path / 'mj', split='val')) == ['Exit', 'café']
    mini.uber_text(tmp_path / 'uber', save_plain)
    assert labels(uber_text(tmp_path / 'uber', category='Business name')) == ['24 h']


@pytest.mark.parametrize(
    ('name', 'missing', 'there'),
    [
        ('mjsynth', ['annotation_test.txt'], ['train', 'val']),
        ('mjsynth', ['annotation_train.txt', 'annotation_val.txt'], ['test']),
        ('textocr', ['TextOCR_0.1_val.json'], ['train']),
        ('textocr', ['TextOCR_0.1_train.json'], ['val']),
    ],
)
def test_a_missing_part_is_named_with_the_option_that_goes_without(tmp_path, name, missing, there):
    convert = {'mjsynth': mjsynth, 'textocr': textocr}[name]
    MINIATURES[name].write(tmp_path, save_plain)
    for file in [file for file in tmp_path.rglob('*') if file.name in missing]:
        file.unlink()
    options = ' or '.join(f'--split {part}' for part in there)
    with pytest.raises(FileNotFoundError, match=f'does not hold {", ".join(missing)}: .* with {options}$'):
        list(convert(tmp_path))
    assert all(list(convert(tmp_path, split=part)) for part in there)


def test_union14m_as_lmdbs_and_as_lists(tmp_path):
    source = mini.union_lmdb(tmp_path / 'lmdb', save_plain)
    assert labels(union14m(source, part='hard')) == ['出口']
    assert labels(union14m(source, part='val')) == labels(union14m(source / 'train_val')) == ['not this']
    assert next(iter(union14m(source))) == Word(Record(source / 'train_easy', b'image-000000001'), 'Exit')
    with pytest.raises(FileNotFoundError, match='challenging'):
        list(union14m(source, part='challenging'))
    source = mini.union_lists(tmp_path / 'lists', save_plain)
    assert labels(union14m(source, part='easy')) == ['Exit']
    (source / 'train_annos' / 'mmocr-0.x' / 'train_easy.jsonl').unlink()
    assert labels(union14m(source, part='easy')) == ['of another year']
    (source / 'full_images').rename(source / 'moved')
    (source / 'full_images').mkdir()
    (source / 'moved').rename(source / 'full_images' / 'full_images')
    (word,) = union14m(source, part='easy')
    assert word.picture.is_file()  # names that begin below full_images


def test_an_lmdb_with_labels_that_are_not_text_or_not_there(tmp_path):
    import lmdb

    with LmdbWriter(tmp_path / 'set') as writer:
        for label in ('one', 'two', 'three'):
            writer.write(encode(flag()), label)
    with lmdb.open(str(tmp_path / 'set')) as env, env.begin(write=True) as txn:
        txn.put(b'label-000000002', b'\xff')
        txn.delete(b'label-000000003')
    assert labels(union14m(tmp_path / 'set')) == ['one']
    assert reasons(union14m(tmp_path / 'set')) == ['label not UTF-8', 'record without a label']


def test_mlt_words_are_straightened_by_their_corners(tmp_path):
    save_plain(scene([UPHILL]), tmp_path / 'word_1.png')
    write_lines(tmp_path / 'gt.txt', 'word_1.png,Latin,up', 'word_2.png,Latin,gone')
    write_lines(tmp_path / 'gt_coordinates.txt', f'word_1.png,{commas(UPHILL)},img_7.jpg')
    (word,) = islice(mlt19(tmp_path, rectify=True), 1)
    assert points(word) == UPHILL
    (word,) = islice(mlt19(tmp_path), 1)
    assert word == Word(tmp_path / 'word_1.png', 'up')
    (tmp_path / 'gt_coordinates.txt').unlink()
    with pytest.raises(FileNotFoundError, match='gt_coordinates'):
        list(mlt19(tmp_path, rectify=True))


def test_rctw_difficult_lines_and_everything_in_one_folder(tmp_path):
    mini.rctw17(tmp_path / 'two', save_plain)
    assert labels(rctw17(tmp_path / 'two', difficult=True)) == ['A, "店"', '食', '难', '商店出口']
    save_plain(scene([LEVEL]), tmp_path / 'one' / 'image_0.jpg')
    write_lines(tmp_path / 'one' / 'image_0.txt', f'{commas(LEVEL)},0,"店"')
    assert labels(rctw17(tmp_path / 'one')) == ['店']
    (tmp_path / 'one' / 'image_0.txt').write_bytes(b'\xff\xff')
    assert reasons(rctw17(tmp_path / 'one')) == ['annotations broken']


def test_icdar_takes_the_nearest_picture_and_asks_where_two_are_as_near(tmp_path):
    for part in ('train', 'test'):
        save_plain(scene([LEVEL]), tmp_path / part / 'images' / 'img_1.jpg')
        write_lines(tmp_path / part / 'gt' / 'gt_img_1.txt', f'{commas(LEVEL)},{part}')
    assert [word.picture.parts[-3] for word in icdar(tmp_path)] == ['test', 'train']
    write_lines(tmp_path / 'gt_img_1.txt', f'{commas(LEVEL)},which?')
    save_plain(scene([LEVEL]), tmp_path / 'other' / 'img_1.jpg')
    save_plain(scene([LEVEL]), tmp_path / 'third' / 'img_1.jpg')
    with pytest.raises(ValueError, match='--images'):
        list(icdar(tmp_path))
    given_folder = icdar(tmp_path, images=str(tmp_path / 'third'))
    assert {word.picture.parent.name for word in given_folder} == {'third'}
    with pytest.raises(FileNotFoundError, match='nowhere'):
        list(icdar(tmp_path, images=str(tmp_path / 'nowhere')))


def test_icdar_lines_of_numbers(tmp_path):
    save_plain(scene(), tmp_path / 'a.jpg')
    write_lines(tmp_path / 'a.txt', '16,10,64,30,1,2,3,4,5')
    (word,) = icdar(tmp_path)
    assert (word.label, len(word.polygon or ())) == ('5', 4)
    (word,) = icdar(tmp_path, corners='2')
    assert (word.label, word.box) == ('1,2,3,4,5', (16, 10, 64, 30))


CURVE = '16,10,30,8,64,10,64,30,30,28,16,30'
UNCLEAR = 'line of 4 corners or more: --corners 4 or --corners 4+ says which'
NO_PLACE = 'line without a text and its place'


@pytest.mark.parametrize(
    ('corners', 'lines', 'kept', 'skipped'),
    [
        ('any', [f'{CURVE},round'], [('round', 6)], []),
        ('any', [f'{CURVE},1,5', f'{CURVE},###', f'{commas(LEVEL)},flat'], [('1,5', 6), ('flat', 4)], ['illegible']),
        ('any', [f'{commas(LEVEL)},flat'] * 3 + [f'{CURVE},round'], [('flat', 4)] * 3, [UNCLEAR]),
        ('any', [f'{commas(LEVEL)},1,5 kg'] * 2 + [f'{commas(LEVEL)},1,2,-'], [('1,5 kg', 4)] * 2, [UNCLEAR]),
        ('4', [f'{CURVE},round'] * 2, [('30,28,16,30,round', 4)] * 2, []),
        ('4+', [f'{commas(LEVEL)},flat'] * 3 + [f'{CURVE},round'], [('flat', 4)] * 3 + [('round', 6)], []),
        ('any', [f'{commas(LEVEL)},flat', '5,5,7,7,8,8,###'], [('flat', 4)], [NO_PLACE]),
        ('any', [f'{commas(LEVEL)},x', f'{commas(LEVEL)},y', '1,1,9,9,5'], [('x', 4), ('y', 4)], [NO_PLACE]),
        ('any', ['1,1,9,9,5', '1,1,9,9,Tel. 5', '1,1,9,9,5,5,5,5,5'], [('5', 0), ('Tel. 5', 0), ('5,5,5,5,5', 0)], []),
    ],
)
def test_icdar_files_have_the_corners_that_most_of_their_lines_have(tmp_path, corners, lines, kept, skipped):
    save_plain(scene(), tmp_path / 'a.jpg')
    write_lines(tmp_path / 'a.txt', *lines)
    found = list(icdar(tmp_path, corners=corners))
    assert [(word.label, len(word.polygon or ())) for word in found if isinstance(word, Word)] == kept
    assert reasons(found) == skipped


@pytest.mark.parametrize('corners', ['any', '4', '4+'])
def test_icdar_files_whose_corners_one_line_alone_tells_are_named(tmp_path, corners, caplog):
    lines = {'a': [f'{CURVE},round'], 'b': [f'{CURVE},1'] * 2, 'c': [f'{commas(LEVEL)},flat'], 'd': [f'{CURVE},###']}
    for name, texts in lines.items():
        save_plain(scene(), tmp_path / f'{name}.jpg')
        write_lines(tmp_path / f'{name}.txt', *texts)
    list(icdar(tmp_path, corners=corners))
    expected = (
        f'2 files with more than 4 corners by one line alone, whose text may begin with numbers instead '
        f'(the first is {tmp_path / "a.txt"}): --corners 4 or --corners 4+ says which'
    )
    assert caplog.messages == ([expected] if corners == 'any' else [])


def test_a_file_may_be_the_source(tmp_path):
    mini.coco(tmp_path / 'coco', save_plain)
    (tmp_path / 'coco' / 'annotations.json').rename(tmp_path / 'mine.json')
    found = list(coco(tmp_path / 'mine.json', images=str(tmp_path / 'coco' / 'images')))
    assert labels(found) == ['Exit', 'Straße', 'mask']
    assert found[0].picture.is_file()
    mini.doctr_words(tmp_path / 'doctr', save_plain)
    (tmp_path / 'doctr' / 'labels.json').rename(tmp_path / 'val.json')
    (word, *_) = doctr(tmp_path / 'val.json', images=str(tmp_path / 'doctr' / 'images'))
    assert word.picture.is_file()
    mini.paddle_words(tmp_path / 'paddle', save_plain)
    (tmp_path / 'paddle' / 'rec_gt_train.txt').rename(tmp_path / 'list.tsv')
    (word, *_) = paddleocr(tmp_path / 'list.tsv', images=str(tmp_path / 'paddle'))
    assert word.picture.is_file()


@pytest.mark.parametrize('name', ['images/a.jpg', './images/a.jpg', 'images\\a.jpg', 'a.jpg'])
@pytest.mark.parametrize('is_given', [True, False])
def test_coco_names_may_begin_with_the_folder_of_the_pictures(tmp_path, name, is_given):
    texts = [{'image_id': 1, 'bbox': LEVEL_BOX, 'text': 'Exit'}]
    write_json(tmp_path / 'labels.json', {'images': [{'id': 1, 'file_name': name}], 'annotations': texts})
    save_plain(scene(), tmp_path / 'images' / 'a.jpg')
    options = {'images': str(tmp_path / 'images')} if is_given else {}
    (word,) = coco(tmp_path, **options)
    assert word.picture == tmp_path / 'images' / 'a.jpg'
    save_plain(scene(), tmp_path / 'images' / 'images' / 'a.jpg')
    (word,) = coco(tmp_path, **options)
    assert word.picture == tmp_path / 'images' / name.replace('\\', '/')  # a folder of that name may be in it, too


@pytest.mark.parametrize(
    ('name', 'content'),
    [
        ('l.json', '{"1.jpg": "It\'s, 5", "2.jpg": "出 口"}'),
        ('l.json', '[{"filename": "1.jpg", "text": "It\'s, 5"}, {"image": "2.jpg", "label": "出 口"}]'),
        ('l.jsonl', '{"filename": "1.jpg", "text": "It\'s, 5"}\n\n{"filename": "2.jpg", "text": "出 口"}\n'),
        ('l.txt', "1.jpg\tIt's, 5\n2.jpg\t出 口"),
        ('l.txt', '1.jpg, "It\'s, 5"\r\n2.jpg, "出 口"\r\n'),
        ('l.txt', "\ufeff1.jpg It's, 5\n2.jpg 出 口"),
    ],
)
def test_lists_of_labels_in_every_form(tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode())
    expected = [Word(tmp_path / 'p' / '1.jpg', "It's, 5"), Word(tmp_path / 'p' / '2.jpg', '出 口')]
    assert list(case_sensitive(tmp_path / name, images=str(tmp_path / 'p'))) == expected
    assert [word.picture.parent for word in case_sensitive(tmp_path / name)] == [tmp_path] * 2


def test_a_set_of_the_case_sensitive_repository_alone(tmp_path):
    mini.case_sensitive(tmp_path, save_plain)
    assert labels(case_sensitive(tmp_path / 'svt_test')) == ['svt! 1', 'svt! 10']


def test_mjsynth_is_not_read_ahead(tmp_path):
    mini.mjsynth(tmp_path, save_plain)
    folder = tmp_path / 'mnt/ramdisk/max/90kDICT32px'
    (folder / 'annotation_train.txt').write_bytes(b'./1/1/1_fine_1.jpg 1\n' * 100_000)
    words = mjsynth(folder)
    assert labels(islice(words, 3)) == ['fine'] * 3
    assert words.gi_frame.f_locals['lines'].buffer.raw.tell() < 100_000


def test_parquet_files_and_columns(tmp_path):
    pa = pytest.importorskip('pyarrow')
    from pyarrow.parquet import write_table

    source = mini.parquet(tmp_path, save_plain)
    shard = source / 'data' / 'train-00000-of-00002.parquet'
    assert list(parquet(shard))[2] == Word(Cell(shard, 2, encode(flag())), '出口')
    assert list(parquet(shard))[1] == Skipped('no text', f'{shard}#1')
    write_table(pa.table({'jpg': [encode(flag())], 'label': ['x']}), tmp_path / 'val.parquet')
    assert labels(parquet(source, split='val', image_column='jpg', text_column='label')) == ['x']
    with pytest.raises(ValueError, match='no column image and no column text but jpg, label'):
        list(parquet(tmp_path / 'val.parquet'))
    with pytest.raises(FileNotFoundError, match='test'):
        list(parquet(source, split='test'))
    (tmp_path / 'val.parquet').write_bytes(b'PAR1 broken PAR1')
    with pytest.raises(ValueError, match=r'val\.parquet cannot be read as parquet'):
        list(parquet(tmp_path / 'val.parquet'))


@pytest.mark.parametrize('is_struct', [True, False])
def test_a_parquet_file_is_read_once_and_by_no_worker(tmp_path, is_struct):
    pa = pytest.importorskip('pyarrow')
    from pyarrow.parquet import write_table

    pictures = [encode(flag((40 + number, 20))) for number in range(5)]
    column = [{'bytes': picture, 'path': 'a.png'} for picture in pictures] if is_struct else pictures
    write_table(pa.table({'text': list('abcde'), 'image': column}), tmp_path / 'a.parquet', row_group_size=2)
    words = pickle.loads(pickle.dumps(list(parquet(tmp_path / 'a.parquet'))))  # the way to a worker
    (tmp_path / 'a.parquet').unlink()
    assert cut_all(words, Rules()) == list(zip(pictures, 'abcde', strict=True))


def test_synthtext_with_another_matlab_file(tmp_path):
    savemat = pytest.importorskip('scipy.io').savemat
    savemat(tmp_path / 'gt.mat', {'imnames': [1, 2]})
    with pytest.raises(ValueError, match='wordBB, txt'):
        list(synthtext(tmp_path))
    for content in (b'', b'MATLAB 5.0 MAT-file' + bytes(200), b'\x89HDF\r\n\x1a\n' + bytes(600)):
        (tmp_path / 'gt.mat').write_bytes(content)
        with pytest.raises(ValueError, match=r'gt\.mat'):
            list(synthtext(tmp_path))


@pytest.mark.parametrize(('name', 'package'), [('synthtext', 'scipy'), ('parquet', 'pyarrow')])
def test_a_missing_package_is_a_sentence_that_names_its_extra(name, package, tmp_path, monkeypatch, capsys):
    for file in ('gt.mat', 'a.parquet'):
        (tmp_path / file).touch()
    for module in [package, *(module for module in sys.modules if module.startswith(f'{package}.'))]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit) as error:
        run('convert', [name, str(tmp_path), str(tmp_path / 'dst')])
    assert error.value.code == 2
    said = capsys.readouterr().err
    assert package in said
    assert 'strhub[data]' in said
