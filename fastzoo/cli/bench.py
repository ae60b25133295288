"""``fastzoo bench``: how fast a model is on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from fastzoo.cli import _console


def bench(
    name: _console.Name,
    layout: Annotated[str, typer.Option(help="fused, scan or unrolled; all compares them.")] = "all",
    repeats: Annotated[int, typer.Option(help="Windows timed per layout.", min=1)] = 2000,
    as_json: _console.AsJson = False,
) -> None:
    """Time a model here: one thread, one window at a time, layouts in turns.

    Example: fastzoo bench fastgrnn-har-int8 --repeats 5000
    """
    from fastzoo import _json, registry
    from fastzoo import bench as benchmark

    entry, folder = registry.locate(name)
    timings = benchmark.compare(folder, entry["precision"], layout, repeats)
    machine = benchmark.describe_machine()
    memory = benchmark.peak_memory()
    if as_json:
        head = {"model": entry["name"], "repeats": repeats, "measured_on": _json.plain(machine)}
        _console.print_json({**head, "peak_memory_bytes": memory, "layouts": _json.plain(timings)})
        return
    numbers = ("file", "load", "p50", "p95", "session p50", "ratio")
    table = _console.table("layout", *numbers, right=numbers)
    for timing in timings:
        latency = timing.latency
        table.add_row(
            timing.layout,
            _console.kilobytes(timing.bytes),
            f"{latency.load_ms:.1f} ms",
            *map(_console.microseconds, (latency.p50_us, latency.p95_us, latency.session_p50_us)),
            f"{timing.ratio:.2f}",
        )
    console = _console.console()
    console.print(f"{entry['name']}, {repeats} single windows per layout")
    console.print(table)
    console.print(
        f"{machine.board or machine.cpu}, {machine.cores} core(s), 1 thread, {machine.os}, "
        f"Python {machine.python}, onnxruntime {machine.onnxruntime}"
        + (f", {memory / 1e6:.0f} MB at most for the whole process" if memory else "")
    )
