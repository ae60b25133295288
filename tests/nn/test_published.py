"""The torch networks of a bundle: the published one, and those of all seeds."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import fastzoo
from fastzoo import bundle, data
from fastzoo._files import sha256
from fastzoo.errors import BundleError
from fastzoo.export import export
from fastzoo.nn import CELLS, SequenceClassifier, from_bundle, seeds_from_bundle
from fastzoo.train import ModelConfig, Recipe, Settings, fit_recipe, seeds_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = Recipe("digits", ModelConfig(hidden_size=8, nu=None), Settings(epochs=1), seeds=2)
    return fit_recipe(plan, data.load("digits"), tmp_path_factory.mktemp("run"), progress=False)


@pytest.fixture(scope="module")
def made(run: Path) -> Path:
    export(run, run / "b", dataset="digits", layouts=["fused"])
    return run / "b"


def replaced(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """The bundle with other weights of its seeds, and a ``bundle.json`` that says so."""
    content = bundle.read(folder)
    assert content.seed_weights is not None
    new = safetensors.torch.save(tensors)
    (folder / content.seed_weights.file).write_bytes(new)
    record = dataclasses.replace(content.seed_weights, sha256=sha256(new), bytes=len(new))
    bundle.write(dataclasses.replace(content, seed_weights=record), folder)
    return folder


def test_a_bundle_gives_its_network_back(made: Path) -> None:
    x = data.load("digits").test.x[:20].astype(np.float32)
    net = from_bundle(made)
    assert not net.training
    with torch.no_grad():
        logits = net(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(fastzoo.load(made, precision="fp32").logits(x), logits, atol=1e-4)


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_comes_back(cell: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = SequenceClassifier(CELLS[cell](4, 6, w_rank=2, u_rank=3), 3, pool=2, brick=2).eval()
    windows = np.random.default_rng(0).normal(size=(20, 8, 2)).astype(np.float32)
    export(net, tmp_path / "b", calibration=windows, layouts=["scan"])
    assert from_bundle(tmp_path / "b").config() == net.config()
    assert torch.equal(from_bundle(tmp_path / "b")(torch.from_numpy(windows)), net(torch.from_numpy(windows)))
    assert seeds_from_bundle(tmp_path / "b") == {}


def test_the_networks_of_all_seeds_are_shipped(run: Path, made: Path) -> None:
    found, chosen = seeds_from_bundle(made), seeds_run.load(run).chosen
    assert list(found) == [0, 1]
    for name, tensor in from_bundle(made).state_dict().items():
        assert torch.equal(tensor, found[chosen].state_dict()[name])
    assert not torch.equal(found[0].head.weight, found[1].head.weight)


def test_a_bundle_written_in_another_layout_keeps_its_seeds(made: Path, tmp_path: Path) -> None:
    again = export(made, tmp_path / "again", dataset="digits", layouts=["scan"])
    first = bundle.read(made)
    assert again.seed_weights == first.seed_weights
    assert again.seeds is not None
    assert first.seeds is not None
    accuracy = [again.seeds["fp32/scan"]["accuracy"], first.seeds["fp32/fused"]["accuracy"]]
    assert accuracy[0] == pytest.approx(accuracy[1], abs=0.003)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weights": torch.zeros(3)}, "holds 'weights', which is of no seed"),
        ({"seed-x.mean": torch.zeros(3)}, "which is of no seed"),
        ({"seed-0.mean": torch.zeros(3)}, "cannot be built again"),
    ],
)
def test_weights_of_something_else_are_refused(
    tensors: dict[str, torch.Tensor], message: str, made: Path, tmp_path: Path
) -> None:
    folder = replaced(Path(shutil.copytree(made, tmp_path / "b")), tensors)
    with pytest.raises(BundleError, match=message):
        seeds_from_bundle(folder)


def test_a_damaged_file_is_refused(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "b"))
    (folder / "seeds.safetensors").write_bytes(b"no weights")
    with pytest.raises(BundleError, match=r"seeds\.safetensors has 10 bytes"):
        seeds_from_bundle(folder)
