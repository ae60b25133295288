"""A data folder of its own for every test, and a web server that answers as a test wants it to."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fastzoo.data.prepared import Dataset, read

PREPARED = os.environ.get("FASTZOO_DATA")  # before every test gets a folder of its own
SHARED = os.environ.get("FASTZOO_SHARED_DATA")


def prepared(id: str) -> Dataset:
    """A data set from the developer's data folder, for tests on real recordings."""
    path = Path(PREPARED or "") / f"{id}.npz"
    if not (PREPARED and path.exists()):
        pytest.skip(f"FASTZOO_DATA names no folder with {id}.npz")
    return read(path)


def shared(name: str) -> Path:
    """A file of recordings in their first form."""
    path = Path(SHARED or "") / name
    if not (SHARED and path.exists()):
        pytest.skip(f"FASTZOO_SHARED_DATA names no folder with {name}")
    return path


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("FASTZOO_DATA", str(folder))
    for name in [name for name in os.environ if re.fullmatch(r"FASTZOO_[A-Z0-9]+_URL", name)]:
        monkeypatch.delenv(name)
    return folder


@dataclass
class Server:
    """Answers every request with ``body``, or with what ``files`` has under the last part of the address.

    ``send`` is how many bytes are sent, where the connection is to break; after ``pause`` bytes it stands still. A
    request for a range gets the rest.
    """

    url: str = ""
    body: bytes = b""
    files: dict[str, bytes] = field(default_factory=dict)
    status: int = 200
    send: int | None = None
    pause: int | None = None
    requests: list[str] = field(default_factory=list)
    ranges: list[int] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    answer = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer.requests.append(self.path)
            name = self.path.rpartition("/")[2]
            body = answer.files.get(name, answer.body)
            status = 404 if answer.files and name not in answer.files else answer.status
            if wanted := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
                first = int(wanted[1])
                answer.ranges.append(first)
                status, body = (206, body[first:]) if first < len(body) else (416, b"")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # a client may have enough of it
                self.wfile.write(body[: answer.pause or answer.send])
                while answer.pause is not None:
                    time.sleep(0.01)

        log_message: Callable[..., None] = lambda *_: None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        answer.url = f"http://127.0.0.1:{http.server_address[1]}/hapt.zip"
        yield answer
        http.shutdown()
        thread.join()
