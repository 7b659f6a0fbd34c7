"""The page to try models on: through Gradio's own client, and driven in a browser."""

import asyncio
import html
import itertools
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from operator import eq
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

pytest.importorskip('gradio')
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from strhub import demo
from strhub.data.picture import open_image
from strhub.engine import page
from strhub.engine.exported import Exported
from strhub.engine.read import read_images
from strhub.engine.trial import Decoding, Models, picture, table
from strhub.models.base import BaseSystem
from strhub.models.utils import create_model
from strhub.runtime.description import Description
from strhub.runtime.readings import Character, Reading

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
SIZES = {'embed_dim': 32, 'enc_num_heads': 2, 'enc_depth': 1, 'dec_num_heads': 2, 'max_label_length': 8}


@pytest.fixture(scope='module')
def systems() -> dict[str, BaseSystem]:
    torch.manual_seed(1)
    parseq = create_model('parseq', **SIZES).eval()
    crnn = create_model('crnn', width=0.0625, hidden_size=16).eval()
    with torch.no_grad():
        for parameter in crnn.parameters():
            parameter.mul_(3)  # its blank is not more likely than the rest
        parseq.model.head.bias[0] -= 1  # nor is the end
    return {'a/parseq.ckpt': parseq, 'b/crnn.ckpt': crnn}


@pytest.fixture(scope='module')
def models(systems: dict[str, BaseSystem]) -> Models:
    return Models({name: lambda system=system: system for name, system in systems.items()})


@pytest.fixture(scope='module')
def word(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = Image.new('RGB', (200, 60), 'white')
    ImageDraw.Draw(image).text((20, 10), 'word', fill='black', font_size=36)
    image.save(path := tmp_path_factory.mktemp('words') / 'word.png')
    return path


@pytest.fixture(scope='module')
def address(models: Models, word: Path) -> Iterator[str]:
    blocks = page.make_page(models, [str(word)])
    yield page.launch(blocks, host='127.0.0.1', port=None)
    blocks.close()


def text_of(summary: str) -> str:
    return html.unescape(re.sub(r'<.*?>', '', summary.split('<div class="facts">')[0]))


def test_a_picture_is_read_as_by_read_images(address: str, systems: dict[str, BaseSystem], word: Path) -> None:
    client = Client(address, verbose=False)
    parseq, crnn = systems.values()
    ways = itertools.product((True, False), (0, 2))
    expected, got = [], []
    for is_autoregressive, refinements in ways:
        way = page.IN_TURN if is_autoregressive else page.AT_ONCE
        summary, characters, sight = client.predict(
            handle_file(word), '', 'a/parseq.ckpt', way, refinements, api_name='/read'
        )
        got.append(text_of(summary))
        parseq.model.decode_ar, parseq.model.refine_iters = is_autoregressive, refinements
        expected.append(read_images(parseq, [open_image(word)])[0].text)
        assert characters.count('<tr>') == len(got[-1]) + 1
        assert sight.startswith('<img')
    assert got == expected
    assert len(set(got)) > 1, 'the ways of decoding must tell in this test'

    crop = '0.1 0.2 0.5 0.8'
    summary, *_ = client.predict(handle_file(word), crop, 'b/crnn.ckpt', page.IN_TURN, 0, api_name='/read')
    assert text_of(summary) == read_images(crnn, [open_image(word).crop((20, 12, 100, 48))])[0].text
    with pytest.raises(AppError, match='nothing is left of the picture'):
        client.predict(handle_file(word), '0.5 0 0.5 1', 'b/crnn.ckpt', page.IN_TURN, 0, api_name='/read')
    assert client.predict(None, '', 'b/crnn.ckpt', page.IN_TURN, 0, api_name='/read') == ('', '', '')


def test_uploads_are_deleted_when_they_are_old(
    models: Models, word: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path))
    monkeypatch.setattr(page, 'CLEANING', 0.1)
    monkeypatch.setattr(page, 'KEPT', 0.1)
    blocks = page.make_page(models, [str(word)])
    address = page.launch(blocks, host='127.0.0.1', port=None)
    try:
        answer = httpx.post(f'{address}gradio_api/upload', files={'files': ('mine.png', word.read_bytes())})
        assert answer.json()[0].startswith(str(tmp_path))
        deadline = time.monotonic() + 20
        while any(tmp_path.rglob('mine.png')):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert any(tmp_path.rglob('word.png')), 'the examples stay'
    finally:
        blocks.close()


def test_a_port_that_is_taken_is_one_sentence(address: str, models: Models, word: Path) -> None:
    port = int(address.rstrip('/').rpartition(':')[2])
    with pytest.raises(ValueError, match=f'cannot listen on 127.0.0.1, port {port}: give another'):
        page.launch(page.make_page(models, [str(word)]), host='127.0.0.1', port=port)
    with pytest.raises(ValueError, match='port 99999: give another'):
        page.launch(page.make_page(models, [str(word)]), host='127.0.0.1', port=99999)


def test_a_model_that_cannot_be_loaded_is_one_sentence(models: Models, word: Path) -> None:
    def load() -> BaseSystem:
        raise FileNotFoundError('missing.ckpt does not exist')

    made = page.make_page(Models({'a/parseq.ckpt': lambda: models['a/parseq.ckpt'], 'missing.ckpt': load}), [str(word)])
    (read,) = [one.fn for one in made.fns.values() if one.api_name == 'read']
    with pytest.raises(page.gr.Error, match='does not exist'):
        read(Image.new('RGB', (8, 8)), '', 'missing.ckpt', page.IN_TURN, 0)


def test_ways_of_decoding_are_offered_where_there_are_any(models: Models) -> None:
    assert page.way_of(models, 'a/parseq.ckpt') == (page.IN_TURN, 1, True)
    assert page.way_of(models, 'b/crnn.ckpt')[2] is False


def test_an_exported_file_reads_but_does_not_tell_where_it_looks(systems: dict[str, BaseSystem], word: Path) -> None:
    parseq = systems['a/parseq.ckpt']
    parseq.model.decode_ar, parseq.model.refine_iters = True, 1

    class Frozen:
        """A session of ONNX Runtime, as far as `Exported` uses it."""

        path = 'model.onnx'
        description = Description(
            name='parseq',
            img_size=(32, 128),
            charset=parseq.hparams['charset_train'],
            charset_test=parseq.hparams['charset_test'],
            decoding='attention',
            max_label_length=8,
            hparams=dict(parseq.hparams),
        )

        @torch.inference_mode()
        def logits(self, images: np.ndarray) -> np.ndarray:
            return parseq(torch.from_numpy(images)).numpy()

    models = Models({'model.onnx': lambda: Exported(Frozen())})  # type: ignore[arg-type]
    assert page.way_of(models, 'model.onnx')[2] is False
    trial = models.read('model.onnx', open_image(word))
    assert trial.reading.text == read_images(parseq, [open_image(word)])[0].text
    assert 'does not tell where it looks' in picture(trial.drawing, trial.reading.text)


def test_threads_do_not_change_each_others_decoding(models: Models, word: Path) -> None:
    ways = [Decoding(True, 0), Decoding(False, 0), Decoding(False, 2)]
    image = open_image(word)
    expected = [models.read('a/parseq.ckpt', image, way).reading for way in ways]
    failures: list[object] = []

    def work(number: int) -> None:
        for _ in range(5):
            reading = models.read('a/parseq.ckpt', image, ways[number]).reading
            if reading != expected[number]:
                failures.append(reading)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_what_is_read_cannot_be_markup() -> None:
    text = '<b>&"'
    reading = Reading(text, 0.5, tuple(Character(c, 0.9, ((c, 0.9), ('<', 0.1))) for c in text))
    shown = table(reading) + picture('<svg></svg>', text)
    assert '<b>' not in shown
    assert '&quot;' in shown


def test_the_newest_run_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert demo.newest_run() == 'pretrained=crnn-small-rendered'
    for age, run in enumerate(('outputs/crnn/b', 'outputs/quickstart/run', 'outputs/parseq/a')):
        checkpoint = tmp_path / run / 'checkpoints/last.ckpt'
        checkpoint.parent.mkdir(parents=True)
        checkpoint.touch()
        stamp = 1000 - age
        os.utime(checkpoint, (stamp, stamp))
    assert demo.newest_run() == 'outputs/crnn/b/checkpoints/last.ckpt'


@pytest.mark.parametrize(
    ('words', 'sentence'), [(['--port', 'x'], 'invalid int value'), (['--shared'], 'unrecognized arguments: --shared')]
)
def test_wrong_words(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        demo.main(words)
    assert stop.value.code == 2
    assert sentence in (error := capsys.readouterr().err)
    assert len(error.splitlines()) == 1


def test_a_wheel_renders_its_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, 'EXAMPLES', tmp_path / 'none')
    names = demo.example_pictures()
    assert len(names) == demo.RENDERED
    assert all(open_image(name).width > 8 for name in names)


# In a browser


class Tab:
    """A page of a headless Chromium, driven over its debugging protocol."""

    def __init__(self, socket: Any) -> None:
        self.socket, self.events = socket, []  # type: ignore[var-annotated]
        self._numbers = itertools.count(1)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        await self.socket.send_json({'id': number, 'method': method, 'params': parameters})
        while True:
            message = json.loads((await self.socket.receive()).data)
            if message.get('id') == number:
                return message['result']
            self.events.append(message)

    async def js(self, expression: str) -> Any:
        return (await self.call('Runtime.evaluate', expression=expression, returnByValue=True))['result'].get('value')

    async def until(self, expression: str, test: Callable[[Any], object] = bool) -> Any:
        deadline = time.monotonic() + 30
        while not test(value := await self.js(expression)):
            assert time.monotonic() < deadline, f'{expression} is still {value!r}'
            await asyncio.sleep(0.1)
        return value

    async def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        for kind, (x, y) in (('mousePressed', start), ('mouseMoved', end), ('mouseReleased', end)):
            await self.call('Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left', buttons=1, clickCount=1)

    async def click(self, element: str) -> None:
        await self.until(f'!!({element})')
        frame = await self.js(f'JSON.stringify(({element}).getBoundingClientRect())')
        left, top, width, height = (json.loads(frame)[key] for key in ('left', 'top', 'width', 'height'))
        middle = (left + width / 2, top + height / 2)
        await self.drag(middle, middle)


async def in_browser(address: str, profile: Path, act: Callable[[Tab], Any]) -> None:
    import aiohttp

    command = [str(CHROMIUM), '--headless=new', '--no-sandbox', '--disable-gpu', '--remote-debugging-port=0']
    command += [
        f'--user-data-dir={profile}',
        '--window-size=1200,1000',
        '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
    ]
    with subprocess.Popen([*command, 'about:blank'], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            told = next(line for line in process.stderr if 'DevTools listening on ws://' in line)
            port = re.search(r'ws://[^/]*:(\d+)', told)[1]  # type: ignore[index]
            threading.Thread(target=process.stderr.read, daemon=True).start()
            async with aiohttp.ClientSession() as session:
                async with session.put(f'http://127.0.0.1:{port}/json/new?about:blank') as response:
                    target = (await response.json())['webSocketDebuggerUrl']
                async with session.ws_connect(target, max_msg_size=0) as socket:
                    tab = Tab(socket)
                    for domain in ('Page', 'Runtime', 'Network'):
                        await tab.call(f'{domain}.enable')
                    await tab.call('Page.navigate', url=address)
                    await act(tab)
        finally:
            process.terminate()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason='needs Chromium')
def test_in_a_browser(address: str, systems: dict[str, BaseSystem], word: Path, tmp_path: Path) -> None:
    """Without internet: an example is chosen, cropped, and read again by another model and in another way."""
    pytest.importorskip('aiohttp')
    parseq, crnn = systems.values()
    text = 'document.querySelector("#text .text")?.innerText'
    nothing = 'nothing was read'

    def expected(decode_ar: bool, crop: tuple[int, int, int, int] | None = None) -> str:
        parseq.model.decode_ar, parseq.model.refine_iters = decode_ar, 1
        image = open_image(word)
        return read_images(parseq, [image.crop(crop) if crop else image])[0].text or nothing

    async def act(tab: Tab) -> None:
        await tab.until('!!document.querySelector(".gallery-item img")')
        await tab.js('document.querySelector(".gallery-item").click()')
        whole = expected(True)
        await tab.until(text, partial(eq, whole))
        await tab.until('document.querySelectorAll("#characters tbody tr").length', partial(eq, len(whole)))
        await tab.until('document.querySelector("#sight img")?.naturalWidth')
        assert re.search(r'[\d.]+.% sure · \d+ ms', await tab.js('document.querySelector("#text .facts").innerText'))

        frame = await tab.js('JSON.stringify(document.querySelector("#picture img").getBoundingClientRect())')
        left, top, width, height = (json.loads(frame)[key] for key in ('left', 'top', 'width', 'height'))
        scale = min(width / 200, height / 60)
        left, top = left + (width - 200 * scale) / 2, top + (height - 60 * scale) / 2
        await tab.drag((left + 20 * scale, top + 6 * scale), (left + 80 * scale, top + 54 * scale))
        shares = await tab.until('document.querySelector("#crop textarea, #crop input").value')
        assert [float(share) for share in shares.split()] == pytest.approx([0.1, 0.1, 0.4, 0.9], abs=0.01)
        part = page.cropped(open_image(word), shares)
        parseq.model.decode_ar, parseq.model.refine_iters = True, 1
        await tab.until(text, partial(eq, (read_images(parseq, [part])[0].text or nothing)))
        assert await tab.js('!!document.querySelector(".crop-box")')

        await tab.drag((left + 9, top + 9), (left + 9, top + 9))  # a click: the whole again
        await tab.until(text, partial(eq, whole))
        await tab.js('document.querySelectorAll("#way input")[1].click()')
        await tab.until(text, partial(eq, expected(False)))

        await tab.click('document.querySelector("#model input")')
        await tab.click('[...document.querySelectorAll("[role=option]")].find(o => o.innerText.includes("crnn"))')
        await tab.until(text, partial(eq, read_images(crnn, [open_image(word)])[0].text or nothing))
        await tab.until('!document.querySelector("#way")?.offsetParent')  # this model has one way of decoding

        addresses = {e['params']['request']['url'] for e in tab.events if e['method'] == 'Network.requestWillBeSent'}
        assert {url for url in addresses if not url.startswith((address, 'data:', 'blob:', 'about:'))} == set()
        assert [e for e in tab.events if e['method'] == 'Runtime.exceptionThrown'] == []

    asyncio.run(in_browser(address, tmp_path, act))
