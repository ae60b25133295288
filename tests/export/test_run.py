"""Export of what `fastzoo train` wrote: a checkpoint, or a run of several seeds."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import fastzoo
from fastzoo import bundle
from fastzoo.data import Dataset
from fastzoo.errors import ExportError, TrainingError
from fastzoo.export import export
from fastzoo.train import checkpoint, evaluate, seeds_run

from . import networks
from .conftest import Exported


def accuracy(folder: Path, dataset: Dataset) -> float:
    return evaluate(checkpoint.load(folder).net, dataset.test, dataset.classes, "test").accuracy


def test_the_seed_that_validation_chose_is_published(published: Exported, run: Path, dataset: Dataset) -> None:
    chosen = checkpoint.load(seeds_run.load(run).chosen_folder)
    told_elsewhere = ("bundle", "size")
    assert published.bundle.training == {k: v for k, v in chosen.training.items() if k not in told_elsewhere}
    assert vars(published.bundle.size) == chosen.training["size"]
    model = fastzoo.load(published.folder, precision="fp32", layout="fused")
    assert np.abs(model.logits(dataset.test.x) - networks.logits(chosen.net, dataset.test.x)).max() < 1e-4


def test_every_seed_is_told(published: Exported, run: Path, dataset: Dataset) -> None:
    told = published.bundle.seeds
    assert told is not None
    assert told["seeds"] == [3, 4]
    assert told["chosen"] == seeds_run.load(run).chosen
    assert told["split"] == "test"
    forms = [(p, layout) for p, made in published.bundle.precisions.items() for layout in made.layouts]
    assert len(forms) == 8
    for precision, layout in forms:
        if layout == "step":  # for streams; on windows it answers like scan
            assert f"{precision}/{layout}" not in told
            continue
        figures = told[f"{precision}/{layout}"]
        values = figures["accuracy"]
        assert figures["mean"] == pytest.approx(statistics.mean(values))
        assert figures["std"] == pytest.approx(statistics.stdev(values))
        assert figures["worst"] == min(values)
        if precision == "fp32":
            assert values == [accuracy(folder, dataset) for folder in seeds_run.load(run).folders.values()]
        metrics = published.bundle.precisions[precision].layouts[layout].metrics
        assert metrics is not None
        assert metrics.accuracy == values[told["seeds"].index(told["chosen"])]
        assert metrics.n == len(dataset.test)


def test_the_recipe_says_what_the_bundle_is_called(published: Exported, dataset: Dataset) -> None:
    made = published.bundle
    assert (made.name, made.version, made.summary) == ("made-up", "2.1.0", "Three motions")
    assert made.licences.weights == "CC-BY-4.0"
    assert made.dataset == bundle.DatasetRecord("made-up-motion", sha256=dataset.sha256)
    assert made.environment is not None
    assert made.environment["training"]["torch"] == torch.__version__
    assert made.environment["export"]["onnxruntime"] == onnxruntime.__version__
    assert made.training is not None
    assert made.training["settings"]["epochs"] == 4


def test_one_seed_has_no_spread(run: Path, dataset: Dataset, tmp_path: Path) -> None:
    made = export(
        run / "seed-4", tmp_path / "one", dataset=dataset, name="other", layouts=["fused"], precisions=["fp32"]
    )
    assert made.seeds is None
    assert made.name == "other"
    assert made.training is not None
    assert made.training["settings"]["seed"] == 4


def test_the_data_set_is_found_by_its_id(
    run: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset.save(tmp_path / "data")
    monkeypatch.setenv("FASTZOO_DATA", str(tmp_path / "data"))
    made = export(run / "seed-3", tmp_path / "it", layouts=["fused"], precisions=["fp32"])
    metrics = made.precisions["fp32"].layouts["fused"].metrics
    assert metrics is not None
    assert metrics.accuracy == accuracy(run / "seed-3", dataset)
    assert made.calibration is not None
    held_out = dataset.with_validation()
    assert made.calibration["windows"] == len(held_out.train)


def test_without_its_data_set_a_checkpoint_needs_windows(
    run: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTZOO_DATA", str(tmp_path / "nothing"))
    with pytest.raises(ExportError, match="calibration windows are needed, and the data set of the checkpoint is not"):
        export(run, tmp_path / "it")
    made = export(run, tmp_path / "it", calibration=dataset.train.x, layouts=["fused"], precisions=["fp32"])
    assert made.input == bundle.Input(24, dataset.channels, 25.0)
    assert made.labels == dataset.classes
    assert made.precisions["fp32"].layouts["fused"].metrics is None
    assert made.seeds is None
    assert made.dataset is None or made.dataset.sha256 == dataset.sha256


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_a_missing_checkpoint_is_named(folder: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no checkpoint in"):
        export(tmp_path / folder, tmp_path / "it")
    assert not list(tmp_path.iterdir())


def test_another_data_set_must_fit(run: Path, dataset: Dataset, tmp_path: Path) -> None:
    narrow = replace(dataset, x=dataset.x[..., :5], channels=dataset.channels[:5])
    with pytest.raises(ExportError, match="the network takes 6 channels, but 5 are named"):
        export(run, tmp_path / "it", dataset=narrow)
    more = replace(dataset, classes=(*dataset.classes, "flying"))
    with pytest.raises(ExportError, match="the network has 3 classes, but 4 different labels"):
        export(run, tmp_path / "it", dataset=more)


def test_a_data_set_that_changed_is_not_taken_for_the_old_one(
    run: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swapped = replace(dataset, split=np.where(dataset.split == 2, 0, 2 * (dataset.group == 0)).astype(np.uint8))
    swapped.save(tmp_path / "data")
    monkeypatch.setenv("FASTZOO_DATA", str(tmp_path / "data"))
    with pytest.raises(ExportError, match="no longer the one that this network was trained on"):
        export(run / "seed-3", tmp_path / "it")
    made = export(run / "seed-3", tmp_path / "it", dataset=swapped, layouts=["fused"], precisions=["fp32"])
    assert made.dataset is not None
    assert made.dataset.sha256 == swapped.sha256
