"""``fastzoo list``: which models there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastzoo.cli import _console

if TYPE_CHECKING:
    from rich.table import Table

ORDERS = ("name", "data", "accuracy", "bytes", "latency")
_LEAST = 24  # letters of a summary; where there is room for fewer it is left out


def list_(
    pattern: Annotated[str, typer.Argument(help="A name with * and ?, quoted from the shell.")] = "*",
    data: Annotated[str | None, typer.Option(help="Only models trained on this data set.")] = None,
    cell: Annotated[str | None, typer.Option(help="Only models with this cell, for example fastgrnn.")] = None,
    precision: Annotated[str | None, typer.Option(help="Only fp32 or int8.")] = None,
    max_bytes: Annotated[int | None, typer.Option(help="Only models whose weights take no more.", min=0)] = None,
    sort: Annotated[
        str, typer.Option(help="name, data, or what is best first: accuracy, bytes of weights, latency.")
    ] = "name",
    as_json: _console.AsJson = False,
) -> None:
    """List the models that can be loaded by name.

    Example: fastzoo list --data har --precision int8 --max-bytes 3000

    Example: fastzoo list "*-int8" --sort accuracy
    """
    from fastzoo import registry
    from fastzoo.errors import InputError

    if sort not in ORDERS:
        raise InputError(f"cannot sort by {sort!r}; there are {', '.join(ORDERS)}")
    found = registry.models(pattern, dataset=data, cell=cell, precision=precision, max_bytes=max_bytes)
    found.sort(key=lambda entry: _rank(entry, sort))
    if as_json:
        _console.print_json(found)
        return
    if not found:
        _console.warn(_nothing(registry.models(), {"data": data, "cell": cell, "precision": precision}))
        return
    console, table = _console.console(), _table(found)
    room = console.width - console.measure(table).maximum - 2
    console.print(_table(found, room) if room >= _LEAST else table)


def _table(entries: Sequence[Mapping[str, Any]], room: int = 0) -> Table:
    """A line for each model, with so many letters of its summary."""
    from fastzoo import registry

    numbers = ("accuracy", "weights", "file", "latency")
    table = _console.table("name", "data", *numbers, right=numbers)
    if room:
        table.add_column("what", no_wrap=True, overflow="ellipsis", max_width=room)
    for entry in entries:
        best = registry.fastest(entry)
        table.add_row(
            entry["name"],
            _data(entry),
            _console.percent(best.get("accuracy")),
            _console.kilobytes(entry["weights_bytes"]),
            _console.kilobytes(best["bytes"]),
            _console.microseconds(best.get("latency", {}).get("p50_us")),
            *([entry["summary"]] if room else []),
        )
    return table


def _data(entry: Mapping[str, Any]) -> str:
    id: str = entry.get("dataset", {}).get("id", "")
    return id


def _rank(entry: Mapping[str, Any], order: str) -> tuple[Any, ...]:
    """A model's place in an order, what was not measured last; in that of data sets the smallest of each first."""
    from fastzoo import registry
    from fastzoo._order import natural

    best = registry.fastest(entry)
    accuracy, latency, size = best.get("accuracy"), best.get("latency", {}).get("p50_us"), entry["weights_bytes"]
    first: dict[str, tuple[Any, ...]] = {
        "name": (),
        "data": (not _data(entry), natural(_data(entry)), size),
        "accuracy": (accuracy is None, -(accuracy or 0.0), size),
        "bytes": (size,),
        "latency": (latency is None, latency or 0.0, size),
    }
    return (*first[order], natural(entry["name"]))


def _nothing(entries: Sequence[Mapping[str, Any]], asked: Mapping[str, str | None]) -> str:
    """That no model fits, and what there is where something was asked for that no model has."""
    known = {
        "data": {_data(entry) for entry in entries},
        "cell": {str(entry["cell"].get("type", "")) for entry in entries},
        "precision": {entry["precision"] for entry in entries},
    }
    parts = [f"none of the {len(entries)} registered models fits"]
    for what, value in asked.items():
        if value is not None and value not in known[what]:
            parts.append(f"--{what} {value}: there are {', '.join(sorted(known[what] - {''}))}")
    return "; ".join(parts)
