"""The int8 files: the integers, the scales, and that they are used as they should be."""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx
import onnx.inliner
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fastzoo.export.frame import quantize
from fastzoo.export.graph import constants, operators
from fastzoo.export.layouts import Builder, Form
from fastzoo.export.unrolled import split_step
from fastzoo.nn import SequenceClassifier

from . import networks
from .networks import FORM, PAIRS, RANKS, SCALARS, Floats, T, builder, classifier, logits, network, run, windows

FUSED, UNROLLED = FORM["int8", "fused"], FORM["int8", "unrolled"]

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
    assert scale > 0
    assert integers.min() >= -127
    assert np.abs(integers * np.float64(scale) - weight).max() <= 0.50001 * scale
    assert (integers[weight == 0] == 0).all()
    if weight.any():
        assert np.abs(integers).max() == 127


def dequantized(net: SequenceClassifier) -> SequenceClassifier:
    """The torch classifier with zeta = 1 whose matrices are rounded to int8."""
    unit = network(net).unit_zeta()

    def rounded(weight: Floats) -> torch.Tensor:
        integers, scale = quantize(weight)
        return torch.from_numpy(integers * scale)

    config = net.config()
    twin = SequenceClassifier.from_config({**config, "cell": {**config["cell"], "zeta": 1.0}})
    cell, of_twin = unit.cell, twin.rnn.cell
    with torch.no_grad():
        for parameter, factor in zip((*of_twin.w, *of_twin.u), (*cell.w, *cell.u), strict=True):
            parameter.copy_(rounded(factor))
        of_twin.bias_gate.copy_(net.rnn.cell.bias_gate)
        of_twin.bias_update.copy_(net.rnn.cell.bias_update)
        twin.head.weight.copy_(rounded(unit.head_weight.T))
        twin.head.bias.copy_(net.head.bias)
    twin.mean, twin.std = net.mean, net.std
    return twin


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("scalars", ["nu=0", "unit"])
def test_the_fused_file_computes_with_the_rounded_weights_and_nothing_else(ranks: str, scalars: str) -> None:
    net, x = classifier(ranks=RANKS[ranks], **SCALARS[scalars]), windows(20)
    answer = run(builder(net).build(FUSED), x, FUSED)
    assert np.abs(answer - logits(dequantized(net), x)).max() < 1e-5
    assert np.abs(answer - logits(net, x)).max() > 1e-4, "rounding must be visible"


def reference(made: Builder, x: Floats) -> npt.NDArray[np.floating]:
    """The quantized step in onnx's reference implementation, run over the window by hand."""
    step = copy.deepcopy(made.quantized_step)
    step.opset_import[0].version = 21  # the reference implementation has no older DequantizeLinear
    of = made.network
    h: Floats = np.zeros((len(x), of.cell.hidden_size), np.float32)
    states = []
    for x_t in ((x - of.mean) / of.std).transpose(1, 0, 2):
        h = networks.evaluate(step, x=x_t, h=h)
        states.append(h)
    integers, scale = quantize(of.head_weight)
    answer: npt.NDArray[np.floating] = np.mean(states[-of.pool :], axis=0) @ (integers * scale) + of.head_bias
    return answer


@pytest.mark.parametrize(("gate", "update"), PAIRS)
@pytest.mark.parametrize("scalars", ["nu>0", "nu=0"])
def test_the_unrolled_file_is_the_quantized_step_repeated(gate: str, update: str, scalars: str) -> None:
    made, x = builder(classifier(gate, update, **SCALARS[scalars])), windows(20)
    assert np.abs(run(made.build(UNROLLED), x) - reference(made, x)).max() < 1e-5


@pytest.mark.parametrize("form", [FUSED, UNROLLED], ids=["fused", "unrolled"])
@pytest.mark.parametrize("ranks", RANKS)
def test_eight_bits_are_near_enough(form: Form, ranks: str) -> None:
    net, x = classifier(ranks=RANKS[ranks], nu=0.0), windows(200)
    answer, exact = run(builder(net).build(form), x, form), logits(net, x)
    assert np.abs(answer - exact).max() < 0.05
    assert (answer.argmax(1) == exact.argmax(1)).mean() > 0.95


@pytest.mark.parametrize("ranks", RANKS)
def test_both_layouts_hold_the_same_integers_and_scales(ranks: str) -> None:
    made = builder(classifier(ranks=RANKS[ranks], nu=0.0))
    one, other = constants(made.build(FUSED)), constants(made.build(UNROLLED))
    matrices = [name for name in one if name.endswith("_quantized")]
    assert len(matrices) == sum(1 if rank is None else 2 for rank in RANKS[ranks]) + 1
    for name in (*matrices, *(name.replace("_quantized", "_scale") for name in matrices)):
        assert np.array_equal(one[name], other[name]), name
        assert one[name].dtype == other[name].dtype


@pytest.mark.parametrize("form", [FUSED, UNROLLED], ids=["fused", "unrolled"])
def test_zeros_stay_zeros(form: Form) -> None:
    net = classifier(nu=0.0)
    with torch.no_grad():
        for weight in (*net.rnn.cell.w, *net.rnn.cell.u, net.head.weight):
            weight[torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.5] = 0
    unit = network(net).unit_zeta()
    stored = constants(builder(net).build(form))
    for name, matrix in unit.matrices().items():
        zero = matrix == 0
        assert zero.any(), name
        assert (stored[f"{name}_quantized"][zero] == 0).all()
        assert stored[f"{name}_zero_point"] == 0


@pytest.mark.parametrize("which", ["W1", "W2", "U1", "U2", "head", "all", "zeta"])
def test_a_matrix_of_zeros_is_no_trouble(which: str) -> None:
    net, x = classifier(nu=0.0, zeta=0.0 if which == "zeta" else None), windows(5)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.dim() == 2 and (which == "all" or which in name):
                parameter.zero_()
    made = builder(net)
    for form in (FUSED, UNROLLED):
        answer = run(made.build(form), x, form)
        assert np.isfinite(answer).all()
        assert np.abs(answer - logits(net, x)).max() < 0.05


def test_scales_are_shared_over_time() -> None:
    net = classifier(nu=0.0)
    step_scales = {name for name in constants(builder(net).quantized_step) if name.endswith("_scale")}
    assert {"W1_scale", "W2_scale", "U1_scale", "U2_scale", "h_scale"} < step_scales
    for steps in (3, 40):
        model = onnx.inliner.inline_local_functions(builder(net, steps).build(UNROLLED))
        rounding = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
        assert len(rounding) > 5 * steps
        assert {node.input[1] for node in rounding} == step_scales | {"head_scale"}


def test_ranges_are_those_of_the_calibration() -> None:
    net = classifier(ranks=(None, None), nu=0.0)
    made = builder(net)
    unit, stored = made.network, constants(made.quantized_step)
    seen = (made.calibration - unit.mean) / unit.std
    states: list[Floats] = [np.zeros((len(seen), networks.H), np.float32)]
    for x_t in seen.transpose(1, 0, 2)[:-1]:
        states.append(networks.evaluate(made.step, x=x_t, h=states[-1]))
    scale, zero_point = float(stored["h_scale"]), int(stored["h_zero_point"])
    assert scale * (255 - zero_point) == pytest.approx(np.max(states), abs=scale)
    assert scale * -zero_point == pytest.approx(np.min(states), abs=scale)


def readers(model: onnx.ModelProto, name: str) -> Iterator[onnx.NodeProto]:
    return (node for node in model.graph.node if name in node.input)


@pytest.mark.parametrize("scalars", ["nu>0", "nu=0"])
@pytest.mark.parametrize("ranks", RANKS)
def test_only_products_read_the_eight_bit_state(ranks: str, scalars: str) -> None:
    made = builder(classifier(ranks=RANKS[ranks], **SCALARS[scalars]))
    exact = {node.op_type for node in readers(made.quantized_step, "h")}
    assert exact == {"QuantizeLinear", "Sub" if scalars == "nu=0" else "Mul"}
    for node in made.quantized_step.graph.node:
        if node.op_type == "DequantizeLinear":
            product = "Gemm" if node.input[0].startswith("W") else "MatMul"
            assert {reader.op_type for reader in readers(made.quantized_step, node.output[0])} == {product}


@pytest.mark.parametrize("inline", [False, True])
def test_every_product_is_quantized_in_every_step(inline: bool) -> None:
    counts = operators(builder(classifier(nu=0.0), inline=inline).build(UNROLLED))  # low rank: two products each
    assert counts["QuantizeLinear"] == 2 * T
    assert counts["MatMul"] == 2 * T
    assert counts["Gemm"] == 2 + 1  # of x, for all steps at once; head
    assert counts["DequantizeLinear"] == 2 + 1 + T * (2 + 2)  # their weights; weights and activations in every step


def test_samples_stay_in_fp32() -> None:
    made = builder(classifier(nu=0.0))
    hoisted, _ = split_step(made.quantized_step)
    assert [node.op_type for node in hoisted] == ["DequantizeLinear", "DequantizeLinear", "Gemm", "Gemm", "Add"]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        onnxruntime.InferenceSession(made.build(UNROLLED).SerializeToString(), options, ["CPUExecutionProvider"])
        optimized = onnx.load(options.optimized_model_filepath)
    assert not {node.op_type for node in optimized.graph.node} & {"MatMulNBits", "DynamicQuantizeMatMul"}


def test_quantizing_leaves_the_step_and_the_logging_alone() -> None:
    made = builder(classifier(nu=0.0))
    before, disabled = made.step.SerializeToString(), logging.root.manager.disable
    quantized = made.quantized_step
    assert made.step.SerializeToString() == before
    assert made.quantized_step is quantized
    assert logging.root.manager.disable == disabled


@pytest.mark.parametrize("sizes", [(3, 5, 4), (6, 32, 6), (9, 64, 6), (32, 128, 32)], ids=str)
@pytest.mark.parametrize("full", [True, False])
def test_the_fused_file_needs_its_session_setting_for_speed_only(sizes: tuple[int, int, int], full: bool) -> None:
    ranks = (None, None) if full else (3, 4)
    net = classifier(ranks=ranks, sizes=sizes, nu=0.0)
    model, x = builder(net).build(FUSED), windows(3, net)
    assert FUSED.session == {"session.disable_quant_qdq": "1"}
    assert np.abs(run(model, x, FUSED) - run(model, x)).max() < 1e-5
