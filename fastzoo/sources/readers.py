"""Bytes as they come, in any pieces, to rows of numbers: CSV, JSON lines, raw float32 and int16."""

from __future__ import annotations

import csv
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from math import isnan
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastzoo.audio import FULL_SCALE
from fastzoo.errors import InputError
from fastzoo.samples import shortened

Doubles = npt.NDArray[np.float64]

FORMATS = ("csv", "jsonl", "f32", "s16")
SUFFIXES = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
            ".f32": "f32", ".s16": "s16"}  # fmt: skip
TRIED = 10  # damaged rows, with none that is whole before them, after which it is no table of numbers
LONGEST_LINE = 1 << 20  # bytes


class Reader(ABC):
    """Makes rows of bytes.

    Attributes:
        kind: one of :data:`FORMATS`.
        names: of the columns, once they are known; None where the source names none.
        columns: how many there are; 0 = not known yet.
        rest: bytes of a row that is not whole yet.
        damaged: rows that could not be read and became NaN.
    """

    kind: str

    def __init__(self, source: str) -> None:
        self.source = source
        self.names: tuple[str, ...] | None = None
        self.columns = 0
        self.rest = b""
        self.damaged = 0

    @abstractmethod
    def push(self, data: bytes) -> Doubles:
        """The rows [n, columns] that ``data`` completes, NaN where a value is missing; [0, 0] while none is known.

        Raises:
            InputError: this is no such table.
        """

    def finish(self) -> Doubles:
        """The row that ends without the end of its line, if there is one."""
        return np.empty((0, 0))


def guess(path: str, head: bytes) -> str:
    """The format of a source by its name, else by its first bytes.

    Raises:
        InputError: they tell nothing.
    """
    if kind := SUFFIXES.get(Path(path).suffix.lower()):
        return kind
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] in (b"{", b"["):
        return "jsonl"
    if text and all(32 <= byte < 127 or byte in b"\t\r\n" or byte >= 128 for byte in head) and _is_utf8(head):
        return "csv"
    raise InputError(f"{path} is no text; say what it is: --format f32 (float32) or s16 (int16), little-endian")


def _is_utf8(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3  # cut in the middle of a character
    return True


def reader(kind: str, source: str, width: int | None, sound: bool = False) -> Reader:
    """The reader of a format.

    Args:
        kind: one of :data:`FORMATS`.
        source: what it is called, for messages.
        width: columns of a source that does not say so itself.
        sound: whether integers are sound, whose full scale is 1.

    Raises:
        InputError: no such format.
    """
    if kind == "csv":
        return CsvReader(source)
    if kind == "jsonl":
        return JsonReader(source)
    if kind in ("f32", "s16"):
        return RawReader(source, kind, width or 1, 1 / FULL_SCALE if sound and kind == "s16" else 1.0)
    raise InputError(f"no format {kind!r}; there are {', '.join(FORMATS)}")


class RawReader(Reader):
    """Numbers one after the other, ``width`` of them a row; what is cut off at the end is dropped."""

    types: ClassVar[Mapping[str, np.dtype[Any]]] = {"f32": np.dtype("<f4"), "s16": np.dtype("<i2")}

    def __init__(self, source: str, kind: str, width: int, scale: float = 1.0) -> None:
        super().__init__(source)
        self.kind, self.columns, self._scale = kind, width, scale

    def push(self, data: bytes) -> Doubles:
        """See :meth:`Reader.push`."""
        held = self.rest + data
        size = self.columns * self.types[self.kind].itemsize
        whole = len(held) // size * size
        self.rest = held[whole:]
        values = np.frombuffer(held[:whole], self.types[self.kind]).reshape(-1, self.columns)
        with np.errstate(invalid="ignore"):  # NaN of a kind that makes a processor signal it
            rows: Doubles = values.astype(np.float64)
        return rows * self._scale


class LineReader(Reader):
    """What has a row on each line."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self._lines = 0
        self._whole = 0  # rows that could be read

    def push(self, data: bytes) -> Doubles:
        """See :meth:`Reader.push`."""
        *lines, self.rest = (self.rest + data).split(b"\n")
        if len(self.rest) > LONGEST_LINE:
            raise InputError(f"{self.source}, line {self._lines + 1} is longer than {LONGEST_LINE} bytes: no table")
        return self._rows(lines)

    def finish(self) -> Doubles:
        """See :meth:`Reader.finish`."""
        lines, self.rest = [self.rest], b""
        return self._rows(lines)

    def _rows(self, lines: Sequence[bytes]) -> Doubles:
        rows: list[Sequence[float]] = []
        for line in lines:
            self._lines += 1
            try:
                text = line.decode("utf-8").strip("\ufeff \t\r\0")
                found = self.parse(text) if text else []
                if any(len(row) != self.columns for row in found):
                    raise ValueError(f"{len(found[0])} values where there are {self.columns} columns")
            except ValueError as error:
                self._damage(error, line)
                found = [[np.nan] * self.columns] if self.columns else []
            else:
                self._whole += len(found)
            rows += found
        return np.array(rows, np.float64).reshape(len(rows), self.columns)

    def _damage(self, error: ValueError, line: bytes) -> None:
        self.damaged += 1
        if self.damaged >= TRIED and not self._whole:
            raise InputError(
                f"{self.source} is no table of numbers; line {self._lines} is {shortened([repr(line[:60])])} ({error})"
            )

    @abstractmethod
    def parse(self, line: str) -> Sequence[Sequence[float]]:
        """The rows of a line; it sets :attr:`columns`.

        Raises:
            ValueError: the line is damaged.
        """


class CsvReader(LineReader):
    """Cells between commas, semicolons, tabs or blanks; a first line without numbers names the columns."""

    kind = "csv"

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self._delimiter: str | None = None

    def parse(self, line: str) -> Sequence[Sequence[float]]:
        """See :meth:`LineReader.parse`."""
        if line.startswith("#"):
            return []
        if self._delimiter is None:
            self._delimiter = next((mark for mark in ";\t, " if mark in line), ",")
        cells = [cell.strip() for cell in next(csv.reader([line], delimiter=self._delimiter, skipinitialspace=True))]
        if not self.columns:
            self.columns = len(cells)
            if not any(_is_number(cell) for cell in cells):  # nor is it a row of missing values
                self.names = tuple(cells)
                return []
        elif self.names == tuple(cells):  # a file that was begun anew, a board that was started again
            return []
        comma = self._delimiter == ";"  # then the point may be one
        row = [_value(cell.replace(",", ".") if comma else cell) for cell in cells]
        if not self._whole and all(map(isnan, row)):
            raise ValueError("no number in it")
        return [row]


class JsonReader(LineReader):
    """An object of values by channel, a row, or several rows, on each line."""

    kind = "jsonl"

    def parse(self, line: str) -> Sequence[Sequence[float]]:
        """See :meth:`LineReader.parse`."""
        try:
            value = json.loads(line)
        except RecursionError as error:
            raise ValueError("nested too deep") from error
        if isinstance(value, dict):
            if self.names is None:
                self.names = tuple(map(str, value))
                self.columns = len(self.names)
            return [[_json_value(value.get(name)) for name in self.names]]
        if not isinstance(value, list):
            raise ValueError("neither an object nor an array")
        rows = value if value and all(isinstance(row, list) for row in value) else [value] if value else []
        if rows and not self.columns:
            self.columns = len(rows[0])
        return [[_json_value(cell) for cell in row] for row in rows]


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True


def _value(cell: str) -> float:
    """A number; of a date and time the seconds since 1970; NaN of any other text, which may stand in other columns."""
    try:
        return float(cell)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(cell.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return float("nan")


def _json_value(value: Any) -> float:
    if isinstance(value, str):
        return _value(value)
    return float(value) if isinstance(value, int | float) else float("nan")
