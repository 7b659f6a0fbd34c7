"""Where characters were seen: that it is the attention which read, the boxes, and the pages of ./read.py --explain."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from samples import draw_word
from torch import Tensor

from strhub.decoding import runs_of
from strhub.engine.attention import bounds, box_of, look, reaches
from strhub.engine.read import main, read_batch
from strhub.engine.report.markup import escaped
from strhub.models.modules import column_cells
from strhub.models.trba.transformation import edge_points
from strhub.models.utils import create_model
from strhub.runtime.readings import Reading

SMALL: dict[str, dict[str, Any]] = {
    'vitstr': {'embed_dim': 48, 'num_heads': 3},
    'abinet': {'d_model': 32, 'nhead': 2, 'd_inner': 64, 'v_num_layers': 1, 'l_num_layers': 1},
    'trba': {'output_channel': 32, 'hidden_size': 16, 'num_fiducial': 8},
    'trbc': {'output_channel': 32, 'hidden_size': 16, 'num_fiducial': 8},
}


def images(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 32, 128) * 2 - 1


@pytest.fixture
def attended(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The weights (N, L, S), the mean over the heads, of all attention that is computed from now on."""
    seen: list[Tensor] = []
    fused = F.scaled_dot_product_attention

    def spy(queries: Tensor, keys: Tensor, values: Tensor, **how: Any) -> Tensor:
        weights = (queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5).softmax(-1)
        seen.append(weights.mean(1))
        return fused(queries, keys, values, **how)

    monkeypatch.setattr(F, 'scaled_dot_product_attention', spy)
    return seen


# The attention is that of the pass which reads


@pytest.mark.parametrize(
    ('decode_ar', 'refine_iters', 'dec_depth'), [(True, 0, 1), (True, 0, 2), (False, 0, 2), (False, 1, 1)]
)
def test_parseq_looks_where_it_looked(decode_ar: bool, refine_iters: int, dec_depth: int, attended: Any) -> None:
    sizes = {'embed_dim': 32, 'enc_num_heads': 2, 'enc_depth': 1, 'dec_num_heads': 4, 'max_label_length': 5}
    network = create_model('parseq', dec_depth=dec_depth, refine_iters=0, decode='in_turn', **sizes).eval().model
    network.decode_ar = decode_ar
    pictures = images()
    with torch.inference_mode():
        ids = network(pictures, 5).argmax(-1)  # what refinement sees of the word
        network.refine_iters = refine_iters
        attended.clear()
        network(pictures, 5)
        to_picture = [weights for weights in attended if weights.shape[-1] == 128][1:]  # the first is the encoder's
        # Queries and known characters look in all layers but the last, which only answers.
        of_last_layer = torch.cat(to_picture[2 * dec_depth - 2 :: 2 * dec_depth - 1], 1)[:, -6:]
        found = network.attention(pictures, ids)
    assert found.shape == (3, 6, 8, 16)
    torch.testing.assert_close(found.flatten(2), of_last_layer)


def test_vitstr_shows_its_last_block(attended: list[Tensor]) -> None:
    network = create_model('vitstr', **SMALL['vitstr']).eval().model
    pictures = images()
    with torch.inference_mode():
        ids = network(pictures, 5).argmax(-1)
        last = attended[-1][..., 1:]  # without the class token
        found = network.attention(pictures, ids).flatten(2)
    torch.testing.assert_close(found, last / last.sum(-1, keepdim=True), rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize('kind', ['position', 'attention'])
def test_abinet_makes_its_characters_of_what_it_looks_at(kind: str) -> None:
    network = create_model('abinet', v_attention=kind, **SMALL['abinet']).eval().model
    pictures = images(2)
    with torch.inference_mode():
        features = network.vision.backbone(pictures)
        found = network.attention(pictures, torch.zeros(2, 4, dtype=torch.long))
        assert found.shape == (2, 4, 8, 32)
        torch.testing.assert_close(
            found.flatten(2) @ features.flatten(2).transpose(1, 2), network.vision(pictures).features[:, :4]
        )


def test_trba_looks_where_it_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    network = create_model('trba', **SMALL['trba']).eval().model
    pictures, seen = images(), []
    weigh = network.Prediction.attention_cell.weights
    monkeypatch.setattr(
        network.Prediction.attention_cell, 'weights', lambda *args: seen.append(weigh(*args)) or seen[-1]
    )
    with torch.inference_mode():
        logits = network(pictures, 4)
        read = torch.stack(seen, 1)
        ids = logits[..., : network.Prediction.bos_id].argmax(-1)
        inputs = F.pad(ids, (1, 0), value=network.Prediction.bos_id)[:, :-1]
        torch.testing.assert_close(network.Prediction.weights(network.encode(pictures), inputs), read)
        assert network.attention(pictures, ids).shape == (3, 5, 32, 128)


def test_what_was_straightened_is_found_where_it_was() -> None:
    """Of a rectification that reads the left half of the picture, upside down."""
    network = create_model('trba', **SMALL['trba']).eval().model
    points = edge_points(8) * torch.tensor([0.5, -1]) - torch.tensor([0.5, 0])
    localization = network.Transformation.LocalizationNetwork
    with torch.inference_mode():
        localization.localization_fc2.weight.zero_()
        localization.localization_fc2.bias.copy_(points.flatten())
        columns = torch.zeros(1, 1, 33)
        columns[..., 16] = 1
        found = network.unrectify(images(1), columns)[0, 0]
    assert float(found.sum()) == pytest.approx(1)
    assert bounds(found.numpy() > 0)[::2] == pytest.approx((0.25, 0.25), abs=0.025)
    assert (found.sum(1) > 0).sum() >= 31  # of 32 rows


# Boxes


def test_the_box_is_around_the_peak_and_what_is_connected_with_it() -> None:
    weights = np.zeros((4, 10))
    weights[1:3, 2:5] = [[0.6, 1.0, 0.4], [0.5, 0.1, 0.1]]
    weights[3, 8] = 0.9  # strong, but elsewhere
    assert box_of(weights) == (0.2, 0.25, 0.4, 0.75)


def test_runs_and_their_reach() -> None:
    ids = [0, 3, 3, 0, 3, 5, 0, 0, 0]
    runs = runs_of(ids)
    assert runs == [(1, 2), (4, 4), (5, 5)]
    assert [row.nonzero()[:, 0].tolist() for row in reaches(runs, 9)] == [[1, 2], [3, 4], [5]]
    (alone,) = reaches([(4, 4)], 9)
    assert alone.tolist() == [1] * 9


def test_columns_become_even_cells_of_the_same_sum() -> None:
    columns = torch.rand(2, 3, 33)
    cells = column_cells(columns)
    assert cells.shape == (2, 3, 64)
    torch.testing.assert_close(cells.sum(-1), columns.sum(-1))
    assert cells[0, 0, :3].tolist() == pytest.approx([float(columns[0, 0, 0]), *[float(columns[0, 0, 1]) / 2] * 2])


@pytest.mark.parametrize('name', ['tiny_crnn', 'tiny_parseq', 'trba', 'trbc', 'abinet', 'vitstr'])
def test_every_character_has_a_map_and_a_box(name: str, request: pytest.FixtureRequest) -> None:
    system = request.getfixturevalue(name) if name.startswith('tiny') else create_model(name, **SMALL[name]).eval()
    pictures = images()
    sights = look(system, pictures)
    for sight, reading in zip(sights, read_batch(system, pictures), strict=True):
        assert sight.reading == reading
        assert len(sight.maps) == len(sight.boxes) == len(reading.text)
        assert sight.maps.sum((1, 2)) == pytest.approx(1, abs=1e-4)
        for left, top, right, bottom in sight.boxes:
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
        assert len(sight.runs) == (len(reading.text) if sight.frames else 0)
        for character, (first, last) in zip(reading.text, sight.runs, strict=False):
            assert {frame.char for frame in sight.frames[first : last + 1]} == {character}
    assert any(len(sight.reading.text) > 1 for sight in sights) or name in ('abinet', 'trbc')


# The door


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, list[str], list[str]]:
    try:
        main([*map(str, argv), '--device', 'cpu'])
        status = 0
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    out, err = capsys.readouterr()
    return status, out.splitlines(), err.splitlines()


def test_the_pages_of_pictures(crnn_checkpoint: Path, words: Path, tmp_path: Path, capsys: Any) -> None:
    hostile = words / '<img src=x onerror=alert(1)>&"\'.png'
    draw_word('x', (40, 90)).save(hostile)
    Image.new('L', (1, 1)).save(words / '3 dot.png')
    Image.new('RGB', (3000, 2)).save(words / '4 line.png')
    (words / '5 broken.png').write_text('no picture')
    folder = tmp_path / 'new' / 'explained'
    status, plain, _ = run(capsys, crnn_checkpoint, '--images', words)
    assert run(capsys, crnn_checkpoint, '--images', words, '--explain', folder)[:2] == (status, plain) == (1, plain)
    records = json.loads((folder / 'boxes.json').read_text('utf-8'))
    assert len(records) == 8
    assert [record['path'] for record in records if 'error' in record] == [str(words / '5 broken.png')]
    for record in records:
        if 'error' in record:
            continue
        drawing = (folder / record['file']).read_text('utf-8')
        ElementTree.fromstring(drawing)
        assert drawing.count('data:image/png') == len(record['text'])  # a heat map each
        assert record['num_frames'] == 33
        for character in record['characters']:
            left, top, right, bottom = character['box']
            assert 0 <= left < right <= record['width']
            assert 0 <= top < bottom <= record['height']
            assert 0 <= character['frames'][0] <= character['frames'][1] < 33
    page = (folder / 'index.html').read_text('utf-8')
    assert page.count('<figure>') == 8
    assert '<h1>7 pictures read by crnn, 1 could not be read</h1>' in page
    assert '<img src=x' not in page
    assert 'onerror=alert(1)&gt;&amp;' in page


def test_boxes_are_of_the_turned_picture(parseq_checkpoint: Path, words: Path, tmp_path: Path, capsys: Any) -> None:
    status, _, _ = run(
        capsys, parseq_checkpoint, '--images', words / '1.png', '--rotation', 90, '--explain', tmp_path / 'out'
    )
    (record,) = json.loads((tmp_path / 'out/boxes.json').read_text('utf-8'))
    assert (status, record['width'], record['height']) == (0, 32, 96)
    assert record['characters']


def test_what_no_page_can_hold_is_replaced() -> None:
    assert escaped('a<b>&"\x00\x1b\u202e\ud800אبع') == 'a&lt;b&gt;&amp;&quot;' + '\ufffd' * 4 + 'אبع'


def test_a_folder_that_cannot_be_written_is_one_sentence(
    crnn_checkpoint: Path, words: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = [words / 'notes.txt', words / 'notes.txt' / 'in']
    if sys.platform == 'linux':
        wrong.append(Path('/proc/strhub'))
    for folder in wrong:
        status, out, err = run(capsys, crnn_checkpoint, '--images', words, '--explain', folder)
        assert (status, out, len(err)) == (2, [], 1)
        assert err[0].startswith(f'error: --explain {folder} ')


def test_without_a_model_no_folder_is_made(words: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / 'explained'
    assert run(capsys, words / 'notes.txt', '--images', words, '--explain', folder)[0] == 2
    assert not folder.exists()


def test_a_network_that_does_not_tell_is_refused() -> None:
    exported: Any = SimpleNamespace(hparams={'name': 'parseq'}, tokenizer=None, model=None)
    with pytest.raises(ValueError, match='parseq as it was loaded does not tell where it looks'):
        look(exported, images(1))


def test_nothing_that_was_read_is_drawn_too(tiny_parseq: Any) -> None:
    from strhub.engine.attention import Sight
    from strhub.engine.report.word import draw

    drawing = draw(Sight(Reading('', 0.5, ()), np.zeros((0, 8, 16)), ()), draw_word('x'))
    ElementTree.fromstring(drawing)
    assert 'nothing was read' in drawing
