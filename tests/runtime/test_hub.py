"""Models from servers: fetched once, verified before use, resumed; every way in which a download fails, for real."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cli.shell import good, message_of, run

import fastzoo
from fastzoo import bundle, registry
from fastzoo.errors import BundleError, DownloadError, FastzooError, RegistryError, UnknownModelError
from fastzoo.hub import cache, contents, places, settings

from . import toy
from .served import Served, serving

NAME = "gru-toy-int8"
LARGE = "weights.safetensors"


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """A folder with a registry of one bundle, one file of which is large."""
    top = tmp_path / "zoo"
    toy.make(top / "models" / "gru-toy", weights_file=np.random.default_rng(0).bytes(300_000))
    registry.build(top)
    return top


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FASTZOO_CACHE", str(folder))
    monkeypatch.delenv("FASTZOO_OFFLINE", raising=False)
    return folder


@pytest.fixture
def server(zoo: Path, cached: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server of the zoo, which is the user's only registry."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(zoo) as told:
        monkeypatch.setenv("FASTZOO_REGISTRY", told.url)
        yield told


def answers(model: fastzoo.model.Model, zoo: Path) -> bool:
    """Whether a model answers as the one on the server does."""
    x = toy.windows(5)
    here = fastzoo.load(zoo / "models" / "gru-toy", precision=model.precision)
    return bool((model.predict_proba(x) == here.predict_proba(x)).all())


def python(code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Another process with the same registry and cache."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


FETCH = "import sys; from fastzoo.cli import main; sys.argv = ['fastzoo', 'fetch', *sys.argv[1:]]; main()"


def test_a_model_on_a_server_loads_by_name_and_is_fetched_once(server: Served, zoo: Path) -> None:
    assert fastzoo.list_models("gru-toy-*") == ["gru-toy-fp32", NAME]
    model = fastzoo.load(NAME)
    assert answers(model, zoo)
    assert server.names() == [registry.FILE, bundle.FILE, "int8-fused.onnx"], "and nothing else"
    fastzoo.load(NAME)
    assert len(server.asked) == 3


def test_a_model_from_a_server_pickles_and_streams(server: Served, zoo: Path) -> None:
    model = pickle.loads(pickle.dumps(fastzoo.load(NAME)))
    assert answers(model, zoo)
    assert len(model.stream(hop=4).push(np.zeros((20, toy.D)))) == 4
    assert "int8-unrolled.onnx" not in server.names()
    assert model.open("unrolled").layout == "unrolled", "files that are not here yet are fetched on the other side too"


def test_a_bundle_loads_by_its_address(server: Served, zoo: Path) -> None:
    address = f"{server.url}/models/gru-toy"
    assert answers(fastzoo.load(address), zoo)
    assert fastzoo.info(f"{address}/bundle.json")["name"] == NAME
    assert fastzoo.load(address, precision="fp32").name == "gru-toy-fp32"
    digest = fastzoo.info(address)["bundle_sha256"]
    assert answers(fastzoo.load(f"{address}#sha256={digest}"), zoo)
    with pytest.raises(DownloadError, match="does not have the sha256 that was promised"):
        fastzoo.load(f"{address}#sha256={'0' * 64}")


def test_everything_is_fetched_for_boards_without_a_network(
    server: Served, zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good("fetch", "gru-toy-*", "--all")
    names = {record.file for record in bundle.read(zoo / "models" / "gru-toy").files}
    assert names | {bundle.FILE} <= set(server.names())
    monkeypatch.setenv("FASTZOO_OFFLINE", "1")
    before = len(server.asked)
    for layout in ("fused", "unrolled"):
        assert answers(fastzoo.load("gru-toy-fp32", layout), zoo)
    assert "all as they should be" in good("cache", "verify")
    assert len(server.asked) == before
    out = tmp_path / "usb"
    assert str(out / "gru-toy") in good("fetch", NAME, "--out", out)
    monkeypatch.delenv("FASTZOO_REGISTRY")
    bundle.check(bundle.read(out / "gru-toy"), out / "gru-toy")
    assert answers(fastzoo.load(out / "gru-toy"), zoo)


def test_offline_names_what_is_missing(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTZOO_OFFLINE", "1")
    with pytest.raises(UnknownModelError, match=r"zoo_registry.json is not in the cache, and FASTZOO_OFFLINE is set"):
        fastzoo.load(NAME)
    with pytest.raises(DownloadError, match="FASTZOO_OFFLINE is set: unset it, or fetch the model beforehand"):
        fastzoo.load(f"{server.url}/models/gru-toy")
    assert not server.asked


def test_what_was_fetched_serves_when_the_server_is_gone(
    server: Served, zoo: Path, cached: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fastzoo.load(NAME)
    monkeypatch.setattr(cache, "FRESH", 0.0)
    monkeypatch.setattr(cache, "AFTER_FAILURE", 0.0)
    server.status = 503
    with caplog.at_level(logging.WARNING, "fastzoo"):
        assert answers(fastzoo.load(NAME), zoo)
    assert "the server answered 503" in caplog.text
    assert "is used" in caplog.text


def test_no_network_is_said_with_the_remedy(server: Served) -> None:
    address = "http://127.0.0.1:9"  # the port where nobody listens
    assert "the server cannot be reached; check the network connection" in message_of("registry", "add", address)


def test_a_server_that_does_not_answer_is_not_waited_for_forever(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTZOO_TIMEOUT", "0.2")
    server.hang = 1.0
    begin = time.monotonic()
    with pytest.raises(DownloadError, match=r"no answer within 0\.2 seconds"):
        registry.read_place(server.url)
    assert time.monotonic() - begin < 0.9


def test_a_transfer_that_breaks_off_goes_on_where_it_broke(server: Served) -> None:
    server.cuts = {LARGE: [6 * 16_384, 3 * 16_384]}
    for _ in range(2):
        message = message_of("fetch", NAME, "--all")
        assert "the transfer broke off. Try again later: what has come is kept" in message
    good("fetch", NAME, "--all")
    assert asked_for(server, LARGE) == [None, "bytes=98304-", "bytes=147456-"]
    assert "all as they should be" in good("cache", "verify")


def asked_for(server: Served, name: str) -> list[str | None]:
    """The ``Range`` of each request for a file."""
    return [wanted for path, wanted in server.asked if path.endswith(f"/{name}")]


def test_a_server_that_cannot_begin_in_the_middle_begins_again(server: Served) -> None:
    server.cuts, server.ranges = {LARGE: [100_000]}, False
    message_of("fetch", NAME, "--all")
    good("fetch", NAME, "--all")
    assert "all as they should be" in good("cache", "verify")


def test_a_part_of_another_file_is_not_gone_on_with(server: Served, cached: Path) -> None:
    good("fetch", NAME)
    (folder,) = (cached / "bundles").iterdir()
    (folder / f".{LARGE}.part").write_bytes(b"of another version" * 1000)
    good("fetch", NAME, "--all")
    assert asked_for(server, LARGE) == ["bytes=18000-", None]
    assert "all as they should be" in good("cache", "verify")


def test_a_process_that_is_killed_while_downloading_loses_little(server: Served, cached: Path) -> None:
    good("fetch", NAME)
    server.pause = 0.02
    process = python(FETCH, NAME, "--all")
    (folder,) = (cached / "bundles").iterdir()
    part = folder / f".{LARGE}.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size > 50_000) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folder / LARGE).exists(), "a part has the name of the whole"
    server.pause = 0.0
    good("fetch", NAME, "--all")
    first, second = asked_for(server, LARGE)
    assert first is None
    assert second is not None, "it began again"
    assert int(second.removeprefix("bytes=").removesuffix("-")) >= 49_152
    assert "all as they should be" in good("cache", "verify")


def test_two_processes_at_once_fetch_once(server: Served) -> None:
    server.pause = 0.002
    running = [python(FETCH, NAME, "--all") for _ in range(3)]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert asked_for(server, LARGE) == [None]
    assert len(asked_for(server, "int8-fused.onnx")) == 1
    assert "all as they should be" in good("cache", "verify")


def test_a_page_in_the_place_of_a_model_is_named(server: Served) -> None:
    server.pages = {"int8-fused.onnx"}
    with pytest.raises(DownloadError, match=r"int8-fused\.onnx is a web page, not the file that was promised"):
        fastzoo.load(NAME)
    server.pages = set()
    assert fastzoo.load(NAME).name == NAME


def test_a_page_in_the_place_of_a_registry_or_a_bundle_is_named(server: Served) -> None:
    server.pages = {registry.FILE, bundle.FILE}
    assert "is a web page, not a registry; check the address" in message_of("registry", "add", server.url)
    with pytest.raises(BundleError, match="is a web page, not a bundle's"):
        fastzoo.load(f"{server.url}/models/gru-toy")


def test_other_content_than_the_registry_promised_is_refused(server: Served, zoo: Path, cached: Path) -> None:
    path = zoo / "models" / "gru-toy" / "int8-fused.onnx"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"?")
    with pytest.raises(DownloadError, match=r"does not have the sha256 that was promised\. Where its registry"):
        fastzoo.load(NAME)
    path.write_bytes(data + b"?")
    with pytest.raises(DownloadError, match=f"sends more than {len(data)} bytes"):
        fastzoo.load(NAME)
    path.write_bytes(data[:-1])
    with pytest.raises(DownloadError, match=f"has {len(data) - 1} bytes, where {len(data)} were promised"):
        fastzoo.load(NAME)
    path.write_bytes(data)
    assert answers(fastzoo.load(NAME), zoo)


def test_a_file_that_was_changed_in_the_cache_is_fetched_again(server: Served, zoo: Path) -> None:
    path = fastzoo.load(NAME).path
    path.write_bytes(b"?" * path.stat().st_size)
    assert run("cache", "verify").exit_code == 1
    assert answers(fastzoo.load(NAME), zoo)
    assert run("cache", "verify").exit_code == 0


def test_a_registry_of_a_newer_schema_is_refused_and_unknown_fields_are_not(
    server: Served, zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = json.loads((zoo / registry.FILE).read_text())
    listing["team"] = {"name": "gestures"}
    for entry in listing["models"].values():
        entry["stars"] = 5
    (zoo / registry.FILE).write_text(json.dumps(listing))
    assert answers(fastzoo.load(NAME), zoo)
    assert fastzoo.info(NAME)["stars"] == 5
    monkeypatch.setattr(cache, "FRESH", 0.0)
    listing["schema"] = 2
    (zoo / registry.FILE).write_text(json.dumps(listing))
    assert answers(fastzoo.load(NAME), zoo), "the copy of the old one serves"
    shutil.rmtree(cache.root())
    with pytest.raises(UnknownModelError, match="has schema 2, this fastzoo reads 1: update fastzoo"):
        fastzoo.load(NAME)


def test_an_unchanged_registry_is_not_sent_again(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    fastzoo.list_models()
    sent = server.sent
    assert sent > 0
    monkeypatch.setattr(cache, "FRESH", 0.0)
    assert NAME in fastzoo.list_models()
    assert server.names() == [registry.FILE] * 2
    assert server.sent == sent


def test_a_full_disk_is_one_clear_error_and_leaves_nothing_behind(server: Served, cached: Path) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); " + FETCH
    process = python(limited, NAME, "--all")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert f"cannot write {cached}" in errors
    assert "FASTZOO_CACHE" in errors
    (folder,) = (cached / "bundles").iterdir()
    assert not (folder / LARGE).exists()
    assert (folder / f".{LARGE}.part").stat().st_size == 0, "what fills a disk must not stay there"
    good("fetch", NAME, "--all")


READ_ONLY = """
import os, sys
import pooch, requests
import fastzoo
fastzoo.load(sys.argv[2])  # what it imports may lie where only root can read
if os.geteuid() == 0:
    os.setgid(65534), os.setuid(65534)
print(fastzoo.load(sys.argv[1]).predict([[0.0] * 3] * 8))
"""


def test_a_read_only_cache_serves_what_it_has(server: Served, cached: Path, tmp_path: Path) -> None:
    label = fastzoo.load(NAME).predict([[0.0] * toy.D] * toy.T)
    above = [path for path in tmp_path.parents if path.is_relative_to("/tmp") and path != Path("/tmp")]
    modes = {path: path.stat().st_mode for path in above}
    try:
        for path in above:
            path.chmod(0o755)
        for path in (tmp_path, *tmp_path.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        process = python(READ_ONLY, NAME, NAME)
        output, errors = process.communicate(timeout=60)
        assert (output.strip(), errors) == (label, "")
        process = python(READ_ONLY, "gru-toy-fp32", NAME)
        _, errors = process.communicate(timeout=60)
        assert "CacheError: cannot write" in errors
        assert "FASTZOO_CACHE" in errors
    finally:
        for path in (tmp_path, *tmp_path.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        for path, mode in modes.items():
            path.chmod(mode)


def test_a_server_cannot_replace_a_model_of_fastzoo(server: Served, zoo: Path) -> None:
    listing = json.loads((zoo / registry.FILE).read_text())
    entry = listing["models"][NAME] | {"name": "fastgrnn-har-int8", "replaces_builtin": True}
    listing["models"]["fastgrnn-har-int8"] = entry
    (zoo / registry.FILE).write_text(json.dumps(listing))
    assert fastzoo.load("fastgrnn-har-int8").labels != toy.LABELS
    assert fastzoo.info("fastgrnn-har-int8")["dataset"]["id"] == "har"


@pytest.mark.parametrize("path", ["../../outside", "/etc", "models/../../x"])
def test_a_server_cannot_name_files_elsewhere(server: Served, zoo: Path, path: str) -> None:
    listing = json.loads((zoo / registry.FILE).read_text())
    listing["models"][NAME]["bundle"] = path
    (zoo / registry.FILE).write_text(json.dumps(listing))
    with pytest.raises(UnknownModelError, match="is faulty"):
        fastzoo.load(NAME)


def test_a_repository_on_hugging_face_is_a_registry(
    tmp_path: Path, zoo: Path, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their library makes the addresses; the server behind ``HF_ENDPOINT`` is this one."""
    shutil.copytree(zoo, tmp_path / "hub" / "team" / "gestures" / "resolve" / "v1" / "zoo")
    with serving(tmp_path / "hub") as told:
        code = (
            "import sys, numpy as np, fastzoo\nprint(fastzoo.load(sys.argv[1]).name, fastzoo.load(sys.argv[2]).name)\n"
        )
        place = "hf://team/gestures@v1/zoo"
        process = python(
            code, NAME, f"{place}/models/gru-toy",
            HF_ENDPOINT=told.url, FASTZOO_REGISTRY=place, NO_PROXY="127.0.0.1", HF_HUB_DISABLE_TELEMETRY="1",
        )  # fmt: skip
        output, errors = process.communicate(timeout=60)
    assert output.split() == [NAME, NAME], errors
    assert told.asked[0][0] == f"team/gestures/resolve/v1/zoo/{registry.FILE}"


@pytest.mark.skipif(importlib.util.find_spec("huggingface_hub") is None, reason="needs huggingface_hub")
@pytest.mark.parametrize("address", ["hf://team", "hf://", "ftp://host/zoo", "https://", "https://user:word@host/zoo"])
def test_an_address_that_is_none_is_refused(address: str, cached: Path) -> None:
    with pytest.raises(RegistryError):
        registry.read_place(address)


def test_passwords_in_addresses_are_not_repeated(cached: Path) -> None:
    with pytest.raises(RegistryError) as caught:
        registry.read_place("https://user:secret@host/zoo")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/a:/b", ["/a", "/b"]),
        ("https://host/zoo:/b", ["https://host/zoo", "/b"]),
        ("/a:http://host:8000/zoo:hf://team/zoo@v1", ["/a", "http://host:8000/zoo", "hf://team/zoo@v1"]),
        ("http://[::1]:8000/zoo:/b:", ["http://[::1]:8000/zoo", "/b"]),
        ("", []),
    ],
)
@pytest.mark.skipif(os.pathsep != ":", reason="as in PATH here")
def test_places_in_the_variable_are_separated_as_in_path(text: str, found: list[str]) -> None:
    assert places.split(text) == found


def test_registries_are_added_and_removed(
    server: Served, zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FASTZOO_REGISTRY")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert "2 models" in good("registry", "add", server.url)
    assert "was added before" in good("registry", "add", server.url)
    good("registry", "add", zoo)
    assert fastzoo.load(NAME).name == NAME
    rows = json.loads(good("registry", "list", "--json"))
    assert [(row["place"], row["models"]) for row in rows[-2:]] == [(server.url, 2), (str(zoo), 2)]
    assert f"{server.url}: 2 models" in good("registry", "update")
    good("registry", "remove", server.url)
    good("registry", "remove", zoo)
    assert "was not added" in message_of("registry", "remove", zoo)
    with pytest.raises(UnknownModelError):
        fastzoo.load(NAME)
    settings.config_file().write_text("{")
    assert "repair it, or delete it" in message_of("registry", "add", zoo)


def test_a_registry_that_cannot_be_read_is_listed_with_its_fault(
    server: Served, zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTZOO_REGISTRY", f"{zoo}:http://127.0.0.1:9")
    result = run("registry", "list")
    assert result.exit_code == 0
    assert "faulty" in result.output
    assert "cannot be reached" in result.output
    assert fastzoo.load(NAME).name == NAME
    with pytest.raises(UnknownModelError, match="Not all registries could be read"):
        fastzoo.load("gru-tov-int8")


def test_a_folder_is_built_into_a_registry_and_checked(zoo: Path) -> None:
    assert "2 models" in good("registry", "build", zoo)
    assert run("registry", "build", zoo, "--check").exit_code == 0
    shutil.rmtree(zoo / "models")
    toy.make(zoo / "other", "gru-other", precisions=("int8",))
    result = run("registry", "build", zoo, "--check")
    assert result.exit_code == 1
    assert "new     gru-other-int8" in result.output
    assert "gone    gru-toy-int8" in result.output
    good("registry", "build", zoo)
    assert run("registry", "build", zoo, "--check").exit_code == 0


def test_the_cache_is_listed_and_cleaned(server: Served, cached: Path) -> None:
    assert good("cache", "dir").strip() == str(cached)
    assert "0.0 MB" in good("cache", "list")
    good("fetch", NAME)
    (row,) = json.loads(good("cache", "list", "--json"))
    assert (row["name"], row["files"], row["of"]) == ("gru-toy", 2, 7)
    assert "2 of 7" in good("cache", "list")
    assert "0 bundles deleted" in good("cache", "clean", "--unused", "1")
    assert "the cache has no gru-tov" in message_of("cache", "clean", "gru-tov")
    assert "1 bundles deleted" in good("cache", "clean", NAME)
    assert contents.cached() == []
    good("fetch", NAME)
    good("cache", "clean")
    assert not list((cached / "places").glob("*"))
    assert fastzoo.load(NAME).name == NAME


def test_fetching_what_nobody_has_is_an_error(server: Served) -> None:
    assert "no registered model fits 'nobodys-*'" in message_of("fetch", "nobodys-*")
    assert "no model 'nobodys' is registered" in message_of("fetch", "nobodys")
    assert isinstance(run("fetch", "nobodys").exception, FastzooError)


def test_another_bundle_is_not_overwritten_by_fetch(server: Served, tmp_path: Path) -> None:
    toy.make(tmp_path / "usb" / "gru-toy", seed=1)
    assert "holds another bundle" in message_of("fetch", NAME, "--out", tmp_path / "usb")


def test_nobody_registers_on_a_server(folder: Path, cached: Path, tmp_path: Path) -> None:
    message = message_of("register", folder, "--registry", "https://models.example.com/zoo")
    assert "is on a server: register into the folder that it serves" in message
    assert not (tmp_path / "https:").exists()
