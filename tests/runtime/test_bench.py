"""Measurements are complete and plausible; how fast this machine is, no test can say."""

from __future__ import annotations

import platform
import socket
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastzoo
from fastzoo import bench, bundle
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


def test_layouts_are_compared_fastest_first(pristine: Path) -> None:
    timings = bench.compare(pristine, "fp32", repeats=30, warmup=5)
    assert {timing.layout for timing in timings} == {"fused", "unrolled"}
    assert timings[0].ratio == 1
    assert timings[1].ratio == pytest.approx(timings[1].latency.p50_us / timings[0].latency.p50_us)
    assert {t.layout: t.bytes for t in timings}["fused"] == (pristine / "fp32-fused.onnx").stat().st_size
    assert [timing.layout for timing in bench.compare(pristine, "int8", "unrolled", repeats=5)] == ["unrolled"]


def test_impossible_measurements_are_refused(pristine: Path) -> None:
    model = fastzoo.load(pristine)
    with pytest.raises(InputError, match="at least one repeat"):
        bench.measure(model, repeats=0)
    with pytest.raises(InputError, match="8 steps"):
        bench.measure(model, windows=np.zeros((2, toy.T, toy.D + 1)))
    with pytest.raises(BundleError, match="has no layout 'scan'"):
        bench.compare(pristine, "int8", "scan")
    with pytest.raises(BundleError, match="has no precision 'int4'"):
        bench.compare(pristine, "int4")


def test_the_machine_is_described_without_its_name() -> None:
    machine = bench.describe_machine(board="desk")
    assert machine.board == "desk"
    assert machine.threads == 1
    assert machine.cores >= 1
    assert machine.python == platform.python_version()
    assert all(asdict(machine).values())
    assert len(socket.gethostname()) < 3 or socket.gethostname() not in str(machine)


def test_peak_memory_grows_with_what_is_held() -> None:
    before = bench.peak_memory()
    held = np.ones(200_000_000, np.uint8)
    after = bench.peak_memory()
    if before is None or after is None:
        pytest.skip("not measured on Windows")
    assert 10_000_000 < before <= after
    assert after > len(held)
