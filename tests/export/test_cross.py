"""Cross-checks: what a bundle says of its files on data sets related to the one it was trained on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fastzoo import bundle
from fastzoo.bundle import Bundle
from fastzoo.data import Dataset, ucihar
from fastzoo.export import export
from fastzoo.metrics import evaluate
from fastzoo.model import Model
from fastzoo.nn import SequenceClassifier


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FASTZOO_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def har(dataset: Dataset) -> Dataset:
    """The small task under the name of a data set that has a related one; people 2 and 4 are tested on."""
    group = dataset.group
    return replace(dataset, id="har", split=np.where(np.isin(group, (2, 4)), 2, 0).astype(np.uint8))


@pytest.fixture
def related(har: Dataset) -> Dataset:
    """Other windows of the same kind, with three channels more and classes in another order; 4 and 5 are tested on."""
    x = 1.2 * har.x
    return Dataset(
        id="ucihar",
        x=np.concatenate([x, x[:, :, :3]], axis=2).astype(np.float32),
        y=2 - har.y,
        group=har.group,
        split=np.where(np.isin(har.group, (4, 5)), 2, 0).astype(np.uint8),
        classes=har.classes[::-1],
        channels=ucihar.CHANNELS,
        rate=har.rate,
    )


def made(net: SequenceClassifier, har: Dataset, folder: Path, **options: Any) -> Bundle:
    return export(net, folder, dataset=har, layouts=["scan", "step"], activations_in=(), **options)


def test_the_exporter_measures_on_the_related_data_set(
    net: SequenceClassifier, har: Dataset, related: Dataset, data_folder: Path, tmp_path: Path
) -> None:
    related.save(data_folder)
    content = made(net, har, tmp_path / "b")
    assert bundle.read(tmp_path / "b").precisions.keys() == content.precisions.keys()
    rows = related.group == 4  # of person 5 the network may have seen other windows
    for name, precision in content.precisions.items():
        assert precision.cross_checks is not None
        check = precision.cross_checks["ucihar"]
        logits = Model(tmp_path / "b", name, "scan").logits(related.x[rows][:, :, :6])
        expected = evaluate(logits.argmax(1), 2 - related.y[rows], har.classes)
        assert (check.layout, check.split, check.n) == ("scan", "test", 30)
        assert (check.accuracy, check.macro_f1) == (expected.accuracy, expected.macro_f1)
        assert check.sha256 == related.sha256
        assert check.variant is not None
        assert check.variant.startswith("UCI HAR windows")


def test_nothing_is_said_of_a_data_set_that_is_not_there_or_does_not_fit(
    net: SequenceClassifier, har: Dataset, related: Dataset, data_folder: Path, tmp_path: Path
) -> None:
    assert all(precision.cross_checks is None for precision in made(net, har, tmp_path / "a").precisions.values())
    replace(related, rate=100.0).save(data_folder)
    assert all(precision.cross_checks is None for precision in made(net, har, tmp_path / "b").precisions.values())


def test_the_tool_adds_what_is_missing_and_changes_nothing_else(
    net: SequenceClassifier,
    har: Dataset,
    related: Dataset,
    data_folder: Path,
    tmp_path: Path,
    load_tool: Callable[[str], ModuleType],
    capsys: pytest.CaptureFixture[str],
) -> None:
    tool, folder = load_tool("cross_check"), tmp_path / "b"
    content = made(net, har, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert tool.main([str(folder)]) == 1
    assert "data set 'ucihar' is not prepared" in capsys.readouterr().err
    related.save(data_folder)
    assert tool.main([str(folder)]) == 0
    assert "b-int8 (scan) on 30 test windows of ucihar: accuracy" in capsys.readouterr().out
    document = json.loads((folder / bundle.FILE).read_text())
    exported = made(net, har, tmp_path / "again", name="b")
    for name, precision in document["precisions"].items():
        assert precision.pop("cross_checks") == bundle.to_dict(exported)["precisions"][name]["cross_checks"]
    assert document == bundle.to_dict(content)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != bundle.FILE} == {
        name: content for name, content in before.items() if name != bundle.FILE
    }


def test_the_tool_leaves_a_bundle_without_related_data_as_it_is(
    exported: Any, tmp_path: Path, load_tool: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(exported.folder, tmp_path / "b"))
    before = (folder / bundle.FILE).read_bytes()
    assert load_tool("cross_check").main([str(folder)]) == 0
    assert "no data set is related" in capsys.readouterr().out
    assert (folder / bundle.FILE).read_bytes() == before
