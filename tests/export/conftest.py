"""Two bundles, made once: of a network in memory, and of a run of two seeds with its data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from train import task

from fastzoo.bundle import Bundle
from fastzoo.data import Dataset
from fastzoo.export import export
from fastzoo.nn import SequenceClassifier
from fastzoo.train import Recipe, Settings, fit_recipe

torch.set_num_threads(1)  # on a busy machine a second thread makes small products many times slower


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return task.motions()


@pytest.fixture(scope="session")
def net(dataset: Dataset) -> SequenceClassifier:
    """Trained; not to be changed."""
    return task.fit_quickly(task.network(), dataset, epochs=8).net


@dataclass(frozen=True)
class Exported:
    """A bundle as the exporter returned it, and where it lies."""

    folder: Path
    bundle: Bundle


@pytest.fixture(scope="session")
def exported(net: SequenceClassifier, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """All files of the network, from arrays alone."""
    folder = tmp_path_factory.mktemp("exported") / "my-model"
    made = export(
        net,
        folder,
        calibration=dataset.train.x[::3],
        labels=dataset.classes,
        channels=dataset.channels,
        rate=dataset.rate,
    )
    return Exported(folder, made)


@pytest.fixture(scope="session")
def run(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two seeds."""
    about = {"name": "made-up", "version": "2.1.0", "summary": "Three motions", "weights_licence": "CC-BY-4.0"}
    settings = Settings(epochs=4, batch_size=32, learning_rate=0.03, seed=3)
    recipe = Recipe("made-up-motion", task.MODEL, settings, seeds=2, bundle=about)
    return fit_recipe(recipe, dataset, tmp_path_factory.mktemp("runs") / "motion", progress=False)


@pytest.fixture(scope="session")
def published(run: Path, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """All files of the run, with everything its data set allows to say."""
    folder = tmp_path_factory.mktemp("published") / "bundle"
    return Exported(folder, export(run, folder, dataset=dataset))
