"""``fastzoo reproduce``: make a published model again, and say whether it is the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastzoo.cli import _console

if TYPE_CHECKING:
    from fastzoo.data import Dataset
    from fastzoo.export.reproduce import Reproduction
    from fastzoo.train import Recipe


def reproduce(
    name: _console.Name,
    source: Annotated[
        str,
        typer.Option(
            "--from",
            help="weights: export and quantize the shipped fp32 weights again, seconds. recipe: train them again, too.",
        ),
    ] = "recipe",
    data: Annotated[str | None, typer.Option(help="Data set. (default: the recipe's)", show_default=False)] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Its recipe. (default: the one that comes with fastzoo)", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed than the published one.", show_default=False)] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Cores. (default: as many as the published run had)", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run. (default: runs/reproduce-NAME)", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a run that is already there.")] = False,
    as_json: _console.AsJson = False,
) -> None:
    """Make a published model again: its files from its weights, and its weights from its recipe.

    Files are the same bit by bit. So are trained weights, on the same kind of CPU with the same versions and number of
    threads; elsewhere the test accuracy must lie where the published seeds let expect it. Else the exit status is 1.

    Example: fastzoo reproduce fastgrnn-har --from weights

    Example: fastzoo reproduce fastgrnn-har --out runs/har-again
    """
    if source not in ("weights", "recipe"):
        raise typer.BadParameter("--from takes weights or recipe")
    if source == "weights" and (recipe or out or resume or force or seed is not None or threads):
        raise typer.BadParameter("--from weights trains nothing: leave out what belongs to a run")
    from fastzoo import _json, registry
    from fastzoo.export import reproduce as again

    folder = registry.whole_bundle(name)
    console = _console.console()
    plan = _plan(folder, recipe, data, out, resume, force) if source == "recipe" else None
    given = plan.dataset if plan is not None and data is not None else data
    with console.status("reading the bundle") as status:
        found = [again.from_weights(folder, given, lambda file: status.update(f"making {file} again"))]
    if not as_json:
        _print(found[0])
    if plan is not None:
        trained = again.from_recipe(
            folder,
            plan.recipe,
            plan.dataset,
            plan.out,
            seed,
            threads=threads,
            resumed=resume,
            progress=not as_json,
        )
        found.append(trained)
        if not as_json:
            console.print()
            _print(trained)
    succeeded = all(one.succeeded for one in found)
    if as_json:
        _console.print_json(
            {"model": found[0].name, "succeeded": succeeded}
            | {one.source: _json.plain(one) | {"succeeded": one.succeeded} for one in found}
        )
    if not succeeded:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Plan:
    """What is trained, on what, and where."""

    recipe: Recipe
    dataset: Dataset
    out: Path


def _plan(folder: Path, path: Path | None, data: str | None, out: Path | None, resume: bool, force: bool) -> _Plan:
    """Everything that can be wrong before the long work is noticed here."""
    from fastzoo import bundle
    from fastzoo import data as datasets
    from fastzoo.errors import TrainingError
    from fastzoo.train import checkpoint, recipe

    content = bundle.read(folder)
    chosen = recipe.read(path or recipe.of_model(content.name))
    place = out or Path("runs") / f"reproduce-{content.name}"
    if not (resume or force) and (place / checkpoint.NAME).exists():
        raise TrainingError(
            f"{place} holds a run already; choose another --out, go on with it (--resume), or replace it (--force)"
        )
    return _Plan(chosen, datasets.load(data or chosen.data, chosen.cut), place)


def _print(found: Reproduction) -> None:
    from fastzoo.export.reproduce import UNCHECKED

    console = _console.console()
    if found.source == "weights":
        table = _console.table("file", "published sha256", "made again", "verdict")
        for one in found.files:
            again = one.sha256[:12] if one.sha256 else ""
            table.add_row(one.file, one.published_sha256[:12], again, _verdict(one.verdict, one.reason))
        console.print(f"{found.name}: files made again from the shipped fp32 weights\n")
    else:
        numbers = ("published", "again", "expected of a seed")
        table = _console.table("file", *numbers, "verdict", right=numbers)
        for one in found.files:
            low_high = " to ".join(_percent(end) for end in one.interval) if one.interval else ""
            published, accuracy = _percent(one.published_accuracy), _percent(one.accuracy)
            table.add_row(one.file, published, accuracy, low_high, _verdict(one.verdict, one.reason))
        console.print(f"{found.name}: {_trained(found)}; test accuracy\n")
    console.print(table)
    for note in found.notes:
        console.print(f"note: {note}")
    unchecked = [one.file for one in found.files if one.verdict == UNCHECKED]
    if unchecked and found.source == "weights":
        _console.warn(f"not checked: {', '.join(unchecked)}")


def _trained(found: Reproduction) -> str:
    """What became of the weights."""
    weights = found.weights
    assert weights is not None
    if weights.identical is None:
        return f"trained again with seed {weights.seed}, where seed {weights.published_seed} was published"
    if weights.identical:
        return f"weights trained again with seed {weights.seed} are bit-identical"
    if weights.max_difference is None:
        return "weights trained again have other shapes"
    return f"weights trained again with seed {weights.seed} differ by {weights.max_difference:.3g} at most"


def _verdict(verdict: str, reason: str | None) -> str:
    return f"{verdict}: {reason}" if reason else verdict


def _percent(value: float | None) -> str:
    """With two digits: seeds may differ by less than a tenth of a point."""
    return "" if value is None else f"{100 * value:.2f} %"
