"""``fastzoo export``: turn a checkpoint into a verified bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastzoo.cli import _console

if TYPE_CHECKING:
    from rich.table import Table

    from fastzoo.bundle import Bundle


def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="The folder that `fastzoo train` wrote, or a bundle.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="The bundle's folder.", show_default=False)],
    name: Annotated[str | None, typer.Option(help="Its name. (default: the recipe's or folder's)")] = None,
    data: Annotated[str | None, typer.Option(help="Data set id. (default: the one it was trained on)")] = None,
    layout: Annotated[
        list[str] | None, typer.Option(help="fused, scan, unrolled or step; repeatable. (default: all that exist)")
    ] = None,
    activations_in: Annotated[
        list[str] | None,
        typer.Option(
            help="Layout whose int8 file has 8-bit activations, not int8 weights alone; repeatable, or none. "
            "(default: unrolled)"
        ),
    ] = None,
    state: Annotated[
        str, typer.Option(help="Its state: 8 bits, fp32, or auto: the narrowest that keeps validation accuracy.")
    ] = "auto",
    activations: Annotated[str, typer.Option(help="uint8, fast on x86, or int8, for Arm and accelerators.")] = "uint8",
    percentile: Annotated[
        float, typer.Option(help="Of what calibration sees, how much the ranges of activations hold. 100 = min-max.")
    ] = 100.0,
    per_channel: Annotated[
        bool, typer.Option("--per-channel", help="A scale for each output channel of a matrix: more faithful.")
    ] = False,
    frontend: Annotated[
        str | None,
        typer.Option(
            help="What made the windows from sound of 16000 samples/s, where the data set does not say: kws12, or "
            "fields such as 'bands=32, clip_s=1.5'."
        ),
    ] = None,
    format: Annotated[  # noqa: A002
        list[str] | None, typer.Option("--format", help="onnx, or c for C99 headers beside it; repeatable.")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Write report.html: graphs, kernels, sizes, errors.")
    ] = False,
    inline: Annotated[
        bool, typer.Option("--inline", help="Write `unrolled` flat, for compilers without local functions.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing folder.")] = False,
) -> None:
    """Write ONNX files in fp32 and int8, each verified against torch and evaluated on the test split.

    Example: fastzoo export runs/fastgrnn-har --out my-model --report
    """
    from fastzoo.data.audio import parse_frontend
    from fastzoo.export import export as export_bundle

    console = _console.console()
    with console.status("reading the checkpoint") as status:
        bundle = export_bundle(
            checkpoint,
            out,
            name=name,
            dataset=data,
            layouts=layout,
            activations_in=() if activations_in == ["none"] else activations_in or ("unrolled",),
            state=state,
            activations=activations,
            percentile=percentile,
            per_channel=per_channel,
            frontend=None if frontend is None else parse_frontend(frontend),
            formats=("onnx", *(format or ())),
            report=report,
            inline=inline,
            overwrite=force,
            on_file=lambda file: status.update(f"making and verifying {file}"),
        )
    console.print(table(bundle))
    for line in spread(bundle):
        console.print(line)
    for warning in accuracy_warnings(bundle):
        _console.warn(warning)
    console.print(f"Next: fastzoo register {out}, or fastzoo.load({str(out)!r}) in Python")


def table(bundle: Bundle) -> Table:
    """Accuracy, size, load time, latency and faithfulness of each file."""
    numbers = ("accuracy", "same class as torch", "weights", "file", "load", "latency p50", "p95", "kernels a step")
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
                _kernels(layout, file.verification.get("kernels_per_step", {})),
            )
    return made


def _kernels(layout: str, counts: Mapping[str, int]) -> str:
    """How many; the loop of ``fused`` is inside of one."""
    return "" if layout == "fused" or not counts else str(sum(counts.values()))


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
