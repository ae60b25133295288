"""A real web server over a folder, which resumes, knows ETags, and fails in the ways that servers fail."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Served:
    """What the server does, by file name, and what it was asked.

    Args:
        folder: what it serves.
        url: where.
        cuts: bytes after which the connection breaks, for the next answers.
        pages: files in whose place a page of HTML comes.
        status: answers every request with this status and nothing else.
        hang: seconds before each answer.
        pause: seconds after each 4 kB.
        ranges: whether it can begin in the middle.
        asked: path and ``Range`` of each request.
        sent: bytes of bodies.
    """

    folder: Path
    url: str = ""
    cuts: dict[str, list[int]] = field(default_factory=dict)
    pages: set[str] = field(default_factory=set)
    status: int = 200
    hang: float = 0.0
    pause: float = 0.0
    ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    sent: int = 0

    def names(self) -> list[str]:
        """The names of the files that were asked for."""
        return [path.rpartition("/")[2] for path, _ in self.asked]


PIECE = 4096


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """Serve ``folder`` on a free port."""
    told = Served(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path).lstrip("/")
            wanted = self.headers.get("Range")
            told.asked.append((path, wanted))
            time.sleep(told.hang)
            name = path.rpartition("/")[2]
            file = told.folder / path
            if told.status != 200 or not file.is_file():
                self.send_error(told.status if told.status != 200 else 404)
                return
            body = b"<html>Log in, please</html>" if name in told.pages else file.read_bytes()
            tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            if self.headers.get("If-None-Match") == tag:
                self.send_response(304)
                self.end_headers()
                return
            first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and told.ranges else 0
            if first and first >= len(body):
                self.send_error(416)
                return
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(body) - first))
            self.send_header("ETag", tag)
            self.end_headers()
            cuts = told.cuts.get(name, [])
            end = min(len(body), first + cuts.pop(0)) if cuts else len(body)
            with contextlib.suppress(ConnectionError):  # the client may be killed
                for begin in range(first, end, PIECE):
                    piece = body[begin : min(end, begin + PIECE)]
                    self.wfile.write(piece)
                    self.wfile.flush()
                    told.sent += len(piece)
                    time.sleep(told.pause)
            if end < len(body):
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
