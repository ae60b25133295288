"""Tables in long form: CSV or Parquet with one row per time, and columns for time, channels, label and group."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastzoo._json import listing
from fastzoo._order import natural
from fastzoo.data import columns
from fastzoo.data.columns import Columns
from fastzoo.data.cut import UNITS, Cut, option
from fastzoo.data.cutting import dataset
from fastzoo.data.prepared import Dataset
from fastzoo.data.recordings import Labels, Recording
from fastzoo.data.timeline import unit_of
from fastzoo.errors import DataError, require

if TYPE_CHECKING:
    import polars as pl

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
OPTIONS = (
    "window", "hop", "rate", "resample", "time", "label", "group", "split", "recording", "channels", "time_unit",
    "missing",
)  # fmt: skip

MISSING = ("", "na", "n/a", "nan", "null", "none", "?", "-")  # a cell without a number, in small letters
LONGEST_LINE = 1 << 20  # bytes; a text file whose first line is longer is not a table


def is_table(path: Path) -> bool:
    """Whether a file's name ends like that of a table."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


def load(path: str | os.PathLike[str], cut: Cut) -> Dataset:
    """Windows from one table, or from a folder of tables, one per recording.

    Args:
        path: a file, or a folder whose tables all have the same columns.
        cut: ``cut.window`` must be given.

    Raises:
        DataError: a file cannot be read, a column is missing, or its content is faulty; of several files, all faults.
        MissingExtraError: polars is not installed.
    """
    path = Path(path)
    cut.only(*OPTIONS, source=f"{path}, a table,")
    cut.grid()
    files = sorted(filter(is_table, path.iterdir()), key=lambda file: natural(file.name)) if path.is_dir() else [path]
    recordings, faults = [], []
    chosen: Columns | None = None
    for file in files:
        try:
            with _reading(file):
                frame, comma = _scan(file)
                names = frame.collect_schema().names()
            chosen = chosen or columns.choose(names, cut, str(file))
            recordings.append(_recording(file, frame, comma, names, chosen, cut))
        except DataError as error:
            faults.append(str(error))
    if faults or chosen is None:
        raise DataError(listing(faults, most=5))
    return dataset(_id(path), recordings, chosen, cut)


def _id(path: Path) -> str:
    name = path.resolve().name
    return next((name[: -len(suffix)] for suffix in SUFFIXES if name.lower().endswith(suffix)), name) or name


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever polars says of a file that is damaged, in one line."""
    polars = _polars()
    try:
        yield
    except DataError:
        raise
    except (Exception, polars.exceptions.PanicException) as error:  # a panic is no Exception
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(f"{path} cannot be read as {_kind(path)}: {reason}") from error


def _kind(path: Path) -> str:
    return "Parquet" if path.name.lower().endswith(".parquet") else "CSV with one header line"


def _polars() -> Any:
    return require("polars", extra="train", purpose="reading CSV and Parquet")


def _scan(path: Path) -> tuple[pl.LazyFrame, bool]:
    """A table to select columns from, and whether its numbers have a decimal comma."""
    polars = _polars()
    if not path.is_file():
        raise DataError(f"no file {path}")
    if path.name.lower().endswith(".parquet"):
        return polars.scan_parquet(path, glob=False), False
    separator, comma = _dialect(path)
    # Types are inferred from all rows: a column may begin with whole numbers, or with nothing.
    scan = polars.scan_csv(path, separator=separator, decimal_comma=comma, infer_schema_length=None, glob=False)
    return scan, comma


def _dialect(path: Path) -> tuple[str, bool]:
    """The separator and whether there are decimal commas, from the first two lines."""
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            text = b"".join(file.readline(LONGEST_LINE) for _ in range(2)).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not text in UTF-8: save it as CSV (UTF-8)") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    header, _, row = text.partition("\n")
    tabs = path.name.lower().endswith((".tsv", ".tsv.gz"))
    separator = "\t" if tabs else max(",;\t", key=header.count)
    names = next(csv.reader(io.StringIO(header), delimiter=separator), [])
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise DataError(f"{path} has the column {twice[0]!r} twice: give every column its own name")
    if names and all(re.fullmatch(r"\s*[-+]?[0-9.,]+(e[-+]?[0-9]+)?\s*", name, re.IGNORECASE) for name in names):
        raise DataError(f"{path} has no header: its first line must name the columns, for example time,acc_x,label")
    return separator, separator == ";" and re.search(r"(^|;)[-+]?[0-9]+,[0-9]+(;|\s*$)", row) is not None


def _recording(path: Path, scan: pl.LazyFrame, comma: bool, names: list[str], chosen: Columns, cut: Cut) -> Recording:
    """One file as arrays."""
    if missing := [name for name in chosen.used() if name not in names]:
        raise DataError(
            f"{path} lacks the column(s) {', '.join(map(repr, missing))} that the first file has: "
            "tables in one folder must have the same columns"
        )
    with _reading(path):
        frame = scan.select(chosen.used()).collect()
    if not frame.height:
        raise DataError(f"{path} has no rows")
    samples = np.empty((frame.height, len(chosen.channels)), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is found as infinite
        for position, name in enumerate(chosen.channels):
            samples[:, position] = _numbers(path, frame.drop_in_place(name), comma)  # its memory is free
    optional = {
        role: None if (name := getattr(chosen, role)) is None else _labels(path, frame[name])
        for role in ("group", "split", "recording")
    }
    return Recording(
        path=path,
        samples=samples,
        label=_labels(path, frame[chosen.label]),
        time=None if chosen.time is None else _seconds(path, frame[chosen.time], cut),
        **optional,
    )


def _numbers(path: Path, column: pl.Series, comma: bool) -> npt.NDArray[Any]:
    """A column of samples; cells without a number are NaN."""
    polars = _polars()
    if column.dtype == polars.String:
        cells = column.str.strip_chars()
        cells = cells.set(cells.str.to_lowercase().is_in(MISSING), None)
        column = (cells.str.replace(",", ".", literal=True) if comma else cells).cast(polars.Float64, strict=False)
        if (wrong := (column.is_null() & cells.is_not_null()).arg_true()).len():
            row = wrong[0]
            raise DataError(
                f"{path} holds {cells[row]!r}, not a number, in data row {row + 1}, column {cells.name!r}: "
                "if it is not a channel, say which are: --channels 'acc_*'"
            )
    elif not (column.dtype.is_numeric() or column.dtype in (polars.Boolean, polars.Null)):
        raise DataError(
            f"{path}: the column {column.name!r} holds {column.dtype}, not numbers: "
            "say which columns are channels: --channels 'acc_*'"
        )
    values: npt.NDArray[Any] = column.cast(polars.Float64).to_numpy()
    return values


def _labels(path: Path, column: pl.Series) -> Labels:
    """A column of names or whole numbers as codes."""
    polars = _polars()
    kind = column.dtype
    if kind.is_float():
        column = column.fill_nan(None)
        if (wrong := (column != column.round(0)).fill_null(False).arg_true()).len() or column.is_infinite().any():
            row = wrong[0] if wrong.len() else 0
            raise DataError(
                f"{path} holds {column[row]} in data row {row + 1}, column {column.name!r}: "
                "names or whole numbers are expected there"
            )
        column = column.cast(polars.Int64, strict=False)
    elif not (kind.is_integer() or kind in (polars.Boolean, polars.Null, polars.Categorical, polars.Enum)):
        if kind != polars.String:
            raise DataError(f"{path}: the column {column.name!r} holds {kind}, not names or whole numbers")
        column = column.str.strip_chars()
        column = column.set(column == "", None)
    text = column.cast(polars.String)
    names = sorted(text.drop_nulls().unique().to_list(), key=natural)
    codes = text.cast(polars.Enum(names)).to_physical().cast(polars.Int64).fill_null(-1).to_numpy()
    return Labels(codes.astype(np.int32), tuple(names))


def _seconds(path: Path, column: pl.Series, cut: Cut) -> npt.NDArray[np.float64]:
    """Times in seconds since the first row."""
    polars = _polars()
    kind = column.dtype
    where = f"column {column.name!r}"
    if kind == polars.String:
        try:
            column = column.str.to_datetime(time_unit="ns", strict=False)
        except polars.exceptions.PolarsError as error:
            raise DataError(
                f"{path}: {column[0]!r} in {where} is no time: numbers, or dates like 2024-05-17T09:30:00.020 are "
                "expected"
            ) from error
    if kind.is_temporal() or kind == polars.String:
        if cut.time_unit is not None:
            raise DataError(f"{path}: {where} holds dates or clock times, so leave out {option('time_unit')}")
        _no_gap(path, column)
        target = polars.Duration("ns") if column.dtype == polars.Duration else polars.Datetime("ns")
        counts = (column if column.dtype == polars.Time else column.cast(target)).to_physical().to_numpy()
        return np.asarray((counts - counts[0]) * UNITS["ns"], np.float64)
    if not kind.is_numeric():
        raise DataError(f"{path}: {where} holds {kind}, not times")
    _no_gap(path, column.fill_nan(None) if kind.is_float() else column)
    times = column.to_numpy().astype(np.int64 if kind.is_integer() else np.float64)
    unit = cut.time_unit or unit_of(column.name, times, cut.rate)
    if unit is None:
        raise DataError(
            f"{path}: are the times in {where} ({times[0]}, {times[min(1, len(times) - 1)]}, ...) seconds, "
            f"milliseconds or nanoseconds? Say so with {option('time_unit')} s, ms, us or ns"
        )
    return np.asarray(times - times[0], np.float64) * UNITS[unit]


def _no_gap(path: Path, column: pl.Series) -> None:
    if (empty := column.is_null().arg_true()).len():
        raise DataError(f"{path} has no time in data row {empty[0] + 1}, column {column.name!r}")
    if column.dtype.is_float() and not column.is_finite().all():
        raise DataError(f"{path} has an infinite time in column {column.name!r}")
