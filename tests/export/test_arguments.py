"""What cannot be exported is refused before anything is written."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fastzoo.errors import DataError, ExportError
from fastzoo.export import export
from fastzoo.nn import FastGRNN, SequenceClassifier

from .networks import C, D, T, classifier, windows

NET = classifier(nu=0.0)
X = windows(20)


@pytest.fixture(autouse=True)
def nothing_is_written(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.iterdir())


def spoiled(value: float) -> Any:
    x = X.copy()
    x[3, 2, 1] = value
    return x


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (None, r"windows are needed: give `calibration` \[n, T, D\] or `dataset`"),
        (X[0], "windows are needed"),
        (5, "windows are needed"),
        (X[:0], rf"calibration windows must be \[n, {T}, {D}\], not \[0, {T}, {D}\]"),
        (X[..., :2], rf"calibration windows must be \[n, {T}, {D}\], not \[20, {T}, 2\]"),
        (X[:, :1], "windows of 1 steps are shorter than the 2 states the head pools over"),
        (spoiled(np.nan), "calibration window 3 holds NaN or infinity"),
        (spoiled(np.inf), "calibration window 3 holds NaN or infinity"),
        (spoiled(1).astype(np.float64) * 1e300, "calibration window 0 holds NaN or infinity"),
        (np.ones_like(X), "the calibration windows are constant"),
        (np.full(X.shape, "1.0"), "calibration windows must be numbers, not <U3"),
        (X.astype(object), "calibration windows must be numbers, not object"),
        (X > 0, "calibration windows must be numbers, not bool"),
        (X.astype(complex), "calibration windows must be numbers, not complex128"),
        ([[[1.0, 2.0, 3.0]], [[1.0, 2.0]]], r"calibration windows must be an array \[n, T, D\]"),
    ],
)
def test_windows_that_give_no_ranges_are_refused(calibration: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        export(NET, tmp_path / "it", calibration=calibration)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": ["a", "b", "c"]}, f"the network has {C} classes, but 3 different labels"),
        ({"labels": ["a", "b", "c", "a"]}, f"the network has {C} classes, but 3 different labels"),
        ({"labels": []}, f"the network has {C} classes, but 0 different labels"),
        ({"labels": np.array(["a", "b"])}, f"the network has {C} classes, but 2 different labels"),
        ({"channels": ["x", "y"]}, f"the network takes {D} channels, but 2 are named"),
        ({"rate": 0}, "the rate must be a positive number of samples per second, not 0.0"),
        ({"rate": -50.0}, "the rate must be a positive number"),
        ({"rate": float("nan")}, "the rate must be a positive number"),
        ({"layouts": ["loop"]}, "unknown layout loop; there are fused, scan, unrolled, step"),
        (
            {"activations_in": ["fused"]},
            "activations fused: .* computes in fp32; there are scan",
        ),
        ({"activations_in": ["all"]}, "unknown layout for 8-bit activations all; there are scan, unrolled, step"),
        ({"state": "16"}, "unknown state width 16; there are auto, 8, fp32"),
        ({"activations": "int4"}, "unknown type of activations int4; there are uint8, int8"),
        ({"formats": ["tflite"]}, "unknown format tflite; there are onnx, c"),
        ({"percentile": 50}, "the percentile must lie between 90 and 100"),
        ({"percentile": float("nan")}, "the percentile must lie between 90 and 100"),
        ({"precisions": ["fp16"]}, "unknown precision fp16; there are fp32, int8"),
        ({"precisions": []}, "no precision asked for"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        export(NET, tmp_path / "it", calibration=X, **arguments)


def test_an_unknown_data_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTZOO_DATA", str(tmp_path))
    with pytest.raises(DataError, match="harr"):
        export(NET, tmp_path / "it", dataset="harr")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["rnn.cells.0.U1", "rnn.cells.0.zeta_logit", "head.bias", "std"])
def test_weights_that_are_no_numbers_are_named(name: str, value: float, tmp_path: Path) -> None:
    broken = copy.deepcopy(NET)
    with torch.no_grad():
        broken.state_dict()[name].fill_(value)
    with pytest.raises(ExportError, match=f"NaN or infinite weights in {name}; train it again"):
        export(broken, tmp_path / "it", calibration=X)


def test_a_layout_that_does_not_exist_says_why(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"'fused' does not exist for this model: nu = 0.5.*There are scan, unr"):
        export(classifier("tanh", nu=0.5), tmp_path / "it", calibration=X, layouts=["fused"])
    both_ways = SequenceClassifier(FastGRNN(D, 4, bidirectional=True), C)
    with pytest.raises(ExportError, match=r"'step' does not exist for this model: the backward direction .*There a"):
        export(both_ways, tmp_path / "it", calibration=X, layouts=["step"])


def test_layers_that_are_not_known_are_named(tmp_path: Path) -> None:
    class Mine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.filter = nn.Conv1d(D, D, 3)
            self.rnn, self.head = nn.GRU(D, 4, batch_first=True), nn.Linear(4, C)

    with pytest.raises(ExportError, match=r"'filter' \(Conv1d\)"):
        export(Mine(), tmp_path / "it", calibration=X)


@pytest.mark.parametrize("which", ["gate_nonlinearity", "update_nonlinearity"])
def test_a_function_of_python_is_refused(which: str, tmp_path: Path) -> None:
    nonlinearity: dict[str, Any] = {which: torch.sigmoid}
    net = SequenceClassifier(FastGRNN(D, 4, **nonlinearity), C)
    with pytest.raises(ExportError, match="a nonlinearity that is a Python function cannot be exported; use one by"):
        export(net, tmp_path / "it", calibration=X)
