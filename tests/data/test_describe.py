"""What :func:`fastzoo.data.inspect` counts, measures and finds, and what the picture shows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastzoo import _json, data
from fastzoo.data import Dataset, Report
from fastzoo.data.plot import draw
from fastzoo.data.prepared import from_arrays
from fastzoo.errors import DataError


def arrays(n: int = 240, steps: int = 10, seed: int = 0) -> dict[str, Any]:
    """A data set without a fault: 12 groups of both classes; two are for validation, two for the test."""
    group = np.arange(n) // (n // 12)
    return {
        "x": np.random.default_rng(seed).normal(size=(n, steps, 2)).astype(np.float32),
        "y": np.arange(n) % 2,
        "group": group,
        "split": np.select([group < 8, group < 10], [0, 1], 2),
        "classes": np.array(["rest", "walk"]),
        "channels": np.array(["acc_x [g]", "acc_y [g]"]),
        "rate": np.float64(50),
    }


def inspect(changes: dict[str, Any] | None = None, **options: Any) -> Report:
    return data.inspect(from_arrays("mine", arrays() | (changes or {}), strict=False), **options)


def kinds(report: Report) -> list[tuple[str, str]]:
    return [(fault.severity, fault.kind) for fault in report.faults]


def message(report: Report, kind: str) -> str:
    (found,) = (fault.message for fault in report.faults if fault.kind == kind)
    return found


def test_a_sound_data_set_has_no_faults() -> None:
    report = inspect()
    assert report.faults == report.errors == report.warnings == ()
    assert (report.windows, report.steps, report.seconds, report.rate, report.dtype) == (240, 10, 0.2, 50, "float32")
    assert {name: (part.windows, part.groups) for name, part in report.splits.items()} == {
        "train": (160, 8),
        "validation": (40, 2),
        "test": (40, 2),
    }
    assert report.splits["train"].per_class == {"rest": 80, "walk": 80}


def test_a_split_without_windows_is_left_out() -> None:
    assert list(inspect({"split": np.zeros(240, int)}).splits) == ["train"]


def test_ranges_are_those_of_numpy_however_large_the_offset() -> None:
    x = arrays()["x"].astype(np.float64)
    x[..., 1] = 1e6 + 100 * x[..., 1]
    report = inspect({"x": x.astype(np.float32)})
    train = x.astype(np.float32)[arrays()["split"] == 0].astype(np.float64)
    for channel, of in enumerate(report.splits["train"].ranges):
        values = train[..., channel]
        assert of.channel == f"acc_{'xy'[channel]} [g]"
        assert (of.min, of.max) == (values.min(), values.max())
        assert of.mean == pytest.approx(values.mean(), rel=1e-12)
        assert of.std == pytest.approx(values.std(), rel=1e-9)


def test_batches_are_merged_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = inspect()
    monkeypatch.setattr("fastzoo.data.ranges.BATCH", 7 * 20)
    parts = inspect()
    for split in whole.splits:
        for one, other in zip(whole.splits[split].ranges, parts.splits[split].ranges, strict=True):
            assert (one.min, one.max) == (other.min, other.max)
            assert (one.mean, one.std) == pytest.approx((other.mean, other.std), rel=1e-12)


def test_a_report_is_json() -> None:
    x = arrays()["x"]
    x[:, :, 1] = np.nan
    document = json.loads(json.dumps(_json.plain(inspect({"x": x})), allow_nan=False))
    assert document["splits"]["train"]["ranges"][1] == {"channel": "acc_y [g]"}
    assert document["faults"][0]["severity"] == "error"


# --- errors


def test_nan_is_an_error_with_row_and_channel() -> None:
    x = arrays()["x"]
    x[17, 3, 1] = np.inf
    report = inspect({"x": x})
    assert kinds(report) == [("error", "content")]
    assert "first in row 17, channel 'acc_y [g]', step 3: fill the samples in" in report.faults[0].message
    with pytest.raises(DataError, match="first in row 17"):
        from_arrays("mine", arrays() | {"x": x})


def test_a_group_in_two_splits_is_an_error() -> None:
    split = arrays()["split"]
    split[:5] = 2
    report = inspect({"split": split})
    assert ("error", "content") in kinds(report)
    assert "group(s) [0] stand in more than one split" in report.errors[0].message


@pytest.mark.parametrize("classes", [["rest"], ["rest", "walk"]])
def test_one_class_only_is_an_error(classes: list[str]) -> None:
    report = inspect({"y": np.zeros(240, int), "classes": np.array(classes)})
    assert "a classifier needs two" in report.errors[0].message


def test_labels_without_a_class_are_an_error() -> None:
    report = inspect({"y": np.arange(240) % 3})
    assert "labels run from 0 to 2, but there are 2 classes" in report.errors[0].message


def test_a_class_without_training_windows_is_an_error() -> None:
    values = arrays()
    report = inspect({"y": np.where(values["split"] == 0, 0, values["y"])})
    assert "no training window is of class 'walk'" in report.errors[0].message


def test_no_training_windows_are_an_error() -> None:
    assert kinds(inspect({"split": np.full(240, 2)})) == [("error", "no training windows")]


def test_a_single_training_group_is_an_error_where_validation_must_be_held_out() -> None:
    values = arrays()
    group = np.where(values["split"] == 2, 1, 0)
    report = inspect({"group": group, "split": 2 * group})
    assert kinds(report) == [("error", "one group")]
    with pytest.raises(DataError, match=r"has 1 training group\(s\)"):
        from_arrays("mine", values | {"group": group, "split": 2 * group}).with_validation()
    assert kinds(inspect({"group": group, "split": np.array([0, 2])[group]})) == [("error", "one group")]


# --- warnings


def test_a_class_missing_from_validation_or_test_is_a_warning() -> None:
    values = arrays()
    for which, name in ((1, "validation"), (2, "test")):
        report = inspect({"y": np.where(values["split"] == which, 0, values["y"])})
        assert kinds(report) == [("warning", "class missing")]
        assert report.faults[0].message.startswith(f"no {name} window is of class 'walk'")


def test_a_class_that_training_will_not_hold_out_is_a_warning() -> None:
    values = arrays()
    y = np.where(values["group"] == 3, 1, 0)
    split = np.where(values["group"] < 10, 0, 2)
    found = message(inspect({"y": np.where(split == 2, values["y"], y), "split": split}), "class missing")
    assert "with a fifth of the groups held out, as training does, no validation window is of class 'walk'" in found


def test_constant_channels_are_named() -> None:
    x = arrays()["x"]
    x[..., 1] = 7
    report = inspect({"x": x})
    assert kinds(report) == [("warning", "constant channel")]
    assert "these channels never change: acc_y [g]" in report.faults[0].message
    x[..., 1] = arrays()["split"][:, None]  # constant in every split, but not over all
    assert kinds(inspect({"x": x})) == [("warning", "still channel")]


def test_a_channel_that_is_the_label_is_an_error() -> None:
    x = arrays()["x"]
    x[..., 1] = 7 - arrays()["y"][:, None]
    report = inspect({"x": x})
    assert kinds(report) == [("error", "label as channel")]
    assert "channel 'acc_y [g]' tells the class in each window: leave it out" in report.faults[0].message
    x[..., 1] = arrays()["group"][:, None]
    assert "never changes inside a window" in message(inspect({"x": x}), "still channel")
    single = arrays(steps=1)  # of one step, nothing can change
    assert inspect({"x": single["x"]}).faults == ()


def test_clipped_channels_are_named() -> None:
    report = inspect({"x": arrays()["x"].clip(-1.5, 10)})
    assert [fault.message.split(" samples of ")[1] for fault in report.faults] == [
        f"{name!r} are its smallest value: does the sensor reach the end of its range?"
        for name in ("acc_x [g]", "acc_y [g]")
    ]
    assert {fault.kind for fault in report.faults} == {"clipped channel"}
    assert "its largest value" in message(
        inspect({"x": arrays()["x"].clip(-9, np.array([9, 1.5], np.float32))}), "clipped channel"
    )


def test_levels_and_8_bit_sources_are_not_called_clipped() -> None:
    x = arrays()["x"]
    x[..., 0] = (x[..., 0] > 0) * 3
    assert inspect({"x": x}).faults == ()
    assert inspect({"x": (arrays()["x"] * 200).clip(0, 255).astype(np.uint8)}).faults == ()


def test_equal_windows_in_two_splits_are_a_leak() -> None:
    x = arrays()["x"]
    x[230] = x[4]
    report = inspect({"x": x})
    assert kinds(report) == [("warning", "same window in two splits")]
    assert "1 window(s) also stand in another split, first rows 4 and 230" in report.faults[0].message


def test_equal_windows_of_two_classes_are_a_contradiction() -> None:
    x = arrays()["x"]
    x[5] = x[4]
    assert kinds(inspect({"x": x})) == [("warning", "same window of two classes")]


def test_silence_is_no_leak() -> None:
    x = arrays()["x"]
    x[[4, 5, 230]] = 0.25
    assert inspect({"x": x}).faults == ()


def test_few_windows_and_uneven_classes_are_warnings() -> None:
    y = np.ones(240, int)
    y[[0, 21, 41, 161, 201]] = 0
    report = inspect({"y": y})
    assert kinds(report) == [("warning", "few windows"), ("warning", "uneven classes")]
    assert "fewer than 10 training windows are of class 'rest'" in report.faults[0].message
    assert "class 'walk' has 157 training windows, 'rest' only 3" in report.faults[1].message


def test_fewer_windows_than_a_batch_are_a_warning() -> None:
    found = message(inspect(batch_size=161), "small")
    assert found == "160 training windows are fewer than one batch of 161: train with a smaller --batch-size"
    assert inspect(batch_size=160).faults == ()


def test_without_test_windows_nothing_can_be_measured() -> None:
    values = arrays()
    report = inspect({"split": np.where(values["split"] == 2, 0, values["split"])})
    assert kinds(report) == [("warning", "no test windows")]


def test_single_windows_as_groups_are_a_warning() -> None:
    assert kinds(inspect({"group": np.arange(240)})) == [("warning", "groups")]


def test_registered_data_sets_have_no_errors() -> None:
    assert data.inspect(data.load("digits")).errors == ()


def test_test_groups_are_held_out_as_validation_groups_are() -> None:
    mine = from_arrays("mine", arrays() | {"split": np.zeros(240, int)})
    held = mine.with_test(0.25)
    assert np.bincount(held.split).tolist() == [180, 0, 60]
    assert held.with_test(0.5) is held
    assert len({*held.with_validation().validation.group} & {*held.test.group}) == 0
    with pytest.raises(DataError, match="the test fraction must be between 0 and 1, not 1"):
        mine.with_test(1)
    with pytest.raises(DataError, match="a test split by group needs two"):
        replace(mine, group=np.zeros(240, np.int64)).with_test()


# --- the picture


def picture(dataset: Dataset, path: Path) -> bytes:
    draw(dataset, data.inspect(dataset), path)
    return path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (2, 3), (9, 20), (45, 20), (130, 60)])
def test_a_picture_is_drawn_of_any_size(channels: int, classes: int, tmp_path: Path) -> None:
    n = 3 * classes
    units = ("g", "rad/s", "uT")
    dataset = Dataset(
        id="many $x$",
        x=np.random.default_rng(0).normal(size=(n, 12, channels)).astype(np.float32),
        y=np.arange(n) % classes,
        group=np.arange(n),
        split=np.repeat([0, 1, 2], classes).astype(np.uint8),
        classes=tuple(f"a class with a long name and a $ {i} 歩く" for i in range(classes)),
        channels=tuple(f"channel_{i} [{units[i % 3]}]" for i in range(channels)),
        rate=25.0,
    )
    content = picture(dataset, tmp_path / "many.png")
    assert content.startswith(b"\x89PNG")
    assert int.from_bytes(content[16:20], "big") == 1320  # pixels across, whatever there is to draw


def test_a_faulty_data_set_is_drawn_all_the_same(tmp_path: Path) -> None:
    values = arrays()
    values["x"][:, :, 0] = np.nan
    values["x"][3, 2, 1] = np.inf
    values["y"][::2] = 7
    values["split"][:] = 0
    draw_me = from_arrays("faulty", values, strict=False)
    assert picture(draw_me, tmp_path / "faulty.png").startswith(b"\x89PNG")
    assert picture(draw_me, tmp_path / "faulty.svg").startswith(b"<?xml")


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    mine = from_arrays("mine", arrays())
    with pytest.raises(DataError, match=r"cannot draw .*mine\.jpg: the name must end in \.png, \.svg, \.pdf"):
        picture(mine, tmp_path / "mine.jpg")
    with pytest.raises(DataError, match=r"cannot write .*mine\.png: No such file"):
        picture(mine, tmp_path / "nowhere" / "mine.png")
