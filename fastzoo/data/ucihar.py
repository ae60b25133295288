"""``ucihar``: the windows of UCI HAR as their authors cut and filtered them (UCI data set 240).

The archive holds, below ``train/`` and ``test/``, one text file per channel
(``Inertial Signals/total_acc_x_train.txt``, 128 numbers a line), ``y_train.txt`` and ``subject_train.txt``.
"""

from __future__ import annotations

import os

import numpy as np

from fastzoo.data import hapt
from fastzoo.data.archive import Archive
from fastzoo.data.prepared import TEST, TRAIN, Dataset
from fastzoo.data.source import Facts, File, Source, remedy
from fastzoo.errors import DataError

URL = "https://archive.ics.uci.edu/static/public/240/human+activity+recognition+using+smartphones.zip"
WHAT = "the zip of UCI data set 240"
REMEDY = remedy("ucihar", WHAT)

CLASSES = hapt.CLASSES
SIGNALS = tuple(f"{signal}_{axis}" for signal in ("total_acc", "body_gyro", "body_acc") for axis in "xyz")
CHANNELS = tuple(f"{signal} [{'rad/s' if 'gyro' in signal else 'g'}]" for signal in SIGNALS)
RATE = 50.0
STEPS = 128
SUBJECTS = 30
PARTS = {"train": TRAIN, "test": TEST}

MAX_ARCHIVE = 256 << 20  # bytes; the official zip has 60 MB, a table of numbers 16 MB
MAX_MEMBER = 64 << 20


def read_zip(path: str | os.PathLike[str], source: str | None = None) -> Dataset:
    """The windows of the zip, in its order: training, then test; ``group`` is the subject.

    Args:
        path: the zip.
        source: where it came from, for the errors; default ``path``.

    Raises:
        DataError: this is not a zip, it is damaged, or it is not UCI HAR.
    """
    x, y, group, split = [], [], [], []
    with Archive(path, source or os.fspath(path), REMEDY) as archive:
        for part, code in PARTS.items():
            labels = _integers(archive, f"y_{part}.txt", len(CLASSES))
            group.append(_integers(archive, f"subject_{part}.txt", SUBJECTS))
            rows = {f"subject_{part}.txt": len(group[-1])}
            channels = []
            for signal in SIGNALS:
                name = f"{signal}_{part}.txt"
                channels.append(archive.table(name, STEPS, MAX_MEMBER).astype(np.float32))
                rows[name] = len(channels[-1])
            if wrong := [f"{name} has {count}" for name, count in rows.items() if count != len(labels)]:
                raise DataError(
                    f"y_{part}.txt in {archive.source} has {len(labels)} rows, but {', '.join(wrong)}. {REMEDY}"
                )
            x.append(np.stack(channels, axis=2))
            y.append(labels - 1)
            split.append(np.full(len(labels), code, np.uint8))
    if not sum(map(len, y)):
        raise DataError(f"{source or path} holds no windows. {REMEDY}")
    return Dataset(
        id="ucihar",
        x=np.concatenate(x),
        y=np.concatenate(y),
        group=np.concatenate(group),
        split=np.concatenate(split),
        classes=CLASSES,
        channels=CHANNELS,
        rate=RATE,
    )


def _integers(archive: Archive, name: str, most: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    values = archive.table(name, 1, MAX_MEMBER)[:, 0]
    whole = values.astype(np.int64)
    if not ((whole == values) & (whole >= 1) & (whole <= most)).all():
        raise DataError(f"{name} in {archive.source} must hold whole numbers from 1 to {most}. {REMEDY}")
    return whole


SOURCE = Source(
    id="ucihar",
    what=WHAT,
    urls=(URL,),
    files=(File("ucihar.zip", MAX_ARCHIVE),),
    make=lambda files, source, progress: read_zip(files["ucihar.zip"], source),
    facts=Facts(
        {
            "walking": (1226, 0, 496),
            "walking_upstairs": (1073, 0, 471),
            "walking_downstairs": (986, 0, 420),
            "sitting": (1286, 0, 491),
            "standing": (1374, 0, 532),
            "laying": (1407, 0, 537),
        }
    ),
)
