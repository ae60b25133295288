"""The service as its users meet it: a real server on a free port, in a thread or in a process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from fastzoo.model import Model
from fastzoo.serve import Address, Bridge, Limits, create_app
from fastzoo.serve.server import configured

BINARY, JSON, NPY = "application/octet-stream", "application/json", "application/x-npy"
HTTP = httpx.Client(verify=False, timeout=30)  # one for all: reading the certificates takes longer than a test


@contextmanager
def served(
    *models: Model, limits: Limits | None = None, token: str | None = None, bridge: Bridge | None = None
) -> Iterator[str]:
    """The address of a service in a thread."""
    limits = limits or Limits()
    app = create_app(models, limits, token=token, bridge=bridge)
    with Address(port=0).listening() as (opened, where):
        server = configured(app, limits)
        thread = threading.Thread(target=server.run, args=([opened],))
        thread.start()
        try:
            yield where
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


@contextmanager
def process(*arguments: str | Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``fastzoo serve`` in a process of its own, and its address."""
    command = [sys.executable, "-m", "fastzoo", "serve", *map(str, arguments)]
    if "--uds" not in arguments:
        command += ["--port", "0"]
    running = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stderr is not None
    try:
        line = running.stderr.readline()
        assert line.startswith("serving "), line + running.stderr.read()
        yield running, line.split()[-1]
    finally:
        running.kill()
        running.communicate()


def predict(url: str, model: Model, content: bytes, kind: str, accept: str = JSON) -> httpx.Response:
    headers = {"Content-Type": kind, "Accept": accept}
    return HTTP.post(f"{url}/models/{model.name}/predict", content=content, headers=headers)


def counted(url: str) -> dict[str, float]:
    """The metrics, by name and the values of their labels: ``"fastzoo_requests_total gru-toy-fp32 200"``."""
    families = text_string_to_metric_families(HTTP.get(f"{url}/metrics").text)
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


def at_once(calls: Sequence[Callable[[], httpx.Response]]) -> list[httpx.Response]:
    """What each call gives, all of them begun together, in threads."""
    answers: list[httpx.Response | None] = [None] * len(calls)
    begin = threading.Barrier(len(calls))

    def run(position: int) -> None:
        begin.wait(20)
        answers[position] = calls[position]()

    threads = [threading.Thread(target=run, args=(position,)) for position in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    found = [answer for answer in answers if answer is not None]
    assert len(found) == len(calls)
    return found


def until(happened: Callable[[], bool], seconds: float = 15) -> None:
    """Wait until something is so, or fail."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
