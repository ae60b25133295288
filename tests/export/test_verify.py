"""A file that is not what it says is refused, and the fault is named."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from fastzoo.errors import ExportError
from fastzoo.export.layouts import FORMS, Form
from fastzoo.export.verify import Reference, Verification, verify

from . import networks
from .networks import FORM, C, T, builder, classifier, logits, windows

NET = classifier(nu=0.0)
X = windows(40)
REFERENCE = Reference(X, logits(NET, X))
BUILDER = builder(NET)
forms = pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.precision}-{form.layout}")


def verified(model: onnx.ModelProto, form: Form, reference: Reference = REFERENCE) -> Verification:
    return verify(model, networks.network(NET), form.precision, form.session, reference)


def refused(model: onnx.ModelProto, form: Form, reference: Reference = REFERENCE) -> str:
    with pytest.raises(ExportError, match=f"the {form.precision} file '{form.layout}' failed verification: ") as caught:
        verified(model, form, reference)
    return str(caught.value)


def tampered(form: Form, change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    model = BUILDER.build(form)
    change(model)
    return model


@forms
def test_a_good_file_passes(form: Form) -> None:
    found = verified(BUILDER.build(form), form)
    assert found.windows == len(X)
    assert found.same_class > 0.9
    weights = sum(matrix.size for matrix in networks.network(NET).matrices().values())
    if form.precision == "fp32":
        assert (found.same_class, found.int8_weights) == (1, 0)
        assert found.max_logit_difference < 1e-5
    else:
        assert found.int8_weights == weights
        assert 1e-5 < found.max_logit_difference < 0.1


def add_to_weight(amount: float, name: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
        array = numpy_helper.to_array(tensor).copy()
        array.flat[0] += array.dtype.type(amount)
        tensor.CopyFrom(numpy_helper.from_array(array, name))

    return change


@pytest.mark.parametrize("layout", ["fused", "unrolled"])
@pytest.mark.parametrize("name", ["W1", "W2", "U1", "U2", "head", "head_bias", "mean"])
def test_a_wrong_weight_is_refused(layout: str, name: str) -> None:
    form = FORM["fp32", layout]
    message = refused(tampered(form, add_to_weight(0.1, name)), form)
    assert re.search(r"its logits differ from torch's by 0\.\d+, allowed are 0\.0001", message)


@pytest.mark.parametrize("layout", ["fused", "unrolled"])
@pytest.mark.parametrize("name", ["W1", "U2", "head"])
def test_a_wrong_integer_is_refused(layout: str, name: str) -> None:
    form = FORM["int8", layout]
    message = refused(tampered(form, add_to_weight(1, f"{name}_quantized")), form)
    assert f"the int8 weights of {name} are not the network's, rounded" in message
    message = refused(tampered(form, add_to_weight(0.01, f"{name}_scale")), form)
    assert f"the int8 weights of {name} are not the network's, rounded" in message


@forms
def test_a_weight_that_is_no_number_is_refused(form: Form) -> None:
    assert "it answers NaN or infinity" in refused(tampered(form, add_to_weight(np.nan, "head_bias")), form)


def through(op_type: str, domain: str = "") -> Callable[[onnx.ModelProto], None]:
    """The logits make a detour through one more operator."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.node[-1].output[0] = "detour"
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


def test_a_foreign_operator_inside_a_function_is_named() -> None:
    def change(model: onnx.ModelProto) -> None:
        (node,) = (node for node in model.functions[0].node if node.op_type == "Tanh")
        node.op_type = "Sin"

    form = FORM["fp32", "unrolled"]
    assert "operators outside the allowed list: Sin" in refused(tampered(form, change), form)


@pytest.mark.parametrize("layout", ["fused", "unrolled"])
def test_fp32_is_not_passed_off_as_int8(layout: str) -> None:
    weights = sum(matrix.size for matrix in networks.network(NET).matrices().values())
    message = refused(BUILDER.build(FORM["fp32", layout]), FORM["int8", layout])
    assert f"0 weights are stored in int8, expected are {weights}" in message
    message = refused(BUILDER.build(FORM["int8", layout]), FORM["fp32", layout])
    assert f"{weights} weights are stored in int8, expected are 0" in message


def test_a_matrix_left_in_fp32_is_found() -> None:
    form = FORM["int8", "fused"]

    def change(model: onnx.ModelProto) -> None:
        (node,) = (n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == "head_quantized")
        fp32 = networks.network(NET).unit_zeta().head_weight.T
        for tensor in list(model.graph.initializer):
            if tensor.name in node.input:
                model.graph.initializer.remove(tensor)
        model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(fp32), node.output[0]))
        model.graph.node.remove(node)

    assert "weights are stored in int8, expected are" in refused(tampered(form, change), form)


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

    assert f"instead of {{'x': ['N', {T}, " in refused(tampered(form, change), form)


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


@forms
def test_windows_that_influence_each_other_are_noticed(form: Form) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[-1].output[0] = "own"
        model.graph.node.append(helper.make_node("ReduceMean", ["own"], ["of_all"], axes=[0]))
        model.graph.node.append(helper.make_node("Sub", ["own", "of_all"], ["logits"]))

    message = refused(tampered(form, change), form)
    assert "one window alone gets another answer than the same window in a batch" in message


def test_a_file_that_onnxruntime_cannot_run_is_refused() -> None:
    form = FORM["fp32", "unrolled"]
    for_one_window = tampered(form, add_to_weight(T + 1, "rows"))  # [-1, D] becomes [T, D]
    assert "onnxruntime cannot run unrolled.onnx: " in refused(for_one_window, form)


@forms
def test_all_faults_are_named_at_once(form: Form) -> None:
    def change(model: onnx.ModelProto) -> None:
        through("Erf")(model)
        model.ir_version = 9

    message = refused(tampered(form, change), form)
    assert "IR 9" in message
    assert "Erf" in message


def test_logits_too_large_for_fp32_to_agree_are_refused() -> None:
    loud = copy.deepcopy(NET)
    with torch.no_grad():
        loud.head.weight.mul_(1e5)
    model = builder(loud).build(FORM["fp32", "fused"])
    reference = Reference(X, logits(loud, X))
    assert np.abs(networks.run(model, X) - reference.logits).max() > 1e-4
    with pytest.raises(ExportError, match=r"its logits differ from torch's by .*, allowed are 0\.0001"):
        verify(model, networks.network(loud), "fp32", {}, reference)
