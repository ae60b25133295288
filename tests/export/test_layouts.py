"""Whole graphs in fp32 against the oracle in float64, and what every file promises to those who load it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from torch import nn

from fastzoo.errors import ExportError
from fastzoo.export import reference
from fastzoo.export.c import c_header
from fastzoo.export.calibrate import Method
from fastzoo.export.graph import Op, nodes, operators
from fastzoo.export.layouts import (
    INTEGERS,
    LAYOUTS,
    PRECISIONS,
    PRODUCTS,
    WEIGHTS,
    Builder,
    Form,
    Scheme,
    forms,
    obstacles,
)
from fastzoo.export.verify import ALLOWED_OPERATORS
from fastzoo.nn import CELLS

from . import networks
from .networks import (
    FORM,
    LOOPS,
    RANKS,
    SCHEMES,
    STACKS,
    VARIANTS,
    Plain,
    builder,
    classifier,
    network,
    run,
    windows,
)

TOLERANCE = 1e-5  # of the largest logit
variants = pytest.mark.parametrize("variant", VARIANTS)
EVERY_FORM = [
    *(Form("fp32", layout) for layout in LAYOUTS),
    *(Form("int8", layout, scheme) for scheme in SCHEMES.values() for layout in LOOPS),
    Form("int8", "fused", SCHEMES[WEIGHTS]),
    *(Form("int8", layout, Scheme(INTEGERS, per_channel=True, signed=True)) for layout in LOOPS),
]
every_form = pytest.mark.parametrize(
    "form", EVERY_FORM, ids=lambda f: f"{f.file[:-5]}-{f.scheme.kind}{'-s' * f.scheme.signed}" if f.scheme else f.file
)


def fp32(made: Builder) -> list[Form]:
    """The fp32 files that exist."""
    return forms(made.network, None, ("fp32",))


def faults_of(net: Any, x: networks.Floats, made: Builder | None = None, tolerance: float = TOLERANCE) -> list[str]:
    """Layouts that are not the equation."""
    made, expected = made or builder(net, x.shape[1]), networks.exact(net, x)
    errors = {form.layout: networks.error(run(made.build(form), x, pool=net.pool), expected) for form in fp32(made)}
    return [f"{layout}: {error:.1e}" for layout, error in errors.items() if error > tolerance]


@variants
def test_every_nonlinearity_in_every_layout_is_the_equation(variant: str) -> None:
    faults = {}
    for gate, update in networks.pairs(VARIANTS[variant]["kind"]):
        net = classifier(gate, update, **VARIANTS[variant])
        if found := faults_of(net, windows(6)):
            faults[gate, update] = found
    assert faults == {}


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("rank", RANKS)
@variants
def test_every_rank_and_stack_in_every_layout_is_the_equation(variant: str, rank: str, stack: str) -> None:
    net = classifier(ranks=RANKS[rank], **VARIANTS[variant], **STACKS[stack])
    assert faults_of(net, windows(6)) == []


@variants
def test_a_long_window_is_the_equation(variant: str) -> None:
    net = classifier(sizes=(6, 16, 6), ranks=(3, 6), pool=16, **VARIANTS[variant])
    assert faults_of(net, windows(4, net, 128)) == []


@pytest.mark.parametrize("stack", ["one layer", "two layers, both directions"])
@pytest.mark.parametrize("pool", [1, 3, 7])
@variants
def test_every_pool(variant: str, pool: int, stack: str) -> None:
    net = classifier(pool=pool, **VARIANTS[variant], **STACKS[stack])
    assert faults_of(net, windows(6)) == []


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("brick", [2, 5])
@variants
def test_bricks_in_every_layout_are_the_equation(variant: str, brick: int, stack: str) -> None:
    net = classifier(brick=brick, pool=2, **VARIANTS[variant], **STACKS[stack])
    assert {form.layout for form in fp32(builder(net, 20))} >= {"scan", "unrolled"}
    assert faults_of(net, windows(6, net, steps=20)) == []


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("layout", ["scan", "unrolled"])
def test_bricks_in_int8_are_close_to_the_equation(layout: str, scheme: Scheme) -> None:
    net = classifier(brick=4, pool=2, nu=0.0)
    x = windows(6, net, steps=20)
    form = Form("int8", layout, scheme)
    assert networks.error(run(builder(net, 20).build(form), x, form), networks.exact(net, x)) < 0.1


def test_onnxs_own_implementation_reads_bricks_alike() -> None:
    net = classifier(brick=4, pool=2, nu=0.0)
    x, made = windows(3, net, steps=20), builder(net, 20)
    for form in fp32(made):
        answer = reference.evaluate(made.build(form), {"x": x})[0]
        assert networks.error(answer, networks.exact(net, x)) < TOLERANCE, form.layout


def test_of_bricks_there_is_no_step_and_no_c() -> None:
    made = network(classifier(brick=2, nu=0.0), 20)
    assert [form.layout for form in forms(made, None, ("fp32",))] == ["fused", "scan", "unrolled"]
    with pytest.raises(ExportError, match="'step' does not exist for this model: it reads 2 samples in one step"):
        forms(made, ("step",), ("fp32",))
    with pytest.raises(ExportError, match="C reads one sample in a step, this network 2"):
        c_header(made, "bricks", ["a"] * made.num_classes, ["x"] * made.input_size, 50.0)


@pytest.mark.parametrize(
    ("steps", "wanted"), [(21, "no whole number of bricks of 2"), (4, "shorter than the 3 states")]
)
def test_windows_that_bricks_cannot_read_are_refused(steps: int, wanted: str) -> None:
    with pytest.raises(ExportError, match=wanted):
        network(classifier(brick=2, pool=3), steps)


def test_one_step_is_a_window_too() -> None:
    net = classifier(pool=1, num_layers=2)
    assert faults_of(net, windows(6, steps=1)) == []


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("of", [nn.GRU, nn.LSTM, nn.RNN])
def test_torchs_own_recurrences_in_every_layout(of: Any, stack: str) -> None:
    module = Plain(of(networks.D, networks.H, batch_first=True, **STACKS[stack]))
    x = np.random.default_rng(0).normal(size=(4, 9, networks.D)).astype(np.float32)
    made = Builder(module.network(9), x)
    for form in fp32(made):
        assert networks.error(run(made.build(form), x, pool=1), module.exact(x)) < TOLERANCE, form.layout


@pytest.mark.parametrize("stack", STACKS)
@variants
def test_every_layout_means_the_same_to_onnxs_own_implementation(variant: str, stack: str) -> None:
    net, x = classifier(**VARIANTS[variant], **STACKS[stack]), windows(3)
    made, expected = builder(net), networks.exact(net, x)
    for form in fp32(made):
        model = made.build(form)
        if form.layout == "step":
            continue  # below
        assert networks.error(reference.evaluate(model, {"x": x})[0], expected) < TOLERANCE, form.layout
        if form.layout == "unrolled":  # without what fastzoo adds to the evaluator
            plainly: Any = ReferenceEvaluator(onnx.inliner.inline_local_functions(model)).run(None, {"x": x})
            assert networks.error(plainly[0], expected) < TOLERANCE


@pytest.mark.parametrize("stack", ["one layer", "two layers"])
@variants
def test_the_step_means_the_same_to_onnxs_own_implementation(variant: str, stack: str) -> None:
    net, x = classifier(pool=1, **VARIANTS[variant], **STACKS[stack]), windows(3)
    step: Any = ReferenceEvaluator(builder(net).build(FORM["fp32", "step"]))
    state = np.zeros((3, networks.H * len(net.rnn.cells) * (2 if variant == "lstm" else 1)), np.float32)
    for t in range(x.shape[1]):
        logits, state = step.run(None, {"x": x[:, t], "state": state})
    assert networks.error(logits, networks.exact(net, x)) < TOLERANCE


@pytest.mark.parametrize("scheme", [None, *SCHEMES.values()], ids=lambda s: s.kind if s else "fp32")
@pytest.mark.parametrize("stack", STACKS)
def test_scan_takes_windows_of_any_length(stack: str, scheme: Scheme | None) -> None:
    net = classifier(pool=5, **STACKS[stack])
    model = builder(net, 9).build(Form("int8" if scheme else "fp32", "scan", scheme))
    for steps in (1, 4, 5, 30):
        x = windows(3, net, steps)
        same = replace(builder(net, 9).network, steps=steps, pool=min(5, steps))
        if scheme is None:
            assert networks.error(run(model, x), networks.evaluate(same, x)) < TOLERANCE, steps
        else:  # the files made for just this length
            made = builder(net, 9)
            made.steps(scheme)
            made.network = same
            unrolled = made.build(Form("int8", "unrolled", scheme))
            assert networks.error(run(model, x), run(unrolled, x)) < TOLERANCE, steps


@pytest.mark.parametrize("variant", ["fastgrnn", "lstm"])
def test_the_step_carries_a_stream_on(variant: str) -> None:
    """The state goes on where it was left, and copies in one batch do not disturb each other."""
    net, x = classifier(pool=1, num_layers=2, **VARIANTS[variant]), windows(2, steps=12)
    opened = networks.session(builder(net, 12).build(FORM["fp32", "step"]))
    state = np.zeros((2, opened.get_inputs()[1].shape[1]), np.float32)
    for t in range(12):
        logits, state = opened.run(["logits", "state_next"], {"x": x[:, t], "state": state})
        expected = networks.exact(net, x[:, : t + 1])
        assert networks.error(logits, expected) < TOLERANCE, t
    alone, _ = opened.run(["logits", "state_next"], {"x": x[1:, 0], "state": state[1:]})
    both, _ = opened.run(["logits", "state_next"], {"x": x[:, 0], "state": state})
    assert np.abs(both[1:] - alone).max() < 1e-6


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("scheme", [None, *SCHEMES.values()], ids=lambda s: s.kind if s else "fp32")
def test_inline_is_flat_and_answers_the_same(scheme: Scheme | None, stack: str) -> None:
    net, x, form = classifier(**STACKS[stack]), windows(9), Form("int8" if scheme else "fp32", "unrolled", scheme)
    called, flat = builder(net).build(form), builder(net, inline=True).build(form)
    names = [f"FastgrnnStep{network(net).prefix(i).strip('_')}" for i in range(len(net.rnn.cells))]
    assert [function.name for function in called.functions] == names
    assert not flat.functions
    assert not [node for node in flat.graph.node if node.domain]
    assert [(entry.domain, entry.version) for entry in flat.opset_import] == [("", 17)]
    assert operators(flat) == operators(called)
    onnx.checker.check_model(flat, full_check=True)
    assert np.abs(run(flat, x) - run(called, x)).max() < 1e-6


@every_form
@pytest.mark.parametrize("stack", ["one layer", "two layers"])
def test_a_window_gets_the_same_answer_alone_and_among_others(form: Form, stack: str) -> None:
    net, x = classifier(nu=0.0, **STACKS[stack]), windows(64)
    model = builder(net).build(form)
    together = run(model, x, form)
    alone = np.concatenate([run(model, window[np.newaxis], form) for window in x[::16]])
    assert together.shape == (64, networks.C)
    assert np.abs(together[::16] - alone).max() < 1e-5


@every_form
@pytest.mark.parametrize("variant", ["fastgrnn", "fastgrnn, nu", "gru", "lstm"])
def test_a_file_is_what_boards_can_load(form: Form, variant: str) -> None:
    for stack in STACKS.values():
        net = classifier("sigmoid", "relu", **VARIANTS[variant], **stack)
        if form.layout in obstacles(network(net)):
            continue
        model = builder(net).build(form)
        assert model.ir_version == 8
        assert {entry.domain: entry.version for entry in model.opset_import}[""] == 17
        assert {e.domain: e.version for function in model.functions for e in function.opset_import} in ({}, {"": 17})
        assert operators(model).keys() <= ALLOWED_OPERATORS
        onnx.checker.check_model(model, full_check=True)
        kinds = {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
        assert kinds == {onnx.TensorProto.FLOAT}, "bytes inside are nobody else's affair"
        shapes = {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (*model.graph.input, *model.graph.output)
        }
        state = len(net.rnn.cells) * networks.H * (2 if variant == "lstm" else 1)
        wanted: dict[str, list[Any]] = {"logits": ["N", networks.C]}
        if form.layout == "step":
            wanted |= {"x": ["N", networks.D], "state": ["N", state], "state_next": ["N", state]}
        else:
            wanted["x"] = ["N", "T" if form.layout == "scan" else networks.T, networks.D]
        assert shapes == wanted


@pytest.mark.parametrize("kind", CELLS)
def test_every_operator_of_every_nonlinearity_is_allowed(kind: str) -> None:
    for (gate, update), scheme in itertools.product(networks.pairs(kind), [None, *SCHEMES.values()]):
        made = builder(classifier(gate, update, kind=kind))
        for layout in LAYOUTS:
            if layout not in obstacles(made.network):
                form = Form("int8" if scheme else "fp32", layout, scheme)
                assert operators(made.build(form)).keys() <= ALLOWED_OPERATORS, (gate, update, form)


@every_form
def test_the_same_network_gives_the_same_bytes(form: Form) -> None:
    once, again = (
        builder(classifier(nu=0.0, num_layers=2)).build(form).SerializeToString(deterministic=True) for _ in range(2)
    )
    assert once == again


@every_form
def test_building_one_file_leaves_the_others_alone(form: Form) -> None:
    made = builder(classifier(nu=0.0))
    first = made.build(form).SerializeToString(deterministic=True)
    for other in EVERY_FORM:
        made.build(other)
    assert made.build(form).SerializeToString(deterministic=True) == first


@pytest.mark.parametrize("scheme", [None, *SCHEMES.values()], ids=lambda s: s.kind if s else "fp32")
@variants
def test_a_step_is_stored_once_however_long_the_window(variant: str, scheme: Scheme | None) -> None:
    """So a step more of ``unrolled`` costs its call, whatever the size of the cell, and of ``scan`` nothing at all."""
    precision = "int8" if scheme else "fp32"
    growth = []
    for hidden in (5, 50):
        net = classifier(sizes=(3, hidden, 4), **VARIANTS[variant])
        short, long = builder(net, 20), builder(net, 40)
        sizes = [made.build(Form(precision, "unrolled", scheme)).ByteSize() for made in (short, long)]
        growth.append((sizes[1] - sizes[0]) / 20)
        sizes = [made.build(Form(precision, "scan", scheme)).ByteSize() for made in (short, long)]
        assert abs(sizes[1] - sizes[0]) < 100  # two zero points may be one constant, or not
    assert growth[0] < 300
    assert growth[1] < 1.5 * growth[0], "names may be longer; weights would be ten times as many"


@every_form
def test_nothing_in_a_graph_is_unused(form: Form) -> None:
    for name, stack in STACKS.items():
        net = classifier(nu=0.0, **stack)
        if form.layout in obstacles(network(net)):
            continue
        graph = builder(net).build(form).graph
        read = {name for node in nodes(graph) for name in node.input} | {value.name for value in graph.output}
        made = {name for node in graph.node for name in node.output} | {tensor.name for tensor in graph.initializer}
        # A Scan gives its last state whether anyone wants it or not.
        last = {name for node in graph.node if node.op_type == "Scan" for name in node.output[:-1]}
        assert made - read == last, name


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_size_is_the_equation(data: st.DataObject) -> None:
    variant = VARIANTS[data.draw(st.sampled_from(list(VARIANTS)), "variant")]
    channels, hidden = data.draw(st.integers(1, 7), "D"), data.draw(st.integers(1, 9), "H")
    steps, classes = data.draw(st.integers(1, 12), "T"), data.draw(st.integers(2, 5), "C")
    ranks = (
        data.draw(st.none() | st.integers(1, min(channels, hidden)), "w_rank"),
        data.draw(st.none() | st.integers(1, hidden), "u_rank"),
    )
    gate, update = data.draw(st.sampled_from(list(networks.pairs(variant["kind"]))), "pair")
    pool = data.draw(st.integers(1, steps), "pool")
    stack = STACKS[data.draw(st.sampled_from(list(STACKS)), "stack")]
    if stack and "relu" in (gate, update):
        gate, update = "sigmoid", "tanh"
    if stack and ranks[0]:
        ranks = (1, ranks[1])
    net = classifier(gate, update, ranks, (channels, hidden, classes), pool, **variant, **stack)
    made, x = builder(net, steps), windows(3, net, steps)
    assert faults_of(net, x, made) == []
    for form in forms(made.network, None, ("int8",), SCHEMES[data.draw(st.sampled_from(list(SCHEMES)), "kind")]):
        answer = run(made.build(form), x, form, pool)
        assert answer.shape == (3, classes)
        assert np.isfinite(answer).all()


# Which files there are.


def files(net: Any, *arguments: Any) -> list[str]:
    return [form.file.removesuffix(".onnx") for form in forms(network(net), *arguments)]


def test_layouts_that_exist_are_made_in_order() -> None:
    everything = [f"{precision}-{layout}" for precision in PRECISIONS for layout in LAYOUTS]
    assert files(classifier(nu=0.0), None, PRECISIONS) == everything
    assert files(classifier(), None, PRECISIONS) == everything, "nu > 0 is an LSTM"
    assert files(classifier("relu"), None, ("fp32",)) == ["fp32-scan", "fp32-unrolled", "fp32-step"]
    assert files(classifier(bidirectional=True), None, ("fp32",)) == ["fp32-fused", "fp32-scan", "fp32-unrolled"]
    assert files(classifier("quant_tanh", bidirectional=True), None, ("int8",)) == ["int8-scan", "int8-unrolled"]
    assert files(classifier(), ("step", "fused"), ("int8",)) == ["int8-fused", "int8-step"]
    assert files(classifier(), ("unrolled",), ("int8", "fp32")) == ["fp32-unrolled", "int8-unrolled"]


def test_activations_have_8_bits_where_that_is_asked_for() -> None:
    made = forms(network(classifier()), None, PRECISIONS)
    kinds = {form.file: form.scheme.kind if form.scheme else None for form in made}
    assert kinds == {
        **{f"fp32-{layout}.onnx": None for layout in LAYOUTS},
        **{f"int8-{layout}.onnx": WEIGHTS for layout in LAYOUTS},
        "int8-unrolled.onnx": PRODUCTS,
    }
    scheme = Scheme(INTEGERS, Method(99.9), per_channel=True, signed=True)
    made = forms(network(classifier()), None, ("int8",), scheme, ("scan", "step"))
    assert [form.scheme for form in made] == [
        Scheme(per_channel=True),
        scheme,
        Scheme(per_channel=True),
        scheme,
    ], "weights are stored alike in all files"


@pytest.mark.parametrize(
    ("arguments", "layouts", "precisions", "message"),
    [
        ({}, ("fussed",), ("fp32",), "unknown layout fussed; there are fused, scan, unrolled, step"),
        ({}, None, ("fp16", "int4"), "unknown precision fp16, int4; there are fp32, int8"),
        ({}, None, (), "no precision asked for; there are fp32, int8"),
        (
            {"bidirectional": True},
            ("step",),
            ("fp32",),
            r"'step' does not exist for this model: the backward direction begins at the end of the window, which a "
            r"stream has not reached\. There are fused, scan, unrolled\.",
        ),
        (
            {"gate": "relu", "nu": 0.25},
            ("scan", "fused"),
            ("fp32",),
            r"'fused' does not exist for this model: nu = 0\.25 needs 1 - gate\(a\) = gate\(-a\), which relu does not "
            r"satisfy\. There are scan, unrolled, step\.",
        ),
        (
            {"kind": "lstm", "update": "quant_tanh", "bidirectional": True},
            ("fused",),
            ("int8",),
            r"'fused' .*ONNX has no activation quant_tanh, and in a lstm .* There are scan, unrolled\.",
        ),
    ],
)
def test_what_cannot_be_made_is_refused(
    arguments: dict[str, Any], layouts: tuple[str, ...] | None, precisions: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        forms(network(classifier(**arguments)), layouts, precisions)


def test_an_obstacle_in_any_layer_is_one() -> None:
    stacked = network(classifier(num_layers=2))
    second = replace(stacked.cells[1], gate="quant_tanh")
    assert "fused" in obstacles(replace(stacked, cells=(stacked.cells[0], second)))
    assert obstacles(stacked) == {}


@pytest.mark.parametrize(
    ("scheme", "text"),
    [
        (Scheme(), "weights int8 symmetric per tensor behind DequantizeLinear, arithmetic fp32"),
        (Scheme(per_channel=True), "weights int8 symmetric per channel behind DequantizeLinear, arithmetic fp32"),
        (
            Scheme(PRODUCTS, Method(99.9)),
            "recurrent products U8S8 QDQ, state fp32 (percentile 99.9; weights symmetric per tensor); other weights "
            "int8, arithmetic fp32",
        ),
        (
            Scheme(INTEGERS, signed=True),
            "recurrence in integers, S8S8 QDQ, state 8 bits (min-max; weights symmetric per tensor); other weights "
            "int8, arithmetic fp32",
        ),
    ],
)
def test_a_scheme_says_what_it_is(scheme: Scheme, text: str) -> None:
    assert str(scheme) == Form("int8", "scan", scheme).quantization == text
    assert Form("fp32", "scan").quantization == "none"


def test_only_files_of_int8_weights_need_a_session_setting() -> None:
    needed = {form.file: dict(form.session) for form in FORM.values()}
    setting = {"session.disable_quant_qdq": "1"}
    assert needed == {
        **{f"fp32-{layout}.onnx": {} for layout in LAYOUTS},
        **{f"int8-{layout}.onnx": setting for layout in LAYOUTS},
        "int8-unrolled.onnx": {},
    }


def test_two_constants_cannot_share_a_name() -> None:
    op = Op("v")
    assert op.constant("one", 1.0) == op.constant("one", 1.0) == "one"
    for other in (2.0, np.array([1.0], np.float32), np.int64(1)):
        with pytest.raises(ValueError, match="two different constants are called 'one'"):
            op.constant("one", other)
