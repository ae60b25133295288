"""``fastzoo cache``: what was fetched from servers."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from fastzoo.cli import _console

app = typer.Typer(
    help="Files fetched from servers.\n\nExample: fastzoo cache clean --unused 30",
    no_args_is_help=True,
)


@app.command("list")
def list_(as_json: _console.AsJson = False) -> None:
    """List the bundles that were fetched, the last used first.

    Example: fastzoo cache list
    """
    from fastzoo.hub import contents

    found = contents.cached()
    rows = [
        {
            "name": one.bundle.name if one.bundle else None,
            "models": list(one.models),
            "files": len(one.files),
            "of": len(one.bundle.files) + 1 if one.bundle else None,
            "bytes": one.bytes,
            "used": time.strftime("%Y-%m-%d %H:%M", time.localtime(one.used)),
            "folder": str(one.folder),
        }
        for one in found
    ]
    if as_json:
        _console.print_json(rows)
        return
    table = _console.table("bundle", "files", "size", "used", "folder", right=("files", "size"))
    for row, one in zip(rows, found, strict=True):
        files = f"{row['files']} of {row['of']}" if one.bundle else "damaged"
        table.add_row(str(row["name"] or "?"), files, _console.kilobytes(one.bytes), str(row["used"]), str(one.folder))
    if rows:
        _console.console().print(table)
    typer.echo(f"{sum(one.bytes for one in found) / 1e6:.1f} MB in all")


@app.command()
def clean(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME...]", help="Only these bundles or models [default: all]."),
    ] = None,
    unused: Annotated[float | None, typer.Option(help="Only what was not used for so many days.", min=0)] = None,
) -> None:
    """Delete what was fetched; it is fetched again when it is needed.

    Example: fastzoo cache clean --unused 30
    """
    from fastzoo.errors import UnknownModelError
    from fastzoo.hub import contents

    found = contents.cached()
    if missing := [name for name in names or () if not any(one.is_called(name) for one in found)]:
        raise UnknownModelError(f"the cache has no {', '.join(missing)}; `fastzoo cache list` shows what it has")
    chosen = [one for one in found if not names or any(map(one.is_called, names))]
    if unused is not None:
        chosen = [one for one in chosen if time.time() - one.used >= unused * 86400]
    for one in chosen:
        contents.remove(one.folder)
    if not names and unused is None:
        contents.remove_places()
    typer.echo(f"{len(chosen)} bundles deleted, {sum(one.bytes for one in chosen) / 1e6:.1f} MB")


@app.command("dir")
def dir_() -> None:
    """Print the cache's folder; FASTZOO_CACHE sets another.

    Example: fastzoo cache dir
    """
    from fastzoo.hub import cache

    typer.echo(cache.root())


@app.command()
def verify() -> None:
    """Compare every file with its sha256; the exit status is 1 where one is damaged.

    Example: fastzoo cache verify
    """
    from fastzoo.hub import contents

    found = contents.cached()
    damaged = [fault for one in found for fault in contents.faults(one)]
    for fault in damaged:
        _console.warn(fault)
    if damaged:
        _console.warn("`fastzoo cache clean NAME` deletes a damaged bundle; it is then fetched again")
        raise typer.Exit(1)
    typer.echo(f"{len(found)} bundles, {sum(len(one.files) for one in found)} files: all as they should be")
