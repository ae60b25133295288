"""Measurements are complete and plausible; how fast this machine is, no test can say."""

from __future__ import annotations

import platform
import socket
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastzoo
from fastzoo import _files, _sensors, bench, bundle, registry
from fastzoo.bench import peak_memory
from fastzoo.boards import Hardware
from fastzoo.errors import BundleError, InputError
from fastzoo.model import Model

from . import toy


def test_a_measurement_fits_into_a_bundle(pristine: Path) -> None:
    latency = bench.measure(fastzoo.load(pristine), repeats=50, warmup=5)
    assert isinstance(latency, bundle.Latency)
    assert 0 < latency.p50_us <= latency.p95_us
    assert latency.session_p50_us is not None
    assert 0 < latency.session_p50_us < latency.p50_us
    assert latency.load_ms > 0


def test_a_measurement_shows_what_the_caller_waits_for(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fastzoo.load(pristine)
    logits = Model.logits

    def slowly(self: Model, x: Any) -> Any:
        time.sleep(0.002)
        return logits(self, x)

    monkeypatch.setattr(Model, "logits", slowly)
    latency = bench.measure(model, repeats=10, warmup=0)
    assert latency.p50_us > 2000
    assert latency.session_p50_us is not None
    assert latency.session_p50_us < 2000


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports that take as little time as they can."""
    for name, value in {"_PROCESSES": 1, "_THROUGHPUT_S": 0.01, "_ENERGY_S": 0.05, "_IDLE_S": 0.05}.items():
        monkeypatch.setattr(bench, name, value)


def report(folder: Path, *arguments: str, **options: Any) -> Any:
    return bench.report(registry.source(folder, "int8"), *arguments, **{"repeats": 20, "batches": (1, 40), **options})


@pytest.mark.usefixtures("quick")
def test_a_report_has_every_layout_on_every_backend(pristine: Path) -> None:
    told = list[str]()
    made = report(pristine, "all", "all", board="desk", progress=told.append)
    assert made.name == "desk"
    assert told == [
        "opening", "single windows",
        *(f"{layout} on {backend}" for layout in ("fused", "unrolled") for backend in ("onnxruntime", "numpy")),
    ]  # fmt: skip
    measured = made.models["gru-toy-int8"]
    assert measured.bundle_sha256 == _files.sha256((pristine / "bundle.json").read_bytes())
    assert measured.layouts.keys() == {"fused", "unrolled"}
    for layout, backends in measured.layouts.items():
        assert backends.keys() == {"onnxruntime", "numpy"}
        for numbers in backends.values():
            assert 0 < numbers.session_p50_us < numbers.p50_us <= numbers.p95_us <= numbers.p99_us
            assert numbers.bytes == (pristine / f"int8-{layout}.onnx").stat().st_size
            assert numbers.throughput.keys() == {"1", "40"}
            assert numbers.throughput["40"] > numbers.throughput["1"] > 0
            assert numbers.most == numbers.throughput["40"]
    for backends in measured.layouts.values():  # of processes of their own: this one is larger than both
        assert 10e6 < backends["numpy"].peak_rss_bytes < backends["onnxruntime"].peak_rss_bytes < peak_memory()
        assert backends["numpy"].start_ms > 1


@pytest.mark.usefixtures("quick")
def test_one_layout_of_the_shipped_model_or_the_one_that_load_takes() -> None:
    source = registry.source("fastgrnn-har-int8")
    for layout, expected in (("auto", "fused"), ("step", "step")):
        made = bench.report(source, layout, repeats=5, batches=(1,), board="desk")
        ((name, backends),) = made.models["fastgrnn-har-int8"].layouts.items()
        assert name == expected
        assert (backends["onnxruntime"].session_p50_us is None) == (layout == "step")


@pytest.mark.usefixtures("quick")
def test_energy_is_there_where_a_meter_is_and_nowhere_else(
    pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chip = tmp_path / "class/hwmon/hwmon0"
    chip.mkdir(parents=True)
    (chip / "name").write_text("ina219\n")
    find = _sensors.meter
    monkeypatch.setattr(_sensors, "meter", lambda: find(tmp_path))
    without = report(pristine, "fused").models["gru-toy-int8"]
    assert without.layouts["fused"]["onnxruntime"].energy_uj is None
    assert without.conditions.energy_from is without.conditions.idle_w is None
    (chip / "power1_input").write_text("2000000\n")
    measured = report(pristine, "fused").models["gru-toy-int8"]
    assert measured.conditions.energy_from == "hwmon ina219 power1_input"
    assert measured.conditions.idle_w == pytest.approx(2, rel=0.1)
    numbers = measured.layouts["fused"]["onnxruntime"]
    assert numbers.energy_uj is not None
    assert numbers.energy_uj > 2 * 0.5 * numbers.p50_us  # 2 W for as long as a window takes


@pytest.mark.usefixtures("quick")
def test_a_process_that_cannot_be_started_leaves_its_numbers_out(
    pristine: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", str(pristine / "no-python"))
    numbers = report(pristine, "fused").models["gru-toy-int8"].layouts["fused"]["onnxruntime"]
    assert numbers.start_ms is numbers.peak_rss_bytes is None
    assert "no fresh process could be measured" in caplog.text


@pytest.mark.usefixtures("quick")
def test_the_report_says_what_the_board_is_without_its_name(pristine: Path) -> None:
    made = report(pristine, "fused")
    assert made.machine == bench.describe_hardware()
    assert made.name == bench.board_name(made.machine)
    assert made.machine.memory_bytes is None or made.machine.memory_bytes > 10**7
    assert len(socket.gethostname()) < 3 or socket.gethostname() not in str(made)
    named = Hardware("cpu\x1b[31m", 1, "Linux", board=" Board \x07" + "x" * 200)
    assert bench.board_name(named) == "Board " + "x" * 74
    assert bench.board_name(Hardware("\x07", 1, "Linux")) == "board"


def test_impossible_measurements_are_refused(pristine: Path) -> None:
    model = fastzoo.load(pristine)
    with pytest.raises(InputError, match="at least one repeat"):
        bench.measure(model, repeats=0)
    with pytest.raises(InputError, match="8 steps"):
        bench.measure(model, windows=np.zeros((2, toy.T, toy.D + 1)))
    with pytest.raises(BundleError, match="has no layout 'scan'"):
        report(pristine, "scan")
    with pytest.raises(InputError, match="no backend 'tpu'"):
        report(pristine, "fused", "tpu")
    for batches in ((0,), (1, 1), (10**6,)):
        with pytest.raises(InputError, match="different numbers of windows from 1 to 999999"):
            report(pristine, batches=batches)


def test_the_machine_is_described_without_its_name() -> None:
    machine = bench.describe_machine(board="desk")
    assert machine.board == "desk"
    assert machine.threads == 1
    assert machine.cores >= 1
    assert machine.python == platform.python_version()
    assert all(asdict(machine).values())
    assert len(socket.gethostname()) < 3 or socket.gethostname() not in str(machine)


def test_peak_memory_grows_with_what_is_held() -> None:
    before = peak_memory()
    held = np.ones(200_000_000, np.uint8)
    after = peak_memory()
    if before is None or after is None:
        pytest.skip("not measured on Windows")
    assert 10_000_000 < before <= after
    assert after > len(held)
