"""bundle.json: what is written is read back, and everything else is refused in one message."""

from __future__ import annotations

import contextlib
import copy
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastzoo import bundle, golden
from fastzoo.errors import BundleError

from . import toy

Document = dict[str, Any]


@pytest.fixture(scope="module")
def document(pristine: Path) -> Document:
    read: Document = json.loads((pristine / "bundle.json").read_text())
    return read


def test_what_is_written_is_read_back(pristine: Path, tmp_path: Path) -> None:
    content = bundle.read(pristine)
    path = bundle.write(content, tmp_path / "copy")
    assert bundle.read(tmp_path / "copy") == content
    assert path.read_bytes() == (pristine / "bundle.json").read_bytes()


def test_a_written_bundle_reads_well(pristine: Path) -> None:
    text = (pristine / "bundle.json").read_text()
    assert text.endswith("}\n")
    assert '  "labels": ["rest", "walk", "run"],\n' in text
    assert list(json.loads(text))[:3] == ["schema", "name", "version"]
    assert list(json.loads(text)["precisions"]["fp32"]["layouts"]) == ["fused", "unrolled"]
    assert "null" not in text.replace('"w_rank": null', "")  # only a free field may say that there is nothing


def test_numpy_numbers_are_written_with_six_digits(pristine: Path, tmp_path: Path) -> None:
    seeds = {"accuracy": np.float32(1 / 3), "all": np.array([1, 2])}
    bundle.write(replace(bundle.read(pristine), seeds=seeds), tmp_path)
    assert bundle.read(tmp_path).seeds == {"accuracy": 0.333333, "all": [1, 2]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Path("somewhere"), b"bytes", "bell \a"])
def test_a_bundle_that_could_not_be_read_is_not_written(pristine: Path, tmp_path: Path, value: object) -> None:
    with pytest.raises(BundleError, match="training"):
        bundle.write(replace(bundle.read(pristine), training={"value": value}), tmp_path)
    assert list(tmp_path.glob("*.json")) == []


def test_a_failed_write_leaves_the_old_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / "bundle.json").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BundleError, match="No space left"):
        bundle.write(replace(bundle.read(folder), version="2.0.0"), folder)
    assert (folder / "bundle.json").read_bytes() == before
    assert not list(folder.glob(".*"))


def test_missing_folder_and_missing_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nowhere does not exist; .*`fastzoo list`"):
        bundle.read(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"has no bundle\.json"):
        bundle.read(tmp_path)
    with pytest.raises(BundleError, match="not a path"):
        bundle.read("nul\0byte")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe{}",
        b"{",
        b"[" * 100_000,
        b'{"schema": ' + b"9" * 5000 + b"}",
        b'{"schema": NaN}',
        b"null",
        b'"text"',
        b"[]",
        b"{}",
    ],
    ids=["empty", "not UTF-8", "cut", "deep", "endless number", "NaN", "null", "text", "list", "empty object"],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "bundle.json").write_bytes(text)
    with pytest.raises(BundleError, match=r"bundle\.json is (damaged|faulty).* get or export the bundle again"):
        bundle.read(tmp_path)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "bundle.json").open("wb") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(BundleError, match="larger than 4 MiB"):
        bundle.read(tmp_path)


def test_a_newer_schema_asks_for_an_update(document: Document) -> None:
    with pytest.raises(BundleError, match="schema 2, this fastzoo reads up to 1: update fastzoo"):
        parse({"schema": 2, "all": "different"})


def test_unknown_fields_are_ignored(document: Document) -> None:
    changed = copy.deepcopy(document)
    changed["novelty"] = changed["input"]["novelty"] = changed["precisions"]["int8"]["layouts"]["fused"]["novelty"] = 1
    assert parse(changed) == parse(document)


def parse(document: object) -> bundle.Bundle:
    return bundle.parse(json.dumps(document).encode(), "folder")


def fused(document: Document) -> Document:
    found: Document = document["precisions"]["int8"]["layouts"]["fused"]
    return found


def cross_check(document: Document, **changes: object) -> None:
    check = {"layout": "fused", "split": "test", "n": 5, "accuracy": 0.8, "macro_f1": 0.8, "sha256": "0" * 64}
    document["precisions"]["int8"]["cross_checks"] = {"other": {**check, **changes}}


FAULTS: dict[str, Callable[[Document], object]] = {
    "schema must be 1": lambda d: d.pop("schema"),
    "name is missing": lambda d: d.pop("name"),
    "name must be text, not a whole number": lambda d: d.update(name=5),
    "name 'a/b'": lambda d: d.update(name="a/b"),
    "name '..'": lambda d: d.update(name=".."),
    "name 'Upper'": lambda d: d.update(name="Upper"),
    "name 'xxxx": lambda d: d.update(name="x" * 65),
    "version 'new'": lambda d: d.update(version="new"),
    "summary": lambda d: d.update(summary="two\nlines"),
    "summary holds characters": lambda d: d.update(summary="\x1b[31mred"),
    "cell must be an object": lambda d: d.update(cell=None),
    "cell.a is nested too deeply": lambda d: d.update(cell={"a": json.loads("[" * 50 + "]" * 50)}),
    "pool must be between 1 and the 8 steps": lambda d: d.update(pool=9),
    "pool must be a whole number, not a truth value": lambda d: d.update(pool=True),
    "pool is too large a number": lambda d: d.update(pool=10**30),
    r"input.channels\[1\] must be text": lambda d: d["input"]["channels"].__setitem__(1, None),
    "input.channels must be a list, not text": lambda d: d["input"].update(channels="abc"),
    "input.channels must be at least 1": lambda d: d["input"].update(channels=[]),
    "input.rate must be positive": lambda d: d["input"].update(rate=0),
    "input.steps must be a whole number, not a number": lambda d: d["input"].update(steps=8.0),
    "labels must be at least 2": lambda d: d.update(labels=["only"]),
    "labels must be at least 2 different": lambda d: d.update(labels=["rest", "rest", "run"]),
    "labels: each must be one line": lambda d: d.update(labels=["rest", " ", "run"]),
    "size: 101 non-zeros of 100": lambda d: d["size"].update(nonzeros=101),
    "size.macs_per_window": lambda d: d["size"].update(macs_per_window=-1),
    "size.macs_per_step": lambda d: d["size"].update(macs_per_step=-1),
    "size.dense_bytes": lambda d: d["size"].update(dense_bytes=-4),
    "size.sparse_bytes": lambda d: d["size"].update(sparse_bytes=-4),
    "size.int8_bytes must be positive, not -1": lambda d: d["size"].update(int8_bytes=-1),
    "weights must be an object, not a list": lambda d: d.update(weights=[]),
    "precisions is empty": lambda d: d.update(precisions={}),
    "precision's name 'a-b'": lambda d: d["precisions"].update({"a-b": d["precisions"]["int8"]}),
    "precisions.int8.layouts is empty": lambda d: d["precisions"]["int8"].update(layouts={}),
    "precisions.int8.weights_bytes": lambda d: d["precisions"]["int8"].update(weights_bytes=0),
    "layout's name 'a b'": lambda d: d["precisions"]["int8"]["layouts"].update({"a b": fused(d)}),
    "precisions.int8.layouts.fused.bytes is missing": lambda d: fused(d).pop("bytes"),
    "cannot have -1 bytes": lambda d: fused(d).update(bytes=-1),
    "64 hexadecimal digits": lambda d: fused(d).update(sha256="0" * 63),
    "opset and counts": lambda d: fused(d).update(opset=0),
    "operators.GRU must be a whole number": lambda d: fused(d).update(operators={"GRU": "one"}),
    "session.a must be text": lambda d: fused(d).update(session={"a": 1}),
    "p50 9.0 us, but p95 8.0 us": lambda d: fused(d).update(latency={"p50_us": 9.0, "p95_us": 8.0, "load_ms": 1}),
    "accuracy and macro_f1": lambda d: fused(d)["metrics"].update(accuracy=1.5),
    "per_class must have one entry per label": lambda d: fused(d)["metrics"]["per_class"].pop("rest"),
    "confusion must be 3 rows of 3": lambda d: fused(d)["metrics"].update(confusion=[[5]]),
    "confusion must count n = 6": lambda d: fused(d)["metrics"].update(n=6),
    "cross_checks.other.layout 'scan' is not one of its layouts": lambda d: cross_check(d, layout="scan"),
    "cross_checks.other: accuracy and macro_f1": lambda d: cross_check(d, accuracy=-0.1),
    "cross_checks.other: .* of at least one window": lambda d: cross_check(d, n=0),
    "two files have the same name: golden.npz": lambda d: fused(d).update(file="GOLDEN.npz"),
    "two files have the same name: bundle.json": lambda d: fused(d).update(file="bundle.json"),
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_fault_is_named(document: Document, message: str) -> None:
    changed = copy.deepcopy(document)
    FAULTS[message](changed)
    with pytest.raises(BundleError, match=message):
        parse(changed)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a/b.onnx", "..", ".", "", ".hidden", "c:x", "a\\b", "x" * 129, "a\nb"]
)
def test_a_file_must_be_a_plain_name_inside_the_folder(document: Document, name: str) -> None:
    changed = copy.deepcopy(document)
    fused(changed)["file"] = name
    with pytest.raises(BundleError, match="must be a plain name"):
        parse(changed)


def test_all_faults_are_in_one_message(document: Document) -> None:
    changed = copy.deepcopy(document)
    changed.update(name=1, labels="abc")
    del fused(changed)["sha256"]
    with pytest.raises(BundleError) as caught:
        parse(changed)
    for part in ("name must be text", "labels must be a list", "precisions.int8.layouts.fused.sha256 is missing"):
        assert part in str(caught.value)


def test_a_file_full_of_faults_gives_a_readable_message(document: Document) -> None:
    with pytest.raises(BundleError, match="and 980 more") as caught:
        parse({**document, "labels": [1] * 1000})
    assert len(str(caught.value)) < 2000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything in a document."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_anywhere_is_read_or_refused_but_never_crashes(document: Document, data: st.DataObject) -> None:
    changed = copy.deepcopy(document)
    *parents, last = data.draw(st.sampled_from(places(document)[1:]))
    parent: Any = changed
    for key in parents:
        parent = parent[key]
    parent[last] = data.draw(JSON)
    try:
        content = parse(changed)
    except BundleError:
        return
    assert isinstance(content.labels, tuple)
    assert content.files
    json.dumps(bundle.to_dict(content), allow_nan=False)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_cut_file_is_refused(pristine: Path, data: st.DataObject) -> None:
    text = (pristine / "bundle.json").read_bytes()
    length = data.draw(st.integers(0, len(text) - 2))
    with pytest.raises(BundleError, match="damaged"):
        bundle.parse(text[:length], "folder")


def test_check_finds_every_damaged_file(folder: Path) -> None:
    content = bundle.read(folder)
    bundle.check(content, folder)
    (folder / "golden.npz").unlink()
    (folder / "weights.safetensors").write_bytes(b"longer than it was, and so of another size")
    data = bytearray((folder / "int8-fused.onnx").read_bytes())
    data[100] ^= 1
    (folder / "int8-fused.onnx").write_bytes(data)
    with pytest.raises(BundleError) as caught:
        bundle.check(content, folder)
    for part in (
        "golden.npz is missing",
        "weights.safetensors has 42 bytes",
        "int8-fused.onnx does not have the sha256",
    ):
        assert part in str(caught.value)
    bundle.check(content, folder, ["fp32-fused.onnx"])


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "golden.npz").rename(tmp_path / "golden.npz")
    (folder / "golden.npz").symlink_to(tmp_path / "golden.npz")
    with pytest.raises(BundleError, match="link out of the bundle's folder"):
        bundle.check(bundle.read(folder), folder)


def test_a_folder_or_a_loop_of_links_in_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / "golden.npz").unlink()
    (folder / "golden.npz").mkdir()
    (folder / "weights.safetensors").unlink()
    (folder / "weights.safetensors").symlink_to(folder / "weights.safetensors")
    with pytest.raises(BundleError, match=r"weights\.safetensors.*golden\.npz is missing"):
        bundle.check(bundle.read(folder), folder)


def test_auto_takes_the_fastest_verified_layout(pristine: Path) -> None:
    content = bundle.read(pristine)
    layouts = dict(content.precisions["int8"].layouts)

    def fastest(**changes: bundle.LayoutFile) -> str | None:
        precision = replace(content.precisions["int8"], layouts={**layouts, **changes})
        return replace(content, precisions={"int8": precision}).fastest("int8")

    assert fastest() == "fused"
    quick = replace(layouts["unrolled"], latency=bundle.Latency(1.0, 2.0, 1.0))
    assert fastest(unrolled=quick) == "unrolled"
    assert fastest(unrolled=replace(quick, verification={})) == "fused"
    assert fastest(step=quick) == "fused"
    untimed = {name: replace(file, latency=None) for name, file in layouts.items()}
    assert fastest(**untimed) == "fused"
    only_step = replace(content.precisions["int8"], layouts={"step": quick})
    assert replace(content, precisions={"int8": only_step}).fastest("int8") is None


def test_golden_windows_are_read(pristine: Path) -> None:
    arrays = golden.read(bundle.read(pristine), pristine)
    assert arrays["x"].shape == (5, toy.T, toy.D)
    assert set(arrays) == {"x", "torch", *(f"{p}/{w}" for p in ("fp32", "int8") for w in ("fused", "unrolled"))}


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"x": np.zeros((5, 8, 2), np.float32)},
        {"x": np.zeros((5, 8, 3), np.float64)},
        {"x": np.zeros((5, 8, 3), np.float32), "torch": np.zeros((5, 2), np.float32)},
        {"x": np.array([[[None]]])},
    ],
)
def test_golden_windows_that_do_not_fit_are_refused(folder: Path, arrays: dict[str, Any]) -> None:
    np.savez(folder / "golden.npz", **arrays)
    record = toy.record(folder, "golden.npz", (folder / "golden.npz").read_bytes())
    with pytest.raises(BundleError, match=r"golden\.npz"):
        golden.read(replace(bundle.read(folder), golden=record), folder)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_golden_file_never_crashes(folder: Path, pristine: Path, data: st.DataObject) -> None:
    content = bytearray((pristine / "golden.npz").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    record = toy.record(folder, "golden.npz", bytes(content))
    with contextlib.suppress(BundleError):
        golden.read(replace(bundle.read(pristine), golden=record), folder)
