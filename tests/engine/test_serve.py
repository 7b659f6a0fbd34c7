"""The service: what it answers, what it refuses, and that nothing that is sent to it brings it down."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from samples import draw_word
from torch import Tensor

from strhub.engine.read import Reading, read_images
from strhub.models.base import BaseSystem

pytest.importorskip('fastapi')
import uvicorn

from strhub.engine.serve import cli
from strhub.engine.serve import uploads as uploads_module
from strhub.engine.serve.app import BODIES, make_app
from strhub.engine.serve.batching import Batcher
from strhub.engine.serve.metrics import Count, Histogram, gauge
from strhub.engine.serve.model import Model
from strhub.engine.serve.uploads import Limits

WORDS = [draw_word(f'word {i}') for i in range(5)]
SMALL = Limits(max_bytes=100_000, max_images=6, max_pixels=100_000)
ONE = Reading('one', 1.0, ())


def encoded(image: Image.Image, kind: str = 'PNG') -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def form(*bodies: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [('images', (f'{i}.png', body)) for i, body in enumerate(bodies)]


@contextmanager
def serving(model: Any, limits: Limits = SMALL, **options: Any) -> Iterator[httpx.Client]:
    """A client of a real server in this process."""
    with socket.create_server(('127.0.0.1', 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(make_app(model, limits, **options), log_level='error'))
        thread = threading.Thread(target=server.run, kwargs={'sockets': [listener]})
        thread.start()
        address = f'http://127.0.0.1:{listener.getsockname()[1]}'
        try:
            with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


class Gate:
    """A model that reads only when it is let, and remembers the sizes of its batches."""

    name, source = 'gate', 'nowhere'

    def __init__(self) -> None:
        self.open, self.entered = threading.Event(), threading.Event()
        self.sizes: list[int] = []

    def prepare(self, image: Image.Image) -> Image.Image:
        return image

    def read(self, images: Sequence[Image.Image]) -> list[Reading]:
        self.sizes.append(len(images))
        self.entered.set()
        assert self.open.wait(30)
        return [ONE] * len(images)


@pytest.fixture(scope='module')
def client(tiny_crnn: BaseSystem) -> Iterator[httpx.Client]:
    with serving(Model(tiny_crnn, 'tiny.ckpt')) as client:
        yield client


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# What is answered


def test_pictures_are_answered_in_their_order(client: httpx.Client, tiny_crnn: BaseSystem) -> None:
    answers = client.post('/read', files=form(*map(encoded, WORDS))).json()['readings']
    expected = [reading.as_record() for reading in read_images(tiny_crnn, WORDS)]
    assert [answer['text'] for answer in answers] == [record['text'] for record in expected]
    assert len({answer['text'] for answer in answers}) > 1
    for answer, record in zip(answers, expected, strict=True):
        assert answer['confidence'] == pytest.approx(record['confidence'], rel=1e-4)
        assert [c['char'] for c in answer['characters']] == list(record['text'])


@pytest.mark.parametrize('kind', ['image/jpeg', 'application/octet-stream', None])
def test_a_body_may_be_one_picture(client: httpx.Client, tiny_crnn: BaseSystem, kind: str | None) -> None:
    response = client.post('/read', content=encoded(WORDS[0]), headers={'Content-Type': kind} if kind else {})
    (answer,) = response.json()['readings']
    assert answer['text'] == read_images(tiny_crnn, WORDS[:1])[0].text


def test_what_cannot_be_read_does_not_stop_the_others(client: httpx.Client) -> None:
    large = Image.new('RGB', (1000, 101))
    response = client.post('/read', files=form(encoded(WORDS[0]), b'no picture', encoded(large), b''))
    first, *others = response.json()['readings']
    assert response.status_code == 200
    assert 'error' not in first
    assert [answer['error'] for answer in others] == [
        '1.png is not a picture of a known format',
        '2.png has 1000 x 101 pixels, more than 100000: make it smaller',
        '3.png is empty',
    ]


def test_health_docs_and_description(client: httpx.Client) -> None:
    health = client.get('/health').json()
    assert (health['ready'], health['model'], health['queue']) == (True, 'crnn', 0)
    assert health['limits']['max_images'] == 6
    description = client.get('/openapi.json').json()
    assert set(description['paths']) == {'/read', '/health', '/metrics'}
    assert 'multipart/form-data' in description['paths']['/read']['post']['requestBody']['content']
    page = client.get('/', follow_redirects=True)
    assert page.url.path == '/docs'
    assert '//' not in page.text.replace('<!doctype', ''), 'the page must load nothing from elsewhere'


def test_metrics_count_what_happened(tiny_crnn: BaseSystem) -> None:
    with serving(Model(tiny_crnn, 'a "b".ckpt')) as client:
        client.post('/read', files=form(encoded(WORDS[0]), encoded(WORDS[1]), b'no picture'))
        client.post('/read', json={})
        lines = client.get('/metrics').text.splitlines()
    values = dict(line.rsplit(' ', 1) for line in lines if not line.startswith('#'))
    assert values['strhub_requests_total{status="200"}'] == values['strhub_requests_total{status="415"}'] == '1'
    assert values['strhub_pictures_total{outcome="read"}'] == '2'
    assert values['strhub_pictures_total{outcome="unreadable"}'] == '1'
    assert float(values['strhub_batch_size_sum']) == 2
    assert values['strhub_queue'] == values['strhub_held_bytes'] == '0'
    assert values['strhub_model{name="crnn",checkpoint="a \\"b\\".ckpt"}'] == '1'


def test_the_format_of_metrics() -> None:
    histogram = Histogram('h', 'What.', (1, 2))
    for value in (0.5, 1, 1.5, 9):
        histogram.add(value)
    assert list(histogram.lines())[2:] == [
        'h_bucket{le="1"} 2',
        'h_bucket{le="2"} 3',
        'h_bucket{le="+Inf"} 4',
        'h_sum 12.000000',
        'h_count 4',
    ]
    count = Count('c', 'What.', 'kind', ['none'])
    count.add('some', 2)
    assert list(count.lines()) == ['# HELP c What.', '# TYPE c counter', 'c{kind="none"} 0', 'c{kind="some"} 2']
    assert list(gauge('g', 'What.', 3)) == ['# HELP g What.', '# TYPE g gauge', 'g 3']


# What is refused


def endless(total: int) -> Iterator[bytes]:
    """A body without a Content-Length, as httpx sends an iterator."""
    for _ in range(total // 10_000):
        yield bytes(10_000)


@pytest.mark.parametrize(
    ('request_', 'status', 'reason'),
    [
        ({'content': bytes(100_001)}, 413, 'more than 100000 bytes'),
        ({'content': endless(200_000)}, 413, 'more than 100000 bytes'),
        ({'content': endless(900_000)}, 413, 'more than 100000 bytes'),
        ({'files': form(bytes(60_000), bytes(60_000))}, 413, 'more than 100000 bytes'),
        ({'files': form(*[b'x'] * 7)}, 413, 'more than 6 pictures'),
        ({'json': {'images': []}}, 415, 'application/json is not accepted'),
        ({'data': {'images': 'x'}}, 415, 'application/x-www-form-urlencoded is not accepted'),
        ({'files': [('photo', b'x')]}, 422, "a field 'photo'"),
        ({'content': encoded(WORDS[0]), 'params': {'topk': '3'}}, 422, "a parameter 'topk', and takes none"),
        ({'content': encoded(WORDS[0]), 'params': {'': '3'}}, 422, "a parameter '', and takes none"),
        ({'content': b''}, 422, 'the body is empty'),
        ({'content': b'--x--\r\n', 'headers': {'Content-Type': 'multipart/form-data; boundary=x'}}, 422, 'no picture'),
        ({'content': b'--x\r\n', 'headers': {'Content-Type': 'multipart/form-data; boundary=x'}}, 422, 'its end'),
        ({'content': b'hello', 'headers': {'Content-Type': 'multipart/form-data; boundary=x'}}, 422, 'damaged'),
        ({'content': b'x', 'headers': {'Content-Type': 'multipart/form-data'}}, 422, 'no boundary'),
        ({'content': b'x', 'headers': {'Content-Type': f'multipart/form-data; boundary={"x" * 300}'}}, 422, 'too long'),
    ],
)
def test_refusals(client: httpx.Client, request_: dict[str, Any], status: int, reason: str) -> None:
    try:
        response = client.post('/read', **request_)
    except (httpx.WriteError, httpx.ReadError):  # it went on sending far beyond what the service takes in
        assert isinstance(request_['content'], Iterator)
    else:
        assert response.status_code == status
        assert reason in response.json()['error']
    assert client.post('/read', content=encoded(WORDS[0])).status_code == 200


def test_one_unreadable_picture_is_422(client: httpx.Client) -> None:
    response = client.post('/read', content=b'no picture')
    assert response.status_code == 422
    assert response.json() == {'readings': [{'error': 'the picture is not a picture of a known format'}]}


@pytest.mark.parametrize(('path', 'status'), [('/reed', 404), ('/health', 405)])
def test_other_doors(client: httpx.Client, path: str, status: int) -> None:
    response = client.post(path)
    assert response.status_code == status
    assert '/docs' in response.json()['error']


def test_a_full_queue_says_when_to_try_again() -> None:
    gate = Gate()
    body = encoded(WORDS[0])
    with serving(gate, max_queue=6, max_wait=0) as client, ThreadPoolExecutor() as pool:
        first = pool.submit(client.post, '/read', files=form(*[body] * 4))
        assert gate.entered.wait(30)
        refused = client.post('/read', files=form(*[body] * 3))
        gate.open.set()
        assert first.result().status_code == 200
        assert client.post('/read', files=form(*[body] * 3)).status_code == 200
    assert (refused.status_code, refused.headers['Retry-After']) == (503, '1')
    assert refused.json() == {'error': 'the queue is full (6 pictures): try again'}


def test_a_body_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads_module, 'PATIENCE', 0.1)
    with serving(Gate()) as client:
        answer = raw(client, b'POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc', wait=True)
        assert answer.startswith(b'HTTP/1.1 408 ')


def test_bodies_in_memory_have_a_limit_together(client: httpx.Client) -> None:
    address = client.base_url.host, client.base_url.port
    head = b'POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n'
    with ExitStack() as stack:
        for _ in range(BODIES):
            connection = stack.enter_context(socket.create_connection(address, timeout=20))
            connection.sendall(head + bytes(99_999))
        until(lambda: f'strhub_held_bytes {BODIES * 99_999}' in client.get('/metrics').text)
        refused = client.post('/read', content=bytes(1000))
        assert (refused.status_code, refused.headers['Retry-After']) == (503, '1')
        assert 'too many requests' in refused.json()['error']
    until(lambda: 'strhub_held_bytes 0' in client.get('/metrics').text)
    assert client.post('/read', content=encoded(WORDS[0])).status_code == 200


def test_a_large_body_is_taken_where_it_is_allowed() -> None:
    gate = Gate()
    gate.open.set()
    with serving(gate, Limits(max_bytes=50_000_000)) as client:
        assert client.post('/read', content=encoded(WORDS[0]) + bytes(40_000_000)).status_code == 200


# What would bring it down


def raw(client: httpx.Client, sent: bytes, *, wait: bool = False) -> bytes:
    """Sends bytes as they are, and then closes its side unless told to wait."""
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=20) as connection:
        connection.sendall(sent)
        if not wait:
            connection.shutdown(socket.SHUT_WR)
        with connection.makefile('rb') as stream:
            return stream.read()


@pytest.mark.parametrize(
    'sent',
    [
        b'POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\nabc',  # and then it goes away
        b'POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n' + bytes(1000),
        b'POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\nabc',
        b'POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\nabc',
        b'POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\nabc',
        b'POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnot hex',
        b'POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
        b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
        b'',
    ],
)
def test_lies_about_the_length(client: httpx.Client, sent: bytes) -> None:
    answer = raw(client, sent)
    assert b' 200 ' not in answer.partition(b'\r\n')[0]
    assert client.post('/read', content=encoded(WORDS[0])).status_code == 200


PIECES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b'--x',
            b'\r\n',
            b'\r\n--x\r\n',
            b'--x--',
            b'Content-Disposition: form-data; name="images"; filename="a\xff.png"\r\n\r\n',
            b'Content-Disposition: form-data; name=images',
            b'Content-Type: image/png\r\n',
            encoded(WORDS[0]),
            encoded(WORDS[0], 'JPEG')[:300],
            encoded(WORDS[0], 'GIF')[:100],
        ]
    ),
)


@settings(max_examples=80)
@given(
    body=st.lists(PIECES, max_size=8).map(b''.join),
    kind=st.sampled_from(['multipart/form-data; boundary=x', 'image/png', 'multipart/form-data; boundary="', '; ;=']),
    is_chunked=st.booleans(),
)
def test_no_body_brings_it_down(client: httpx.Client, body: bytes, kind: str, is_chunked: bool) -> None:
    response = client.post('/read', content=iter([body]) if is_chunked else body, headers={'Content-Type': kind})
    assert response.status_code in (200, 413, 415, 422)
    answer = response.json()
    assert answer.get('error') or all('text' in one or one['error'] for one in answer['readings'])
    health = client.get('/health').json()
    assert (health['ready'], health['queue']) == (True, 0)


def test_a_model_that_fails_on_a_picture_reads_the_next(tiny_crnn: BaseSystem) -> None:
    class Moody(Model):
        def read(self, images: Sequence[Tensor]) -> list[Reading]:
            if any(float(image.mean()) < -0.9 for image in images):
                raise RuntimeError('black')
            return super().read(images)

    black = encoded(Image.new('RGB', (96, 32)))
    with serving(Moody(tiny_crnn, 'moody.ckpt')) as client:
        response = client.post('/read', files=form(encoded(WORDS[0]), black, encoded(WORDS[1])))
        assert ['text' in answer for answer in response.json()['readings']] == [True, False, True]
        alone = client.post('/read', content=black)
        assert alone.status_code == 500
        assert 'the model failed' in alone.json()['readings'][0]['error']


# Batches


def test_requests_are_read_together() -> None:
    gate = Gate()
    body = encoded(WORDS[0])
    with serving(gate, max_batch=8, max_wait=0) as client, ThreadPoolExecutor(13) as pool:
        pending = [pool.submit(client.post, '/read', content=body)]
        assert gate.entered.wait(30)
        pending += [pool.submit(client.post, '/read', content=body) for _ in range(11)]
        until(lambda: client.get('/health').json()['queue'] == 12)
        time.sleep(1)  # from the queue through the decoders to the batcher
        gate.open.set()
        assert [one.result().status_code for one in pending] == [200] * 12
    assert gate.sizes == [1, 8, 3]


def test_a_batch_waits_for_others_as_long_as_it_was_told() -> None:
    sizes: list[int] = []
    batcher = Batcher[int, int](list, max_batch=3, max_wait=2, observe=lambda size, seconds: sizes.append(size))
    started = time.monotonic()
    answers = [batcher.submit(i) for i in range(3)]  # a full batch does not wait
    assert [answer.result(10) for answer in answers] == [0, 1, 2]
    assert time.monotonic() - started < 2
    started = time.monotonic()
    assert batcher.submit(3).result(10) == 3
    assert time.monotonic() - started >= 2
    batcher.close()
    assert sizes == [3, 1]


def test_closing_answers_what_was_accepted() -> None:
    gate = threading.Event()

    def read(items: Sequence[int]) -> Sequence[int]:
        assert gate.wait(10)
        return items

    batcher = Batcher(read, max_batch=2, max_wait=10)
    answers: list[Future[int]] = [batcher.submit(i) for i in range(5)]
    answers[3].cancel()
    closing = threading.Thread(target=batcher.close)
    closing.start()
    gate.set()
    closing.join(10)
    assert not closing.is_alive()
    assert [answer.result(0) for answer in answers if not answer.cancelled()] == [0, 1, 2, 4]
    with pytest.raises(RuntimeError, match='closed'):
        batcher.submit(5)


# The door


def test_a_service_that_is_told_to_end_answers_first(crnn_checkpoint: Path, tmp_path: Path) -> None:
    command = [sys.executable, '-m', 'strhub', 'serve', str(crnn_checkpoint), '--port', '0', '--device', 'cpu']
    body = encoded(WORDS[0])
    head = f'POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n'.encode()
    with (
        (tmp_path / 'log').open('w') as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=Path(__file__).parents[2]
        ) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith('crnn on cpu reads at http://127.0.0.1:')
        port = int(line.split('127.0.0.1:')[1].split('/')[0])
        damaged = {'content': b'hello', 'headers': {'Content-Type': 'multipart/form-data; boundary=x'}}
        assert httpx.post(f'http://127.0.0.1:{port}/read', **damaged).status_code == 422
        with socket.create_connection(('127.0.0.1', port), timeout=30) as connection:
            connection.sendall(head + body[:100])
            until(lambda: b'strhub_held_bytes 100' in httpx.get(f'http://127.0.0.1:{port}/metrics').content)
            os.kill(process.pid, signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            connection.sendall(body[100:])
            with connection.makefile('rb') as stream:
                status, _, answer = stream.read().partition(b'\r\n')
        assert status == b'HTTP/1.1 200 OK'
        assert json.loads(answer.rpartition(b'\r\n\r\n')[2])['readings'][0]['characters']
        assert process.wait(30) == 0
    assert 'boundary' not in (tmp_path / 'log').read_text(), 'the client was told of it'


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (['--port', '99999'], 'cannot listen on 127.0.0.1, port 99999'),
        (['--max_queue', '10'], '--max_images is 64, more than --max_queue, 10'),
        (['--max_wait_ms', '-1'], '--max_wait_ms is -1: give 0 or more'),
        (['--max_bytes', '0'], '0 is not a whole number above 0'),
    ],
)
def test_wrong_words(
    crnn_checkpoint: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as stop:
            cli.main([str(crnn_checkpoint), *words])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
