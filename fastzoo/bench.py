"""Latency, load time and memory of models on this machine, one window at a time as a sensor delivers them."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastzoo import golden
from fastzoo.errors import InputError
from fastzoo.model import Model
from fastzoo.records import Latency, Machine

_LOADS = 5
_BLOCK = 20  # runs of one model before the next one's turn: long enough to warm its caches


@dataclass(frozen=True)
class Timing:
    """One layout of a comparison; ``ratio`` is its median latency over that of the fastest."""

    layout: str
    bytes: int
    latency: Latency
    ratio: float


def measure(model: Model, repeats: int = 2000, warmup: int = 100, windows: npt.ArrayLike | None = None) -> Latency:
    """Time single windows through ``model.logits`` and through its bare onnxruntime session, and fresh loads.

    Args:
        model: an open model.
        repeats: windows timed.
        warmup: windows run before.
        windows: [G, T, D] to take turns with; default the golden windows of the bundle.

    Raises:
        InputError: ``repeats`` or ``warmup`` make no sense, or the windows do not fit the model.
        BundleError: the bundle has no golden windows.
    """
    return measure_all([model], repeats, warmup, windows)[0]


def measure_all(
    models: Sequence[Model], repeats: int = 2000, warmup: int = 100, windows: npt.ArrayLike | None = None
) -> list[Latency]:
    """:func:`measure` for models that take the same windows, in turns, so that noise hits all alike."""
    if repeats < 1 or warmup < 0:
        raise InputError(f"at least one repeat and no negative warm-up are needed, not {repeats} and {warmup}")
    if windows is None:
        windows = golden.read(models[0].bundle, models[0].path.parent)["x"]
    x = np.ascontiguousarray(windows, dtype=np.float32)  # [G, T, D]
    runs: list[Callable[[npt.NDArray[np.float32]], object]] = []
    for model in models:
        model.logits(x[:1])  # says what is wrong with windows that do not fit
        runs += [model.logits, partial(_run_bare, model.session)]
    _take_turns(runs, x, warmup)
    times = _take_turns(runs, x, repeats) / 1e3  # [2 len(models), repeats] in us
    return [
        Latency(
            p50_us=float(np.median(through)),
            p95_us=float(np.percentile(through, 95)),
            load_ms=_load_ms(model),
            session_p50_us=float(np.median(bare)),
        )
        for model, through, bare in zip(models, times[::2], times[1::2], strict=True)
    ]


def _run_bare(session: Any, window: npt.NDArray[np.float32]) -> None:
    session.run(["logits"], {"x": window[np.newaxis]})


def _take_turns(
    runs: Sequence[Callable[[npt.NDArray[np.float32]], object]], x: npt.NDArray[np.float32], repeats: int
) -> npt.NDArray[np.int64]:
    """Nanoseconds [len(runs), repeats] of each run on single windows of ``x``."""
    times = np.empty((len(runs), repeats), np.int64)
    windows = list(x)
    for first in range(0, repeats, _BLOCK):
        for run, row in zip(runs, times, strict=True):
            for i in range(first, min(first + _BLOCK, repeats)):
                window = windows[i % len(windows)]
                begin = time.perf_counter_ns()
                run(window)
                row[i] = time.perf_counter_ns() - begin
    return times


def _load_ms(model: Model) -> float:
    times = []
    for _ in range(_LOADS):
        begin = time.perf_counter_ns()
        model.open()
        times.append(time.perf_counter_ns() - begin)
    return float(np.median(times)) / 1e6


def compare(
    folder: str | os.PathLike[str], precision: str, layout: str = "all", repeats: int = 2000, warmup: int = 100
) -> list[Timing]:
    """Time one layout, or all that take windows, of one precision; fastest first.

    Raises:
        InputError: ``repeats`` or ``warmup`` make no sense.
        BundleError: the bundle is faulty, or lacks the precision or the layout.
    """
    models = [Model(folder, precision, "auto" if layout == "all" else layout)]
    if layout == "all":
        others = models[0].bundle.precisions[precision].layouts.keys() - {"step", models[0].layout}
        models += [Model(folder, precision, other) for other in sorted(others)]
    latencies = measure_all(models, repeats, warmup)
    best = min(latency.p50_us for latency in latencies)
    timings = [
        Timing(model.layout, model.path.stat().st_size, latency, latency.p50_us / best)
        for model, latency in zip(models, latencies, strict=True)
    ]
    return sorted(timings, key=lambda timing: timing.ratio)


def describe_machine(board: str | None = None) -> Machine:
    """This machine, for the record beside a latency; its host name stays out.

    Args:
        board: what a person calls it, ``"Raspberry Pi 4B, 4 GB"``; default what the board says of itself, if anything.
    """
    import onnxruntime

    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        os=f"{_os()} ({platform.machine()})",
        python=platform.python_version(),
        onnxruntime=onnxruntime.__version__,
        threads=1,
        board=board or _first_line("/proc/device-tree/model"),
    )


def _cpu() -> str:
    if name := _first_line("/proc/cpuinfo", "model name"):
        return name
    return platform.processor() or platform.machine() or "unknown"


def _os() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def _first_line(path: str, key: str = "") -> str | None:
    """The first line of a file of the kernel's, or the value of its first line ``key: value``."""
    try:
        lines = Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return None
    return next((line.rpartition(":")[2].strip("\0 ") for line in lines if line.startswith(key)), None)


def peak_memory() -> int | None:
    """The most bytes of memory this process has held so far; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
