"""``fastzoo train``: fit a classifier on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastzoo.cli import _console

if TYPE_CHECKING:
    from fastzoo.train import Recipe, Run

_MODEL, _TRAINING, _AUGMENTATION = "The network", "Training", "Augmentation"


def train(
    recipe: Annotated[
        Path | None, typer.Argument(metavar="[RECIPE]", help="A TOML recipe; options override what it says.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Data set id, for example har or digits.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the checkpoint. (default: runs/<cell>-<data>)")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a checkpoint that is already there.")] = False,
    seeds: Annotated[int | None, typer.Option(min=1, help="Train so many seeds; validation chooses.")] = None,
    seed: Annotated[int | None, typer.Option(help="The (first) seed.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Cores to use; fix it to get the same bits again. (default: all)")
    ] = None,
    cell: Annotated[
        str | None, typer.Option(rich_help_panel=_MODEL, help="fastgrnn (the default), fastrnn, ugrnn, gru, lstm.")
    ] = None,
    hidden_size: Annotated[int | None, typer.Option(rich_help_panel=_MODEL, help="Units H (default: 64).")] = None,
    num_layers: Annotated[int | None, typer.Option(rich_help_panel=_MODEL, help="Stacked cells (default: 1).")] = None,
    bidirectional: Annotated[
        bool | None, typer.Option("--bidirectional", rich_help_panel=_MODEL, help="Read windows backwards, too.")
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(rich_help_panel=_MODEL, help="Between stacked cells (default: 0).")
    ] = None,
    w_rank: Annotated[int | None, typer.Option(rich_help_panel=_MODEL, help="Rank of W; absent = full.")] = None,
    u_rank: Annotated[int | None, typer.Option(rich_help_panel=_MODEL, help="Rank of U; absent = full.")] = None,
    gate_nonlinearity: Annotated[
        str | None, typer.Option("--gate", rich_help_panel=_MODEL, help="sigmoid (the default), quant_sigmoid, ...")
    ] = None,
    update_nonlinearity: Annotated[
        str | None, typer.Option("--update", rich_help_panel=_MODEL, help="tanh (the default), quant_tanh, relu, ...")
    ] = None,
    nu: Annotated[
        float | None,
        typer.Option(rich_help_panel=_MODEL, help="FastGRNN: fixed nu; 0 (the default) runs fastest."),
    ] = None,
    train_nu: Annotated[bool, typer.Option("--train-nu", rich_help_panel=_MODEL, help="Train nu instead.")] = False,
    pool: Annotated[
        int | None, typer.Option(rich_help_panel=_MODEL, help="Average the last POOL states (default: 1).")
    ] = None,
    epochs: Annotated[int | None, typer.Option(rich_help_panel=_TRAINING, help="Passes (default: 60).")] = None,
    batch_size: Annotated[int | None, typer.Option(rich_help_panel=_TRAINING, help="Default: 128.")] = None,
    optimizer: Annotated[
        str | None, typer.Option(rich_help_panel=_TRAINING, help="adamw (the default) or adam.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(rich_help_panel=_TRAINING, help="Default: 0.01.")] = None,
    weight_decay: Annotated[float | None, typer.Option(rich_help_panel=_TRAINING, help="Default: 0.01.")] = None,
    schedule: Annotated[
        str | None, typer.Option(rich_help_panel=_TRAINING, help="onecycle (the default) or step.")
    ] = None,
    average: Annotated[
        float | None, typer.Option(rich_help_panel=_TRAINING, help="Decay of the running average of the weights.")
    ] = None,
    at_rest: Annotated[
        float | None, typer.Option(rich_help_panel=_TRAINING, help="0 to 1: scale channels by quiet windows, too.")
    ] = None,
    rotate: Annotated[
        float | None, typer.Option(rich_help_panel=_AUGMENTATION, help="Turn the device by N(0, ROTATE) radians.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option(rich_help_panel=_AUGMENTATION, help="Scale windows by 1 + N(0, SCALE).")
    ] = None,
    noise: Annotated[
        float | None, typer.Option(rich_help_panel=_AUGMENTATION, help="Noise in standard deviations of a channel.")
    ] = None,
) -> None:
    """Train a classifier; keep the weights that are best on validation subjects.

    Ctrl-C ends early and keeps the best so far. Next comes `fastzoo export`.

    Example: fastzoo train --data har --cell fastgrnn --hidden-size 64 --w-rank 6 --u-rank 16 --pool 64 --rotate 0.25

    Example: fastzoo train recipes/fastgrnn-har.toml --out runs/har
    """
    given = {
        "data": {"id": data},
        "model": {
            "cell": cell, "hidden_size": hidden_size, "num_layers": num_layers, "bidirectional": bidirectional,
            "dropout": dropout, "w_rank": w_rank, "u_rank": u_rank, "nu": nu, "pool": pool,
            "gate_nonlinearity": gate_nonlinearity, "update_nonlinearity": update_nonlinearity,
        },
        "train": {
            "epochs": epochs, "batch_size": batch_size, "optimizer": optimizer, "learning_rate": learning_rate,
            "weight_decay": weight_decay, "schedule": schedule, "average": average, "at_rest": at_rest, "seed": seed,
        },
        "augmentation": {"rotate": rotate, "scale": scale, "noise": noise},
        "seeds": seeds,
    }  # fmt: skip
    _train(_recipe(recipe, given, train_nu), out, force, threads)


def _recipe(path: Path | None, given: dict[str, Any], train_nu: bool) -> Recipe:
    """The recipe of the file, if any, with the options that were given."""
    from fastzoo.errors import TrainingError
    from fastzoo.train import recipe

    document = recipe.load(path) if path else {}
    for key in ("data", "model", "train"):
        document[key] = {**document.get(key, {}), **_present(given[key])}
    augmentation = {**document["train"].get("augmentation", {}), **_present(given["augmentation"])}
    document["train"]["augmentation"] = augmentation
    document["model"] |= {"nu": None} if train_nu else {}
    document |= _present({"seeds": given["seeds"]})
    if "id" not in document["data"]:
        raise TrainingError("what to train on? Give a recipe, or --data ID (`fastzoo data list` shows the ids)")
    return recipe.parse(document, str(path) if path else "options")


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _train(recipe: Recipe, out: Path | None, force: bool, threads: int | None) -> None:
    import torch

    from fastzoo import data, nn
    from fastzoo.errors import TrainingError
    from fastzoo.train import checkpoint, fit_recipe, seeds

    if threads is not None:
        torch.set_num_threads(threads)
    folder = out or Path("runs") / f"{recipe.model.cell}-{Path(recipe.data).stem}"
    if not force and ((folder / checkpoint.NAME).exists() or seeds.is_run(folder)):
        raise TrainingError(f"{folder} holds a checkpoint already; choose another --out, or replace it with --force")
    dataset = data.load(recipe.data)
    net = recipe.model.build(dataset, recipe.settings.seed)
    _console.console().print(f"{recipe.model.cell}: {nn.model_size(net, dataset.x.shape[1])}")
    fit_recipe(recipe, dataset, folder, report=_report)
    if recipe.model.cell == "fastgrnn" and len(net.rnn.cells) == 1:
        typer.echo(f"Next: fastzoo export {folder} --out my-model")
    else:
        typer.echo(f"Kept in {folder}; so far `fastzoo export` takes a fastgrnn of one layer and one direction only")


def _report(seed: int, run: Run) -> None:
    if run.best is None or run.validation is None:
        return
    word = "interrupted, " if run.interrupted else ""
    _console.console().print(
        f"seed {seed}: {word}best epoch {run.best.epoch}, validation accuracy "
        f"{_console.percent(run.validation.accuracy)} (macro F1 {_console.percent(run.validation.macro_f1)}) "
        f"on {run.validation.n} windows of held-out groups; kept in {run.folder}"
    )
