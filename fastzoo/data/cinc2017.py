"""``cinc2017``: one ECG lead, four rhythms (PhysioNet/CinC Challenge 2017, its public training records).

``training2017.zip`` holds a record in each ``A00001.mat``: one int16 matrix of microvolts, 300 a second, in MATLAB's
format of level 4. The rhythms are in a table of record and letter; of its three versions the last is used.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastzoo.data.archive import Archive
from fastzoo.data.prepared import Dataset
from fastzoo.data.progress import shown
from fastzoo.data.source import Facts, File, Source, remedy
from fastzoo.errors import DataError, require

URL = "https://physionet.org/files/challenge-2017/1.0.0/"
RECORDS, LABELS = "training2017.zip", "REFERENCE-v3.csv"
WHAT = f"{RECORDS} and {LABELS} of PhysioNet's challenge-2017"
REMEDY = remedy("cinc2017", WHAT, several=True)

CLASSES = ("normal", "atrial_fibrillation", "other_rhythm", "noisy")
LETTERS = ("N", "A", "O", "~")
SOURCE_RATE, RATE = 300, 100.0
STEPS = 3000  # 30 s
PARTS = (0, 0, 0, 0, 0, 0, 0, 1, 2, 2)  # split by record number: no patients are known

MAX_ARCHIVE = 512 << 20  # bytes; the official zip has 95 MB, the longest record 37 kB
MAX_MEMBER = 1 << 20
INT16 = 30  # MATLAB level 4: little-endian, full matrix, int16
HEADER = struct.Struct("<5i")  # type, rows, columns, imaginary part, length of the name


def read_files(
    records: str | os.PathLike[str], labels: str | os.PathLike[str], source: str | None = None, progress: bool = False
) -> Dataset:
    """The first 30 s of every record at 100 Hz, in mV, with zeros after a shorter one; ``group`` is its number from 0.

    The polyphase filter is SciPy's default, and samples are rounded to whole microvolts, as the original's are.

    Args:
        records: ``training2017.zip``.
        labels: ``REFERENCE-v3.csv``.
        source: where they came from, for the errors; default ``records``.
        progress: show a bar on stderr.

    Raises:
        DataError: this is not a zip, it is damaged, or it lacks a record.
        MissingExtraError: SciPy is not installed.
    """
    resample = require("scipy.signal", extra="train", purpose="resampling the data set 'cinc2017'").resample_poly
    source = source or os.fspath(records)
    rows = _labels(Path(labels), source)
    x = np.zeros((len(rows), STEPS, 1), np.float32)
    with Archive(records, source, REMEDY) as archive:
        for window, (name, _) in zip(x, shown(rows, "resampling records", progress), strict=True):
            signal = _matrix(archive.read(f"{name}.mat", MAX_MEMBER), name, source)
            made = np.rint(resample(signal.astype(np.float64), 1, SOURCE_RATE // int(RATE)))[:STEPS]
            window[: len(made), 0] = made.clip(-32768, 32767).astype(np.float32) / 1000
    number = np.arange(len(rows), dtype=np.int64)
    return Dataset(
        id="cinc2017",
        x=x,
        y=np.array([LETTERS.index(letter) for _, letter in rows], np.int64),
        group=number,
        split=np.array(PARTS, np.uint8)[number % len(PARTS)],
        classes=CLASSES,
        channels=("ecg [mV]",),
        rate=RATE,
    )


def _labels(path: Path, source: str) -> list[tuple[str, str]]:
    """Record and letter, in the order of the records."""
    try:
        with path.open("rb") as file:
            lines = file.read(MAX_MEMBER).decode("ascii").split()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}. {REMEDY}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{LABELS} from {source} is not text ({error}). {REMEDY}") from error
    rows = []
    for line in lines:
        name, _, letter = line.partition(",")
        if not (name[:1] == "A" and name[1:].isdigit() and letter in LETTERS):
            raise DataError(
                f"{LABELS} from {source} has the line {line[:60]!r}; expected a record and one of "
                f"{', '.join(LETTERS)}, as in A00001,N. {REMEDY}"
            )
        rows.append((name, letter))
    if len({name for name, _ in rows}) != len(rows) or not rows:
        raise DataError(f"{LABELS} from {source} must name every record once. {REMEDY}")
    return sorted(rows)


def _matrix(content: bytes, name: str, source: str) -> npt.NDArray[Any]:
    """The samples [n] of a record: one int16 row in MATLAB's level 4, which can hold nothing but numbers."""
    if len(content) >= HEADER.size:
        kind, rows, columns, imaginary, length = HEADER.unpack_from(content)
        start = HEADER.size + length
        fits = min(rows, columns, length) > 0 and start + 2 * rows * columns <= len(content)
        if kind == INT16 and 1 in (rows, columns) and not imaginary and fits:
            return np.frombuffer(content, "<i2", rows * columns, start)
    raise DataError(f"{name}.mat in {source} is not one row of int16 in MATLAB's format of level 4. {REMEDY}")


SOURCE = Source(
    id="cinc2017",
    what=WHAT,
    urls=(URL,),
    files=(File(LABELS, MAX_MEMBER), File(RECORDS, MAX_ARCHIVE)),
    make=lambda files, source, progress: read_files(files[RECORDS], files[LABELS], source, progress),
    facts=Facts(
        {
            "normal": (3547, 521, 1008),
            "atrial_fibrillation": (554, 68, 136),
            "other_rhythm": (1676, 237, 502),
            "noisy": (194, 27, 58),
        },
        mean=(0.00715,),
        deviation=(0.23704,),
        tolerance=0.01,
    ),
    keep=True,
)
