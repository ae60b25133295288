"""EdgeML's form: a folder with ``train.npy`` and ``test.npy``, [N, 1 + T*D], the label first, then step after step."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastzoo.data.cut import Cut
from fastzoo.data.prepared import TEST, TRAIN, Dataset
from fastzoo.errors import DataError
from fastzoo.samples import shortened

FILES = ("train.npy", "test.npy")
MAGIC = b"\x93NUMPY"
OPTIONS = ("input_dim", "rate", "channels")
MOST_CLASSES = 1000  # EdgeML itself reads labels as bytes, so has 256


def is_folder(path: Path) -> bool:
    """Whether a folder holds one of the two files."""
    return any((path / name).is_file() for name in FILES)


def load(path: str | os.PathLike[str], cut: Cut) -> Dataset:
    """The windows of both files; ``test.npy`` is the test split.

    The smallest label of both files together becomes class 0, and classes are named as the files number them. EdgeML
    takes the smallest of each file for itself, so that a class missing from the test shifts all its labels: not here.
    The files do not say who was recorded: ``group`` is the row number, and validation windows are single windows.

    Args:
        path: the folder.
        cut: ``cut.input_dim``, the number of channels D, must be given; ``cut.channels`` may name them.

    Raises:
        DataError: a file is missing, damaged or not in this form, or D does not divide the length of a row.
    """
    path = Path(path)
    cut.only(*OPTIONS, source=f"{path}, a folder of EdgeML's,")
    train, test = (_rows(path / name) for name in FILES)
    values = train.shape[1] - 1
    if test.shape[1] != train.shape[1]:
        raise DataError(f"the rows of {path} differ: {values} values in train.npy, {test.shape[1] - 1} in test.npy")
    features = _features(path, values, cut.input_dim)
    labels = [_labels(path / name, table) for name, table in zip(FILES, (train, test), strict=True)]
    lowest, highest = (int(f(np.concatenate(labels))) for f in (np.min, np.max))
    if highest == lowest:
        raise DataError(f"{path} holds one class only, {lowest}: a classifier needs two")
    if highest - lowest >= MOST_CLASSES:
        raise DataError(f"the labels of {path} run from {lowest} to {highest}: is column 0 the class?")
    x = np.empty((len(train) + len(test), values // features, features), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # found below
        for part, table in ((x[: len(train)], train), (x[len(train) :], test)):
            part[...] = table[:, 1:].reshape(part.shape)
    if len(faulty := np.flatnonzero(~np.isfinite(x).all(axis=(1, 2)))):
        row, name = int(faulty[0]), FILES[0]
        if row >= len(train):
            row, name = row - len(train), FILES[1]
        column = 1 + int(np.flatnonzero(~np.isfinite(x[faulty[0]].ravel()))[0])
        raise DataError(
            f"{path / name} holds NaN or infinity in row {row}, column {column}: correct or leave out the row"
        )
    return Dataset(
        id=path.resolve().name,
        x=x,
        y=np.concatenate(labels) - lowest,
        group=np.arange(len(x), dtype=np.int64),
        split=np.repeat(np.array([TRAIN, TEST], np.uint8), [len(train), len(test)]),
        classes=tuple(str(label) for label in range(lowest, highest + 1)),
        channels=_channels(path, cut.channels, features),
        rate=cut.rate or 1.0,
        notes=_notes(cut, lowest),
    )


def _rows(path: Path) -> npt.NDArray[Any]:
    """One file as a table [N, 1 + T*D] on disk."""
    if not path.is_file():
        raise DataError(f"no file {path}: a folder in EdgeML's form has {' and '.join(FILES)}")
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:  # np.load would try a zip, then a pickle
                raise ValueError("it does not begin as one")
        table: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy's parser of headers raises all sorts on damaged files
        raise DataError(f"{path} cannot be read as an .npy file without Python objects: {error}") from error
    if table.ndim != 2 or table.dtype.kind not in "fiu" or len(table) == 0 or table.shape[1] < 2:
        raise DataError(
            f"{path} holds {table.dtype} of shape {table.shape}; a table of numbers is expected, "
            "one window per row: its label, then its values step after step"
        )
    return table


def _features(path: Path, values: int, features: int | None) -> int:
    """D, if it divides the length of a row."""
    if features is None or values % features:
        wrong = "" if features is None else f", and {features} does not divide {values}"
        possible = [d for d in range(1, values + 1) if values % d == 0]
        raise DataError(
            f"how many channels has a step? A row of {path} has a label and {values} values{wrong}: "
            f"pass --input-dim D; possible are {shortened(list(map(str, possible)), most=24)}"
        )
    return features


def _labels(path: Path, table: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    column = np.asarray(table[:, 0], np.float64)
    if (wrong := np.flatnonzero(~(np.abs(column) < 2**53) | (column != np.rint(column)))).size:
        raise DataError(
            f"{path} holds {column[wrong[0]]} in row {wrong[0]}, column 0: the label, a whole number, is expected there"
        )
    return column.astype(np.int64)


def _channels(path: Path, names: Any, features: int) -> tuple[str, ...]:
    if not names:
        return tuple(f"channel_{i}" for i in range(features))
    if len(names) != features:
        raise DataError(f"{len(names)} names of channels for {path}, which has {features}: name all of them or none")
    return tuple(names)


def _notes(cut: Cut, lowest: int) -> tuple[str, ...]:
    said = [
        "EdgeML's files do not say who was recorded: each row is a group of its own, so validation windows may come "
        "from the same person as training windows",
    ]
    if cut.rate is None:
        said.append("the rate is not known and set to 1 sample/s: say --rate SAMPLES_PER_S")
    if lowest:
        said.append(f"the smallest label of both files, {lowest}, is class 0")
    return tuple(said)
