"""Read members of a zip that came from the network: nothing is unpacked to disk, no size it states is believed."""

from __future__ import annotations

import io
import lzma
import os
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO

from fastzoo.errors import DataError

MAX_NESTED = 512 << 20  # bytes of a zip inside the zip

# Whatever zipfile and its decompressors raise on damaged, encrypted (RuntimeError) or exotic input.
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError, struct.error)


class Archive:
    """Members of a zip by their bare names, whatever folder they lie in; used in a ``with`` statement.

    A zip that holds nothing but another zip (as some downloads of the UCI archive do) is read as that one.

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
        inner = [member for member in self._zip.infolist() if not member.is_dir()]
        if len(inner) == 1 and inner[0].filename.endswith(".zip"):
            with self._zip as outer:
                nested = self._read(outer, inner[0], MAX_NESTED)
            self._zip = self._open(io.BytesIO(nested))
        self._members: dict[str, list[zipfile.ZipInfo]] = {}
        for member in self._zip.infolist():
            self._members.setdefault(PurePosixPath(member.filename).name, []).append(member)

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def read(self, name: str, limit: int) -> bytes:
        """The content of the one member called ``name``.

        Raises:
            DataError: there is none, or more than one; it is damaged, or larger than ``limit`` bytes.
        """
        members = self._members.get(name, [])
        if len(members) != 1:
            found = "does not hold" if not members else f"holds {len(members)} files called"
            raise DataError(f"{self.source} {found} {name}. {self.remedy}")
        return self._read(self._zip, members[0], limit)

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
