"""``fastzoo register``: give a bundle a name that loads from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The bundle's folder.", show_default=False)],
    registry: Annotated[
        str | None,
        typer.Option(help="The registry's folder or .json file.", show_default="the first in FASTZOO_REGISTRY"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace other content, or a model of fastzoo's, of the same name.")
    ] = False,
) -> None:
    """Check a bundle and copy it into your registry, so that it loads by name.

    Example: fastzoo register ./my-model
    """
    from fastzoo import registry as registries

    for name in registries.register(folder, registry, force):
        typer.echo(name)
