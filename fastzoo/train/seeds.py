"""Several runs of one recipe: seeds, of which validation chooses one, or folds over groups. The test split waits."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fastzoo import _json
from fastzoo.data import Dataset
from fastzoo.errors import TrainingError, require
from fastzoo.records import Metrics
from fastzoo.train import parallel
from fastzoo.train import report as reports
from fastzoo.train.folds import fold
from fastzoo.train.loop import Run, evaluate, find_teachers
from fastzoo.train.parallel import Task
from fastzoo.train.recipe import Recipe, to_toml

NAME = "seeds.json"
FOLDS = "folds.json"
RECIPE = "recipe.toml"


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
    *,
    jobs: int = 1,
    resumed: bool = False,
    tested: bool = False,
) -> Path:
    """Train a recipe into ``out``: one run, or several seeds in ``out/seed-<n>``, or folds in ``out/fold-<n>``.

    Args:
        recipe: what to do.
        dataset: the recipe's data.
        out: the folder to write.
        progress: show a progress bar per run.
        report: called with the seed (or, of folds, the fold) and the run of each that ends.
        jobs: runs side by side, each in a process of its own on one thread; 1 = one after the other, here.
        resumed: go on with what an earlier call left in ``out``.
        tested: in the end measure every run on the test split, once.

    Returns:
        The folder to export: ``out``.

    Raises:
        TrainingError: training is impossible or failed; finished runs keep their checkpoints.
        UnknownModelError: no run, bundle or model has the name of a teacher.
        BundleError: a teacher's bundle is faulty.
    """
    folder = Path(out)
    if recipe.settings.distillation:  # a wrong teacher must not leave a run behind
        find_teachers(recipe.settings, dataset, recipe.settings.hold_out(dataset))
    tasks = list(_tasks(recipe, dataset, folder, resumed))
    if is_run(folder):  # an earlier run, whose record would hide this one's checkpoints
        (folder / NAME).unlink()
    _begin(folder, recipe)
    runs: dict[int, Run] = {}
    for number, run in parallel.run(tasks, jobs, progress):
        report(number, run)
        if run.best is not None:
            runs[number] = run
        if recipe.several:
            _save(folder, recipe, {n: r.best.validation_accuracy for n, r in sorted(runs.items()) if r.best})
    _finish(folder, recipe, runs, tested, resumed)
    return folder


def _tasks(recipe: Recipe, dataset: Dataset, folder: Path, resumed: bool) -> Iterator[Task]:
    seed = recipe.settings.seed
    for number in range(recipe.folds) if recipe.folds else range(seed, seed + recipe.seeds):
        own = number if not recipe.folds else seed
        yield Task(
            number=number,
            title=f"{'fold' if recipe.folds else 'seed'} {number}",
            net=recipe.model.build(dataset, own),
            dataset=fold(dataset, number, recipe.folds, recipe.settings.validation_seed) if recipe.folds else dataset,
            settings=replace(recipe.settings, seed=own),
            folder=folder / _name(recipe, number) if recipe.several else folder,
            resumed=resumed,
            bundle=recipe.bundle,
        )


def _name(recipe: Recipe, number: int) -> str:
    return f"{'fold' if recipe.folds else 'seed'}-{number}"


def _begin(folder: Path, recipe: Recipe) -> None:
    """What a run needs to be understood, and done again; what it needs in the end is missed now."""
    require("matplotlib", extra="train", purpose="the report of a run")
    reports.write_files(folder, {RECIPE: to_toml(recipe), "environment.json": reports.environment_json()})


def _finish(folder: Path, recipe: Recipe, runs: Mapping[int, Run], tested: bool, resumed: bool) -> None:
    """Look at the test split, if asked now or when the run began, and write the reports."""
    tests: dict[int, Metrics | None] = {}
    for number, run in runs.items():
        tests[number] = None
        asked = tested or (resumed and reports.was_tested(run.folder))
        if asked and not run.interrupted and len(run.source.test):
            tests[number] = evaluate(run.answering, run.source.test, run.source.classes, "test")
        assert run.folder is not None
        reports.write(run.folder, run, tests[number])
    if recipe.several and runs:
        numbers = sorted(runs)
        names = [_name(recipe, number) for number in numbers]
        reports.write_summary(folder, names, [runs[n] for n in numbers], [tests[n] for n in numbers])


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


def _save(folder: Path, recipe: Recipe, accuracy: Mapping[int, float]) -> None:
    """Write down which runs have ended, and of seeds the chosen one."""
    record: dict[str, object] = {"validation_accuracy": accuracy}
    if not recipe.folds:
        record["chosen"] = max(accuracy, key=accuracy.__getitem__)
    text = json.dumps(record, indent=2) + "\n"
    reports.write_files(folder, {FOLDS if recipe.folds else NAME: text.encode()})
