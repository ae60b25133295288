from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastzoo.data import Dataset, data_folder, read
from fastzoo.data.prepared import TEST, TRAIN, VALIDATION, from_arrays
from fastzoo.errors import DataError

Arrays = dict[str, Any]


def arrays(n: int = 12, steps: int = 5, channels: int = 2, classes: int = 3, seed: int = 0) -> Arrays:
    """The seven arrays of a correct data set: four groups, the last one for the test."""
    rng = np.random.default_rng(seed)
    group = np.arange(n) % 4
    return {
        "x": rng.normal(size=(n, steps, channels)).astype(np.float32),
        "y": np.arange(n) % classes,
        "group": group,
        "split": np.where(group == 3, TEST, TRAIN).astype(np.uint8),
        "classes": np.array([f"class {i}" for i in range(classes)]),
        "channels": np.array([f"channel_{i} [g]" for i in range(channels)]),
        "rate": np.float64(50),
    }


def with_nan(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    x = x.copy()
    x[3, 2, 1] = np.nan
    return x


FAULTS: dict[str, tuple[str, Any, str]] = {
    "x without time": ("x", lambda x: x[:, 0], r"x must be [N, T, D]"),
    "no window": ("x", lambda x: x[:0], "no empty axis"),
    "float64": ("x", lambda x: x.astype(np.float64), "float32 or uint8, not float64"),
    "big endian": ("x", lambda x: x.astype(">f4"), "float32 or uint8, not >f4"),
    "strings as samples": ("x", lambda x: x.astype(str), "float32 or uint8"),
    "NaN": ("x", with_nan, "first in row 3, channel 'channel_1 [g]'"),
    "y too short": ("y", lambda y: y[:-1], "y must have shape (12,), not (11,)"),
    "y as column": ("y", lambda y: y[:, None], "y must have shape (12,)"),
    "y as floats": ("y", lambda y: y.astype(float), "y must hold integers, not float64"),
    "label too large": ("y", lambda y: y + 1, "labels run from 1 to 3, but there are 3 classes"),
    "negative label": ("y", lambda y: y - 1, "labels run from -1 to 1"),
    "group too long": ("group", lambda g: np.append(g, 0), "group must have shape (12,), not (13,)"),
    "group beyond int64": ("group", lambda g: g.astype(np.uint64) + np.uint64(2**63), "do not fit into int64"),
    "group in two splits": ("split", lambda s: np.append(s[:-1], 0), "group(s) [3] stand in more than one split"),
    "unknown split": ("split", lambda s: s + 1, "split must be 0 (train), 1 (validation) or 2 (test)"),
    "split that wraps to 0": ("split", lambda s: s.astype(int) + 256, "do not fit into uint8"),
    "one class": ("classes", lambda c: c[:1], "at least two different class names"),
    "a class twice": ("classes", lambda c: c[[0, 0, 1]], "at least two different class names"),
    "classes as numbers": ("classes", lambda c: np.arange(3), "classes must be a list of strings, not int64"),
    "classes as bytes": ("classes", lambda c: c.astype("S"), "classes must be a list of strings"),
    "channel without name": ("channels", lambda c: c[:1], "1 channel names for 2 channels"),
    "no rate": ("rate", lambda r: 0.0, "rate must be positive"),
    "rate NaN": ("rate", lambda r: np.nan, "rate must be positive, not nan"),
    "two rates": ("rate", lambda r: np.array([50.0, 50.0]), "rate must be one number"),
    "rate as text": ("rate", lambda r: "50", "rate must be one number"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault: str, tmp_path: Path) -> None:
    name, change, message = FAULTS[fault]
    faulty = arrays()
    faulty[name] = change(faulty[name])
    path = tmp_path / "mine.npz"
    np.savez(path, **faulty)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read(path)
    assert "'mine'" in str(caught.value)


def test_all_faults_are_named_at_once() -> None:
    faulty = arrays() | {"y": np.zeros(3, int), "rate": -1.0, "channels": np.array(["a"])}
    with pytest.raises(DataError, match=r"y must have shape.*1 channel names.*rate must be positive"):
        from_arrays("mine", faulty)


@given(
    n=st.integers(4, 30),
    steps=st.integers(1, 9),
    channels=st.integers(1, 4),
    classes=st.integers(2, 4),
    seed=st.integers(0, 9),
    bytes_=st.booleans(),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_saved_is_read_again(
    tmp_path: Path, n: int, steps: int, channels: int, classes: int, seed: int, bytes_: bool
) -> None:
    values = arrays(n, steps, channels, min(classes, n), seed)
    if bytes_:
        values["x"] = (values["x"] * 10).clip(0, 255).astype(np.uint8)
    saved = from_arrays("mine", values)
    again = read(saved.save(tmp_path))
    assert again.id == "mine"
    assert again.sha256 == saved.sha256
    assert again.x.dtype == values["x"].dtype
    assert (len(again.train), len(again.validation), len(again.test)) == tuple(
        int((values["split"] == part).sum()) for part in (TRAIN, VALIDATION, TEST)
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.npz"]


@pytest.mark.parametrize("name", ["x", "y", "group", "split", "classes", "channels", "rate"])
def test_the_digest_depends_on_every_array(name: str) -> None:
    values = arrays()
    before = from_arrays("mine", values).sha256
    if name == "group":
        values["group"] = values["group"] + 4
    elif name == "split":
        values["split"] = np.where(values["split"] == TEST, VALIDATION, TRAIN)
    elif name in ("classes", "channels"):
        values[name] = np.char.add(values[name], "!")
    elif name == "y":
        values["y"] = values["y"][::-1]
    else:
        values[name] = values[name] * values[name].dtype.type(2)
    assert from_arrays("mine", values).sha256 != before


def test_the_digest_does_not_depend_on_the_memory_layout_or_the_id() -> None:
    values = arrays()
    turned = values | {"x": np.asfortranarray(values["x"]), "y": values["y"].astype(np.int16)}
    assert from_arrays("other", turned).sha256 == from_arrays("mine", values).sha256


@pytest.mark.parametrize("missing", ["x", "group", "rate"])
def test_a_missing_array_is_named(missing: str, tmp_path: Path) -> None:
    values = arrays()
    del values[missing]
    np.savez(tmp_path / "mine.npz", **values)
    with pytest.raises(DataError, match=rf"lacks the array\(s\) {missing}; a prepared file has x, y, group"):
        read(tmp_path / "mine.npz")


@pytest.mark.parametrize("name", ["x", "classes"])
def test_objects_are_never_unpickled(name: str, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (tmp_path.joinpath("exploded").touch, ())

    values = arrays()
    values[name] = np.array([Bomb()], object)
    np.savez(tmp_path / "mine.npz", **values)
    with pytest.raises(DataError, match="Object arrays cannot be loaded"):
        read(tmp_path / "mine.npz")
    assert not (tmp_path / "exploded").exists()


def test_a_single_array_is_not_a_data_set(tmp_path: Path) -> None:
    with (tmp_path / "mine.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match="it holds a single array"):
        read(tmp_path / "mine.npz")


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip at all", b"\x93NUMPY\x01\x00\x10\x00garbage garbage!"])
def test_garbage_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "mine.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"mine\.npz cannot be read as an \.npz file .*prepare it again"):
        read(tmp_path / "mine.npz")


@pytest.mark.parametrize("compressed", [False, True])
@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_refused_or_says_the_same(tmp_path: Path, compressed: bool, data: st.DataObject) -> None:
    path = tmp_path / "mine.npz"
    (np.savez_compressed if compressed else np.savez)(path, **arrays())
    whole, content = read(path).sha256, bytearray(path.read_bytes())
    if data.draw(st.booleans(), label="truncate"):
        del content[data.draw(st.integers(0, len(content) - 1), label="length") :]
    else:
        content[data.draw(st.integers(0, len(content) - 1), label="position")] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        outcome = read(path).sha256
    except DataError as error:
        outcome = str(error)
    assert outcome == whole or str(path) in outcome


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*absent\.npz"):
        read(tmp_path / "absent.npz")


def test_the_data_folder_may_begin_with_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTZOO_DATA", "~/windows")
    assert data_folder() == Path.home() / "windows"


def test_without_the_variable_the_data_folder_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTZOO_DATA")
    assert data_folder().parts[-2:] == ("fastzoo", "data")


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write .*Set FASTZOO_DATA"):
        from_arrays("mine", arrays()).save(tmp_path / "file")


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits on file sizes are a matter of POSIX")
    whole = from_arrays("mine", arrays())
    before = whole.save(tmp_path).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(DataError, match=r"cannot write .*File too large"):
            whole.save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.npz"]
    assert (tmp_path / "mine.npz").read_bytes() == before


def many_groups(group: list[int], tested: set[int]) -> Dataset:
    values = arrays(len(group))
    values["group"] = np.array(group)
    values["split"] = np.where(np.isin(group, sorted(tested)), TEST, TRAIN)
    return from_arrays("mine", values)


groups = st.lists(st.integers(-3, 8), min_size=4, max_size=40).filter(lambda group: len(set(group)) >= 3)


@given(group=groups, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 5), order=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_validation_takes_whole_groups_whatever_the_order_of_rows(
    group: list[int], fraction: float, seed: int, order: Any
) -> None:
    tested = {group[0]}
    split = many_groups(group, tested).with_validation(fraction, seed)
    validated, trained = set(split.validation.group.tolist()), set(split.train.group.tolist())
    assert validated
    assert trained
    assert not validated & trained
    assert set(split.test.group.tolist()) == tested
    assert len(trained) == 1 or len(split.validation) >= fraction * (len(split.validation) + len(split.train))
    order.shuffle(group)
    shuffled = many_groups(group, tested).with_validation(fraction, seed)
    assert set(shuffled.validation.group.tolist()) == validated


def test_the_seed_chooses_the_validation_groups() -> None:
    data = many_groups(list(range(30)), {0})
    chosen = {tuple(data.with_validation(0.2, seed).validation.group) for seed in range(5)}
    assert len(chosen) == 5


def test_an_existing_validation_split_stays() -> None:
    data = from_arrays("mine", arrays() | {"split": np.array([0, 0, 1, 2] * 3)})
    assert data.with_validation(0.9) is data


@pytest.mark.parametrize("fraction", [0, 1, -0.5, float("nan")])
def test_the_fraction_must_leave_both_sides_something(fraction: float) -> None:
    with pytest.raises(DataError, match="fraction must be between 0 and 1"):
        from_arrays("mine", arrays()).with_validation(fraction)


def test_one_training_group_cannot_be_divided() -> None:
    data = many_groups([1, 1, 1, 2], {2})
    with pytest.raises(DataError, match=r"has 1 training group\(s\)"):
        data.with_validation()
