"""The command line: one module per command, each of which imports what it needs when it runs."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from fastzoo import FastzooError, __version__
from fastzoo.cli.bench import bench
from fastzoo.cli.cache import app as cache
from fastzoo.cli.compare import compare
from fastzoo.cli.data import app as data
from fastzoo.cli.demo import demo
from fastzoo.cli.eval_ import eval_
from fastzoo.cli.export import export
from fastzoo.cli.fetch import fetch
from fastzoo.cli.import_edgeml import import_edgeml
from fastzoo.cli.info import info
from fastzoo.cli.list_ import list_
from fastzoo.cli.predict import predict
from fastzoo.cli.register import register
from fastzoo.cli.registry import app as registry
from fastzoo.cli.reproduce import reproduce
from fastzoo.cli.serve import serve
from fastzoo.cli.stream import stream
from fastzoo.cli.train import train

app = typer.Typer(
    name="fastzoo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("list")(list_)
app.command("info")(info)
app.command("predict")(predict)
app.command("stream")(stream)
app.command("eval")(eval_)
app.command("bench")(bench)
app.command("compare")(compare)
app.command("train")(train)
app.command("export")(export)
app.command("import-edgeml")(import_edgeml)
app.command("reproduce")(reproduce)
app.command("register")(register)
app.command("fetch")(fetch)
app.command("serve")(serve)
app.command("demo")(demo)
app.add_typer(registry, name="registry")
app.add_typer(cache, name="cache")
app.add_typer(data, name="data")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"fastzoo {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """A zoo of kilobyte-sized recurrent classifiers for sensor streams.

    Example: fastzoo predict fastgrnn-har-int8 window.csv
    """


def _show_downloads() -> None:
    """Where somebody looks on, long downloads show a bar."""
    from fastzoo.hub import cache

    cache.show_progress = sys.stderr.isatty()


def main() -> None:
    """Run the command line; the exit status is 1 for an error of fastzoo's, 2 for wrong usage, 130 for Ctrl-C."""
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 must not hide the message
    try:
        _show_downloads()
        try:
            app()
        finally:
            sys.stdout.flush()
    except FastzooError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader, `head` for instance, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
