"""How commands print: tables for people, JSON for programs, warnings beside both."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A name from `fastzoo list`, or a bundle's folder.", show_default=False)
]
Layout = Annotated[str, typer.Option(help="fused, scan, unrolled or step; auto takes the fastest one measured.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def console() -> Console:
    """Standard output; text of bundles and files is printed as it is, and a pipe gets long lines uncut."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 240
    return Console(markup=False, emoji=False, highlight=False, width=width)


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A table without frames whose first column, a name to be copied, is never broken."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False)
    for position, column in enumerate(columns):
        made.add_column(column, justify="right" if column in right else "left", no_wrap=position == 0)
    return made


def print_json(value: Any) -> None:
    """JSON in ASCII, so that it passes any pipe."""
    typer.echo(json.dumps(value, indent=2))


def warn(message: str) -> None:
    """One line on standard error."""
    typer.echo(f"warning: {message}", err=True)


def note(message: str) -> None:
    """What was done, on standard error: standard output may be JSON."""
    typer.echo(message, err=True)


def percent(value: float | None) -> str:
    """0.9634 as 96.3 %; nothing where nothing was measured."""
    return "" if value is None else f"{100 * value:.1f} %"


def kilobytes(value: int | None) -> str:
    """Bytes as kB of 1000 bytes."""
    return "" if value is None else f"{value / 1000:.1f} kB"


def microseconds(value: float | None) -> str:
    """A latency with three digits or more."""
    return "" if value is None else f"{value:.0f} us"


def megabytes(value: int | None) -> str:
    """Bytes as MB of 1000 kB."""
    return "" if value is None else f"{value / 1e6:.0f} MB"
