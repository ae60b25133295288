"""What boards install, and the checks that run on them: that they hold here, and fail where they should.

The emulated boards themselves are a lane of CI: ``python tools/boards.py check``.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement

import fastzoo
from fastzoo.model import Model

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
NAME = "fastgrnn-har-int8"


@pytest.fixture(scope="module")
def check(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("board_check")


@pytest.fixture(scope="module")
def boards(load_tool: Callable[[str], ModuleType]) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools")
        yield load_tool("boards")


@pytest.mark.parametrize(
    ("machine", "installed"),
    [
        ("x86_64", True), ("AMD64", True), ("aarch64", True), ("arm64", True), ("ARM64", True),
        ("armv7l", False), ("armv6l", False), ("riscv64", False), ("i686", False), ("x86", False),
    ],
)  # fmt: skip
def test_onnxruntime_is_asked_for_where_it_has_wheels(machine: str, installed: bool) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {one.name: one for one in map(Requirement, project["dependencies"])}
    marker = wanted.pop("onnxruntime").marker
    assert marker is not None
    assert marker.evaluate({"platform_machine": machine}) is installed
    assert [one.name for one in wanted.values() if one.marker] == []


def test_the_wheel_has_every_package_of_the_checkout() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    ours = {path.parent.relative_to(ROOT) for path in (ROOT / "fastzoo").rglob("__init__.py")}
    lies_elsewhere = {
        Path("fastzoo") / path.parent.relative_to(ROOT) for path in (ROOT / "export").rglob("__init__.py")
    }
    assert sorted(listed) == sorted(".".join(path.parts) for path in ours | lies_elsewhere)


@pytest.mark.parametrize("layout", ["fused", "scan", "unrolled", "step"])
def test_the_checks_hold_here(check: ModuleType, layout: str) -> None:
    assert "12 windows" in check.golden_logits(NAME, layout)
    assert "17 windows of 384 samples" in check.stream(NAME, layout)


def test_every_check_is_run_and_one_that_fails_is_the_exit_status(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    two = ["fastgrnn-har-int8", "fastgrnn-kws12-int8"]  # of the same kinds; the whole zoo is run on the boards
    monkeypatch.setattr(check.fastzoo, "list_models", lambda: two)
    monkeypatch.setattr(check, "the_board", lambda backend, machine: "no torch here, say")
    assert check.main("onnxruntime", platform.machine()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    found = dict(line.removeprefix("ok").strip().split(": ", 1) for line in lines)
    layouts = {name: fastzoo.info(name)["layouts"] for name in two}
    assert len(found) == len(lines) == 3 + sum(map(len, layouts.values())) + len(layouts[NAME])
    for layout in layouts[NAME]:  # the smaller model, thoroughly
        assert "12 windows" in found[f"golden {NAME} {layout}"]
        assert "17 windows" in found[f"stream {NAME} {layout}"]
    for layout in layouts["fastgrnn-kws12-int8"]:
        assert "3 windows" in found[f"golden fastgrnn-kws12-int8 {layout}"]
    assert check.main("numpy", platform.machine()) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAILED")]
    assert failed == ["FAILED  load: the backend is onnxruntime, not numpy"]


def test_one_file_of_each_kind_is_checked_thoroughly(check: ModuleType) -> None:
    chosen = {(fastzoo.info(name)["cell"]["type"], name.rpartition("-")[2], layout) for name, layout in check.kinds()}
    assert {("fastgrnn", "int8", "unrolled"), ("fastrnn", "fp32", "step")} <= chosen
    assert {"brick" in fastzoo.info(name)["cell"] for name, _ in check.kinds()} == {False, True}


def test_another_processor_or_a_package_too_many_is_a_failure(check: ModuleType) -> None:
    with pytest.raises(check.CheckError, match="not armv7l"):
        check.the_board("numpy", "armv7l")
    with pytest.raises(check.CheckError, match="'torch': True"):  # the tests' own environment has it
        check.the_board("onnxruntime", platform.machine())


def test_logits_that_differ_are_a_failure(check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = Model.logits
    monkeypatch.setattr(Model, "logits", lambda self, x: logits(self, x) + np.float32(1e-3))
    with pytest.raises(check.CheckError, match=r"by 0\.001"):
        check.golden_logits(NAME, "scan")


def test_a_stream_that_answers_otherwise_is_a_failure(check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities = Model.predict_proba

    def nudged(self: Model, x: Any) -> Any:
        return np.nextafter(probabilities(self, x), np.float32(2))

    monkeypatch.setattr(Model, "predict_proba", nudged)
    with pytest.raises(check.CheckError, match="the window from sample 0"):
        check.stream(NAME, "fused")


def test_each_board_says_what_it_must_choose(boards: ModuleType) -> None:
    assert boards.BACKENDS.keys() == boards.MACHINES.keys() == boards.BOARDS.keys()


def test_an_unknown_board_is_wrong_usage(boards: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        boards.main(["check", "abacus"])
    assert "no board 'abacus'; there are aarch64, armhf" in capsys.readouterr().err


def test_a_missing_emulator_is_named_with_its_package(
    boards: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert boards.main(["check", "armhf"]) == 1
    assert "error: armhf: apt-get is missing" in capsys.readouterr().err
