"""The HTTP service: POST /read, GET /health, /metrics, /docs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib.resources import files
from itertools import chain
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from PIL import Image
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from torch import Tensor

from strhub.cores import cores
from strhub.data.picture import UnreadablePictureError, image_size, open_image
from strhub.engine.read import Reading
from strhub.engine.serve.batching import Batcher, FullError, Room
from strhub.engine.serve.metrics import SECONDS, SIZES, Count, Histogram, gauge
from strhub.engine.serve.model import Model
from strhub.engine.serve.uploads import FIELD, Inbox, Limits, RefusedError, Upload

BODIES = 16  # as many bodies of the greatest size are held at a time, or more smaller ones

logger = logging.getLogger(__name__)


class Character(BaseModel):
    char: str
    confidence: float


class Answer(BaseModel):
    """What was read in one picture, or why nothing was."""

    text: str | None = None
    confidence: float | None = Field(None, description="the product over the characters' and that of the end")
    characters: list[Character] | None = None
    error: str | None = Field(None, description='a sentence; then there is nothing else')


class Answers(BaseModel):
    readings: list[Answer] = Field(description='one for each picture, in their order')


class Refusal(BaseModel):
    error: str = Field(description='a sentence: what was given, what is accepted')


PICTURE = {'type': 'string', 'format': 'binary'}
BODY = {
    'requestBody': {
        'required': True,
        'content': {
            'multipart/form-data': {
                'schema': {
                    'type': 'object',
                    'properties': {FIELD: {'type': 'array', 'items': PICTURE}},
                    'required': [FIELD],
                }
            },
            'image/*': {'schema': PICTURE},
            'application/octet-stream': {'schema': PICTURE},
        },
    }
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    408: {'model': Refusal, 'description': 'the body took too long to arrive'},
    413: {'model': Refusal, 'description': 'too many bytes or pictures'},
    415: {'model': Refusal, 'description': 'neither a form nor a picture'},
    422: {'model': Answers | Refusal, 'description': 'a damaged form, parameters, or no picture could be read'},
    500: {'model': Refusal, 'description': 'the model failed; the log tells why'},
    503: {'model': Refusal, 'description': 'the queue is full; Retry-After tells when to try again'},
}


class Service:
    """All that the handlers share. It is made in the thread of the event loop, and used there."""

    def __init__(self, model: Model, limits: Limits, *, max_batch: int, max_wait: float, max_queue: int) -> None:
        self.model, self.limits = model, limits
        self.queue = Room(max_queue)
        self.held = Room(BODIES * limits.max_bytes)
        self.inbox = Inbox(limits, self.held)
        self.requests = Count('strhub_requests_total', 'Requests to /read by status.', 'status', ['200'])
        self.pictures = Count(
            'strhub_pictures_total', 'Pictures by outcome.', 'outcome', ['read', 'unreadable', 'failed']
        )
        self.latency = Histogram('strhub_request_seconds', 'From the headers of a request to its answer.', SECONDS)
        self.sizes = Histogram('strhub_batch_size', 'Pictures in a batch.', SIZES)
        self.computing = Histogram('strhub_batch_seconds', 'The network and the decoding of a batch.', SECONDS)
        self.batcher: Batcher[Tensor, Reading] = Batcher(
            model.read, max_batch=max_batch, max_wait=max_wait, observe=self._observe
        )
        self.decoders = ThreadPoolExecutor(cores(), 'decoder')  # so many pictures are whole in memory at a time

    def close(self) -> None:
        self.batcher.close()
        self.decoders.shutdown()

    def _observe(self, size: int, seconds: float) -> None:
        self.sizes.add(size)
        self.computing.add(seconds)

    async def answer(self, request: Request) -> Response:
        """Whatever happens to a request, there is an answer and it is counted."""
        started = time.perf_counter()
        try:
            response = await self._read(request)
        except RefusedError as refused:
            # what is left of a refused body is not taken in
            headers = {'Connection': 'close'} | (
                {'Retry-After': str(refused.retry_after)} if refused.retry_after else {}
            )
            response = JSONResponse({'error': refused.sentence}, refused.status, headers)
        except Exception:
            logger.exception('a request failed')
            response = JSONResponse({'error': 'the service failed here; its log tells why'}, 500)
        self.requests.add(str(response.status_code))
        self.latency.add(time.perf_counter() - started)
        return response

    async def _read(self, request: Request) -> Response:
        async with self.inbox.receive(request) as uploads:
            try:
                with self.queue.taking(len(uploads)):
                    answers = await asyncio.gather(*map(self._read_one, uploads))
            except FullError:
                raise RefusedError(
                    503, f'the queue is full ({self.queue.limit} pictures): try again', retry_after=1
                ) from None
        if any('text' in answer for answer in answers):
            status = 200
        else:
            status = 500 if any(answer['error'] == FAILED for answer in answers) else 422
        return JSONResponse({'readings': answers}, status)

    async def _read_one(self, upload: Upload) -> dict[str, Any]:
        """Its JSON: a reading, or the reason why there is none."""
        try:
            loop = asyncio.get_running_loop()
            image = await loop.run_in_executor(self.decoders, self._prepare, upload)
            reading = await asyncio.wrap_future(self.batcher.submit(image))
        except UnreadablePictureError as error:
            self.pictures.add('unreadable')
            return {'error': str(error)}
        except Exception:  # has been logged
            self.pictures.add('failed')
            return {'error': FAILED}
        self.pictures.add('read')
        return reading.as_record()

    def _prepare(self, upload: Upload) -> Tensor:
        size = image_size(upload.data)
        if size and size[0] * size[1] > self.limits.max_pixels:
            raise UnreadablePictureError(
                f'{upload.name} has {size[0]} x {size[1]} pixels, more than {self.limits.max_pixels}: make it smaller'
            )
        image: Image.Image = open_image(upload.data, name=upload.name)
        try:
            return self.model.prepare(image)
        except Exception:
            logger.exception('a picture could not be prepared')
            raise

    def health(self) -> dict[str, Any]:
        return {
            'ready': self.batcher.is_alive,
            'model': self.model.name,
            'checkpoint': self.model.source,
            'queue': self.queue.taken,
            'limits': {
                **asdict(self.limits),
                'max_queue': self.queue.limit,
                'max_batch': self.batcher.max_batch,
                'max_wait_ms': 1000 * self.batcher.max_wait,
            },
        }

    def metrics(self) -> Iterator[str]:
        return chain(
            self.requests.lines(),
            self.latency.lines(),
            self.pictures.lines(),
            self.sizes.lines(),
            self.computing.lines(),
            gauge('strhub_queue', 'Pictures accepted and not yet answered.', self.queue.taken),
            gauge('strhub_queue_limit', 'Pictures that are accepted at most.', self.queue.limit),
            gauge('strhub_held_bytes', 'Of bodies in memory.', self.held.taken),
            gauge('strhub_ready', '1 if pictures are being read.', int(self.batcher.is_alive)),
            gauge('strhub_model', 'What is served.', 1, name=self.model.name, checkpoint=self.model.source),
        )


FAILED = 'the model failed on this picture; the log of the service tells why'


def make_app(
    model: Model,
    limits: Limits | None = None,
    *,
    max_batch: int = 32,
    max_wait: float = 0.005,
    max_queue: int = 256,
) -> FastAPI:
    """The service as an ASGI application.

    Args:
        model: on its device.
        limits: of a request.
        max_batch: pictures that are read together.
        max_wait: seconds that the first of them waits for others.
        max_queue: pictures that are accepted and not yet answered, of all requests.
    """
    state: dict[str, Service] = {}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state['service'] = Service(
            model, limits or Limits(), max_batch=max_batch, max_wait=max_wait, max_queue=max_queue
        )
        yield
        state['service'].close()

    app = FastAPI(
        title='strhub',
        summary='Scene text recognition: cropped pictures of words go in, their texts come out.',
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own page loads its script from the internet
        redoc_url=None,
    )

    @app.post('/read', response_model=Answers, responses=REFUSALS, openapi_extra=BODY)
    async def read(request: Request) -> Response:
        """Reads one picture, or many sent as a form, each of which gets a reading or an error of its own."""
        return await state['service'].answer(request)

    @app.get('/health')
    async def health() -> JSONResponse:
        """Whether pictures are being read, by which model, and within which limits."""
        content = state['service'].health()
        return JSONResponse(content, 200 if content['ready'] else 503)

    @app.get('/metrics', response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Numbers for Prometheus."""
        return Response('\n'.join(state['service'].metrics()) + '\n', media_type='text/plain; version=0.0.4')

    @app.get('/docs', include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(files('strhub.engine.serve').joinpath('docs.html').read_text(encoding='utf-8'))

    @app.get('/', include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse('/docs')

    @app.exception_handler(HTTPException)
    async def refuse(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({'error': f'{error.detail}; /docs tells what there is'}, error.status_code, error.headers)

    return app
