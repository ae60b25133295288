"""Several seeds of one recipe; the one that is best on validation subjects is chosen. The test split is not touched."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fastzoo import _files, _json
from fastzoo.data import Dataset
from fastzoo.errors import TrainingError
from fastzoo.train.loop import Run, fit
from fastzoo.train.recipe import Recipe

NAME = "seeds.json"


@dataclass(frozen=True)
class _Record:
    chosen: int
    validation_accuracy: Mapping[str, float]


@dataclass(frozen=True)
class SeedsRun:
    """Where the seeds' checkpoints lie, and which one validation chose."""

    folder: Path
    chosen: int
    validation_accuracy: dict[int, float]

    @property
    def folders(self) -> dict[int, Path]:
        """The checkpoint folder of each seed."""
        return {seed: self.folder / f"seed-{seed}" for seed in self.validation_accuracy}

    @property
    def chosen_folder(self) -> Path:
        """The checkpoint folder of the chosen seed."""
        return self.folders[self.chosen]


def fit_recipe(
    recipe: Recipe,
    dataset: Dataset,
    out: str | os.PathLike[str],
    progress: bool = True,
    report: Callable[[int, Run], None] = lambda seed, run: None,
) -> Path:
    """Train a recipe into ``out``, one checkpoint, or with several seeds one in each ``out/seed-<n>``.

    Args:
        recipe: what to do.
        dataset: the recipe's data.
        out: the folder to write.
        progress: show a progress bar per seed.
        report: called with each seed and its run.

    Returns:
        The folder to export: ``out``.

    Raises:
        TrainingError: training is impossible or failed; finished seeds keep their checkpoints.
    """
    folder = Path(out)
    if is_run(folder):  # an earlier run, whose record would hide this one's checkpoints
        (folder / NAME).unlink()
    accuracy: dict[int, float] = {}
    for seed in range(recipe.settings.seed, recipe.settings.seed + recipe.seeds):
        net = recipe.model.build(dataset, seed)
        target = folder if recipe.seeds == 1 else folder / f"seed-{seed}"
        run = fit(net, dataset, recipe.settings, seed=seed, out=target, progress=progress, bundle=recipe.bundle)
        report(seed, run)
        if run.best is not None:
            accuracy[seed] = run.best.validation_accuracy
        if recipe.seeds > 1:
            _save(SeedsRun(folder, max(accuracy, key=accuracy.__getitem__), accuracy))
        if run.interrupted:
            break
    return folder


def is_run(folder: Path) -> bool:
    """Whether the folder holds several seeds."""
    return (folder / NAME).exists()


def load(folder: Path) -> SeedsRun:
    """Read a run of several seeds.

    Raises:
        TrainingError: its ``seeds.json`` is damaged.
    """
    path = folder / NAME
    try:
        record = _json.parse(path.read_bytes())
        if faults := list(_json.faults(record, _Record)):
            raise ValueError(_json.listing(faults))
        accuracy = {int(seed): float(value) for seed, value in record["validation_accuracy"].items()}
        chosen = record["chosen"]
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} is damaged: {error}") from error
    if chosen not in accuracy:
        raise TrainingError(f"{path} is damaged: the chosen seed {chosen} is not one of its seeds")
    return SeedsRun(folder, chosen, accuracy)


def _save(run: SeedsRun) -> None:
    record = {"chosen": run.chosen, "validation_accuracy": run.validation_accuracy}
    path = run.folder / NAME
    try:
        _files.write(path, (json.dumps(record, indent=2) + "\n").encode())
    except OSError as error:
        raise TrainingError(
            f"cannot write {path}: {error.strerror}. Free some space; the seeds' folders are whole."
        ) from error
