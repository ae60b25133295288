"""Weights in 8 bits, and recurrent products in 8 bits around a float32 state; ``integers`` has its own tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import nn

from fastzoo.export import reference
from fastzoo.export.calibrate import Calibration, Method
from fastzoo.export.floats import FloatWriter
from fastzoo.export.graph import constants, operators
from fastzoo.export.kernels import optimised
from fastzoo.export.layouts import INTEGERS, LAYOUTS, PRODUCTS, WEIGHTS, Builder, Form, Scheme, forms, obstacles
from fastzoo.export.network import Cell
from fastzoo.export.step import Levels
from fastzoo.export.unrolled import flat
from fastzoo.export.weights import Int8, quantize
from fastzoo.nn import SequenceClassifier

from . import networks
from .networks import (
    LOOPS,
    RANKS,
    SCHEMES,
    STACKS,
    VARIANTS,
    Doubles,
    Floats,
    H,
    InDoubles,
    Plain,
    T,
    builder,
    classifier,
    run,
    windows,
)

variants = pytest.mark.parametrize("variant", VARIANTS)
stacks = pytest.mark.parametrize("stack", STACKS)
per_channel = pytest.mark.parametrize("per_channel", [False, True])
schemes = pytest.mark.parametrize("kind", SCHEMES)

weights = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.just(0.0) | st.floats(2**-60, 2**60, width=32) | st.floats(-(2**60), -(2**-60), width=32),
)


@given(weights)
def test_rounding_is_to_the_nearest_of_255_levels(weight: Floats) -> None:
    integers, scale = quantize(weight)
    assert integers.dtype == np.int8
    assert scale.dtype == np.float32
    assert scale.shape == ()
    assert scale > 0
    assert integers.min() >= -127
    assert np.abs(integers * np.float64(scale) - weight).max() <= 0.50001 * scale
    assert (integers[weight == 0] == 0).all()
    if weight.any():
        assert np.abs(integers).max() == 127


@given(weights, st.sampled_from([0, 1]))
def test_a_scale_for_each_channel_is_each_channel_alone(weight: Floats, axis: int) -> None:
    integers, scale = quantize(weight, axis)
    assert scale.shape == (weight.shape[axis],)
    for i, channel in enumerate(np.split(weight, weight.shape[axis], axis)):
        alone, of_alone = quantize(channel)
        assert np.array_equal(np.take(integers, [i], axis), alone)
        assert scale[i] == of_alone


# What is stored.


def files(net: SequenceClassifier, scheme: Scheme) -> dict[str, onnx.ModelProto]:
    """All int8 files of a scheme; of ``fused``, whose arithmetic is fp32, that of the weights alone."""
    made = builder(net)
    return {
        layout: made.build(
            Form("int8", layout, scheme if layout != "fused" else Scheme(per_channel=scheme.per_channel))
        )
        for layout in LAYOUTS
        if layout not in obstacles(made.network)
    }


@per_channel
@stacks
@variants
def test_all_layouts_hold_the_same_integers_and_scales(variant: str, stack: str, per_channel: bool) -> None:
    net = classifier(**VARIANTS[variant], **STACKS[stack])
    matrices = builder(net).network.matrices()
    for scheme in SCHEMES.values():
        for layout, model in files(net, replace(scheme, per_channel=per_channel)).items():
            stored = constants(model)
            assert {name for name in stored if name.endswith("_quantized")} == {f"{n}_quantized" for n in matrices}
            for name, matrix in matrices.items():
                integers, scale = Int8(per_channel).quantized(matrix)
                assert np.array_equal(stored[f"{name}_quantized"], integers), (scheme, layout, name)
                scales = {key: value for key, value in stored.items() if key.startswith(f"{name}_scale")}
                assert all(set(value.ravel()) <= multiples(scale) for value in scales.values()), (scheme, layout, name)


def multiples(scale: Floats) -> set[Any]:
    """A curve may read a product with another factor: tanh(a) = 2 sigmoid(2 a) - 1."""
    return {value * np.float32(factor) for value in scale.ravel() for factor in (0.5, 1, 2)}


@schemes
@variants
def test_zeros_stay_zeros(variant: str, kind: str) -> None:
    net = classifier(**VARIANTS[variant])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in (*net.rnn.cell.w, *net.rnn.cell.u, net.head.weight):
            weight[torch.rand(weight.shape, generator=generator) < 0.5] = 0
    for model in files(net, SCHEMES[kind]).values():
        stored = constants(model)
        for name, matrix in builder(net).network.matrices().items():
            zero = matrix == 0
            assert zero.any(), name
            assert (stored[f"{name}_quantized"][zero] == 0).all()
        points = [node.input[2] for node in operators_of(model) if node.input[0].endswith("_quantized")]
        assert points
        assert all(not stored[name].any() for name in points), "and integer 0 means 0"


def operators_of(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """All DequantizeLinear outside of loops and functions."""
    graphs = [flat(model).graph]
    graphs += [a.g for node in graphs[0].node for a in node.attribute if a.HasField("g")]
    return [node for graph in graphs for node in graph.node if node.op_type == "DequantizeLinear"]


@pytest.mark.parametrize("which", ["W1", "W2", "U1", "U2", "head", "all"])
@per_channel
@schemes
def test_a_matrix_of_zeros_is_no_trouble(kind: str, per_channel: bool, which: str) -> None:
    net, x = classifier(nu=0.0), windows(5)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.dim() == 2 and (which == "all" or which in name):
                parameter.zero_()
    for layout, model in files(net, replace(SCHEMES[kind], per_channel=per_channel)).items():
        assert np.abs(run(model, x, Form("int8", layout, Scheme(kind))) - networks.exact(net, x)).max() < 0.05, layout


def test_a_state_that_is_always_zero_is_no_trouble() -> None:
    net, x = classifier(zeta=0.0, nu=0.0), windows(5)
    for kind, scheme in SCHEMES.items():
        for layout, model in files(net, scheme).items():
            answer = run(model, x, Form("int8", layout, Scheme(kind)))
            assert np.abs(answer - networks.exact(net, x)).max() < 0.05, (kind, layout)


def test_scales_are_shared_over_time() -> None:
    net = classifier(nu=0.0)
    for scheme in (SCHEMES[PRODUCTS], SCHEMES[INTEGERS]):
        used = []
        for steps in (3, 40):
            made = builder(net, steps)
            made.windows = windows(40, net, 3, seed=2)  # whose ranges do not depend on the length
            model = flat(made.build(Form("int8", "unrolled", scheme)))
            rounding = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
            assert len(rounding) > 5 * steps
            used.append({tuple(node.input[1:]) for node in rounding})
        assert used[0] == used[1]


# What is computed.


@pytest.mark.parametrize("rank", RANKS)
@per_channel
@variants
def test_weights_alone_are_the_network_with_rounded_matrices(variant: str, per_channel: bool, rank: str) -> None:
    x = windows(20)
    for stack in STACKS.values():
        net = classifier(ranks=RANKS[rank], **VARIANTS[variant], **stack)
        expected = networks.evaluate(networks.rounded(builder(net).network, Int8(per_channel)), x)
        scheme = Scheme(per_channel=per_channel)
        for layout, model in files(net, scheme).items():
            form = Form("int8", layout, scheme)
            for entries in (form, None):  # the session setting is for speed alone
                assert networks.error(run(model, x, entries), expected) < 1e-5, (layout, stack)
        assert networks.error(expected, networks.exact(net, x)) > 1e-4, "rounding must be visible"


def test_the_twin_in_torch_agrees() -> None:
    """The same said once more with torch's own modules."""
    net, x = classifier(zeta=1.0, nu=0.0), windows(20)
    model = builder(net).build(Form("int8", "fused", Scheme()))
    with torch.no_grad():
        for weight in (*net.rnn.cell.w, *net.rnn.cell.u, net.head.weight):
            integers, scale = quantize(weight.numpy())
            weight.copy_(torch.from_numpy(integers * scale))
    assert networks.error(run(model, x), networks.logits(net, x)) < 1e-5


class Rounding(InDoubles):
    """What each recurrent product reads is rounded to a byte."""

    def __init__(self, cell: Cell, levels: dict[str, Levels]) -> None:
        super().__init__(cell)
        self.levels, self.h = levels, np.zeros(())

    def activate(self, h: Doubles, blocks: Any) -> list[Doubles]:
        self.reading = "rh" if len(blocks) == 1 and self.cell.kind == "gru" else "h"
        return super().activate(h, blocks)

    def product(self, h: Doubles, columns: int, bias: Any = None) -> Doubles:
        *first, last = self.cell.u
        reading = self.reading if self.cell.kind == "gru" else "h"
        for i, factor in enumerate(first):
            h = rounded(h, self.levels[f"{reading}U{i}" if i else reading]) @ factor
        h = rounded(h, self.levels[f"{reading}U{len(first)}" if first else reading])
        size = self.cell.hidden_size
        result: Doubles = h @ last[:, columns * size : (columns + 1) * size] + (0 if bias is None else bias)
        return result


def rounded(a: Doubles, levels: Levels) -> Doubles:
    integers: Doubles = np.clip(np.rint(a / levels.scale) + levels.zero, 0, 255)
    return levels.scale * (integers - levels.zero)


@pytest.mark.parametrize("rank", ["full", "U", "W,U"])
@per_channel
@variants
def test_products_are_those_of_rounded_operands(variant: str, per_channel: bool, rank: str) -> None:
    """By hand, in NumPy: the state and everything else is exact."""
    x, scheme = windows(20), Scheme(PRODUCTS, per_channel=per_channel)
    for stack in STACKS.values():
        net = classifier(ranks=RANKS[rank], **VARIANTS[variant], **stack)
        made = builder(net)
        calibration = Calibration(made.network, made.windows)
        twin = networks.rounded(made.network, Int8(per_channel))
        cells = [
            Rounding(cell, calibration.levels(i, FloatWriter(made.network.cells[i])))
            for i, cell in enumerate(twin.cells)
        ]
        expected = networks.evaluate(twin, x, cells)
        for layout in LOOPS:
            if layout not in obstacles(made.network):
                found = run(made.build(Form("int8", layout, scheme)), x)
                # A tie between two levels may be broken either way in float32: in a window or two of the twenty.
                off = np.abs(found - expected).max(axis=1) > 1e-5 * np.abs(expected).max()
                assert off.sum() <= 1, (layout, stack)
                assert networks.error(found, expected) < 0.02
        exact = networks.evaluate(twin, x)
        assert networks.error(expected, exact) > 2e-5, "rounding must be visible"


@schemes
@per_channel
@stacks
@variants
def test_the_step_is_the_same_in_every_layout(variant: str, stack: str, per_channel: bool, kind: str) -> None:
    net, x = classifier(**VARIANTS[variant], **STACKS[stack]), windows(20)
    scheme = replace(SCHEMES[kind], per_channel=per_channel)
    answers = {
        layout: run(model, x, Form("int8", layout, scheme))
        for layout, model in files(net, scheme).items()
        if layout != "fused"
    }
    assert len(answers) == 2 + (not net.rnn.bidirectional)
    for layout, answer in answers.items():
        assert networks.error(answer, answers["scan"]) < 1e-6, layout


@schemes
@pytest.mark.parametrize("of", [nn.GRU, nn.LSTM, nn.RNN])
def test_torchs_own_recurrences_in_8_bits(of: Any, kind: str) -> None:
    for stack in STACKS.values():
        module = Plain(of(networks.D, H, batch_first=True, **stack))
        x = np.random.default_rng(0).normal(size=(40, 9, networks.D)).astype(np.float32)
        made, answers = Builder(module.network(9), x), []
        for layout in LOOPS:
            if layout not in obstacles(made.network):
                form = Form("int8", layout, SCHEMES[kind])
                answers.append(run(made.build(form), x, form, pool=1))
        assert networks.error(answers[0], module.exact(x)) < 0.1
        assert all(networks.error(answer, answers[0]) < 1e-5 for answer in answers), stack


@schemes
@variants
def test_onnxs_own_implementation_agrees(variant: str, kind: str) -> None:
    x = windows(2)
    for gate, update in [("sigmoid", "tanh"), ("quant_sigmoid", "quant_tanh"), ("sigmoid", "relu")]:
        if VARIANTS[variant]["kind"] == "fastrnn":
            gate = "sigmoid"
        net = classifier(gate, update, **VARIANTS[variant], num_layers=2)
        model = builder(net).build(Form("int8", "scan", SCHEMES[kind]))
        plainly = run(model, x, optimised=False)
        assert networks.error(reference.evaluate(model, {"x": x})[0], plainly) < 1e-5, (gate, update)


@schemes
@variants
def test_eight_bits_are_near_enough(variant: str, kind: str) -> None:
    """Less than a class in twenty changes, of networks that were not even trained."""
    for rank in RANKS.values():
        net, x = classifier(ranks=rank, **VARIANTS[variant]), windows(200)
        answer, exact = run(builder(net).build(Form("int8", "scan", SCHEMES[kind])), x), networks.exact(net, x)
        assert networks.error(answer, exact) < {WEIGHTS: 0.03, PRODUCTS: 0.03, INTEGERS: 0.15}[kind]
        assert (answer.argmax(1) == exact.argmax(1)).mean() > 0.95


# How it is computed.


def readers(model: onnx.ModelProto, name: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if name in node.input]


@pytest.mark.parametrize("rank", RANKS)
@variants
def test_only_products_read_the_eight_bit_state(variant: str, rank: str) -> None:
    (step,) = builder(classifier(ranks=RANKS[rank], **VARIANTS[variant])).steps(SCHEMES[PRODUCTS])
    model = step.model()
    assert {port.levels for port in step.states} == {None}
    product = {"W": {"Gemm"}, "U": {"MatMul"}}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            whose = node.input[0][0] if node.input[0][0] in "WU" else "U"
            seen = {reader.op_type for reader in readers(model, node.output[0])}
            while seen & {"Slice", "Concat"}:  # blocks of columns
                seen = {r.op_type for s in readers(model, node.output[0]) for r in readers(model, s.output[0])}
                seen -= {"Slice", "Concat"}
            assert seen <= product[whose], node


@pytest.mark.parametrize("inline", [False, True])
def test_every_product_is_quantized_in_every_step(inline: bool) -> None:
    counts = operators(builder(classifier(nu=0.0), inline=inline).build(Form("int8", "unrolled", SCHEMES[PRODUCTS])))
    assert counts["QuantizeLinear"] == 2 * T  # low rank: two products each
    assert counts["MatMul"] == 2 * T
    assert counts["Gemm"] == 2 + 1  # of x, for all steps at once; head
    assert counts["DequantizeLinear"] == 2 + 1 + T * (2 + 2)  # their weights; weights and activations in every step


@pytest.mark.parametrize("sizes", [(3, 5, 4), (9, 64, 6), (32, 128, 32)], ids=str)
@pytest.mark.parametrize("variant", ["fastrnn", "fastgrnn", "fastgrnn, nu", "gru", "lstm"])
def test_no_optimisation_rounds_what_is_not_rounded_in_the_file(variant: str, sizes: tuple[int, int, int]) -> None:
    """onnxruntime turns many a product of int8 weights into MatMulNBits, which rounds samples and states to 8 bits."""
    net = classifier(sizes=sizes, ranks=(3, 4), **VARIANTS[variant])
    made, x = builder(net, 3), windows(3, net, 3)
    for scheme in SCHEMES.values():
        for form in forms(made.network, None, ("int8",), scheme, LOOPS):
            model = made.build(form)
            for entries in ({}, form.session):
                kernels = {node.op_type for node in all_nodes(optimised(model, entries).graph)}
                assert not kernels & {"MatMulNBits", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}, (form, entries)
            if scheme.kind == WEIGHTS:
                assert networks.error(run(model, x), run(model, x, form)) < 1e-5


def all_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    inner = [n for node in graph.node for a in node.attribute if a.HasField("g") for n in all_nodes(a.g)]
    return [*graph.node, *inner]


def test_steps_are_calibrated_once_for_all_layouts() -> None:
    made = builder(classifier(num_layers=2))
    for kind, scheme in SCHEMES.items():
        assert made.steps(scheme) is made.steps(scheme)
        assert made.steps(replace(scheme, signed=True)) is made.steps(scheme), "signs are turned in the finished file"
        assert made.steps(replace(scheme, per_channel=True)) is not made.steps(scheme), kind
    assert made.steps(SCHEMES[PRODUCTS]) is not made.steps(Scheme(PRODUCTS, Method(99.0)))


def test_an_lstm_keeps_its_cell_state_wide() -> None:
    (step,) = builder(classifier(kind="lstm")).steps(SCHEMES[PRODUCTS])
    assert [(port.name, port.size, port.levels) for port in step.states] == [("h", H, None), ("c", H, None)]
