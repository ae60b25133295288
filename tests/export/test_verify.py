"""A file that is not what it says is refused, and the fault is named."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from fastzoo.errors import ExportError
from fastzoo.export import verify as module
from fastzoo.export.graph import nodes
from fastzoo.export.layouts import INTEGERS, LAYOUTS, PRODUCTS, WEIGHTS, Form, Scheme, obstacles
from fastzoo.export.verify import STEP_WINDOWS, Reference, Verification, answer, verify

from . import networks
from .networks import FORM, LOOPS, SCHEMES, STACKS, VARIANTS, C, D, H, T, builder, classifier, logits, windows

NET = classifier(nu=0.0)
X = windows(80)
REFERENCE = Reference(X, logits(NET, X))
BUILDER = builder(NET)
WEIGHT_COUNT = sum(matrix.size for matrix in BUILDER.network.matrices().values())
FORMS = [*FORM.values(), *(Form("int8", layout, SCHEMES[INTEGERS]) for layout in LOOPS)]
forms = pytest.mark.parametrize("form", FORMS, ids=lambda f: f"{f.file[:-5]}-{f.scheme.kind if f.scheme else ''}")
layouts = pytest.mark.parametrize("layout", LAYOUTS)


def verified(model: onnx.ModelProto, form: Form, reference: Reference = REFERENCE) -> Verification:
    return verify(model, BUILDER.network, form, reference)


def refused(model: onnx.ModelProto, form: Form, reference: Reference = REFERENCE) -> str:
    with pytest.raises(ExportError, match=f"the {form.precision} file '{form.layout}' failed verification: ") as caught:
        verified(model, form, reference)
    return str(caught.value)


def tampered(form: Form, change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    model = BUILDER.build(form)
    change(model)
    return model


# What passes.


@forms
def test_a_good_file_passes(form: Form) -> None:
    found = verified(BUILDER.build(form), form)
    assert found.windows == (STEP_WINDOWS if form.layout == "step" else len(X))
    assert found.kernels_per_step
    if form.scheme is None:
        assert (found.same_class, found.int8_weights) == (1, 0)
        assert max(found.max_logit_difference, found.reference_difference, found.unoptimised_difference) < 1e-5
    else:
        assert found.int8_weights == WEIGHT_COUNT
        assert 1e-5 < found.max_logit_difference < 0.1
        assert found.same_class > 0.9
        assert max(found.reference_difference, found.unoptimised_difference) < (
            0.05 if form.scheme.kind == INTEGERS else 1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_cell_passes_in_every_form(variant: str, stack: str) -> None:
    net, x = classifier(**VARIANTS[variant], **STACKS[stack]), windows(65)
    made, reference = builder(net), Reference(x, logits(net, x))
    for form in FORMS:
        if form.layout not in obstacles(made.network):
            found = verify(made.build(form), made.network, form, reference)
            assert found.same_class > 0.85


@forms
def test_what_is_recorded_is_what_was_measured(form: Form) -> None:
    found = verified(BUILDER.build(form), form)
    count = found.windows
    own = networks.run(BUILDER.build(form), X[:count], form)
    assert found.max_logit_difference == pytest.approx(np.abs(own - REFERENCE.logits[:count]).max(), abs=1e-6)
    assert found.same_class == (own.argmax(1) == REFERENCE.logits[:count].argmax(1)).mean()


@forms
def test_an_answer_is_that_of_onnxruntime(form: Form) -> None:
    """In parts, for more windows than one run takes."""
    model, x = BUILDER.build(form), windows(module.BATCH + 3)
    found = answer(model, BUILDER.network, form, x)
    assert found.dtype == np.float32
    assert np.abs(found - networks.run(model, x, form)).max() < 1e-6


# What does not.


def add_to(amount: float, name: str) -> Callable[[onnx.ModelProto], None]:
    """A constant with a wrong first number."""

    def change(model: onnx.ModelProto) -> None:
        (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
        array = numpy_helper.to_array(tensor).copy()
        array.flat[0] += array.dtype.type(amount)
        tensor.CopyFrom(numpy_helper.from_array(array, name))

    return change


@layouts
@pytest.mark.parametrize("name", ["W1", "W2", "U1", "U2", "head", "head_bias", "mean"])
def test_a_wrong_weight_is_refused(layout: str, name: str) -> None:
    form = FORM["fp32", layout]
    message = refused(tampered(form, add_to(0.1, name)), form)
    assert re.search(r"its logits differ from torch's by \d\.?\d*(e-\d+)?, allowed are 0\.00\d+", message)


@pytest.mark.parametrize("kind", SCHEMES)
@layouts
@pytest.mark.parametrize("name", ["W1", "U2", "head"])
def test_a_wrong_integer_is_refused(layout: str, kind: str, name: str) -> None:
    form = Form("int8", layout, SCHEMES[kind] if layout != "fused" else Scheme())
    message = refused(tampered(form, add_to(1, f"{name}_quantized")), form)
    assert f"the int8 weights of {name} are not the network's, rounded" in message


@pytest.mark.parametrize("kind", SCHEMES)
@layouts
def test_a_wrong_scale_is_refused(layout: str, kind: str) -> None:
    """The integers are right, and mean something else."""
    form = Form("int8", layout, SCHEMES[kind] if layout != "fused" else Scheme())
    for name in ("W1", "U1", "head"):
        with pytest.raises(ExportError, match="failed verification"):
            verified(tampered(form, add_to(0.02, f"{name}_scale")), form)


@layouts
def test_the_integers_of_another_scheme_are_refused(layout: str) -> None:
    """Per channel or per tensor is part of what the file says."""
    one, other = (Form("int8", layout, Scheme(per_channel=per_channel)) for per_channel in (False, True))
    assert "are not the network's, rounded" in refused(BUILDER.build(one), other)
    assert "are not the network's, rounded" in refused(BUILDER.build(other), one)


@forms
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_no_number_is_refused(form: Form, value: float) -> None:
    assert "it answers NaN or infinity" in refused(tampered(form, add_to(value, "head_bias")), form)


@forms
def test_a_reference_that_is_no_number_is_refused(form: Form) -> None:
    wrong = REFERENCE.logits.copy()
    wrong[5, 1] = np.nan
    assert "torch itself answers NaN or infinity" in refused(BUILDER.build(form), form, Reference(X, wrong))


def through(op_type: str, domain: str = "") -> Callable[[onnx.ModelProto], None]:
    """The logits make a detour through one more operator."""

    def change(model: onnx.ModelProto) -> None:
        node = next(node for node in model.graph.node if "logits" in node.output)
        node.output[0] = "detour"
        model.graph.node.append(helper.make_node(op_type, ["detour"], ["logits"], domain=domain))
        if domain:
            model.opset_import.append(helper.make_opsetid(domain, 1))

    return change


@forms
@pytest.mark.parametrize(("domain", "op_type"), [("", "Erf"), ("com.microsoft", "FastGelu")])
def test_a_foreign_operator_is_named(domain: str, op_type: str, form: Form) -> None:
    name = f"{domain}::{op_type}" if domain else op_type
    message = refused(tampered(form, through(op_type, domain)), form)
    assert f"operators outside the allowed list: {name}" in message


@pytest.mark.parametrize("layout", ["unrolled", "scan"])
def test_a_foreign_operator_inside_is_named(layout: str) -> None:
    """Of a local function, of a loop's body."""

    def change(model: onnx.ModelProto) -> None:
        inside = [*nodes(model.graph), *(node for function in model.functions for node in function.node)]
        (node,) = (node for node in inside if node.op_type == "Tanh")
        node.op_type = "Sin"

    form = FORM["fp32", layout]
    assert "operators outside the allowed list: Sin" in refused(tampered(form, change), form)


@layouts
def test_fp32_is_not_passed_off_as_int8(layout: str) -> None:
    message = refused(BUILDER.build(FORM["fp32", layout]), FORM["int8", layout])
    assert f"0 weights are stored in int8, expected are {WEIGHT_COUNT}" in message
    message = refused(BUILDER.build(FORM["int8", layout]), FORM["fp32", layout])
    assert f"{WEIGHT_COUNT} weights are stored in int8, expected are 0" in message


def test_a_matrix_left_in_fp32_is_found() -> None:
    form = FORM["int8", "fused"]

    def change(model: onnx.ModelProto) -> None:
        (node,) = (n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == "head_quantized")
        for tensor in list(model.graph.initializer):
            if tensor.name in node.input[:2]:
                model.graph.initializer.remove(tensor)
        model.graph.initializer.append(numpy_helper.from_array(BUILDER.network.head_weight, node.output[0]))
        model.graph.node.remove(node)

    message = refused(tampered(form, change), form)
    assert f"{WEIGHT_COUNT - H * C} weights are stored in int8, expected are {WEIGHT_COUNT}" in message


@forms
def test_a_further_output_is_refused(form: Form) -> None:
    def change(model: onnx.ModelProto) -> None:
        spare = helper.make_tensor_value_info("spare", TensorProto.FLOAT, ["N", C])
        model.graph.node.append(helper.make_node("Tanh", ["logits"], ["spare"]))
        model.graph.output.append(spare)

    assert f"'spare': ['N', {C}]" in refused(tampered(form, change), form)


@forms
def test_another_shape_is_refused(form: Form) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1

    steps = {"step": "", "scan": "'T', "}.get(form.layout, f"{T}, ")
    assert f"instead of {{'x': ['N', {steps}{D}]" in refused(tampered(form, change), form)


@layouts
def test_a_file_of_another_layout_is_refused(layout: str) -> None:
    for other in LAYOUTS:
        if {layout, other} in ({"scan", other}, {"step", other}) and layout != other:
            message = refused(BUILDER.build(FORM["fp32", layout]), FORM["fp32", other])
            assert "inputs and outputs are" in message


@forms
def test_other_versions_are_refused(form: Form) -> None:
    def newer(model: onnx.ModelProto) -> None:
        model.ir_version = 9

    assert "IR 9, opset 17 instead of 8, 17" in refused(tampered(form, newer), form)

    def older(model: onnx.ModelProto) -> None:
        for entry in (*model.opset_import, *(entry for function in model.functions for entry in function.opset_import)):
            if entry.domain == "":
                entry.version = 16

    assert "IR 8, opset 16 instead of 8, 17" in refused(tampered(form, older), form)


@forms
def test_an_invalid_graph_is_refused(form: Form) -> None:
    def change(model: onnx.ModelProto) -> None:
        del model.graph.initializer[:]

    assert "onnx finds it invalid" in refused(tampered(form, change), form)


def less_the_mean(model: onnx.ModelProto) -> None:
    """Every window's logits depend on all windows of the run."""
    node = next(node for node in model.graph.node if "logits" in node.output)
    node.output[0] = "own"
    model.graph.node.append(helper.make_node("ReduceMean", ["own"], ["of_all"], axes=[0]))
    model.graph.node.append(helper.make_node("Sub", ["own", "of_all"], ["logits"]))


@pytest.mark.parametrize(
    "form", [f for f in FORMS if f.scheme is None or f.scheme.kind == WEIGHTS], ids=lambda f: f.file
)
def test_windows_that_influence_each_other_are_noticed(form: Form) -> None:
    message = refused(tampered(form, less_the_mean), form)
    assert "1 window(s) alone get another answer than in a larger batch" in message
    assert ("64 window(s) alone" in message) == (form.layout != "step"), "of which 64 are looked at"


def test_windows_that_influence_each_other_are_noticed_in_integers_too() -> None:
    form = Form("int8", "scan", SCHEMES[INTEGERS])
    assert "1 window(s) alone get another answer" in refused(tampered(form, less_the_mean), form)


def test_a_file_that_onnxruntime_cannot_run_is_refused() -> None:
    form = FORM["fp32", "unrolled"]
    for_one_window = tampered(form, add_to(T + 1, "rows"))  # [-1, D] becomes [T, D]
    assert "cannot run fp32-unrolled.onnx: " in refused(for_one_window, form)


@forms
def test_all_faults_are_named_at_once(form: Form) -> None:
    def change(model: onnx.ModelProto) -> None:
        through("Erf")(model)
        model.ir_version = 9

    message = refused(tampered(form, change), form)
    assert "IR 9" in message
    assert "Erf" in message


def test_logits_of_another_count_are_refused() -> None:
    form = FORM["fp32", "scan"]
    message = refused(BUILDER.build(form), form, Reference(X, REFERENCE.logits[:, :3]))
    assert f"logits of shape ({len(X)}, {C}) instead of ({len(X)}, 3)" in message


@layouts
def test_logits_off_by_a_little_are_refused(layout: str) -> None:
    """Not more than 1e-4 of their range, in fp32."""
    form, scale = FORM["fp32", layout], max(1.0, float(np.ptp(REFERENCE.logits)))
    model = BUILDER.build(form)
    verified(model, form, Reference(X, REFERENCE.logits + np.float32(0.5e-4 * scale)))
    message = refused(model, form, Reference(X, REFERENCE.logits + np.float32(2e-4 * scale)))
    assert "its logits differ from torch's by" in message


@layouts
def test_large_logits_may_differ_by_more(layout: str) -> None:
    """1e-4 is of their range: logits of a thousand have no more digits."""
    loud = copy.deepcopy(NET)
    with torch.no_grad():
        loud.head.weight.mul_(1e4)
    made, form = builder(loud), FORM["fp32", layout]
    found = verify(made.build(form), made.network, form, Reference(X, logits(loud, X)))
    assert found.max_logit_difference > 1e-4
    quiet = made.build(form)
    add_to(0.01 * float(np.abs(loud.head.weight.detach().numpy()).max()), "head")(quiet)
    with pytest.raises(ExportError, match="its logits differ from torch's by"):
        verify(quiet, made.network, form, Reference(X, logits(loud, X)))


def test_another_networks_file_is_refused() -> None:
    other = builder(classifier(nu=0.0, seed=3))
    for form in FORMS:
        message = refused(other.build(form), form)
        assert ("its logits differ" if form.scheme is None else "are not the network's, rounded") in message


def test_what_onnxs_own_implementation_computes_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A standard operator that onnxruntime misreads would be wrong on every other runtime."""
    form = FORM["fp32", "fused"]

    def other(model: onnx.ModelProto, feeds: Any) -> list[Any]:
        return [networks.run(model, feeds["x"]) + np.float32(0.01)]

    monkeypatch.setattr("fastzoo.export.reference.evaluate", other)
    message = refused(BUILDER.build(form), form)
    assert "onnx's reference evaluator answers otherwise, by 0.01; allowed are 0.0001" in message


@pytest.mark.parametrize("kind", [PRODUCTS, INTEGERS])
def test_a_scheme_that_the_file_does_not_have_is_refused(kind: str) -> None:
    """A file of int8 weights alone says it has 8-bit activations."""
    model = BUILDER.build(Form("int8", "scan", Scheme(WEIGHTS)))
    with pytest.raises(ExportError, match="failed verification"):
        verified(model, Form("int8", "scan", Scheme(kind)))


def test_the_weights_of_another_network_are_refused() -> None:
    net = classifier(nu=0.0, zeta=0.5)
    made, form = builder(net), Form("int8", "scan", Scheme(per_channel=True))
    reference = Reference(X, logits(net, X))
    verify(made.build(form), made.network, form, reference)
    turned = replace(made.network, head_weight=np.ascontiguousarray(made.network.head_weight[::-1]))
    with pytest.raises(ExportError, match="the int8 weights of head are not the network's, rounded"):
        verify(made.build(form), turned, form, reference)
