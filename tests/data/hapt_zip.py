"""Zips in the original format of HAPT, written from integer signals on the sensors' grid."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastzoo.data.hapt import CLASSES, GRID
from fastzoo.data.synthetic import motion

STANDARD_GRAVITY = 9.80665


class Experiment(NamedTuple):
    number: int
    user: int
    signal: npt.NDArray[np.int16]  # [T, 6], accelerometer and gyroscope in steps of the grid


def small() -> tuple[list[Experiment], list[tuple[int, ...]]]:
    """Four short experiments of three users, and their labels: 330 samples of each class, then a transition."""
    experiments: list[Experiment] = []
    labels: list[tuple[int, ...]] = []
    for number, user in ((1, 1), (2, 1), (3, 2), (4, 30)):
        signal = motion([*CLASSES, "standing"], steps=330, seed=number).reshape(-1, 6)
        experiments.append(Experiment(number, user, np.rint(signal / GRID).astype(np.int16)))
        labels += [(number, user, activity, 330 * (activity - 1) + 1, 330 * activity) for activity in range(1, 7)]
        labels.append((number, user, 7, 1981, 2280))
    return experiments, labels


def members(experiments: Iterable[Experiment], labels: Iterable[tuple[int, ...]]) -> dict[str, bytes]:
    """The archive's files by name."""
    files = {"labels.txt": "".join(" ".join(map(str, row)) + "\n" for row in labels).encode()}
    acc, gyro = _accelerometer_text(), _gyroscope_text()
    for number, user, signal in experiments:
        suffix = f"exp{number:02}_user{user:02}.txt"
        files[f"acc_{suffix}"] = _table(acc, signal[:, :3])
        files[f"gyro_{suffix}"] = _table(gyro, signal[:, 3:])
    return files


def write(
    path: Path, files: dict[str, bytes], folder: str = "RawData/", compression: int = zipfile.ZIP_DEFLATED
) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("README.txt", b"Human activities and postural transitions")
        archive.writestr("activity_labels.txt", b"1 WALKING")
        for name, content in files.items():
            archive.writestr(folder + name, content)
    return path


def _accelerometer_text() -> npt.NDArray[np.object_]:
    """Every value of the grid as the original prints it: in g, but rounded to float32 in m/s2 before."""
    g = np.arange(-32768, 32768) * GRID[0]
    return _printed((g * STANDARD_GRAVITY).astype(np.float32).astype(np.float64) / STANDARD_GRAVITY)


def _gyroscope_text() -> npt.NDArray[np.object_]:
    return _printed((np.arange(-32768, 32768) * GRID[3]).astype(np.float32).astype(np.float64))


def _printed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.object_]:
    return np.array([f"{value:.16g}" for value in values], object)


def _table(text: npt.NDArray[np.object_], signal: npt.NDArray[np.int16]) -> bytes:
    return "".join(map("{} {} {}\n".format, *text[signal.astype(np.int64) + 32768].T)).encode()
