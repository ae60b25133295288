"""Files from servers, kept in the user's cache: each is checked before it gets its name, and none is fetched twice.

    bundles/<sha256 of bundle.json>/...      files of bundles
    places/<sha256 of the address>/...       what may change: registries, and bundle.json of bundles loaded by address

A folder of ``bundles`` is named by what its ``bundle.json`` must be, and that names the digests of all other files: two
registries, or two versions, cannot be confused.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from fastzoo import _files, _json
from fastzoo.errors import DownloadError, FastzooError
from fastzoo.hub.places import Remote
from fastzoo.hub.transport import Advice, transfer

FRESH = 600.0  # seconds for which a server is not asked again whether a registry has changed
AFTER_FAILURE = 60.0  # seconds for which it is not asked again after it could not be reached
LARGEST_BUNDLE_JSON = 4 * 2**20
LONG = 10**6  # bytes from which a bar is worth showing

ROOM = "Set FASTZOO_CACHE to a folder with space and write permission"
OFFLINE = "and FASTZOO_OFFLINE is set: unset it, or fetch the model beforehand (`fastzoo fetch`)"
FOR_FILES = Advice("Try again later: what has come is kept, and the rest is asked for", ROOM)
FOR_INDEXES = Advice("Check the address, or try again later", ROOM)

show_progress = False  # set by the command line

log = logging.getLogger("fastzoo")
Made = TypeVar("Made")


class CacheError(DownloadError):
    """The cache cannot be written."""


def root() -> Path:
    """The cache's folder: ``$FASTZOO_CACHE``, or ``fastzoo`` in the user's cache."""
    if folder := os.environ.get("FASTZOO_CACHE"):
        return Path(folder).expanduser()
    import platformdirs

    return platformdirs.user_cache_path("fastzoo")


def offline() -> bool:
    """Whether ``FASTZOO_OFFLINE`` forbids the network."""
    return os.environ.get("FASTZOO_OFFLINE", "") not in ("", "0")


def bundle_folder(sha256: str) -> Path:
    """Where the bundle with this ``bundle.json`` is kept."""
    return root() / "bundles" / sha256


def ensure(remote: Remote, name: str, path: Path, sha256: str, size: int | None = None) -> None:
    """Have the file ``name`` of ``remote`` at ``path``; what is there and right is not asked for again.

    Args:
        remote: the folder that has it.
        name: its name there.
        path: its path here.
        sha256: what it must be.
        size: how many bytes it must have; None = not known, and not worth resuming.

    Raises:
        DownloadError: it cannot be had, is not what was promised, or cannot be written.
    """
    if _is(path, sha256, size):
        return
    if offline():
        raise DownloadError(f"{remote.base}/{name} is not in the cache, {OFFLINE}")
    with _writing(path):
        if not _is(path, sha256, size):  # else another process was quicker
            _download(remote, name, path, sha256, size)


def _download(remote: Remote, name: str, path: Path, sha256: str, size: int | None) -> None:
    url = remote.url(name)
    part = path.with_name(f".{path.name}.part")  # stays when a transfer breaks off: the next one goes on with it
    limit = LARGEST_BUNDLE_JSON if size is None else size
    have = part.stat().st_size if part.exists() else 0
    if size is None or have > size:
        part.unlink(missing_ok=True)
        have = 0
    bar = show_progress and limit - have >= LONG and size is not None
    if have != size:  # else a process was killed between the last byte and the check
        log.info("downloading %s", url)
        transfer(url, part, limit=limit, advice=FOR_FILES, resume=have > 0, progress=bar, headers=remote.headers())
    if not _is(part, sha256, size) and have:  # the beginning was that of another file
        log.info("downloading %s once more: what was there is not its beginning", url)
        transfer(url, part, limit=limit, advice=FOR_FILES, progress=bar, headers=remote.headers())
    if _is(part, sha256, size):
        part.replace(path)
        return
    mistake = _mistake(part, size)
    part.unlink(missing_ok=True)
    raise DownloadError(
        f"{url} {mistake}. Where its registry is newer than the file, build it again (`fastzoo registry build`); "
        "where it is older here, `fastzoo registry update`"
    )


def keep(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path``, unless it is there.

    Raises:
        CacheError: it cannot be written.
    """
    if _is(path, _files.sha256(data), len(data)):
        return
    with _writing(path):
        _files.write(path, data)


def index(
    remote: Remote, name: str, limit: int, read: Callable[[bytes], Made], update: bool = False
) -> tuple[Made, Path]:
    """A file that may change, as fresh as it can be had.

    The server is asked at most every :data:`FRESH` seconds, and sends only what has changed. Where it cannot be
    reached, or sends what ``read`` refuses, the last copy is used and a warning logged.

    Args:
        remote: the folder that has it.
        name: its name there.
        limit: the largest size accepted, in bytes.
        read: makes of the content what is wanted, or raises a FastzooError.
        update: ask now.

    Returns:
        What ``read`` made, and the path of the copy.

    Raises:
        FastzooError: it cannot be had, or ``read`` refuses it, and there is no copy.
    """
    folder = root() / "places" / _files.sha256(f"{remote.base}/{name}".encode())
    copy = _Copy(folder / name, folder / "asked.json")
    held = copy.read(read)
    if held is not None and (offline() or (copy.is_fresh() and not update)):
        return held[0], copy.path
    if offline():
        raise DownloadError(f"{remote.base}/{name} is not in the cache, {OFFLINE}")
    before = copy.stamp
    try:
        with _writing(copy.path):
            if copy.stamp != before and (now := copy.read(read)) is not None:  # another process has just asked
                return now[0], copy.path
            return copy.refresh(remote, name, limit, read, held), copy.path
    except FastzooError as error:
        if held is None:
            raise
        if isinstance(error, CacheError):  # read-only, as on a board: meant to stay as it is
            log.info("%s", error)
        else:
            copy.note(tried=time.time())
            log.warning("%s; the copy of %s is used", str(error).rstrip("."), copy.date())
        return held[0], copy.path


class _Copy:
    """The last answer for one address, and when it was asked for."""

    def __init__(self, path: Path, stamp_path: Path) -> None:
        self.path, self._stamp_path = path, stamp_path

    @property
    def stamp(self) -> dict[str, Any]:
        """When the server was asked (``asked``) and could not be reached (``tried``), and headers to ask ``again``."""
        try:
            found = _json.parse(self._stamp_path.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def note(self, **news: Any) -> None:
        """Change some of the stamp, where it can be written."""
        with suppress(OSError):
            _files.write(self._stamp_path, json.dumps({**self.stamp, **news}).encode())

    def read(self, read: Callable[[bytes], Made]) -> tuple[Made] | None:
        """What ``read`` makes of the copy; None if there is none, or none of use."""
        try:
            return (read(self.path.read_bytes()),)
        except (OSError, FastzooError):
            return None

    def is_fresh(self) -> bool:
        """Whether it is too early to ask again."""
        return self._since("asked") < FRESH or self._since("tried") < AFTER_FAILURE

    def date(self) -> str:
        """When the copy was made or last found unchanged."""
        asked = self.stamp.get("asked")
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(asked if isinstance(asked, float) else 0))

    def refresh(
        self, remote: Remote, name: str, limit: int, read: Callable[[bytes], Made], held: tuple[Made] | None
    ) -> Made:
        """Ask the server; the old copy stays until the new one has been read."""
        again = self.stamp.get("again") if held is not None else None
        headers = {**remote.headers(), **(again if isinstance(again, dict) else {})}
        part = _files.temporary_beside(self.path)
        try:
            answer = transfer(remote.url(name), part, limit=limit, advice=FOR_INDEXES, headers=headers)
            if answer.status == 304 and held is not None:
                made = held[0]
                self.note(asked=time.time())
            else:
                made = read(part.read_bytes())
                part.replace(self.path)
                self.note(asked=time.time(), again=dict(answer.again), address=f"{remote.base}/{name}")
        finally:
            part.unlink(missing_ok=True)
        return made

    def _since(self, event: str) -> float:
        """Seconds since then; for ever, where the clock was changed."""
        then = self.stamp.get(event)
        passed = time.time() - then if isinstance(then, float) else -1.0
        return passed if passed >= 0 else float("inf")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Alone in writing ``path``, among all processes."""
    try:
        with _files.locked(path):
            yield
    except OSError as error:
        raise CacheError(f"cannot write {path}: {error.strerror or error}. {ROOM}") from error


def _is(path: Path, sha256: str, size: int | None) -> bool:
    try:
        if size is not None and path.stat().st_size != size:
            return False
        return _files.sha256(path.read_bytes()) == sha256
    except OSError:
        return False


def _mistake(path: Path, size: int | None) -> str:
    data = path.read_bytes() if path.exists() else b""
    if looks_like_a_page(data):
        return "is a web page, not the file that was promised"
    if size is not None and len(data) != size:
        return f"has {len(data)} bytes, where {size} were promised"
    return "does not have the sha256 that was promised"


def looks_like_a_page(data: bytes) -> bool:
    """Whether a server sent HTML, as those do that want a login first."""
    return data.lstrip()[:1] == b"<"
