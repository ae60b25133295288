"""``fastzoo list``: which models there are."""

from __future__ import annotations

from typing import Annotated

import typer

from fastzoo.cli import _console


def list_(
    pattern: Annotated[str, typer.Argument(help="A name with * and ?, quoted from the shell.")] = "*",
    dataset: Annotated[str | None, typer.Option(help="Only models trained on this data set.")] = None,
    cell: Annotated[str | None, typer.Option(help="Only models with this cell, for example fastgrnn.")] = None,
    precision: Annotated[str | None, typer.Option(help="Only fp32 or int8.")] = None,
    max_bytes: Annotated[int | None, typer.Option(help="Only models whose weights take no more.", min=0)] = None,
    as_json: _console.AsJson = False,
) -> None:
    """List the models that can be loaded by name.

    Example: fastzoo list "*-har-*" --precision int8 --max-bytes 8000
    """
    from fastzoo import registry

    found = registry.models(pattern, dataset=dataset, cell=cell, precision=precision, max_bytes=max_bytes)
    if as_json:
        _console.print_json(found)
        return
    if not found:
        _console.warn(f"none of the {len(registry.models())} registered models fits")
        return
    numbers = ("accuracy", "weights", "file", "latency")
    table = _console.table("name", "data", *numbers, "what", right=numbers)
    for entry in found:
        best = registry.fastest(entry)
        table.add_row(
            entry["name"],
            entry.get("dataset", {}).get("id", ""),
            _console.percent(best.get("accuracy")),
            _console.kilobytes(entry["weights_bytes"]),
            _console.kilobytes(best["bytes"]),
            _console.microseconds(best.get("latency", {}).get("p50_us")),
            entry["summary"],
        )
    _console.console().print(table)
