"""Reports of boards: written, read with distrust, merged into registries, compared."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastzoo import _files, boards, registry
from fastzoo.boards import Conditions, Hardware, Measured, Numbers, Report
from fastzoo.errors import InputError, RegistryError

from . import toy

DESK = Hardware("a CPU", 4, "Linux", 4 * 2**30, "A Board 4B")
NAME = "gru-toy-int8"


def numbers(p50: float = 100.0) -> Numbers:
    return Numbers(p50, 2 * p50, 3 * p50, 1.5, 800, {"1": 5000.0, "8": 20000.0}, peak_rss_bytes=50_000_000)


def measured(folder: Path, p50: float = 100.0, **others: Any) -> Measured:
    return Measured(
        bundle_sha256=_files.sha256((folder / "bundle.json").read_bytes()),
        date="2026-11-27",
        fastzoo="0.1.0",
        python="3.11.2",
        numpy="1.24.2",
        repeats=20,
        threads=1,
        layouts={
            "fused": {"numpy": numbers(3 * p50), "onnxruntime": numbers(p50)},
            "unrolled": {"numpy": numbers(p50)},
        },
        onnxruntime="1.16.0",
        **others,
    )


def report(folder: Path, board: str = "desk", p50: float = 100.0, machine: Hardware = DESK) -> Report:
    return Report(board, machine, {NAME: measured(folder, p50, conditions=Conditions("schedutil", 40.0, 50.0))})


@pytest.fixture
def zoo(folder: Path, tmp_path: Path) -> Path:
    """A registry with the toy bundle."""
    registry.register(folder, tmp_path / "zoo")
    return tmp_path / "zoo"


@pytest.fixture
def written(folder: Path, tmp_path: Path) -> Path:
    boards.write_report(report(folder), tmp_path / "desk.json")
    return tmp_path / "desk.json"


# ---------------------------------------------------------------------------------------------------------------------
# Files


def test_a_report_comes_back_as_it_was(folder: Path, written: Path) -> None:
    assert boards.read_report(written) == report(folder)
    assert list(json.loads(written.read_text())) == ["schema", "name", "machine", "models"]


def test_a_second_model_joins_the_report_of_its_board(folder: Path, written: Path) -> None:
    other = replace(report(folder), models={"gru-toy-fp32": measured(folder)})
    boards.write_report(replace(other, machine=replace(DESK, os="Linux, updated")), written)
    found = boards.read_report(written)
    assert list(found.models) == ["gru-toy-fp32", NAME]
    assert found.machine.os == "Linux, updated"


@pytest.mark.parametrize("change", [{"name": "shelf"}, {"machine": replace(DESK, cpu="another CPU")}])
def test_a_report_of_another_board_is_not_overwritten(folder: Path, written: Path, change: dict[str, Any]) -> None:
    before = written.read_bytes()
    with pytest.raises(RegistryError, match="is the report of another board, desk; give another file"):
        boards.write_report(replace(report(folder), **change), written)
    assert written.read_bytes() == before


def test_a_file_that_is_something_else_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text('{"notes": 1}')
    with pytest.raises(RegistryError, match="is not the report of a board"):
        boards.write_report(report(folder), tmp_path / "notes.json")
    assert (tmp_path / "notes.json").read_text() == '{"notes": 1}'
    with pytest.raises(RegistryError, match="cannot write"):
        boards.write_report(report(folder), tmp_path / "notes.json" / "desk.json")


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "red \x1b[31m", "two\nlines"])
def test_a_board_needs_a_name_that_can_be_printed(folder: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"1 to 80 characters .* --board"):
        boards.write_report(report(folder, name), tmp_path / "x.json")


def changed(path: Path, change: Callable[[Any], object]) -> Path:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return path


def of(document: Any) -> Any:
    return document["models"][NAME]


def fused(document: Any) -> Any:
    return of(document)["layouts"]["fused"]["numpy"]


FAULTS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda d: d.update(schema=2), "has schema 2, this fastzoo reads 1: update fastzoo"),
    (lambda d: d.update(schema="\x1b[31m" * 99), r"has schema '\\x1b"),
    (lambda d: d.update(name="\x1b[2J"), "name holds characters that cannot be printed"),
    (lambda d: d.update(name="x" * 10_000), "name: a board's name has 1 to 80"),
    (lambda d: d.update(models={}), "models has none"),
    (lambda d: d.update(models=[]), "models must be an object"),
    (lambda d: d.pop("machine"), "machine is missing"),
    (lambda d: d["machine"].update(cpu="\x07"), "machine.cpu holds characters"),
    (lambda d: d["machine"].update(cores="4"), "machine.cores must be a whole number"),
    (lambda d: of(d).update(bundle_sha256="../../etc"), "bundle_sha256 must be 64 hexadecimal digits"),
    (lambda d: of(d).update(date="tomorrow"), "date must be a day"),
    (lambda d: of(d).update(repeats=0), "repeats and threads must be 1 or more"),
    (lambda d: of(d).update(layouts={}), "layouts has none"),
    (lambda d: of(d)["layouts"]["fused"].update(tpu=fused(d)), "the backend 'tpu', unknown to this fastzoo"),
    (lambda d: fused(d).update(p50_us=-1), r"fused\.numpy\.p50_us must be more than 0, not -1"),
    (lambda d: fused(d).update(p99_us=1), "p50_us, p95_us and p99_us must rise"),
    (lambda d: fused(d).update(peak_rss_bytes=0), "peak_rss_bytes must be more than 0"),
    (lambda d: fused(d).update(energy_uj=-0.1), "energy_uj must be more than 0"),
    (lambda d: fused(d).update(load_ms=1e300), "load_ms is too large a number"),
    (lambda d: fused(d)["throughput"].update({"01": 1.0}), "numbers of windows as keys"),
    (lambda d: fused(d)["throughput"].update({str(n): 1.0 for n in range(1, 99)}), "at most 32 numbers of windows"),
    (lambda d: fused(d)["throughput"].update({"1": 0}), r"throughput\.1 must be more than 0"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS, ids=[message for _, message in FAULTS])
def test_a_faulty_report_is_refused_and_the_registry_unchanged(
    zoo: Path, written: Path, change: Callable[[Any], Any], message: str
) -> None:
    before = (zoo / registry.FILE).read_bytes()
    with pytest.raises(RegistryError, match=message) as caught:
        boards.add(changed(written, change), zoo)
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()
    assert (zoo / registry.FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged"),
        (b'{"schema": 1, "name": NaN}', "is damaged .NaN is not JSON"),
        (b"\xff\xfe", "is damaged"),
        (b"[" * 100_000, "is damaged .nested too deeply"),
        (b"[]", "is not the report of a board"),
        (b'{"models": {}}', "is not the report of a board"),
        (b" " * (4 * 2**20 + 1), "is larger than 4 MiB"),
    ],
)
def test_a_file_that_is_no_report(zoo: Path, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(RegistryError, match=message):
        boards.add(tmp_path / "x.json", zoo)


def test_a_report_that_is_not_there(zoo: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(RegistryError, match=r"cannot read .* --report FILE` writes one"):
            boards.add(path, zoo)


# ---------------------------------------------------------------------------------------------------------------------
# Registries


def test_a_report_joins_a_registry_which_keeps_the_rest(zoo: Path, written: Path, folder: Path) -> None:
    changed(zoo / registry.FILE, lambda d: d.update(note="ours", boards={"shelf": {"machine": {}, "models": {}}}))
    changed(written, lambda d: (d.update(unknown="x"), fused(d).update(more={"a": 1})))
    models = registry.read(zoo / registry.FILE).models
    added = boards.add(written, zoo)
    assert added == (boards.Added(zoo / registry.FILE, "desk", (NAME,)))
    found = registry.read(zoo / registry.FILE)
    assert found.models == models
    assert found.others["note"] == "ours"
    assert list(found.boards) == ["desk", "shelf"]
    assert found.boards["desk"].keys() == {"machine", "models"}
    assert "more" not in json.dumps(found.boards)
    assert found.boards["desk"]["models"][NAME]["layouts"]["fused"]["numpy"]["p50_us"] == 300
    before = (zoo / registry.FILE).read_bytes()
    boards.add(written, zoo)
    assert (zoo / registry.FILE).read_bytes() == before


def test_the_first_registry_of_the_users_is_the_default(registry_folder: Path, folder: Path, written: Path) -> None:
    registry.register(folder)
    assert boards.add(written).path == registry_folder / registry.FILE
    with pytest.raises(RegistryError, match=r"there is no registry .*nowhere"):
        boards.add(written, registry_folder.with_name("nowhere"))
    assert not registry_folder.with_name("nowhere").exists()
    with pytest.raises(RegistryError, match="is on a server: add the report to the folder that it serves"):
        boards.add(written, "https://models.example.com/zoo")


def test_models_of_a_board_gather_and_newer_numbers_take_the_place_of_older(
    zoo: Path, folder: Path, tmp_path: Path, written: Path
) -> None:
    boards.add(written, zoo)
    newer = replace(report(folder, p50=50), models={"gru-toy-fp32": measured(folder)})
    boards.write_report(newer, tmp_path / "second.json")
    boards.add(tmp_path / "second.json", zoo)
    boards.write_report(report(folder, p50=50), tmp_path / "third.json")
    boards.add(tmp_path / "third.json", zoo)
    assert [(row.model, row.numbers.p50_us) for row in boards.compare(registry=zoo)] == [
        ("gru-toy-fp32", 100),
        (NAME, 50),
    ]


def test_a_report_of_another_bundle_model_or_layout_is_refused(zoo: Path, folder: Path, written: Path) -> None:
    text = written.read_text()
    for change, message in (
        (lambda d: of(d).update(bundle_sha256="0" * 64), f"its {NAME} is another bundle than was measured"),
        (lambda d: d.update(models={"other-int8": of(d)}), "it has no model .other-int8.; register the bundle first"),
        (lambda d: of(d)["layouts"].update(scan=of(d)["layouts"]["fused"]), f"its {NAME} has no layout 'scan'"),
    ):
        written.write_text(text)
        with pytest.raises(RegistryError, match=message):
            boards.add(changed(written, change), zoo)
    assert registry.read(zoo / registry.FILE).boards == {}


def test_another_machine_of_the_same_name_needs_force(zoo: Path, folder: Path, tmp_path: Path, written: Path) -> None:
    boards.add(written, zoo)
    other = replace(report(folder, machine=replace(DESK, cpu="B")), models={"gru-toy-fp32": measured(folder)})
    boards.write_report(other, tmp_path / "other.json")
    with pytest.raises(RegistryError, match=r"has another board 'desk'\. Give yours another name"):
        boards.add(tmp_path / "other.json", zoo)
    boards.add(tmp_path / "other.json", zoo, force=True)
    board = registry.read(zoo / registry.FILE).boards["desk"]
    assert board["machine"]["cpu"] == "B"
    assert list(board["models"]) == ["gru-toy-fp32"]  # the other machine's numbers are not this one's


def test_building_a_registry_again_keeps_its_boards(zoo: Path, written: Path) -> None:
    boards.add(written, zoo)
    registry.build(zoo)
    assert list(registry.read(zoo / registry.FILE).boards) == ["desk"]


def test_processes_that_add_at_once_lose_nothing(zoo: Path, folder: Path, tmp_path: Path) -> None:
    names = [f"board {number}" for number in range(6)]
    for name in names:
        boards.write_report(report(folder, name), tmp_path / f"{name}.json")
    code = "import sys; from fastzoo import boards; boards.add(*sys.argv[1:])"
    running = [subprocess.Popen([sys.executable, "-c", code, tmp_path / f"{name}.json", zoo]) for name in names]
    assert [process.wait(60) for process in running] == [0] * len(names)
    assert list(registry.read(zoo / registry.FILE).boards) == names


# ---------------------------------------------------------------------------------------------------------------------
# Comparing


def test_boards_are_compared_by_model_fastest_first(zoo: Path, folder: Path, tmp_path: Path) -> None:
    for name, p50 in (("slow", 400.0), ("fast", 20.0), ("middle", 90.0)):
        boards.write_report(report(folder, name, p50), tmp_path / f"{name}.json")
        boards.add(tmp_path / f"{name}.json", zoo)
    rows = boards.compare(NAME, zoo)
    assert [(row.board, row.numbers.p50_us, row.current) for row in rows] == [
        ("fast", 20, True), ("middle", 90, True), ("slow", 400, True)
    ]  # fmt: skip
    assert len(boards.compare(NAME, zoo, every=True)) == 9
    assert boards.compare("gru-toy-fp32", zoo) == []


def test_numbers_of_a_bundle_that_has_changed_are_marked_and_last(zoo: Path, folder: Path, tmp_path: Path) -> None:
    boards.write_report(report(folder, "old", 10.0), tmp_path / "old.json")
    boards.add(tmp_path / "old.json", zoo)
    other = toy.make(tmp_path / "other" / "gru-toy", seed=5)
    registry.register(other, zoo, force=True)
    boards.write_report(report(other, "new", 90.0), tmp_path / "new.json")
    boards.add(tmp_path / "new.json", zoo)
    assert [(row.board, row.current) for row in boards.compare(registry=zoo)] == [("new", True), ("old", False)]


def test_all_registries_are_compared_and_those_that_cannot_be_read_passed_over(
    zoo: Path, written: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    boards.add(written, zoo)
    (tmp_path / "faulty.json").write_text("{")
    monkeypatch.setenv("FASTZOO_REGISTRY", f"{tmp_path / 'faulty.json'}:{zoo}")
    assert [row.registry for row in boards.compare(NAME)] == [str(zoo / registry.FILE)]
    assert "a registry is passed over" in caplog.text


def test_a_board_that_is_faulty_in_a_registry_is_passed_over(
    zoo: Path, written: Path, caplog: pytest.LogCaptureFixture
) -> None:
    boards.add(written, zoo)
    bad = {"machine": {"cpu": "x"}, "models": {}}
    changed(zoo / registry.FILE, lambda d: d["boards"].update({"bad": bad, "empty": {}}))
    assert [row.board for row in boards.compare(registry=zoo)] == ["desk"]
    assert "the board 'bad' in" in caplog.text
    assert "the board 'empty' in" in caplog.text
