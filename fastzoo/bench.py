"""Latency, throughput, load time, memory and energy of models on this machine."""

from __future__ import annotations

import datetime
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastzoo import __version__, _sensors, bundle, golden
from fastzoo._sensors import Meter, peak_memory
from fastzoo._session import BACKENDS
from fastzoo.boards import LARGEST_BATCH, LONGEST_NAME, Conditions, Hardware, Measured, Numbers, Report
from fastzoo.errors import InputError
from fastzoo.model import Model
from fastzoo.records import Latency, Machine

if TYPE_CHECKING:
    from fastzoo.registry import Source

__all__ = [
    "BATCHES", "board_name", "describe_hardware", "describe_machine", "measure", "measure_all", "peak_memory", "report",
]  # fmt: skip

log = logging.getLogger("fastzoo")

Floats = npt.NDArray[np.float32]

BATCHES = (1, 8, 64, 256)
_IDLE_S = 1.0

_LOADS = 5
_BLOCK = 20  # runs of one model before the next one's turn: long enough to warm its caches
_CALLS, _THROUGHPUT_S = 5, 0.2  # at least so many calls, for at least so long
_ENERGY_S = 1.0  # RAPL counts every millisecond, sensors on boards are slower
_PROCESSES = 3

_FRESH = """
import sys, time
begin = time.perf_counter()
import fastzoo, numpy
folder, layout, precision, backend, steps, channels = sys.argv[1:]
model = fastzoo.load(folder + "/", layout, precision, backend)
model.logits(numpy.zeros((int(steps), int(channels)), numpy.float32))
seconds = time.perf_counter() - begin
from fastzoo._sensors import peak_memory
print(seconds, peak_memory() or 0)
"""


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
    x = _windows(models[0], windows)
    return [
        Latency(
            p50_us=float(np.median(through)),
            p95_us=float(np.percentile(through, 95)),
            load_ms=_load_ms(model),
            session_p50_us=None if bare is None else float(np.median(bare)),
        )
        for model, (through, bare) in zip(models, _microseconds(models, x, repeats, warmup), strict=True)
    ]


def _windows(model: Model, windows: npt.ArrayLike | None = None) -> Floats:
    """Windows [G, T, D] to take turns with; those of the bundle where none are given."""
    x = golden.read(model.bundle, model.path.parent)["x"] if windows is None else windows
    return np.ascontiguousarray(x, dtype=np.float32)


def _microseconds(
    models: Sequence[Model], x: Floats, repeats: int, warmup: int
) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64] | None]]:
    """Of each model the times [repeats] of single windows, and those of its bare session; a step's runs no window."""
    if repeats < 1 or warmup < 0:
        raise InputError(f"at least one repeat and no negative warm-up are needed, not {repeats} and {warmup}")
    runs: list[Callable[[Floats], object]] = []
    for model in models:
        model.logits(x[:1])  # says what is wrong with windows that do not fit
        runs.append(model.logits)
        if model.layout != "step":
            runs.append(partial(_run_bare, model.session))
    _take_turns(runs, x, warmup)
    times = iter(_take_turns(runs, x, repeats) / 1e3)
    return [(next(times), None if model.layout == "step" else next(times)) for model in models]


def _run_bare(session: Any, window: Floats) -> None:
    session.run(["logits"], {"x": window[np.newaxis]})


def _take_turns(runs: Sequence[Callable[[Floats], object]], x: Floats, repeats: int) -> npt.NDArray[np.int64]:
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


def report(
    source: Source,
    layout: str = "all",
    backend: str = "auto",
    *,
    repeats: int = 2000,
    warmup: int = 100,
    batches: Sequence[int] = BATCHES,
    threads: int = 1,
    board: str | None = None,
    progress: Callable[[str], None] = lambda doing: None,
) -> Report:
    """Measure a model on this board: layouts and backends in turns.

    Args:
        source: the model, of :func:`fastzoo.registry.source`.
        layout: one of the model's, ``"auto"``, or ``"all"``.
        backend: ``"onnxruntime"``, ``"numpy"``, ``"auto"`` for the first of them that is installed, or ``"all"``.
        repeats: single windows timed, of each.
        warmup: windows run before.
        batches: how many windows a call takes, for the throughput.
        threads: of the throughput, as ``Model.logits`` takes them; single windows are always run in one.
        board: what a person calls this board; default what it says of itself.
        progress: is told what is being measured.

    Raises:
        InputError: an argument makes no sense.
        BundleError: the bundle is faulty, or lacks the layout.
        DownloadError: a file of a model on a server cannot be had.
        MissingExtraError: onnxruntime was asked for and is not installed.
    """
    if not all(1 <= batch <= LARGEST_BATCH for batch in batches) or len(set(batches)) < len(batches):
        raise InputError(f"batches must be different numbers of windows from 1 to {LARGEST_BATCH}, not {list(batches)}")
    progress("opening")
    models = _opened(source, layout, backend)
    x = _windows(models[0])
    meter, before = _sensors.meter(), _sensors.temperature()
    idle = None if meter is None else _joules(meter, partial(time.sleep, 0.005), _IDLE_S)
    progress("single windows")
    times = _microseconds(models, x, repeats, warmup)
    layouts: dict[str, dict[str, Numbers]] = {}
    for model, (through, bare) in zip(models, times, strict=True):
        progress(f"{model.layout} on {model.backend}")
        start, memory = _fresh(model)
        p50, p95, p99 = map(float, np.percentile(through, (50, 95, 99)))
        layouts.setdefault(model.layout, {})[model.backend] = Numbers(
            p50_us=p50,
            p95_us=p95,
            p99_us=p99,
            load_ms=_load_ms(model),
            bytes=model.path.stat().st_size,
            throughput={str(batch): _throughput(model, x, batch, threads) for batch in batches},
            session_p50_us=None if bare is None else float(np.median(bare)),
            start_ms=start,
            peak_rss_bytes=memory,
            energy_uj=None if meter is None else _energy(meter, model, x),
        )
    machine = describe_hardware()
    measured = Measured(
        bundle_sha256=source.entry["bundle_sha256"],
        date=datetime.date.today().isoformat(),
        fastzoo=__version__,
        python=platform.python_version(),
        numpy=np.__version__,
        onnxruntime=_onnxruntime(),
        repeats=repeats,
        threads=threads,
        layouts=layouts,
        conditions=Conditions(
            governor=_sensors.governor(),
            before_c=before,
            after_c=_sensors.temperature(),
            energy_from=None if meter is None else meter.source,
            idle_w=None if idle is None else idle[0] / idle[1],
        ),
    )
    return Report(board or board_name(machine), machine, {source.entry["name"]: measured})


def _opened(source: Source, layout: str, backend: str) -> list[Model]:
    """A model per layout and backend; their files are here then."""
    folder, precision = source.open(), source.entry["precision"]
    content = bundle.read(folder)
    source.fetch(content.golden)
    backends = BACKENDS if backend == "all" else (backend,)
    known = content.precisions[precision].layouts
    layouts = [name for name in bundle.LAYOUTS if name in known] if layout == "all" else [layout]
    return [Model(folder, precision, name, one, fetch=source.fetch) for name in layouts for one in backends]


def _throughput(model: Model, x: Floats, batch: int, threads: int) -> float:
    """Windows per second where a call takes ``batch`` of them, by the median call."""
    windows = np.resize(x, (batch, *x.shape[1:]))
    model.logits(windows, threads=threads)
    times, end = list[float](), time.perf_counter() + _THROUGHPUT_S
    while len(times) < _CALLS or time.perf_counter() < end:
        begin = time.perf_counter()
        model.logits(windows, threads=threads)
        times.append(time.perf_counter() - begin)
    return batch / float(np.median(times))


def _joules(meter: Meter, work: Callable[[], object], seconds: float) -> tuple[float, float, int] | None:
    """Joules, seconds and calls of working for a while; None where the meter stopped answering."""
    calls, begin = 0, time.perf_counter()
    meter.start()
    while (elapsed := time.perf_counter() - begin) < seconds:
        work()
        calls += 1
        meter.sample()
    joules = meter.joules()
    return None if joules is None else (joules, elapsed, calls)


def _energy(meter: Meter, model: Model, x: Floats) -> float | None:
    """Microjoules per window."""
    rounds = max(1, _BLOCK // len(x))

    def work() -> None:
        for _ in range(rounds):
            for window in x:
                model.logits(window)

    measured = _joules(meter, work, _ENERGY_S)
    return None if measured is None else measured[0] * 1e6 / (measured[2] * rounds * len(x))


def _fresh(model: Model) -> tuple[float | None, int | None]:
    """Milliseconds to the first answer, and the peak of memory, of processes that do nothing else; medians."""
    shape = model.bundle.input
    given = (model.path.parent, model.layout, model.precision, model.backend, shape.steps, len(shape.channels))
    command = [sys.executable, "-c", _FRESH, *map(str, given)]
    answers = list[tuple[float, float]]()
    for _ in range(_PROCESSES):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
            seconds, memory = map(float, done.stdout.split())
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            log.warning("no fresh process could be measured: %s", getattr(error, "stderr", "") or error)
            return None, None
        answers.append((1e3 * seconds, memory))
    start, memory = np.median(np.array(answers), axis=0)
    return float(start), int(memory) or None


def describe_hardware() -> Hardware:
    """This board, for its report; its host name stays out."""
    return Hardware(_cpu(), _cores(), f"{_os()} ({platform.machine()})", _memory(), _board())


def board_name(machine: Hardware) -> str:
    """What a board is called that nobody named."""
    name = "".join(letter for letter in machine.board or machine.cpu if letter.isprintable()).strip()
    return name[:LONGEST_NAME].strip() or "board"


def describe_machine(board: str | None = None) -> Machine:
    """This machine, for the record beside a latency; its host name stays out.

    Args:
        board: what a person calls it, ``"Raspberry Pi 4B, 4 GB"``; default what the board says of itself, if anything.
    """
    import onnxruntime

    return Machine(
        cpu=_cpu(),
        cores=_cores(),
        os=f"{_os()} ({platform.machine()})",
        python=platform.python_version(),
        onnxruntime=onnxruntime.__version__,
        threads=1,
        board=board or _board(),
    )


def _board() -> str | None:
    return _first_line("/proc/device-tree/model")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> int | None:
    """Bytes of memory of this machine."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _onnxruntime() -> str | None:
    """Its version, where it is installed."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return None
    version: str = onnxruntime.__version__
    return version


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
