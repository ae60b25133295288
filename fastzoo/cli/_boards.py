"""``fastzoo registry add-board`` and ``fastzoo registry boards``: how fast models are on which board."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastzoo.cli import _console


def add_board(
    report: Annotated[
        Path, typer.Argument(metavar="REPORT", help="What `fastzoo bench --report` wrote.", show_default=False)
    ],
    registry: Annotated[
        str | None, typer.Option(metavar="PATH", help="A folder or a zoo_registry.json [default: the first of yours].")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another board of this name.")] = False,
) -> None:
    """Merge the report of a board into a registry; its models must be the ones that were measured.

    Example: fastzoo registry add-board board.json --registry ./zoo
    """
    from fastzoo import boards

    added = boards.add(report, registry, force)
    typer.echo(f"{added.path}: {added.board}, {', '.join(added.models)}")


def boards(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this model [default: all].", show_default=False)
    ] = None,
    registry: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Only this registry [default: all known here].")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every layout and backend, not only the fastest.")] = False,
    as_json: _console.AsJson = False,
) -> None:
    """Compare boards: the fastest layout of each model on each, the fastest board first.

    Example: fastzoo registry boards fastgrnn-har-int8
    """
    from fastzoo import _json
    from fastzoo import boards as known

    rows = known.compare(name, registry, every)
    if as_json:
        _console.print_json(_json.plain(rows))
        return
    if not rows:
        _console.warn("no board is known; `fastzoo bench NAME --report FILE` measures one, add-board adds it")
        return
    numbers = ("p50", "p95", "p99", "windows/s", "load", "memory", "energy")
    table = _console.table("model", "board", "layout", "backend", *numbers, "measured with", right=numbers)
    for row in rows:
        of = row.numbers
        runtime = f"onnxruntime {row.measured.onnxruntime}" if row.backend == "onnxruntime" else ""
        table.add_row(
            row.model,
            row.board,
            row.layout,
            row.backend,
            *map(_console.microseconds, (of.p50_us, of.p95_us, of.p99_us)),
            f"{of.most:.0f}",
            f"{of.load_ms:.1f} ms",
            _console.megabytes(of.peak_rss_bytes),
            "" if of.energy_uj is None else f"{of.energy_uj:.0f} uJ",
            f"{row.measured.date} {runtime or f'NumPy {row.measured.numpy}'}"
            + ("" if row.current else ", another bundle of this name"),
        )
    _console.console().print(table)
