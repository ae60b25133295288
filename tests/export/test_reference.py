"""The operators that fastzoo adds to onnx's reference evaluator, against torch and onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from fastzoo.export import reference
from fastzoo.export.graph import IR_VERSION, OPSET

from . import networks

T, N, D, H = 6, 3, 4, 5
GATES = {"GRU": 3, "LSTM": 4}
# Names, and the parameters of those that have some, in order.
ACTIVATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "GRU": {
        "usual": {},
        "by name": {"activations": ["Sigmoid", "Tanh"]},
        "hard gate": {"activations": ["HardSigmoid", "Tanh"], "activation_alpha": [0.25], "activation_beta": [0.5]},
        "hard": {
            "activations": ["HardSigmoid", "HardSigmoid"],
            "activation_alpha": [0.25, 0.5],
            "activation_beta": [0.5, 0.4],
        },
        "relu": {"activations": ["Sigmoid", "Relu"]},
        "affine": {"activations": ["Sigmoid", "Affine"], "activation_alpha": [0.5], "activation_beta": [0.1]},
    },
    "LSTM": {
        "usual": {},
        "relu": {"activations": ["Sigmoid", "Relu", "Tanh"]},
        "hard and affine": {
            "activations": ["HardSigmoid", "Tanh", "Affine"],
            "activation_alpha": [0.25, 0.9],
            "activation_beta": [0.5, 0.05],
        },
        "sigmoid and affine": {
            "activations": ["Sigmoid", "HardSigmoid", "Affine"],
            "activation_alpha": [0.5, 1.0],
            "activation_beta": [0.5, 0.0],
        },
    },
}
CASES = [(operator, name) for operator, names in ACTIVATIONS.items() for name in names]


def arrays(operator: str, ways: int, seed: int = 0) -> dict[str, Any]:
    rng, gates = np.random.default_rng(seed), GATES[operator]
    shapes = {
        "x": (T, N, D),
        "w": (ways, gates * H, D),
        "r": (ways, gates * H, H),
        "b": (ways, 2 * gates * H),
        "h": (ways, N, H),
        "c": (ways, N, H),
    }
    return {name: (rng.normal(size=shape) * 0.7).astype(np.float32) for name, shape in shapes.items()}


def model_of(operator: str, values: dict[str, Any], initial: bool, **attributes: Any) -> onnx.ModelProto:
    """The operator alone."""
    parts = ["h", "c"] if operator == "LSTM" else ["h"]
    inputs = ["x", "w", "r", "b", *(["", *parts] if initial else [])]
    outputs = ["y", *(f"{part}_last" for part in parts)]
    node = helper.make_node(operator, inputs, outputs, hidden_size=H, **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(values["x"].shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(values[name], name) for name in values if name in inputs and name != "x"],
    )
    return helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])


def attributes_of(operator: str, name: str, ways: int, before: int | None = None) -> dict[str, Any]:
    """The activations are listed once more for the other direction."""
    made = {key: value * ways for key, value in ACTIVATIONS[operator][name].items()}
    if ways == 2:
        made["direction"] = "bidirectional"
    if operator == "GRU" and before is not None:
        made["linear_before_reset"] = before
    return made


@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("ways", [1, 2])
@pytest.mark.parametrize(("operator", "name"), CASES)
def test_onnxruntime_computes_the_same(operator: str, name: str, ways: int, before: int, initial: bool) -> None:
    values = arrays(operator, ways)
    model = model_of(operator, values, initial, **attributes_of(operator, name, ways, before))
    expected = networks.session(model).run(None, {"x": values["x"]})
    found = reference.evaluate(model, {"x": values["x"]})
    assert len(found) == len(expected) == (3 if operator == "LSTM" else 2)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float32
        assert networks.error(one, other) < 1e-6


def of_torch(matrix: Any, operator: str) -> Any:
    """Torch's gates in ONNX's order."""
    order = {"GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2)}[operator]
    parts = np.split(matrix.detach().numpy(), len(order))
    return np.concatenate([parts[i] for i in order])


@pytest.mark.parametrize("ways", [1, 2])
@pytest.mark.parametrize("operator", ["GRU", "LSTM"])
def test_torch_computes_the_same(operator: str, ways: int) -> None:
    torch.manual_seed(0)
    module = {"GRU": torch.nn.GRU, "LSTM": torch.nn.LSTM}[operator](D, H, bidirectional=ways == 2)
    state = module.state_dict()
    names = ["l0", "l0_reverse"][:ways]
    values = arrays(operator, ways) | {
        "w": np.stack([of_torch(state[f"weight_ih_{n}"], operator) for n in names]),
        "r": np.stack([of_torch(state[f"weight_hh_{n}"], operator) for n in names]),
        "b": np.stack([np.concatenate([of_torch(state[f"bias_{k}h_{n}"], operator) for k in "ih"]) for n in names]),
    }
    start = torch.from_numpy(values["h"]), torch.from_numpy(values["c"])
    with torch.no_grad():
        states, last = module(torch.from_numpy(values["x"]), start if operator == "LSTM" else start[0])
    expected = [states.numpy().reshape(T, N, ways, H).transpose(0, 2, 1, 3)]
    expected += [part.numpy() for part in (last if operator == "LSTM" else (last,))]
    model = model_of(operator, values, True, **attributes_of(operator, "usual", ways, 1))
    for one, other in zip(reference.evaluate(model, {"x": values["x"]}), expected, strict=True):
        assert networks.error(one, other) < 1e-6


@pytest.mark.parametrize("operator", ["GRU", "LSTM"])
def test_backwards_alone_is_the_second_direction(operator: str) -> None:
    values = arrays(operator, 2)
    both = reference.evaluate(model_of(operator, values, True, direction="bidirectional"), {"x": values["x"]})
    second = {name: value[1:] if name != "x" else value for name, value in values.items()}
    alone = reference.evaluate(model_of(operator, second, True, direction="reverse"), {"x": values["x"]})
    assert np.array_equal(alone[0], both[0][:, 1:])
    assert np.array_equal(alone[1], both[1][1:])


def test_onnxs_own_gru_agrees_where_it_knows_the_activations() -> None:
    values = arrays("GRU", 1)
    for before in (0, 1):
        model = model_of("GRU", values, False, linear_before_reset=before)
        expected: Any = ReferenceEvaluator(model).run(None, {"x": values["x"]})
        found = reference.evaluate(model, {"x": values["x"]})
        assert networks.error(found[1], np.asarray(expected[1]).reshape(found[1].shape)) < 1e-6


def through_bytes(kind: type, axis: int | None, scale: Any, zero: Any, shape: tuple[int, ...]) -> onnx.ModelProto:
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    constants = {"scale": np.asarray(scale, np.float32), "zero": np.asarray(zero, kind)}
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], **attributes),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], **attributes),
        ],
        "bytes",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [
            helper.make_tensor_value_info("q", helper.np_dtype_to_tensor_dtype(np.dtype(kind)), None),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_bytes_are_those_of_onnxruntime(kind: type, axis: int | None) -> None:
    x = (np.random.default_rng(0).normal(size=(4, 3)) * 3).astype(np.float32)
    x[0, :] = [0.005, -0.015, 0.025]  # half-way between two levels
    x[1, :] = [1e9, -1e9, 0.0]
    middle = 128 if kind is np.uint8 else 0
    size = 0 if axis is None else x.shape[axis]
    scale = 0.01 if axis is None else np.linspace(0.01, 0.05, size)
    zero = middle if axis is None else np.full(size, middle)
    model = through_bytes(kind, axis, scale, zero, x.shape)
    expected = networks.session(model, optimised=False).run(None, {"x": x})
    found = reference.evaluate(model, {"x": x})
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)
    assert {int(found[0].min()), int(found[0].max())} == {np.iinfo(kind).min, np.iinfo(kind).max}


def test_local_functions_are_evaluated() -> None:
    made = networks.builder(networks.classifier())
    called = made.build(networks.FORM["fp32", "unrolled"])
    made.inline = True
    x = networks.windows(2)
    assert called.functions
    one, other = (
        reference.evaluate(model, {"x": x})[0] for model in (called, made.build(networks.FORM["fp32", "unrolled"]))
    )
    assert np.array_equal(one, other)
