from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fastzoo import data
from fastzoo.cli.data import app
from fastzoo.data import hapt
from fastzoo.data.synthetic import motion
from fastzoo.errors import DataError

from . import archives
from .conftest import Server, prepared


@pytest.fixture
def har(data_folder: Path) -> data.Dataset:
    made = data.Dataset(
        id="har",
        x=motion(hapt.CLASSES * 2),
        y=np.arange(12) % 6,
        group=np.repeat([1, 2], 6),
        split=np.repeat(np.array([0, 2], np.uint8), 6),
        classes=hapt.CLASSES,
        channels=hapt.CHANNELS,
        rate=50.0,
    )
    made.save(data_folder)
    return made


def test_sitting_laying_and_walking_upstairs_are_told_from_the_rest(har: data.Dataset) -> None:
    made = data.load("har2")
    assert (made.id, made.classes) == ("har2", ("other", "sitting_laying_upstairs"))
    second = {"sitting", "laying", "walking_upstairs"}
    assert [hapt.CLASSES[code] in second for code in har.y] == (made.y == 1).tolist()
    for name in ("x", "group", "split", "channels", "rate"):
        assert np.array_equal(getattr(made, name), getattr(har, name))


@pytest.mark.usefixtures("har")
def test_it_is_ready_where_har_is() -> None:
    rows = {line.split()[0]: line for line in CliRunner().invoke(app, ["list"]).output.splitlines()}
    assert "ready" in rows["har2"]


def test_without_har_the_remedy_is_named() -> None:
    with pytest.raises(DataError, match=r"data set 'har' is not prepared: .*`fastzoo data fetch har`"):
        data.load("har2")


def test_fetching_it_fetches_har(server: Server, data_folder: Path) -> None:
    server.body = archives.har()["hapt.zip"]
    assert data.fetch("har2", server.url, verify=False, progress=False) == data_folder / "har.npz"
    assert len(data.load("har2").y) == 96


def test_a_file_of_its_own_is_preferred(har: data.Dataset, data_folder: Path) -> None:
    replace(har, id="har2").save(data_folder)
    assert data.load("har2").classes == hapt.CLASSES


def test_another_har_is_refused(har: data.Dataset, data_folder: Path) -> None:
    replace(har, classes=tuple("abcdef")).save(data_folder)
    with pytest.raises(DataError, match="the prepared 'har' has no class sitting, laying, walking_upstairs"):
        data.load("har2")


@pytest.mark.real_data
def test_both_groups_have_half_of_the_real_windows(data_folder: Path) -> None:
    prepared("har").save(data_folder)
    assert np.bincount(data.load("har2").y).tolist() == [5108, 5303]
