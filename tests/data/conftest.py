"""A data folder of its own for every test, and a web server that answers as a test wants it to."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("FASTZOO_DATA", str(folder))
    monkeypatch.delenv("FASTZOO_HAPT_URL", raising=False)
    return folder


@dataclass
class Server:
    """Answers every request with ``body``; ``send`` bytes of it, where the connection is to break."""

    url: str = ""
    body: bytes = b""
    status: int = 200
    send: int | None = None
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    answer = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer.requests.append(self.path)
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # a client may have enough of it
                self.wfile.write(answer.body[: answer.send])

        log_message: Callable[..., None] = lambda *_: None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        answer.url = f"http://127.0.0.1:{http.server_address[1]}/hapt.zip"
        yield answer
        http.shutdown()
        thread.join()
