from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastzoo import data
from fastzoo.data import dsa19
from fastzoo.errors import DataError

from . import archives
from .conftest import prepared


def read(path: Path, members: dict[str, bytes]) -> data.Dataset:
    path.write_bytes(archives.zipped(members))
    return dsa19.read_zip(path)


def test_a_window_is_a_segment_with_its_activity_and_person(tmp_path: Path) -> None:
    members = archives.dsa19_members()
    made = read(tmp_path / "a.zip", dict(reversed(members.items())))  # whatever the order in the zip
    for row, (name, text) in enumerate(sorted(members.items())):
        expected = np.array(text.replace(b",", b" ").split(), np.float64).reshape(125, 45).astype(np.float32)
        assert np.array_equal(made.x[row], expected)
        _, activity, person, _ = name.split("/")
        assert (made.y[row], made.group[row]) == (int(activity[1:]) - 1, int(person[1:]))
    assert set(made.train.group.tolist()) == {1, 2, 3, 4}
    assert set(made.test.group.tolist()) == {5, 6, 7, 8}
    assert (len(made.classes), made.rate) == (19, 25.0)
    assert made.channels[0] == "torso_acc_x [m/s2]"
    assert made.channels[13] == "right_arm_gyro_y [rad/s]"
    assert made.channels[44] == "left_leg_mag_z [1]"


def test_other_files_in_the_archive_are_passed_over(tmp_path: Path) -> None:
    members = archives.dsa19_members()
    others = ("data/a20/p1/s01.txt", "data/a01/p9/s01.txt", "data/a01/p1/s61.txt", "data/a01/p1/._s01.txt", "a1.txt")
    more = members | dict.fromkeys(others, b"none of the segments")
    assert read(tmp_path / "b.zip", more).sha256 == read(tmp_path / "a.zip", members).sha256


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1,2,3\n", r"a02/p5/s60\.txt is not a table of 45 numbers a line"),
        (b"0,\n" * 45 * 124, r"a02/p5/s60\.txt in .* has 124 lines, expected 125"),
        (b"nan,\n" * 45 * 125, "holds NaN or infinity"),
        (b"<html>", "is not a table of 45"),
        (b"0," * (1 << 20), "unpacks to more than 1048576 bytes"),
    ],
)
def test_a_fault_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.zip", archives.dsa19_members() | {"data/a02/p5/s60.txt": content})


def test_a_segment_twice_and_no_segment_are_refused(tmp_path: Path) -> None:
    twice = archives.dsa19_members() | {"copy/a01/p1/s01.txt": b"0"}
    with pytest.raises(DataError, match=r"holds 2 files called a01/p1/s01\.txt"):
        read(tmp_path / "a.zip", twice)
    with pytest.raises(DataError, match=r"holds no segments, such as a01/p1/s01\.txt.*FASTZOO_DSA19_URL"):
        read(tmp_path / "a.zip", {"readme.txt": b""})


@pytest.mark.real_data
def test_the_text_files_of_real_windows_give_the_prepared_form(tmp_path: Path) -> None:
    """Two segments of everybody in every activity."""
    real = prepared("dsa19")
    assert dsa19.SOURCE.faults(real) == []
    rows = np.flatnonzero(np.isin(np.arange(len(real.y)) % 60, (0, 59)))
    members = {
        f"data/a{real.y[row] + 1:02}/p{real.group[row]}/s{row % 60 + 1:02}.txt": archives.table(
            real.x[row], ",", "%.9g"
        )
        for row in rows
    }
    made = read(tmp_path / "a.zip", members)
    for name in ("x", "y", "group", "split"):
        assert np.array_equal(getattr(made, name), getattr(real, name)[rows])
    assert (made.classes, made.channels, made.rate) == (real.classes, real.channels, real.rate)
