"""The process that serves an application: sockets, signals, logs."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from fastzoo.errors import ServiceError
from fastzoo.serve.limits import Limits

_BACKLOG = 128


@dataclass(frozen=True)
class Address:
    """Where the service listens.

    Args:
        host: a name or an IP address of this machine.
        port: 0 = any free one.
        uds: path of a Unix domain socket, in the place of both.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None

    @contextmanager
    def listening(self) -> Iterator[tuple[socket.socket, str]]:
        """An open socket, and its address as text.

        Raises:
            ServiceError: the address cannot be had.
        """
        where = self.uds or f"{self.host}, port {self.port}"
        try:
            opened = self._tcp() if self.uds is None else _unix(self.uds)
        except (OSError, OverflowError) as error:
            advice = "give another --uds" if self.uds else "give another --host or --port, or --port 0 for a free one"
            raise ServiceError(
                f"cannot listen on {where}: {getattr(error, 'strerror', None) or error}; {advice}"
            ) from None
        try:
            yield opened, self._text(opened)
        finally:
            opened.close()
            if self.uds is not None:
                Path(self.uds).unlink(missing_ok=True)

    def _tcp(self) -> socket.socket:
        family, kind, protocol, _, address = socket.getaddrinfo(
            self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(family, kind, protocol)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(address)
            opened.listen(_BACKLOG)
        except BaseException:
            opened.close()
            raise
        return opened

    def _text(self, opened: socket.socket) -> str:
        if self.uds is not None:
            return f"unix:{self.uds}"
        host, port = opened.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _unix(path: str) -> socket.socket:
    """A Unix domain socket, in the place of one that nobody listens to any more."""
    opened = socket.socket(socket.AF_UNIX)
    try:
        if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode):
            try:
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
        opened.bind(path)
        opened.listen(_BACKLOG)
    except BaseException:
        opened.close()
        raise
    return opened


def configured(app: Any, limits: Limits) -> uvicorn.Server:
    """A server for an application, which no socket was given yet."""
    config = uvicorn.Config(
        app,
        ws="websockets-sansio",
        ws_max_size=limits.max_body,
        limit_concurrency=limits.max_connections,
        timeout_graceful_shutdown=limits.stop_timeout,
        log_config=None,  # logs go where those of fastzoo go
        access_log=False,
        server_header=False,
    )
    return uvicorn.Server(config)


def run(app: Any, address: Address, limits: Limits, ready: Callable[[str], object] = lambda where: None) -> None:
    """Serve until SIGTERM or SIGINT; what is under way then is answered, for so long as ``limits`` says.

    Args:
        app: an ASGI application.
        address: where to listen.
        limits: of connections, of messages, of the time to stop.
        ready: called with the address when requests can come.

    Raises:
        ServiceError: the address cannot be had, or the application does not start.
        KeyboardInterrupt: SIGINT ended it.
    """
    with address.listening() as (opened, where):
        server = configured(app, limits)

        def stop(_: int, __: FrameType | None) -> None:
            server.should_exit = True

        # The server raises the signal again when it is done, and here that is no reason to die of it.
        before = signal.signal(signal.SIGTERM, stop)
        ready(where)
        try:
            server.run([opened])
        finally:
            signal.signal(signal.SIGTERM, before)
        if not server.started:
            raise ServiceError(f"the service on {where} did not start; its log says why")
