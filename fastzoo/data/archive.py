"""Read members of a zip or tar from the network: nothing is unpacked to disk, no size it states is believed."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO

import numpy as np
import numpy.typing as npt

from fastzoo.errors import DataError

MAX_NESTED = 512 << 20  # bytes of a zip inside the zip
DEPTH = 3  # parts of a name by which a member is found

# Whatever zipfile and its decompressors raise on damaged, encrypted (RuntimeError) or exotic input.
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError, struct.error)


class Archive:
    """Members of a zip by the end of their names, whatever folder they lie in; used in a ``with`` statement.

    A zip that holds one other zip (as some downloads of the UCI archive do) is read as that one.

    Args:
        path: the zip.
        source: where it came from; errors name it.
        remedy: the last sentence of every error: what the user should do.

    Raises:
        DataError: the file cannot be read or is not a zip.
    """

    def __init__(self, path: str | os.PathLike[str], source: str, remedy: str) -> None:
        self.path = Path(path)
        self.source, self.remedy = source, remedy
        self._zip = self._open(self.path)
        inner = [member for member in self._zip.infolist() if member.filename.endswith(".zip")]
        if len(inner) == 1:
            with self._zip as outer:
                nested = self._read(outer, inner[0], MAX_NESTED)
            self._zip = self._open(io.BytesIO(nested))
        self._members: dict[str, list[zipfile.ZipInfo]] = {}
        for member in self._zip.infolist():
            parts = PurePosixPath(member.filename).parts
            for depth in range(1, min(len(parts), DEPTH) + 1):
                self._members.setdefault("/".join(parts[-depth:]), []).append(member)

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def names(self, pattern: re.Pattern[str]) -> list[str]:
        """What :meth:`read` takes, and matches ``pattern`` as a whole."""
        return [name for name in self._members if pattern.fullmatch(name)]

    def read(self, name: str, limit: int) -> bytes:
        """The content of the one member called ``name``, or ``folder/name``, with at most two folders.

        Raises:
            DataError: there is none, or more than one; it is damaged, or larger than ``limit`` bytes.
        """
        members = self._members.get(name, [])
        if len(members) != 1:
            found = "does not hold" if not members else f"holds {len(members)} files called"
            raise DataError(f"{self.source} {found} {name}. {self.remedy}")
        return self._read(self._zip, members[0], limit)

    def table(self, name: str, columns: int, limit: int, separator: bytes = b" ") -> npt.NDArray[np.float64]:
        """The numbers in the member ``name``, a text file: [rows, columns].

        Raises:
            DataError: as in :meth:`read`; or it is no such table, or holds NaN or infinity.
        """
        values = self.read(name, limit).replace(separator, b" ").split()
        try:
            table = np.array(values, np.float64).reshape(-1, columns)
        except ValueError as error:
            raise DataError(f"{name} is not a table of {columns} numbers a line ({error}). {self.remedy}") from error
        if not np.isfinite(table).all():
            raise DataError(f"{name} holds NaN or infinity. {self.remedy}")
        return table

    def _read(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int) -> bytes:
        try:
            with archive.open(member) as file:
                content = file.read(limit + 1)
        except _DAMAGE as error:
            raise DataError(f"{member.filename} in {self.source} is damaged ({error}). {self.remedy}") from error
        if len(content) > limit:
            raise DataError(f"{member.filename} in {self.source} unpacks to more than {limit} bytes. {self.remedy}")
        return content

    def _open(self, file: Path | IO[bytes]) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(file)
        except OSError as error:
            raise DataError(f"cannot read {self.source}: {error.strerror}. {self.remedy}") from error
        except _DAMAGE as error:
            what = "an HTML page, not a zip" if self._looks_like_html() else f"not a zip, or truncated ({error})"
            raise DataError(f"{self.source} is {what}. {self.remedy}") from error

    def _looks_like_html(self) -> bool:
        with self.path.open("rb") as file:
            return file.read(512).lstrip().lower().startswith((b"<!doctype html", b"<html"))


def tar_members(
    path: str | os.PathLike[str],
    source: str,
    remedy: str,
    *,
    limit: int,
    total: int,
    wanted: Callable[[str], bool],
    on_bytes: Callable[[int], object] = lambda position: None,
) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the plain files in a ``.tar.gz``, one after the other, in one pass.

    Names are those in the archive, without a leading ``./``. Links, folders and extensions of the format are passed
    over; of the extensions only GNU's and POSIX' long names would matter, which no known source has.

    Args:
        path: the file.
        source: where it came from; errors name it.
        remedy: the last sentence of every error.
        limit: the largest size of a wanted file, in bytes.
        total: the largest size of everything, unpacked.
        wanted: whether a file is to be read.
        on_bytes: called now and then with the compressed bytes read so far.

    Raises:
        DataError: the file cannot be read, is no such archive, is truncated or damaged, or unpacks to too much.
    """
    try:
        with open(path, "rb") as raw, gzip.GzipFile(fileobj=raw) as file:
            position = 0
            while header := file.read(_BLOCK):
                if not header.strip(b"\0"):
                    break
                name, size, plain = _tar_header(header)
                padded = -(-size // _BLOCK) * _BLOCK
                position += _BLOCK + padded
                if position > total:
                    raise DataError(f"{source} unpacks to more than {total} bytes. {remedy}")
                if plain and wanted(name):
                    if size > limit:
                        raise DataError(f"{name} in {source} unpacks to more than {limit} bytes. {remedy}")
                    content = file.read(padded)
                    if len(content) < padded:
                        raise EOFError("it ends in the middle of a file")
                    yield name, content[:size]
                else:
                    _skip(file, padded)
                on_bytes(raw.tell())
            else:
                raise EOFError("the mark of its end is missing")
            while rest := file.read(1 << 20):  # to the end, where gzip keeps its checksum
                position += len(rest)
                if position > total:
                    raise DataError(f"{source} unpacks to more than {total} bytes. {remedy}")
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"cannot read {source}: {error.strerror}. {remedy}") from error
        raise DataError(f"{source} is not a .tar.gz, or is truncated or damaged ({error}). {remedy}") from error


_BLOCK = 512
_PLAIN = (b"0", b"\0")  # types of a plain file, today's and that of before 1988


def _tar_header(header: bytes) -> tuple[str, int, bool]:
    """Name, size, and whether it is a plain file."""
    if len(header) < _BLOCK:
        raise EOFError("it ends in the middle of a header")
    stated = int(header[148:156].strip(b" \0") or b"0", 8)
    if sum(header[:148]) + 8 * ord(" ") + sum(header[156:]) != stated:
        raise ValueError("the checksum of a header is wrong")
    size = int(header[124:136].strip(b" \0") or b"0", 8)
    if size < 0:
        raise ValueError("a file has a negative size")
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    name = b"/".join(filter(None, (prefix, header[:100].split(b"\0")[0]))).decode("utf-8", "replace")
    return name.removeprefix("./"), size, header[156:157] in _PLAIN


def _skip(file: gzip.GzipFile, count: int) -> None:
    while count:
        passed = len(file.read(min(count, 1 << 20)))
        if not passed:
            raise EOFError("it ends in the middle of a file")
        count -= passed
