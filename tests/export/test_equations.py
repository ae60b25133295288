"""Each cell's equation, and the step graph that is written from it, against the oracle and against torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from nn import oracle
from onnx.reference import ReferenceEvaluator
from torch import nn

from fastzoo.export.cells import EQUATIONS, STATES
from fastzoo.export.floats import FloatWriter
from fastzoo.export.integers import IntegerWriter
from fastzoo.export.network import SLOWEST, Cell, Network
from fastzoo.export.weights import Int8
from fastzoo.nn import CELLS

from . import networks
from .networks import PAIRS, RANKS, STACKS, VARIANTS, D, Doubles, Floats, H, InDoubles, Plain, classifier, windows

N = 50
INT8 = Int8()
variants = pytest.mark.parametrize("variant", VARIANTS)
ranks = pytest.mark.parametrize("rank", RANKS)


def samples(cell: Cell) -> tuple[Floats, tuple[Floats, ...]]:
    """x [N, D] and a state."""
    rng = np.random.default_rng(0)
    x, *state = (
        rng.normal(size=(N, size)).astype(np.float32)
        for size in (cell.input_size, *(cell.hidden_size for _ in STATES.get(cell.kind, "h")))
    )
    return x, tuple(state)


def doubles(*arrays: Floats) -> tuple[Doubles, ...]:
    return tuple(array.astype(np.float64) for array in arrays)


def difference(found: Any, expected: Any) -> float:
    return max(networks.error(one, other) for one, other in zip(found, expected, strict=True))


def test_every_cell_has_an_equation() -> None:
    assert EQUATIONS.keys() == CELLS.keys() | {"torch_gru"}


@ranks
@variants
def test_an_equation_is_the_oracles(variant: str, rank: str) -> None:
    for gate, update in networks.pairs(VARIANTS[variant]["kind"]):
        net = classifier(gate, update, RANKS[rank], **VARIANTS[variant])
        (cell,) = networks.network(net).cells
        x, state = samples(cell)
        arithmetic = InDoubles(cell)
        (arithmetic.x,) = doubles(x)
        # Trained scalars are sigmoids, which from_torch takes in float32.
        scalars = oracle.Cell(net.rnn.cell).scalars
        assert cell.scalars == pytest.approx(scalars, rel=1e-6)
        found = EQUATIONS[cell.kind](arithmetic, replace(cell, scalars=scalars), doubles(*state))
        expected = oracle.Cell(net.rnn.cell).step(arithmetic.x, doubles(*state))
        assert difference(found, expected) < 1e-14, (gate, update)


@ranks
@variants
def test_a_step_graph_is_the_equation(variant: str, rank: str) -> None:
    for gate, update in networks.pairs(VARIANTS[variant]["kind"]):
        net = classifier(gate, update, RANKS[rank], **VARIANTS[variant])
        (cell,) = networks.network(net).cells
        step = FloatWriter(cell).step()
        model = step.model()
        onnx.checker.check_model(model, full_check=True)
        x, state = samples(cell)
        feeds = {step.x: x, **dict(zip((port.name for port in step.states), state, strict=True))}
        expected = oracle.Cell(net.rnn.cell).step(doubles(x)[0], doubles(*state))
        assert difference(networks.session(model).run(None, feeds), expected) < 1e-6, (gate, update)
        assert difference(ReferenceEvaluator(model).run(None, feeds), expected) < 1e-6, (gate, update)


@ranks
@variants
def test_the_operators_of_the_integer_step_are_the_equation(variant: str, rank: str) -> None:
    """In float32, as calibration runs them: what is written as bytes is the same equation in another form."""
    for gate, update in networks.pairs(VARIANTS[variant]["kind"]):
        net = classifier(gate, update, RANKS[rank], **VARIANTS[variant])
        (cell,) = networks.network(net).cells
        step = IntegerWriter(cell, "", INT8, None).step()
        x, state = samples(cell)
        feeds = {step.x: x, **dict(zip((port.name for port in step.states), state, strict=True))}
        expected = oracle.Cell(net.rnn.cell).step(doubles(x)[0], doubles(*state))
        assert difference(networks.session(step.model()).run(None, feeds), expected) < 1e-6, (gate, update)


@pytest.mark.parametrize(
    "writer", [FloatWriter, lambda cell: IntegerWriter(cell, "", INT8, None)], ids=["float", "int"]
)
def test_torchs_own_gru_is_a_cell_too(writer: Any) -> None:
    module = Plain(nn.GRU(D, H, batch_first=True))
    (cell,) = module.network().cells
    assert (cell.kind, cell.gate, cell.update) == ("torch_gru", "sigmoid", "tanh")
    x, state = samples(cell)
    with torch.no_grad():
        h = module.rnn(torch.from_numpy(x)[:, None], torch.from_numpy(state[0])[None])[0][:, 0].numpy()
    arithmetic = InDoubles(cell)
    (arithmetic.x,) = doubles(x)
    assert difference(EQUATIONS[cell.kind](arithmetic, cell, doubles(*state)), [h]) < 1e-6
    found = networks.session(writer(cell).step().model()).run(None, {"x": x, "h": state[0]})
    assert difference(found, [h]) < 1e-6


@pytest.mark.parametrize("stack", STACKS)
@variants
def test_the_arrays_of_a_network_are_the_torch_module(variant: str, stack: str) -> None:
    """Order of cells, directions, pooling and head; so that :func:`networks.evaluate` may stand for the oracle."""
    net, x = classifier(**VARIANTS[variant], **STACKS[stack]), windows(5)
    assert networks.error(networks.evaluate(networks.network(net), x), networks.exact(net, x)) < 1e-7


def head_alone(of: Network) -> Network:
    """Without a bias, beside which a small state could hide."""
    return replace(of, head_bias=np.zeros_like(of.head_bias))


@pytest.mark.parametrize("zeta", [0.001, 0.25, 0.999])
@pytest.mark.parametrize("stack", STACKS)
def test_dividing_the_state_by_zeta_changes_nothing(stack: str, zeta: float) -> None:
    network = head_alone(networks.network(classifier(zeta=zeta, nu=0.0, **STACKS[stack])))
    unit, x = network.unit_scale(), windows(3)
    assert [cell.scalars for cell in unit.cells] == [{"zeta": 1.0, "nu": 0.0}] * len(network.cells)
    assert networks.error(networks.evaluate(unit, x), networks.evaluate(network, x)) < 1e-6
    assert network.cells[0].scalars["zeta"] == pytest.approx(zeta), "the network itself is not changed"


@pytest.mark.parametrize(("alpha", "beta"), [(1e-6, 0.5), (0.3, 0.0), (1.0, 0.9), (0.01, SLOWEST - 1e-4)])
@pytest.mark.parametrize("stack", STACKS)
def test_the_state_of_a_fastrnn_becomes_a_weighted_mean(stack: str, alpha: float, beta: float) -> None:
    net = classifier(kind="fastrnn", alpha=alpha, beta=beta, **STACKS[stack])
    network, x = head_alone(networks.network(net)), windows(3)
    unit = network.unit_scale()
    assert all(cell.scalars["alpha"] == 1 - cell.scalars["beta"] for cell in unit.cells)
    assert networks.error(networks.evaluate(unit, x), networks.evaluate(network, x)) < 1e-6


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"zeta": 1.0, "nu": 0.0},
        {"zeta": 0.0, "nu": 0.0},
        {"kind": "fastrnn", "alpha": 0.0, "beta": 0.5},
        {"kind": "fastrnn", "alpha": 0.1, "beta": 0.991},
        {"kind": "ugrnn"},
        {"kind": "gru"},
        {"kind": "lstm"},
    ],
    ids=str,
)
def test_no_other_network_is_rescaled(arguments: dict[str, Any]) -> None:
    network = networks.network(classifier(**arguments))
    assert network.unit_scale() is network


def test_both_directions_are_rescaled_or_none() -> None:
    network = networks.network(classifier(kind="fastrnn", alpha=0.1, beta=0.5, bidirectional=True))
    slow = replace(network.cells[1], scalars={"alpha": 0.1, "beta": 0.999})
    mixed = replace(network, cells=(network.cells[0], slow))
    assert mixed.unit_scale() is mixed


def test_the_equation_of_each_pair_is_seen_on_both_sides_of_its_kinks() -> None:
    """Otherwise the comparisons above would prove less than they seem to."""
    for variant in VARIANTS.values():
        seen = []
        for gate, update in PAIRS if variant["kind"] != "fastrnn" else [("sigmoid", u) for u in oracle.FUNCTIONS]:
            net = classifier(gate, update, **variant)
            (cell,) = networks.network(net).cells
            x, state = samples(cell)
            seen.append(oracle.Cell(net.rnn.cell))
            seen[-1].step(doubles(x)[0], doubles(*state))
        for name, kinks in oracle.KINKS.items():
            visited = np.concatenate([pre.ravel() for cell in seen for pre in cell.seen.get(name, [])])
            assert all(visited.min() < kink < visited.max() for kink in kinks), (variant, name)
