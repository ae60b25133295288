from __future__ import annotations

import os
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastzoo import data
from fastzoo.data import hapt
from fastzoo.data.download import local_copy
from fastzoo.errors import DataError

from . import hapt_zip
from .conftest import Server

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def small() -> Files:
    return hapt_zip.members(*hapt_zip.small())


@pytest.fixture
def zipped(small: Files, tmp_path: Path) -> Path:
    return hapt_zip.write(tmp_path / "small.zip", small)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_windows_are_cut_inside_labelled_segments(zipped: Path) -> None:
    har = hapt.read_zip(zipped)
    x, y, group = [], [], []
    experiments, labels = hapt_zip.small()
    signals = {experiment.number: experiment.signal for experiment in experiments}
    for number, user, activity, first, last in labels:
        if activity <= 6:
            for begin in (0, 64, 128, 192):
                window = signals[number][first - 1 : last][begin : begin + 128]
                x.append((window * hapt.GRID).astype(np.float32))
                y.append(activity - 1)
                group.append(user)
    assert np.array_equal(har.x, np.stack(x))
    assert har.y.tolist() == y
    assert har.group.tolist() == group
    assert set(har.test.group.tolist()) == {2}
    assert set(har.train.group.tolist()) == {1, 30}
    assert (har.id, har.rate, har.classes, har.channels) == ("har", 50.0, hapt.CLASSES, hapt.CHANNELS)


@pytest.mark.parametrize(("length", "expected"), [(127, 0), (128, 1), (191, 1), (192, 2), (256, 3)])
def test_both_ends_of_a_segment_belong_to_it(length: int, expected: int, small: Files, tmp_path: Path) -> None:
    labels = f"1 1 1 1 128\n1 1 4 331 458\n1 1 2 500 {499 + length}\n".encode()
    har = hapt.read_zip(hapt_zip.write(tmp_path / "a.zip", small | {"labels.txt": labels}))
    assert (har.y == 1).sum() == expected


@pytest.mark.parametrize("folder", ["", "HAPT Data Set/RawData/"])
def test_the_folder_inside_the_zip_does_not_matter(folder: str, small: Files, zipped: Path, tmp_path: Path) -> None:
    other = hapt_zip.write(tmp_path / "other.zip", small, folder)
    assert hapt.read_zip(other).sha256 == hapt.read_zip(zipped).sha256


def test_a_zip_inside_the_zip_is_read(zipped: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as outer:
        outer.write(zipped, "HAPT Data Set.zip")
    assert hapt.read_zip(tmp_path / "outer.zip").sha256 == hapt.read_zip(zipped).sha256


@pytest.mark.parametrize("style", ["{:.5f}", "{:.8f}", "{:e}", "{!r}"])
def test_the_number_of_decimals_does_not_matter(style: str, small: Files, zipped: Path, tmp_path: Path) -> None:
    def rewritten(text: bytes) -> bytes:
        return b"\r\n".join(
            b"  ".join(style.format(float(v)).encode() for v in row.split()) for row in text.split(b"\n")
        )

    files = {name: text if name == "labels.txt" else rewritten(text) for name, text in small.items()}
    assert hapt.read_zip(hapt_zip.write(tmp_path / "a.zip", files)).sha256 == hapt.read_zip(zipped).sha256


def test_a_saturated_sensor_stays_on_its_scale(small: Files, tmp_path: Path) -> None:
    files = small | {"gyro_exp01_user01.txt": b"1e300 -1e300 0\n" * 2000}
    har = hapt.read_zip(hapt_zip.write(tmp_path / "a.zip", files))
    assert har.x[0, 0, 3:].tolist() == (np.array([32767, -32768, 0]) * hapt.GRID[3:]).astype(np.float32).tolist()


def without(name: str) -> Callable[[Files], Files]:
    return lambda files: {key: content for key, content in files.items() if key != name}


def replaced(name: str, change: Callable[[bytes], bytes]) -> Callable[[Files], Files]:
    return lambda files: files | {name: change(files[name])}


ACC = "acc_exp01_user01.txt"
FAULTS: dict[str, tuple[Callable[[Files], Files], str]] = {
    "no labels": (without("labels.txt"), r"does not hold labels\.txt"),
    "no gyroscope": (without("gyro_exp03_user02.txt"), r"does not hold gyro_exp03_user02\.txt"),
    "a recording twice": (lambda files: files | {"copy/" + ACC: b"1 2 3"}, "holds 2 files called acc_exp01"),
    "another user": (replaced("labels.txt", lambda text: text.replace(b"\n3 2 ", b"\n3 5 ")), "hold acc_exp03_user05"),
    "label beyond the end": (
        replaced("labels.txt", lambda text: text + b"4 30 6 2290 2500\n"),
        "labels samples 2290 to 2500 of experiment 4, but its recording has 2310",
    ),
    "recording cut short": (replaced(ACC, lambda text: text[:5000].rpartition(b"\n")[0]), "but its recording has"),
    "label before the start": (replaced("labels.txt", lambda text: b"1 1 6 0 1\n" + text), r"6\.0, 0\.0, 1\.0\]"),
    "unknown activity": (replaced("labels.txt", lambda text: text + b"5 1 13 1 200\n"), "activity 1..12"),
    "segments that overlap": (replaced("labels.txt", lambda text: text + b"4 30 3 2280 2300\n"), "without overlap"),
    "experiments out of order": (replaced("labels.txt", lambda text: text + b"1 1 3 2290 2300\n"), "order of time"),
    "a user in the experiment of another": (
        replaced("labels.txt", lambda text: text + b"4 1 3 2290 2300\n"),
        r"does not hold acc_exp04_user01\.txt",
    ),
    "segment backwards": (replaced("labels.txt", lambda text: text + b"5 1 3 200 1\n"), "first and last sample"),
    "label not an integer": (replaced("labels.txt", lambda text: text + b"5 1 3 1.5 200\n"), r"1\.0, 3\.0, 1\.5, 200"),
    "label row too short": (replaced("labels.txt", lambda text: text + b"1 1 3\n"), "not a table of 5 numbers a line"),
    "no segment of use": (lambda files: files | {"labels.txt": b"1 1 7 1 500\n"}, "holds no segment of 128 samples"),
    "empty labels": (lambda files: files | {"labels.txt": b""}, "holds no segment of 128 samples"),
    "empty recording": (lambda files: files | {ACC: b""}, "but its recording has 0"),
    "text in a recording": (replaced(ACC, lambda text: b"<html>" + text), r"acc_exp01_user01\.txt is not a table of 3"),
    "a number too many": (replaced(ACC, lambda text: text + b"1.0\n"), "not a table of 3 numbers a line"),
    "NaN": (replaced(ACC, lambda text: b"nan 0 0\n" + text), "acc_exp01_user01.txt holds NaN or infinity"),
    "not text": (lambda files: files | {ACC: bytes(range(256)) * 20}, "not a table of 3 numbers a line"),
    "bomb": (lambda files: files | {ACC: b"0 0 0\n" * (2 << 20)}, "unpacks to more than 8388608 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_archive_is_named(
    fault: str, small: Files, tmp_path: Path, server: Server, data_folder: Path
) -> None:
    change, message = FAULTS[fault]
    server.body = hapt_zip.write(tmp_path / "a.zip", change(small)).read_bytes()
    with pytest.raises(DataError, match=message) as caught:
        data.fetch("har", server.url, verify=False, progress=False)
    assert "FASTZOO_HAR_URL" in str(caught.value)
    assert left_in(data_folder) == []


def test_a_bomb_is_not_unpacked_whatever_size_it_states(small: Files, tmp_path: Path) -> None:
    path = hapt_zip.write(tmp_path / "a.zip", small | {"labels.txt": bytes(64 << 20)})
    content = path.read_bytes()
    size = struct.pack("<I", 64 << 20)
    assert content.count(size) == 2  # in the member's header and in the directory
    path.write_bytes(content.replace(size, struct.pack("<I", 1000)))
    with pytest.raises(DataError, match=r"labels\.txt .*(damaged|unpacks to more)"):
        hapt.read_zip(path)


def test_an_encrypted_archive_is_refused(zipped: Path) -> None:
    content = bytearray(zipped.read_bytes())
    with zipfile.ZipFile(zipped) as archive:
        directory = archive.start_dir
    while (directory := content.find(b"PK\x01\x02", directory)) >= 0:
        content[directory + 8] |= 1
        directory += 4
    zipped.write_bytes(content)
    with pytest.raises(DataError, match=r"is damaged .*encrypted"):
        hapt.read_zip(zipped)


@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_archive_is_refused_or_says_the_same(zipped: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(zipped.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(content)
    try:
        outcome = hapt.read_zip(damaged).sha256
    except DataError as error:
        outcome = str(error)
    assert outcome == hapt.read_zip(zipped).sha256 or hapt.REMEDY in outcome


def test_fetch_writes_the_prepared_file(zipped: Path, server: Server, data_folder: Path) -> None:
    server.body = zipped.read_bytes()
    path = data.fetch("har", server.url, verify=False)
    assert path == data_folder / "har.npz"
    assert left_in(data_folder) == ["har.npz"]
    assert data.load("har").sha256 == hapt.read_zip(zipped).sha256


def test_fetch_downloads_nothing_that_is_there(zipped: Path, server: Server) -> None:
    server.body = zipped.read_bytes()
    for _ in range(2):
        data.fetch("har", server.url, verify=False, progress=False)
    assert len(server.requests) == 1


def test_fetch_replaces_a_damaged_file(zipped: Path, server: Server, data_folder: Path) -> None:
    server.body = zipped.read_bytes()
    data_folder.mkdir()
    (data_folder / "har.npz").write_bytes(b"half")
    data.fetch("har", server.url, verify=False, progress=False)
    assert len(data.load("har").x) == 96


def test_other_recordings_are_refused(zipped: Path, server: Server, data_folder: Path) -> None:
    server.body = zipped.read_bytes()
    with pytest.raises(DataError) as caught:
        data.fetch("har", server.url, progress=False)
    message = str(caught.value)
    assert hapt.read_zip(zipped).sha256 in message
    assert hapt.SHA256 in message
    assert "verify=False (--no-verify" in message
    assert left_in(data_folder) == []


@pytest.mark.parametrize("variable", ["FASTZOO_HAR_URL", "FASTZOO_HAPT_URL"])
def test_the_environment_names_another_source(
    variable: str, zipped: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.body = zipped.read_bytes()
    monkeypatch.setenv(variable, server.url)
    data.fetch("har", verify=False, progress=False)
    assert server.requests == ["/hapt.zip"]


def test_a_zip_on_disk_is_a_source_too(zipped: Path, data_folder: Path) -> None:
    data.fetch("har", zipped.as_uri(), verify=False, progress=False)
    assert left_in(data_folder) == ["har.npz"]
    assert zipped.exists()


def test_the_default_source_is_the_uci_archive() -> None:
    assert hapt.URL.startswith("https://archive.ics.uci.edu/static/public/341/")


def refused(url: str, folder: Path) -> str:
    """The message of a download that must fail and leave nothing."""
    with pytest.raises(DataError) as caught:
        data.fetch("har", url, progress=False)
    assert left_in(folder) == []
    message = str(caught.value)
    assert url in message
    return message


def test_an_html_page_is_no_zip(server: Server, data_folder: Path) -> None:
    server.body = b"\n<!DOCTYPE html><html><body>Please log in</body></html>"
    message = refused(server.url, data_folder)
    assert "is an HTML page, not a zip" in message
    assert "FASTZOO_HAR_URL" in message


def test_something_else_is_no_zip(server: Server, data_folder: Path) -> None:
    server.body = b"\x1f\x8b gzip"
    assert "is not a zip, or truncated" in refused(server.url, data_folder)


@pytest.mark.parametrize(("status", "reason"), [(404, "404 Not Found"), (503, "503 Service Unavailable")])
def test_the_answer_of_the_server_is_reported(status: int, reason: str, server: Server, data_folder: Path) -> None:
    server.status = status
    message = refused(server.url, data_folder)
    assert f"the server answered {reason}. Try again later" in message
    assert "FASTZOO_HAR_URL" in message


def test_a_broken_transfer_is_reported_and_the_next_begins_anew(
    zipped: Path, server: Server, data_folder: Path
) -> None:
    server.body = zipped.read_bytes()
    server.send = len(server.body) // 2
    assert "the transfer broke off. Try again" in refused(server.url, data_folder)
    server.send = None
    data.fetch("har", server.url, verify=False, progress=False)
    assert left_in(data_folder) == ["har.npz"]


def test_a_truncated_zip_of_full_length_is_reported(zipped: Path, server: Server, data_folder: Path) -> None:
    server.body = zipped.read_bytes()[:-5000]
    assert "is not a zip, or truncated" in refused(server.url, data_folder)


def test_a_server_that_is_down_is_reported(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        message = refused(f"http://127.0.0.1:{unused.getsockname()[1]}/hapt.zip", data_folder)
    assert "the server cannot be reached; check the network connection" in message


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://example.org/hapt.zip", "must begin with https://, http:// or file://"),
        ("/tmp/hapt.zip", "must begin with https://, http:// or file://"),
        ("http://", "cannot download"),
        ("file:///no/such/hapt.zip", "No such file"),
        ("file:///", "Is a directory"),
    ],
)
def test_an_address_of_no_use_is_reported(url: str, message: str, data_folder: Path) -> None:
    assert message in refused(url, data_folder)


@pytest.mark.parametrize("stated", [True, False])
def test_an_endless_download_is_stopped(stated: bool, server: Server, tmp_path: Path) -> None:
    server.body = bytes(1 << 20)
    server.send = None if stated else 1 << 20
    with pytest.raises(DataError, match=r"sends more than 1000 bytes\. Try"):
        local_copy(server.url, tmp_path / "a.zip", limit=1000, remedy="Try another")


def test_a_full_disk_is_reported(zipped: Path, server: Server, data_folder: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits on file sizes are a matter of POSIX")
    server.body = zipped.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(DataError, match=r"cannot write .*File too large\. Set FASTZOO_DATA to a folder with space"):
            data.fetch("har", server.url, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert left_in(data_folder) == []


def test_a_folder_that_cannot_be_written_is_reported(server: Server, data_folder: Path) -> None:
    data_folder.touch()  # a file where the folder should be
    with pytest.raises(DataError, match=r"cannot write to .*Set FASTZOO_DATA to a folder"):
        data.fetch("har", server.url, progress=False)
    assert server.requests == []


@pytest.fixture
def recordings() -> Path:
    """The raw recordings in a folder laid out as ``hapt/hapt_raw.npz``."""
    folder = os.environ.get("FASTZOO_SHARED_DATA")
    if not folder:
        pytest.skip("FASTZOO_SHARED_DATA names no folder with the HAPT recordings (hapt/hapt_raw.npz)")
    path = Path(folder) / "hapt" / "hapt_raw.npz"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    return path


@pytest.mark.slow
@pytest.mark.real_data
def test_the_original_archive_gives_the_known_windows(
    recordings: Path, server: Server, tmp_path: Path, data_folder: Path
) -> None:
    with np.load(recordings) as raw:
        experiments = [
            hapt_zip.Experiment(int(number), int(user), raw_signal)
            for (number, user), raw_signal in zip(
                raw["exp_user"], np.split(raw["signal"], raw["offsets"][1:-1]), strict=True
            )
        ]
        files = hapt_zip.members(experiments, [tuple(row) for row in raw["labels"].tolist()])
    assert len(files) == 123
    server.body = hapt_zip.write(tmp_path / "a.zip", files, compression=zipfile.ZIP_STORED).read_bytes()
    data.fetch("har", server.url, progress=False)
    har = data.load("har")
    assert har.sha256 == hapt.SHA256
    assert har.x.shape == (10411, 128, 6)
    assert (len(har.train), len(har.test)) == (7415, 2996)
    assert left_in(data_folder) == ["har.npz"]
