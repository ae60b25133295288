"""``fastzoo export``: turn a checkpoint into a verified bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastzoo.cli import _console

if TYPE_CHECKING:
    from rich.table import Table

    from fastzoo.bundle import Bundle


def export(
    checkpoint: Annotated[Path, typer.Argument(help="The folder that `fastzoo train` wrote.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The bundle's folder.", show_default=False)],
    name: Annotated[str | None, typer.Option(help="Its name. (default: the recipe's or folder's)")] = None,
    data: Annotated[str | None, typer.Option(help="Data set id. (default: the one it was trained on)")] = None,
    layout: Annotated[list[str] | None, typer.Option(help="fused or unrolled; repeatable. (default: all)")] = None,
    inline: Annotated[
        bool, typer.Option("--inline", help="Write `unrolled` flat, for compilers without local functions.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing folder.")] = False,
) -> None:
    """Write ONNX files in fp32 and int8, each verified against torch and evaluated on the test split.

    Example: fastzoo export runs/fastgrnn-har --out my-model
    """
    from fastzoo.export import export as export_bundle

    bundle = export_bundle(checkpoint, out, name=name, dataset=data, layouts=layout, inline=inline, overwrite=force)
    console = _console.console()
    console.print(table(bundle))
    for line in spread(bundle):
        console.print(line)
    for warning in accuracy_warnings(bundle):
        _console.warn(warning)
    console.print(f"Next: fastzoo register {out}, or fastzoo.load({str(out)!r}) in Python")


def table(bundle: Bundle) -> Table:
    """Accuracy, size, load time, latency and faithfulness of each file."""
    numbers = ("accuracy", "same class as torch", "weights", "file", "load", "latency p50", "p95")
    made = _console.table("precision", "layout", *numbers, right=numbers)
    for name, precision in bundle.precisions.items():
        for layout, file in precision.layouts.items():
            latency = file.latency
            made.add_row(
                name,
                layout,
                _console.percent(file.metrics.accuracy if file.metrics else None),
                _console.percent(file.verification.get("same_class")),
                _console.kilobytes(precision.weights_bytes),
                _console.kilobytes(file.bytes),
                f"{latency.load_ms:.1f} ms" if latency else "",
                _console.microseconds(latency.p50_us if latency else None),
                _console.microseconds(latency.p95_us if latency else None),
            )
    return made


def spread(bundle: Bundle) -> list[str]:
    """Test accuracy over all seeds, one line for each kind of file; empty for a single seed."""
    seeds = bundle.seeds or {}
    return [
        f"{len(seeds['seeds'])} seeds, {kind}: mean {_console.percent(found['mean'])}, "
        f"std {100 * found['std']:.2f} points, worst {_console.percent(found['worst'])}"
        for kind, found in seeds.items()
        if "/" in kind
    ]


def accuracy_warnings(bundle: Bundle, most: float = 0.003) -> list[str]:
    """int8 files that lost more than ``most`` of the fp32 accuracy in the same layout."""
    if not {"fp32", "int8"} <= bundle.precisions.keys():
        return []
    parents = bundle.precisions["fp32"].layouts
    return [
        f"int8 {layout} loses {100 * (parent.accuracy - file.metrics.accuracy):.1f} points of accuracy to fp32"
        for layout, file in bundle.precisions["int8"].layouts.items()
        if layout in parents and file.metrics and (parent := parents[layout].metrics)
        if parent.accuracy - file.metrics.accuracy > most
    ]
