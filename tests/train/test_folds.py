from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastzoo.data import Dataset
from fastzoo.errors import DataError, TrainingError
from fastzoo.train import Recipe, Run, Settings, checkpoint, fit, fit_recipe, seeds_run
from fastzoo.train.folds import fold

from .task import MODEL, files, motions, same, weights

SETTINGS = Settings(epochs=2, batch_size=32, learning_rate=0.03, seed=3)
RECIPE = Recipe("made-up-motion", MODEL, SETTINGS, folds=3)


def parts(dataset: Dataset, folds: int, seed: int = 0) -> list[Dataset]:
    return [fold(dataset, number, folds, seed) for number in range(folds)]


@settings(max_examples=20, deadline=None)
@given(
    folds=st.integers(2, 6),
    seed=st.integers(0, 2**32 - 1),
    people=st.integers(6, 12),
    split=st.sampled_from(["none", "test", "validation", "both"]),
    draw=st.integers(0, 1000),
)
def test_each_window_is_validated_once_and_no_group_is_on_both_sides(
    folds: int, seed: int, people: int, split: str, draw: int
) -> None:
    whole, random = motions(), np.random.default_rng(draw)
    group = random.integers(0, people, len(whole.y))  # groups of different sizes
    group[:people] = np.arange(people)
    given_split = np.zeros(len(group), np.uint8)
    if split in ("test", "both"):
        given_split[group >= people] = 2
        extra = group == people - 1 if people > folds else np.zeros(len(group), bool)
        given_split[extra] = 2
    if split in ("validation", "both"):
        given_split[group == 0] = 1
    dataset = replace(whole, group=group, split=given_split)
    rows = np.flatnonzero(given_split != 2)
    made = parts(dataset, folds, seed)
    assert sum((part.split == 1).astype(int) for part in made)[rows].tolist() == [1] * len(rows)
    for part in made:
        assert (part.split == 2).tolist() == (given_split == 2).tolist()
        train, validation = set(part.train.group), set(part.validation.group)
        assert train
        assert validation
        assert not train & validation
        assert part.x is dataset.x
        assert part.with_validation() is part
    again = parts(dataset, folds, seed)
    assert all((one.split == other.split).all() for one, other in zip(made, again, strict=True))


def test_parts_are_alike_in_size_and_classes(dataset: Dataset) -> None:
    for part in parts(dataset, 4):
        assert len(part.validation) == 60
        assert np.bincount(part.validation.y).tolist() == [20, 20, 20]


def test_the_seed_deals_the_groups_anew(dataset: Dataset) -> None:
    dealt = {tuple(sorted(set(part.validation.group))) for seed in range(8) for part in parts(dataset, 4, seed)}
    assert len(dealt) > 4


def test_too_few_groups_are_refused(dataset: Dataset) -> None:
    with pytest.raises(DataError, match="data set 'made-up-motion' has 8 groups besides the test split: too few for 9"):
        fold(dataset, 0, 9, 0)
    fold(dataset, 0, 8, 0)


@pytest.mark.parametrize("each", [2, 4], ids=["one rare class", "all classes rare"])
def test_a_class_with_fewer_windows_than_folds_is_no_accident(each: int, dataset: Dataset) -> None:
    """scikit-learn would warn of the first and fail at the second with an error of its own."""
    rows = np.flatnonzero((dataset.y == 0) & (dataset.split == 0))[:each]
    others = np.flatnonzero((dataset.y != 0) & (dataset.split == 0))
    if each == 4:
        others = np.concatenate([np.flatnonzero((dataset.y == c) & (dataset.split == 0))[:4] for c in (1, 2)])
    rows = np.concatenate([rows, others])
    few = replace(
        dataset,
        x=dataset.x[rows], y=dataset.y[rows], split=dataset.split[rows],
        group=np.arange(len(rows), dtype=np.int64),
    )  # fmt: skip
    try:
        made = parts(few, 5)
    except DataError as error:
        assert "too few" in str(error)  # noqa: PT017 - either is fine
    else:
        assert sum((part.split == 1).astype(int) for part in made).tolist() == [1] * len(rows)


@pytest.fixture(scope="module")
def finished(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, Run]]:
    runs: dict[int, Run] = {}
    folder = fit_recipe(
        RECIPE, dataset, tmp_path_factory.mktemp("folds") / "cross", progress=False, report=runs.__setitem__
    )
    return folder, runs


def test_every_fold_is_a_run_of_its_own(finished: tuple[Path, dict[int, Run]], dataset: Dataset) -> None:
    folder, runs = finished
    assert list(runs) == [0, 1, 2]
    for number, run in runs.items():
        saved = checkpoint.load(folder / f"fold-{number}")
        assert saved.training["settings"]["seed"] == 3
        alone = fit(MODEL.build(dataset, 3), fold(dataset, number, 3, 0), SETTINGS, progress=False)
        assert same(weights(saved.net), weights(run.net))
        assert same(weights(run.net), weights(alone.net))
        assert run.validation is not None
    assert not seeds_run.is_run(folder)
    record = json.loads((folder / seeds_run.FOLDS).read_text())
    assert record == {
        "validation_accuracy": {str(n): run.best.validation_accuracy for n, run in runs.items() if run.best}
    }


def test_the_report_tells_mean_spread_and_worst(finished: tuple[Path, dict[int, Run]]) -> None:
    folder, runs = finished
    accuracy = [run.validation.accuracy for run in runs.values() if run.validation]
    f1 = [run.validation.macro_f1 for run in runs.values() if run.validation]
    assert len(set(accuracy)) > 1, "equal folds would prove nothing"
    lines = (folder / "report.md").read_text().splitlines()
    assert lines[0] == "# cross"
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    assert table[0] == ["", "validation accuracy", "validation macro F1"]
    assert table[2:5] == [
        [f"[fold-{n}](fold-{n}/report.md)", f"{100 * accuracy[n]:.1f} %", f"{100 * f1[n]:.1f} %"] for n in range(3)
    ]
    assert table[5:] == [
        ["**mean**", *(f"{100 * np.mean(values):.1f} %" for values in (accuracy, f1))],
        ["**standard deviation**", *(f"{100 * np.std(values, ddof=1):.1f} %" for values in (accuracy, f1))],
        ["**worst**", *(f"{100 * np.min(values):.1f} %" for values in (accuracy, f1))],
    ]
    assert all((folder / f"fold-{n}" / "report.md").exists() for n in range(3))


def test_folds_go_on(finished: tuple[Path, dict[int, Run]], dataset: Dataset, tmp_path: Path) -> None:
    class PowerCutError(Exception):
        pass

    def stop(number: int, run: Run) -> None:
        if number == 1:
            raise PowerCutError

    folder = tmp_path / "cross"
    with pytest.raises(PowerCutError):
        fit_recipe(RECIPE, dataset, folder, progress=False, report=stop)
    fit_recipe(RECIPE, dataset, folder, progress=False, resumed=True)
    assert files(folder) == files(finished[0])


def test_folds_of_seeds_are_no_recipe() -> None:
    from fastzoo.train.recipe import parse

    for wrong in ({"folds": 1}, {"folds": -2}, {"folds": 2.0}, {"folds": True}, {"folds": 3, "seeds": 2}):
        with pytest.raises(TrainingError, match="folds must be 2 or more, with one seed, or 0"):
            parse({"data": {"id": "har"}, **wrong})
