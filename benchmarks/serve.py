#!/usr/bin/env python3
"""What batches are worth to a service: requests per second and their latency, by the greatest batch.

  python benchmarks/serve.py
  python benchmarks/serve.py --models crnn --clients 1 8 32 --batches 1 32 --seconds 10
  python benchmarks/serve.py --checkpoints last.ckpt model.onnx

Each client sends one picture, waits for its text, and sends the next. Clients and service share this machine's cores.
The services of a model run at the same time and take turns, round by round; figures are of all rounds together.
Models by name have random weights: a network that reads character by character then does so up to the longest word.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from strhub.models.zoo import create_model, save_safetensors

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', nargs='*', default=['crnn', 'parseq-tiny'], metavar='NAME')
    parser.add_argument('--checkpoints', nargs='*', default=[], metavar='FILE', help='in place of random weights')
    parser.add_argument('--batches', nargs='+', type=int, default=[1, 32], metavar='N', help='--max_batch of services')
    parser.add_argument('--clients', nargs='+', type=int, default=[1, 32], metavar='N')
    parser.add_argument('--seconds', type=float, default=5, metavar='S', help='of a round')
    parser.add_argument('--rounds', type=int, default=3, metavar='N')
    parser.add_argument('--wait', type=float, default=5, metavar='MS', help='--max_wait_ms of the services')
    parser.add_argument('--threads', type=int, default=1, metavar='N', help='of the network')
    parser.add_argument('--picture', type=Path, default=ROOT / 'demo_images/01.jpg')
    args = parser.parse_args()
    print(
        '| model | clients | max_batch | requests/s | ratio | p50, ms | p95, ms | p99, ms |\n'
        '|---|---:|---:|---:|---:|---:|---:|---:|'
    )
    with tempfile.TemporaryDirectory() as folder:
        sources = args.checkpoints or [random_weights(name, Path(folder)) for name in args.models]
        for source in sources:
            compare(str(source), args)


def random_weights(name: str, folder: Path) -> Path:
    path = folder / f'{name}.safetensors'
    save_safetensors(create_model(name), path)
    return path


def compare(source: str, args: argparse.Namespace) -> None:
    body = args.picture.read_bytes()
    request = (
        b'POST /read HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n'
        + f'Content-Length: {len(body)}\r\n\r\n'.encode()
        + body
    )
    with ExitStack() as stack:
        ports = {n: stack.enter_context(serving(source, n, wait=args.wait, threads=args.threads)) for n in args.batches}
        for clients in args.clients:
            seconds: dict[int, list[float]] = {n: [] for n in args.batches}
            elapsed = dict.fromkeys(args.batches, 0.0)
            for port in ports.values():
                asyncio.run(load(port, request, clients, 1))  # to warm up
            for _ in range(args.rounds):
                for n, port in ports.items():
                    started = time.perf_counter()
                    seconds[n] += asyncio.run(load(port, request, clients, args.seconds))
                    elapsed[n] += time.perf_counter() - started
            rates = {n: len(seconds[n]) / elapsed[n] for n in args.batches}
            for n in args.batches:
                cuts = statistics.quantiles(seconds[n], n=100)
                p50, p95, p99 = (f'{1000 * cuts[percent - 1]:.0f}' for percent in (50, 95, 99))
                ratio = rates[n] / rates[args.batches[0]]
                row = (Path(source).stem, clients, n, f'{rates[n]:.0f}', f'{ratio:.2f}', p50, p95, p99)
                print(f'| {" | ".join(map(str, row))} |', flush=True)


@contextmanager
def serving(source: str, max_batch: int, *, wait: float, threads: int) -> Iterator[int]:
    """The port of a service of its own process."""
    command = [sys.executable, '-m', 'strhub', 'serve', source, '--port', '0', '--max_batch', str(max_batch)]
    command += ['--max_wait_ms', str(wait), '--device', 'cpu']
    environment = {**os.environ, 'OMP_NUM_THREADS': str(threads), 'PYTHONPATH': str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline().split('http://127.0.0.1:')[1].split('/')[0])
        finally:
            process.terminate()


async def load(port: int, request: bytes, clients: int, seconds: float) -> list[float]:
    """The seconds that each request took, of so many clients at a time."""
    until = time.perf_counter() + seconds
    took: list[float] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection('127.0.0.1', port)
        while (started := time.perf_counter()) < until:
            writer.write(request)
            head = await reader.readuntil(b'\r\n\r\n')
            if not head.startswith(b'HTTP/1.1 200'):
                raise SystemExit(f'the service refused: {head.decode()}')
            await reader.readexactly(int(head.lower().split(b'content-length: ')[1].split(b'\r\n')[0]))
            took.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return took


if __name__ == '__main__':
    main()
