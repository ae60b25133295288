"""The layout ``fused``: one operator for each layer, with nothing lost and nothing else in the file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fastzoo.export.fused import fused
from fastzoo.export.graph import constants, operators
from fastzoo.export.layouts import Builder, Scheme
from fastzoo.export.lowering import obstacle
from fastzoo.nn import NONLINEARITIES

from . import networks
from .networks import FORM, RANKS, STACKS, VARIANTS, D, H, Plain, builder, classifier, network, run, windows

FUSED = FORM["fp32", "fused"]
PIECEWISE_LINEAR = [name for name in NONLINEARITIES if name in ("relu", "quant_sigmoid", "quant_sigmoid4")]


def silent(net: Any) -> Any:
    """A head without bias, beside which a small state could hide."""
    with torch.no_grad():
        net.head.bias.zero_()
    return net


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_each_layer_is_one_operator(variant: str, stack: str) -> None:
    net = classifier(**VARIANTS[variant], **STACKS[stack])
    counts = operators(builder(net).build(FUSED))
    recurrent = {name: count for name, count in counts.items() if name in ("GRU", "LSTM", "Scan", "Loop", "If")}
    operator = "LSTM" if variant in ("fastrnn, slow", "fastgrnn, nu", "lstm") else "GRU"
    assert recurrent == {operator: net.rnn.num_layers}


def test_a_fused_fastgrnn_is_small() -> None:
    assert sum(operators(builder(classifier(nu=0.0)).build(FUSED)).values()) < 20


@pytest.mark.parametrize("gate", PIECEWISE_LINEAR)
@pytest.mark.parametrize("update", ["quant_sigmoid", "quant_tanh", "quant_sigmoid4", "tanh", "sigmoid"])
@pytest.mark.parametrize("rank", RANKS)
def test_piecewise_linear_gates_lose_nothing(gate: str, update: str, rank: str) -> None:
    net, x = silent(classifier(gate, update, RANKS[rank], nu=0.0)), windows(20)
    made, exact = builder(net), networks.exact(net, x)
    assert networks.error(run(made.build(FUSED), x), exact) < 2e-6
    assert networks.error(run(made.build(FORM["fp32", "unrolled"]), x), exact) < 1e-6


@pytest.mark.parametrize("update", ["tanh", "quant_tanh"])
@pytest.mark.parametrize("zeta", [0.1, 0.5, 1.0, None])
@pytest.mark.parametrize("nu", [0.0, 1e-9, 0.3, None])
def test_head_and_recurrence_absorb_zeta_and_nu(zeta: float | None, nu: float | None, update: str) -> None:
    net, x = silent(classifier("sigmoid", update, zeta=zeta, nu=nu)), windows(5, steps=128)
    assert networks.error(run(builder(net, 128).build(FUSED), x), networks.exact(net, x)) < 2e-6


@pytest.mark.parametrize("update", ["tanh", "quant_tanh", "relu"])
@pytest.mark.parametrize("alpha", [1e-6, 0.3, 1.0])
@pytest.mark.parametrize("beta", [0.0, 0.5, 0.99, 0.999, 1.0])
def test_any_alpha_and_beta(alpha: float, beta: float, update: str) -> None:
    """A small alpha must not be the sigmoid of a large negative number, of which runtimes know few digits."""
    net, x = silent(classifier("sigmoid", update, kind="fastrnn", alpha=alpha, beta=beta)), windows(5, steps=128)
    assert networks.error(run(builder(net, 128).build(FUSED), x), networks.exact(net, x)) < 1e-5


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("of", [nn.GRU, nn.LSTM, nn.RNN])
def test_torchs_own_recurrences(of: Any, stack: str) -> None:
    module = Plain(of(D, H, batch_first=True, **STACKS[stack]))
    x = np.random.default_rng(0).normal(size=(5, 20, D)).astype(np.float32)
    model = Builder(module.network(20), x).build(FUSED)
    assert networks.error(run(model, x), module.exact(x)) < 2e-6


@pytest.mark.parametrize("form", [FUSED, replace(FUSED, precision="int8", scheme=Scheme())], ids=["fp32", "int8"])
def test_factors_are_stored_as_they_were_trained(form: Any) -> None:
    net = classifier(zeta=1.0, nu=0.0)
    stored = constants(builder(net).build(form))
    for name, parameter in net.rnn.cell.named_parameters():
        if parameter.dim() == 2:
            trained = parameter.detach().numpy()
            if form.scheme:
                assert np.array_equal(stored[f"{name}_quantized"], np.rint(trained / stored[f"{name}_scale"]))
                assert name not in stored
            else:
                assert np.array_equal(stored[name], trained)


def test_of_two_directions_with_different_forms_none_is_left_out() -> None:
    """Both directions are one operator, so they must be lowered alike."""
    arrays = network(silent(classifier(kind="fastrnn", alpha=0.1, beta=0.9, bidirectional=True)))
    x = windows(5)
    slow = replace(arrays.cells[1], scalars={"alpha": 0.2, "beta": 0.999})
    mixed = replace(arrays, cells=(arrays.cells[0], slow)).unit_scale()
    assert networks.error(run(fused(mixed), x), networks.evaluate(mixed, x)) < 1e-5


@pytest.mark.parametrize("nus", [(0.0, 0.1), (0.1, 0.0)])
@pytest.mark.parametrize("update", ["tanh", "quant_tanh"])
def test_two_directions_of_which_one_has_nu_0(nus: tuple[float, float], update: str) -> None:
    arrays = network(silent(classifier("sigmoid", update, zeta=0.7, nu=0.0, bidirectional=True)))
    x = windows(5)
    cells = tuple(replace(c, scalars={"zeta": 0.7, "nu": nu}) for c, nu in zip(arrays.cells, nus, strict=True))
    mixed = replace(arrays, cells=cells).unit_scale()
    assert networks.error(run(fused(mixed), x), networks.evaluate(mixed, x)) < 1e-5


def test_an_obstacle_is_not_worked_around() -> None:
    arrays = network(classifier("quant_tanh", nu=0.0))
    assert obstacle(arrays.cells[0]) is not None
    with pytest.raises(ValueError, match="ONNX has no activation quant_tanh for gates"):
        fused(arrays)
