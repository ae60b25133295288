"""EdgeML's ``train.npy`` and ``test.npy``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastzoo import data
from fastzoo.errors import DataError

T, D = 4, 3


def rows(n: int, labels: npt.ArrayLike, seed: int = 0) -> npt.NDArray[np.float64]:
    """[n, 1 + T*D], labels in turn, then values that count upwards through steps and channels."""
    values = np.random.default_rng(seed).integers(100) + np.arange(n * T * D).reshape(n, T * D)
    return np.column_stack([np.resize(labels, n), values]).astype(np.float64)


def write(folder: Path, train: npt.NDArray[Any], test: npt.NDArray[Any]) -> Path:
    folder.mkdir(exist_ok=True)
    np.save(folder / "train.npy", train)
    np.save(folder / "test.npy", test)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "usps10", rows(6, [1, 2, 3]), rows(4, [2, 3], seed=1))


def test_both_files_become_one_data_set(folder: Path) -> None:
    made = data.load(folder, input_dim=D)
    assert made.id == "usps10"
    assert made.x.shape == (10, T, D)
    assert made.x.dtype == np.float32
    assert np.diff(made.x[0].ravel()).tolist() == [1] * (T * D - 1)  # step after step, the channels of a step together
    assert made.split.tolist() == [0] * 6 + [2] * 4
    assert made.group.tolist() == list(range(10))
    assert made.channels == ("channel_0", "channel_1", "channel_2")
    assert made.rate == 1
    assert any("do not say who was recorded" in note for note in made.notes)


def test_the_smallest_label_of_both_files_is_class_0(folder: Path) -> None:
    made = data.load(folder, input_dim=D)
    assert made.classes == ("1", "2", "3")
    assert made.train.y.tolist() == [0, 1, 2] * 2
    assert made.test.y.tolist() == [1, 2] * 2  # EdgeML would say 0 and 1
    assert "the smallest label of both files, 1, is class 0" in made.notes


def test_a_number_between_the_labels_is_a_class_as_in_edgeml(tmp_path: Path) -> None:
    made = data.load(write(tmp_path / "odd", rows(4, [-1, 1]), rows(2, [1])), input_dim=D)
    assert made.classes == ("-1", "0", "1")
    assert made.y.tolist() == [0, 2, 0, 2, 2, 2]
    assert "class '0'" in data.inspect(made).errors[0].message


def test_what_the_files_do_not_say_may_be_said(folder: Path) -> None:
    made = data.load(folder, input_dim=D, rate=50, channels=("a [g]", "b [g]", "c [g]"))
    assert made.channels == ("a [g]", "b [g]", "c [g]")
    assert made.rate == 50
    assert not any("rate" in note for note in made.notes)
    with pytest.raises(DataError, match=r"2 names of channels for .*, which has 3"):
        data.load(folder, input_dim=D, channels=("a", "b"))
    with pytest.raises(DataError, match="a folder of EdgeML's, takes no --window, only --rate, --channels"):
        data.load(folder, input_dim=D, window=3)


def test_the_order_in_memory_does_not_matter(folder: Path) -> None:
    expected = data.load(folder, input_dim=D).sha256
    for kind, order in (("f8", "F"), ("f4", "C"), (">f8", "C"), ("i2", "F")):
        tables = rows(6, [1, 2, 3]), rows(4, [2, 3], seed=1)
        write(folder, *(np.array(table, kind, order=order) for table in tables))  # type: ignore[call-overload]
        assert data.load(folder, input_dim=D).sha256 == expected


@pytest.mark.parametrize("given", [None, 5, 13])
def test_possible_numbers_of_channels_are_listed(given: int | None, folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        data.load(folder, input_dim=given)
    message = str(caught.value)
    assert "a label and 12 values" in message
    assert message.endswith("pass --input-dim D; possible are 1, 2, 3, 4, 6, 12")
    assert given is None or f"{given} does not divide 12" in message


def test_faulty_files_are_named(tmp_path: Path) -> None:
    good = rows(6, [1, 2, 3])

    def message(train: npt.NDArray[Any], test: npt.NDArray[Any] = good) -> str:
        with pytest.raises(DataError) as caught:
            data.load(write(tmp_path / "faulty", train, test), input_dim=D)
        return str(caught.value)

    def with_value(row: int, column: int, value: float) -> npt.NDArray[np.float64]:
        table = good.copy()
        table[row, column] = value
        return table

    assert "train.npy holds 1.5 in row 2, column 0: the label" in message(with_value(2, 0, 1.5))
    assert "train.npy holds nan in row 2, column 0" in message(with_value(2, 0, np.nan))
    assert "train.npy holds inf in row 2, column 0" in message(with_value(2, 0, np.inf))
    assert "the labels of" in message(with_value(2, 0, 10**6))
    assert "run from 1 to 1000000: is column 0 the class?" in message(with_value(2, 0, 10**6))
    assert "train.npy holds NaN or infinity in row 2, column 5" in message(with_value(2, 5, np.nan))
    assert "test.npy holds NaN or infinity in row 1, column 12" in message(good, with_value(1, 12, 1e300))
    assert "holds one class only, 7" in message(rows(6, [7]), rows(6, [7]))
    assert "12 values in train.npy, 11 in test.npy" in message(good, good[:, :-1])
    assert "holds float64 of shape (6, 4, 3)" in message(good[:, 1:].reshape(6, T, D))
    assert "holds <U" in message(good.astype(str))
    assert "of shape (0, 13)" in message(good[:0])
    assert "of shape (6, 1)" in message(good[:, :1])


def test_both_files_are_needed(folder: Path) -> None:
    (folder / "test.npy").unlink()
    with pytest.raises(DataError, match=r"no file .*test\.npy: a folder in EdgeML's form has train\.npy and test\.npy"):
        data.load(folder, input_dim=D)


def test_objects_are_never_unpickled(folder: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (tmp_path.joinpath("exploded").touch, ())

    np.save(folder / "train.npy", np.array([[Bomb()]], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"train\.npy cannot be read as an \.npy file without Python objects"):
        data.load(folder, input_dim=D)
    import pickle

    (folder / "train.npy").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="it does not begin as one"):
        data.load(folder, input_dim=D)
    with (folder / "train.npy").open("wb") as file:
        np.savez(file, x=np.zeros(3))
    with pytest.raises(DataError, match="it does not begin as one"):
        data.load(folder, input_dim=D)
    assert not (tmp_path / "exploded").exists()


def test_a_header_that_promises_more_than_there_is_costs_nothing(folder: Path) -> None:
    content = (folder / "train.npy").read_bytes().replace(b"(6, 13)", b"(6, 130000000000)"[:7])
    (folder / "train.npy").write_bytes(content.replace(b"(6, 13), }    ", b"(600000000, 13000), }"[:14]))
    with pytest.raises(DataError, match=r"train\.npy cannot be read"):
        data.load(folder, input_dim=D)


@given(draw=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_are_read_or_refused(draw: st.DataObject, tmp_path: Path) -> None:
    folder = write(tmp_path / "damaged", rows(6, [1, 2, 3]), rows(4, [2, 3]))
    content = bytearray((folder / "train.npy").read_bytes())
    for _ in range(draw.draw(st.integers(1, 4))):
        content[draw.draw(st.integers(0, 140))] = draw.draw(st.integers(0, 255))
    (folder / "train.npy").write_bytes(content[: draw.draw(st.integers(0, len(content)))])
    with contextlib.suppress(DataError):
        data.load(folder, input_dim=D)


@given(content=st.binary(max_size=200), magic=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_are_refused(content: bytes, magic: bool, tmp_path: Path) -> None:
    folder = write(tmp_path / "random", rows(6, [1, 2, 3]), rows(4, [2, 3]))
    (folder / "test.npy").write_bytes(b"\x93NUMPY\x01\x00" * magic + content)
    with pytest.raises(DataError, match=r"test\.npy"):
        data.load(folder, input_dim=D)
