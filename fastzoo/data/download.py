"""The file behind an address."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from fastzoo.errors import DataError
from fastzoo.hub.transport import Advice, transfer

ROOM = "Set FASTZOO_DATA to a folder with space and write permission"


def local_copy(url: str, path: Path, limit: int, remedy: str, progress: bool = False, resume: bool = False) -> Path:
    """Download ``url`` to ``path``; a ``file://`` address is not copied.

    Args:
        url: ``http://``, ``https://`` or ``file://``.
        path: where to write; its folder exists. On failure there may be a part of the file: use a temporary folder.
        limit: the largest size accepted, in bytes.
        remedy: the last sentence of an error: what the user should do.
        progress: show a progress bar on stderr.
        resume: go on where a transfer to ``path`` broke off.

    Returns:
        ``path``, or the path in a ``file://`` address.

    Raises:
        DataError: no network, no such file, a broken transfer, more than ``limit`` bytes, or no space.
    """
    scheme = urlsplit(url).scheme
    if scheme == "file":
        return Path(url2pathname(urlsplit(url).path))
    if scheme not in ("http", "https"):
        raise DataError(f"cannot download {url!r}: the address must begin with https://, http:// or file://")
    transfer(url, path, limit=limit, advice=Advice(remedy, ROOM), error=DataError, progress=progress, resume=resume)
    return path
