from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fastzoo import data
from fastzoo.cli.data import app
from fastzoo.data import hapt
from fastzoo.data.catalog import REGISTERED
from fastzoo.errors import DataError

from . import hapt_zip
from .conftest import Server


@pytest.fixture
def own(data_folder: Path) -> data.Dataset:
    """A data set of the user's own in the data folder."""
    own = data.Dataset(
        id="gestures",
        x=np.zeros((4, 3, 1), np.float32),
        y=np.array([0, 1, 0, 1]),
        group=np.array([0, 0, 1, 1]),
        split=np.array([0, 0, 2, 2], np.uint8),
        classes=("wave", "clap"),
        channels=("acc [g]",),
        rate=25.0,
    )
    own.save(data_folder)
    (data_folder / ".half.part.npz").touch()
    return own


def test_a_file_in_the_data_folder_is_loaded_by_its_name(own: data.Dataset) -> None:
    assert data.load("gestures").sha256 == own.sha256


def test_a_file_elsewhere_is_loaded_by_its_path(own: data.Dataset, tmp_path: Path) -> None:
    path = own.save(tmp_path / "elsewhere")
    assert data.load(path).sha256 == data.load(str(path)).sha256 == own.sha256
    assert data.load(path).id == "gestures"


def test_known_data_sets_are_the_registered_ones_and_the_files(own: data.Dataset) -> None:
    assert data.known() == [*REGISTERED, own.id]


@pytest.mark.parametrize(("id", "near"), [("hra", "har"), ("digit", "digits"), ("gesture", "gestures")])
@pytest.mark.usefixtures("own")
def test_an_unknown_id_suggests_near_ones(id: str, near: str) -> None:
    for use in (data.load, data.fetch):
        with pytest.raises(
            DataError, match=rf"no data set '{id}'. Did you mean '{near}'\? Known are har, .*digits, gestures"
        ):
            use(id)


@pytest.mark.parametrize("id", ["zzzzzz", "", "../har", "sub/gestures"])
@pytest.mark.usefixtures("own")
def test_an_id_like_nothing_lists_the_known_ones(id: str) -> None:
    with pytest.raises(DataError, match=r"no data set .*Known are har, .*digits, gestures .*path, ending in \.npz"):
        data.load(id)


def test_a_data_set_that_is_not_prepared_says_how_to_get_it(data_folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        data.load("har")
    assert str(caught.value) == (
        f"data set 'har' is not prepared: there is no {data_folder}/har.npz. Download and prepare it with "
        "`fastzoo data fetch har`, or set FASTZOO_DATA to the folder that holds har.npz"
    )


def test_what_needs_no_download_is_not_fetched(own: data.Dataset) -> None:
    with pytest.raises(DataError, match="comes with scikit-learn and needs no download"):
        data.fetch("digits")
    with pytest.raises(DataError, match=r"your own file .*gestures\.npz"):
        data.fetch(own.id)


def test_har_is_described_with_its_variant_and_its_licence_conflict() -> None:
    har = data.about("har")
    assert har is not None
    assert har.variant.startswith("HAPT windows")
    assert "not the UCI HAR window set" in har.variant
    assert '"Any commercial use is prohibited"' in har.licence
    assert "CC BY 4.0" in har.licence
    assert "Neurocomputing 171, 2016" in har.citation


def test_an_unregistered_data_set_has_no_description(own: data.Dataset) -> None:
    assert data.about(own.id) is None


def test_every_registered_data_set_is_fully_described() -> None:
    for id in REGISTERED:
        about = data.about(id)
        assert about is not None
        assert about.id == id
        assert all((about.title, about.variant, about.source, about.licence, about.citation))


@pytest.mark.usefixtures("own")
def test_the_command_line_lists_data_sets_and_their_state(data_folder: Path) -> None:
    result = CliRunner().invoke(app, ["list"])
    assert result.exit_code == 0
    rows = {line.split()[0]: line for line in result.output.splitlines()}
    assert "run: fastzoo data fetch har" in rows["har"]
    assert "ready" in rows["digits"]
    assert "ready" in rows["gestures"]
    assert f"Data folder: {data_folder} " in result.output


def test_the_command_line_fetches_a_data_set(
    tmp_path: Path, data_folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hapt_zip.write(tmp_path / "a.zip", hapt_zip.members(*hapt_zip.small()))
    server.body = path.read_bytes()
    monkeypatch.setenv(hapt.SOURCE.variable, server.url)
    refused = CliRunner().invoke(app, ["fetch", "har"])
    assert isinstance(refused.exception, DataError)
    assert "--no-verify" in str(refused.exception)
    result = CliRunner().invoke(app, ["fetch", "har", "--no-verify"])
    assert result.exit_code == 0
    assert (
        f"{data_folder / 'har.npz'}: 72 training and 24 test windows, sha256 {data.load('har').sha256}" in result.output
    )
    assert "Any commercial use is prohibited" in result.output


def test_the_command_line_passes_errors_on() -> None:
    result = CliRunner().invoke(app, ["fetch", "hra"])
    assert isinstance(result.exception, DataError)


@pytest.mark.parametrize("command", [["--help"], ["list", "--help"], ["fetch", "--help"]])
def test_every_command_explains_itself(command: list[str]) -> None:
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    assert len(command) == 1 or f"Example: fastzoo data {command[0]}" in result.output
