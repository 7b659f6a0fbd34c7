"""`strhub serve CHECKPOINT`: reads pictures for others, over HTTP."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

import uvicorn

from strhub.engine.commandline import Parser, finite, load_system, positive
from strhub.engine.devices import pick_device
from strhub.engine.errors import door
from strhub.engine.serve.app import make_app
from strhub.engine.serve.model import Model
from strhub.engine.serve.uploads import Limits

EXAMPLES = """\
  strhub serve pretrained=crnn-small-rendered
  strhub serve last.ckpt --host 0.0.0.0 --port 80 --max_batch 64
  strhub serve pretrained=parseq decode_ar=false refine_iters=2
then
  curl -F images=@a.jpg -F images=@b.png http://127.0.0.1:8000/read
  curl --data-binary @a.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8000/read"""

CONNECTIONS = 1024  # at a time; each takes a file descriptor, of which a process often has 1024 … 4096
FAREWELL = 60  # seconds for what was accepted before the service was told to end


def _parser() -> Parser:
    limits = Limits()
    parser = Parser(
        description='Serves a model: POST /read, GET /health, /metrics, and /docs, which tells more.',
        examples=EXAMPLES,
        without=('batch_size',),
    )
    add = parser.add_argument
    add('--host', default='127.0.0.1', help='address to listen on; 0.0.0.0: all of this machine')
    add('--port', type=int, default=8000, metavar='N', help='0: any that is free')
    add('--max_batch', type=positive, default=32, metavar='N', help='pictures that are read together')
    add('--max_wait_ms', type=finite, default=5, metavar='MS', help='how long the first of a batch waits for others')
    add('--max_queue', type=positive, default=256, metavar='N', help='pictures accepted and not yet answered')
    add('--max_bytes', type=positive, default=limits.max_bytes, metavar='N', help='of the body of a request')
    add('--max_images', type=positive, default=limits.max_images, metavar='N', help='pictures in a request')
    add('--max_pixels', type=positive, default=limits.max_pixels, metavar='N', help='of a picture')
    return parser


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises ValueError, in one sentence, where there can be none."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except (OSError, OverflowError) as error:
        reason = getattr(error, 'strerror', None) or str(error)
        raise ValueError(f'cannot listen on {host}, port {port} ({reason}): give another --host or --port') from None


@door
def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse(argv)
    if arguments.max_images > arguments.max_queue:
        raise ValueError(
            f'--max_images is {arguments.max_images}, more than --max_queue, {arguments.max_queue}: such a request '
            'would never be accepted'
        )
    if arguments.max_wait_ms < 0:
        raise ValueError(f'--max_wait_ms is {arguments.max_wait_ms:g}: give 0 or more')
    logging.getLogger('python_multipart').setLevel(logging.ERROR)  # who sent a damaged form is told of it
    # Until the server catches it: end at once. After it has ended in good order: nothing is left to be done.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with listen(arguments.host, arguments.port) as listener:
        device = pick_device(arguments.device)
        model = Model(load_system(arguments, device=device), arguments.checkpoint, arguments.rotation)
        app = make_app(
            model,
            Limits(arguments.max_bytes, arguments.max_images, arguments.max_pixels),
            max_batch=arguments.max_batch,
            max_wait=arguments.max_wait_ms / 1000,
            max_queue=arguments.max_queue,
        )
        host, port = listener.getsockname()[:2]
        where = f'http://[{host}]:{port}' if ':' in host else f'http://{host}:{port}'
        print(f'{model.name} on {device} reads at {where}/read; {where}/docs tells how', flush=True)
        uvicorn.Server(uvicorn.Config(app, **SETTINGS)).run(sockets=[listener])


SETTINGS: dict[str, Any] = {
    'log_level': 'warning',
    'access_log': False,
    'limit_concurrency': CONNECTIONS,
    'timeout_graceful_shutdown': FAREWELL,
    'ws': 'none',
    'server_header': False,
}
