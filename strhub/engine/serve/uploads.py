"""The body of a request -> the encoded pictures in it, never more of it in memory than the limits allow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from strhub.data.summary import counted
from strhub.engine.serve.batching import FullError, Room

FIELD = 'images'
PATIENCE = 30.0  # seconds that a body may take to arrive
LINGER = 5.0  # seconds, and bytes as a multiple of max_bytes, for which a refused body is still taken in and dropped:
DRAINED = 4  # most clients look for the answer only when they have sent all


@dataclass(frozen=True)
class Limits:
    """What a request may ask for at most: bytes of its body, pictures in it, pixels of each."""

    max_bytes: int = 16 * 2**20
    max_images: int = 64
    max_pixels: int = 16_000_000


@dataclass(frozen=True)
class Upload:
    """An encoded picture and what errors call it."""

    name: str
    data: bytes


class RefusedError(Exception):
    """A request that is answered with an HTTP status and a sentence."""

    def __init__(self, status: int, sentence: str, *, retry_after: int = 0) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.retry_after = status, sentence, retry_after


class Inbox:
    """Receives bodies; all of them together hold at most the bytes of `room`."""

    def __init__(self, limits: Limits, room: Room) -> None:
        self.limits, self.room = limits, room

    @asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[list[Upload]]:
        """The pictures of a request, which count in the room as long as the context lasts.

        Raises:
            RefusedError: the body is too large or too slow, is no form of pictures and no picture, or there is no room;
                or the address has parameters.
        """
        held = 0
        stream = request.stream()
        try:
            try:
                _check_query(request)
                self._check_length(request)
                form = _collector(request, self.limits)
                with anyio.fail_after(PATIENCE):
                    async for chunk in stream:
                        if held + len(chunk) > self.limits.max_bytes:
                            raise self._too_large()
                        self.room.take(len(chunk))
                        held += len(chunk)
                        form.write(chunk)
                uploads = form.finish()
            except TimeoutError:
                raise RefusedError(408, f'the request did not arrive within {PATIENCE:g} seconds') from None
            except ClientDisconnect:
                raise RefusedError(400, 'the request ended before its body did') from None
            except FullError:
                await self._drain(request, stream)
                raise RefusedError(503, 'too many requests are being received: try again', retry_after=1) from None
            except RefusedError:
                await self._drain(request, stream)
                raise
            yield uploads
        finally:
            self.room.give_back(held)

    def _check_length(self, request: Request) -> None:
        length = request.headers.get('content-length', '')
        if length.isdecimal() and int(length) > self.limits.max_bytes:
            raise self._too_large()

    def _too_large(self) -> RefusedError:
        return RefusedError(
            413, f'the request has more than {self.limits.max_bytes} bytes: send fewer or smaller pictures'
        )

    async def _drain(self, request: Request, stream: AsyncIterator[bytes]) -> None:
        if request.headers.get('expect', '').lower() == '100-continue':
            return  # this client waits for the answer before it sends
        left = DRAINED * self.limits.max_bytes
        try:
            with anyio.move_on_after(LINGER):
                async for chunk in stream:
                    if (left := left - len(chunk)) < 0:
                        return
        except ClientDisconnect:
            return


def _check_query(request: Request) -> None:
    if request.query_params:
        name = next(iter(request.query_params))
        raise RefusedError(
            422,
            f'the address has a parameter {name[:50]!r}, and takes none: send pictures alone; how they are read was '
            'said when the service was started',
        )


class _Raw:
    """A body that is one picture."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, chunk: bytes) -> None:
        self._data += chunk

    def finish(self) -> list[Upload]:
        if not self._data:
            raise RefusedError(422, f'the body is empty: send a picture, or a form with pictures in the field {FIELD}')
        return [Upload('the picture', bytes(self._data))]


class _Form:
    """A body of type multipart/form-data; each part named `images` is a picture."""

    def __init__(self, boundary: bytes, limits: Limits) -> None:
        self._limits = limits
        self._uploads: list[Upload] = []
        self._data = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._field, self._value = bytearray(), bytearray()
        self._name = ''
        self._is_complete = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    'on_part_begin': self._begin,
                    'on_header_field': lambda data, start, end: self._field.extend(data[start:end]),
                    'on_header_value': lambda data, start, end: self._value.extend(data[start:end]),
                    'on_header_end': self._end_header,
                    'on_headers_finished': self._check_name,
                    'on_part_data': lambda data, start, end: self._data.extend(data[start:end]),
                    'on_part_end': self._end,
                    'on_end': self._complete,
                },
            )
        except FormParserError:
            raise RefusedError(422, 'the boundary of the form is too long') from None

    def write(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise RefusedError(422, f'the form is damaged ({error})'[:200]) from None

    def finish(self) -> list[Upload]:
        if not self._is_complete:
            raise RefusedError(422, 'the form is damaged: its end is missing')
        if not self._uploads:
            raise RefusedError(422, f'the form has no picture: send them in the field {FIELD}')
        return self._uploads

    def _begin(self) -> None:
        if len(self._uploads) == self._limits.max_images:
            raise RefusedError(
                413, f'the form has more than {counted(self._limits.max_images, "picture")}: send fewer at a time'
            )
        self._headers = {}

    def _end_header(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def _check_name(self) -> None:
        _, options = parse_options_header(self._headers.get(b'content-disposition'))
        name = options.get(b'name', b'').decode('utf-8', 'replace')
        if name != FIELD:
            raise RefusedError(422, f'the form has a field {name[:50]!r}: send pictures, in the field {FIELD}')
        given = options.get(b'filename', b'').decode('utf-8', 'replace')
        self._name = given[:100] or f'picture {len(self._uploads) + 1}'

    def _end(self) -> None:
        self._uploads.append(Upload(self._name, bytes(self._data)))
        self._data.clear()

    def _complete(self) -> None:
        self._is_complete = True


def _collector(request: Request, limits: Limits) -> _Raw | _Form:
    kind, options = parse_options_header(request.headers.get('content-type'))
    if kind == b'multipart/form-data':
        if not options.get(b'boundary'):
            raise RefusedError(422, 'the form has no boundary in its Content-Type')
        return _Form(options[b'boundary'], limits)
    if kind.startswith(b'image/') or kind in (b'', b'application/octet-stream'):
        return _Raw()
    raise RefusedError(
        415,
        f'{kind.decode("latin-1")[:100]} is not accepted: send multipart/form-data with pictures in the field {FIELD}, '
        'or one picture as image/* or application/octet-stream',
    )
