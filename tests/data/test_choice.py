from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fastzoo import _json, data
from fastzoo.cli import app
from fastzoo.data import hapt, ucihar
from fastzoo.data.choice import chosen
from fastzoo.data.synthetic import motion

from .conftest import prepared

NOTE = (
    "Channels of ucihar chosen by name: total_acc_x [g] as acc_x [g], total_acc_y [g] as acc_y [g], total_acc_z [g] "
    "as acc_z [g], body_gyro_x [rad/s] as gyro_x [rad/s], body_gyro_y [rad/s] as gyro_y [rad/s], body_gyro_z [rad/s] "
    "as gyro_z [rad/s]; left out: body_acc_x [g], body_acc_y [g], body_acc_z [g]"
)


def windows(channels: tuple[str, ...] = ucihar.CHANNELS, id: str = "ucihar") -> data.Dataset:
    """Motion, its acceleration without the mean as further channels, under any names."""
    x = motion(hapt.CLASSES * 4)
    body = x[:, :, :3] - x[:, :, :3].mean(axis=1, keepdims=True)
    return data.Dataset(
        id=id,
        x=np.concatenate([x, body], axis=2)[:, :, : len(channels)],
        y=np.arange(24) % 6,
        group=np.arange(24) // 12,
        split=np.repeat(np.array([0, 2], np.uint8), 12),
        classes=hapt.CLASSES,
        channels=channels,
        rate=50.0,
    )


def test_har_s_channels_are_found_under_uci_har_s_names() -> None:
    made = windows()
    fitted, note = chosen(made, hapt.CHANNELS)
    assert fitted.channels == hapt.CHANNELS
    assert np.array_equal(fitted.x, made.x[:, :, :6])
    assert np.array_equal(fitted.y, made.y)
    assert note == NOTE


def test_channels_in_another_order_are_put_in_order() -> None:
    shuffled = (*hapt.CHANNELS[3:], *hapt.CHANNELS[:3])
    made = windows(shuffled)
    fitted, note = chosen(made, hapt.CHANNELS)
    assert np.array_equal(fitted.x, np.roll(made.x, 3, axis=2))
    assert note.startswith("Channels of ucihar chosen by name: acc_x [g], acc_y [g]")
    assert "left out" not in note


def test_a_channel_s_own_name_comes_first() -> None:
    names = ("total_acc_x [g]", "acc_x [g]", "gyro_x [rad/s]")
    made = windows(names)
    fitted, _ = chosen(made, ("acc_x [g]",))
    assert np.array_equal(fitted.x, made.x[:, :, 1:2])


@pytest.mark.parametrize(
    "wanted", [ucihar.CHANNELS, ("acc_x [m/s2]",), ("acc_x [g]", "mag_x [1]"), ("body_gyro_w [rad/s]",), ("acc_x",)]
)
def test_nothing_changes_where_nothing_is_to_choose_or_a_channel_is_missing(wanted: tuple[str, ...]) -> None:
    made = windows()
    assert chosen(made, wanted) == (made, "")


def test_a_model_of_har_is_evaluated_on_uci_har(data_folder: Path) -> None:
    made = windows()
    made.save(data_folder)
    windows(hapt.CHANNELS, "har").save(data_folder)
    run = CliRunner()
    args = ["eval", "fastgrnn-har-int8", "--data"]
    cross = _json.parse(run.invoke(app, [*args, "ucihar", "--json"]).stdout.encode())
    plain = _json.parse(run.invoke(app, [*args, "har", "--json"]).stdout.encode())
    assert cross["metrics"] == plain["metrics"]
    assert (cross["note"], cross["dataset"], cross["sha256"]) == (NOTE, "ucihar", made.sha256)
    assert "note" not in plain
    text = run.invoke(app, [*args, "ucihar"])
    assert f"{NOTE}." in re.sub(r"\s+", " ", text.output)
    assert "was trained on 'har', not on 'ucihar'" in text.output


def test_windows_of_people_who_were_trained_on_are_told(data_folder: Path) -> None:
    made = windows()  # the test split has group 1, whom har trains on
    made.save(data_folder)
    args = ["eval", "fastgrnn-har-int8", "--data", "ucihar"]
    warning = "some of these windows are of people in the training split of 'har'"
    assert warning in CliRunner().invoke(app, args).stderr
    dataclasses.replace(made, group=np.where(made.group == 1, 2, made.group)).save(data_folder)
    assert warning not in CliRunner().invoke(app, args).stderr


def test_a_channel_that_is_missing_is_told(data_folder: Path) -> None:
    windows(ucihar.CHANNELS[:5]).save(data_folder)
    result = CliRunner().invoke(app, ["eval", "fastgrnn-har-int8", "--data", "ucihar"])
    assert "does not fit fastgrnn-har: it has channels ('total_acc_x [g]'" in str(result.exception)


@pytest.mark.real_data
def test_the_published_model_of_har_knows_most_of_real_uci_har(data_folder: Path) -> None:
    prepared("ucihar").save(data_folder)
    result = CliRunner().invoke(app, ["eval", "fastgrnn-har-int8", "--data", "ucihar", "--json"])
    metrics = _json.parse(result.stdout.encode())["metrics"]
    assert metrics["accuracy"] > 0.8  # filtered otherwise, and 96 % on har
