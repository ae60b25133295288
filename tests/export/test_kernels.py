"""How many kernels a step costs in onnxruntime, once it has fused what it can."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastzoo.export.kernels import FREE, kernels_of_a_step, optimised
from fastzoo.export.layouts import INTEGERS, LAYOUTS, PRODUCTS, WEIGHTS, Form, Scheme, obstacles
from fastzoo.nn import NONLINEARITIES

from . import networks
from .networks import SCHEMES, VARIANTS, builder, classifier

LONG = 40  # steps; so many that what runs once for all of them is less than one a step


def kernels(net: Any, layout: str, kind: str = INTEGERS, steps: int = LONG) -> dict[str, int]:
    form = Form("int8", layout, SCHEMES[kind])
    return kernels_of_a_step(builder(net, steps).build(form), layout, form.session, steps)


# In integers, low rank, of each cell with sigmoid and tanh.
STEPS: dict[str, dict[str, int]] = {
    "fastrnn": {"QLinearAdd": 2, "QLinearMatMul": 2, "QLinearSigmoid": 1},
    "fastrnn, slow": {"QLinearAdd": 2, "QLinearMatMul": 2, "QLinearSigmoid": 1},
    "fastgrnn": {"QLinearAdd": 2, "QLinearMatMul": 2, "QLinearMul": 2, "QLinearSigmoid": 1, "Split": 1},
    "fastgrnn, nu": {"QLinearAdd": 3, "QLinearMatMul": 2, "QLinearMul": 2, "QLinearSigmoid": 1, "Split": 1},
    "ugrnn": {"QLinearAdd": 2, "QLinearMatMul": 2, "QLinearMul": 2, "QLinearSigmoid": 1, "Split": 1},
    "gru": {"QLinearAdd": 3, "QLinearMatMul": 4, "QLinearMul": 3, "QLinearSigmoid": 2, "Split": 1},
    "lstm": {"QLinearAdd": 2, "QLinearMatMul": 2, "QLinearMul": 3, "QLinearSigmoid": 2, "Split": 1},
}


def test_a_fastgrnn_in_integers_is_eight_kernels() -> None:
    assert sum(STEPS["fastgrnn"].values()) == 8
    assert kernels(classifier(nu=0.0), "scan") == STEPS["fastgrnn"]


@pytest.mark.parametrize("layout", ["scan", "unrolled"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_in_integers(variant: str, layout: str) -> None:
    assert kernels(classifier(**VARIANTS[variant]), layout) == STEPS[variant]


@pytest.mark.parametrize("layout", ["scan", "unrolled"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_scale_for_each_channel_costs_no_kernel(variant: str, layout: str) -> None:
    form = Form("int8", layout, Scheme(INTEGERS, per_channel=True))
    model = builder(classifier(**VARIANTS[variant]), LONG).build(form)
    assert kernels_of_a_step(model, layout, form.session, LONG) == STEPS[variant]


@pytest.mark.parametrize("variant", ["fastgrnn", "lstm"])
def test_a_full_matrix_is_one_product(variant: str) -> None:
    found = kernels(classifier(ranks=(None, None), **VARIANTS[variant]), "scan")
    assert found == {**STEPS[variant], "QLinearMatMul": 1}


@pytest.mark.parametrize("update", NONLINEARITIES)
def test_which_nonlinearity_is_one_kernel(update: str) -> None:
    """tanh is a sigmoid with other levels; beside a sigmoid, a clip and relu stand between two conversions."""
    found = kernels(classifier("sigmoid", update, nu=0.0), "scan")
    extra = {name: count - STEPS["fastgrnn"].get(name, 0) for name, count in found.items()}
    extra = {name: count for name, count in extra.items() if count}
    clipped = {"Clip": 1, "DequantizeLinear": 1, "QuantizeLinear": 1, "Split": 1}
    assert extra == {
        "tanh": {},
        "sigmoid": {},
        "relu": {"Relu": 1, "DequantizeLinear": 1, "QuantizeLinear": 1, "Split": 1},
        "quant_tanh": clipped,
        "quant_sigmoid": clipped,
        "quant_sigmoid4": clipped,
    }[update]  # fmt: skip


def test_piecewise_linear_all_over_needs_no_kernel_for_it() -> None:
    found = kernels(classifier("quant_sigmoid", "quant_tanh", nu=0.0), "scan")
    assert found == {"QLinearAdd": 2, "QLinearMatMul": 2, "QLinearMul": 2, "Split": 1}


@pytest.mark.parametrize("variant", VARIANTS)
def test_products_keep_the_state_in_fp32(variant: str) -> None:
    """Unrolled: the first factor of each product in integers, the second from integers to float."""
    found = kernels(classifier(**VARIANTS[variant]), "unrolled", PRODUCTS)
    products = 2 if variant == "gru" else 1
    assert {name: found[name] for name in ("QLinearMatMul", "MatMulIntegerToFloat", "QuantizeLinear")} == {
        "QLinearMatMul": products, "MatMulIntegerToFloat": products, "QuantizeLinear": products
    }  # fmt: skip
    assert "DequantizeLinear" not in found, "nothing is converted alone"
    assert "QLinearAdd" not in found


@pytest.mark.parametrize("layout", ["scan", "unrolled", "step"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_alone_cost_nothing_in_a_step(variant: str, layout: str) -> None:
    """Their conversion runs once, when the file is loaded."""
    found = kernels(classifier(**VARIANTS[variant]), layout, WEIGHTS)
    form = Form("fp32", layout)
    fp32 = kernels_of_a_step(builder(classifier(**VARIANTS[variant]), LONG).build(form), layout, form.session, LONG)
    assert not any("Linear" in name or "Integer" in name for name in found)
    assert sum(found.values()) <= sum(fp32.values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_fused_is_one_kernel_and_little_else(variant: str) -> None:
    for form in (Form("fp32", "fused"), Form("int8", "fused", Scheme())):
        model = builder(classifier(**VARIANTS[variant]), LONG).build(form)
        found = kernels_of_a_step(model, "fused", form.session, LONG)
        assert found.get("GRU", 0) + found.get("LSTM", 0) == 1
        assert sum(found.values()) <= 11, found


def test_layers_are_counted_together() -> None:
    found = kernels(classifier(nu=0.0, num_layers=2, bidirectional=True), "scan")
    assert found == {name: 4 * count for name, count in STEPS["fastgrnn"].items()}


def test_what_moves_no_numbers_is_not_counted() -> None:
    for layout in LAYOUTS:
        if layout in obstacles(networks.network(classifier())):
            continue
        form = Form("fp32", layout)
        model = builder(classifier(), LONG).build(form)
        assert not kernels_of_a_step(model, layout, form.session, LONG).keys() & FREE


def test_the_optimised_graph_answers_the_same() -> None:
    net, x = classifier(nu=0.0), networks.windows(20)
    model = builder(net).build(Form("int8", "unrolled", SCHEMES[INTEGERS]))
    made = optimised(model, {})
    assert "com.microsoft" in {node.domain for node in made.graph.node}, "onnxruntime's own operators"
    assert np.array_equal(networks.run(made, x, optimised=False), networks.run(model, x))


def test_session_entries_are_heeded() -> None:
    """Without the setting the conversion of int8 weights runs in every run."""
    model = builder(classifier(nu=0.0)).build(Form("int8", "fused", Scheme()))
    setting = {"session.disable_quant_qdq": "1"}
    slow, fast = ({n.op_type for n in optimised(model, entries).graph.node} for entries in ({}, setting))
    assert "DequantizeLinear" in slow
    assert "DequantizeLinear" not in fast
