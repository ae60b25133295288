from __future__ import annotations

import json
import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fastzoo.data import Dataset
from fastzoo.errors import TrainingError
from fastzoo.nn import CELLS, SequenceClassifier, model_size
from fastzoo.records import Metrics
from fastzoo.train import ModelConfig, Recipe, Run, Settings, checkpoint, evaluate, fit, fit_recipe, seeds, seeds_run
from fastzoo.train.qat import round_weight

from .task import MODEL, Event, same, weights

SETTINGS = Settings(epochs=2, batch_size=32, learning_rate=0.03, seed=3)
ONE = Recipe("made-up-motion", MODEL, SETTINGS, bundle={"name": "mine"})
TWO = replace(ONE, seeds=2)


@pytest.fixture(scope="module")
def finished(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, Run]]:
    """A run of two seeds, and what was reported."""
    runs: dict[int, Run] = {}
    folder = fit_recipe(TWO, dataset, tmp_path_factory.mktemp("seeds") / "run", progress=False, report=runs.__setitem__)
    return folder, runs


def test_every_seed_has_its_own_checkpoint(finished: tuple[Path, dict[int, Run]], dataset: Dataset) -> None:
    folder, runs = finished
    assert list(runs) == [3, 4]
    for seed, run in runs.items():
        saved = checkpoint.load(folder / f"seed-{seed}")
        assert saved.training["settings"]["seed"] == seed
        assert saved.training["bundle"] == {"name": "mine"}
        alone = fit(MODEL.build(dataset, seed), dataset, SETTINGS, seed=seed, progress=False)
        assert same(weights(saved.net), weights(run.net))
        assert same(weights(saved.net), weights(alone.net))


def test_the_seed_that_is_best_on_validation_is_chosen(finished: tuple[Path, dict[int, Run]]) -> None:
    folder, runs = finished
    accuracy = {seed: run.validation.accuracy for seed, run in runs.items() if run.validation}
    assert len(set(accuracy.values())) == 2, "equal seeds would prove nothing"
    run = seeds_run.load(folder)
    assert run.validation_accuracy == accuracy
    assert accuracy[run.chosen] == max(accuracy.values())
    assert run.chosen_folder == folder / f"seed-{run.chosen}"
    assert seeds_run.is_run(folder)


def test_one_seed_is_a_plain_checkpoint(dataset: Dataset, tmp_path: Path) -> None:
    assert fit_recipe(ONE, dataset, tmp_path, progress=False) == tmp_path
    assert checkpoint.load(tmp_path).training["settings"]["seed"] == 3
    assert not seeds_run.is_run(tmp_path)


@pytest.mark.parametrize("stack", [{}, {"num_layers": 2, "bidirectional": True, "dropout": 0.2}], ids=["one", "stack"])
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_is_trained(cell: str, stack: dict[str, Any], dataset: Dataset, tmp_path: Path) -> None:
    model = ModelConfig(cell=cell, hidden_size=6, u_rank=4, pool=8, **stack)
    recipe = Recipe("made-up-motion", model, replace(SETTINGS, epochs=3))
    runs: dict[int, Run] = {}
    fit_recipe(recipe, dataset, tmp_path, progress=False, report=runs.__setitem__)
    saved, start = checkpoint.load(tmp_path), model.build(dataset, SETTINGS.seed)
    assert saved.net.config() == start.config()
    assert same(weights(saved.net), weights(runs[3].net))
    for name, value in weights(start).items():
        assert not torch.equal(weights(saved.net)[name], value), f"{name} was not trained"
    assert cross_entropy_on(saved.net, runs[3]) < 0.9 * cross_entropy_on(start, runs[3])
    assert saved.training["size"] == asdict(model_size(saved.net, dataset.x.shape[1]))


def cross_entropy_on(net: SequenceClassifier, run: Run) -> float:
    """The mean loss over the training windows."""
    x = torch.from_numpy(run.dataset.train.x)
    if not net.mean.any():
        net.set_normalisation(x)
    with torch.no_grad():
        return cross_entropy(net.eval()(x), torch.from_numpy(run.dataset.train.y)).item()


def test_a_new_run_hides_the_old_one(dataset: Dataset, tmp_path: Path) -> None:
    fit_recipe(TWO, dataset, tmp_path, progress=False)
    fit_recipe(replace(ONE, settings=replace(SETTINGS, epochs=1)), dataset, tmp_path, progress=False)
    assert not seeds_run.is_run(tmp_path)
    assert checkpoint.load(tmp_path).training["settings"]["epochs"] == 1


def interrupt(x: Tensor) -> Tensor:
    signal.raise_signal(signal.SIGINT)
    return x


def test_ctrl_c_ends_all_seeds_and_leaves_a_run(dataset: Dataset, tmp_path: Path) -> None:
    in_the_second_seed = replace(SETTINGS, augmentation=Event(at=13, what=interrupt))
    reported: dict[int, bool] = {}
    fit_recipe(
        Recipe("made-up-motion", MODEL, in_the_second_seed, seeds=5),
        dataset,
        tmp_path,
        progress=False,
        report=lambda seed, run: reported.update({seed: run.interrupted}),
    )
    assert reported == {3: False, 4: True}
    run = seeds_run.load(tmp_path)
    assert list(run.folders) == [3, 4]
    for folder in run.folders.values():
        checkpoint.load(folder)


def test_ctrl_c_in_the_first_seed_leaves_a_run(dataset: Dataset, tmp_path: Path) -> None:
    at_once = replace(SETTINGS, augmentation=Event(at=1, what=interrupt))
    fit_recipe(Recipe("made-up-motion", MODEL, at_once, seeds=2), dataset, tmp_path, progress=False)
    run = seeds_run.load(tmp_path)
    assert (run.chosen, list(run.folders)) == (3, [3])
    checkpoint.load(run.chosen_folder)


def test_a_seed_that_fails_spares_the_others(dataset: Dataset, tmp_path: Path) -> None:
    second_fails = replace(SETTINGS, augmentation=Event(at=13, what=lambda x: x * float("nan")))
    with pytest.raises(TrainingError, match="the loss became nan"):
        fit_recipe(Recipe("made-up-motion", MODEL, second_fails, seeds=2), dataset, tmp_path, progress=False)
    assert seeds_run.load(tmp_path).chosen == 3
    checkpoint.load(seeds_run.load(tmp_path).chosen_folder)


@pytest.mark.parametrize("quantization_aware", [False, True])
def test_the_test_split_meets_the_network_that_is_exported(
    quantization_aware: bool, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[SequenceClassifier] = []

    def evaluating(net: SequenceClassifier, *rest: Any) -> Metrics:
        measured.append(net)
        return evaluate(net, *rest)

    monkeypatch.setattr(seeds, "evaluate", evaluating)
    recipe = replace(ONE, settings=replace(SETTINGS, qat=quantization_aware))
    runs: dict[int, Run] = {}
    fit_recipe(recipe, dataset, tmp_path, progress=False, report=runs.__setitem__, tested=True)
    for name, kept in weights(runs[3].net).items():
        value = weights(measured[0])[name]
        if quantization_aware and value.dim() == 2:
            torch.testing.assert_close(value, round_weight(value), rtol=1e-6, atol=0)
            assert not torch.allclose(kept, round_weight(kept), rtol=1e-6, atol=0), name
        elif not quantization_aware:
            assert torch.equal(value, kept), name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        '{"chosen": 1, "validation_accuracy": {}}',
        '{"chosen": 1, "validation_accuracy": {"2": 0.5}}',
        '{"chosen": "x", "validation_accuracy": {"1": 0.5}}',
        '{"chosen": 1e999, "validation_accuracy": {"1": 0.5}}',
        '{"chosen": 1, "validation_accuracy": {"1": 0.5, "../x": 0.9}}',
        '{"chosen": 1, "validation_accuracy": {"1": NaN}}',
        '{"chosen": 1, "validation_accuracy": {"1": "good"}}',
        '{"chosen": 1, "validation_accuracy": [0.5]}',
    ],
)
def test_a_damaged_run_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / seeds_run.NAME).write_text(text)
    with pytest.raises(TrainingError, match=r"seeds\.json is damaged"):
        seeds_run.load(tmp_path)


def test_a_run_survives_json(finished: tuple[Path, dict[int, Run]]) -> None:
    record = json.loads((finished[0] / seeds_run.NAME).read_text())
    assert record["chosen"] in (3, 4)
    assert set(record["validation_accuracy"]) == {"3", "4"}


def test_a_folder_that_cannot_be_is_named(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for recipe in (ONE, TWO):
        with pytest.raises(TrainingError, match=r"cannot write to .*file: (File exists|Not a directory)"):
            fit_recipe(recipe, dataset, tmp_path / "file", progress=False)
