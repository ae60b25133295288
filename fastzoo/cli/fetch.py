"""``fastzoo fetch``: models from servers, before they are needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastzoo.cli import _console


def fetch(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...", help='Names, with * and ? too ("*-har-*"), or addresses of bundles.', show_default=False
        ),
    ],
    every: Annotated[bool, typer.Option("--all", help="All layouts, precisions, weights and golden files.")] = False,
    layout: _console.Layout = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Write whole bundles below this folder, to be carried elsewhere.")
    ] = None,
) -> None:
    """Have the files of models here, so that they load without a network. What is here already is not asked for again.

    Example: fastzoo fetch fastgrnn-gestures-int8 --all

    Example: fastzoo fetch "*-gestures-*" --out /media/usb
    """
    import fastzoo
    from fastzoo import bundle, registry
    from fastzoo.hub import carry

    for name in _meant(names):
        source = registry.source(name)
        if every or out is not None:
            folder = source.open()
            content = bundle.read(folder)
            for record in content.files:
                source.fetch(record)
            if out is not None:
                folder = carry.copy(folder, content, out)
        else:
            folder = fastzoo.load(name, layout).path
        typer.echo(f"{source.entry['name']}: {folder}")


def _meant(names: list[str]) -> list[str]:
    """The names, patterns replaced by what fits them."""
    from fastzoo import registry
    from fastzoo.errors import UnknownModelError

    meant: list[str] = []
    for name in names:
        if not set("*?[") & set(name) or "/" in name:
            meant.append(name)
            continue
        found = [entry["name"] for entry in registry.models(name)]
        if not found:
            raise UnknownModelError(f"no registered model fits {name!r}; `fastzoo list` shows all")
        meant += found
    return list(dict.fromkeys(meant))
