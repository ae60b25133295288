"""``har``: windows cut from the HAPT recordings, downloaded from the UCI archive (data set 341).

The archive holds, below ``RawData/``, one text file per sensor and experiment (``acc_exp01_user01.txt``, three numbers
a line, 50 lines a second) and ``labels.txt`` (experiment, user, activity, first and last sample, counted from 1).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastzoo.data.archive import Archive
from fastzoo.data.prepared import TEST, TRAIN, Dataset
from fastzoo.data.source import File, Source, remedy
from fastzoo.errors import DataError

URL = (
    "https://archive.ics.uci.edu/static/public/341/"
    "smartphone+based+recognition+of+human+activities+and+postural+transitions.zip"
)
# Nobody publishes a digest of the zip; what counts, and what is checked, is Dataset.sha256 of the windows.
SHA256 = "4f4fa4d9fb7dcea64ca90876a01bbdfdc0240509e34ecf5ca3d8d979330239a4"

CLASSES = ("walking", "walking_upstairs", "walking_downstairs", "sitting", "standing", "laying")
CHANNELS = ("acc_x [g]", "acc_y [g]", "acc_z [g]", "gyro_x [rad/s]", "gyro_y [rad/s]", "gyro_z [rad/s]")
RATE = 50.0
STEPS, HOP = 128, 64
ACTIVITIES = 12  # six in CLASSES, then six transitions between postures
TEST_USERS = (2, 4, 9, 10, 12, 13, 18, 20, 24)  # the official split

# One step of the sensors. The text files print its multiples with rounding errors that vary; on the grid they vanish.
GRID = np.repeat([1 / 720, np.deg2rad(0.0175)], 3)  # g, rad/s
INT16 = (-32768, 32767)  # the sensors' range in steps

MAX_ARCHIVE = 512 << 20  # bytes; the official zip has 80 MB, its largest member less than 2 MB
MAX_MEMBER = 8 << 20
WHAT = "the zip of UCI data set 341"
REMEDY = remedy("har", WHAT)

Signal = npt.NDArray[np.float32]


class Segment(NamedTuple):
    """One row of ``labels.txt``; ``first`` and ``last`` count samples from 1, both inclusive."""

    experiment: int
    user: int
    activity: int
    first: int
    last: int


def read_zip(path: str | os.PathLike[str], source: str | None = None) -> Dataset:
    """Cut the windows of ``har`` from the zip of HAPT.

    A window is 128 samples, the next begins 64 later, and none leaves its labelled segment. Rows stand in the order
    of ``labels.txt``; ``group`` is the user.

    Args:
        path: the zip.
        source: where it came from, for the errors; default ``path``.

    Raises:
        DataError: this is not a zip, it is damaged, or it is not HAPT.
    """
    source = source or os.fspath(path)
    with Archive(path, source, REMEDY) as archive:
        x, y, group = [], [], []
        for (experiment, user), segments in groupby(_segments(archive), lambda segment: segment[:2]):
            signal = _recording(archive, experiment, user)
            for segment in segments:
                cut = list(_windows(signal, segment))
                x += cut
                y += [segment.activity - 1] * len(cut)
                group += [user] * len(cut)
    if not x:
        raise DataError(f"labels.txt in {source} holds no segment of {STEPS} samples of {', '.join(CLASSES)}. {REMEDY}")
    return Dataset(
        id="har",
        x=np.stack(x),
        y=np.array(y, np.int64),
        group=np.array(group, np.int64),
        split=np.where(np.isin(group, TEST_USERS), TEST, TRAIN).astype(np.uint8),
        classes=CLASSES,
        channels=CHANNELS,
        rate=RATE,
    )


def _segments(archive: Archive) -> list[Segment]:
    """The segments of the six activities, in the order of the file: by experiment and time, without overlap."""
    segments = []
    end = (0, 0)  # experiment and last sample of the row before
    for row in archive.table("labels.txt", len(Segment._fields), MAX_MEMBER):
        segment = Segment(*(int(value) for value in row))
        in_order = end < (segment.experiment, segment.first) and 1 <= segment.first <= segment.last
        if tuple(row) != segment or not (in_order and 1 <= segment.activity <= ACTIVITIES):
            raise DataError(
                f"labels.txt has the row {row.tolist()}; expected experiment, user, activity 1..{ACTIVITIES}, first "
                f"and last sample, in the order of time and without overlap. {REMEDY}"
            )
        segments.append(segment)
        end = segment.experiment, segment.last
    return [segment for segment in segments if segment.activity <= len(CLASSES)]


def _recording(archive: Archive, experiment: int, user: int) -> Signal:
    """Both sensors of one experiment, [T, 6]."""
    suffix = f"exp{experiment:02}_user{user:02}.txt"
    acc, gyro = (archive.table(f"{sensor}_{suffix}", 3, MAX_MEMBER) for sensor in ("acc", "gyro"))
    samples = min(len(acc), len(gyro))
    grid = np.rint(np.hstack([acc[:samples], gyro[:samples]]) / GRID)
    signal: Signal = (np.clip(grid, *INT16) * GRID).astype(np.float32)
    return signal


def _windows(signal: Signal, segment: Segment) -> Iterator[Signal]:  # each [STEPS, 6]
    if segment.last > len(signal):
        raise DataError(
            f"labels.txt labels samples {segment.first} to {segment.last} of experiment {segment.experiment}, "
            f"but its recording has {len(signal)}. {REMEDY}"
        )
    for start in range(segment.first - 1, segment.last - STEPS + 1, HOP):
        yield signal[start : start + STEPS]


SOURCE = Source(
    id="har",
    what=WHAT,
    urls=(URL,),
    files=(File("hapt.zip", MAX_ARCHIVE),),
    make=lambda files, source, progress: read_zip(files["hapt.zip"], source),
    sha256=SHA256,
    former="FASTZOO_HAPT_URL",
)
