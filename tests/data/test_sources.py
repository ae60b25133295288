"""What holds for every data set that is downloaded: from a server in the original format, damaged or not, to a file."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fastzoo import data
from fastzoo.cli.data import app
from fastzoo.data import MODULES, source
from fastzoo.data.source import Facts, Source
from fastzoo.errors import DataError
from fastzoo.hub.transport import CHUNK

from . import archives, hapt_zip
from .conftest import Server

IDS = list(MODULES)
KEPT = ["dsa19", "cinc2017", "kws12"]  # large: what is there of a broken download stays


def of(id: str) -> Source:
    found = importlib.import_module(f"fastzoo.data.{MODULES[id]}").SOURCE
    assert isinstance(found, Source)
    return found


@cache
def original(id: str) -> dict[str, bytes]:
    return archives.MAKERS[id]()


def offered(server: Server, id: str) -> str:
    """The address at which the server has the files of a data set."""
    server.files = dict(original(id))
    root = server.url.rpartition("/")[0] + "/"
    return root + next(iter(server.files)) if len(server.files) == 1 else root


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("id", IDS)
def test_a_download_becomes_the_prepared_file(id: str, server: Server, data_folder: Path) -> None:
    path = data.fetch(id, offered(server, id), verify=False)
    assert path == data_folder / f"{id}.npz"
    assert [name.name for name in data_folder.iterdir() if not name.name.endswith(".lock")] == [path.name]
    made = data.load(id)
    assert made.x.shape == archives.SHAPES.get(id, made.x.shape)
    assert made.classes == archives.CLASSES.get(id, made.classes)
    assert len(made.train)
    assert len(made.test)
    assert len(server.requests) == len(of(id).files)
    data.fetch(id, server.url, verify=False, progress=False)
    assert len(server.requests) == len(of(id).files)  # nothing is downloaded twice


@pytest.mark.parametrize("id", IDS)
def test_the_environment_names_another_source_and_the_licence_is_told(
    id: str, server: Server, monkeypatch: pytest.MonkeyPatch, data_folder: Path
) -> None:
    monkeypatch.setenv(f"FASTZOO_{id.upper()}_URL", offered(server, id))
    result = CliRunner().invoke(app, ["fetch", id, "--no-verify"])
    assert result.exit_code == 0, result.output
    about = data.about(id)
    assert about is not None
    assert f"{data_folder / id}.npz: " in result.output
    assert f"Licence: {about.licence}.\nCite: {about.citation}.\n" in result.output


@pytest.mark.parametrize("id", IDS)
def test_files_on_disk_are_a_source_and_stay(id: str, tmp_path: Path) -> None:
    files = original(id)
    folder = tmp_path / "downloads"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    url = f"{folder.as_uri()}/" if len(files) > 1 else (folder / next(iter(files))).as_uri()
    data.fetch(id, url, verify=False, progress=False)
    assert sorted(path.name for path in folder.iterdir()) == sorted(files)


@pytest.mark.parametrize("id", IDS)
def test_windows_that_are_not_the_known_ones_are_refused(id: str, server: Server, data_folder: Path) -> None:
    with pytest.raises(DataError, match=r"are not those that this version of fastzoo knows: .*--no-verify"):
        data.fetch(id, offered(server, id), progress=False)
    assert visible(data_folder) == []


@pytest.mark.parametrize("id", IDS)
def test_an_html_page_is_refused_and_the_next_download_begins_anew(id: str, server: Server, data_folder: Path) -> None:
    url = offered(server, id)
    pages = dict.fromkeys(server.files, b"<!DOCTYPE html><html>Please log in</html>")
    server.files = pages
    with pytest.raises(DataError, match=rf"set {of(id).variable} to"):
        data.fetch(id, url, progress=False)
    assert visible(data_folder) == []
    offered(server, id)
    data.fetch(id, url, verify=False, progress=False)
    assert visible(data_folder) == [f"{id}.npz"]


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_a_file_cut_short_is_refused(id: str, share: float, server: Server, data_folder: Path) -> None:
    url = offered(server, id)
    largest = max(server.files, key=lambda name: len(server.files[name]))
    server.files[largest] = server.files[largest][: int(share * len(server.files[largest]))]
    with pytest.raises(DataError, match=rf"set {of(id).variable} to"):
        data.fetch(id, url, verify=False, progress=False)
    assert visible(data_folder) == []


@pytest.mark.parametrize("id", IDS)
@given(st.data())
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_bytes_are_refused_or_change_nothing_unseen(id: str, tmp_path: Path, data: st.DataObject) -> None:
    files = dict(original(id))
    name = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[name])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    paths = {}
    for each, whole in files.items():
        paths[of(id).files[0].name if len(files) == 1 else each] = tmp_path / each
        (tmp_path / each).write_bytes(content if each == name else whole)
    try:
        outcome = of(id).make(paths, "the test", False).sha256
    except DataError as error:
        outcome = str(error)
    told = of(id).variable in outcome
    assert told or outcome == undamaged(id) or name.endswith(".csv")  # which has no checksum


@cache
def undamaged(id: str) -> str:
    """The digest of the windows."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for each, whole in original(id).items():
            path = paths[of(id).files[0].name if len(original(id)) == 1 else each] = Path(folder) / each
            path.write_bytes(whole)
        return of(id).make(paths, "the test", False).sha256


@pytest.mark.parametrize("id", IDS)
def test_too_large_a_file_is_not_downloaded(id: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    known = of(id)
    files = tuple(replace(file, limit=100) for file in known.files)
    with pytest.raises(DataError, match="sends more than 100 bytes"):
        source.fetch(replace(known, files=files), offered(server, id), progress=False)


@pytest.mark.parametrize("id", KEPT)
def test_a_broken_download_goes_on_where_it_broke_off(id: str, server: Server, data_folder: Path) -> None:
    url = offered(server, id)
    largest = max(map(len, server.files.values()))
    server.send = largest // 2
    with pytest.raises(DataError, match=r"the transfer broke off\. Try again"):
        data.fetch(id, url, progress=False)
    server.send = None
    data.fetch(id, url, verify=False, progress=False)
    assert 0 <= largest // 2 - server.ranges[0] < CHUNK  # not a chunk more is downloaded twice
    assert visible(data_folder) == [f"{id}.npz"]
    assert not list(data_folder.glob("**/*.part"))


def test_a_download_whose_file_changed_meanwhile_is_refused_and_begun_anew(server: Server) -> None:
    url = offered(server, "dsa19")
    server.send = len(server.files["dsa19.zip"]) // 2
    with pytest.raises(DataError, match="broke off"):
        data.fetch("dsa19", url, progress=False)
    server.send = None
    server.files["dsa19.zip"] = archives.zipped(archives.dsa19_members(seed=1))
    with pytest.raises(DataError, match=r"damaged|not a zip|not a table|truncated"):
        data.fetch("dsa19", url, verify=False, progress=False)
    data.fetch("dsa19", url, verify=False, progress=False)
    assert len(data.load("dsa19").y) == 48


def test_a_killed_download_goes_on(server: Server, data_folder: Path) -> None:
    url = offered(server, "kws12")
    whole = server.files["speech_commands.tar.gz"]
    server.pause = len(whole) // 2
    code = f"from fastzoo import data; data.fetch('kws12', {url!r}, progress=False)"
    child = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "FASTZOO_DATA": str(data_folder)})
    until = time.monotonic() + 60
    while sum(path.stat().st_size for path in data_folder.glob(".kws12-download/*/*.part")) <= server.pause - CHUNK:
        assert time.monotonic() < until
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    server.pause = None
    data.fetch("kws12", url, verify=False, progress=False)
    assert 0 <= len(whole) // 2 - server.ranges[0] < CHUNK


def test_the_next_mirror_is_tried(server: Server) -> None:
    good = offered(server, "mnist")
    dead = server.url.replace("/hapt.zip", "/gone-") + "/"
    mirrored = replace(of("mnist"), urls=(dead.replace("http://", "ftp://"), good), sha256=None)
    source.fetch(mirrored, progress=False)
    assert len(data.load("mnist").y) == 40


def test_several_files_need_the_address_of_their_folder(server: Server) -> None:
    url = offered(server, "mnist").rstrip("/")
    with pytest.raises(
        DataError, match=r"must end in /: it is the folder of train-images-idx3-ubyte\.gz, .*_MNIST_URL"
    ):
        data.fetch("mnist", url, progress=False)


@pytest.mark.parametrize(
    ("facts", "fault"),
    [
        (
            Facts({"walking": (1, 0, 0)}),
            r"walking has \[2, 0, 0\] train, validation, test windows, expected \[1, 0, 0\]",
        ),
        (Facts({"flying": (1, 0, 0)}), "there is no class flying"),
        (Facts({}, mean=(0, 0), deviation=(1, 1)), "there are 1 channels, expected 2"),
        (Facts({}, (0.1,), (0.5,), 0.1), r"acc \[g\] has mean 0.5 and standard deviation 0.5, expected 0.1 and 0.5"),
        (Facts({}, (0.5,), (0.4,), 0.1), "expected 0.5 and 0.4"),
        (Facts({"walking": (2, 0, 0)}, (0.51,), (0.51,), 0.1), None),
    ],
)
def test_facts_tell_other_windows(facts: Facts, fault: str | None) -> None:
    made = data.Dataset(
        id="mine",
        x=np.array([0, 1, 0, 1], np.float32).reshape(4, 1, 1),
        y=np.array([0, 0, 1, 1]),
        group=np.array([0, 1, 2, 3]),
        split=np.array([0, 0, 2, 2], np.uint8),
        classes=("walking", "standing"),
        channels=("acc [g]",),
        rate=50.0,
    )
    found = list(facts.faults(made))
    assert found == [] if fault is None else re.search(fault, found[0])


@pytest.mark.parametrize("id", ["ucihar", "dsa19", "cinc2017", "har"])
def test_names_that_lead_out_of_the_archive_lead_nowhere(
    id: str, server: Server, tmp_path: Path, data_folder: Path
) -> None:
    """Nothing is unpacked to disk: a member is found by the end of its name, wherever it pretends to be."""
    makers: dict[str, Callable[[], dict[str, bytes]]] = {
        "ucihar": archives.ucihar_members,
        "dsa19": archives.dsa19_members,
        "cinc2017": lambda: archives.cinc2017_members()[0],
        "har": lambda: hapt_zip.members(*hapt_zip.small()),
    }
    url = offered(server, id)
    hostile = {f"../../../../tmp/{name}": content for name, content in makers[id]().items()}
    hostile["/etc/fastzoo-test"] = b"x"
    server.files[next(name for name in server.files if name.endswith(".zip"))] = archives.zipped(hostile)
    data.fetch(id, url, verify=False, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert visible(data_folder) == [f"{id}.npz"]
    assert not Path("/etc/fastzoo-test").exists()


def test_two_at_once_download_once(server: Server) -> None:
    url = offered(server, "dsa19")
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(data.fetch, "dsa19", url, verify=False, progress=False) for _ in range(2)]
        assert len({done.result() for done in waiting}) == 1
    assert len(server.requests) == 1
    assert len(data.load("dsa19").y) == 48


def test_every_official_address_is_https() -> None:
    for id in IDS:
        assert all(url.startswith("https://") for url in of(id).urls)
        assert of(id).id == id
