"""Samples out of the files that people have: .npy, .npz, .csv, or CSV on standard input."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from fastzoo.errors import InputError
from fastzoo.samples import UNREADABLE, shortened


def read(path: str, channels: Sequence[str]) -> npt.NDArray[Any]:
    """The array in a file: [T, D] or [N, T, D] from .npy and .npz (its array ``x``), [T, D] from CSV (``-``: stdin).

    Raises:
        InputError: no such file, not one of these formats, damaged, or a CSV header that names other channels.
    """
    kind = Path(path).suffix.lower()
    try:
        if path == "-":
            return _csv(sys.stdin, "standard input", channels)
        if kind == ".csv":
            with open(path, encoding="utf-8", newline="") as file:
                return _csv(file, path, channels)
        if kind in (".npy", ".npz"):
            return _numpy(path)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    raise InputError(f"{path} is not .wav, .npy, .npz or .csv (a row per step, a column per channel; - reads stdin)")


def _numpy(path: str) -> npt.NDArray[Any]:
    with open(path, "rb") as file:  # np.load leaves a damaged .npz open
        try:
            loaded = np.load(file, allow_pickle=False)
            x: npt.NDArray[Any] | None = loaded if isinstance(loaded, np.ndarray) else loaded.get("x")
        except UNREADABLE as error:
            raise InputError(f"{path} cannot be read as NumPy arrays without Python objects: {error}") from error
    if x is None:
        raise InputError(f"{path} has no array x [N, T, D]")
    return x


def _csv(file: TextIO, name: str, channels: Sequence[str]) -> npt.NDArray[np.float64]:
    rows: list[list[float]] = []
    try:
        for cells in csv.reader(file):
            line = [cell.strip(" \t\ufeff") for cell in cells]
            if not any(line):
                continue
            if not rows and _is_header(line):
                _check_header(line, name, channels)
                continue
            rows.append([_number(cell, column, len(rows), name) for column, cell in enumerate(line)])
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{name} is not CSV in UTF-8: {error}") from error
    for number, row in enumerate(rows):
        if len(row) != len(channels):
            raise InputError(
                f"{name} has {len(row)} columns in row {number} of samples, the model {len(channels)} channels: "
                f"{shortened(channels)}"
            )
    return np.array(rows, np.float64).reshape(len(rows), len(channels))


def _number(cell: str, column: int, row: int, name: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise InputError(f"{name} holds {cell!r}, not a number, in row {row} of samples, column {column}") from None


def _is_header(cells: Sequence[str]) -> bool:
    """Whether no cell is a number: a row of samples with one bad cell must not pass for names."""
    for cell in cells:
        try:
            float(cell)
        except ValueError:
            continue
        return False
    return True


def _check_header(cells: Sequence[str], name: str, channels: Sequence[str]) -> None:
    """Columns go by position, so a header must name the channels in order, with units or without."""
    if [_bare(cell) for cell in cells] == [_bare(channel) for channel in channels]:
        wrong = [
            (cell, channel)
            for cell, channel in zip(cells, channels, strict=True)
            if "[" in cell and cell.lower() != channel.lower()
        ]
        if not wrong:
            return
        raise InputError(f"{name} has {wrong[0][0]!r} where the model wants {wrong[0][1]!r}: convert the unit")
    raise InputError(
        f"{name} has the columns {shortened(cells)}, the model wants {shortened(channels)} in this order: "
        "reorder the columns, or delete the header if they only have other names"
    )


def _bare(channel: str) -> str:
    return channel.partition("[")[0].strip().lower()
