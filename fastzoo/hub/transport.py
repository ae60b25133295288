"""Bring one file from the network, go on where a transfer broke off, and say in one sentence why not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fastzoo.errors import DownloadError, FastzooError

if TYPE_CHECKING:
    from rich.progress import Progress

TIMEOUT = 30.0  # seconds without an answer, or between two parts of it
CONNECT = 10.0  # seconds for a connection
CHUNK = 1 << 14  # bytes; what a killed process loses at most


@dataclass(frozen=True)
class Answer:
    """What a server said: status 200 (all of it), 206 (the rest of it) or 304 (unchanged), and how to ask again."""

    status: int
    again: Mapping[str, str]  # headers with which the next request gets 304 unless the file has changed


@dataclass(frozen=True)
class Advice:
    """The last sentence of an error: what to do about the network, and about the disk."""

    network: str
    disk: str


def transfer(
    url: str,
    path: Path,
    *,
    limit: int,
    advice: Advice,
    error: type[FastzooError] = DownloadError,
    progress: bool = False,
    resume: bool = False,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Download ``url`` to ``path``, whose folder exists. After a failure of the network ``path`` may hold a part.

    Args:
        url: ``http://`` or ``https://``.
        path: where to write.
        limit: the largest size accepted, in bytes.
        advice: what the user should do about an error.
        error: the type of an error.
        progress: show a bar on standard error.
        resume: ask for what is missing only, if ``path`` has a part of the file; servers that cannot begin again.
        headers: more headers of the request.

    Raises:
        error: no network, no such file, a broken transfer, more than ``limit`` bytes, or no space.
    """
    import requests

    timeout = _timeout()
    try:
        with path.open("ab" if resume else "wb") as file, ExitStack() as stack:
            sink = _Sink(file, limit, url, advice, error)
            if progress:
                sink.bar = stack.enter_context(_progress_bar())
            answer = _get(url, sink, stack, headers or {}, timeout)
            if answer.status == 416:  # the server has less than is here already: begin again
                answer = _get(url, sink, stack, headers or {}, timeout)
            sink.settle()
            return answer
    except requests.RequestException as failure:  # an OSError too, so this must stand first
        raise error(f"cannot download {url}: {_reason(failure, timeout)}. {advice.network}") from failure
    except ValueError as failure:  # a Content-Length that is no number, a host that is none
        raise error(f"cannot download {url}: {failure}. {advice.network}") from failure
    except OSError as failure:
        raise error(f"cannot write {path}: {failure.strerror or failure}. {advice.disk}") from failure


def _timeout() -> float:
    try:
        return max(0.1, float(os.environ["FASTZOO_TIMEOUT"]))
    except (KeyError, ValueError):
        return TIMEOUT


def _get(url: str, sink: _Sink, stack: ExitStack, headers: Mapping[str, str], timeout: float) -> Answer:
    import pooch
    import requests

    from fastzoo import __version__

    have = sink.size
    wanted = {"User-Agent": f"fastzoo/{__version__}", "Accept-Encoding": "identity", **headers}
    if have:
        wanted["Range"] = f"bytes={have}-"
    answer: Answer | None = None

    def look(response: Any, **_: object) -> None:
        """Called for each answer, redirections included, before anything of it is read."""
        nonlocal answer
        stack.callback(response.close)  # pooch leaves a failed one open
        if url.lower().startswith("https:") and not response.url.lower().startswith("https:"):
            raise ValueError(f"the server redirects to {response.url}, where nobody would be sure who answers")
        if have and response.status_code in (200, 416):
            sink.empty()  # all of it comes, not the rest; or what is here is more than all of it
        if response.status_code in (200, 206) and "Content-Encoding" not in response.headers:
            sink.announce(int(response.headers.get("Content-Length", 0)), urlsplit(url).path.rpartition("/")[2])
        answer = Answer(response.status_code, _again(response.headers))

    waits = (min(timeout, CONNECT), timeout)
    get = pooch.HTTPDownloader(chunk_size=CHUNK, timeout=waits, hooks={"response": look}, headers=wanted)
    try:
        get(url, sink, None)
    except requests.HTTPError:
        if answer is None or answer.status != 416 or not have:
            raise
    assert answer is not None  # pooch has raised otherwise
    return answer


def _again(headers: Mapping[str, str]) -> dict[str, str]:
    pairs = {"If-None-Match": headers.get("ETag"), "If-Modified-Since": headers.get("Last-Modified")}
    return {key: value for key, value in pairs.items() if value}


class _Sink:
    """The file that pooch writes into; it takes no more than ``limit`` bytes."""

    def __init__(self, file: IO[bytes], limit: int, url: str, advice: Advice, error: type[FastzooError]) -> None:
        self._file, self._limit = file, limit
        self._refusal = error(f"{url} sends more than {limit} bytes. {advice.network}")
        self.size = os.fstat(file.fileno()).st_size
        self.bar: Progress | None = None

    def announce(self, coming: int, title: str) -> None:
        """So many more bytes will come, or 0 where the server does not say."""
        if self.size + coming > self._limit:
            self._refuse()
        if self.bar is not None:
            self.bar.add_task(title, total=self.size + coming if coming else None, completed=self.size)

    def write(self, chunk: bytes) -> None:
        """Called by pooch."""
        if self.size + len(chunk) > self._limit:
            self._refuse()
        try:
            self._file.write(chunk)
            self._file.flush()  # at once: a process that is killed keeps it
        except OSError:
            self.empty()  # what fills a disk must not stay there
            raise
        self.size += len(chunk)
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[-1], completed=self.size)

    def flush(self) -> None:
        """Called by pooch after each chunk."""

    def empty(self) -> None:
        """Begin again."""
        self._file.truncate(0)
        self.size = 0

    def settle(self) -> None:
        """Have it on the disk itself before the file gets its name."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def _refuse(self) -> None:
        self.empty()  # what is here cannot be the beginning of the file that was promised
        raise self._refusal


def _reason(error: Any, timeout: float) -> str:
    """A few words for what requests tells in several lines."""
    from requests import exceptions as kinds
    from urllib3.exceptions import ReadTimeoutError

    if isinstance(error, kinds.Timeout) or (error.args and isinstance(error.args[0], ReadTimeoutError)):
        return f"no answer within {timeout:g} seconds"
    for kind, reason in (
        (kinds.SSLError, "the server's certificate was not accepted"),
        (kinds.ProxyError, "the proxy did not answer (see HTTPS_PROXY)"),
        (kinds.ConnectionError, "the server cannot be reached; check the network connection"),
        (kinds.ChunkedEncodingError, "the transfer broke off"),
        (kinds.TooManyRedirects, "the server redirects in a circle"),
    ):
        if isinstance(error, kind):
            return reason
    if isinstance(error, kinds.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    return str(error)


def _progress_bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))
