"""``fastzoo data``: which data sets are there, and how to get them."""

from __future__ import annotations

from typing import Annotated

import typer

from fastzoo.cli import _console

app = typer.Typer(no_args_is_help=True, help="List and fetch data sets.")


@app.command("list")
def list_() -> None:
    """List the data sets and say which are ready to use.

    Example: fastzoo data list
    """
    from fastzoo import data

    table = _console.table("id", "state", "what")
    table.columns[1].no_wrap = True  # holds a command to be copied
    for id in data.known():
        about = data.about(id)
        table.add_row(id, _state(id), about.title if about else "your own file")
    _console.console().print(table)
    typer.echo(f"Data folder: {data.data_folder()} (set FASTZOO_DATA to use another)")


def _state(id: str) -> str:
    from importlib.util import find_spec

    from fastzoo import data

    if id == "digits":
        return "ready" if find_spec("sklearn") else 'run: pip install "fastzoo[train]"'
    return "ready" if (data.data_folder() / f"{id}.npz").exists() else f"run: fastzoo data fetch {id}"


@app.command()
def fetch(
    id: Annotated[str, typer.Argument(metavar="ID", help="The data set, for example har.", show_default=False)],
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Refuse data whose digest is not the known one.")
    ] = True,
) -> None:
    """Download a data set from its official source and prepare it.

    Example: fastzoo data fetch har
    """
    from fastzoo import data

    path = data.fetch(id, verify=verify)
    made = data.read(path)
    typer.echo(f"{path}: {len(made.train)} training and {len(made.test)} test windows, sha256 {made.sha256}")
    if about := data.about(id):
        typer.echo(f"{about.variant}.\nLicence: {about.licence}.\nCite: {about.citation}.")
