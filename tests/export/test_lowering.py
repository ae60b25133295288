"""Each cell as one GRU or LSTM: which can be, and that the identities are exact."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from nn import oracle
from torch import nn

from fastzoo.export.lowering import HALF, IDENTITY, SATURATED, Gate, Lowered, lower, obstacle
from fastzoo.export.network import Cell
from fastzoo.export.writer import OPERATORS
from fastzoo.nn import NONLINEARITIES

from . import networks
from .networks import VARIANTS, D, Doubles, H, Plain, classifier

ALL = tuple(NONLINEARITIES)
# The cells that are neither a GRU nor an LSTM: every pair with one of these gates or one of these updates.
GATES_WITHOUT: dict[str, set[str]] = {
    "fastrnn": set(),
    "fastrnn, slow": set(),
    "fastgrnn": {"quant_tanh"},
    "fastgrnn, nu": {"quant_tanh", "tanh", "relu"},  # 1 - gate(a) is not gate(-a)
    "ugrnn": {"quant_tanh"},
    "gru": {"quant_tanh"},
    "torch_gru": {"quant_tanh"},
    "lstm": {"quant_tanh"},
}
UPDATES_WITHOUT: dict[str, set[str]] = {name: set() for name in GATES_WITHOUT} | {
    "gru": {"quant_tanh"}, "torch_gru": {"quant_tanh"}, "lstm": {"quant_tanh"}
}  # fmt: skip
PAIRS = [
    (variant, gate, update)
    for variant in VARIANTS
    for gate, update in itertools.product(ALL if VARIANTS[variant]["kind"] != "fastrnn" else ["sigmoid"], ALL)
]
EXACT = [
    (variant, gate, update)
    for variant, gate, update in PAIRS
    if gate not in GATES_WITHOUT[variant] and update not in UPDATES_WITHOUT[variant]
]

FUNCTIONS = {"Tanh": "tanh", "Sigmoid": "sigmoid", "Relu": "relu"}


def cell_of(variant: str, gate: str, update: str) -> tuple[Any, Cell]:
    """A module with scalars that float32 holds, in unit scale already where it has one, and its arrays."""
    arguments = {**VARIANTS[variant]}
    if variant == "fastgrnn":
        arguments["zeta"] = 1.0
    if variant == "fastrnn":
        arguments |= {"alpha": 0.25, "beta": 0.75}
    net = classifier(gate, update, **arguments)
    (cell,) = networks.network(net).cells
    return net.rnn.cell, cell


def activation(name: str, parameters: dict[str, float], a: Doubles) -> Doubles:
    """As ONNX defines it."""
    if name in ("HardSigmoid", "Affine"):
        affine: Doubles = parameters["alpha"] * a + parameters["beta"]
        return affine if name == "Affine" else np.maximum(np.minimum(affine, 1), 0)
    return oracle.FUNCTIONS[FUNCTIONS[name]](a)


def states(cell: Cell, lowered: Lowered, x: Doubles) -> Doubles:
    """The operator that ``lowered`` describes in float64, written from ONNX's text: x [T, N, D] -> h [T, N, H]."""
    size = cell.hidden_size
    w, u = (np.split(networks.product(m), m[-1].shape[1] // size, axis=1) for m in (cell.w, cell.u))
    parts = [np.full((x.shape[1], size), start) for start in lowered.start]
    functions = [partial(activation, *each) for each in lowered.activations]
    cells = parts

    def h() -> Doubles:
        read: Doubles = np.sum([r * part for r, part in zip(lowered.read, parts, strict=True)], axis=0)
        return read + lowered.offset

    def gate(x_t: Doubles, gates: tuple[Gate, ...], reset: Doubles | None = None) -> list[Doubles]:
        each = []
        for one in gates:
            if one.block is None:
                each.append(np.full((x.shape[1], size), one.bias))
            elif reset is None:
                each.append(one.sign * (x_t @ w[one.block] + h() @ u[one.block]) + one.bias)
            elif lowered.linear_before_reset:
                inner = h() @ u[one.block] + (0 if lowered.recurrent_bias is None else lowered.recurrent_bias)
                each.append(x_t @ w[one.block] + reset * inner + one.bias)
            else:
                each.append(x_t @ w[one.block] + (reset * h()) @ u[one.block] + one.bias)
        return each

    found = []
    for x_t in x:
        if lowered.operator == "GRU":
            f, g = functions
            (z,), (r,) = (map(f, gate(x_t, each)) for each in lowered.gates[:2])
            (new,) = map(g, gate(x_t, lowered.gates[2], r))
            parts = [(1 - z) * new + z * part for part in parts]
        else:
            f, g, shown = functions
            i, o, forget = (list(map(f, gate(x_t, each))) for each in lowered.gates[:3])
            c = list(map(g, gate(x_t, lowered.gates[3])))
            cells = [a * b + d * e for a, b, d, e in zip(forget, cells, i, c, strict=True)]
            parts = [a * shown(b) for a, b in zip(o, cells, strict=True)]
        found.append(h())
    return np.stack(found)


@pytest.mark.parametrize("variant", VARIANTS)
def test_exactly_these_cells_have_an_obstacle(variant: str) -> None:
    for _, gate, update in (pair for pair in PAIRS if pair[0] == variant):
        _, cell = cell_of(variant, gate, update)
        possible = (variant, gate, update) in EXACT
        assert (obstacle(cell) is None) == possible, (gate, update)
        if not possible:
            with pytest.raises(ValueError, match=r"1 - gate\(a\) = gate\(-a\)|ONNX has no activation quant_tanh"):
                lower(cell)


@pytest.mark.parametrize(
    ("variant", "gate", "update", "reason"),
    [
        ("fastgrnn", "quant_tanh", "tanh", "ONNX has no activation quant_tanh for gates"),
        ("fastgrnn, nu", "relu", "tanh", "nu = 0.1 needs 1 - gate(a) = gate(-a), which relu does not satisfy"),
        ("lstm", "sigmoid", "quant_tanh", "ONNX has no activation quant_tanh, and in a lstm no shift of the state"),
        ("gru", "sigmoid", "quant_tanh", "ONNX has no activation quant_tanh, and in a gru no shift of the state"),
    ],
)
def test_an_obstacle_says_why(variant: str, gate: str, update: str, reason: str) -> None:
    _, cell = cell_of(variant, gate, update)
    assert (obstacle(cell) or "").startswith(reason)


@pytest.mark.parametrize("gate", ALL)
def test_torchs_gru_is_as_gru(gate: str) -> None:
    (cell,) = Plain(nn.GRU(D, H, batch_first=True)).network().cells
    for update in ALL:
        possible = gate not in GATES_WITHOUT["torch_gru"] and update not in UPDATES_WITHOUT["torch_gru"]
        assert (obstacle(replace(cell, gate=gate, update=update)) is None) == possible


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_operator_is_exactly_the_cell(variant: str) -> None:
    x = np.random.default_rng(0).normal(size=(20, 4, D))
    for _, gate, update in (pair for pair in EXACT if pair[0] == variant):
        module, cell = cell_of(variant, gate, update)
        of = oracle.Cell(module)
        expected, _ = of.states(x, of.zeros(4))
        assert np.abs(expected).max() < 1e3, "where states explode, equal ones prove nothing"
        assert networks.error(states(cell, lower(cell), x), expected) < 1e-12, (gate, update)


def test_torchs_gru_is_exactly_the_operator() -> None:
    module = Plain(nn.GRU(D, H, batch_first=True))
    (cell,) = module.network().cells
    x = np.random.default_rng(0).normal(size=(20, 4, D))
    with torch.no_grad():
        expected = module.double().rnn(torch.from_numpy(x.transpose(1, 0, 2)))[0].numpy().transpose(1, 0, 2)
    lowered = lower(cell)
    assert lowered.linear_before_reset == 1
    assert networks.error(states(cell, lowered, x), expected) < 1e-7  # the sum of two biases, in float32


@pytest.mark.parametrize("update", ["tanh", "quant_tanh", "relu"])
@pytest.mark.parametrize("alpha", [0.0, 1e-6, 0.5, 1.0])
@pytest.mark.parametrize("beta", [0.0, 0.5, 0.999, 1.0])
def test_any_alpha_and_beta_are_exact(alpha: float, beta: float, update: str) -> None:
    net = classifier("sigmoid", update, kind="fastrnn", alpha=alpha, beta=beta)
    (cell,) = networks.network(net).cells
    x = np.random.default_rng(0).normal(size=(30, 4, D))
    of = oracle.Cell(net.rnn.cell)
    expected, _ = of.states(x, of.zeros(4))
    found = states(cell, lower(cell), x)
    assert np.abs(found - expected).max() <= 1e-11 * np.abs(expected).max()


@pytest.mark.parametrize("update", ["tanh", "quant_tanh"])
@pytest.mark.parametrize("zeta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("nu", [0.0, 1e-9, 0.5, 1.0])
def test_any_zeta_and_nu_are_exact(zeta: float, nu: float, update: str) -> None:
    net = classifier("sigmoid", update, zeta=zeta, nu=nu)
    (cell,) = networks.network(net).cells
    x = np.random.default_rng(0).normal(size=(30, 4, D))
    of = oracle.Cell(net.rnn.cell)
    expected, _ = of.states(x, of.zeros(4))
    assert np.abs(states(cell, lower(cell), x) - expected).max() <= 1e-12 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize(
    ("variant", "update", "operator", "parts"),
    [
        ("fastrnn", "tanh", "GRU", 1),
        ("fastrnn", "quant_tanh", "GRU", 1),
        ("fastrnn, slow", "tanh", "LSTM", 1),
        ("fastrnn, slow", "quant_tanh", "LSTM", 2),
        ("fastgrnn", "tanh", "GRU", 1),
        ("fastgrnn", "quant_tanh", "GRU", 1),
        ("fastgrnn, nu", "tanh", "LSTM", 2),
        ("fastgrnn, nu", "quant_tanh", "LSTM", 3),
        ("ugrnn", "quant_tanh", "GRU", 1),
        ("gru", "tanh", "GRU", 1),
        ("lstm", "tanh", "LSTM", 1),
    ],
)
def test_the_smallest_operator_is_taken(variant: str, update: str, operator: str, parts: int) -> None:
    _, cell = cell_of(variant, "sigmoid", update)
    lowered = lower(cell)
    assert (lowered.operator, len(lowered.read)) == (operator, parts)


@pytest.mark.parametrize("gate", [name for name in ALL if name != "quant_tanh"])
def test_a_gate_that_is_always_open_is_exactly_one(gate: str) -> None:
    (_, (bias,), _) = lower(cell_of("ugrnn", gate, "tanh")[1]).gates
    assert bias.block is None
    assert NONLINEARITIES[gate](torch.tensor(bias.bias, dtype=torch.float32)).item() == 1.0
    assert activation(*HALF, np.array(SATURATED)) == 1.0


def test_activations_are_onnx_names_of_the_same_functions() -> None:
    a = np.linspace(-4, 4, 81)
    for name, (operator, parameters) in OPERATORS.items():
        assert np.array_equal(activation(operator, parameters, a), oracle.FUNCTIONS[name](a)), name
    assert np.abs(2 * activation(*HALF, a) - 1 - oracle.FUNCTIONS["quant_tanh"](a)).max() < 1e-15
    assert np.array_equal(activation(*IDENTITY, a), a)
