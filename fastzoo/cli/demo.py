"""``fastzoo demo``: the main job, end to end, on data that needs no download."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastzoo.cli import _console

if TYPE_CHECKING:
    from rich.console import Console

SHIPPED = "fastgrnn-har-int8"
NAME = "my-digits"


def demo(
    out: Annotated[
        Path | None, typer.Option(help="Keep what is made in this folder. (default: nothing is kept)")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training digits.")] = 100,
) -> None:
    """Load a shipped model, then make one: train, export, quantize, verify, register, load by name, evaluate.

    Takes about a minute. Needs fastzoo[train,export].

    Example: fastzoo demo --out demo
    """
    console = _console.console()
    _shipped(console)
    if out is not None:
        _own(console, out, epochs)
        console.print(f"Kept in {out}: the checkpoint, the bundle, and a registry that FASTZOO_REGISTRY can name.")
        return
    with tempfile.TemporaryDirectory(prefix="fastzoo-demo-") as folder:
        _own(console, Path(folder), epochs)


def _shipped(console: Console) -> None:
    """What the shipped model says of its golden windows: synthetic motion, made from a seed."""
    import fastzoo
    from fastzoo import bundle, golden

    model = fastzoo.load(SHIPPED)
    folder = model.path.parent
    windows = golden.read(bundle.read(folder), folder)["x"]
    console.print(f"1. {model!r} on its {len(windows)} golden windows,")
    console.print("   synthetic motion of two windows for each label in this order, and what it says:")
    console.print("   " + ", ".join(model.labels))
    console.print("   " + ", ".join(map(str, model.predict(windows))))


@contextmanager
def _registry(folder: Path) -> Iterator[None]:
    """Names are looked up in ``folder`` as well, as when a user sets FASTZOO_REGISTRY."""
    before = os.environ.get("FASTZOO_REGISTRY")
    os.environ["FASTZOO_REGISTRY"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["FASTZOO_REGISTRY"]
        else:
            os.environ["FASTZOO_REGISTRY"] = before


def _own(console: Console, folder: Path, epochs: int) -> None:
    """Train on digits and bring the result into a registry of its own."""
    import numpy as np

    import fastzoo
    from fastzoo import data, registry
    from fastzoo.cli.export import table
    from fastzoo.errors import ExportError
    from fastzoo.export import export
    from fastzoo.train import ModelConfig, Recipe, Settings, fit_recipe

    if (folder / NAME).exists():
        raise ExportError(f"{folder / NAME} exists already; choose another --out")
    console.print("2. training FastGRNN on scikit-learn's digits, read as 8 steps of 8 pixels")
    digits = data.load("digits")
    recipe = Recipe(
        "digits", ModelConfig(hidden_size=48, w_rank=8, u_rank=12, pool=1), Settings(epochs=epochs, batch_size=64)
    )
    fit_recipe(recipe, digits, folder / "run")
    console.print("3. export: ONNX graphs in fp32 and int8, each verified against torch")
    bundle = export(folder / "run", folder / NAME)
    names = registry.register(folder / NAME, folder / registry.FILE)
    with _registry(folder):
        model = fastzoo.load(f"{NAME}-int8")
    console.print(f"4. registered as {', '.join(names)} in {folder / registry.FILE}; loaded by name: {model!r}")
    guess, truth = np.asarray(model.predict(digits.test.x)), np.array(digits.classes)[digits.test.y]
    console.print(f"   {_console.percent(float((guess == truth).mean()))} of {len(truth)} test digits are right")
    console.print(table(bundle))
