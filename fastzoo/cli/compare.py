"""``fastzoo compare``: every model of a data set side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastzoo.cli import _console

if TYPE_CHECKING:
    from fastzoo._scatter import Scene
    from fastzoo.compare import Row
    from fastzoo.data.literature import Published

_SUFFIXES = (".png", ".svg", ".pdf")


def compare(
    data: Annotated[str | None, typer.Option(help="A data set's id. (default: the only one there is)")] = None,
    by: Annotated[str, typer.Option(help="The cost: bytes of weights, or latency of one window.")] = "bytes",
    metric: Annotated[
        str | None, typer.Option(help="accuracy or macro_f1. (default: what the data set is usually measured by)")
    ] = None,
    pattern: Annotated[str, typer.Option(help="Only models whose name fits, such as *-int8.")] = "*",
    out: Annotated[Path | None, typer.Option(help="Draw it: .png, .svg or .pdf.", show_default=False)] = None,
    as_json: _console.AsJson = False,
) -> None:
    """Compare the models of a data set: accuracy against bytes or latency, those that no other beats, what others got.

    Example: fastzoo compare --data har --out har.png

    Example: fastzoo compare --data har --by latency --pattern "*-int8"
    """
    from fastzoo import _json, _scatter, registry
    from fastzoo import compare as comparison
    from fastzoo.data import literature

    if out is not None:
        _check_place(out)
    dataset, rows = comparison.compare(data, by, metric, registry.models(pattern))
    metric = metric or comparison.usual_metric(dataset)
    published = literature.published(dataset, metric)
    if as_json:
        head = {"dataset": dataset, "by": by, "metric": metric}
        others = [_json.plain(one) for one in published]
        _console.print_json({**head, "models": [_json.plain(row) for row in rows], "published": others})
    else:
        _print(dataset, metric, by, rows, published)
    for warning in _doubts(rows, by):
        _console.warn(warning)
    if out is not None:
        _draw(_scatter.Scene(dataset, by, metric, rows, published), out)
        _console.note(f"drawn: {out}")


def _print(dataset: str, metric: str, by: str, rows: Sequence[Row], published: Sequence[Published]) -> None:
    from fastzoo._scatter import NAMES

    console = _console.console()
    numbers = (NAMES[metric], "weights", "file", "latency")
    table = _console.table("model", "*", "cell", *numbers, right=numbers)
    for row in rows:
        table.add_row(
            row.name,
            "*" if row.on_front else "",
            row.cell,
            _console.percent(row.value),
            _console.kilobytes(row.bytes),
            _console.kilobytes(row.file_bytes),
            _console.microseconds(row.latency_us),
        )
    cost = "of no more bytes" if by == "bytes" else "that is as fast"
    console.print(f"{dataset}; * = no model {cost} is as good\n")
    console.print(table)
    for variant in sorted({row.variant for row in rows if row.variant}):
        console.print(f"\nfastzoo: {variant}")
    for machine in sorted({row.machine for row in rows if row.machine}):
        console.print(f"Latency: one window by the fastest layout, one thread, {machine}")
    if published:
        _print_published(metric, published)


def _print_published(metric: str, published: Sequence[Published]) -> None:
    """The numbers, and below them once each: the data, the source, what a size counts, what else has to be known."""
    from fastzoo._scatter import NAMES

    console = _console.console()
    console.print("\nPublished by others, on the data named there, which is not always ours:\n")
    own = (NAMES[metric], "size", "latency")
    table = _console.table("model", *own, "see", right=own)
    remarks: dict[str, str] = {}
    for one in sorted(published, key=lambda one: (one.bytes is None, one.bytes or 0)):
        counted = one.counted and f"size: {one.counted}"
        remark = "; ".join(part for part in (one.variant, one.source, counted, one.note) if part)
        number = remarks.setdefault(remark, f"[{len(remarks) + 1}]")
        latency = f"{_console.microseconds(one.latency_us)} ({one.device})" if one.latency_us else ""
        size = _console.kilobytes(one.bytes) or (f"{one.parameters} parameters" if one.parameters else "")
        table.add_row(one.model, _console.percent(one.value), size, latency, number)
    console.print(table)
    console.print()
    for remark, number in remarks.items():
        console.print(f"{number} {remark}")


def _doubts(rows: Sequence[Row], by: str) -> list[str]:
    """What makes the models less comparable than they look."""
    found = []
    if by == "latency" and len(machines := {row.machine for row in rows if row.machine}) > 1:
        found.append(f"latencies come from {len(machines)} machines: {'; '.join(sorted(machines))}")
    if len(variants := {row.variant for row in rows}) > 1:
        found.append(f"the models were measured on {len(variants)} variants of the data set")
    if missing := [row.name for row in rows if row.value is None or row.cost(by) is None]:
        found.append(f"without a number, so not compared: {', '.join(missing)}")
    return found


def _check_place(path: Path) -> None:
    from fastzoo.errors import InputError

    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(f"cannot draw {path}: the name must end in {', '.join(_SUFFIXES)}")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}")


def _draw(scene: Scene, path: Path) -> None:
    from fastzoo import _files, _scatter
    from fastzoo.errors import InputError

    if not scene.points:
        raise InputError(f"nothing to draw: no model of {scene.dataset!r} has both numbers")
    content = _scatter.draw(scene, path.suffix.lower()[1:])
    try:
        _files.write(path, content)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
