"""The step graph against the equation in float64."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nn import oracle
from onnx import numpy_helper

from fastzoo.export.graph import operators
from fastzoo.export.step import fastgrnn_step

from . import networks
from .networks import PAIRS, RANKS, SCALARS, D, Floats, H, classifier

N = 4


def inputs() -> tuple[Floats, Floats]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, D)).astype(np.float32), rng.normal(size=(N, H)).astype(np.float32)


@pytest.mark.parametrize(("gate", "update"), PAIRS)
@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("scalars", SCALARS)
def test_a_step_is_the_equation(gate: str, update: str, ranks: str, scalars: str) -> None:
    net = classifier(gate, update, RANKS[ranks], **SCALARS[scalars])
    model = fastgrnn_step(networks.network(net).cell)
    onnx.checker.check_model(model, full_check=True)
    x, h = inputs()
    expected = oracle.Cell(net.rnn.cell).step(x.astype(np.float64), (h.astype(np.float64),))[0]
    assert np.abs(networks.evaluate(model, x=x, h=h) - expected).max() < 2e-6
    (answer,) = networks.session(model).run(None, {"x": x, "h": h})
    assert np.abs(answer - expected).max() < 2e-6


def test_a_bounded_state_needs_fewer_operators() -> None:
    general = operators(fastgrnn_step(networks.network(classifier(nu=0.0)).cell))
    unit = operators(fastgrnn_step(networks.network(classifier(nu=0.0)).unit_zeta().cell))
    assert sum(unit.values()) == sum(general.values()) - 2


@pytest.mark.parametrize("ranks", RANKS)
def test_factors_stay_factors(ranks: str) -> None:
    net = classifier(ranks=RANKS[ranks])
    model = fastgrnn_step(networks.network(net).cell)
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if len(t.dims) == 2}
    trained = {name: p.detach().numpy() for name, p in net.rnn.cell.named_parameters() if p.dim() == 2}
    assert stored.keys() == trained.keys()
    assert all(np.array_equal(stored[name], trained[name]) for name in stored)


@pytest.mark.parametrize("zeta", [0.0, 0.25, 0.999])
@pytest.mark.parametrize("ranks", RANKS)
def test_dividing_the_state_by_zeta_changes_nothing(zeta: float, ranks: str) -> None:
    net = classifier(ranks=RANKS[ranks], zeta=zeta, nu=0.0)
    network = networks.network(net)
    unit = network.unit_zeta()
    assert unit.cell.zeta == 1
    x = networks.windows(3)
    normalised = (x.astype(np.float64) - network.mean) / network.std
    expected = oracle.logits(net, x)
    g = np.zeros((3, H))
    states = []
    for x_t in normalised.transpose(1, 0, 2):
        pre = x_t @ np.linalg.multi_dot([*unit.cell.w, np.eye(H)]) + g @ np.linalg.multi_dot([*unit.cell.u, np.eye(H)])
        z, c = 1 / (1 + np.exp(-pre - unit.cell.bias_gate)), np.tanh(pre + unit.cell.bias_update)
        g = (1 - z) * c + z * g
        states.append(g)
    pooled = np.mean(states[-network.pool :], axis=0)
    assert np.abs(pooled @ unit.head_weight + unit.head_bias - expected).max() < 1e-5
    assert network.cell.zeta == pytest.approx(zeta), "the network itself is not changed"


def test_zeta_stays_where_nu_needs_it() -> None:
    network = networks.network(classifier())
    assert network.unit_zeta() is network
