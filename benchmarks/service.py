"""`fastzoo serve` on one core, asked from another: predictions per second, delays, memory.

    python benchmarks/service.py [--soak SECONDS]

The server is held on one core by its affinity; requests are prepared beforehand and sent over connections that stay
open. First as fast as answers come, then at random times at half the load that is to be reached, timed from when a
request was due. About a minute. `--soak` goes on at that load, requests and a stream together, and watches the memory.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import numpy as np
import numpy.typing as npt
from timing import show, verdict
from websockets.asyncio.client import connect

NAME = "fastgrnn-har-int8"
TARGET, SLOWEST = 2000, 20.0  # predictions/s; ms of the 99th percentile at half of it
GROWTH = 2.0  # MB in a soak
SECONDS, CONNECTIONS = 8.0, 8
BINARY, JSON = "application/octet-stream", "application/json"


@dataclass(frozen=True)
class Load:
    """Requests of one kind."""

    name: str
    kind: str
    windows: int
    request: bytes

    @classmethod
    def of(cls, kind: str, windows: int, host: str) -> Load:
        """Windows of noise."""
        x = np.random.default_rng(windows).normal(size=(windows, 128, 6)).astype("<f4")
        body = x.tobytes() if kind == BINARY else json.dumps({"x": np.round(x, 4).astype(float).tolist()}).encode()
        head = (
            f"POST /models/{NAME}/predict HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nAccept: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        what = "binary" if kind == BINARY else "JSON"
        return cls(f"{what}, {windows} window{'s' * (windows > 1)} a request", kind, windows, head.encode() + body)


class Connection:
    """One that stays open; a client of our own, since a comfortable one costs more than the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, request: bytes) -> None:
        """One request, answered with 200."""
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(head.decode())
        await self._reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))

    def close(self) -> None:
        """Close it."""
        self._writer.close()


@contextmanager
def server() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its address; the first core is its own where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "fastzoo", "serve", NAME, "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    os.sched_setaffinity(process.pid, cores[:1])
    os.sched_setaffinity(0, cores[1:] or cores)
    assert process.stderr is not None
    try:
        yield process, process.stderr.readline().split()[-1]
    finally:
        process.terminate()
        if process.wait(20) != 0:
            raise RuntimeError(f"the server ended with {process.returncode}")
        os.sched_setaffinity(0, cores)


async def flat_out(url: str, load: Load) -> float:
    """Predictions per second with all connections busy."""
    connections = [await opened(url) for _ in range(CONNECTIONS)]
    end = time.perf_counter() + SECONDS

    async def busy(connection: Connection) -> int:
        for count in itertools.count():
            if time.perf_counter() > end:
                return count
            await connection.ask(load.request)
        raise AssertionError

    counts = await asyncio.gather(*map(busy, connections))
    for connection in connections:
        connection.close()
    return sum(counts) * load.windows / SECONDS


async def at_random(url: str, load: Load, rate: float, seconds: float = SECONDS) -> npt.NDArray[np.float64]:
    """Milliseconds from when each request was due to its answer, at so many predictions per second."""
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(4 * CONNECTIONS):
        free.put_nowait(await opened(url))
    rng = np.random.default_rng(0)
    begin, due, delays = time.perf_counter(), 0.0, []

    async def one(due: float) -> None:
        connection = await free.get()
        await connection.ask(load.request)
        free.put_nowait(connection)
        delays.append(1000 * (time.perf_counter() - begin - due))

    tasks = set()
    while due < seconds:
        due += float(rng.exponential(load.windows / rate))
        await asyncio.sleep(max(0.0, begin + due - time.perf_counter()))
        task = asyncio.create_task(one(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    while not free.empty():
        free.get_nowait().close()
    return np.array(delays)


async def opened(url: str) -> Connection:
    parts = urlsplit(url)
    return Connection(*await asyncio.open_connection(parts.hostname, parts.port))


async def streamed(url: str, seconds: float) -> int:
    """Results of a stream of 50 Hz, sent in chunks of 16 samples, twenty times as fast as a sensor."""
    rng, results = np.random.default_rng(0), 0
    end = time.perf_counter() + seconds
    async with connect(url.replace("http", "ws", 1) + f"/models/{NAME}/stream?hop=16") as socket:
        while time.perf_counter() < end:
            await socket.send(rng.normal(size=(16, 6)).astype("<f4").tobytes())
            await asyncio.sleep(16 / 50 / 20)
            while True:
                try:
                    await asyncio.wait_for(socket.recv(), 0.001)
                    results += 1
                except asyncio.TimeoutError:
                    break
    return results


def resident(process: subprocess.Popen[str]) -> float:
    """MB of memory of a process."""
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


def speed() -> None:
    rows, delays = [], []
    with server() as (_, url):
        host = urlsplit(url).netloc
        for kind, windows in ((BINARY, 8), (BINARY, 1), (JSON, 8), (JSON, 1)):
            load = Load.of(kind, windows, host)
            rate = asyncio.run(flat_out(url, load))
            main = (kind, windows) == (BINARY, 8)
            rows.append([load.name, verdict(rate, TARGET, at_least=True) if main else f"{rate:.0f}"])
            for share in [TARGET / 2, rate / 2] if main else [rate / 2]:
                found = asyncio.run(at_random(url, load, share))
                p50, p99 = np.percentile(found, [50, 99])
                slowest = verdict(float(p99), SLOWEST, " ms") if share == TARGET / 2 else f"{p99:.1f} ms"
                delays.append([load.name, f"{share:.0f}", f"{p50:.1f} ms", slowest])
        sizes = httpx.get(f"{url}/metrics").text.splitlines()
        total, count = (
            float(next(line for line in sizes if line.startswith(f"fastzoo_batch_windows_{what}")).split()[-1])
            for what in ("sum", "count")
        )
    show(f"{NAME}, server on one core, {CONNECTIONS} connections", ["", "predictions/s"], rows)
    show("requests at random times", ["", "predictions/s", "p50", "p99"], delays)
    print(f"windows computed at once, over all of it: {total / count:.1f}")


def soak(seconds: float) -> None:
    with server() as (process, url):
        load = Load.of(BINARY, 8, urlsplit(url).netloc)
        memory: list[float] = []

        async def watch() -> None:
            await asyncio.sleep(min(10.0, seconds / 5))  # until everything was used once
            while True:
                memory.append(resident(process))
                await asyncio.sleep(1)

        async def everything() -> tuple[npt.NDArray[np.float64], int]:
            watching = asyncio.create_task(watch())
            delays, results = await asyncio.gather(at_random(url, load, TARGET / 2, seconds), streamed(url, seconds))
            watching.cancel()
            return delays, results

        delays, results = asyncio.run(everything())
    fifth = max(1, len(memory) // 5)
    first, last = float(np.mean(memory[:fifth])), float(np.mean(memory[-fifth:]))
    rows = [
        ["predictions, results of a stream", f"{len(delays) * load.windows}, {results}"],
        ["p99", f"{np.percentile(delays, 99):.1f} ms"],
        ["resident memory", f"{first:.1f} MB early, {last:.1f} MB late, {max(memory):.1f} MB at most"],
        ["growth", verdict(last - first, GROWTH, " MB")],
    ]
    show(f"{seconds:.0f} s at {TARGET // 2} predictions/s and a stream", ["", ""], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="watch the memory for so long, nothing else")
    seconds = parser.parse_args().soak
    speed() if seconds is None else soak(seconds)


if __name__ == "__main__":
    main()
