from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastzoo import data
from fastzoo.data import ucihar
from fastzoo.errors import DataError

from . import archives
from .conftest import prepared

Files = dict[str, bytes]


def read(path: Path, members: Files) -> data.Dataset:
    path.write_bytes(archives.ucihar_zip(members))
    return ucihar.read_zip(path)


def test_windows_are_those_of_the_text_files(tmp_path: Path) -> None:
    members = archives.ucihar_members()
    made = read(tmp_path / "a.zip", members)
    assert made.channels[:4] == ("total_acc_x [g]", "total_acc_y [g]", "total_acc_z [g]", "body_gyro_x [rad/s]")
    assert made.channels[8] == "body_acc_z [g]"
    for channel, signal in enumerate(ucihar.SIGNALS):
        for part, rows in (("train", slice(0, 6)), ("test", slice(6, 12))):
            text = members[f"UCI HAR Dataset/{part}/Inertial Signals/{signal}_{part}.txt"]
            expected = np.array(text.split(), np.float64).reshape(6, 128).astype(np.float32)
            assert np.array_equal(made.x[rows, :, channel], expected)
    assert made.y.tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert made.group.tolist() == [1, 1, 1, 3, 3, 3, 2, 2, 2, 4, 4, 4]
    assert made.split.tolist() == [0] * 6 + [2] * 6


@pytest.mark.parametrize(
    "wrap", [archives.zipped, lambda files: archives.zipped({"UCI HAR Dataset.zip": archives.zipped(files)})]
)
def test_the_zip_is_read_whether_or_not_it_lies_in_another(wrap: Callable[[Files], bytes], tmp_path: Path) -> None:
    members = archives.ucihar_members()
    (tmp_path / "b.zip").write_bytes(wrap(members))
    assert ucihar.read_zip(tmp_path / "b.zip").sha256 == read(tmp_path / "a.zip", members).sha256


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train/y_train.txt", b"1\n2\n3\n4\n5\n7\n", r"y_train\.txt in .* must hold whole numbers from 1 to 6"),
        ("train/y_train.txt", b"1\n2\n3\n4\n5\n1.5\n", "must hold whole numbers from 1 to 6"),
        ("train/y_train.txt", b"1\n2\n", r"y_train\.txt in .* has 2 rows, but subject_train\.txt has 6, total_acc_x"),
        ("test/subject_test.txt", b"31\n" * 6, r"subject_test\.txt in .* whole numbers from 1 to 30"),
        ("test/subject_test.txt", b"1\n" * 6, r"group\(s\) \[1\] stand in more than one split"),
        ("test/Inertial Signals/body_acc_z_test.txt", b"1 2 3\n", r"is not a table of 128 numbers a line"),
        ("test/Inertial Signals/body_acc_z_test.txt", b"nan " * 768, "holds NaN or infinity"),
        ("test/Inertial Signals/body_acc_z_test.txt", b"0 " * (35 << 20), "unpacks to more than 67108864 bytes"),
    ],
)
def test_a_fault_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.zip", archives.ucihar_members() | {f"UCI HAR Dataset/{name}": content})


def test_archives_without_windows_or_without_a_file_are_refused(tmp_path: Path) -> None:
    members = archives.ucihar_members()
    empty = {name: content if name.endswith("README.txt") else b"" for name, content in members.items()}
    with pytest.raises(DataError, match="holds no windows"):
        read(tmp_path / "a.zip", empty)
    lacking = archives.ucihar_members()
    del lacking["UCI HAR Dataset/train/Inertial Signals/body_gyro_y_train.txt"]
    with pytest.raises(DataError, match=r"does not hold body_gyro_y_train\.txt"):
        read(tmp_path / "a.zip", lacking)


@pytest.mark.real_data
def test_the_text_files_of_real_windows_give_the_prepared_form(tmp_path: Path) -> None:
    real = prepared("ucihar")
    members = {}
    for part, split in (("train", real.train), ("test", real.test)):
        members[f"{part}/y_{part}.txt"] = archives.table(split.y + 1, style="%d")
        members[f"{part}/subject_{part}.txt"] = archives.table(split.group, style="%d")
        for channel, signal in enumerate(ucihar.SIGNALS):
            members[f"{part}/Inertial Signals/{signal}_{part}.txt"] = archives.table(
                split.x[:, :, channel], style="%.9e"
            )
    assert read(tmp_path / "a.zip", members).sha256 == real.sha256
