"""``fastzoo bench``: how fast a model is on this machine, and what it costs there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastzoo.cli import _console

if TYPE_CHECKING:
    from fastzoo.boards import Conditions, Measured, Report


def bench(
    name: _console.Name,
    layout: Annotated[str, typer.Option(help="fused, scan, unrolled or step; all compares them.")] = "all",
    backend: Annotated[str, typer.Option(help="onnxruntime or numpy; auto takes one, all compares both.")] = "auto",
    repeats: Annotated[int, typer.Option(help="Single windows timed, of each.", min=1)] = 2000,
    batches: Annotated[str, typer.Option(help="Windows per call, for the throughput.")] = "1,8,64,256",
    threads: Annotated[int, typer.Option(help="Threads for the throughput of more than 128 windows.", min=1)] = 1,
    board: Annotated[
        str | None, typer.Option(help="What you call this board [default: what it says of itself].")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Write a report for `fastzoo registry add-board`; one of this board grows.", metavar="FILE"),
    ] = None,
    as_json: _console.AsJson = False,
) -> None:
    """Time a model here, layouts in turns: latency, throughput, load time, memory; energy where the kernel tells.

    Example: fastzoo bench fastgrnn-har-int8 --layout fused --report board.json
    """
    from fastzoo import bench as benchmark
    from fastzoo import boards, registry

    source = registry.source(name)
    with _status() as progress:
        made = benchmark.report(
            source, layout, backend,
            repeats=repeats, batches=_numbers(batches), threads=threads, board=board, progress=progress,
        )  # fmt: skip
    if report is not None:
        boards.write_report(made, report)
    if as_json:
        _console.print_json(boards.to_dict(made))
    else:
        _print(made)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of numbers, 1,8,64") from None


@contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    """What is being measured, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda doing: None
        return
    from rich.console import Console

    with Console(stderr=True, markup=False).status("") as shown:
        yield shown.update


def _print(report: Report) -> None:
    ((name, measured),) = report.models.items()
    console, machine = _console.console(), report.machine
    console.print(f"{name}, {measured.repeats} single windows per layout")
    _print_latency(measured)
    console.print()
    console.print(f"windows per second by windows per call, {measured.threads} thread(s)")
    _print_throughput(measured)
    console.print()
    if line := _conditions(measured.conditions):
        console.print(line)
    runtime = f", onnxruntime {measured.onnxruntime}" if measured.onnxruntime else ""
    called = machine.cpu if report.name == machine.cpu else f"{report.name}, {machine.cpu}"
    console.print(
        f"{called}, {machine.cores} core(s), {machine.os}, Python {measured.python}, NumPy {measured.numpy}{runtime}"
    )


def _print_latency(measured: Measured) -> None:
    numbers = ("file", "load", "start", "p50", "p95", "p99", "session p50", "ratio", "memory", "energy")
    table = _console.table("layout", "backend", *numbers, right=numbers)
    rows = [(layout, backend, of) for layout, backends in measured.layouts.items() for backend, of in backends.items()]
    best = min(of.p50_us for *_, of in rows)
    for layout, backend, of in sorted(rows, key=lambda row: row[2].p50_us):
        table.add_row(
            layout,
            backend,
            _console.kilobytes(of.bytes),
            f"{of.load_ms:.1f} ms",
            "" if of.start_ms is None else f"{of.start_ms:.0f} ms",
            *map(_console.microseconds, (of.p50_us, of.p95_us, of.p99_us, of.session_p50_us)),
            f"{of.p50_us / best:.2f}",
            _console.megabytes(of.peak_rss_bytes),
            "" if of.energy_uj is None else f"{of.energy_uj:.0f} uJ",
        )
    _console.console().print(table)


def _print_throughput(measured: Measured) -> None:
    first = next(iter(next(iter(measured.layouts.values())).values()))
    batches = list(first.throughput)
    table = _console.table("layout", "backend", *batches, right=tuple(batches))
    for layout, backends in measured.layouts.items():
        for backend, of in backends.items():
            table.add_row(layout, backend, *(f"{of.throughput[batch]:.0f}" for batch in batches))
    _console.console().print(table)


def _conditions(of: Conditions) -> str:
    parts = []
    if of.governor:
        parts.append(f"governor {of.governor}")
    if of.before_c is not None and of.after_c is not None:
        parts.append(f"processor at {of.before_c:.0f} C before and {of.after_c:.0f} C after")
    if of.energy_from:
        idle = "" if of.idle_w is None else f", {of.idle_w:.2f} W without work"
        parts.append(f"energy per window by {of.energy_from}{idle}")
    return ", ".join(parts)
