"""Bring one file from the network, and say in one sentence why not."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from fastzoo.errors import DataError, require

if TYPE_CHECKING:
    from rich.progress import Progress

TIMEOUT = 30  # seconds without an answer
CHUNK = 1 << 17  # bytes


def local_copy(url: str, path: Path, limit: int, remedy: str, progress: bool = False) -> Path:
    """Download ``url`` to ``path``; a ``file://`` address is not copied.

    Args:
        url: ``http://``, ``https://`` or ``file://``.
        path: where to write; its folder exists. On failure there may be a part of the file: use a temporary folder.
        limit: the largest size accepted, in bytes.
        remedy: the last sentence of an error: what the user should do.
        progress: show a progress bar on stderr.

    Returns:
        ``path``, or the path in a ``file://`` address.

    Raises:
        DataError: no network, no such file, a broken transfer, more than ``limit`` bytes, or no space.
        MissingExtraError: pooch is not installed.
    """
    scheme = urlsplit(url).scheme
    if scheme == "file":
        return Path(url2pathname(urlsplit(url).path))
    if scheme not in ("http", "https"):
        raise DataError(f"cannot download {url!r}: the address must begin with https://, http:// or file://")
    _download(url, path, limit, remedy, progress)
    return path


def _download(url: str, path: Path, limit: int, remedy: str, progress: bool) -> None:
    pooch = require("pooch", extra="train", purpose="downloading a data set")
    requests = require("requests", extra="train", purpose="downloading a data set")
    with ExitStack() as stack:
        meter = Meter(limit, f"{url} sends more than {limit} bytes. {remedy}")
        if progress:
            meter.show(stack.enter_context(_progress_bar()), urlsplit(url).netloc)

        def close_at_exit(response: Any, **_: object) -> None:
            stack.callback(response.close)  # pooch leaves a failed one open

        try:
            get = pooch.HTTPDownloader(meter, CHUNK, timeout=TIMEOUT, hooks={"response": close_at_exit})
            get(url, str(path), None)
        except requests.RequestException as error:  # an OSError too, so this must stand first
            raise DataError(f"cannot download {url}: {_reason(error, requests.exceptions)}. {remedy}") from error
        except OSError as error:
            raise DataError(
                f"cannot write {path}: {error.strerror}. Set FASTZOO_DATA to a folder with space and write permission"
            ) from error


def _reason(error: Any, kinds: Any) -> str:
    """A few words for what requests (``kinds`` are its exceptions) tells in several lines."""
    for kind, reason in (
        (kinds.Timeout, f"no answer within {TIMEOUT} seconds"),
        (kinds.SSLError, "the server's certificate was not accepted"),
        (kinds.ProxyError, "the proxy did not answer (see HTTPS_PROXY)"),
        (kinds.ConnectionError, "the server cannot be reached; check the network connection"),
        (kinds.ChunkedEncodingError, "the transfer broke off"),
    ):
        if isinstance(error, kind):
            return reason
    if isinstance(error, kinds.HTTPError):
        return f"the server answered {error.response.status_code} {error.response.reason}"
    return str(error)


class Meter:
    """What pooch calls a progress bar: counts bytes, stops at a limit, and shows them where asked to.

    Args:
        limit: the largest number of bytes accepted.
        refusal: the message of the error beyond it.
    """

    def __init__(self, limit: int, refusal: str) -> None:
        self.total = 0  # set by pooch; 0 where the server does not say
        self.count = 0
        self.limit, self.refusal = limit, refusal
        self._bar: Progress | None = None

    def show(self, bar: Progress, title: str) -> None:
        """Report to a rich progress bar from now on."""
        self._bar, self._task = bar, bar.add_task(title, total=None)

    def update(self, count: int) -> None:
        """Count bytes; the last chunk is counted in full, as pooch does."""
        self.count += count
        if self.total > self.limit or self.count - CHUNK > self.limit:
            raise DataError(self.refusal)
        self._refresh()

    def reset(self) -> None:
        """Begin again at zero; pooch does so before it reports the exact total."""
        self.count = 0

    def close(self) -> None:
        """Show the final state."""
        self._refresh()

    def _refresh(self) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=self.count, total=self.total or None)


def _progress_bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))
