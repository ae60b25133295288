"""Recurrences in integers: what every byte means, by hand and by onnx's own implementation, step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from nn import oracle
from onnx import TensorProto

from fastzoo.export import reference
from fastzoo.export.calibrate import Calibration
from fastzoo.export.integers import CLIP, CURVES, SIGMOID, IntegerWriter, Value
from fastzoo.export.layouts import INTEGERS, Builder, Form, Scheme, obstacles
from fastzoo.export.network import Cell, Network
from fastzoo.export.step import Levels, Step
from fastzoo.export.weights import Int8
from fastzoo.nn import NONLINEARITIES

from . import networks
from .networks import LOOPS, STACKS, VARIANTS, D, Doubles, Floats, H, builder, classifier, run, windows

SCHEME = Scheme(INTEGERS)
Bytes = npt.NDArray[np.uint8]
variants = pytest.mark.parametrize("variant", VARIANTS)


def levels_of(network: Network, x: Floats) -> dict[str, Levels]:
    (cell,) = network.cells
    return Calibration(network, x).levels(0, IntegerWriter(cell, "", Int8(), None))


def to_bytes(a: Doubles, levels: Levels) -> Bytes:
    scale = np.float32(levels.scale)
    integers: Bytes = np.clip(np.rint(a.astype(np.float32) / scale) + levels.zero, 0, 255).astype(np.uint8)
    return integers


def to_real(a: Bytes, levels: Levels) -> Doubles:
    real: Doubles = levels.scale * (a.astype(np.float64) - levels.zero)
    return real


def test_a_fastgrnn_by_hand() -> None:
    """The eight operators of :mod:`fastzoo.export.integers`, written out."""
    net, x = classifier(nu=0.0), windows(20)
    made = builder(net)
    levels, of = levels_of(made.network, made.windows), networks.rounded(made.network, Int8())
    (cell,), u1, u2 = of.cells, *(factor.astype(np.float64) for factor in of.cells[0].u)
    gate, update = cell.biases.astype(np.float64)
    u2 = np.concatenate([u2, -u2, 2 * u2], axis=1)
    h: Bytes = np.full((len(x), H), levels["h"].zero, np.uint8)
    states = []
    for x_t in ((x.astype(np.float64) - of.mean) / of.std).transpose(1, 0, 2):
        pre = x_t @ networks.product(cell.w)
        driven = to_bytes(np.concatenate([pre + gate, -pre - gate, 2 * (pre + update)], axis=1), levels["driven1"])
        inner = to_bytes(to_real(h, levels["h"]) @ u1, levels["inner1"])
        outer = to_bytes(to_real(inner, levels["inner1"]) @ u2, levels["outer1"])
        total = to_bytes(to_real(outer, levels["outer1"]) + to_real(driven, levels["driven1"]), levels["sum1"])
        sigmoid = to_bytes(1 / (1 + np.exp(-to_real(total, levels["sum1"]))), SIGMOID)
        z, rest, c = np.split(to_real(sigmoid, SIGMOID), 3, axis=1)
        new = to_bytes(rest * (2 * c - 1), levels["product1"])
        kept = to_bytes(z * to_real(h, levels["h"]), levels["product2"])
        h = to_bytes(to_real(new, levels["product1"]) + to_real(kept, levels["product2"]), levels["h"])
        states.append(to_real(h, levels["h"]))
    expected = np.mean(states[-of.pool :], axis=0) @ of.head_weight + of.head_bias
    for layout in LOOPS:
        found = run(made.build(Form("int8", layout, SCHEME)), x)
        # A tie between two levels may be broken either way in float32: in a window or two of the twenty.
        assert (np.abs(found - expected).max(axis=1) > 1e-5).sum() <= 1, layout
        assert networks.error(found, expected) < 0.05


def by_hand(step: Step, x: Floats) -> tuple[Bytes, list[Bytes]]:
    """A step of bytes in onnx's own implementation, over x [T, N, D] -> all h [T, N, H], and the last state."""
    model = step.model()
    state = [np.full((x.shape[1], port.size), port.zero) for port in step.states]
    each = []
    for x_t in x:
        names = [step.x, *(port.name for port in step.states)]
        state = reference.evaluate(model, dict(zip(names, [x_t, *state], strict=True)))
        assert all(part.dtype == np.uint8 for part in state)
        each.append(state[0])
    return np.stack(each), state


@variants
def test_files_repeat_the_step(variant: str) -> None:
    """Of two layers, for every pair of nonlinearities: onnx's implementation of the steps, one call after the other."""
    for gate, update in networks.pairs(VARIANTS[variant]["kind"]):
        net, x = classifier(gate, update, **VARIANTS[variant], num_layers=2), windows(3)
        made = builder(net)
        network, sequence = made.network, ((x - made.network.mean) / made.network.std).transpose(1, 0, 2)
        for step in made.steps(SCHEME):
            states, _ = by_hand(step, sequence)
            levels = step.states[0].levels
            assert levels is not None
            sequence = to_real(states, levels).astype(np.float32)
        head = networks.rounded(network, Int8()).head_weight
        expected = sequence[-network.pool :].mean(axis=0) @ head + network.head_bias
        for layout in LOOPS:
            found = run(made.build(Form("int8", layout, SCHEME)), x, optimised=False)
            assert networks.error(found, expected) < 1e-5, (gate, update, layout)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("stack", STACKS)
@variants
def test_scan_is_unrolled_is_step(variant: str, stack: str, per_channel: bool) -> None:
    """Every answer, for the operators and their order are the same."""
    scheme = replace(SCHEME, per_channel=per_channel)
    for gate, update in [("sigmoid", "tanh"), ("quant_sigmoid", "quant_tanh")]:
        if VARIANTS[variant]["kind"] == "fastrnn":
            gate = "sigmoid"
        net, x = classifier(gate, update, **VARIANTS[variant], **STACKS[stack]), windows(20)
        made = builder(net)
        existing = [name for name in LOOPS if name not in obstacles(made.network)]
        for optimised in (True, False):
            answers = [run(made.build(Form("int8", name, scheme)), x, optimised=optimised) for name in existing]
            assert all(networks.error(answer, answers[0]) < 1e-6 for answer in answers)
        # Fused kernels may round half-way values otherwise than operators one by one do: few windows, by little.
        fused = run(made.build(Form("int8", "scan", scheme)), x)
        assert networks.error(fused, answers[0]) < 0.02
        assert (np.abs(fused - answers[0]).max(axis=1) > 1e-5).mean() <= 0.4


@variants
def test_what_recurs_is_bytes(variant: str) -> None:
    """Each operator of numbers reads DequantizeLinear and is read by QuantizeLinear alone, so runtimes can fuse it."""
    for gate, update in networks.pairs(VARIANTS[variant]["kind"]):
        (step,) = builder(classifier(gate, update, **VARIANTS[variant])).steps(SCHEME)
        assert all(port.dtype == TensorProto.UINT8 for port in (*step.states, *step.driven))
        made = {name: node for node in (*step.shared, *step.recur) for name in node.output}
        for node in step.recur:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Split"):
                continue
            inputs = [name for name in node.input if name not in ("one", "low", "high")]
            assert {made[name].op_type for name in inputs} == {"DequantizeLinear"}, node
            readers = [n.op_type for n in step.recur if node.output[0] in n.input]
            assert readers == ["QuantizeLinear"], node


def test_a_complement_is_a_curve_where_it_can_be() -> None:
    """1 - sigmoid(a) = sigmoid(-a): otherwise it needs an operator that runtimes do not fuse."""
    for gate in NONLINEARITIES:
        (step,) = builder(classifier(gate, nu=0.0)).steps(SCHEME)
        symmetric = np.allclose(
            1 - oracle.FUNCTIONS[gate](np.linspace(-3, 3)), oracle.FUNCTIONS[gate](np.linspace(3, -3))
        )
        assert ("Sub" not in {node.op_type for node in step.recur}) == symmetric, gate


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_a_nonlinearity_is_a_curve(name: str) -> None:
    curve, a = CURVES[name], np.linspace(-5, 5, 101)
    shapes = {
        "sigmoid": oracle.FUNCTIONS["sigmoid"],
        "clip": oracle.FUNCTIONS["quant_tanh"],
        "relu": oracle.FUNCTIONS["relu"],
    }
    found = curve.scale * shapes[curve.shape](curve.factor * a) + curve.shift
    assert np.abs(found - oracle.FUNCTIONS[name](a)).max() < 1e-15
    assert CURVES.keys() == NONLINEARITIES.keys()


def writer(levels: dict[str, Levels] | None = None) -> IntegerWriter:
    (cell,) = networks.network(classifier()).cells
    return IntegerWriter(cell, "", Int8(), levels or {})


@pytest.mark.parametrize(
    ("levels", "name", "zero_one"),
    [(SIGMOID, "sigmoid", (0, 254)), (SIGMOID, "tanh", (127, 254)), (CLIP, "quant_tanh", (128, 255))],
)
def test_0_and_1_are_levels(levels: Levels, name: str, zero_one: tuple[int, int]) -> None:
    """And what lies beyond is never taken, or a gate would let the state grow."""
    curve, of = CURVES[name], writer()
    read = of._read(Value("bytes", levels), curve)
    assert read.levels is not None
    assert read.name == "bytes"
    assert not of.op.nodes, "an affine function of bytes is another scale and zero point"
    assert [round(value / read.levels.scale) + read.levels.zero for value in (0, 1)] == list(zero_one)
    one = read.levels.scale * (zero_one[1] - read.levels.zero)
    assert one == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("factor", [0.05, -0.5, 1.0, 3.0])
@pytest.mark.parametrize("shift", [0.0, 0.1, -2.0])
def test_an_affine_function_is_the_same_bytes_or_an_operator(factor: float, shift: float) -> None:
    given, wide = Levels(float(np.float32(0.01)), 100), Levels(float(np.float32(0.05)), 128)
    of = writer({"affine1": wide})
    found = of.affine(Value("bytes", given), factor, shift)
    assert found.levels is not None
    zero = 100 - shift / (factor * given.scale)
    if abs(zero - round(zero)) < 1e-3 and 0 <= zero <= 255:
        assert found.name == "bytes"
        integers = np.arange(256)
        real = found.levels.scale * (integers - found.levels.zero)
        assert np.abs(real - (factor * given.scale * (integers - 100) + shift)).max() < 1e-5
    else:
        assert found.name != "bytes"
        assert found.levels == wide


@pytest.mark.parametrize(
    "arguments",
    [
        {"kind": "fastrnn", "alpha": 0.3, "beta": 0.0},
        {"kind": "fastrnn", "alpha": 0.0, "beta": 0.9},
        {"kind": "fastrnn", "alpha": 1.0, "beta": 1.0},
        {"kind": "fastrnn", "alpha": 1e-6, "beta": 0.999},
        {"zeta": 0.0, "nu": 0.5},
        {"zeta": 0.0, "nu": 0.0},
        {"zeta": 1.0, "nu": 1.0},
        {"zeta": 0.5, "nu": 1e-6},
        {"zeta": 1e-6, "nu": 0.0},
    ],
    ids=str,
)
def test_scalars_at_the_ends_of_their_range(arguments: dict[str, Any]) -> None:
    net, x = classifier(**arguments), windows(20)
    made, answers = builder(net), []
    for layout in LOOPS:
        answers.append(run(made.build(Form("int8", layout, SCHEME)), x))
        onnx.checker.check_model(made.build(Form("int8", layout, SCHEME)), full_check=True)
    assert networks.error(answers[0], networks.exact(net, x)) < 0.1
    assert all(networks.error(answer, answers[0]) < 1e-5 for answer in answers)


def test_samples_beyond_the_calibration_saturate() -> None:
    """They neither wrap around nor push the state out of what its bytes mean."""
    for variant in VARIANTS.values():
        net = classifier(**variant)
        made = builder(net)
        (step,) = made.steps(SCHEME)
        x = 100 * np.random.default_rng(0).normal(size=(5, 4, D)).astype(np.float32)
        states, _ = by_hand(step, x)
        levels = step.states[0].levels
        assert levels is not None
        raw = (x.transpose(1, 0, 2) * made.network.std + made.network.mean).astype(np.float32)
        of = oracle.Cell(net.rnn.cell)
        expected, _ = of.states(x.astype(np.float64), of.zeros(4))
        if variant["kind"] in ("ugrnn", "gru", "lstm") or variant.get("nu") == 0:  # bounded: saturation does no harm
            scale = (
                made.network.cells[0].scalars.get("zeta", 1.0) / net.rnn.cell.zeta.item() if "nu" in variant else 1.0
            )
            assert np.abs(to_real(states, levels) - scale * expected).max() < 0.8
        small = replace(made.network, steps=5)
        found = run(Builder(small, made.windows).build(Form("int8", "scan", SCHEME)), raw)
        assert np.abs(found).max() < 10


def test_the_state_of_an_lstm_is_two_tensors_of_bytes() -> None:
    (step,) = builder(classifier(kind="lstm")).steps(SCHEME)
    h, c = (port.levels for port in step.states)
    assert h is not None
    assert c is not None
    assert h != c, "each has its own range"


def constant_columns(cell: Cell) -> Cell:
    """Blocks of U of very different sizes, which one scale for all would spoil."""
    *first, last = cell.u
    sizes = np.repeat([0.01, 1.0, 1.0, 1.0][: last.shape[1] // H], H).astype(np.float32)
    return replace(cell, u=(*first, last * sizes))


@pytest.mark.parametrize("variant", ["ugrnn", "gru", "lstm"])
def test_per_channel_scales_follow_their_columns(variant: str) -> None:
    """Blocks are reordered by shape and some are negated: each must keep its own scale."""
    net, x = classifier("quant_sigmoid", **VARIANTS[variant]), windows(50)
    network = networks.network(net)
    made = Builder(replace(network, cells=(constant_columns(network.cells[0]),)), windows(40, net, seed=2))
    expected = networks.evaluate(made.network, x)
    for kind in ("products", "integers"):
        errors = [
            networks.error(run(made.build(Form("int8", "scan", Scheme(kind, per_channel=per))), x), expected)
            for per in (False, True)
        ]
        assert errors[1] < {"products": 0.01, "integers": 0.1}[kind]
