"""Every shipped model, recomputed from its bytes: all faults at once."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import published
import pytest
import torch

import fastzoo
from fastzoo import bundle, data, registry
from fastzoo.data.cross import Relation
from fastzoo.errors import DataError
from fastzoo.export import cross, export
from fastzoo.nn import CELLS, SequenceClassifier

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = sorted(path.parent for path in (ROOT / "fastzoo" / "models").glob(f"*/{bundle.FILE}"))
HAR = next(folder for folder in FOLDERS if folder.name == "fastgrnn-har")
LARGEST_WHEEL = 25_000_000

FROM_BYTES: tuple[published.Check, ...] = (
    published.hashes, published.graphs, published.sizes, published.answers, published.same_bytes,
)  # fmt: skip
SAID: tuple[published.Check, ...] = (
    published.complete, published.loss, published.elsewhere, published.rebuilt, published.taught,
)  # fmt: skip

each_bundle = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def test_the_model_of_the_readme_is_shipped() -> None:
    assert {"fastgrnn-har-fp32", "fastgrnn-har-int8"} <= set(fastzoo.list_models("*-har-*"))


def test_the_registry_holds_every_bundle_and_no_other() -> None:
    contents = [bundle.read(folder) for folder in FOLDERS]
    assert sorted(registry.builtin().models) == sorted(
        content.model_name(precision) for content in contents for precision in content.precisions
    )


@each_bundle
def test_everything_follows_from_the_bytes(folder: Path) -> None:
    assert published.faults(folder, FROM_BYTES) == []


@each_bundle
def test_everything_is_said_and_holds_together(folder: Path) -> None:
    models = dict(registry.builtin().models)
    checks = (*SAID, named(published.registered, models=models))
    assert published.faults(folder, checks) == []


@each_bundle
@pytest.mark.real_data
def test_accuracy_and_ranges_are_those_of_the_recordings(folder: Path) -> None:
    content = bundle.read(folder)
    assert content.dataset is not None
    if "FASTZOO_DATA" not in os.environ and content.dataset.id != "digits":
        pytest.skip("FASTZOO_DATA names no folder of prepared data")
    try:
        dataset = published.prepared(content)
    except DataError as error:
        pytest.skip(str(error))
    checks = [named(check, dataset=dataset) for check in (published.accuracy, published.spread, published.same_ranges)]
    assert published.faults(folder, tuple(checks)) == []


RELATED = [(folder, relation) for folder in FOLDERS for relation in cross.relations(bundle.read(folder))]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("folder", "relation"), RELATED, ids=[f"{folder.name}-{relation.id}" for folder, relation in RELATED]
)
def test_cross_checks_are_those_of_the_recordings(folder: Path, relation: Relation) -> None:
    if "FASTZOO_DATA" not in os.environ:
        pytest.skip("FASTZOO_DATA names no folder of prepared data")
    try:
        dataset = data.load(relation.id)
    except DataError as error:
        pytest.skip(str(error))
    check = named(published.cross_checks, relation=relation, dataset=dataset)
    assert published.faults(folder, (check,)) == []


def named(check: Callable[..., published.Faults], **arguments: object) -> published.Check:
    """A check with its further arguments."""
    return functools.update_wrapper(functools.partial(check, **arguments), check)


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_what_is_recomputed_holds_for_every_cell(cell: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = 2 if cell in ("gru", "fastgrnn") else 1
    net = SequenceClassifier(CELLS[cell](5, 8, num_layers=layers, w_rank=3, u_rank=4), 3, pool=4)
    windows = np.random.default_rng(0).normal(size=(40, 12, 5)).astype(np.float32)
    export(net, tmp_path / "b", calibration=windows, layouts=["scan", "step"], activations_in=())
    assert published.faults(tmp_path / "b", FROM_BYTES) == []


def test_all_faults_of_a_bundle_are_told_at_once(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(HAR, tmp_path / HAR.name))
    document = json.loads((folder / bundle.FILE).read_text())
    document["size"]["nonzeros"] -= 1
    document["size"]["macs_per_step"] += 1
    fused = document["precisions"]["fp32"]["layouts"]["fused"]
    fused["operators"]["GRU"] = 2
    fused["quantization"] = "int4"
    document["labels"][0] = "running"
    for precision in document["precisions"].values():
        for file in precision["layouts"].values():
            if "metrics" in file:
                per_class = file["metrics"]["per_class"]
                file["metrics"]["per_class"] = {document["labels"][0]: per_class.pop("walking"), **per_class}
    document["precisions"]["int8"]["layouts"]["fused"]["metrics"]["accuracy"] -= 0.01
    document["seeds"] = None
    document["training"]["teachers"]["fastrnn-har"] = "0" * 64
    del document["dataset"]["licence"]
    del document["precisions"]["fp32"]["cross_checks"]["ucihar"]
    (folder / bundle.FILE).write_text(json.dumps({k: v for k, v in document.items() if v is not None}))
    (folder / "golden.npz").write_bytes(b"not golden")
    found = "\n".join(published.faults(folder, (*FROM_BYTES, *SAID)))
    for fault in (
        "size.nonzeros is", "size.macs_per_step is", "size.macs_per_window is",
        "fp32-fused.onnx: operators {", "its metadata says labels", "its metadata says quantization 'none', not 'int4'",
        "golden.npz", "answers broke: BundleError", "same_bytes broke: ExportError",
        "int8/fused loses", "lacks 3 seeds", "lacks data set, its variant, digest, licence",
        "fp32 lacks the cross-check on ucihar", "its teacher fastrnn-har has other weights now",
    ):  # fmt: skip
        assert fault in found, found


def test_a_file_that_was_made_otherwise_is_found(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(HAR, tmp_path / HAR.name))
    content = bundle.read(folder)
    int8 = content.precisions["int8"]
    (folder / "int8-scan.onnx").write_bytes((folder / "fp32-scan.onnx").read_bytes())
    fp32 = content.precisions["fp32"].layouts["scan"]
    swapped = dataclasses.replace(int8.layouts["scan"], sha256=fp32.sha256, bytes=fp32.bytes)
    precisions = {
        **content.precisions, "int8": dataclasses.replace(int8, layouts={**int8.layouts, "scan": swapped})
    }  # fmt: skip
    bundle.write(dataclasses.replace(content, precisions=precisions), folder)
    found = published.faults(folder, FROM_BYTES)
    assert [fault for fault in found if "int8-scan.onnx: made from the weights it is" in fault], found
    assert [fault for fault in found if "int8-scan.onnx: 0 weights in int8" in fault], found


def test_the_models_leave_the_wheel_small() -> None:
    packed = sum(len(zlib.compress(path.read_bytes())) for folder in FOLDERS for path in folder.iterdir())
    assert packed < LARGEST_WHEEL - 1_000_000, f"{packed} bytes of models, and the code comes on top"
