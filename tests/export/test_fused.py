"""The whole recurrence as one GRU: what can be, and that nothing is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import numpy_helper

from fastzoo.errors import ExportError
from fastzoo.export.fused import SATURATED, fused, obstacle
from fastzoo.export.graph import operators
from fastzoo.nn import NONLINEARITIES

from .networks import FORM, RANKS, builder, classifier, logits, network, run, windows

PIECEWISE_LINEAR = [name for name in NONLINEARITIES if name in ("relu", "quant_sigmoid", "quant_sigmoid4")]


def test_the_recurrence_is_one_operator() -> None:
    counts = operators(builder(classifier(nu=0.0)).build(FORM["fp32", "fused"]))
    assert counts["GRU"] == 1
    assert sum(counts.values()) < 20


@pytest.mark.parametrize("name", SATURATED)
def test_the_reset_gate_is_exactly_one(name: str) -> None:
    assert NONLINEARITIES[name](torch.tensor(SATURATED[name])).item() == 1.0


def test_every_nonlinearity_is_a_gru_activation_or_refused() -> None:
    assert NONLINEARITIES.keys() - SATURATED.keys() == {"quant_tanh"}


@pytest.mark.parametrize("gate", PIECEWISE_LINEAR)
@pytest.mark.parametrize("update", ["quant_sigmoid", "quant_sigmoid4", "tanh", "sigmoid"])  # relu on relu explodes
@pytest.mark.parametrize("ranks", RANKS)
def test_piecewise_linear_gates_lose_nothing(gate: str, update: str, ranks: str) -> None:
    net, x = classifier(gate, update, RANKS[ranks], nu=0.0), windows(20)
    made = builder(net)
    answer = run(made.build(FORM["fp32", "fused"]), x)
    scale = np.abs(answer).max()
    assert np.abs(answer - run(made.build(FORM["fp32", "unrolled"]), x)).max() < 2e-6 * scale
    assert np.abs(answer - logits(net, x)).max() < 1e-5 * scale


@pytest.mark.parametrize("zeta", [0.0, 0.1, 0.5, 1.0, None])
def test_head_and_recurrence_absorb_zeta(zeta: float | None) -> None:
    net, x = classifier(zeta=zeta, nu=0.0), windows(5)
    assert np.abs(run(fused(network(net)), x) - logits(net, x)).max() < 1e-5


def test_factors_are_stored_as_they_were_trained() -> None:
    net = classifier(zeta=1.0, nu=0.0)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in fused(network(net)).graph.initializer}
    for name, parameter in net.rnn.cell.named_parameters():
        if parameter.dim() == 2:
            assert np.array_equal(stored[name], parameter.detach().numpy())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"nu": 0.0}, None),
        ({"nu": 0.0, "zeta": 0.3, "gate": "relu", "update": "quant_sigmoid4"}, None),
        ({"nu": 0.25}, "nu = 0.25, and only FastGRNN with nu = 0 is a GRU (train with nu=0)"),
        ({"nu": 1e-9}, "nu = 1e-09, and only FastGRNN with nu = 0 is a GRU (train with nu=0)"),
        ({"gate": "quant_tanh", "nu": 0.0}, "ONNX's GRU has no activation quant_tanh"),
        ({"update": "quant_tanh", "nu": 0.0}, "ONNX's GRU has no activation quant_tanh"),
    ],
)
def test_what_is_no_gru_is_refused_with_the_reason(arguments: dict[str, Any], reason: str | None) -> None:
    source = network(classifier(**arguments))
    assert obstacle(source.cell) == reason
    if reason:
        with pytest.raises(
            ExportError, match=r"the layout 'fused' does not exist .* The layout 'unrolled' does"
        ) as caught:
            fused(source)
        assert reason in str(caught.value)
