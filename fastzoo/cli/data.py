"""``fastzoo data``: which data sets are there, how to get them, and how to make one of your own recordings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastzoo.cli import _console, _cut
from fastzoo.cli._options import taking

if TYPE_CHECKING:
    from fastzoo.data import Cut, Report

app = typer.Typer(no_args_is_help=True, help="List, fetch, describe and prepare data sets.")

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="An id of `fastzoo data list`, an .npz, a CSV or Parquet file or a folder of them, a folder of WAV files "
        "per class, or a folder with EdgeML's train.npy and test.npy.",
        show_default=False,
    ),
]


@app.command("list")
def list_() -> None:
    """List the data sets with their licences, and say which are ready to use.

    Example: fastzoo data list
    """
    from fastzoo import data

    table = _console.table("id", "state", "what", "licence")
    table.columns[1].no_wrap = True  # holds a command to be copied
    for id in data.known():
        about = data.about(id)
        title, licence = (about.title, about.licence) if about else ("your own file", "")
        table.add_row(id, _state(id), title, licence)
    _console.console().print(table)
    typer.echo(f"Data folder: {data.data_folder()} (set FASTZOO_DATA to use another)")


def _state(id: str) -> str:
    from importlib.util import find_spec

    from fastzoo import data

    if id == "digits":
        return "ready" if find_spec("sklearn") else 'run: pip install "fastzoo[train]"'
    files = (f"{id}.npz", "har.npz") if id == "har2" else (f"{id}.npz",)
    ready = any((data.data_folder() / name).exists() for name in files)
    return "ready" if ready else f"run: fastzoo data fetch {id}"


@app.command()
def fetch(
    id: Annotated[str, typer.Argument(metavar="ID", help="The data set, for example har.", show_default=False)],
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Refuse windows that are not the known ones.")
    ] = True,
) -> None:
    """Download a data set from its official source, check it and prepare it. FASTZOO_<ID>_URL names another source.

    Example: fastzoo data fetch har
    """
    from fastzoo import data

    path = data.fetch(id, verify=verify)
    made = data.load(id)
    counts = {"training": len(made.train), "validation": len(made.validation), "test": len(made.test)}
    parts = " and ".join(f"{count} {name}" for name, count in counts.items() if count)
    typer.echo(f"{path}: {parts} windows, sha256 {made.sha256}")
    if about := data.about(id):
        typer.echo(f"{about.variant}.\nLicence: {about.licence}.\nCite: {about.citation}.")


@app.command()
@taking(cut=_cut.OPTIONS)
def describe(
    source: Source,
    cut: Cut,
    plot: Annotated[Path | None, typer.Option(help="Draw it, too: a .png, .svg or .pdf.", show_default=False)] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Of the training to come.")] = 128,
    as_json: _console.AsJson = False,
) -> None:
    """Print shapes, rates, class balance and ranges, and what is wrong; the exit status is 1 where there are errors.

    Example: fastzoo data describe har --plot har.png

    Example: fastzoo data describe recordings.csv --window 128 --hop 64
    """
    from fastzoo import _json, data

    dataset = data.load(source, cut, strict=False)
    report = data.inspect(dataset, batch_size)
    if plot is not None:
        from fastzoo.data.plot import draw

        draw(dataset, report, plot)
    if as_json:
        _console.print_json(_json.plain(report))
    else:
        _print(report, plot)
    if report.errors:
        raise typer.Exit(1)


@app.command()
@taking(cut=_cut.OPTIONS)
def prepare(
    source: Source,
    cut: Cut,
    out: Annotated[Path, typer.Option(metavar="FILE.npz", help="Where to write.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is already there.")] = False,
) -> None:
    """Cut recordings into windows once and write the prepared form, which loads in no time.

    Example: fastzoo data prepare walk.csv --window 128 --hop 64 --out my.npz

    Example: fastzoo data prepare usps10 --input-dim 16 --out usps.npz
    """
    from dataclasses import replace

    from fastzoo import data
    from fastzoo.errors import DataError

    if out.suffix != ".npz":
        raise DataError(f"the prepared form is one .npz file, and {out} does not end in .npz")
    if out.exists() and not force:
        raise DataError(f"{out} is there already; choose another --out, or replace it with --force")
    dataset = replace(data.load(source, cut), id=out.stem)
    report = data.inspect(dataset)
    _print(report, None)
    dataset.save(out.parent)
    typer.echo(f"Written to {out}. Next: fastzoo train --data {out}")


def _print(report: Report, plot: Path | None) -> None:
    from fastzoo import _json

    console = _console.console()
    facts = _console.table("", "")
    facts.show_header = False
    facts.add_row("data set", report.id)
    facts.add_row(
        "windows",
        f"{report.windows} of {report.steps} samples ({report.seconds:.4g} s at {report.rate:g} samples/s), "
        f"{report.dtype}",
    )
    facts.add_row("sha256", report.sha256)
    for note in report.notes:
        facts.add_row("note", note)
    if plot is not None:
        facts.add_row("picture", str(plot))
    console.print(facts)
    console.print()
    _print_classes(report)
    console.print()
    _print_ranges(report)
    console.print()
    if not report.faults:
        console.print("No faults found.")
    for fault in report.faults:
        console.print(f"{fault.severity}: {_json.listing([fault.message])}", soft_wrap=True)


def _print_classes(report: Report) -> None:
    names = tuple(report.splits)
    table = _console.table("class", *names, right=names)
    for label in report.classes:
        table.add_row(label, *(str(part.per_class[label]) for part in report.splits.values()))
    table.add_row("all", *(str(part.windows) for part in report.splits.values()))
    table.add_row("groups", *(str(part.groups) for part in report.splits.values()))
    _console.console().print(table)


def _print_ranges(report: Report) -> None:
    numbers = ("min", "mean", "std", "max")
    table = _console.table("channel", "split", *numbers, right=numbers)
    for position, channel in enumerate(report.channels):
        for name, part in report.splits.items():
            values = (getattr(part.ranges[position], number) for number in numbers)
            table.add_row(channel, name, *("" if value is None else f"{value:.4g}" for value in values))
            channel = ""
    _console.console().print(table)
