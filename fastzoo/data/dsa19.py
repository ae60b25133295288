"""``dsa19``: the Daily and Sports Activities, five seconds a window (UCI data set 256).

The archive holds ``data/a01/p1/s01.txt`` to ``data/a19/p8/s60.txt``: activity, person, segment. Each file has 125 lines
of 45 numbers, separated by commas.
"""

from __future__ import annotations

import os
import re

import numpy as np

from fastzoo.data.archive import Archive
from fastzoo.data.prepared import TEST, TRAIN, Dataset
from fastzoo.data.progress import shown
from fastzoo.data.source import Facts, File, Source, remedy
from fastzoo.errors import DataError

URL = "https://archive.ics.uci.edu/static/public/256/daily+and+sports+activities.zip"
WHAT = "the zip of UCI data set 256"
REMEDY = remedy("dsa19", WHAT)

CLASSES = (
    "sitting", "standing", "lying_on_back", "lying_on_right_side", "ascending_stairs", "descending_stairs",
    "standing_in_elevator", "moving_in_elevator", "walking_in_parking_lot", "walking_on_flat_treadmill",
    "walking_on_inclined_treadmill", "running_on_treadmill", "exercising_on_stepper", "exercising_on_cross_trainer",
    "cycling_horizontal", "cycling_vertical", "rowing", "jumping", "playing_basketball",
)  # fmt: skip
PLACES = ("torso", "right_arm", "left_arm", "right_leg", "left_leg")
UNITS = {"acc": "m/s2", "gyro": "rad/s", "mag": "1"}
CHANNELS = tuple(
    f"{place}_{sensor}_{axis} [{unit}]" for place in PLACES for sensor, unit in UNITS.items() for axis in "xyz"
)
RATE = 25.0
STEPS = 125
SEGMENT = re.compile(r"a(0[1-9]|1[0-9])/p[1-8]/s([0-5][1-9]|[1-6]0).txt")
TEST_PEOPLE = (5, 6, 7, 8)

MAX_ARCHIVE = 1 << 30  # bytes; the official zip has 163 MB, a segment 50 kB
MAX_MEMBER = 1 << 20

# Of every channel over all windows; copies that round the samples agree within a thousandth.
MEAN = (
    7.7658, -0.811, 2.7688, -0.0028, 0.0137, -0.0033, -0.5984, 0.0617, -0.2725, 4.2606, 4.9388, 3.1193, 0.0163, -0.0215,
    -0.0032, -0.2112, -0.3257, -0.2612, 4.279, -3.9106, 3.8222, -0.0182, -0.0229, 0.0026, -0.2783, 0.3233, -0.3436,
    -7.3794, 2.719, -1.5195, 0.0209, 0.0305, -0.0041, 0.4282, -0.2701, 0.0688, -7.3245, -3.2179, -0.5304, -0.0156,
    0.0279, -0.0025, 0.4581, 0.2955, 0.0645,
)  # fmt: skip
DEVIATION = (
    5.6379, 2.623, 3.5383, 0.794, 0.691, 0.3108, 0.3561, 0.3404, 0.3734, 5.8213, 4.5802, 3.8695, 0.8694, 0.7647, 1.0231,
    0.4636, 0.383, 0.4376, 6.0239, 4.4364, 4.3997, 0.9397, 0.8116, 0.9823, 0.4684, 0.438, 0.4482, 5.8802, 5.9969,
    3.1237, 0.8578, 0.4941, 1.143, 0.3644, 0.3832, 0.3616, 5.8107, 5.9255, 3.3926, 0.8683, 0.4835, 1.1589, 0.3802,
    0.3839, 0.3574,
)  # fmt: skip


def read_zip(path: str | os.PathLike[str], source: str | None = None, progress: bool = False) -> Dataset:
    """Every segment of the zip as a window, by activity, person and number; ``group`` is the person.

    Args:
        path: the zip.
        source: where it came from, for the errors; default ``path``.
        progress: show a bar on stderr.

    Raises:
        DataError: this is not a zip, it is damaged, or a segment is not what it should be.
    """
    with Archive(path, source or os.fspath(path), REMEDY) as archive:
        names = sorted(archive.names(SEGMENT))
        if not names:
            raise DataError(f"{archive.source} holds no segments, such as a01/p1/s01.txt. {REMEDY}")
        x = np.empty((len(names), STEPS, len(CHANNELS)), np.float32)
        for window, name in zip(x, shown(names, "reading segments", progress), strict=True):
            table = archive.table(name, len(CHANNELS), MAX_MEMBER, separator=b",")
            if len(table) != STEPS:
                raise DataError(f"{name} in {archive.source} has {len(table)} lines, expected {STEPS}. {REMEDY}")
            window[:] = table
    activity, person, _ = np.array([[int(part[1:]) for part in name[:-4].split("/")] for name in names], np.int64).T
    return Dataset(
        id="dsa19",
        x=x,
        y=activity - 1,
        group=person,
        split=np.where(np.isin(person, TEST_PEOPLE), TEST, TRAIN).astype(np.uint8),
        classes=CLASSES,
        channels=CHANNELS,
        rate=RATE,
    )


SOURCE = Source(
    id="dsa19",
    what=WHAT,
    urls=(URL,),
    files=(File("dsa19.zip", MAX_ARCHIVE),),
    make=lambda files, source, progress: read_zip(files["dsa19.zip"], source, progress),
    facts=Facts(dict.fromkeys(CLASSES, (240, 0, 240)), MEAN, DEVIATION, tolerance=1e-3),
    keep=True,
)
