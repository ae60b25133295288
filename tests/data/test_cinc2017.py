from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from scipy.signal import resample_poly

from fastzoo import data
from fastzoo.data import cinc2017
from fastzoo.errors import DataError

from . import archives
from .conftest import prepared


def read(folder: Path, members: dict[str, bytes], labels: list[str]) -> data.Dataset:
    for name, content in archives.cinc2017_files(members, labels).items():
        (folder / name).write_bytes(content)
    return cinc2017.read_files(folder / "training2017.zip", folder / "REFERENCE-v3.csv")


def test_records_become_half_a_minute_at_a_third_of_the_rate(tmp_path: Path) -> None:
    made = read(tmp_path, *archives.cinc2017_members())
    lengths = np.linspace(2700, 18300, 20).astype(int)
    for row, length in enumerate(lengths):
        signal = archives.ecg(length, row + 1) / 1000
        count = min(3000, -(-length // 3))
        assert not made.x[row, count:].any()
        inner = slice(30, count - 30)  # the filter sees silence beyond the ends
        assert np.abs(made.x[row, inner, 0] - signal[::3][:count][inner]).max() < 0.03  # noise above 50 Hz is gone
        exact = resample_poly(signal * 1000, 1, 3)[:count] / 1000
        assert np.abs(made.x[row, :count, 0] - exact).max() <= 0.0005001  # whole microvolts
    assert [made.classes[code] for code in made.y[:4]] == ["atrial_fibrillation", "other_rhythm", "noisy", "normal"]
    assert made.split.tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 2, 2] * 2
    assert made.group.tolist() == list(range(20))
    assert (made.channels, made.rate) == (("ecg [mV]",), 100.0)


def test_the_order_of_the_labels_does_not_matter(tmp_path: Path) -> None:
    members, labels = archives.cinc2017_members()
    assert read(tmp_path, members, labels[::-1]).sha256 == read(tmp_path, members, labels).sha256


def matrix(values: object, level: str = "4") -> bytes:
    target = io.BytesIO()
    savemat(target, {"val": values}, format=level)
    return target.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        matrix(np.zeros((1, 4000), np.float64)),
        matrix(np.zeros((2, 4000), np.int16)),
        matrix("text"),
        matrix(np.zeros((1, 4000), np.int16), "5"),
        matrix(np.zeros((1, 4000), np.int16))[:-1],
        matrix(np.zeros((1, 0), np.int16)),
        cinc2017.HEADER.pack(30, 1, 2**31 - 1, 0, 4) + b"val\0",
        cinc2017.HEADER.pack(30, 1, -5, 0, 4) + b"val\0",
        cinc2017.HEADER.pack(30, 1, 1, 0, -20) + b"val\0\0\0",
        b"\x80\x04K\x01.",  # a pickle
        b"",
    ],
)
def test_what_is_no_row_of_int16_is_refused(content: bytes, tmp_path: Path) -> None:
    members, labels = archives.cinc2017_members()
    members["training2017/A00007.mat"] = content
    with pytest.raises(DataError, match=r"A00007\.mat in .* is not one row of int16 .*FASTZOO_CINC2017_URL"):
        read(tmp_path, members, labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["A00021,N"], r"does not hold A00021\.mat"),
        (["A00003,X"], r"has the line 'A00003,X'; expected a record and one of N, A, O, ~"),
        (["../../etc/passwd,N"], r"has the line '\.\./\.\./etc/passwd,N'"),
        (["A00003"], "has the line 'A00003'"),
        (["A00003,NA"], "has the line"),
        (["A00003,N"], "must name every record once"),
    ],
)
def test_a_fault_in_the_labels_is_named(change: list[str], message: str, tmp_path: Path) -> None:
    members, labels = archives.cinc2017_members()
    with pytest.raises(DataError, match=message):
        read(tmp_path, members, labels + change)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    members, labels = archives.cinc2017_members()
    members["training2017/A00007.mat"] = bytes(64 << 20)
    with pytest.raises(DataError, match=r"A00007\.mat in .* unpacks to more than 1048576 bytes"):
        read(tmp_path, members, labels)


@pytest.mark.real_data
def test_records_made_of_real_ones_come_near_the_prepared_form(tmp_path: Path) -> None:
    """The originals have 300 samples a second: real windows brought to that rate come back nearly as they were."""
    real = prepared("cinc2017")
    assert cinc2017.SOURCE.faults(real) == []
    rows = np.flatnonzero(np.abs(real.x[:200, -1, 0]) > 0)[:20]  # of 30 s or more
    members, labels = {}, []
    for number, row in enumerate(rows, 1):
        signal = np.rint(resample_poly(1000.0 * real.x[row, :, 0], 3, 1)).clip(-32768, 32767).astype(np.int16)
        members[f"training2017/A{number:05}.mat"] = archives.mat(signal)
        labels.append(f"A{number:05},{cinc2017.LETTERS[real.y[row]]}")
    made = read(tmp_path, members, labels)
    assert np.array_equal(made.y, real.y[rows])
    error = np.sqrt(((made.x - real.x[rows]) ** 2).mean(axis=(1, 2)))
    assert (error < 0.05 * real.x[rows].std(axis=(1, 2))).all()
