"""Whole graphs against torch and against onnx's reference implementation."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastzoo.errors import ExportError
from fastzoo.export.graph import Op, operators
from fastzoo.export.layouts import PRECISIONS, Form, forms
from fastzoo.export.verify import ALLOWED_OPERATORS
from fastzoo.nn import NONLINEARITIES

from . import networks
from .networks import FORM, PAIRS, RANKS, SCALARS, builder, classifier, logits, network, run, windows


@pytest.mark.parametrize(("gate", "update"), PAIRS)
@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("scalars", SCALARS)
def test_every_fp32_file_answers_like_torch(gate: str, update: str, ranks: str, scalars: str) -> None:
    net = classifier(gate, update, RANKS[ranks], **SCALARS[scalars])
    made, x = builder(net), windows(6)
    for form in forms(network(net), None, ("fp32",)):
        model = made.build(form)
        assert np.abs(run(model, x) - logits(net, x)).max() <= 1e-4
        assert np.abs(run(model, x[:1]) - logits(net, x[:1])).max() <= 1e-4


@pytest.mark.parametrize(("gate", "update"), PAIRS)
@pytest.mark.parametrize("scalars", ["nu>0", "nu=0"])
def test_unrolled_means_the_same_to_the_reference_implementation(gate: str, update: str, scalars: str) -> None:
    net, x = classifier(gate, update, **SCALARS[scalars]), windows(3)
    answer = networks.evaluate(builder(net).build(FORM["fp32", "unrolled"]), x=x)
    assert np.abs(answer - logits(net, x)).max() <= 1e-4


@pytest.mark.parametrize("ranks", RANKS)
def test_fused_means_the_same_to_the_reference_implementation(ranks: str) -> None:
    net, x = classifier(ranks=RANKS[ranks], nu=0.0), windows(3)  # its GRU knows sigmoid and tanh only
    answer = networks.evaluate(builder(net).build(FORM["fp32", "fused"]), x=x)
    assert np.abs(answer - logits(net, x)).max() <= 1e-4


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("scalars", ["nu>0", "nu=0"])
def test_inline_is_flat_and_answers_the_same(precision: str, scalars: str) -> None:
    net, x, form = classifier(**SCALARS[scalars]), windows(9), FORM[precision, "unrolled"]
    called, flat = builder(net).build(form), builder(net, inline=True).build(form)
    assert [function.name for function in called.functions] == ["FastGRNNStep"]
    assert not flat.functions
    assert not [node for node in flat.graph.node if node.domain]
    assert [(entry.domain, entry.version) for entry in flat.opset_import] == [("", 17)]
    assert operators(flat) == operators(called)
    onnx.checker.check_model(flat, full_check=True)
    assert np.abs(run(flat, x) - run(called, x)).max() < 1e-6
    if precision == "fp32":
        assert np.abs(networks.evaluate(flat, x=x) - logits(net, x)).max() <= 1e-4


@pytest.mark.parametrize("form", FORM.values(), ids=lambda form: f"{form.precision}-{form.layout}")
def test_a_window_gets_the_same_answer_alone_and_among_others(form: Form) -> None:
    x = windows(64)
    opened = networks.session(builder(classifier(nu=0.0)).build(form), form.session)
    together = opened.run(None, {"x": x})[0]
    alone = np.concatenate([opened.run(None, {"x": window[np.newaxis]})[0] for window in x])
    assert together.shape == (64, networks.C)
    assert np.abs(together - alone).max() < 1e-5


@pytest.mark.parametrize("form", FORM.values(), ids=lambda form: f"{form.precision}-{form.layout}")
@pytest.mark.parametrize("inline", [False, True])
def test_a_file_is_what_boards_can_load(form: Form, inline: bool) -> None:
    net = classifier(nu=0.0)
    model = builder(net, inline=inline).build(form)
    assert model.ir_version == 8
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 17
    assert {entry.domain: entry.version for function in model.functions for entry in function.opset_import} in (
        {},
        {"": 17},
    )
    assert operators(model).keys() <= ALLOWED_OPERATORS
    onnx.checker.check_model(model, full_check=True)
    shape = [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["N", networks.T, networks.D]


@pytest.mark.parametrize("form", FORM.values(), ids=lambda form: f"{form.precision}-{form.layout}")
def test_the_same_network_gives_the_same_bytes(form: Form) -> None:
    once, again = (builder(classifier(nu=0.0)).build(form).SerializeToString(deterministic=True) for _ in range(2))
    assert once == again


def test_a_step_is_stored_once_however_long_the_window() -> None:
    sizes = [
        builder(classifier(nu=0.0), steps).build(FORM[precision, "unrolled"]).ByteSize()
        for precision in PRECISIONS
        for steps in (10, 110)
    ]
    assert sizes[1] - sizes[0] < 100 * 150
    assert sizes[3] - sizes[2] < 100 * 350


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_size_answers_like_torch(data: st.DataObject) -> None:
    channels, hidden = data.draw(st.integers(1, 7), "D"), data.draw(st.integers(1, 9), "H")
    steps, classes = data.draw(st.integers(1, 12), "T"), data.draw(st.integers(2, 5), "C")
    ranks = (
        data.draw(st.none() | st.integers(1, min(channels, hidden)), "w_rank"),
        data.draw(st.none() | st.integers(1, hidden), "u_rank"),
    )
    gate = data.draw(st.sampled_from([name for name in NONLINEARITIES if name != "relu"]), "gate")  # relu's may explode
    update = data.draw(st.sampled_from(list(NONLINEARITIES)), "update")
    scalars = data.draw(st.sampled_from(list(SCALARS)), "scalars")
    pool = data.draw(st.integers(1, steps), "pool")
    net = classifier(gate, update, ranks, (channels, hidden, classes), pool, **SCALARS[scalars])
    made, x = builder(net, steps), windows(3, net, steps)
    expected = logits(net, x)
    tolerance = max(1e-4, 1e-5 * np.abs(expected).max())
    for form in forms(network(net, steps), None, PRECISIONS):
        answer = run(made.build(form), x, form)
        assert answer.shape == expected.shape
        if form.precision == "fp32":
            assert np.abs(answer - expected).max() <= tolerance
        else:
            assert np.isfinite(answer).all()


def test_layouts_that_exist_are_made_in_order() -> None:
    assert [form.file for form in forms(network(classifier(nu=0.0)), None, PRECISIONS)] == [
        "fp32-fused.onnx",
        "fp32-unrolled.onnx",
        "int8-fused.onnx",
        "int8-unrolled.onnx",
    ]
    assert [form.file for form in forms(network(classifier()), None, PRECISIONS)] == [
        "fp32-unrolled.onnx",
        "int8-unrolled.onnx",
    ]
    assert [form.file for form in forms(network(classifier(nu=0.0)), ("unrolled",), ("int8",))] == [
        "int8-unrolled.onnx"
    ]


@pytest.mark.parametrize(
    ("layouts", "precisions", "message"),
    [
        (("fussed",), ("fp32",), "unknown layout fussed; there are fused, unrolled"),
        (None, ("fp16", "int4"), "unknown precision fp16, int4; there are fp32, int8"),
        (None, (), "no precision asked for; there are fp32, int8"),
        (("fused",), ("fp32",), r"'fused' does not exist for this model: nu = 0.25.* The layout 'unrolled' does"),
    ],
)
def test_what_cannot_be_made_is_refused(
    layouts: tuple[str, ...] | None, precisions: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        forms(network(classifier(nu=0.25)), layouts, precisions)


def test_two_constants_cannot_share_a_name() -> None:
    op = Op("v")
    assert op.constant("one", 1.0) == op.constant("one", 1.0) == "one"
    for other in (2.0, np.array([1.0], np.float32), np.int64(1)):
        with pytest.raises(ValueError, match="two different constants are called 'one'"):
            op.constant("one", other)


@pytest.mark.parametrize("form", FORM.values(), ids=lambda form: f"{form.precision}-{form.layout}")
def test_nothing_in_a_graph_is_unused(form: Form) -> None:
    graph = builder(classifier(nu=0.0)).build(form).graph
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    made = {name for node in graph.node for name in node.output} | {tensor.name for tensor in graph.initializer}
    assert made == read - {"x"}
