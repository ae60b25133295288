"""``fastzoo registry``: where models are looked up, and folders made into registries."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fastzoo.cli import _console
from fastzoo.cli._boards import add_board, boards

app = typer.Typer(
    help="Registries of models: folders, servers, repositories on Hugging Face.\n\n"
    "Example: fastzoo registry add https://models.example.com/zoo",
    no_args_is_help=True,
)

app.command("add-board")(add_board)
app.command("boards")(boards)

Place = Annotated[
    str,
    typer.Argument(
        metavar="PLACE",
        help="A folder, a zoo_registry.json, https://HOST/FOLDER or hf://OWNER/REPO[@REVISION][/FOLDER].",
        show_default=False,
    ),
]


@app.command("list")
def list_(as_json: _console.AsJson = False) -> None:
    """List the registries in which models are looked up, in this order.

    Example: fastzoo registry list
    """
    from fastzoo import registry
    from fastzoo.errors import FastzooError

    built_in = registry.builtin()
    rows: list[dict[str, str | int]] = [{"place": built_in.place, "origin": "fastzoo", "models": len(built_in.models)}]
    for place in registry.user_places():
        row: dict[str, str | int] = {"place": place.place, "origin": place.origin}
        try:
            row["models"] = len(registry.read_place(place.place).models)
        except FastzooError as error:
            row["fault"] = str(error)
        rows.append(row)
    if as_json:
        _console.print_json(rows)
        return
    table = _console.table("place", "named by", "models", right=("models",))
    for row in rows:
        table.add_row(str(row["place"]), str(row["origin"]), str(row.get("models", "faulty")))
    _console.console().print(table)
    for row in rows:
        if "fault" in row:
            _console.warn(str(row["fault"]))


@app.command()
def add(place: Place) -> None:
    """Look models up in another registry, too, after those there are.

    Example: fastzoo registry add https://models.example.com/zoo
    """
    from fastzoo import registry
    from fastzoo.hub import settings

    named = _named(place)
    found = registry.read_place(named, update=True)
    if not found.models and found.remote is None and not found.path.exists():
        _console.warn(f"there is no {found.path} yet; `fastzoo registry build` or `fastzoo register` makes it")
    if settings.add(named):
        typer.echo(f"{named}: {len(found.models)} models")
    else:
        typer.echo(f"{named} was added before: {len(found.models)} models")
    if os.environ.get(settings.VARIABLE):
        _console.warn(f"{settings.VARIABLE} is set and takes the place of all added registries; unset it to use them")


@app.command()
def remove(place: Place) -> None:
    """No longer look models up there. Its files, and what was fetched from it, stay.

    Example: fastzoo registry remove https://models.example.com/zoo
    """
    from fastzoo.hub import settings

    settings.remove(_named(place))


@app.command()
def update(
    place: Annotated[
        str | None, typer.Argument(metavar="[PLACE]", help="Only this one (default: all on servers).")
    ] = None,
) -> None:
    """Ask servers now whether their registries have changed; else they are asked every ten minutes.

    Example: fastzoo registry update
    """
    from fastzoo import registry

    places = [known.place for known in registry.user_places() if known.is_remote] if place is None else [_named(place)]
    if not places:
        _console.warn("no registry of yours is on a server; `fastzoo registry add` adds one")
    for one in places:
        typer.echo(f"{one}: {len(registry.read_place(one, update=True).models)} models")


@app.command()
def build(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder with bundles in it.", show_default=False)],
    check: Annotated[
        bool, typer.Option("--check", help="Only compare; the exit status is 1 where the registry is not current.")
    ] = False,
) -> None:
    """Verify all bundles below a folder and write the zoo_registry.json with which any web server can serve it.

    Example: fastzoo registry build ./zoo && python -m http.server --directory ./zoo
    """
    from fastzoo import registry

    built = registry.build(folder, write=not check)
    for word, names in (("new", built.new), ("changed", built.changed), ("gone", built.gone)):
        for name in names:
            typer.echo(f"{word:8}{name}")
    if check and not built.is_current:
        _console.warn(f"{built.path} is not current; `fastzoo registry build {folder}` makes it so")
        raise typer.Exit(1)
    typer.echo(f"{built.path}: {len(built.models)} models")


def _named(place: str) -> str:
    """The place as it is noted: a path as an absolute one."""
    from fastzoo.hub import places

    return place if places.is_address(place) else str(Path(place).expanduser().absolute())
