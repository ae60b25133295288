"""Several runs of one recipe: seeds, of which validation chooses one, or folds over groups. The test split waits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from fastzoo.data import Dataset
from fastzoo.errors import require
from fastzoo.records import Metrics
from fastzoo.train import parallel, seeds_run
from fastzoo.train import report as reports
from fastzoo.train.folder import write_files
from fastzoo.train.folds import fold
from fastzoo.train.loop import Run, evaluate, find_teachers
from fastzoo.train.parallel import Task
from fastzoo.train.recipe import Recipe, to_toml

RECIPE = "recipe.toml"


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
    if seeds_run.is_run(folder):  # an earlier run, whose record would hide this one's checkpoints
        (folder / seeds_run.NAME).unlink()
    _begin(folder, recipe)
    runs: dict[int, Run] = {}
    for number, run in parallel.run(tasks, jobs, progress):
        report(number, run)
        if run.best is not None:
            runs[number] = run
        if recipe.several:
            seeds_run.save(
                folder,
                {n: r.best.validation_accuracy for n, r in sorted(runs.items()) if r.best},
                folds=bool(recipe.folds),
            )
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
    write_files(folder, {RECIPE: to_toml(recipe), "environment.json": reports.environment_json()})


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
