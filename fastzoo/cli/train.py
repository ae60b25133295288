"""``fastzoo train``: fit a classifier on a data set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastzoo._values import is_whole
from fastzoo.cli import _console, _cut
from fastzoo.cli._options import Option, Options, taking

if TYPE_CHECKING:
    from fastzoo.data import Cut, Dataset
    from fastzoo.train import Recipe, Run

_MODEL, _TRAINING, _AUGMENTATION = "The network", "Training", "Augmentation"


# Keys of a recipe.
RECIPE = {
    "data.id": Option(
        str, "An id such as har or digits, a prepared .npz, a table or a folder of recordings.", name="--data"
    ),
    "seeds": Option(int, "Train so many seeds; validation chooses.", min=1),
    "train.seed": Option(int, "The (first) seed."),
    "folds": Option(int, "Cross-validate over so many parts of the groups, in the place of seeds.", min=2),
    "model.cell": Option(str, "fastgrnn (the default), fastrnn, ugrnn, gru, lstm.", _MODEL),
    "model.hidden_size": Option(int, "Units H (default: 64).", _MODEL),
    "model.num_layers": Option(int, "Stacked cells (default: 1).", _MODEL),
    "model.bidirectional": Option(bool, "Read windows backwards, too.", _MODEL, name="--bidirectional"),
    "model.dropout": Option(float, "Between stacked cells (default: 0).", _MODEL),
    "model.w_rank": Option(int, "Rank of W; absent = full.", _MODEL),
    "model.u_rank": Option(int, "Rank of U; absent = full.", _MODEL),
    "model.gate_nonlinearity": Option(str, "sigmoid (the default), quant_sigmoid, ...", _MODEL, name="--gate"),
    "model.update_nonlinearity": Option(str, "tanh (the default), quant_tanh, relu, ...", _MODEL, name="--update"),
    "model.nu": Option(float, "FastGRNN: fixed nu; 0 (the default) runs fastest.", _MODEL),
    "model.pool": Option(int, "Average the last POOL states (default: 1).", _MODEL),
    "model.brick": Option(int, "Read BRICK samples in one step (default: 1).", _MODEL),
    "train.epochs": Option(int, "Passes (default: 60).", _TRAINING),
    "train.batch_size": Option(int, "Default: 128.", _TRAINING),
    "train.optimizer": Option(str, "adamw (the default) or adam.", _TRAINING),
    "train.learning_rate": Option(float, "Default: 0.01.", _TRAINING),
    "train.weight_decay": Option(float, "Default: 0.01.", _TRAINING),
    "train.schedule": Option(str, "onecycle (the default) or step.", _TRAINING),
    "train.average": Option(float, "Decay of the running average of the weights.", _TRAINING),
    "train.label_smoothing": Option(float, "Share of the target spread over all classes.", _TRAINING),
    "train.gradient_norm": Option(float, "The largest norm of a gradient (default: 1).", _TRAINING),
    "train.balance": Option(str, "Rare classes count more: loss, sampling or none.", _TRAINING),
    "train.patience": Option(int, "End after so many epochs without a better one.", _TRAINING),
    "train.sparsity.w": Option(
        float, "Share of W's entries that is kept, such as 0.3.", _TRAINING, name="--w-sparsity"
    ),
    "train.sparsity.u": Option(float, "The same for U. Three phases, as EdgeML's.", _TRAINING, name="--u-sparsity"),
    "train.qat": Option(bool, "Round as int8 files will, in the last phase.", _TRAINING, name="--qat"),
    "train.distillation.teachers": Option(
        list[str], "Learn from a model, or the folder of a run or bundle; repeatable.", _TRAINING, name="--teacher"
    ),
    "train.at_rest": Option(float, "0 to 1: scale channels by quiet windows, too.", _TRAINING),
    "train.augmentation.rotate": Option(float, "Turn the device by N(0, ROTATE) radians.", _AUGMENTATION),
    "train.augmentation.scale": Option(float, "Scale windows by 1 + N(0, SCALE).", _AUGMENTATION),
    "train.augmentation.noise": Option(float, "Noise in standard deviations of a channel.", _AUGMENTATION),
    "train.augmentation.time_shift": Option(float, "Shift windows by up to this share of them.", _AUGMENTATION),
    "train.augmentation.time_warp": Option(
        float, "Play windows faster and slower, by exp N(0, TIME_WARP).", _AUGMENTATION
    ),
    "train.augmentation.drop": Option(float, "Probability that a sensor is missing in a window.", _AUGMENTATION),
    "train.augmentation.time_masks": Option(int, "Mask so many stretches of time (SpecAugment).", _AUGMENTATION),
    "train.augmentation.time_mask_width": Option(
        float, "The largest, as a share of the window (default: 0.1).", _AUGMENTATION
    ),
    "train.augmentation.frequency_masks": Option(
        int, "Mask so many runs of neighbouring bands (SpecAugment).", _AUGMENTATION
    ),
    "train.augmentation.frequency_mask_width": Option(int, "The largest, in bands (default: 4).", _AUGMENTATION),
    "train.augmentation.frequency_warp": Option(
        float, "Stretch bands by exp N(0, FREQUENCY_WARP), as another throat does (VTLP).", _AUGMENTATION
    ),
    "train.augmentation.only": Option(
        list[str],
        "Scale, noise, drop, masks for these alone: acc_*; repeatable.",
        _AUGMENTATION,
        name="--augment-only",
    ),
}


@taking(given=Options(RECIPE), cut=_cut.OPTIONS)
def train(
    given: dict[str, Any],
    recipe: Annotated[
        Path | None, typer.Argument(metavar="[RECIPE]", help="A TOML recipe; options override what it says.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run. (default: runs/<cell>-<data>)")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a run that is already there.")] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the run in --out, whose recipe is there, or add --seeds. Ends with the same bits.",
        ),
    ] = False,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any key of a recipe, such as train.epochs=5; repeatable."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Seeds or folds side by side, one core each. (default: all cores)")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Cores of one run; fix it to get the same bits again. (default: all)")
    ] = None,
    test: Annotated[
        bool, typer.Option("--test", help="In the end, once, measure on the test split, too. Export does it anyway.")
    ] = False,
    train_nu: Annotated[
        bool, typer.Option("--train-nu", rich_help_panel=_MODEL, help="Train nu, in the place of --nu.")
    ] = False,
    max_bytes: Annotated[
        int | None,
        typer.Option(
            min=1, rich_help_panel=_MODEL, help="Budget of int8 weights: chooses sizes, or refuses what is larger."
        ),
    ] = None,
    max_latency_us: Annotated[
        float | None,
        typer.Option("--max-latency-us", rich_help_panel=_MODEL, help="Budget for a window, measured here beforehand."),
    ] = None,
    *,
    cut: Cut,
) -> None:
    """Train a classifier; keep the weights that are best on validation subjects.

    The folder of the run holds its recipe, checkpoint, log, curves and a report. Ctrl-C ends early and keeps the best
    so far; --resume goes on. Next comes `fastzoo export`.

    Example: fastzoo train --data har --cell fastgrnn --hidden-size 64 --u-rank 16 --pool 64 --rotate 0.25

    Example: fastzoo train recipes/fastgrnn-har.toml --set train.epochs=5 --out runs/har
    """
    changes = _changes(given, train_nu, cut, change or [])
    if resume:
        recipe = _recipe_of(out, recipe, changes)
    chosen = _recipe(recipe, changes)
    sized = bool(recipe) or any(f"model.{name}" in changes for name in ("hidden_size", "w_rank", "u_rank"))
    _train(chosen, out, force, resume, test, jobs, threads, _Budget(max_bytes, max_latency_us, sized))


@dataclass(frozen=True)
class _Budget:
    max_bytes: int | None
    max_latency_us: float | None
    sized: bool  # whether somebody said how large the network is

    def hold(self, recipe: Recipe, dataset: Dataset) -> Recipe:
        """The recipe, with sizes that the budget chooses where nobody did.

        Raises:
            TrainingError: the network does not fit the budget; the message says what would.
        """
        from fastzoo.train import budget

        if self.max_bytes is not None and not self.sized:
            model = budget.suggest(self.max_bytes, dataset, recipe.model)[0]
            typer.echo(f"{self.max_bytes} bytes leave room for {budget.options(model, recipe.model)}")
            recipe = replace(recipe, model=model)
        if self.max_bytes is not None:
            budget.check_bytes(recipe.model, dataset, self.max_bytes, recipe.settings.sparsity)
        if self.max_latency_us is not None:
            net, steps = recipe.model.build(dataset, 0), dataset.x.shape[1]
            latency = budget.check_latency(net, steps, self.max_latency_us)
            typer.echo(f"a window takes {latency:.0f} us here, of the {self.max_latency_us:g} us that it may")
        return recipe


def _changes(given: dict[str, Any], train_nu: bool, cut: Cut, sets: list[str]) -> dict[str, Any]:
    """What the options say of the recipe, by key."""
    from fastzoo.errors import TrainingError

    if train_nu and "model.nu" in given:
        raise TrainingError("--nu fixes what --train-nu trains: leave one of them out")
    trained = {"model.nu": "trained"} if train_nu else {}
    windows = {f"data.{name}": list(value) if name == "channels" else value for name, value in cut.given().items()}
    return given | trained | windows | _parsed(sets)


def _parsed(changes: list[str]) -> dict[str, Any]:
    """``--set`` options: the value is TOML, or else text."""
    from fastzoo.errors import TrainingError
    from fastzoo.train.recipe import value

    pairs = [text.partition("=") for text in changes]
    if wrong := [key + sign for key, sign, text in pairs if not (key.strip() and sign and text.strip())]:
        raise TrainingError(f"--set takes KEY=VALUE, such as train.epochs=5, not {wrong[0]!r}")
    return {key.strip(): value(text.strip()) for key, _, text in pairs}


def _recipe(path: Path | None, changes: dict[str, Any]) -> Recipe:
    """The recipe of the file, if any, with the options that were given."""
    from fastzoo.errors import TrainingError
    from fastzoo.train import recipe

    document = recipe.load(path) if path else {}
    name = str(path) if path else "options"
    for key, value in changes.items():
        recipe.change(document, key, value, name)
    if not document.get("data"):
        raise TrainingError("what to train on? Give a recipe, or --data ID (`fastzoo data list` shows the ids)")
    return recipe.parse(document, name)


def _recipe_of(out: Path | None, recipe: Path | None, changes: dict[str, Any]) -> Path:
    """The recipe in the folder of a run that shall go on, at most with more seeds."""
    from fastzoo.errors import TrainingError
    from fastzoo.train import recipe as recipes
    from fastzoo.train.seeds import RECIPE

    if out is None:
        raise TrainingError("which run shall go on? Give its folder: --resume --out runs/...")
    others = [key for key in changes if key != "seeds"]
    if recipe is not None or others:
        raise TrainingError(f"a run goes on as it began: with --resume leave out {recipe or ', '.join(others)}")
    if not (out / RECIPE).exists():
        raise TrainingError(f"no run to go on with in {out}: there is no {RECIPE}")
    if changes:
        begun, wanted = recipes.read(out / RECIPE), changes["seeds"]
        if begun.seeds == 1 or not is_whole(wanted, begun.seeds):
            raise TrainingError(
                f"the run in {out} has {begun.seeds} seed(s), and cannot go on with {wanted}: a run of several can go "
                "on with more; any other is trained anew, into another folder"
            )
    return out / RECIPE


def _train(
    recipe: Recipe,
    out: Path | None,
    force: bool,
    resume: bool,
    test: bool,
    jobs: int | None,
    threads: int | None,
    budget: _Budget,
) -> None:
    import os

    import torch

    from fastzoo import data, nn
    from fastzoo.errors import TrainingError
    from fastzoo.train import checkpoint, fit_recipe, seeds

    if threads is not None:
        torch.set_num_threads(threads)
    folder = out or Path("runs") / f"{recipe.model.cell}-{Path(recipe.data).stem}"
    if not (force or resume) and any((folder / name).exists() for name in (checkpoint.NAME, seeds.RECIPE)):
        raise TrainingError(
            f"{folder} holds a run already; choose another --out, go on with it (--resume), or replace it (--force)"
        )
    dataset = data.load(recipe.data, recipe.cut)
    _check(dataset, recipe)
    recipe = budget.hold(recipe, dataset)
    net = recipe.model.build(dataset, recipe.settings.seed)
    _console.console().print(f"{recipe.model.cell}: {nn.model_size(net, dataset.x.shape[1])}")
    side_by_side = jobs or (1 if threads else os.cpu_count() or 1)
    if not (dataset.id in data.known() or recipe.data.endswith(".npz")):
        dataset.save(folder)  # recordings are cut once: the export needs the same windows
    fit_recipe(recipe, dataset, folder, report=_report, jobs=side_by_side, resumed=resume, tested=test)
    typer.echo(f"Report: {folder / 'report.md'}")
    if recipe.folds:
        typer.echo("Of folds none is exported: train once more without --folds for a model")
    else:
        typer.echo(f"Next: fastzoo export {folder} --out my-model")


def _check(dataset: Dataset, recipe: Recipe) -> None:
    """Say what was noticed while recordings were read, and what is wrong with the windows."""
    from fastzoo import data
    from fastzoo.errors import TrainingError

    settings = recipe.settings
    if not recipe.folds:
        dataset = settings.hold_out(dataset)
    found = data.inspect(dataset, settings.batch_size)
    for note in found.notes:
        typer.echo(note, err=True)
    for fault in found.warnings:
        _console.warn(fault.message)
    if found.errors:
        faults = "; ".join(fault.message for fault in found.errors)
        raise TrainingError(f"data set {dataset.id!r} cannot be trained on: {faults}")


def _report(number: int, run: Run) -> None:
    if run.best is None or run.validation is None or run.folder is None:
        return
    word = "interrupted, " if run.interrupted else ""
    held_out = run.validation.split == "validation"
    _console.console().print(
        f"{run.folder.name}: {word}{'best' if held_out else 'last'} epoch {run.best.epoch}, "
        f"{run.validation.split} accuracy "
        f"{_console.percent(run.validation.accuracy)} (macro F1 {_console.percent(run.validation.macro_f1)}) "
        f"on {run.validation.n} windows{' of held-out groups' if held_out else ''}; kept in {run.folder}"
    )
